//! Listings of tasks, page by page.

use expect_test::expect;

use super::check;

#[test]
fn tasks_are_listed_in_pages() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit b1 queue=other
            c: Created { state: Queued }
        list limit=2
            c: page a1 Queued for Worker g1 v1, a2 Queued for Worker g1 v1 next Some(1) looked 2 of 4
        list limit=2 cursor=1
            c: page a3 Queued for Worker g1 v1, b1 Queued for Worker g1 v1 next None
        list queue=other
            c: page b1 Queued for Worker g1 v1 next None
        list queue=nothing
            c: page  next None
    "#]]);
}

#[test]
fn tasks_are_listed_by_age() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a
            c: Created { state: Queued }
        after 10s
        submit b
            c: Created { state: Queued }
        list younger=5s
            c: page b Queued for Worker g1 v1 next None
        list younger=20s
            c: page a Queued for Worker g1 v1, b Queued for Worker g1 v1 next None
    "#]]);
}

#[test]
fn tasks_are_listed_by_state_name_tag_root_and_prefix() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit song-1 tag=night
            c: Created { state: Queued }
            w: deliver song-1 lease 1 attempt 1 delivery 1
        submit song-2 name=other tag=night root=song-1
            c: Created { state: Queued }
        submit film-1 in=1h root=song-1
            c: Created { state: Scheduled }
        list state=Queued
            c: page song-2 Queued for Worker g1 v1 next None
        list state=Queued,Scheduled
            c: page song-2 Queued for Worker g1 v1, film-1 Scheduled for Time g1 v1 next None
        list name=other
            c: page song-2 Queued for Worker g1 v1 next None
        list tag=night
            c: page song-1 Leased g1 v2, song-2 Queued for Worker g1 v1 next None
        list root=song-1
            c: page song-2 Queued for Worker g1 v1, film-1 Scheduled for Time g1 v1 next None
        list prefix=song-
            c: page song-1 Leased g1 v2, song-2 Queued for Worker g1 v1 next None
        list tag=night prefix=song-2
            c: page song-2 Queued for Worker g1 v1 next None
        list state=Success
            c: page  next None
    "#]]);
}

#[test]
fn a_cursor_keeps_its_place_while_tasks_come_and_go() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a4
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        list limit=2
            c: page a1 Queued for Worker g1 v1, a2 Queued for Worker g1 v1 next Some(1) looked 2 of 4
        cancel a1
            c: ("a1", Revoked)
        forget a1
            c: Ok(())
        submit b
            c: Created { state: Queued }
        list limit=2 cursor=1
            c: page a3 Queued for Worker g1 v1, a4 Queued for Worker g1 v1 next None
        list limit=2 cursor=3
            c: page  next None
    "#]]);
}

#[test]
fn the_newest_tasks_are_listed_first() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit b queue=other
            c: Created { state: Queued }
        submit c
            c: Created { state: Queued }
        submit d
            c: Created { state: Queued }
        cancel a
            c: ("a", Revoked)
        forget a
            c: Ok(())
        submit e
            c: Created { state: Queued }
        list newest
            c: page e Queued for Worker g1 v1, d Queued for Worker g1 v1, c Queued for Worker g1 v1, b Queued for Worker g1 v1 next None
        list newest limit=2
            c: page e Queued for Worker g1 v1, d Queued for Worker g1 v1 next Some(4)
        list newest limit=2 cursor=4
            c: page c Queued for Worker g1 v1, b Queued for Worker g1 v1 next None
        submit f
            c: Created { state: Queued }
        list newest limit=2 cursor=4
            c: page c Queued for Worker g1 v1, b Queued for Worker g1 v1 next None
        list newest limit=1 queue=other
            c: page b Queued for Worker g1 v1 next None
        list newest limit=2 cursor=2
            c: page  next None
        cancel b
            c: ("b", Revoked)
        submit b queue=other
            c: NewGeneration { generation: 2, state: Queued }
        list newest limit=2
            c: page b Queued for Worker g2 v1, f Queued for Worker g1 v1 next Some(6)
        list newest queue=nothing
            c: page  next None
        restart
        connect c
            c: welcome new leases []
        list newest limit=3
            c: page b Queued for Worker g2 v1, f Queued for Worker g1 v1, e Queued for Worker g1 v1 next Some(5)
    "#]]);
}

