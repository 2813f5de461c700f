//! Chords: parts, members, and the right to send the body.

use expect_test::expect;

use super::check;

#[test]
fn the_last_part_gives_exactly_one_caller_the_right_to_send_the_body() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        part g a index=1
            c: chord 1 of ?+0
        extend g size=3
            c: chord 1 of 3+0
        part g b index=0 bytes=5
            c: chord 2 of 3+0
        part g c index=2 by=d
            d: chord 3 of 3+0 lease 1 ["g/0/b", "g/1/a", "g/2/c"]
        part g b index=0
            c: chord 3 of 3+0
        part g c index=2
            c: chord 3 of 3+0
        extend g claim
            c: chord 3 of 3+0
        stored g/0/b
            Success v2 as celeriac.chord-part, result 5
        sent g lease=1 by=d
            d: done
        sent g lease=1 by=d
            d: done
        part g a index=1
            c: chord 0 of ?+0 done
        get g/0/b g/1/a g/2/c
            c: g/0/b unknown, g/1/a unknown, g/2/c unknown
        queues
            c: default: ready 0 scheduled 0 leased 0 dead 0
    "#]]);
}

#[test]
fn a_part_that_comes_twice_counts_once() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        part g a index=0 size=2
            c: chord 1 of 2+0
        part g a index=0 size=2
            c: chord 1 of 2+0
        restart
        connect c
            c: welcome new leases []
        part g a index=0
            c: chord 1 of 2+0
        part g a
            c: chord 2 of 2+0 lease 1 ["g/0/a", "g/-/a"]
        extend g
            c: chord 2 of 2+0
    "#]]);
}

#[test]
fn the_right_goes_on_when_its_caller_is_lost_or_takes_too_long() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        part g a index=0 size=1 within=10s
            c: chord 1 of 1+0 lease 1 ["g/0/a"]
        part g a index=0 by=d
            d: chord 1 of 1+0
        after 9s
        part g a index=0 by=d
            d: chord 1 of 1+0
        after 1s
        part g a index=0 by=d
            d: chord 1 of 1+0 lease 2 ["g/0/a"]
        sent g lease=1
            c: refused StaleLease: the lease is not the current lease of the chord
        lose d
            d: closed
        part g a index=0
            c: chord 1 of 1+0 lease 3 ["g/0/a"]
        lose c
            c: closed
        connect c
            c: welcome new leases []
        restart
        connect c
            c: welcome new leases []
        extend g claim
            c: chord 1 of 1+0 lease 4 ["g/0/a"]
        sent g lease=3
            c: refused StaleLease: the lease is not the current lease of the chord
        sent g lease=4
            c: done
    "#]]);
}

#[test]
fn a_caller_that_was_cut_off_may_still_say_that_it_sent_the_body() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        part g a index=0 size=1
            c: chord 1 of 1+0 lease 1 ["g/0/a"]
        lose c
            c: closed
        restart
        connect c
            c: welcome new leases []
        sent g lease=1
            c: done
        part g a index=0
            c: chord 0 of ?+0 done
    "#]]);
}

#[test]
fn a_lease_is_renewed_and_shows_the_parts_page_by_page() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        part g a index=0 size=2 within=5s
            c: chord 1 of 2+0
        part g b index=1 within=5s
            c: chord 2 of 2+0 lease 1 ["g/0/a", "g/1/b"]
        after 4s
        extend g lease=1 within=5s from=1
            c: chord 2 of 2+0 lease 1 ["g/1/b"]
        after 4s
        part g a index=0 by=d
            d: chord 2 of 2+0
        extend g lease=9
            c: refused StaleLease: the lease is not the current lease of the chord
        extend g lease=1 by=d from=5
            d: chord 2 of 2+0 lease 1
    "#]]);
}

#[test]
fn added_members_count_once_and_raise_the_number_of_parts() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        extend g size=2
            c: chord 0 of 2+0
        part g a index=0
            c: chord 1 of 2+0
        extend g added=x,y,x
            c: chord 1 of 2+2
        extend g added=y
            c: chord 1 of 2+2
        restart
        connect c
            c: welcome new leases []
        part g b index=1
            c: chord 2 of 2+2
        part g x index=2
            c: chord 3 of 2+2
        part g y index=3
            c: chord 4 of 2+2 lease 1 ["g/0/a", "g/1/b", "g/2/x", "g/3/y"]
    "#]]);
}

