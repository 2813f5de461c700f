//! Submits of an id that has a task: known again by their key, beside the present run, or in its
//! place.

use expect_test::expect;

use super::check;

#[test]
fn a_submit_that_comes_again_under_its_key_is_joined_in_every_state() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a key=one conflict=beside
            c: Created { state: Queued }
        submit a key=one conflict=beside
            c: Joined { generation: 1, state: Queued }
        submit a key=one conflict=reject
            c: Joined { generation: 1, state: Queued }
        submit a key=one conflict=replace
            c: Joined { generation: 1, state: Queued }
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        submit a key=one conflict=after
            c: Joined { generation: 1, state: Leased }
        complete a
            w: Ok(Success)
        submit a key=one
            c: Joined { generation: 1, state: Success }
        submit a key=one conflict=beside
            c: Joined { generation: 1, state: Success }
        restart
        connect c
            c: welcome new leases []
        submit a key=one
            c: Joined { generation: 1, state: Success }
        submit a key=two
            c: NewGeneration { generation: 2, state: Queued }
        submit a key=one
            c: Joined { generation: 2, state: Queued }
    "#]]);
}

#[test]
fn a_run_that_waits_for_its_turn_is_known_by_its_key_too() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a key=one
            c: Created { state: Queued }
        submit a key=two conflict=after
            c: NewGeneration { generation: 2, state: Scheduled }
        submit a key=two conflict=after
            c: Joined { generation: 2, state: Scheduled }
        submit a key=two conflict=beside
            c: Joined { generation: 2, state: Scheduled }
    "#]]);
}

#[test]
fn two_submits_of_one_id_run_beside_each_other() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit a key=one conflict=beside
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit a key=two conflict=beside
            c: CreatedBeside { id: "a~two", state: Queued }
            w: deliver a~two lease 2 attempt 1 delivery 1
        submit a key=two conflict=beside
            c: JoinedBeside { id: "a~two", generation: 1, state: Leased }
        get a a~two
            c: a Leased g1 v2, a~two Leased g1 v2
        complete a~two
            w: Ok(Success)
        get a a~two
            c: a Leased g1 v2, a~two Success g1 v4
        complete a
            w: Ok(Success)
        submit a key=three conflict=beside
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 3 attempt 1 delivery 1
        submit a key=two conflict=beside
            c: JoinedBeside { id: "a~two", generation: 1, state: Success }
        get a a~two
            c: a Leased g2 v2, a~two Success g1 v4
    "#]]);
}

#[test]
fn a_task_beside_needs_a_key_and_an_id_of_its_own() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit a conflict=beside
            c: Refused(Refusal { code: InvalidArgument, message: "a submit that may run beside another needs a submit_key", retry_after_ms: 0 })
        submit a~one
            c: Created { state: Queued }
        submit a key=one conflict=beside
            c: Refused(Refusal { code: TaskExists, message: "the id `a~one` beside it is that of another task", retry_after_ms: 0 })
    "#]]);
}

#[test]
fn the_handler_of_a_run_takes_its_place_without_an_end() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        watch c a
            c: watching c unknown, a unknown
        submit a ttl=1h
            c: sees a Queued for Turn g1 v1
            c: Created { state: Queued }
            c: sees a Leased g1 v2
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            c: sees a Started g1 v3
            w: Ok(Started)
        submit a conflict=supersede lease=1 in=5s
            c: sees a Scheduled for Time g2 v1
            c: NewGeneration { generation: 2, state: Scheduled }
        complete a lease=1
            w: Err((StaleLease, Some(Scheduled)))
        get a
            c: a Scheduled for Time g2 v1
        after 5s
            c: sees a Queued for Turn g2 v2
            c: sees a Leased g2 v3
            w: deliver a lease 2 attempt 1 delivery 1
        complete a
            c: sees a Started g2 v4
            c: sees a Success g2 v5
            w: Ok(Success)
        get a
            c: a Success g2 v5
    "#]]);
}

