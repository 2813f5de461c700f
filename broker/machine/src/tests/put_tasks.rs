//! Put tasks: ended tasks that never ran, because a client put their outcome.

use expect_test::expect;

use super::check;

#[test]
fn an_unknown_id_gets_an_ended_task_that_never_ran() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        watch a
            c: watching a unknown
        put a state=SUCCESS bytes=9
            c: sees a Success g1 v2
            c: Success g1
        stored a
            Success v2 as celeriac.outcome, result 9
        put a state=SUCCESS
            c: Success g1
        put a state=FAILURE
            c: Success g1
        get a
            c: a Success g1 v2
        put b state=FAILURE error=broken
            c: Failure g1
        put d state=REVOKED
            c: Revoked g1
        stored d
            Revoked v2 as celeriac.outcome, result 2, because revoked
        restart
        connect c
            c: welcome new leases []
        get a b d
            c: a Success g1 v2, b Failure g1 v2, d Revoked g1 v2
        queues
            c: celeriac.outcomes: ready 0 scheduled 0 leased 0 dead 1; default: ready 0 scheduled 0 leased 0 dead 0
        list prefix=a
            c: page a Success g1 v2 next None
        forget a
            c: Ok(())
        get a
            c: a unknown
        submit a
            c: Created { state: Queued }
        replay b
            c: count 0
        replay all
            c: count 0
        discard all
            c: count 1
        get b
            c: b unknown
        queues
            c: default: ready 1 scheduled 0 leased 0 dead 0
        after 1d
        get d
            c: d unknown
    "#]]);
}

#[test]
fn a_failure_is_followed_by_the_next_generation_of_its_id() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        watch a
            c: watching a unknown
        put a state=FAILURE error=one
            c: sees a Failure g1 v2
            c: Failure g1
        put a state=FAILURE error=two bytes=1
            c: sees a Failure g2 v2
            c: Failure g2
        stored a
            Failure v2 as celeriac.outcome, error two, result 1
        put a state=REVOKED
            c: sees a Revoked g3 v2
            c: Revoked g3
        put a state=SUCCESS
            c: sees a Success g4 v2
            c: Success g4
        stored a
            Success v2 as celeriac.outcome, result 2
        put a state=FAILURE
            c: Success g4
        restart
        connect c
            c: welcome new leases []
        get a
            c: a Success g4 v2
        submit a
            c: NewGeneration { generation: 5, state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        fail a last
            w: Ok(Failure)
        put a leased=1 state=FAILURE
            c: Failure g5
        put a leased=1 state=SUCCESS
            c: StaleLease Some(Failure): the run of this lease is over, and the task has ended otherwise
        put a state=SUCCESS
            c: Success g6
        stored a
            Success v2 as celeriac.outcome, result 2
    "#]]);
}

#[test]
fn another_outcome_takes_the_place_of_a_progress_that_nothing_runs() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        put a state=SAVED bytes=300
            c: Success g1
        stored a
            Success v2 as celeriac.progress, SAVED 0 bytes, result 300
        put a state=SAVED bytes=400
            c: Success g2
        restart
        connect c
            c: welcome new leases []
        put a state=SUCCESS bytes=5
            c: Success g3
        stored a
            Success v2 as celeriac.outcome, result 5
        put a state=SAVED
            c: Success g3
        get a
            c: a Success g3 v2
    "#]]);
}

#[test]
fn a_task_that_was_forgotten_at_its_early_end_is_told_of_under_its_lease() {
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
        complete a ttl=0ms
            w: Ok(Success)
        put a lease=1 state=STARTED
            c: Success g1
        stored a
            Success v2 as celeriac.progress, STARTED 0 bytes, result 2
        submit a conflict=supersede lease=1 in=1s
            c: NewGeneration { generation: 2, state: Scheduled }
        put a lease=1 state=RETRY
            c: Scheduled g2
        stored a
            Scheduled v2 as job, RETRY 2 bytes
        after 1s
            w: deliver a lease 2 attempt 1 delivery 1
        complete a ttl=0ms
            w: Ok(Success)
        put a lease=2 state=STARTED
            c: Success g1
        put a lease=2 state=FAILURE error=broken
            c: Failure g2
        put a lease=2 state=FAILURE error=broken
            c: Failure g2
        put a lease=1 state=SUCCESS
            c: StaleLease Some(Failure): the run of this lease is over, and the task has ended otherwise
        put a lease=2 state=STARTED
            c: Success g3
        put a lease=1 state=SUCCESS
            c: StaleLease Some(Success): the run of this lease is over, and the task has ended otherwise
        put a lease=2 state=SUCCESS
            c: Success g4
        stored a
            Success v2 as celeriac.outcome, result 2
        get a
            c: a Success g4 v2
    "#]]);
}

#[test]
fn a_ttl_of_zero_keeps_nothing() {
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
        watch b d
            c: watching b unknown, d unknown
        put b state=SUCCESS ttl=0ms
            c: Success g1
        get b
            c: b unknown
        put d state=FAILURE
            c: sees d Failure g1 v2
            c: Failure g1
        put d state=SUCCESS ttl=0ms
            c: sees d unknown
            c: Success g2
        get d
            c: d unknown
        put a leased=1 state=SUCCESS ttl=0ms
            c: Success g1
        get a
            c: a unknown
        submit e in=1h
            c: Created { state: Scheduled }
        put e state=FAILURE ttl=0ms
            c: Failure g1
        get e
            c: e Failure g1 v2
        put f state=SUCCESS ttl=3s
            c: Success g1
        after 2s
        get f
            c: f Success g1 v2
        after 1s
        get f
            c: f unknown
    "#]]);
}

#[test]
fn a_full_disk_takes_outcomes_of_tasks_and_makes_no_new_ones() {
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
        put b state=FAILURE
            c: Failure g1
        disk full
        put a leased=1 state=SUCCESS
            c: Success g1
        put d state=SUCCESS
            c: DiskFull None: the broker's disk is nearly full, so it takes no new tasks: make room on it, or submit later
        put b state=SUCCESS
            c: DiskFull Some(Failure): the broker's disk is nearly full, so it takes no new tasks: make room on it, or submit later
        get a b d
            c: a Success g1 v4, b Failure g1 v2, d unknown
    "#]]);
}

#[test]
fn a_batch_of_outcomes_is_put_in_order() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        put a1..a3 state=SUCCESS
            c: Success g1, Success g1, Success g1
        get a1 a2 a3
            c: a1 Success g1 v2, a2 Success g1 v2, a3 Success g1 v2
        wait a1 a2 for=5s
            c: came: a1 Success g1 v2, a2 Success g1 v2
    "#]]);
}
