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

#[test]
fn a_client_that_may_not_configure_brings_settings_to_new_queues_alone() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        declare new tasks=1 idle=1h strange
            c: created: ready 0 workers 0
        submit a b queue=new
            c: Created { state: Queued }, Refused(Refusal { code: QueueFull, message: "the queue `new` is full: its tasks_max is 1; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
        submit x queue=songs
            c: Created { state: Queued }
        declare songs tasks=1 idle=1m strange
            c: known: ready 1 workers 0
        submit y queue=songs
            c: Created { state: Queued }
        declare default tasks=1 strange
            c: known: ready 0 workers 0
        submit d e
            c: Created { state: Queued }, Created { state: Queued }
        declare songs tasks=1
            c: known: ready 2 workers 0
        cancel x y
            c: ("x", Revoked), ("y", Revoked)
        after 2m
        queues
            c: default: ready 2 scheduled 0 leased 0 dead 0; new: ready 1 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 0
        connect w runs=job queues=mail
            w: welcome new leases []
        declare mail tasks=1 strange
            c: known: ready 0 workers 1
        submit m n queue=mail
            c: Created { state: Queued }, Created { state: Queued }
        submit r queue=raw
            c: Created { state: Queued }
        declare raw tasks=2
            c: known: ready 1 workers 0
        submit s t queue=raw
            c: Created { state: Queued }, Refused(Refusal { code: QueueFull, message: "the queue `raw` is full: its tasks_max is 2; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
    "#]]);
}
