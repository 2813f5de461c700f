//! Submits: ids that exist already, and what there is no room for.

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
            c: Refused(Refusal { code: QueueFull, message: "the queue `default` is full", retry_after_ms: 1000 })
        disk full
        submit a
            c: Joined { generation: 1, state: Queued }
        submit b
            c: Refused(Refusal { code: DiskFull, message: "the broker's disk is nearly full", retry_after_ms: 1000 })
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
            c: Refused(Refusal { code: DiskFull, message: "the broker's disk is nearly full", retry_after_ms: 1000 })
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
            c: Created { state: Queued }, Created { state: Queued }, Refused(Refusal { code: QueueFull, message: "the queue `default` is full", retry_after_ms: 1000 }), Refused(Refusal { code: QueueFull, message: "the queue `default` is full", retry_after_ms: 1000 })
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
