//! The messages of mailboxes: who gets which, in which order, and what is dropped.

use expect_test::expect;

use super::check;
use super::script::Scene;

#[test]
fn consumers_of_a_mailbox_take_turns() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        consume m
            c: consumer 1
        consume m by=d
            d: consumer 2
        consume m by=d
            d: consumer 3
        publish one key=m
            c: count 1
            c: mail for 1: one #1
        publish two key=m
            c: count 1
            d: mail for 2: two #2
        publish three key=m
            c: count 1
            d: mail for 3: three #3
        publish four key=m
            c: count 1
            c: mail for 1: four #4
    "#]]);
}

#[test]
fn the_oldest_messages_are_dropped_and_the_reader_is_told_how_many() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m messages=2
            c: mailbox m: ready 0 consumers 0
        publish one key=m
            c: count 1
        publish two key=m
            c: count 1
        publish three key=m
            c: count 1
        publish four key=m
            c: count 1
        mailboxes
            c: mailboxes [m: ready 2 unacknowledged 0 consumers 0 dropped 2]
        fetch m
            c: fetched three #3, ready 1, 2 dropped
        fetch m
            c: fetched four #4, ready 0
        publish five key=m
            c: count 1
        fetch m
            c: fetched five #5, ready 0
    "#]]);
}

#[test]
fn a_mailbox_is_bounded_in_bytes_too_and_drops_what_never_fits() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m bytes=1000
            c: mailbox m: ready 0 consumers 0
        publish one key=m bytes=100
            c: count 1
        publish two key=m bytes=100
            c: count 1
        publish three key=m bytes=100
            c: count 1
        mailboxes
            c: mailboxes [m: ready 2 unacknowledged 0 consumers 0 dropped 1]
        publish four key=m bytes=1000
            c: count 0
        mailboxes
            c: mailboxes [m: ready 2 unacknowledged 0 consumers 0 dropped 2]
        fetch m
            c: fetched two #2, ready 1, 2 dropped
    "#]]);
}

#[test]
fn messages_are_dropped_by_their_age() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m ttl=5s
            c: mailbox m: ready 0 consumers 0
        publish one key=m
            c: count 1
        after 3s
        publish two key=m
            c: count 1
        mailboxes
            c: mailboxes [m: ready 2 unacknowledged 0 consumers 0 dropped 0]
        after 2s
        fetch m
            c: fetched two #2, ready 0
        put_back 2
            c: count 1
        after 3s
        fetch m
            c: fetched nothing, ready 0
        mailboxes
            c: mailboxes [m: ready 0 unacknowledged 0 consumers 0 dropped 0]
        publish three key=m
            c: count 1
        after 7s
        mailboxes
            c: mailboxes [m: ready 0 unacknowledged 0 consumers 0 dropped 0]
    "#]]);
}

#[test]
fn a_message_that_is_put_back_stands_in_front_of_those_that_came_after_it() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        publish one key=m
            c: count 1
        publish two key=m
            c: count 1
        publish three key=m
            c: count 1
        publish four key=m
            c: count 1
        fetch m
            c: fetched one #1, ready 3
        fetch m
            c: fetched two #2, ready 2
        fetch m
            c: fetched three #3, ready 1
        ack 2
            c: done
        put_back 3 1 2
            c: count 2
        fetch m
            c: fetched one #1 again, ready 2
        fetch m by=d
            d: fetched three #3 again, ready 1
        put_back 3
            c: count 0
        fetch m by=d
            d: fetched four #4, ready 0
        fetch m by=d
            d: fetched nothing, ready 0
        fetch m by=d
            d: fetched nothing, ready 0
        mailboxes
            c: mailboxes [m: ready 0 unacknowledged 3 consumers 0 dropped 0]
    "#]]);
}

#[test]
fn what_a_consumer_has_not_acknowledged_goes_back_when_it_ends() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        consume m by=d
            d: consumer 1
        publish one key=m
            c: count 1
            d: mail for 1: one #1
        publish two key=m
            c: count 1
            d: mail for 1: two #2
        ack 1 by=d
            d: done
        unconsume 1 by=d
            d: done
        fetch m
            c: fetched two #2 again, ready 0
        put_back 2
            c: count 1
        consume m by=d
            d: consumer 2
            d: mail for 2: two #2 again
        lose d
            d: closed
        fetch m
            c: fetched two #2 again, ready 0
    "#]]);
}

#[test]
fn a_fetch_says_what_waits_and_that_nothing_does() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        fetch m
            c: fetched nothing, ready 0
        publish one key=m
            c: count 1
        publish two key=m
            c: count 1
        fetch m
            c: fetched one #1, ready 1
        empty_mailbox m
            c: count 1
        fetch m
            c: fetched nothing, ready 0
        fetch n
            c: refused NotFound: there is no mailbox `n`
    "#]]);
}

#[test]
fn a_publish_says_how_many_mailboxes_have_it_and_may_go_unanswered() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        mailbox m
            c: mailbox m: ready 0 consumers 0
        publish one key=m unanswered
        publish two key=n unanswered
        publish three key=n
            c: count 0
        publish four key=n mandatory
            c: refused NotFound: the message leads to no mailbox
        publish five key=m exchange=nowhere
            c: refused NotFound: there is no exchange `nowhere`
        publish six key=m exchange=nowhere unanswered
        publish seven key=m mandatory
            c: count 1
        fetch m
            c: fetched one #1, ready 1
        ack 1 unanswered
        mailboxes
            c: mailboxes [m: ready 1 unacknowledged 0 consumers 0 dropped 0]
    "#]]);
}

