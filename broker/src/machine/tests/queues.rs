//! Queues that are paused, bounded, purged and deleted.

use expect_test::expect;

use super::check;

#[test]
fn a_paused_queue_delivers_nothing_also_after_a_restart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        pause default
            c: done
        submit a
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        get a
            c: a Queued for Queue g1 v1
        restart
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        queues
            c: default: ready 1 scheduled 0 leased 0 dead 0 paused
        resume default
            c: done
            w: deliver a lease 1 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_full_queue_refuses_submits() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        configure default tasks=1
            c: done
        configure small bytes=15
            c: done
        submit a
            c: Created { state: Queued }
        submit b
            c: Refused(Refusal { code: QueueFull, message: "the queue `default` is full", retry_after_ms: 1000 })
        submit d queue=small bytes=10
            c: Created { state: Queued }
        submit e queue=small bytes=10
            c: Refused(Refusal { code: QueueFull, message: "the queue `small` is full", retry_after_ms: 1000 })
        cancel a d
            c: ("a", Revoked), ("d", Revoked)
        submit b
            c: Created { state: Queued }
        submit e queue=small bytes=10
            c: Created { state: Queued }
    "#]]);
}

#[test]
fn a_queue_can_be_purged_and_deleted() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        credit w 1
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
        purge default
            c: count 2
        delete default
            c: refused NotFinished: tasks of the queue `default` are running
        complete a1
            w: Ok(Success)
        delete default
            c: count 0
        queues
            c: 
        purge nothing
            c: refused NotFound: there is no queue `nothing`
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        queues
            c: default: ready 0 scheduled 0 leased 1 dead 0
    "#]]);
}

#[test]
fn running_tasks_of_a_paused_queue_go_on() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a1..a2
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        pause default
            c: done
        complete a1
            w: Ok(Success)
        get a1 a2
            c: a1 Success g1 v4, a2 Queued for Queue g1 v1
        resume default
            c: done
            w: deliver a2 lease 2 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_queue_is_there_from_its_first_task() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        queues
            c: 
        submit a
            c: Created { state: Queued }
        submit b queue=songs
            c: Created { state: Queued }
        queues
            c: default: ready 1 scheduled 0 leased 0 dead 0; songs: ready 1 scheduled 0 leased 0 dead 0
    "#]]);
}
