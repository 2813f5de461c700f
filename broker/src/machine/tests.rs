//! The rules of a task, each as a script. `UPDATE_EXPECT=1` writes what the machine says now; read it before you keep it.

mod script;
mod simulation;

use expect_test::{Expect, expect};

/// A transcript: commands, and indented beneath each what the machine said.
fn check(transcript: Expect) {
    let script = transcript.data().to_owned();
    transcript.assert_eq(&script::run(&script));
}

#[test]
fn a_task_is_delivered_started_and_completed() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        get a
            c: a Queued for Turn g1 v1
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        get a
            c: a Started g1 v3
        complete a
            w: Ok(Success)
        get a
            c: a Success g1 v4
    "#]]);
}

#[test]
fn an_unknown_id_is_not_found_and_never_waiting() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        get a
            c: a unknown
        wait a
            c: came: a unknown
        forget a
            c: Err(NotFound)
        cancel a
            c: ("a", NotFound)
    "#]]);
}

#[test]
fn tasks_are_served_by_priority_and_then_in_order() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit b1..b2 priority=9
            c: Created { state: Queued }, Created { state: Queued }
        credit w 5
            w: done
            w: deliver b1 lease 1 attempt 1 delivery 1
            w: deliver b2 lease 2 attempt 1 delivery 1
            w: deliver a1 lease 3 attempt 1 delivery 1
            w: deliver a2 lease 4 attempt 1 delivery 1
            w: deliver a3 lease 5 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_worker_gets_no_more_than_its_credit() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a1..a4
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        credit w 2
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        complete a1
            w: Ok(Success)
            w: deliver a3 lease 3 attempt 1 delivery 1
        credit w 0
            w: done
        complete a2
            w: Ok(Success)
        credit w 3
            w: done
            w: deliver a4 lease 4 attempt 1 delivery 1
    "#]]);
}

#[test]
fn idle_workers_come_before_those_that_would_only_hold_the_task() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w1 runs=job concurrency=1
            w1: welcome new leases []
        connect w2 runs=job concurrency=1
            w2: welcome new leases []
        credit w1 4
            w1: done
        submit a
            c: Created { state: Queued }
            w1: deliver a lease 1 attempt 1 delivery 1
        credit w2 4
            w2: done
        submit b
            c: Created { state: Queued }
            w2: deliver b lease 2 attempt 1 delivery 1
        submit d1..d2
            c: Created { state: Queued }, Created { state: Queued }
            w1: deliver d1 lease 3 attempt 1 delivery 1
            w2: deliver d2 lease 4 attempt 1 delivery 1
    "#]]);
}

#[test]
fn queues_are_served_by_weight() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a6 queue=a
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit b1..b6 queue=b
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        connect w runs=job queues=a:2,b:1
            w: welcome new leases []
        credit w 6
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver b1 lease 2 attempt 1 delivery 1
            w: deliver a2 lease 3 attempt 1 delivery 1
            w: deliver a3 lease 4 attempt 1 delivery 1
            w: deliver b2 lease 5 attempt 1 delivery 1
            w: deliver a4 lease 6 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_name_that_nobody_runs_waits_and_blocks_nobody() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit strange name=unheard-of
            c: Created { state: Queued }
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        get strange
            c: strange Queued for Worker g1 v1
        connect v runs=unheard-of
            v: welcome new leases []
        credit v 1
            v: done
            v: deliver strange lease 2 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_failed_task_is_retried_with_growing_delays_and_then_dead() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=3
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        fail a
            w: Ok(Retry)
        get a
            c: a Retry for Time g1 v4
        after 1s
            w: deliver a lease 2 attempt 2 delivery 1
        fail a
            w: Ok(Retry)
        after 1999ms
        after 1ms
            w: deliver a lease 3 attempt 3 delivery 1
        fail a
            w: Ok(Failure)
        get a
            c: a Failure g1 v12
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 1
    "#]]);
}

#[test]
fn a_final_failure_and_a_reject_are_dead_at_once() {
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
        fail a last
            w: Ok(Failure)
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        reject b
            w: Ok(Failure)
        get a b
            c: a Failure g1 v4, b Failure g1 v4
    "#]]);
}

#[test]
fn a_handler_may_ask_for_another_attempt_at_its_own_time() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=2
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        again a in=5s
            w: Ok(Retry)
        after 5s
            w: deliver a lease 2 attempt 2 delivery 1
        again a in=5s
            w: Ok(Failure)
        get a
            c: a Failure g1 v8
    "#]]);
}

