//! Lists of workers for an operator, and orders to workers.

use expect_test::expect;

use super::check;

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
            c: b Queued for Worker g1 v1
    "#]]);
}

#[test]
fn a_worker_that_was_quiet_works_again_when_it_is_told_to() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        quiet w
            w: order Quiet
            c: count 1
        submit a
            c: Created { state: Queued }
        wake w
            w: order Resume
            c: count 1
            w: deliver a lease 1 attempt 1 delivery 1
    "#]]);
}

#[test]
fn every_worker_is_told_to_shut_down() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        connect v runs=job
            v: welcome new leases []
        shutdown
            w: order Shutdown
            v: order Shutdown
            c: count 2
    "#]]);
}

#[test]
fn each_lost_attempt_is_among_the_errors_of_its_task() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a
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
        stored a
            Queued v4 as job, error the worker w was silent for 15 s of w 15000 ms 15000 ms
        connect v runs=job
            v: welcome new leases []
        credit v 1
            v: done
            v: deliver a lease 2 attempt 2 delivery 2 again
        start a
            v: Ok(Started)
        release a lost
            v: Ok(Queued)
            v: deliver a lease 3 attempt 3 delivery 3 report start again
        stored a
            Leased v8 as job, error the worker w was silent for 15 s of w 15000 ms 15000 ms, error the process of the handler on v died of v 0 ms 0 ms
        start a
            v: Ok(Started)
        bye v
            v: done
            v: closed
        stored a
            Queued v10 as job, error the worker w was silent for 15 s of w 15000 ms 15000 ms, error the process of the handler on v died of v 0 ms 0 ms, error the worker v ended before the task did of v 0 ms 0 ms
    "#]]);
}
