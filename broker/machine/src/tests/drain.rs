//! A drain: nothing is delivered, submits and reports are taken, and a restart ends it.

use expect_test::expect;

use super::check;

#[test]
fn o22_a_drain_delivers_nothing_and_takes_submits_and_reports() {
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
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        submit c
            c: Created { state: Queued }
        start a
            w: Ok(Started)
        drain
            w: signal TakenBack leases [2] (the broker is drained)
            c: done
        info
            c: up 0ms since 1000000: connections 2 workers 1 lost 0 queues 1 mailboxes 0; ready 2 scheduled 0 leased 1 dead 0 ended 0 draining
        start b
            w: Err((StaleLease, Some(Queued)))
        submit d queue=songs
            c: Created { state: Queued }
        complete a
            w: Ok(Success)
        info
            c: up 0ms since 1000000: connections 2 workers 1 lost 0 queues 2 mailboxes 0; ready 3 scheduled 0 leased 0 dead 0 ended 1 draining
        credit w 10
            w: done
        after 1m beating=w
        drain off
            c: done
            w: deliver b lease 3 attempt 1 delivery 1 again
            w: deliver c lease 4 attempt 1 delivery 1
        info
            c: up 60000ms since 1000000: connections 2 workers 1 lost 0 queues 2 mailboxes 0; ready 1 scheduled 0 leased 2 dead 0 ended 1
        complete b
            w: Ok(Success)
    "#]]);
}

#[test]
fn o22_a_restart_ends_a_drain() {
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
        drain
            w: signal TakenBack leases [1] (the broker is drained)
            c: done
        submit b
            c: Created { state: Queued }
        restart
        connect c
            c: welcome new leases []
        info
            c: up 0ms since 1000000: connections 1 workers 0 lost 1 queues 1 mailboxes 0; ready 2 scheduled 0 leased 0 dead 0 ended 0
        connect w resume runs=job
            w: welcome back leases []
            w: order Resume
        credit w 2
            w: done
            w: deliver a lease 2 attempt 1 delivery 1 again
            w: deliver b lease 3 attempt 1 delivery 1
    "#]]);
}

#[test]
fn o22_a_drain_and_a_pause_are_two_things() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        drain
            c: done
        pause default
            c: done
        submit a
            c: Created { state: Queued }
        resume default
            c: done
        pause default
            c: done
        drain off
            c: done
        resume default
            c: done
            w: deliver a lease 1 attempt 1 delivery 1
    "#]]);
}

#[test]
fn o22_a_drain_that_ends_before_it_took_everything_back_leaves_the_rest() {
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
        drain
            w: signal TakenBack leases [1] (the broker is drained)
            c: done
        drain
            c: done
        drain off
            c: done
            w: deliver a lease 2 attempt 1 delivery 1 again
        drain off
            c: done
    "#]]);
}

#[test]
fn o22_a_task_that_becomes_due_or_is_taken_waits_for_the_end_of_the_drain() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a in=5s
            c: Created { state: Scheduled }
        drain
            c: done
        after 10s beating=w
        take w default 1
            w: count 0
        lose w
            w: closed
        after 20s
        drain off
            c: done
    "#]]);
}