#[test]
fn parts_may_come_before_the_size_and_the_size_may_give_the_right() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        part g a index=0
            c: chord 1 of ?+0
        part g b
            c: chord 2 of ?+0
        restart
        connect c
            c: welcome new leases []
        extend g size=2
            c: chord 2 of 2+0
        extend g claim
            c: chord 2 of 2+0 lease 1 ["g/0/a", "g/-/b"]
    "#]]);
}

#[test]
fn the_size_of_a_chord_that_is_done_begins_it_anew() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        part g a index=0 size=1
            c: chord 1 of 1+0 lease 1 ["g/0/a"]
        sent g lease=1
            c: done
        part g a index=0 size=1
            c: chord 0 of ?+0 done
        extend g
            c: chord 0 of ?+0 done
        extend g size=1
            c: chord 0 of 1+0
        sent g lease=1
            c: refused StaleLease: the lease is not the current lease of the chord
        part g a index=0
            c: chord 1 of 1+0 lease 2 ["g/0/a"]
        sent g lease=2
            c: done
    "#]]);
}

#[test]
fn a_chord_and_its_parts_live_as_long_as_the_last_of_them() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        part g a index=0 size=3 ttl=10s
            c: chord 1 of 3+0
        after 8s
        part g b index=1 ttl=10s
            c: chord 2 of 3+0
        after 8s
        get g/0/a g/1/b
            c: g/0/a Success g1 v2, g/1/b Success g1 v2
        restart
        connect c
            c: welcome new leases []
        get g/0/a g/1/b
            c: g/0/a Success g1 v2, g/1/b Success g1 v2
        after 2s
        get g/0/a g/1/b
            c: g/0/a unknown, g/1/b unknown
        extend g
            c: refused NotFound: there is no such chord
        restart
        connect c
            c: welcome new leases []
        extend g
            c: refused NotFound: there is no such chord
        part g c index=2 ttl=10s
            c: chord 1 of ?+0
    "#]]);
}

#[test]
fn a_chord_that_is_done_is_known_for_its_time_and_then_forgotten() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        part g a index=0 size=1 ttl=3s
            c: chord 1 of 1+0 lease 1 ["g/0/a"]
        sent g lease=1 ttl=10s
            c: done
        restart
        connect c
            c: welcome new leases []
        after 9s
        part g a index=0
            c: chord 0 of ?+0 done
        after 1s
        extend g
            c: refused NotFound: there is no such chord
        part g a index=0
            c: chord 1 of ?+0
    "#]]);
}

#[test]
fn a_part_that_is_forgotten_or_run_again_counts_no_more() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        part g a index=0 size=2
            c: chord 1 of 2+0
        part g b index=1 size=3
            c: chord 2 of 3+0
        forget g/0/a
            c: Ok(())
        submit g/1/b
            c: NewGeneration { generation: 2, state: Queued }
        extend g
            c: chord 0 of 3+0
        part g b index=1
            c: refused TaskExists: the id `g/1/b` below the group is that of another task
        put g/1/b state=SUCCESS
            c: Success g2
        part g a index=0
            c: chord 1 of 3+0
    "#]]);
}

#[test]
fn a_chord_request_that_does_not_fit_changes_nothing() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        part g a index=0 bytes=1001
            c: refused ResultTooLarge: the body has 1001 bytes, and 1000 are allowed
        extend g
            c: refused NotFound: there is no such chord
        sent g lease=1
            c: refused NotFound: there is no such chord
        submit g/0/a
            c: Created { state: Queued }
        part g a index=0 size=1
            c: refused TaskExists: the id `g/0/a` below the group is that of another task
        extend g
            c: refused NotFound: there is no such chord
        disk full
        part h a index=0
            c: refused DiskFull: the broker's disk is nearly full, so it takes no new tasks: make room on it, or submit later
        part hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh a
            c: refused InvalidArgument: the id of the group and the id of the member are too long together
        extend hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh added=a
            c: refused InvalidArgument: the id of the group and the id of the member are too long together
    "#]]);
}
