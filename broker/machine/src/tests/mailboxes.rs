//! How mailboxes come and go, and who may use them.

use expect_test::expect;

use super::check;

#[test]
fn a_mailbox_holds_what_comes_before_somebody_consumes() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        publish one key=m
            c: count 1
        publish two key=m
            c: count 1
        mailbox m
            c: mailbox m: ready 2 consumers 0
        connect d
            d: welcome new leases []
        consume m by=d
            d: consumer 1
            d: mail for 1: one #1, two #2
        publish three key=m
            c: count 1
            d: mail for 1: three #3
        ack 1 2 3 by=d
            d: done
        mailboxes
            c: mailboxes [m: ready 0 unacknowledged 0 consumers 1 dropped 0]
    "#]]);
}

#[test]
fn an_exclusive_mailbox_belongs_to_its_connection_and_ends_with_it() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        mailbox m exclusive
            c: mailbox m: ready 0 consumers 0
        exchange e type=fanout
            c: done
        bind e mailbox=m
            c: done
        mailbox m exclusive by=d
            d: audit: Mailbox("m")
            d: refused Forbidden: the mailbox `m` is exclusive to another connection
        find_mailbox m by=d
            d: audit: Mailbox("m")
            d: refused Forbidden: the mailbox `m` is exclusive to another connection
        consume m by=d
            d: audit: Mailbox("m")
            d: refused Forbidden: the mailbox `m` is exclusive to another connection
        fetch m by=d
            d: audit: Mailbox("m")
            d: refused Forbidden: the mailbox `m` is exclusive to another connection
        empty_mailbox m by=d
            d: audit: Mailbox("m")
            d: refused Forbidden: the mailbox `m` is exclusive to another connection
        drop_mailbox m by=d
            d: audit: Mailbox("m")
            d: refused Forbidden: the mailbox `m` is exclusive to another connection
        bind e key=x mailbox=m by=d
            d: audit: Mailbox("m")
            d: refused Forbidden: the mailbox `m` is exclusive to another connection
        unbind e mailbox=m by=d
            d: audit: Mailbox("m")
            d: refused Forbidden: the mailbox `m` is exclusive to another connection
        publish reply key=m by=d
            d: count 1
        fetch m
            c: fetched reply #1, ready 0
        lose c
            c: closed
        mailboxes by=d
            d: mailboxes []
        bindings by=d
            d: bindings [e Fanout]
        publish reply key=m by=d
            d: count 0
    "#]]);
}

#[test]
fn an_auto_delete_mailbox_ends_with_its_last_consumer_but_not_before_the_first() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        mailbox m auto_delete
            c: mailbox m: ready 0 consumers 0
        publish one key=m
            c: count 1
        mailboxes
            c: mailboxes [m: ready 1 unacknowledged 0 consumers 0 dropped 0]
        consume m
            c: consumer 1
            c: mail for 1: one #1
        consume m by=d
            d: consumer 2
        unconsume 1
            c: done
            d: mail for 2: one #1 again
        mailboxes
            c: mailboxes [m: ready 0 unacknowledged 1 consumers 1 dropped 0]
        lose d
            d: closed
        mailboxes
            c: mailboxes []
        mailbox m auto_delete
            c: mailbox m: ready 0 consumers 0
        consume m
            c: consumer 3
        unconsume 3
            c: done
        find_mailbox m
            c: refused NotFound: there is no mailbox `m`
    "#]]);
}

#[test]
fn an_idle_mailbox_ends_when_nobody_has_used_it_for_its_time() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m idle=10s
            c: mailbox m: ready 0 consumers 0
        after 9s
        publish one key=m
            c: count 1
        fetch m
            c: fetched one #1, ready 0
        after 9s
        find_mailbox m
            c: mailbox m: ready 0 consumers 0
        after 9s
        mailbox m idle=10s
            c: mailbox m: ready 0 consumers 0
        after 9s
        consume m
            c: consumer 1
        after 60s
        mailboxes
            c: mailboxes [m: ready 0 unacknowledged 1 consumers 1 dropped 0]
        unconsume 1
            c: done
        after 9s
        mailboxes
            c: mailboxes [m: ready 0 unacknowledged 1 consumers 0 dropped 0]
        publish two key=m
            c: count 1
        after 1s
        mailboxes
            c: mailboxes []
    "#]]);
}

#[test]
fn a_mailbox_is_deleted_with_its_bindings_and_its_consumers_are_told() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        exchange e type=topic
            c: done
        bind e key=a.* mailbox=m
            c: done
        consume m by=d
            d: consumer 1
        drop_mailbox m if_unused
            c: refused NotFinished: the mailbox `m` has consumers
        publish one key=m
            c: count 1
            d: mail for 1: one #1
        ack 1 by=d
            d: done
        unconsume 1 by=d
            d: done
        publish two key=m
            c: count 1
        drop_mailbox m if_empty
            c: refused NotFinished: the mailbox `m` is not empty
        consume m by=d
            d: consumer 2
            d: mail for 2: two #2
        drop_mailbox m
            d: consumer 2 of m has ended
            c: count 0
        bindings
            c: bindings [e Topic]
        drop_mailbox m
            c: refused NotFound: there is no mailbox `m`
        ack 2 by=d
            d: done
        put_back 2 by=d
            d: count 0
    "#]]);
}

#[test]
fn a_declare_of_a_mailbox_that_exists_finds_it_and_other_options_are_an_error() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m ttl=5s
            c: mailbox m: ready 0 consumers 0
        publish one key=m
            c: count 1
        mailbox m ttl=5s
            c: mailbox m: ready 1 consumers 0
        mailbox m ttl=6s
            c: refused InvalidArgument: the mailbox `m` has other options
        mailbox m
            c: refused InvalidArgument: the mailbox `m` has other options
        find_mailbox n
            c: refused NotFound: there is no mailbox `n`
        submit a queue=songs
            c: Created { state: Queued }
        mailbox songs
            c: refused InvalidArgument: `songs` is a queue of tasks: a mailbox needs another name
    "#]]);
}

#[test]
fn a_mailbox_does_not_survive_a_restart_and_leaves_no_binding() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        exchange e type=fanout
            c: done
        exchange f type=fanout auto_delete
            c: done
        bind e mailbox=m
            c: done
        bind f mailbox=m
            c: done
        consume m
            c: consumer 1
        publish one exchange=e
            c: count 1
            c: mail for 1: one #1
        restart
        connect c
            c: welcome new leases []
        mailboxes
            c: mailboxes []
        bindings
            c: bindings [e Fanout]
        mailbox m
            c: mailbox m: ready 0 consumers 0
        bind e mailbox=m
            c: done
        publish two exchange=e
            c: count 1
        fetch m
            c: fetched two #1, ready 0
    "#]]);
}

#[test]
fn a_worker_that_takes_its_session_over_loses_the_mailboxes_of_the_old_connection() {
    check(expect![[r#"
        connect w runs=job
            w: welcome new leases []
        mailbox m exclusive by=w
            w: mailbox m: ready 0 consumers 0
        consume m by=w
            w: consumer 1
        connect w runs=job resume
            w: closing SessionLost: another connection took the session over
            w: closed
            w: welcome back leases []
            w: order Resume
        mailboxes by=w
            w: mailboxes []
        mailbox m exclusive by=w
            w: mailbox m: ready 0 consumers 0
    "#]]);
}
