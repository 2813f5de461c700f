//! Exchanges and bindings, and where messages go.

use expect_test::expect;

use super::check;

#[test]
fn a_direct_exchange_compares_whole_keys() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        mailbox n
            c: mailbox n: ready 0 consumers 0
        exchange e
            c: done
        bind e key=a mailbox=m
            c: done
        bind e key=a mailbox=n
            c: done
        bind e key=b mailbox=n
            c: done
        bind e key=b mailbox=n
            c: done
        bindings
            c: bindings [e Direct `a` -> mailbox m; e Direct `a` -> mailbox n; e Direct `b` -> mailbox n]
        publish one exchange=e key=a
            c: count 2
        publish two exchange=e key=b
            c: count 1
        publish three exchange=e key=a.b
            c: count 0
        unbind e key=b mailbox=n
            c: done
        unbind e key=b mailbox=n
            c: done
        publish four exchange=e key=b
            c: count 0
        mailboxes
            c: mailboxes [m: ready 1 unacknowledged 0 consumers 0 dropped 0; n: ready 2 unacknowledged 0 consumers 0 dropped 0]
    "#]]);
}

#[test]
fn a_topic_exchange_compares_words_with_stars_and_hashes() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        mailbox n
            c: mailbox n: ready 0 consumers 0
        mailbox o
            c: mailbox o: ready 0 consumers 0
        exchange e type=topic
            c: done
        bind e key=task.* mailbox=m
            c: done
        bind e key=# mailbox=n
            c: done
        bind e key=#.failed mailbox=o
            c: done
        publish one exchange=e key=task.received
            c: count 2
        publish two exchange=e key=task.failed
            c: count 3
        publish three exchange=e key=worker
            c: count 1
        publish four exchange=e key=task.a.failed
            c: count 2
        mailboxes
            c: mailboxes [m: ready 2 unacknowledged 0 consumers 0 dropped 0; n: ready 4 unacknowledged 0 consumers 0 dropped 0; o: ready 2 unacknowledged 0 consumers 0 dropped 0]
    "#]]);
}

#[test]
fn a_fanout_exchange_reaches_every_mailbox_once() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        mailbox n
            c: mailbox n: ready 0 consumers 0
        exchange e type=fanout
            c: done
        bind e key=a mailbox=m
            c: done
        bind e key=b mailbox=m
            c: done
        bind e mailbox=n
            c: done
        publish one exchange=e key=whatever
            c: count 2
        mailboxes
            c: mailboxes [m: ready 1 unacknowledged 0 consumers 0 dropped 0; n: ready 1 unacknowledged 0 consumers 0 dropped 0]
    "#]]);
}

#[test]
fn an_exchange_is_declared_again_and_another_type_is_an_error() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        exchange e type=topic
            c: done
        exchange e type=topic
            c: done
        exchange e type=fanout
            c: refused InvalidArgument: the exchange `e` has another type or other options
        exchange e type=topic auto_delete
            c: refused InvalidArgument: the exchange `e` has another type or other options
        find_exchange e
            c: done
        find_exchange f
            c: refused NotFound: there is no exchange `f`
        bind f mailbox=m
            c: refused NotFound: there is no exchange `f`
        bind e mailbox=m
            c: refused NotFound: there is no mailbox `m`
    "#]]);
}

#[test]
fn exchanges_and_bindings_to_queues_survive_a_restart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        exchange e type=topic
            c: done
        exchange f type=direct
            c: done
        exchange g type=direct
            c: done
        exchange h type=fanout auto_delete
            c: done
        bind e key=songs.# queue=songs
            c: done
        bind f key=a queue=default
            c: done
        bind f key=b queue=songs
            c: done
        bind g queue=songs
            c: done
        bind h queue=songs
            c: done
        unbind f key=b queue=songs
            c: done
        drop_exchange g
            c: done
        restart
        connect c
            c: welcome new leases []
        bindings
            c: bindings [e Topic `songs.#` -> queue songs; f Direct `a` -> queue default; h Fanout `` -> queue songs]
        unbind h queue=songs
            c: done
        restart
        connect c
            c: welcome new leases []
        bindings
            c: bindings [e Topic `songs.#` -> queue songs; f Direct `a` -> queue default]
        publish one exchange=e key=songs.new
            c: refused InvalidArgument: the message leads to the queue of tasks `songs`: submit a task instead
    "#]]);
}

#[test]
fn an_exchange_is_deleted_with_its_bindings_unless_it_must_be_unused() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        exchange e
            c: done
        bind e key=a mailbox=m
            c: done
        bind e key=b queue=songs
            c: done
        drop_exchange e if_unused
            c: refused NotFinished: the exchange `e` has bindings
        drop_exchange e
            c: done
        drop_exchange e
            c: done
        bindings
            c: bindings []
        exchange e type=fanout
            c: done
        drop_exchange e if_unused
            c: done
        restart
        connect c
            c: welcome new leases []
        bindings
            c: bindings []
    "#]]);
}

#[test]
fn an_auto_delete_exchange_ends_with_its_last_binding_but_not_before_the_first() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        exchange e auto_delete
            c: done
        bindings
            c: bindings [e Direct]
        bind e key=a mailbox=m
            c: done
        bind e key=b mailbox=m
            c: done
        unbind e key=a mailbox=m
            c: done
        bindings
            c: bindings [e Direct `b` -> mailbox m]
        drop_mailbox m
            c: count 0
        bindings
            c: bindings []
    "#]]);
}

#[test]
fn a_message_that_leads_to_a_queue_of_tasks_is_refused() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a queue=songs
            c: Created { state: Queued }
        publish one key=songs
            c: refused InvalidArgument: the message leads to the queue of tasks `songs`: submit a task instead
        publish one key=default
            c: refused InvalidArgument: the message leads to the queue of tasks `default`: submit a task instead
        mailbox m
            c: mailbox m: ready 0 consumers 0
        exchange e type=fanout
            c: done
        bind e mailbox=m
            c: done
        bind e queue=songs
            c: done
        publish two exchange=e
            c: refused InvalidArgument: the message leads to the queue of tasks `songs`: submit a task instead
        mailboxes
            c: mailboxes [m: ready 0 unacknowledged 0 consumers 0 dropped 0]
        delete songs
            c: count 1
        bindings
            c: bindings [e Fanout `` -> mailbox m]
        publish three exchange=e
            c: count 1
        publish four key=songs
            c: count 0
    "#]]);
}