#[test]
fn a_settled_run_is_superseded_and_frees_nothing_twice() {
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
        settle a
            w: Ok(Started)
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        submit a conflict=supersede lease=1
            c: NewGeneration { generation: 2, state: Queued }
        complete a lease=1
            w: Err((StaleLease, Some(Queued)))
        complete b
            w: Ok(Success)
            w: deliver a lease 3 attempt 1 delivery 1
        complete a
            w: Ok(Success)
        get a b
            c: a Success g2 v4, b Success g1 v4
    "#]]);
}

#[test]
fn only_the_latest_run_is_superseded() {
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
        submit a conflict=supersede lease=1
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1
        submit a conflict=supersede lease=1
            c: Joined { generation: 2, state: Leased }
        submit a conflict=supersede lease=2
            c: NewGeneration { generation: 3, state: Queued }
            w: deliver a lease 3 attempt 1 delivery 1
        get a
            c: a Leased g3 v2
        complete a
            w: Ok(Success)
        submit a conflict=supersede lease=3
            c: NewGeneration { generation: 4, state: Queued }
            w: deliver a lease 4 attempt 1 delivery 1
        get a
            c: a Leased g4 v2
    "#]]);
}

#[test]
fn a_run_that_was_lost_and_waits_is_superseded_by_its_handler() {
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
        credit w 0
            w: done
        release a lost
            w: Ok(Queued)
        get a
            c: a Queued for Turn g1 v4
        submit a conflict=supersede lease=1 in=1m
            c: NewGeneration { generation: 2, state: Scheduled }
        get a
            c: a Scheduled for Time g2 v1
    "#]]);
}

#[test]
fn a_run_that_was_cancelled_is_not_superseded() {
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
        submit a conflict=supersede lease=1
            c: Joined { generation: 1, state: Revoked }
        complete a lease=1
            w: Err((StaleLease, Some(Revoked)))
        get a
            c: a Revoked g1 v5
        submit a conflict=supersede lease=1
            c: Joined { generation: 1, state: Revoked }
        submit a conflict=supersede
            c: Joined { generation: 1, state: Revoked }
    "#]]);
}

#[test]
fn a_run_that_is_followed_by_another_gives_way_to_it() {
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
        submit a conflict=after
            c: NewGeneration { generation: 2, state: Scheduled }
        submit a conflict=supersede lease=1
            c: Joined { generation: 2, state: Scheduled }
            w: deliver a lease 2 attempt 1 delivery 1
        get a
            c: a Leased g2 v3
    "#]]);
}

#[test]
fn a_superseded_run_does_not_come_back_with_a_restart() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a key=one
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        submit a key=two conflict=supersede lease=1
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver a lease 2 attempt 1 delivery 1
        restart
        connect c
            c: welcome new leases []
        get a
            c: a Leased g2 v2
        submit a key=two conflict=supersede lease=1
            c: Joined { generation: 2, state: Leased }
        submit a key=one
            c: Joined { generation: 2, state: Leased }
    "#]]);
}

#[test]
fn a_task_with_a_lead_is_handed_out_before_its_eta() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
        submit a in=30s lead=10s
            c: Created { state: Scheduled }
        submit b in=5s lead=10s
            c: Created { state: Queued }
            w: deliver b lease 1 attempt 1 delivery 1
        after 19s beating=w
        after 1s beating=w
            w: deliver a lease 2 attempt 1 delivery 1
        restart
        connect c
            c: welcome new leases []
        get a
            c: a Leased g1 v3
    "#]]);
}

#[test]
fn a_task_that_is_forgotten_at_its_end_leaves_nothing_however_it_ends() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 4
            w: done
        submit a forget_at_end=yes
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b forget_at_end=yes attempts=1
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1 report start
        submit c forget_at_end=yes
            c: Created { state: Queued }
            w: deliver c lease 3 attempt 1 delivery 1
        submit d forget_at_end=yes in=1h
            c: Created { state: Scheduled }
        complete a
            w: Ok(Success)
        fail b
            w: Ok(Failure)
        reject c
            w: Ok(Failure)
        cancel d
            c: ("d", Revoked)
        get a b c d
            c: a unknown, b unknown, c unknown, d unknown
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
    "#]]);
}
