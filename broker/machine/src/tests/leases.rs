//! The life and the end of leases: sessions that are silent, that are resumed, and that are lost.

use expect_test::expect;

use super::{check, script};

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
            v: deliver a lease 2 attempt 2 delivery 2 report start again
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
            w: order Resume
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
            w: order Resume
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
            v: deliver a lease 2 attempt 2 delivery 2 again
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
            v: deliver a1 lease 4 attempt 2 delivery 2 again
            v: deliver a2 lease 5 attempt 1 delivery 1 again
            v: deliver a3 lease 6 attempt 1 delivery 1 again
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
            w: deliver a lease 2 attempt 2 delivery 2 report start again
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
            w: deliver a lease 1 attempt 1 delivery 1 report start
        lose w
            w: closed
        after 15s
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 2 attempt 1 delivery 1 report start again
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
        submit b at=30m
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
            w: deliver a lease 2 attempt 1 delivery 1 again
        release a
            w: Ok(Queued)
            w: deliver a lease 3 attempt 1 delivery 1 again
        restart
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        after 10s
        beat w
            w: heartbeat
        after 5s
            w: deliver a lease 4 attempt 1 delivery 1 again
    "#]]);
}

#[test]
fn a_task_of_three_hours_runs_once() {
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
        after 3h beating=w
        complete a
            w: Ok(Success)
        get a
            c: a Success g1 v4
    "#]]);
}

#[test]
fn attempts_and_deliveries_are_limited_apart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=2 deliveries=2 backoff=fixed
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        lose w
            w: closed
        after 15s
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 2 attempt 1 delivery 1 report start again
        fail a
            w: Ok(Retry)
        after 1s
            w: deliver a lease 3 attempt 2 delivery 1 report start again
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        fail a
            w: Err((StaleLease, Some(Failure)))
        get a
            c: a Failure g1 v10
    "#]]);
}

#[test]
fn the_tasks_of_a_lost_worker_are_queued_again_in_front() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit a1..a2
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        submit b
            c: Created { state: Queued }
        lose w
            w: closed
        connect v runs=job
            v: welcome new leases []
        after 15s beating=v
        credit v 3
            v: done
            v: deliver a1 lease 3 attempt 1 delivery 1 again
            v: deliver a2 lease 4 attempt 1 delivery 1 again
            v: deliver b lease 5 attempt 1 delivery 1
    "#]]);
}

#[test]
fn heartbeats_renew_all_leases_of_a_session_at_once() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 3
            w: done
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
        after 14s
        beat w
            w: heartbeat
        after 14s
        beat w
            w: heartbeat
        after 14s
        get a1 a2 a3
            c: a1 Leased g1 v2, a2 Leased g1 v2, a3 Leased g1 v2
        after 1s
            w: closing SessionLost: nothing was heard for the lease time
            w: closed
        get a1 a2 a3
            c: a1 Queued for Worker g1 v3, a2 Queued for Worker g1 v3, a3 Queued for Worker g1 v3
    "#]]);
}

#[test]
fn a_task_is_begun_twenty_times_unless_it_says_otherwise() {
    let death = "connect w runs=job\ncredit w 1\nstart a\nlose w\nafter 15s\n";
    let said =
        script::run(&format!("connect c\nsubmit a attempts=100\n{}get a\n", death.repeat(21)));
    assert_eq!(said.matches("w: deliver a").count(), 20, "{said}");
    assert!(said.trim_end().ends_with("c: a Failure g1 v61"), "{said}");
}

#[test]
fn lost_leases_return_in_the_order_of_their_submits_after_a_restart_too() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=4
            w: welcome new leases []
        submit x y
            c: Created { state: Queued }, Created { state: Queued }
        cancel x y
            c: ("x", Revoked), ("y", Revoked)
        forget x y
            c: Ok(()), Ok(())
        submit a b
            c: Created { state: Queued }, Created { state: Queued }
        credit w 2
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
            w: deliver b lease 2 attempt 1 delivery 1
        restart
        after 15s
        connect v runs=job
            v: welcome new leases []
        credit v 2
            v: done
            v: deliver a lease 3 attempt 1 delivery 1 again
            v: deliver b lease 4 attempt 1 delivery 1 again
    "#]]);
}

/// On the last delivery a worker must report the start before it begins. Otherwise a worker that
/// dies before its report arrives would let the task begin once more than allowed.
#[test]
fn the_last_of_its_deliveries_begins_once_its_start_is_heard() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a deliveries=1
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1 report start
        lose w
            w: closed
        after 15s
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 2 attempt 1 delivery 1 report start again
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        get a
            c: a Failure g1 v6
    "#]]);
}