#[test]
fn a_released_task_is_first_in_line_and_no_attempt_is_counted() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit b
            c: Created { state: Queued }
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        release a
            w: Ok(Queued)
            w: deliver a lease 2 attempt 1 delivery 1
        get b
            c: b Queued for Turn g1 v1
    "#]]);
}

#[test]
fn a_report_that_is_sent_again_counts_once() {
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
        start a
            w: Ok(Started)
        complete a
            w: Ok(Success)
        complete a
            w: Ok(Success)
        start a
            w: Ok(Success)
        fail a
            w: Err((StaleLease, Some(Success)))
        get a
            c: a Success g1 v4
    "#]]);
}

#[test]
fn a_report_without_the_current_lease_is_refused() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        connect v runs=job
            v: welcome new leases []
        credit w 1
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        complete a lease=0
            w: Err((StaleLease, Some(Leased)))
        complete a lease=99
            w: Err((StaleLease, Some(Leased)))
        complete a by=v
            v: Err((StaleLease, Some(Leased)))
        complete nothing lease=1 by=w
            w: Err((NotFound, None))
        get a
            c: a Leased g1 v2
    "#]]);
}

#[test]
fn a_silent_worker_loses_its_leases_and_its_report_is_refused() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=2
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        after 10s
        beat w
            w: heartbeat
        after 14999ms
        get a
            c: a Started g1 v3
        after 1ms
            w: closing SessionLost: nothing was heard for the lease time
            w: closed
        get a
            c: a Queued for Worker g1 v4
        connect v runs=job
            v: welcome new leases []
        credit v 1
            v: done
            v: deliver a lease 2 attempt 2 delivery 2
        connect w resume runs=job
            w: welcome new leases []
        complete a lease=1 by=w
            w: Err((StaleLease, Some(Leased)))
        complete a by=v
            v: Ok(Success)
    "#]]);
}

#[test]
fn a_worker_that_reconnects_in_time_keeps_its_leases() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=2
            w: welcome new leases []
        credit w 2
            w: done
        submit a1..a2
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        lose w
            w: closed
        after 14s
        connect w resume runs=job concurrency=2
            w: welcome back leases [1, 2]
            w: deliver a2 lease 2 attempt 1 delivery 1
        complete a1
            w: Ok(Success)
        complete a2
            w: Ok(Success)
        get a1 a2
            c: a1 Success g1 v4, a2 Success g1 v4
    "#]]);
}

#[test]
fn a_worker_keeps_its_leases_over_a_restart_of_the_broker() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=2
            w: welcome new leases []
        credit w 2
            w: done
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        progress a1
            w: Ok(Started)
        restart
        connect c
            c: welcome new leases []
        get a1 a2 a3
            c: a1 Started g1 v4, a2 Leased g1 v2, a3 Queued for Worker g1 v1
        connect w resume runs=job concurrency=2
            w: welcome back leases [1, 2]
            w: deliver a2 lease 2 attempt 1 delivery 1
        complete a1
            w: Ok(Success)
        complete a2
            w: Ok(Success)
        credit w 2
            w: done
            w: deliver a3 lease 3 attempt 1 delivery 1
        get a1 a2 a3
            c: a1 Success g1 v5, a2 Success g1 v4, a3 Leased g1 v2
    "#]]);
}

#[test]
fn leases_of_a_worker_that_does_not_come_back_after_a_restart_are_lost() {
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
        restart
        connect v runs=job
            v: welcome new leases []
        credit v 1
            v: done
        after 10s
        beat v
            v: heartbeat
        after 5s
            v: deliver a lease 2 attempt 2 delivery 2
    "#]]);
}

#[test]
fn a_worker_that_says_goodbye_gives_its_tasks_back_at_once_and_in_order() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=3
            w: welcome new leases []
        submit a1..a4
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        credit w 3
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        bye w
            w: done
            w: closed
        connect v runs=job
            v: welcome new leases []
        credit v 4
            v: done
            v: deliver a1 lease 4 attempt 2 delivery 2
            v: deliver a2 lease 5 attempt 1 delivery 1
            v: deliver a3 lease 6 attempt 1 delivery 1
            v: deliver a4 lease 7 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_task_that_kills_its_workers_is_dead_in_the_end() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a deliveries=2
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 2 attempt 2 delivery 2
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        get a
            c: a Failure g1 v7
    "#]]);
}

