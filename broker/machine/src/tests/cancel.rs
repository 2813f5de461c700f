//! Cancels of tasks: waiting tasks, running tasks, trees of tasks, and tasks with a tag.

use expect_test::expect;

use super::check;

#[test]
fn a_waiting_task_is_cancelled_for_good_with_no_worker_up() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit b in=1h
            c: Created { state: Scheduled }
        cancel a b
            c: ("a", Revoked), ("b", Revoked)
        restart
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        after 2h
            w: closing SessionLost: nothing was heard for the lease time
            w: closed
        get a b
            c: a Revoked g1 v2, b Revoked g1 v2
    "#]]);
}

#[test]
fn a_running_task_is_told_and_its_worker_decides() {
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
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        fail a
            w: Ok(Revoked)
        get a
            c: a Revoked g1 v5
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        start b
            w: Ok(Started)
        cancel b
            w: signal Cooperative leases [2] (cancelled)
            c: ("b", Signalled)
        complete b
            w: Ok(Success)
        get b
            c: b Success g1 v5
    "#]]);
}

#[test]
fn a_forced_cancel_revokes_the_lease_after_its_grace() {
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
        cancel a force grace=3s
            w: signal Force leases [1] (cancelled)
            c: ("a", Signalled)
        after 3s
        complete a
            w: Err((StaleLease, Some(Revoked)))
        get a
            c: a Revoked g1 v5
    "#]]);
}

#[test]
fn a_cancelled_task_whose_worker_is_lost_does_not_run_again() {
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
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        restart
        connect c
            c: welcome new leases []
        after 15s
        get a
            c: a Revoked g1 v5
    "#]]);
}

#[test]
fn a_tree_and_a_tag_are_cancelled_as_a_whole() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit r
            c: Created { state: Queued }
        submit r1..r2 root=r
            c: Created { state: Queued }, Created { state: Queued }
        submit t1..t2 tag=night
            c: Created { state: Queued }, Created { state: Queued }
        cancel root=r
            c: ("r", Revoked), ("r1", Revoked), ("r2", Revoked)
        cancel tag=night
            c: ("t1", Revoked), ("t2", Revoked)
    "#]]);
}

#[test]
fn a_cancel_says_per_id_what_it_did() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit ended
            c: Created { state: Queued }
            w: deliver ended lease 1 attempt 1 delivery 1
        complete ended
            w: Ok(Success)
        submit running
            c: Created { state: Queued }
            w: deliver running lease 2 attempt 1 delivery 1
        start running
            w: Ok(Started)
        submit later in=1h
            c: Created { state: Scheduled }
        submit waiting name=other
            c: Created { state: Queued }
        cancel ended running later waiting nobody
            c: ("ended", AlreadyEnded), ("running", LeftRunning), ("later", Revoked), ("nobody", NotFound)
        get ended running later waiting
            c: ended Success g1 v4, running Started g1 v4, later Revoked g1 v2
        restart
        connect c
            c: welcome new leases []
        get ended later waiting
            c: ended Success g1 v4, later Revoked g1 v2
    "#]]);
}

#[test]
fn a_forced_cancel_takes_the_task_from_its_worker_over_a_restart_too() {
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
        start a
            w: Ok(Started)
        start b
            w: Ok(Started)
        cancel a force grace=5s reason=tired
            w: signal Force leases [1] (tired)
            c: ("a", Signalled)
        cancel b force grace=20s
            w: signal Force leases [2] (cancelled)
            c: ("b", Signalled)
        progress b
            w: Ok(Started)
        restart
        connect w resume runs=job
            w: welcome back leases [1, 2]
            w: order Resume
            w: signal Force leases [1] (tired)
            w: signal Force leases [2] (cancelled)
        after 6s
        connect c
            c: welcome new leases []
        get a b
            c: a Revoked g1 v5, b Started g1 v5
        restart
        connect w resume runs=job
            w: welcome back leases [2]
            w: order Resume
            w: signal Force leases [2] (cancelled)
        after 10s
        connect w resume runs=job
            w: closing SessionLost: another connection took the session over
            w: closed
            w: welcome back leases [2]
            w: order Resume
            w: signal Force leases [2] (cancelled)
        after 6s
        connect c
            c: welcome new leases []
        get b
            c: b Revoked g1 v6
    "#]]);
}

#[test]
fn a_cancel_reaches_a_worker_that_was_away_also_over_a_restart() {
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
        lose w
            w: closed
        cancel a reason=tired
            c: ("a", Signalled)
        connect w resume runs=job
            w: welcome back leases [1]
            w: order Resume
            w: signal Cooperative leases [1] (tired)
        restart
        connect w resume runs=job
            w: welcome back leases [1]
            w: order Resume
            w: signal Cooperative leases [1] (tired)
        release a
            w: Ok(Revoked)
        connect c
            c: welcome new leases []
        get a
            c: a Revoked g1 v5
    "#]]);
}

#[test]
fn a_cancel_of_what_waits_leaves_a_running_task_alone_and_it_does_not_run_again() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 3
            w: done
        submit a b d
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
            w: deliver b lease 2 attempt 1 delivery 1
            w: deliver d lease 3 attempt 1 delivery 1
        submit e in=1h
            c: Created { state: Scheduled }
        start a
            w: Ok(Started)
        start b
            w: Ok(Started)
        start d
            w: Ok(Started)
        watch a
            c: watching a Started g1 v3
        cancel a b d e nobody waiting reason=enough
            c: sees a Started g1 v4
            c: ("a", LeftRunning), ("b", LeftRunning), ("d", LeftRunning), ("e", Revoked), ("nobody", NotFound)
        cancel a waiting
            c: ("a", LeftRunning)
        fail a
            c: sees a Revoked g1 v5
            w: Ok(Revoked)
        complete b
            w: Ok(Success)
        lose w
            w: closed
        restart
        connect c
            c: welcome new leases []
        connect w runs=job resume
            w: welcome back leases [3]
            w: order Resume
        cancel d
            w: signal Cooperative leases [3] (cancelled)
            c: ("d", Signalled)
        lose w
            w: closed
        after 15s
        get a b d e
            c: a Revoked g1 v5, b Success g1 v5, d Revoked g1 v6, e Revoked g1 v2
    "#]]);
}

#[test]
fn a_cancel_that_tells_the_worker_follows_one_that_does_not() {
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
        cancel a waiting
            c: ("a", LeftRunning)
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        cancel a waiting
            c: ("a", LeftRunning)
        lose w
            w: closed
        connect w runs=job resume
            w: welcome back leases [1]
            w: order Resume
            w: signal Cooperative leases [1] (cancelled)
        release a
            w: Ok(Revoked)
    "#]]);
}
