//! Submits: ids that exist already, and submits without room.

use expect_test::expect;

use super::check;

#[test]
fn a_resent_submit_is_joined_even_when_there_is_no_room_for_new_ones() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        configure default tasks=1
            c: done
        submit a
            c: Created { state: Queued }
        submit a
            c: Joined { generation: 1, state: Queued }
        submit b
            c: Refused(Refusal { code: QueueFull, message: "the queue `default` is full: its tasks_max is 1; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
        disk full
        submit a
            c: Joined { generation: 1, state: Queued }
        submit b
            c: Refused(Refusal { code: DiskFull, message: "the broker's disk is nearly full, so it takes no new tasks: make room on it, or submit later", retry_after_ms: 1000 })
    "#]]);
}

#[test]
fn an_unfinished_id_is_joined_and_a_finished_one_runs_again() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit a
            c: Joined { generation: 1, state: Queued }
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        submit a
            c: Joined { generation: 1, state: Leased }
        complete a
            w: Ok(Success)
        submit a
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1
        get a
            c: a Leased g2 v2
        complete a
            w: Ok(Success)
        get a
            c: a Success g2 v4
    "#]]);
}

#[test]
fn an_id_that_exists_can_be_rejected_or_replaced() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit a conflict=reject
            c: Refused(Refusal { code: TaskExists, message: "a task of this id exists", retry_after_ms: 0 })
        submit a conflict=replace
            c: NewGeneration { generation: 2, state: Queued }
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        submit a conflict=replace
            w: signal Force leases [1] (replaced)
            c: NewGeneration { generation: 3, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1
        complete a lease=1
            w: Err((StaleLease, Some(Leased)))
        get a
            c: a Leased g3 v2
        restart
        connect c
            c: welcome new leases []
        get a
            c: a Leased g3 v2
    "#]]);
}

#[test]
fn a_full_disk_refuses_submits_and_takes_reports() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        disk full
        submit b
            c: Refused(Refusal { code: DiskFull, message: "the broker's disk is nearly full, so it takes no new tasks: make room on it, or submit later", retry_after_ms: 1000 })
        complete a
            w: Ok(Success)
        disk free
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
    "#]]);
}

#[test]
fn one_refused_task_of_a_batch_spoils_no_other() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        configure default tasks=2
            c: done
        submit a1..a4
            c: Created { state: Queued }, Created { state: Queued }, Refused(Refusal { code: QueueFull, message: "the queue `default` is full: its tasks_max is 2; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 }), Refused(Refusal { code: QueueFull, message: "the queue `default` is full: its tasks_max is 2; submit later, or raise the bound with `celeriac queues set`", retry_after_ms: 1000 })
        get a1 a2 a3 a4
            c: a1 Queued for Worker g1 v1, a2 Queued for Worker g1 v1, a3 unknown, a4 unknown
    "#]]);
}

#[test]
fn a_queue_gives_its_tasks_their_times() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        configure default expires=5s ttl=10s
            c: done
        submit a
            c: Created { state: Queued }
        submit b expires=1m
            c: Created { state: Queued }
        after 5s
        get a b
            c: a Revoked g1 v2, b Queued for Worker g1 v1
        after 10s
        get a b
            c: a unknown, b Queued for Worker g1 v1
    "#]]);
}

#[test]
fn the_expiry_of_a_queue_begins_when_a_task_is_due() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        configure default expires=5s
            c: done
        submit a in=10s
            c: Created { state: Scheduled }
        submit b in=10s expires=2s
            c: Created { state: Scheduled }
        after 14s
        get a b
            c: a Queued for Worker g1 v2, b Revoked g1 v2
        after 1s
        get a
            c: a Revoked g1 v3
    "#]]);
}

#[test]
fn two_submits_of_an_id_at_once_run_once() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit a by=d
            d: Joined { generation: 1, state: Queued }
        wait a by=c
        wait a by=d
        credit w 2
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        complete a
            c: came: a Success g1 v4
            d: came: a Success g1 v4
            w: Ok(Success)
        after 12h beating=w
        submit a
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1
        get a
            c: a Leased g2 v2
    "#]]);
}