#[test]
fn a_task_with_early_ack_never_starts_twice() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a early_ack=yes
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        lose w
            w: closed
        after 15s
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 2 attempt 1 delivery 2
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        get a
            c: a Failure g1 v6
    "#]]);
}

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
fn a_task_waits_in_the_broker_for_its_eta() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a in=10s
            c: Created { state: Scheduled }
        get a
            c: a Scheduled for Time g1 v1
        after 9999ms
        restart
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        after 1ms
            w: deliver a lease 1 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_task_that_has_not_started_expires_with_no_worker_there() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a expires=5s
            c: Created { state: Queued }
        submit b in=10s expires=5s
            c: Created { state: Scheduled }
        watch a
            c: watching a Queued for Worker g1 v1
        after 5s
            c: sees a Revoked g1 v2
        get a b
            c: a Revoked g1 v2, b Revoked g1 v2
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
    "#]]);
}

#[test]
fn a_task_that_has_started_no_longer_expires() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a expires=5s
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        after 6s
        fail a
            w: Ok(Retry)
        after 1s
            w: deliver a lease 2 attempt 2 delivery 1
        complete a
            w: Ok(Success)
    "#]]);
}

#[test]
fn a_leased_task_that_expires_before_its_start_is_taken_back() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a expires=5s
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        after 5s
            w: signal TakenBack leases [1] (expired)
        start a
            w: Err((StaleLease, Some(Revoked)))
    "#]]);
}

#[test]
fn an_ended_task_is_dropped_when_its_time_is_over() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 3
            w: done
        submit short ttl=2s
            c: Created { state: Queued }
            w: deliver short lease 1 attempt 1 delivery 1
        submit none ttl=0ms
            c: Created { state: Queued }
            w: deliver none lease 2 attempt 1 delivery 1
        submit usual
            c: Created { state: Queued }
            w: deliver usual lease 3 attempt 1 delivery 1
        watch short
            c: watching short Leased g1 v2
        complete short
            c: sees short Started g1 v3
            c: sees short Success g1 v4
            w: Ok(Success)
        complete none
            w: Ok(Success)
        complete usual
            w: Ok(Success)
        get short none usual
            c: short Success g1 v4, none unknown, usual Success g1 v4
        after 2s
            c: sees short unknown
        get short none usual
            c: short unknown, none unknown, usual Success g1 v4
        after 1d
            w: closing SessionLost: nothing was heard for the lease time
            w: closed
        get usual
            c: usual unknown
    "#]]);
}

#[test]
fn a_failure_is_kept_even_when_no_result_is() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a ttl=0ms attempts=1
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        fail a
            w: Ok(Failure)
        get a
            c: a Failure g1 v4
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
fn a_waiting_task_is_cancelled_for_good_with_no_worker_up() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit b in=1h
            c: Created { state: Scheduled }
        cancel a b
            c: ("a", Revoked), ("b", Revoked)
        restart
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        after 2h
            w: closing SessionLost: nothing was heard for the lease time
            w: closed
        get a b
            c: a Revoked g1 v2, b Revoked g1 v2
    "#]]);
}

#[test]
fn a_running_task_is_told_and_its_worker_decides() {
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
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        fail a
            w: Ok(Revoked)
        get a
            c: a Revoked g1 v5
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        start b
            w: Ok(Started)
        cancel b
            w: signal Cooperative leases [2] (cancelled)
            c: ("b", Signalled)
        complete b
            w: Ok(Success)
        get b
            c: b Success g1 v5
    "#]]);
}

#[test]
fn a_forced_cancel_revokes_the_lease_after_its_grace() {
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
        cancel a force grace=3s
            w: signal Force leases [1] (cancelled)
            c: ("a", Signalled)
        after 3s
        complete a
            w: Err((StaleLease, Some(Revoked)))
        get a
            c: a Revoked g1 v5
    "#]]);
}

#[test]
fn a_cancelled_task_whose_worker_is_lost_does_not_run_again() {
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
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        restart
        connect c
            c: welcome new leases []
        after 15s
        get a
            c: a Revoked g1 v5
    "#]]);
}

#[test]
fn a_tree_and_a_tag_are_cancelled_as_a_whole() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit r
            c: Created { state: Queued }
        submit r1..r2 root=r
            c: Created { state: Queued }, Created { state: Queued }
        submit t1..t2 tag=night
            c: Created { state: Queued }, Created { state: Queued }
        cancel root=r
            c: ("r", Revoked), ("r1", Revoked), ("r2", Revoked)
        cancel tag=night
            c: ("t1", Revoked), ("t2", Revoked)
    "#]]);
}

