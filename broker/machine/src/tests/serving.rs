//! Workers that change what they serve, take tasks by a request, run any name, or keep what they
//! were handed.

use expect_test::expect;

use super::check;

#[test]
fn a_worker_adds_and_removes_queues_while_it_is_connected() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=one
            w: welcome new leases []
        credit w 9
            w: done
        submit a queue=two
            c: Created { state: Queued }
        serve w queues=two
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        submit b queue=two
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        serve w without=two
            w: done
        submit d queue=two
            c: Created { state: Queued }
        complete a
            w: Ok(Success)
        complete b
            w: Ok(Success)
        get d
            c: d Queued for Worker g1 v1
        workers
            c: workers [w runs ["job"]]
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0; one: ready 0 scheduled 0 leased 0 dead 0; two: ready 1 scheduled 0 leased 0 dead 0
        serve w without=two,three
            w: done
        connect w resume runs=job queues=one
            w: closing SessionLost: another connection took the session over
            w: closed
            w: welcome back leases []
            w: order Resume
        get d
            c: d Queued for Worker g1 v1
    "#]]);
}

#[test]
fn a_worker_adds_and_removes_names_while_it_is_connected() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 9
            w: done
        submit a name=song
            c: Created { state: Queued }
        serve w names=song,song
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        submit b name=job
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        serve w forgets=job,never
            w: done
        submit d name=job
            c: Created { state: Queued }
        get d
            c: d Queued for Worker g1 v1
        workers
            c: workers [w runs ["song"]]
    "#]]);
}

#[test]
fn only_a_worker_serves_and_takes() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        serve c queues=two
            c: refused InvalidArgument: only a worker serves queues and takes tasks
        take c default
            c: refused InvalidArgument: only a worker serves queues and takes tasks
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
    "#]]);
}

#[test]
fn a_worker_of_any_name_takes_what_no_other_can_run() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a name=song
            c: Created { state: Queued }
        submit b name=job
            c: Created { state: Queued }
        connect w runs=job any
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        complete a
            w: Ok(Success)
            w: deliver b lease 2 attempt 1 delivery 1
        restart
        connect c
            c: welcome new leases []
        connect w resume runs=job
            w: welcome back leases [2]
            w: order Resume
            w: deliver b lease 2 attempt 1 delivery 1
        get b
            c: b Leased g1 v2
    "#]]);
}

#[test]
fn a_worker_takes_ready_tasks_outside_its_credit_queues_and_names() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=one
            w: welcome new leases []
        submit a1..a3 queue=two name=song
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit d queue=two in=1h
            c: Created { state: Scheduled }
        take w two
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: count 1
        take w two count=9
            w: deliver a2 lease 2 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
            w: count 2
        take w two
            w: count 0
        take w none
            w: count 0
        credit w 1
            w: done
        submit e queue=one
            c: Created { state: Queued }
            w: deliver e lease 4 attempt 1 delivery 1
        submit f queue=one
            c: Created { state: Queued }
        complete a1
            w: Ok(Success)
        complete e
            w: Ok(Success)
            w: deliver f lease 5 attempt 1 delivery 1
        complete f
            w: Ok(Success)
        settle a2
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        get a2 a3
            c: a2 Failure g1 v4, a3 Queued for Worker g1 v3
    "#]]);
}

#[test]
fn nothing_is_taken_from_a_paused_queue_nor_by_a_quiet_worker_and_nothing_expired() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=one
            w: welcome new leases []
        submit a queue=two expires=1s
            c: Created { state: Queued }
        submit b queue=two
            c: Created { state: Queued }
        pause two
            c: done
        take w two
            w: count 0
        resume two
            c: done
        quiet w
            w: order Quiet
            c: count 1
        take w two
            w: count 0
        wake w
            w: order Resume
            c: count 1
        after 1s
        take w two count=2
            w: deliver b lease 1 attempt 1 delivery 1
            w: count 1
        get a b
            c: a Revoked g1 v2, b Leased g1 v2
    "#]]);
}

#[test]
fn a_worker_that_keeps_its_leases_gives_none_back_for_an_idle_one_or_a_pause() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job keeps
            w: welcome new leases []
        connect v runs=job
            v: welcome new leases []
        credit w 3
            w: done
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
        credit v 3
            v: done
        after 1s beating=w
        pause default
            c: done
        get a1 a2 a3
            c: a1 Leased g1 v2, a2 Leased g1 v2, a3 Leased g1 v2
        cancel a2
            w: signal TakenBack leases [2] (cancelled)
            c: ("a2", Revoked)
        restart
        connect c
            c: welcome new leases []
        get a1 a2 a3
            c: a1 Leased g1 v2, a2 Revoked g1 v3, a3 Leased g1 v2
    "#]]);
}
