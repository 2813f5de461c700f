//! What time alone does: earliest starts, expiries, limits, and the end of what is kept.

use expect_test::expect;

use super::check;

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
fn a_started_task_that_is_handed_back_after_its_expiry_is_revoked() {
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
        credit w 0
            w: done
        after 6s
        release a
            w: Ok(Queued)
        get a
            c: a Revoked g1 v5
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
