//! Outcomes that clients put, of tasks that were submitted.

use expect_test::expect;

use super::check;

#[test]
fn the_outcome_of_the_current_lease_ends_the_run_and_later_reports_change_nothing() {
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
        watch a
            c: watching a Leased g1 v2
        put a leased=1 state=STARTED
            c: sees a Started g1 v3
            c: sees a Started g1 v4
            c: Started g1
        put a leased=1 state=STARTED
            c: Started g1
        put a leased=1 state=SUCCESS bytes=7
            c: sees a Success g1 v5
            c: Success g1
        stored a
            Success v5 as job, STARTED 2 bytes, result 7
        complete a
            w: Ok(Success)
        fail a
            w: Err((StaleLease, Some(Success)))
        release a
            w: Err((StaleLease, Some(Success)))
        get a
            c: a Success g1 v5
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        put b leased=1 state=FAILURE error=broken bytes=8
            c: Failure g1
        stored b
            Failure v4 as job, error broken of w 0 ms 0 ms, result 8
        fail b last
            w: Ok(Failure)
        complete b
            w: Err((StaleLease, Some(Failure)))
        submit d
            c: Created { state: Queued }
            w: deliver d lease 3 attempt 1 delivery 1
        put d leased=1 state=REVOKED error=terminated bytes=9
            c: Revoked g1
        stored d
            Revoked v4 as job, error terminated of w 0 ms 0 ms, result 9, because terminated
        complete d
            w: Err((StaleLease, Some(Revoked)))
        release d
            w: Err((StaleLease, Some(Revoked)))
        start d
            w: Err((StaleLease, Some(Revoked)))
        list state=Failure
            c: page b Failure g1 v4 next None
    "#]]);
}

#[test]
fn a_worker_that_dies_after_its_outcome_was_put_causes_no_second_run() {
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
        put a leased=1 state=SUCCESS
            c: Success g1
        restart
        after 20s
        connect c
            c: welcome new leases []
        get a
            c: a Success g1 v4
        connect v runs=job
            v: welcome new leases []
        credit v 1
            v: done
        put a leased=1 state=FAILURE
            c: Success g1
        get a
            c: a Success g1 v4
    "#]]);
}

#[test]
fn a_progress_of_the_current_lease_starts_the_task_and_keeps_state_and_body() {
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
        put a leased=1 state=RETRY error=again bytes=3
            c: Started g1
        stored a
            Started v4 as job, RETRY 3 bytes, error again of w 0 ms 0 ms
        put a leased=1 state=RETRY error=again bytes=3
            c: Started g1
        stored a
            Started v4 as job, RETRY 3 bytes, error again of w 0 ms 0 ms
        progress a
            w: Ok(Started)
        stored a
            Started v5 as job, HALF 3 bytes, error again of w 0 ms 0 ms
        put a state=NOTE
            c: Started g1
        stored a
            Started v6 as job, NOTE 2 bytes, error again of w 0 ms 0 ms
        put a state=SUCCESS
            c: StaleLease Some(Started): a worker holds the task, and only an outcome of its lease ends it
        put a state=REVOKED
            c: StaleLease Some(Started): a worker holds the task, and only an outcome of its lease ends it
        put a lease=9 state=STARTED
            c: StaleLease Some(Started): the broker has not given out this lease
        get a
            c: a Started g1 v6
    "#]]);
}

#[test]
fn without_a_lease_only_a_progress_is_kept_of_a_leased_task_and_nothing_starts() {
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
        put a state=STARTED
            c: Leased g1
        stored a
            Leased v3 as job, STARTED 2 bytes
        put a state=FAILURE
            c: StaleLease Some(Leased): a worker holds the task, and only an outcome of its lease ends it
        get a
            c: a Leased g1 v3
        restart
        stored a
            Leased v3 as job, STARTED 2 bytes
    "#]]);
}

#[test]
fn an_outcome_of_another_lease_is_stale() {
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
        release a
            w: Ok(Queued)
            w: deliver a lease 2 attempt 1 delivery 1 again
        credit w 0
            w: done
        credit v 1
            v: done
        put a lease=1 state=SUCCESS
            c: StaleLease Some(Leased): the lease is not the current lease of the task
        put a lease=1 state=STARTED
            c: StaleLease Some(Leased): the lease is not the current lease of the task
        put a lease=1 state=RETRY
            c: StaleLease Some(Leased): the lease is not the current lease of the task
        stored a
            Leased v4 as job
    "#]]);
}

#[test]
fn a_retry_that_is_handed_out_before_it_is_due_is_told_of_until_it_begins() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 9
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        submit a conflict=supersede lease=1 in=5s lead=10s
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1
        put a lease=1 state=SUCCESS
            c: StaleLease Some(Leased): the lease is not the current lease of the task
        put a lease=1 state=RETRY error=again bytes=5
            c: Leased g2
        stored a
            Leased v3 as job, RETRY 5 bytes, error again of w 0 ms
        restart
        connect c
            c: welcome new leases []
        connect w runs=job resume
            w: welcome back leases [2]
            w: order Resume
            w: deliver a lease 2 attempt 1 delivery 1
        stored a
            Leased v3 as job, RETRY 5 bytes, error again of w 0 ms
        start a by=w lease=2
            w: Ok(Started)
        stored a
            Started v4 as job, error again of w 0 ms
        put a lease=1 state=RETRY
            c: StaleLease Some(Started): the lease is not the current lease of the task
    "#]]);
}

