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
            c: page a1 Queued for Worker g1 v1, a2 Queued for Worker g1 v1 next Some(1)
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
            c: page a1 Queued for Worker g1 v1, a2 Queued for Worker g1 v1 next Some(1)
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
