//! Reports of workers on their leases, and refusals of reports.

use expect_test::expect;

use super::check;

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
fn a_start_that_comes_with_the_outcome_is_stored_only_for_those_who_watch() {
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
        complete a
            w: Ok(Success)
        watch b
            c: watching b unknown
        submit b
            c: sees b Queued for Turn g1 v1
            c: Created { state: Queued }
            c: sees b Leased g1 v2
            w: deliver b lease 2 attempt 1 delivery 1
        complete b
            c: sees b Started g1 v3
            c: sees b Success g1 v4
            w: Ok(Success)
        get a b
            c: a Success g1 v4, b Success g1 v4
        records
            a Leased v2, a Success v4, b Leased v2, b Started v3, b Success v4
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
            w: deliver a lease 2 attempt 1 delivery 1 again
        get b
            c: b Queued for Turn g1 v1
    "#]]);
}

#[test]
fn tasks_that_come_back_stand_in_their_earlier_order() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        connect v runs=job
            v: welcome new leases []
        submit a1..a6
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        credit w 2
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        credit v 3
            v: done
            v: deliver a3 lease 3 attempt 1 delivery 1
            v: deliver a4 lease 4 attempt 1 delivery 1
            v: deliver a5 lease 5 attempt 1 delivery 1
        credit v 0
            v: done
        credit w 0
            w: done
        start a2
            w: Ok(Started)
        release a1
            w: Ok(Queued)
        release a4
            v: Ok(Queued)
        release a3
            v: Ok(Queued)
        release a2
            w: Ok(Queued)
        release a5
            v: Ok(Queued)
        credit w 6
            w: done
            w: deliver a1 lease 6 attempt 1 delivery 1 again
            w: deliver a2 lease 7 attempt 1 delivery 1 again
            w: deliver a3 lease 8 attempt 1 delivery 1 again
            w: deliver a4 lease 9 attempt 1 delivery 1 again
            w: deliver a5 lease 10 attempt 1 delivery 1 again
            w: deliver a6 lease 11 attempt 1 delivery 1
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
            w: Err((ResultTooLarge, Some(Failure)))
        get a
            c: a Failure g1 v4
    "#]]);
}

#[test]
fn reports_of_one_kind_are_answered_as_the_first_and_may_come_from_the_next_session() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        connect v runs=job
            v: welcome new leases []
        credit w 3
            w: done
        submit a b d attempts=1
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1 report start
            w: deliver b lease 2 attempt 1 delivery 1 report start
            w: deliver d lease 3 attempt 1 delivery 1 report start
        fail a
            w: Ok(Failure)
        reject a
            w: Ok(Failure)
        again a in=1m
            w: Ok(Failure)
        complete a
            w: Err((StaleLease, Some(Failure)))
        release a
            w: Err((StaleLease, Some(Failure)))
        complete b
            w: Ok(Success)
        complete b bytes=1001
            w: Ok(Success)
        complete b by=v
            v: Ok(Success)
        start b by=v
            v: Ok(Success)
        complete b by=c
            c: Err((StaleLease, Some(Success)))
        submit d
            c: Joined { generation: 1, state: Leased }
        release d
            w: Ok(Queued)
            w: deliver d lease 4 attempt 1 delivery 1 report start again
    "#]]);
}

#[test]
fn a_lease_that_is_followed_by_another_is_stale() {
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
        fail a
            w: Ok(Retry)
        after 1s
            w: deliver a lease 2 attempt 2 delivery 1 report start again
        fail a lease=1
            w: Err((StaleLease, Some(Leased)))
        complete a
            w: Ok(Success)
        submit a
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 3 attempt 1 delivery 1
        complete a lease=2
            w: Err((StaleLease, Some(Leased)))
        submit b ttl=0s
            c: Created { state: Queued }
        complete a
            w: Ok(Success)
            w: deliver b lease 4 attempt 1 delivery 1
        complete b
            w: Ok(Success)
        complete b
            w: Err((NotFound, None))
    "#]]);
}

#[test]
fn progress_that_is_reported_twice_counts_once() {
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
        progress a meta=0.5
            c: sees a Started g1 v3
            c: sees a Started g1 v4
            w: Ok(Started)
        progress a meta=0.5
            w: Ok(Started)
        progress a meta=0.7
            c: sees a Started g1 v5
            w: Ok(Started)
        get a
            c: a Started g1 v5
        lose w
            w: closed
        connect w resume runs=job
            w: welcome back leases [1]
            w: order Resume
        progress a meta=0.7
            w: Ok(Started)
        get a
            c: a Started g1 v5
    "#]]);
}

#[test]
fn progress_needs_the_current_lease() {
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
        progress a
            w: Ok(Started)
        get a
            c: a Started g1 v4
        progress a lease=99
            w: Err((StaleLease, Some(Started)))
        complete a
            w: Ok(Success)
        progress a
            w: Ok(Success)
        get a
            c: a Success g1 v5
    "#]]);
}

#[test]
fn what_has_ended_changes_no_more_within_its_generation() {
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
        complete a
            w: Ok(Success)
        release a
            w: Err((StaleLease, Some(Success)))
        reject a
            w: Err((StaleLease, Some(Success)))
        again a
            w: Err((StaleLease, Some(Success)))
        cancel a
            c: ("a", AlreadyEnded)
        get a
            c: a Success g1 v4
        submit a
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1
        get a
            c: a Leased g2 v2
    "#]]);
}

#[test]
fn a_report_that_is_sent_again_after_a_restart_is_answered_as_before() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=9
            w: welcome new leases []
        credit w 9
            w: done
        submit released failed cancelled given
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver released lease 1 attempt 1 delivery 1
            w: deliver failed lease 2 attempt 1 delivery 1
            w: deliver cancelled lease 3 attempt 1 delivery 1
            w: deliver given lease 4 attempt 1 delivery 1
        pause default
            w: signal TakenBack leases [4, 3, 2, 1] (the queue is paused)
            c: done
        start released
            w: Err((StaleLease, Some(Queued)))
        release released
            w: Ok(Queued)
        fail failed last
            w: Err((StaleLease, Some(Queued)))
        start cancelled
            w: Err((StaleLease, Some(Queued)))
        cancel cancelled
            c: ("cancelled", Revoked)
        release cancelled
            w: Ok(Revoked)
        release released
            w: Ok(Queued)
        release cancelled
            w: Ok(Revoked)
        restart
        connect w resume runs=job concurrency=9
            w: welcome back leases []
            w: order Resume
        release released
            w: Ok(Queued)
        start released
            w: Err((StaleLease, Some(Queued)))
        complete released
            w: Err((StaleLease, Some(Queued)))
        fail failed last
            w: Err((StaleLease, Some(Queued)))
        release cancelled
            w: Ok(Revoked)
        fail cancelled
            w: Err((StaleLease, Some(Revoked)))
    "#]]);
}