#[test]
fn only_the_run_before_tells_of_a_retry() {
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
        submit a conflict=supersede lease=1
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1
        put a lease=1 state=RETRY bytes=1
            c: Leased g2
        credit w 0
            w: done
        release a lease=2
            w: Ok(Queued)
        put a lease=1 state=RETRY bytes=3
            c: StaleLease Some(Queued): a later run of the task is over too, and the task waits for its next run
        stored a
            Queued v4 as job, RETRY 1 bytes
        put a lease=2 state=RETRY bytes=2
            c: Queued g2
        credit w 1
            w: done
            w: deliver a lease 3 attempt 1 delivery 1 again
        put a lease=1 state=RETRY bytes=3
            c: StaleLease Some(Leased): the lease is not the current lease of the task
        stored a
            Leased v6 as job, RETRY 2 bytes
    "#]]);
}

#[test]
fn a_superseded_run_tells_only_of_its_retry() {
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
        watch a
            c: watching a Started g1 v3
        submit a conflict=supersede lease=1 in=5s
            c: sees a Scheduled for Time g2 v1
            c: NewGeneration { generation: 2, state: Scheduled }
        put a lease=1 state=SUCCESS
            c: StaleLease Some(Scheduled): the run of this lease is over, and the task waits for its next run
        put a lease=1 state=FAILURE
            c: StaleLease Some(Scheduled): the run of this lease is over, and the task waits for its next run
        put a lease=1 state=STARTED
            c: StaleLease Some(Scheduled): the run of this lease is over, and the task waits for its next run
        put a lease=1 state=RETRY error=again bytes=5
            c: sees a Scheduled for Time g2 v2
            c: Scheduled g2
        stored a
            Scheduled v2 as job, RETRY 5 bytes, error again
        put a lease=1 state=RETRY error=again bytes=5
            c: Scheduled g2
        restart
        connect c
            c: welcome new leases []
        connect w runs=job resume
            w: welcome back leases []
            w: order Resume
        credit w 1
            w: done
        after 5s
            w: deliver a lease 2 attempt 1 delivery 1
        stored a
            Leased v4 as job, RETRY 5 bytes, error again
        put a lease=1 state=RETRY
            c: Leased g2
        complete a
            w: Ok(Success)
        put a lease=1 state=RETRY
            c: StaleLease Some(Success): the run of this lease is over, and the task has ended otherwise
        put a lease=1 state=FAILURE
            c: StaleLease Some(Success): the run of this lease is over, and the task has ended otherwise
    "#]]);
}

#[test]
fn a_waiting_task_ends_by_an_outcome_and_never_runs() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit b in=1h
            c: Created { state: Scheduled }
        submit d in=1h
            c: Created { state: Scheduled }
        submit d conflict=after
            c: NewGeneration { generation: 2, state: Scheduled }
        watch a b d
            c: watching a Queued for Worker g1 v1, b Scheduled for Time g1 v1, d Scheduled for Time g1 v1
        put a state=REVOKED error=revoked
            c: sees a Revoked g1 v2
            c: Revoked g1
        put b state=FAILURE error=gone bytes=6
            c: sees b Failure g1 v2
            c: Failure g1
        put d state=SUCCESS
            c: sees d Success g1 v2
            c: sees d Queued for Worker g2 v2
            c: Success g1
        stored a
            Revoked v2 as job, error revoked, result 2, because revoked
        stored b
            Failure v2 as job, error gone, result 6
        stored d
            Queued v2 as job
        restart
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 9
            w: done
            w: deliver d lease 1 attempt 1 delivery 1
        get a b d
            c: a Revoked g1 v2, b Failure g1 v2, d Leased g2 v3
        replay b
            c: count 1
            w: deliver b lease 2 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_waiting_task_keeps_a_progress() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a in=10s
            c: Created { state: Scheduled }
        put a state=RECEIVED bytes=4
            c: Scheduled g1
        put a state=RECEIVED bytes=4
            c: Scheduled g1
        stored a
            Scheduled v2 as job, RECEIVED 4 bytes
        restart
        connect c
            c: welcome new leases []
        get a
            c: a Scheduled for Time g1 v2
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        after 10s
            w: deliver a lease 1 attempt 1 delivery 1
        stored a
            Leased v4 as job
    "#]]);
}

#[test]
fn an_outcome_with_a_large_body_or_an_invented_lease_changes_nothing() {
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
        put a leased=1 state=SUCCESS bytes=1001
            c: ResultTooLarge Some(Leased): the body has 1001 bytes, and 1000 are allowed
        put b state=SUCCESS bytes=1001
            c: ResultTooLarge None: the body has 1001 bytes, and 1000 are allowed
        put b lease=99 state=SUCCESS
            c: StaleLease None: the broker has not given out this lease
        get a b
            c: a Leased g1 v2, b unknown
        complete a
            w: Ok(Success)
    "#]]);
}

#[test]
fn a_run_that_was_cancelled_ends_as_revoked_when_it_fails() {
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
        cancel a waiting reason=enough
            c: ("a", LeftRunning)
        put a leased=1 state=FAILURE error=broken bytes=4
            c: Revoked g1
        stored a
            Revoked v5 as job, error broken of w 0 ms 0 ms, result 4, because enough, asked 0 ms ago
    "#]]);
}
