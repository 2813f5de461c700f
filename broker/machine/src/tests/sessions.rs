//! A worker's session and its orders survive a lost connection and a restart of the broker.

use expect_test::expect;

use super::check;

#[test]
fn a_worker_without_leases_keeps_its_session_over_a_restart_of_the_broker() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        connect v runs=job
            v: welcome new leases []
        quiet v
            v: order Quiet
            c: count 1
        restart
        connect c
            c: welcome new leases []
        connect w resume runs=job
            w: welcome back leases []
            w: order Resume
        connect v resume runs=job
            v: welcome back leases []
            v: order Quiet
        submit a
            c: Created { state: Queued }
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        credit v 1
            v: done
        submit b
            c: Created { state: Queued }
        restart
        after 15s
        connect v resume runs=job
            v: welcome new leases []
        restart
        connect w resume runs=job
            w: welcome new leases []
    "#]]);
}

#[test]
fn an_order_reaches_a_worker_whose_connection_was_lost_when_it_was_given() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        lose w
            w: closed
        shutdown
            c: count 1
        connect w resume runs=job
            w: welcome back leases []
            w: order Shutdown
        lose w
            w: closed
        wake w
            c: count 1
        connect w resume runs=job
            w: welcome back leases []
            w: order Resume
    "#]]);
}

#[test]
fn an_order_that_was_given_before_a_lost_worker_resumed_reaches_it_over_a_restart_too() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        quiet w
            w: order Quiet
            c: count 1
        lose w
            w: closed
        wake w
            c: count 1
        connect w resume runs=job
            w: welcome back leases []
            w: order Resume
        lose w
            w: closed
        restart
        connect c
            c: welcome new leases []
        quiet w
            c: count 1
        connect w resume runs=job
            w: welcome back leases []
            w: order Quiet
        after 16s
            w: closing SessionLost: nothing was heard for the lease time
            w: closed
        connect w resume runs=job
            w: welcome new leases []
    "#]]);
}

#[test]
fn only_a_worker_resumes_and_only_the_session_of_a_worker() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        connect c resume
            c: welcome new leases []
        connect d resume runs=job
            d: welcome new leases []
        lose w
            w: closed
        connect w resume
            w: welcome new leases []
        connect w resume runs=job
            w: welcome back leases [1]
            w: order Resume
            w: deliver a lease 1 attempt 1 delivery 1
        workers by=d
            d: workers [w runs ["job"], d runs ["job"]]
    "#]]);
}

#[test]
fn lost_workers_are_listed_until_their_sessions_are_over_also_after_a_restart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        lose w
            w: closed
        workers
            c: workers [w runs ["job"] lost]
        restart
        connect c
            c: welcome new leases []
        workers
            c: workers [w runs [] lost]
        connect w resume runs=job
            w: welcome back leases []
            w: order Resume
        workers
            c: workers [w runs ["job"]]
        lose w
            w: closed
        restart
        after 15s
        connect c
            c: welcome new leases []
        workers
            c: workers []
    "#]]);
}
