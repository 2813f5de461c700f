//! Tasks whose end a worker announces when they do not begin.

use expect_test::expect;

use super::check;

#[test]
fn a_cancelled_task_is_handed_out_so_that_its_end_is_announced() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        watch c a
            c: watching c unknown, a unknown
        submit a in=1h announce=yes
            c: sees a Scheduled for Time g1 v1
            c: Created { state: Scheduled }
        cancel a
            c: sees a Queued for Turn g1 v2
            c: ("a", Revoked)
        cancel a
            c: ("a", Revoked)
        get a
            c: a Queued for Turn g1 v2
        credit w 1
            w: done
            c: sees a Leased g1 v3
            w: deliver a lease 1 attempt 1 delivery 1 called off (cancelled)
        complete a
            c: sees a Started g1 v4
            c: sees a Revoked g1 v5
            w: Ok(Revoked)
        complete a
            w: Ok(Revoked)
        get a
            c: a Revoked g1 v5
    "#]]);
}

#[test]
fn an_expired_task_is_handed_out_so_that_its_end_is_announced() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a expires=5s announce=yes
            c: Created { state: Queued }
        after 6s
        get a
            c: a Queued for Worker g1 v2
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1 called off (expired)
        fail a
            w: Ok(Revoked)
        get a
            c: a Revoked g1 v5
    "#]]);
}

#[test]
fn the_announcement_is_handed_out_again_when_its_worker_is_lost_or_gives_it_back() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a announce=yes
            c: Created { state: Queued }
        cancel a reason=stop
            c: ("a", Revoked)
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1 called off (stop)
        release a
            w: Ok(Queued)
            w: deliver a lease 2 attempt 1 delivery 1 again called off (stop)
        release a lost
            w: Ok(Queued)
            w: deliver a lease 3 attempt 2 delivery 2 again called off (stop)
        restart
        connect c
            c: welcome new leases []
        connect w resume runs=job
            w: welcome back leases [3]
            w: order Resume
            w: deliver a lease 3 attempt 2 delivery 2 again called off (stop)
        credit w 1
            w: done
        complete a
            w: Ok(Revoked)
        get a
            c: a Revoked g1 v10
    "#]]);
}

#[test]
fn a_worker_that_holds_the_task_is_told_and_keeps_the_lease() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a announce=yes
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        get a
            c: a Leased g1 v3
        release a
            w: Ok(Queued)
            w: deliver a lease 2 attempt 1 delivery 1 again called off (cancelled)
        complete a
            w: Ok(Revoked)
        get a
            c: a Revoked g1 v7
        submit b announce=yes
            c: Created { state: Queued }
            w: deliver b lease 3 attempt 1 delivery 1
        start b
            w: Ok(Started)
        cancel b
            w: signal Cooperative leases [3] (cancelled)
            c: ("b", Signalled)
        complete b
            w: Ok(Success)
        submit d announce=yes expires=1s
            c: Created { state: Queued }
            w: deliver d lease 4 attempt 1 delivery 1
        after 2s beating=w
            w: signal Cooperative leases [4] (expired)
        complete d
            w: Ok(Success)
    "#]]);
}

#[test]
fn a_worker_that_is_lost_with_a_cancelled_task_leaves_the_announcement_to_another() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a announce=yes
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        lose w
            w: closed
        after 15s
        connect v runs=job
            v: welcome new leases []
        credit v 1
            v: done
            v: deliver a lease 2 attempt 2 delivery 2 again called off (cancelled)
        complete a
            v: Ok(Revoked)
        get a
            c: a Revoked g1 v8
    "#]]);
}

#[test]
fn a_retry_of_a_cancelled_run_is_announced_too() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a announce=yes
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        cancel a waiting
            c: ("a", LeftRunning)
        submit a announce=yes conflict=supersede lease=1 in=1h
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1 called off (cancelled)
        complete a
            w: Ok(Revoked)
        get a
            c: a Revoked g2 v5
    "#]]);
}

#[test]
fn a_purge_ends_it_without_an_announcement() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a announce=yes
            c: Created { state: Queued }
        purge default
            c: count 1
        get a
            c: a Revoked g1 v2
    "#]]);
}

#[test]
fn a_task_that_was_called_off_comes_back_from_its_worker_as_called_off() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        connect v runs=job
            v: welcome new leases []
        credit w 1
            w: done
        submit a announce=yes
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        cancel a
            w: signal Cooperative leases [1] (cancelled)
            c: ("a", Signalled)
        bye w
            w: done
            w: closed
        credit v 1
            v: done
            v: deliver a lease 2 attempt 1 delivery 1 again called off (cancelled)
        complete a
            v: Ok(Revoked)
        get a
            c: a Revoked g1 v7
        submit b announce=yes
            c: Created { state: Queued }
            v: deliver b lease 3 attempt 1 delivery 1
        submit d announce=yes
            c: Created { state: Queued }
        cancel b
            v: signal Cooperative leases [3] (cancelled)
            c: ("b", Signalled)
        pause default
            v: signal TakenBack leases [3] (the queue is paused)
            c: done
        resume default
            c: done
            v: deliver b lease 4 attempt 1 delivery 1 again called off (cancelled)
    "#]]);
}