#[test]
fn time_limits_run_from_the_start() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a soft=5s limit=8s
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        beat w
            w: heartbeat
        start a
            w: Ok(Started)
        after 5s
            w: signal SoftTimeLimit leases [1] (soft_time_limit)
        after 3s
            w: signal TimeLimit leases [1] (time_limit)
        complete a
            w: Err((StaleLease, Some(Failure)))
        get a
            c: a Failure g1 v4
    "#]]);
}

#[test]
fn a_time_limit_goes_on_over_a_restart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a limit=8s
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        after 5s
        restart
        connect w resume runs=job
            w: welcome back leases [1]
        after 3s
            w: signal TimeLimit leases [1] (time_limit)
    "#]]);
}

#[test]
fn a_result_over_the_limit_is_a_failure() {
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
        complete a bytes=1001
            w: Err((ResultTooLarge, Some(Failure)))
        complete a bytes=1001
            w: Ok(Failure)
        get a
            c: a Failure g1 v4
    "#]]);
}

#[test]
fn waits_are_answered_when_their_condition_holds_or_their_time_is_over() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        connect e
            e: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a b
            c: Created { state: Queued }, Created { state: Queued }
        wait a b by=c for=1m
        wait a b any by=d for=1m
        wait b started by=e for=5s
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        complete a
            d: came: a Success g1 v4, b Queued for Turn g1 v1
            w: Ok(Success)
            w: deliver b lease 2 attempt 1 delivery 1
        after 5s
            e: time over: b Leased g1 v2
        complete b
            c: came: a Success g1 v4, b Success g1 v4
            w: Ok(Success)
        wait a b
            c: came: a Success g1 v4, b Success g1 v4
    "#]]);
}

#[test]
fn a_watch_sees_each_transition_of_ids_that_may_not_exist_yet() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        watch a by=d
            d: watching a unknown
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=2
            d: sees a Queued for Turn g1 v1
            c: Created { state: Queued }
            d: sees a Leased g1 v2
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            d: sees a Started g1 v3
            w: Ok(Started)
        progress a
            d: sees a Started g1 v4
            w: Ok(Started)
        fail a
            d: sees a Retry for Time g1 v5
            w: Ok(Retry)
        after 1s
            d: sees a Queued for Turn g1 v6
            d: sees a Leased g1 v7
            w: deliver a lease 2 attempt 2 delivery 1
        complete a
            d: sees a Started g1 v8
            d: sees a Success g1 v9
            w: Ok(Success)
        forget a
            d: sees a unknown
            c: Ok(())
        submit a
            d: sees a Queued for Turn g1 v1
            c: Created { state: Queued }
            d: sees a Leased g1 v2
            w: deliver a lease 3 attempt 1 delivery 1
    "#]]);
}

#[test]
fn only_an_ended_task_can_be_forgotten() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        forget a
            c: Err(NotFinished)
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        complete a
            w: Ok(Success)
        forget a
            c: Ok(())
        get a
            c: a unknown
        restart
        connect c
            c: welcome new leases []
        get a
            c: a unknown
    "#]]);
}

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
fn leases_ignore_the_wall_clock_and_schedules_follow_it() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        submit b in=30m
            c: Created { state: Scheduled }
        clock +1h
            w: deliver b lease 2 attempt 1 delivery 1
        clock -2h
        complete b
            w: Ok(Success)
        complete a
            w: Ok(Success)
    "#]]);
}

#[test]
fn leases_rise_over_restarts() {
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
        release a
            w: Ok(Queued)
            w: deliver a lease 2 attempt 1 delivery 1
        release a
            w: Ok(Queued)
            w: deliver a lease 3 attempt 1 delivery 1
        restart
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        after 10s
        beat w
            w: heartbeat
        after 5s
            w: deliver a lease 4 attempt 1 delivery 2
    "#]]);
}

#[test]
fn a_quiet_worker_gets_no_more_tasks() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        quiet w
            w: order Quiet
            c: count 1
        submit b
            c: Created { state: Queued }
        complete a
            w: Ok(Success)
        get b
            c: b Queued for Turn g1 v1
    "#]]);
}

#[test]
fn tasks_are_listed_in_pages() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit b1 queue=other
            c: Created { state: Queued }
        list limit=2
            c: page a1 Queued for Worker g1 v1, a2 Queued for Worker g1 v1 next Some(1)
        list limit=2 cursor=1
            c: page a3 Queued for Worker g1 v1, b1 Queued for Worker g1 v1 next None
        list queue=other
            c: page b1 Queued for Worker g1 v1 next None
        list queue=nothing
            c: page  next None
    "#]]);
}