#[test]
fn dead_tasks_are_listed_from_the_last_end_on() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=default,songs
            w: welcome new leases []
        credit w 5
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b queue=songs
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        submit d
            c: Created { state: Queued }
            w: deliver d lease 3 attempt 1 delivery 1
        submit e
            c: Created { state: Queued }
            w: deliver e lease 4 attempt 1 delivery 1
        submit f
            c: Created { state: Queued }
            w: deliver f lease 5 attempt 1 delivery 1
        fail d last
            w: Ok(Failure)
        after 1s
        fail a last
            w: Ok(Failure)
        fail b last
            w: Ok(Failure)
        after 1s
        fail f last
            w: Ok(Failure)
        list state=Failure
            c: page f Failure g1 v4, a Failure g1 v4, d Failure g1 v4, b Failure g1 v4 next None
        list state=Failure limit=2
            c: page f Failure g1 v4, a Failure g1 v4 next Some(Dead/0/1001000/0/2) looked 2 of 4
        list state=Failure queue=default limit=2
            c: page f Failure g1 v4, a Failure g1 v4 next Some(Dead/0/1001000/0/2) looked 2 of 3
        list state=Failure newest limit=2
            c: page f Failure g1 v4, d Failure g1 v4 next Some(3)
        discard d
            c: count 1
        submit f
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver f lease 6 attempt 1 delivery 1
        list state=Failure
            c: page a Failure g1 v4, b Failure g1 v4 next None
        replay all queue=songs
            c: count 1
            w: deliver b lease 7 attempt 1 delivery 1
        list state=Failure
            c: page a Failure g1 v4 next None
        list state=Failure queue=nothing
            c: page  next None
        restart
        connect c
            c: welcome new leases []
        list state=Failure
            c: page a Failure g1 v4 next None
    "#]]);
}

#[test]
fn running_tasks_are_listed_worker_by_worker() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect v runs=song queues=songs
            v: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit v 2
            v: done
        credit w 3
            w: done
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
        submit s1..s2 name=song queue=songs
            c: Created { state: Queued }, Created { state: Queued }
            v: deliver s1 lease 4 attempt 1 delivery 1
            v: deliver s2 lease 5 attempt 1 delivery 1
        start a2
            w: Ok(Started)
        list state=Leased,Started
            c: page s1 Leased g1 v2, s2 Leased g1 v2, a1 Leased g1 v2, a2 Started g1 v3, a3 Leased g1 v2 next None
        list state=Leased,Started limit=3
            c: page s1 Leased g1 v2, s2 Leased g1 v2, a1 Leased g1 v2 next Some(Leases/3/1/0/3) looked 3 of 5
        list state=Started
            c: page a2 Started g1 v3 next None
        list state=Leased queue=songs
            c: page s1 Leased g1 v2, s2 Leased g1 v2 next None
        complete a1
            w: Ok(Success)
        submit a4
            c: Created { state: Queued }
            w: deliver a4 lease 6 attempt 1 delivery 1
        list state=Leased,Started
            c: page s1 Leased g1 v2, s2 Leased g1 v2, a2 Started g1 v3, a3 Leased g1 v2, a4 Leased g1 v2 next None
        list state=Leased,Started newest limit=2
            c: page a4 Leased g1 v2, s2 Leased g1 v2 next Some(5)
    "#]]);
}

#[test]
fn the_line_of_a_queue_is_listed_in_the_order_of_delivery() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit b name=other
            c: Created { state: Queued }
        submit d priority=9
            c: Created { state: Queued }
        submit e priority=0
            c: Created { state: Queued }
        submit f in=1h
            c: Created { state: Scheduled }
        cancel a2
            c: ("a2", Revoked)
        list state=Queued queue=default
            c: page d Queued for Worker g1 v1, a1 Queued for Worker g1 v1, a3 Queued for Worker g1 v1, b Queued for Worker g1 v1, e Queued for Worker g1 v1 next None
        list state=Queued queue=default limit=2
            c: page d Queued for Worker g1 v1, a1 Queued for Worker g1 v1 next Some(Line/0/70650219154374657/0/2) looked 2 of 5
        list state=Queued queue=default name=other
            c: page b Queued for Worker g1 v1 next None
        list state=Queued queue=default newest limit=2
            c: page e Queued for Worker g1 v1, d Queued for Worker g1 v1 next Some(5)
        list state=Queued queue=nothing
            c: page  next None
    "#]]);
}

#[test]
fn the_tasks_that_ended_last_are_listed_first() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 3
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        submit d
            c: Created { state: Queued }
            w: deliver d lease 3 attempt 1 delivery 1
        complete b
            w: Ok(Success)
        fail a last
            w: Ok(Failure)
        list ended
            c: page a Failure g1 v4, b Success g1 v4 next None
        list ended limit=1
            c: page a Failure g1 v4 next Some(Ended/0/1/0/1) looked 1 of 2
        submit b
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver b lease 4 attempt 1 delivery 1
        list ended
            c: page a Failure g1 v4 next None
        list ended state=Failure
            c: page a Failure g1 v4 next None
        complete d
            w: Ok(Success)
        after 1s
        cancel b
            w: signal TakenBack leases [4] (cancelled)
            c: ("b", Revoked)
        list ended limit=2
            c: page b Revoked g2 v3, d Success g1 v4 next Some(Ended/0/2/2/2) looked 2 of 4
        forget d
            c: Ok(())
        list ended
            c: page b Revoked g2 v3, a Failure g1 v4 next None
        restart
        connect c
            c: welcome new leases []
        list ended
            c: page b Revoked g2 v3, a Failure g1 v4 next None
    "#]]);
}
