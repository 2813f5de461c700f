//! Delivery of tasks to workers: the order, the number of tasks, and the choice of the worker.

use expect_test::expect;

use super::check;

#[test]
fn a_task_is_delivered_started_and_completed() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        get a
            c: a Queued for Turn g1 v1
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        get a
            c: a Started g1 v3
        complete a
            w: Ok(Success)
        get a
            c: a Success g1 v4
    "#]]);
}

#[test]
fn tasks_are_served_by_priority_and_then_in_order() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit b1..b2 priority=9
            c: Created { state: Queued }, Created { state: Queued }
        credit w 5
            w: done
            w: deliver b1 lease 1 attempt 1 delivery 1
            w: deliver b2 lease 2 attempt 1 delivery 1
            w: deliver a1 lease 3 attempt 1 delivery 1
            w: deliver a2 lease 4 attempt 1 delivery 1
            w: deliver a3 lease 5 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_worker_gets_no_more_than_its_credit() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a1..a4
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        credit w 2
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        complete a1
            w: Ok(Success)
            w: deliver a3 lease 3 attempt 1 delivery 1
        credit w 0
            w: done
        complete a2
            w: Ok(Success)
        credit w 3
            w: done
            w: deliver a4 lease 4 attempt 1 delivery 1
    "#]]);
}

#[test]
fn idle_workers_come_before_those_that_would_only_hold_the_task() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w1 runs=job concurrency=1
            w1: welcome new leases []
        connect w2 runs=job concurrency=1
            w2: welcome new leases []
        credit w1 4
            w1: done
        submit a
            c: Created { state: Queued }
            w1: deliver a lease 1 attempt 1 delivery 1
        credit w2 4
            w2: done
        submit b
            c: Created { state: Queued }
            w2: deliver b lease 2 attempt 1 delivery 1
        submit d1..d2
            c: Created { state: Queued }, Created { state: Queued }
            w1: deliver d1 lease 3 attempt 1 delivery 1
            w2: deliver d2 lease 4 attempt 1 delivery 1
    "#]]);
}

#[test]
fn an_unstarted_lease_is_taken_back_for_an_idle_worker() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=1
            w: welcome new leases []
        credit w 3
            w: done
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        connect v runs=job concurrency=1
            v: welcome new leases []
        credit v 3
            v: done
        after 100ms
            w: signal TakenBack leases [3] (another worker is idle)
            v: deliver a3 lease 4 attempt 1 delivery 1 again
        start a2 by=w
            w: Ok(Started)
        start a3 by=v
            v: Ok(Started)
    "#]]);
}

#[test]
fn what_a_worker_holds_that_came_back_is_taken_back_too() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=1
            w: welcome new leases []
        credit w 2
            w: done
        submit a1..a2
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        lose w
            w: closed
        after 1s
        connect w resume runs=job concurrency=1
            w: welcome back leases [1, 2]
            w: order Resume
            w: deliver a2 lease 2 attempt 1 delivery 1
        connect v runs=job concurrency=1
            v: welcome new leases []
        credit v 1
            v: done
        after 100ms
            w: signal TakenBack leases [2] (another worker is idle)
            v: deliver a2 lease 3 attempt 1 delivery 1 again
    "#]]);
}

#[test]
fn queues_are_served_by_weight() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a6 queue=a
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit b1..b6 queue=b
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        connect w runs=job queues=a:2,b:1
            w: welcome new leases []
        credit w 6
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver b1 lease 2 attempt 1 delivery 1
            w: deliver a2 lease 3 attempt 1 delivery 1
            w: deliver a3 lease 4 attempt 1 delivery 1
            w: deliver b2 lease 5 attempt 1 delivery 1
            w: deliver a4 lease 6 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_name_that_nobody_runs_waits_and_blocks_nobody() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit strange name=unheard-of
            c: Created { state: Queued }
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        get strange
            c: strange Queued for Worker g1 v1
        connect v runs=unheard-of
            v: welcome new leases []
        credit v 1
            v: done
            v: deliver strange lease 2 attempt 1 delivery 1
    "#]]);
}

#[test]
fn queues_of_equal_weight_take_turns() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a3 queue=a
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit b1..b3 queue=b
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        connect w runs=job queues=a,b
            w: welcome new leases []
        credit w 6
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver b1 lease 2 attempt 1 delivery 1
            w: deliver a2 lease 3 attempt 1 delivery 1
            w: deliver b2 lease 4 attempt 1 delivery 1
            w: deliver a3 lease 5 attempt 1 delivery 1
            w: deliver b3 lease 6 attempt 1 delivery 1
    "#]]);
}

#[test]
fn an_urgent_task_goes_before_all_that_wait() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a1..a9 priority=0
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit urgent priority=9
            c: Created { state: Queued }
        credit w 1
            w: done
            w: deliver urgent lease 1 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_started_lease_is_never_taken_back() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=1
            w: welcome new leases []
        credit w 2
            w: done
        submit a1..a2
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        start a2
            w: Ok(Started)
        connect v runs=job concurrency=1
            v: welcome new leases []
        credit v 2
            v: done
        after 1s
        beat w
            w: heartbeat
        complete a2
            w: Ok(Success)
    "#]]);
}
