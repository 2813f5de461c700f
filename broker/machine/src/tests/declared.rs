//! Queues that clients declare.

use expect_test::expect;

use super::check;

#[test]
fn a_declared_queue_stays_and_keeps_its_settings() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        declare songs passive
            c: refused NotFound: there is no queue `songs`
        declare songs tasks=1
            c: created: ready 0 workers 0
        declare songs passive
            c: known: ready 0 workers 0
        declare songs tasks=5
            c: known: ready 0 workers 0
        submit a queue=songs
            c: Created { state: Queued }
        submit b queue=songs
            c: Refused(Refusal { code: QueueFull, message: "the queue `songs` is full: its tasks_max is 1; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
        configure songs tasks=2
            c: done
        submit b queue=songs
            c: Created { state: Queued }
        restart
        connect c
            c: welcome new leases []
        declare songs passive
            c: known: ready 2 workers 0
        purge songs
            c: count 2
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 0
        delete songs
            c: count 0
        declare songs passive
            c: refused NotFound: there is no queue `songs`
        declare default passive
            c: known: ready 0 workers 0
    "#]]);
}

#[test]
fn a_configured_queue_is_declared_without_a_change() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        configure songs tasks=1
            c: done
        declare songs tasks=9
            c: known: ready 0 workers 0
        submit a queue=songs
            c: Created { state: Queued }
        submit b queue=songs
            c: Refused(Refusal { code: QueueFull, message: "the queue `songs` is full: its tasks_max is 1; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
    "#]]);
}

#[test]
fn a_declared_queue_that_is_idle_for_its_time_is_deleted() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        declare songs idle=1m
            c: created: ready 0 workers 0
        after 50s
        declare songs idle=1m
            c: known: ready 0 workers 0
        after 50s
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 0
        after 20s
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        declare songs idle=1m
            c: created: ready 0 workers 0
        submit a queue=songs
            c: Created { state: Queued }
        after 5m
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 1 scheduled 0 leased 0 dead 0
        cancel a
            c: ("a", Revoked)
        after 2m
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        declare songs idle=1m
            c: created: ready 0 workers 0
        restart
        after 59s
        connect c
            c: welcome new leases []
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 0
        after 1s
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
    "#]]);
}