/// The words after `name` in the listing of all mailboxes.
fn listed(scene: &mut Scene, name: &str) -> String {
    let said = scene.line("mailboxes").join("");
    let from = said.find(&format!("{name}: ready")).expect("the mailbox is listed");
    said[from..].split([';', ']']).next().expect("a split has a first part").to_owned()
}

/// The number of messages that these lines push.
fn pushed(said: &[String]) -> usize {
    said.iter().filter(|line| line.contains("mail for")).map(|line| line.matches('#').count()).sum()
}

#[test]
fn a_reader_that_does_not_acknowledge_gets_no_more_and_its_mailbox_drops_the_oldest() {
    let mut scene = Scene::new();
    for line in ["connect c", "connect d", "mailbox m messages=10", "consume m by=d"] {
        scene.line(line);
    }
    let mut got = 0;
    for _ in 0..1_015 {
        got += pushed(&scene.line("publish one key=m"));
    }
    assert_eq!(got, 1_000);
    assert_eq!(listed(&mut scene, "m"), "m: ready 10 unacknowledged 1000 consumers 1 dropped 5");
    scene.line("mailbox n by=d");
    assert!(scene.line("fetch n by=d")[0].contains("refused Overloaded"));
    // The room of one message is used at once, and the reader is told what it lost.
    assert_eq!(scene.line("ack 1 by=d"), ["d: done", "d: mail for 1: one #1006, 5 dropped"]);
    assert_eq!(scene.line("ack 2 3 by=d").len(), 2);
    assert_eq!(listed(&mut scene, "m"), "m: ready 7 unacknowledged 1000 consumers 1 dropped 5");
    // Messages that are lost with a connection go back, as far as they find room.
    scene.line("lose d");
    assert_eq!(listed(&mut scene, "m"), "m: ready 10 unacknowledged 0 consumers 0 dropped 1002");
    assert!(scene.line("fetch m")[0].contains("ready 9"));
}

#[test]
fn a_reader_has_about_a_megabyte_at_once_and_a_long_message_comes_alone() {
    let mut scene = Scene::new();
    for line in ["connect c", "mailbox m"] {
        scene.line(line);
    }
    for _ in 0..10 {
        scene.line("publish one key=m bytes=200000");
    }
    scene.line("publish two key=m bytes=9000000");
    let said = scene.line("consume m");
    assert_eq!(pushed(&said), 6, "the sixth message passes the bound");
    assert_eq!(said.len(), 1 + 6, "two of these messages have no room in one push");
    assert_eq!(pushed(&scene.line("ack 1 2 3 4 5 6")), 5);
    assert_eq!(listed(&mut scene, "m"), "m: ready 0 unacknowledged 5 consumers 1 dropped 0");
}

#[test]
fn what_all_readers_have_not_acknowledged_is_bounded_and_who_has_the_most_loses_it() {
    let mut scene = Scene::new();
    // Of all messages at once, some would find no room in the mailboxes.
    for line in ["connect c", "exchange e0 type=fanout", "exchange e1 type=fanout"] {
        scene.line(line);
    }
    for number in 0..34 {
        scene.line(&format!("connect r{number}"));
        scene.line(&format!("mailbox m{number}"));
        scene.line(&format!("bind e{} mailbox=m{number}", number % 2));
        scene.line(&format!("consume m{number} by=r{number}"));
    }
    scene.line("publish small key=m0");
    // The readers share the body, and each counts it.
    assert_eq!(pushed(&scene.line("publish big exchange=e0 bytes=8000000")), 17);
    assert_eq!(pushed(&scene.line("publish big exchange=e1 bytes=8000000")), 17);
    for number in 0..34 {
        scene.line(&format!("lose r{number}"));
    }
    // The first reader had the most and lost its oldest message. That was not enough.
    assert_eq!(listed(&mut scene, "m0"), "m0: ready 1 unacknowledged 0 consumers 0 dropped 1");
    assert_eq!(listed(&mut scene, "m33"), "m33: ready 0 unacknowledged 0 consumers 0 dropped 1");
    for number in 1..33 {
        let line = listed(&mut scene, &format!("m{number}"));
        assert!(line.contains("ready 1 ") && line.ends_with("dropped 0"), "{line}");
    }
}

#[test]
fn all_mailboxes_together_are_bounded_and_the_fullest_drops_the_oldest() {
    let mut scene = Scene::new();
    for line in ["connect c", "exchange e type=fanout", "mailbox small"] {
        scene.line(line);
    }
    scene.line("publish one key=small");
    // The mailboxes share the bodies, and each counts them.
    for number in 0..17 {
        scene.line(&format!("mailbox m{number}"));
        scene.line(&format!("bind e mailbox=m{number}"));
    }
    scene.line("publish one exchange=e bytes=8000000");
    scene.line("publish two exchange=e bytes=8000000");
    let dropped = (0..17).map(|number| listed(&mut scene, &format!("m{number}")));
    let dropped = dropped.filter(|line| line.ends_with("dropped 1")).count();
    assert_eq!(dropped, 1, "34 messages of 8 MB are one too many");
    assert!(listed(&mut scene, "small").ends_with("dropped 0"));
}
