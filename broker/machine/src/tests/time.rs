//! Effects of time alone: etas, expiries, clocks that are set, and the end of kept results.

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
            w: Ok(Revoked)
        get a
            c: a Revoked g1 v4
    "#]]);
}

#[test]
fn no_attempt_begins_after_the_expiry_and_what_runs_goes_on() {
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
        submit b expires=5s
            c: Created { state: Queued }
        credit w 2
            w: done
            w: deliver b lease 2 attempt 1 delivery 1
        start b
            w: Ok(Started)
        after 6s
        watch a
            c: watching a Started g1 v3
        fail a
            c: sees a Retry for Time g1 v4
            w: Ok(Retry)
            c: sees a Revoked g1 v5
        complete b
            w: Ok(Success)
        after 1s
        get a b
            c: a Revoked g1 v5, b Success g1 v4
    "#]]);
}

#[test]
fn a_retry_that_waits_expires() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a expires=5s delay=10s
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        fail a
            w: Ok(Retry)
        submit b until=5s delay=10s
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        fail b
            w: Ok(Retry)
        watch a b
            c: watching a Retry for Time g1 v4, b Retry for Time g1 v4
        after 4999ms
        restart
        connect c
            c: welcome new leases []
        get a b
            c: a Retry for Time g1 v4, b Retry for Time g1 v4
        after 1ms
        get a b
            c: a Revoked g1 v5, b Revoked g1 v5
    "#]]);
}

#[test]
fn a_task_of_a_lost_worker_does_not_run_again_after_its_expiry() {
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
        lose w
            w: closed
        connect v runs=job
            v: welcome new leases []
        credit v 1
            v: done
        after 15s beating=v
        get a
            c: a Revoked g1 v5
    "#]]);
}

#[test]
fn a_version_names_one_state_over_a_restart_too() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a in=300ms
            c: Created { state: Scheduled }
        submit b in=300ms
            c: Created { state: Scheduled }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit r backoff=fixed
            c: Created { state: Queued }
            w: deliver r lease 1 attempt 1 delivery 1
        fail r
            w: Ok(Retry)
        credit w 0
            w: done
        watch a b r
            c: watching a Scheduled for Time g1 v1, b Scheduled for Time g1 v1, r Retry for Time g1 v4
        after 1s
            c: sees a Queued for Turn g1 v2
            c: sees b Queued for Turn g1 v2
            c: sees r Queued for Turn g1 v5
        restart
        connect c
            c: welcome new leases []
        get a b r
            c: a Queued for Worker g1 v2, b Queued for Worker g1 v2, r Queued for Worker g1 v5
        cancel b
            c: ("b", Revoked)
        get b
            c: b Revoked g1 v3
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 2 attempt 1 delivery 1
        get a b r
            c: a Leased g1 v3, b Revoked g1 v3, r Queued for Turn g1 v5
    "#]]);
}

#[test]
fn a_clock_that_is_set_back_over_a_restart_gives_no_version_a_second_state() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a at=10s
            c: Created { state: Scheduled }
        submit b at=10s
            c: Created { state: Scheduled }
        after 10s
        get a b
            c: a Queued for Worker g1 v2, b Queued for Worker g1 v2
        clock -1h
        restart
        connect c
            c: welcome new leases []
        get a b
            c: a Queued for Worker g1 v2, b Queued for Worker g1 v2
        cancel a
            c: ("a", Revoked)
        get a
            c: a Revoked g1 v3
        clock +1h
        get b
            c: b Queued for Worker g1 v2
    "#]]);
}

#[test]
fn spans_go_on_when_the_clock_is_set() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit retried backoff=fixed
            c: Created { state: Queued }
            w: deliver retried lease 1 attempt 1 delivery 1
        fail retried
            w: Ok(Retry)
        submit counted in=2s
            c: Created { state: Scheduled }
        submit timed at=2s
            c: Created { state: Scheduled }
        submit span expires=3s name=nobody
            c: Created { state: Queued }
        submit time until=3s name=nobody
            c: Created { state: Queued }
        submit kept ttl=10s
            c: Created { state: Queued }
            w: deliver kept lease 2 attempt 1 delivery 1
        complete kept
            w: Ok(Success)
        clock -1h
        after 1s
            w: deliver retried lease 3 attempt 2 delivery 1 again
        complete retried
            w: Ok(Success)
        after 1s
            w: deliver counted lease 4 attempt 1 delivery 1
        complete counted
            w: Ok(Success)
        after 1s
        get span time kept
            c: span Revoked g1 v2, time Queued for Worker g1 v1, kept Success g1 v4
        after 7s
        get kept time
            c: kept unknown, time Queued for Worker g1 v1
        clock +1h
            w: deliver timed lease 5 attempt 1 delivery 1
        get timed time
            c: timed Leased g1 v3, time Revoked g1 v2
    "#]]);
}

#[test]
fn a_clock_that_is_set_forward_ends_no_span() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit kept ttl=10s
            c: Created { state: Queued }
            w: deliver kept lease 1 attempt 1 delivery 1
        complete kept
            w: Ok(Success)
        submit retried delay=10s
            c: Created { state: Queued }
            w: deliver retried lease 2 attempt 1 delivery 1
        fail retried
            w: Ok(Retry)
        submit counted in=10s
            c: Created { state: Scheduled }
        submit timed at=10s
            c: Created { state: Scheduled }
        clock +1h
            w: deliver timed lease 3 attempt 1 delivery 1
        get kept retried counted timed
            c: kept Success g1 v4, retried Retry for Time g1 v4, counted Scheduled for Time g1 v1, timed Leased g1 v3
    "#]]);
}

#[test]
fn the_time_of_an_earlier_task_of_its_slot_ends_no_span() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit timed at=10s
            c: Created { state: Scheduled }
        cancel timed
            c: ("timed", Revoked)
        forget timed
            c: Ok(())
        submit counted in=10s
            c: Created { state: Scheduled }
        clock +1h
        get counted
            c: counted Scheduled for Time g1 v1
        after 10s
        get counted
            c: counted Queued for Worker g1 v2
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
            w: deliver a lease 1 attempt 1 delivery 1 report start
        fail a
            w: Ok(Failure)
        get a
            c: a Failure g1 v4
    "#]]);
}
