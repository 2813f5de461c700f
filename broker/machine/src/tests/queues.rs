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
            c: Refused(Refusal { code: QueueFull, message: "the queue `default` is full: its tasks_max is 1; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
        submit d queue=small bytes=10
            c: Created { state: Queued }
        submit e queue=small bytes=10
            c: Refused(Refusal { code: QueueFull, message: "the queue `small` is full: its bytes_max is 15; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
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
            w: signal TakenBack leases [1] (purged)
            c: count 3
        submit a1
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a1 lease 2 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        delete default
            c: refused NotFinished: tasks of the queue `default` are running
        complete a1
            w: Ok(Success)
        delete default
            c: count 0
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        purge nothing
            c: refused NotFound: there is no queue `nothing`
        submit b
            c: Created { state: Queued }
            w: deliver b lease 3 attempt 1 delivery 1
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
            c: default: ready 0 scheduled 0 leased 0 dead 0
        submit a
            c: Created { state: Queued }
        submit b queue=songs
            c: Created { state: Queued }
        queues
            c: default: ready 1 scheduled 0 leased 0 dead 0; songs: ready 1 scheduled 0 leased 0 dead 0
    "#]]);
}

#[test]
fn a_queue_that_nothing_needs_is_gone_and_its_number_is_used_again() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a queue=songs ttl=1h
            c: Created { state: Queued }
        submit b queue=films ttl=0s
            c: Created { state: Queued }
        cancel a b
            c: ("a", Revoked), ("b", Revoked)
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        purge songs
            c: count 0
        purge films
            c: refused NotFound: there is no queue `films`
        submit a2 queue=songs
            c: Created { state: Queued }
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 1 scheduled 0 leased 0 dead 0
        cancel a2
            c: ("a2", Revoked)
        after 2h
        purge songs
            c: count 0
        restart
        connect c
            c: welcome new leases []
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
    "#]]);
}

#[test]
fn a_dead_task_keeps_its_queue_in_sight() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=songs
            w: welcome new leases []
        credit w 1
            w: done
        submit a queue=songs
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        fail a last
            w: Ok(Failure)
        bye w
            w: done
            w: closed
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 1
        restart
        connect c
            c: welcome new leases []
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 1
        discard all queue=songs
            c: count 1
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
    "#]]);
}

#[test]
fn a_queue_is_there_as_long_as_a_worker_serves_it() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=songs,films
            w: welcome new leases []
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; films: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 0
        delete songs
            c: count 0
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; films: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 0
        lose w
            w: closed
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; films: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 0
        after 15s
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        connect w runs=job queues=songs
            w: welcome new leases []
        bye w
            w: done
            w: closed
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
    "#]]);
}

#[test]
fn settings_and_a_pause_keep_a_queue_and_taking_them_back_ends_it() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        resume songs
            c: done
        configure songs
            c: done
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        pause songs
            c: done
        configure films tasks=3
            c: done
        restart
        connect c
            c: welcome new leases []
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; films: ready 0 scheduled 0 leased 0 dead 0; songs: ready 0 scheduled 0 leased 0 dead 0 paused
        resume songs
            c: done
        configure films
            c: done
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        restart
        connect c
            c: welcome new leases []
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        pause default
            c: done
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0 paused
        delete default
            c: count 0
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        pause songs
            c: done
        delete songs
            c: count 0
        delete songs
            c: refused NotFound: there is no queue `songs`
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        restart
        connect c
            c: welcome new leases []
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
    "#]]);
}

#[test]
fn a_deleted_queue_stays_deleted_over_a_restart_with_its_ended_tasks_kept() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        configure songs tasks=10
            c: done
        submit a1..a2 queue=songs
            c: Created { state: Queued }, Created { state: Queued }
        delete songs
            c: count 2
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        list queue=songs
            c: page a1 Revoked g1 v2, a2 Revoked g1 v2 next None
        restart
        connect c
            c: welcome new leases []
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        get a1
            c: a1 Revoked g1 v2
        submit a3 queue=songs
            c: Created { state: Queued }
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 1 scheduled 0 leased 0 dead 0
    "#]]);
}

#[test]
fn a_submit_that_is_refused_leaves_no_queue_behind() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        configure default tasks=1
            c: done
        submit a
            c: Created { state: Queued }
        submit b
            c: Refused(Refusal { code: QueueFull, message: "the queue `default` is full: its tasks_max is 1; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
        submit a queue=songs
            c: Joined { generation: 1, state: Queued }
        submit a queue=songs conflict=reject
            c: Refused(Refusal { code: TaskExists, message: "a task of this id exists", retry_after_ms: 0 })
        disk full
        submit d queue=films
            c: Refused(Refusal { code: DiskFull, message: "the broker's disk is nearly full, so it takes no new tasks: make room on it, or submit later", retry_after_ms: 1000 })
        queues
            c: default: ready 1 scheduled 0 leased 0 dead 0
        disk free
        submit a queue=songs conflict=replace
            c: NewGeneration { generation: 2, state: Queued }
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 1 scheduled 0 leased 0 dead 0
        submit a queue=songs conflict=replace
            c: NewGeneration { generation: 3, state: Queued }
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; songs: ready 1 scheduled 0 leased 0 dead 0
    "#]]);
}
