//! Dead tasks: the broker keeps tasks that failed for good.

use expect_test::expect;

use super::check;

#[test]
fn a_dead_task_runs_again_as_a_new_generation_or_is_discarded() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=1
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1 report start
        fail a
            w: Ok(Failure)
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        fail b last
            w: Ok(Failure)
        submit d expires=5s
            c: Created { state: Queued }
            w: deliver d lease 3 attempt 1 delivery 1
        fail d last
            w: Ok(Failure)
        replay a
            c: count 1
            w: deliver a lease 4 attempt 1 delivery 1 report start
        complete a
            w: Ok(Success)
        discard b
            c: count 1
        discard a
            c: count 0
        after 14s
        beat w
            w: heartbeat
        replay all
            c: count 1
            w: deliver d lease 5 attempt 1 delivery 1
        restart
        connect c
            c: welcome new leases []
        get a b d
            c: a Success g2 v4, b unknown, d Leased g2 v2
    "#]]);
}

#[test]
fn dead_tasks_are_replayed_and_discarded_by_filter() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=default,songs
            w: welcome new leases []
        credit w 3
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b queue=songs
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        submit d queue=songs tag=keep
            c: Created { state: Queued }
            w: deliver d lease 3 attempt 1 delivery 1
        fail a last
            w: Ok(Failure)
        fail b last
            w: Ok(Failure)
        fail d last
            w: Ok(Failure)
        discard all queue=songs tag=keep
            c: count 1
        replay all queue=songs
            c: count 1
            w: deliver b lease 4 attempt 1 delivery 1
        list state=Failure
            c: page a Failure g1 v4 next None
        get a b d
            c: a Failure g1 v4, b Leased g2 v2, d unknown
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 1; songs: ready 0 scheduled 0 leased 1 dead 0
    "#]]);
}
