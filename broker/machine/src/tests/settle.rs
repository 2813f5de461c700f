//! Scripts of `Settle`: a worker that acknowledges a task before its handler runs. The lease leaves
//! the credit, and the task never runs a second time.

use expect_test::expect;

use super::*;

#[test]
fn a_settled_lease_does_not_count_against_the_credit() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a b c
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        settle a
            w: Ok(Started)
            w: deliver b lease 2 attempt 1 delivery 1
        settle a
            w: Ok(Started)
        settle b
            w: Ok(Started)
            w: deliver c lease 3 attempt 1 delivery 1
        credit w 0
            w: done
        complete a
            w: Ok(Success)
        credit w 1
            w: done
        complete b
            w: Ok(Success)
        complete c
            w: Ok(Success)
        get a b c
            c: a Success g1 v4, b Success g1 v4, c Success g1 v4
    "#]]);
}

#[test]
fn a_settled_task_of_a_lost_worker_fails_and_never_runs_again() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit a b
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
            w: deliver b lease 2 attempt 1 delivery 1
        settle a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect v runs=job
            v: welcome new leases []
        credit v 2
            v: done
            v: deliver b lease 3 attempt 1 delivery 1 again
        get a b
            c: a Failure g1 v4, b Leased g1 v4
    "#]]);
}

#[test]
fn a_settled_task_ends_however_its_worker_lets_go_of_it() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a b c d e attempts=4
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        settle a
            w: Ok(Started)
            w: deliver b lease 2 attempt 1 delivery 1
        settle b
            w: Ok(Started)
            w: deliver c lease 3 attempt 1 delivery 1
        settle c
            w: Ok(Started)
            w: deliver d lease 4 attempt 1 delivery 1
        settle d
            w: Ok(Started)
            w: deliver e lease 5 attempt 1 delivery 1
        settle e
            w: Ok(Started)
        fail a
            w: Ok(Failure)
        release b
            w: Ok(Failure)
        again c in=1s
            w: Ok(Failure)
        release d lost
            w: Ok(Failure)
        release e not_begun
            w: Ok(Queued)
            w: deliver e lease 6 attempt 1 delivery 1 again
        get a b c d e
            c: a Failure g1 v4, b Failure g1 v4, c Failure g1 v4, d Failure g1 v4, e Leased g1 v5
    "#]]);
}

#[test]
fn a_started_task_can_be_settled_later() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a b
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        settle a
            w: Ok(Started)
            w: deliver b lease 2 attempt 1 delivery 1
        get a
            c: a Started g1 v4
        bye w
            w: done
            w: closed
        get a b
            c: a Failure g1 v5, b Queued for Worker g1 v3
    "#]]);
}

#[test]
fn a_settled_lease_stays_settled_over_a_restart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a b
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        settle a
            w: Ok(Started)
            w: deliver b lease 2 attempt 1 delivery 1
        restart
        connect c
            c: welcome new leases []
        connect w runs=job resume
            w: welcome back leases [1, 2]
            w: order Resume
            w: deliver b lease 2 attempt 1 delivery 1
        credit w 1
            w: done
        settle a
            w: Ok(Started)
        get a
            c: a Started g1 v3
        restart
        after 15s
        connect c
            c: welcome new leases []
        get a b
            c: a Failure g1 v4, b Queued for Worker g1 v3
    "#]]);
}

#[test]
fn a_settle_that_comes_after_the_end_counts_once() {
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
        settle a
            w: Ok(Started)
        complete a
            w: Ok(Success)
        settle a
            w: Ok(Success)
        start a
            w: Ok(Success)
        complete a
            w: Ok(Success)
        get a
            c: a Success g1 v4
    "#]]);
}

#[test]
fn a_suspect_that_is_settled_still_runs_alone() {
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
        lose w
            w: closed
        after 15s
        connect v runs=job
            v: welcome new leases []
        credit v 2
            v: done
            v: deliver a lease 2 attempt 2 delivery 2 report start again
        submit b
            c: Created { state: Queued }
        settle a
            v: Ok(Started)
        complete a
            v: Ok(Success)
            v: deliver b lease 3 attempt 1 delivery 1
    "#]]);
}