#[test]
fn an_unfinished_id_runs_once_more_afterwards_and_at_most_one_run_waits() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        submit a conflict=after
            c: NewGeneration { generation: 2, state: Scheduled }
        submit a conflict=after
            c: Joined { generation: 2, state: Scheduled }
        submit a
            c: Joined { generation: 1, state: Started }
        get a
            c: a Started g1 v3
        watch a
            c: watching a Started g1 v3
        wait a
        list
            c: page a Started g1 v3, a Scheduled for Time g2 v1 next None
        queues
            c: default: ready 0 scheduled 1 leased 1 dead 0
        complete a
            c: came: a Success g1 v4
            c: sees a Success g1 v4
            w: Ok(Success)
            c: sees a Queued for Turn g2 v2
            c: sees a Leased g2 v3
            w: deliver a lease 2 attempt 1 delivery 1
        get a
            c: a Leased g2 v3
        list
            c: page a Leased g2 v3 next None
        complete a
            c: sees a Started g2 v4
            c: sees a Success g2 v5
            w: Ok(Success)
        get a
            c: a Success g2 v5
        submit a conflict=after
            c: sees a Queued for Turn g3 v1
            c: NewGeneration { generation: 3, state: Queued }
            c: sees a Leased g3 v2
            w: deliver a lease 3 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_run_that_waits_for_another_does_so_over_a_restart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b
            c: Created { state: Queued }
        start a
            w: Ok(Started)
        submit a conflict=after
            c: NewGeneration { generation: 2, state: Scheduled }
        submit b conflict=after in=10s
            c: NewGeneration { generation: 2, state: Scheduled }
        restart
        connect c
            c: welcome new leases []
        connect w resume runs=job
            w: welcome back leases [1]
            w: order Resume
        credit w 1
            w: done
        list
            c: page a Started g1 v3, b Queued for Turn g1 v1, a Scheduled for Time g2 v1, b Scheduled for Time g2 v1 next None
        submit a conflict=after
            c: Joined { generation: 2, state: Scheduled }
        fail a last
            w: Ok(Failure)
            w: deliver b lease 2 attempt 1 delivery 1
        restart
        connect c
            c: welcome new leases []
        connect w resume runs=job
            w: welcome back leases [2]
            w: order Resume
            w: deliver b lease 2 attempt 1 delivery 1
        credit w 1
            w: done
        get a b
            c: a Queued for Turn g2 v2, b Leased g1 v2
        complete b
            w: Ok(Success)
            w: deliver a lease 3 attempt 1 delivery 1
        get b
            c: b Scheduled for Time g2 v1
        restart
        connect c
            c: welcome new leases []
        get a b
            c: a Leased g2 v3, b Scheduled for Time g2 v1
        list
            c: page a Leased g2 v3, b Scheduled for Time g2 v1 next None
        after 10s
        get b
            c: b Queued for Worker g2 v2
    "#]]);
}

#[test]
fn a_run_that_waits_is_dropped_with_a_cancel_a_replacement_a_purge_and_its_expiry() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 9
            w: done
        submit a b d e
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
            w: deliver b lease 2 attempt 1 delivery 1
            w: deliver d lease 3 attempt 1 delivery 1
            w: deliver e lease 4 attempt 1 delivery 1
        start a
            w: Ok(Started)
        start b
            w: Ok(Started)
        start d
            w: Ok(Started)
        start e
            w: Ok(Started)
        submit a b d conflict=after
            c: NewGeneration { generation: 2, state: Scheduled }, NewGeneration { generation: 2, state: Scheduled }, NewGeneration { generation: 2, state: Scheduled }
        submit e conflict=after expires=1s
            c: NewGeneration { generation: 2, state: Scheduled }
        list
            c: page a Started g1 v3, b Started g1 v3, d Started g1 v3, e Started g1 v3, a Scheduled for Time g2 v1, b Scheduled for Time g2 v1, d Scheduled for Time g2 v1, e Scheduled for Time g2 v1 next None
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        fail a
            w: Ok(Revoked)
        get a
            c: a Revoked g1 v5
        submit b conflict=replace
            w: signal Force leases [2] (replaced)
            c: NewGeneration { generation: 3, state: Queued }
            w: deliver b lease 5 attempt 1 delivery 1
        purge default
            w: signal TakenBack leases [5] (purged)
            c: count 3
        complete d
            w: Ok(Success)
        get a b d
            c: a Revoked g1 v5, b Revoked g3 v3, d Success g1 v4
        after 1s
        complete e
            w: Ok(Success)
        get e
            c: e Success g1 v4
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
        restart
        connect c
            c: welcome new leases []
        list
            c: page a Revoked g1 v5, b Revoked g3 v3, d Success g1 v4, e Success g1 v4 next None
    "#]]);
}

#[test]
fn a_run_that_waits_comes_after_a_retry_and_whatever_ends_the_present_one() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 9
            w: done
        submit a attempts=2 backoff=fixed
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b ttl=0ms
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        submit a b conflict=after
            c: NewGeneration { generation: 2, state: Scheduled }, NewGeneration { generation: 2, state: Scheduled }
        fail a
            w: Ok(Retry)
        complete b
            w: Ok(Success)
            w: deliver b lease 3 attempt 1 delivery 1
        get a b
            c: a Retry for Time g1 v4, b Leased g2 v3
        after 1s
            w: deliver a lease 4 attempt 2 delivery 1 report start again
        fail a
            w: Ok(Failure)
            w: deliver a lease 5 attempt 1 delivery 1
        get a b
            c: a Leased g2 v3, b Leased g2 v3
    "#]]);
}
