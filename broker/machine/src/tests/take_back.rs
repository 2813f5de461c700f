//! The broker takes tasks that have not begun back from their workers when it pauses, purges or
//! deletes their queue.

use expect_test::expect;

use super::check;

#[test]
fn a_pause_takes_back_what_has_not_begun_in_order() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job concurrency=4
            w: welcome new leases []
        connect v runs=job concurrency=4
            v: welcome new leases []
        credit w 2
            w: done
        credit v 2
            v: done
        submit a1..a6
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
            v: deliver a2 lease 2 attempt 1 delivery 1
            v: deliver a4 lease 4 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        pause default
            w: signal TakenBack leases [3] (the queue is paused)
            v: signal TakenBack leases [4, 2] (the queue is paused)
            c: done
        get a1 a2 a3 a4 a5 a6
            c: a1 Started g1 v3, a2 Queued for Queue g1 v3, a3 Queued for Queue g1 v3, a4 Queued for Queue g1 v3, a5 Queued for Queue g1 v1, a6 Queued for Queue g1 v1
        start a2
            v: Err((StaleLease, Some(Queued)))
        complete a1
            w: Ok(Success)
        connect u runs=job concurrency=9
            u: welcome new leases []
        credit u 9
            u: done
        resume default
            c: done
            w: deliver a3 lease 6 attempt 1 delivery 1 again
            w: deliver a6 lease 9 attempt 1 delivery 1
            v: deliver a4 lease 7 attempt 1 delivery 1 again
            u: deliver a2 lease 5 attempt 1 delivery 1 again
            u: deliver a5 lease 8 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_pause_takes_back_from_a_worker_that_is_away_also_after_a_restart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
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
        pause default
            c: done
        get a1 a2
            c: a1 Started g1 v3, a2 Queued for Queue g1 v3
        connect w runs=job resume
            w: welcome back leases [1]
            w: order Resume
        restart
        connect c
            c: welcome new leases []
        pause default
            c: done
        connect w runs=job resume
            w: welcome back leases [1]
            w: order Resume
        get a1 a2
            c: a1 Started g1 v3, a2 Queued for Queue g1 v3
        resume default
            c: done
    "#]]);
}

#[test]
fn a_purge_and_a_delete_take_back_what_has_not_begun() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=songs concurrency=4
            w: welcome new leases []
        credit w 4
            w: done
        submit a1..a2 queue=songs
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        submit other
            c: Created { state: Queued }
        purge songs
            w: signal TakenBack leases [1, 2] (purged)
            c: count 2
        start a1
            w: Err((StaleLease, Some(Revoked)))
        get a1 a2 other
            c: a1 Revoked g1 v3, a2 Revoked g1 v3, other Queued for Worker g1 v1
        submit b1 queue=songs
            c: Created { state: Queued }
            w: deliver b1 lease 3 attempt 1 delivery 1
        lose w
            w: closed
        delete songs
            c: count 1
        connect w runs=job queues=songs resume
            w: welcome back leases []
            w: order Resume
        submit d queue=songs
            c: Created { state: Queued }
        credit w 1
            w: done
            w: deliver d lease 4 attempt 1 delivery 1
        start d
            w: Ok(Started)
        delete songs
            c: refused NotFinished: tasks of the queue `songs` are running
        get d
            c: d Started g1 v3
    "#]]);
}

#[test]
fn a_pause_after_a_restart_takes_back_what_its_holder_has_not_come_back_to() {
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
        restart
        connect c
            c: welcome new leases []
        pause default
            c: done
        get a
            c: a Queued for Queue g1 v3
        connect w runs=job resume
            w: welcome back leases []
            w: order Resume
        credit w 1
            w: done
        resume default
            c: done
            w: deliver a lease 2 attempt 1 delivery 1 again
    "#]]);
}
