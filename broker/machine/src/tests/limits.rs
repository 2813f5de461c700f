//! Time limits of tasks that run.

use expect_test::expect;

use super::check;

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
fn a_soft_time_limit_that_passes_while_the_worker_is_away_is_signalled_when_it_is_back() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit a soft=2s
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b soft=1m
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        start a
            w: Ok(Started)
        start b
            w: Ok(Started)
        lose w
            w: closed
        after 3s
        connect w resume runs=job
            w: welcome back leases [1, 2]
            w: order Resume
            w: signal SoftTimeLimit leases [1] (soft_time_limit)
        lose w
            w: closed
        connect w resume runs=job
            w: welcome back leases [1, 2]
            w: order Resume
            w: signal SoftTimeLimit leases [1] (soft_time_limit)
        restart
        connect w resume runs=job
            w: welcome back leases [1, 2]
            w: order Resume
            w: signal SoftTimeLimit leases [1] (soft_time_limit)
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
            w: order Resume
        after 3s
            w: signal TimeLimit leases [1] (time_limit)
    "#]]);
}
