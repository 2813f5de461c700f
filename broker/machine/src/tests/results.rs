//! Answers to observers: states, waits, watches, and forgotten tasks.

use expect_test::expect;

use super::check;

#[test]
fn an_unknown_id_is_not_found_and_never_waiting() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        get a
            c: a unknown
        wait a
            c: came: a unknown
        forget a
            c: Err(NotFound)
        cancel a
            c: ("a", NotFound)
    "#]]);
}

#[test]
fn waits_are_answered_when_their_condition_holds_or_their_time_is_over() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        connect e
            e: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a b
            c: Created { state: Queued }, Created { state: Queued }
        wait a b by=c for=1m
        wait a b any by=d for=1m
        wait b started by=e for=5s
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        complete a
            d: came: a Success g1 v4, b Queued for Turn g1 v1
            w: Ok(Success)
            w: deliver b lease 2 attempt 1 delivery 1
        after 5s
            e: time over: b Leased g1 v2
        complete b
            c: came: a Success g1 v4, b Success g1 v4
            w: Ok(Success)
        wait a b
            c: came: a Success g1 v4, b Success g1 v4
    "#]]);
}

#[test]
fn a_wait_for_several_tasks_keeps_the_ends_of_those_that_go_before_the_last_one_comes() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 9
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit gone ttl=0s
            c: Created { state: Queued }
            w: deliver gone lease 2 attempt 1 delivery 1
        submit short ttl=2s
            c: Created { state: Queued }
            w: deliver short lease 3 attempt 1 delivery 1
        submit dead attempts=1
            c: Created { state: Queued }
            w: deliver dead lease 4 attempt 1 delivery 1 report start
        submit again
            c: Created { state: Queued }
            w: deliver again lease 5 attempt 1 delivery 1
        submit after
            c: Created { state: Queued }
            w: deliver after lease 6 attempt 1 delivery 1
        wait gone short dead again after a by=d for=1h
        complete gone
            d: is to be shown gone Success g1 v4
            w: Ok(Success)
        complete short
            w: Ok(Success)
        fail dead
            w: Ok(Failure)
        complete again
            w: Ok(Success)
        after 3s
            d: is to be shown short Success g1 v4
        forget dead
            d: is to be shown dead Failure g1 v4
            c: Ok(())
        submit again
            d: is to be shown again Success g1 v4
            c: NewGeneration { generation: 2, state: Queued }
            w: deliver again lease 7 attempt 1 delivery 1
        submit after conflict=after
            c: NewGeneration { generation: 2, state: Scheduled }
        complete after
            w: Ok(Success)
            d: is to be shown after Success g1 v4
            w: deliver after lease 8 attempt 1 delivery 1
        complete a
            d: came: gone unknown, short unknown, dead unknown, again Leased g2 v2, after Leased g2 v3, a Success g1 v4
            w: Ok(Success)
        wait gone by=d
            d: came: gone unknown
    "#]]);
}

#[test]
fn a_wait_keeps_nothing_of_what_it_has_not_seen_end() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 9
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b ttl=0s
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        wait a b by=d for=1s
        after 2s
            d: time over: a Leased g1 v2, b Leased g1 v2
        complete b
            w: Ok(Success)
        wait a b any by=d for=1s
            d: came: a Leased g1 v2, b unknown
        complete a
            w: Ok(Success)
    "#]]);
}

#[test]
fn a_watch_sees_each_transition_of_ids_that_may_not_exist_yet() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        watch a by=d
            d: watching a unknown
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a attempts=2
            d: sees a Queued for Turn g1 v1
            c: Created { state: Queued }
            d: sees a Leased g1 v2
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            d: sees a Started g1 v3
            w: Ok(Started)
        progress a
            d: sees a Started g1 v4
            w: Ok(Started)
        fail a
            d: sees a Retry for Time g1 v5
            w: Ok(Retry)
        after 1s
            d: sees a Queued for Turn g1 v6
            d: sees a Leased g1 v7
            w: deliver a lease 2 attempt 2 delivery 1 report start again
        complete a
            d: sees a Started g1 v8
            d: sees a Success g1 v9
            w: Ok(Success)
        forget a
            d: sees a unknown
            c: Ok(())
        submit a
            d: sees a Queued for Turn g1 v1
            c: Created { state: Queued }
            d: sees a Leased g1 v2
            w: deliver a lease 3 attempt 1 delivery 1
    "#]]);
}

#[test]
fn only_an_ended_task_can_be_forgotten() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        forget a
            c: Err(NotFinished)
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        complete a
            w: Ok(Success)
        forget a
            c: Ok(())
        get a
            c: a unknown
        restart
        connect c
            c: welcome new leases []
        get a
            c: a unknown
    "#]]);
}

#[test]
fn right_after_a_submit_every_reader_sees_the_task() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        submit a
            c: Created { state: Queued }
        get a by=d
            d: a Queued for Worker g1 v1
        submit b in=1h
            c: Created { state: Scheduled }
        get b by=d
            d: b Scheduled for Time g1 v1
    "#]]);
}

#[test]
fn many_readers_of_one_task_are_all_told() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        connect e
            e: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a
            c: Created { state: Queued }
        wait a by=d
        wait a by=e
        wait a by=c
        watch a by=e
            e: watching a Queued for Turn g1 v1
        credit w 1
            w: done
            e: sees a Leased g1 v2
            w: deliver a lease 1 attempt 1 delivery 1
        complete a
            e: sees a Started g1 v3
            d: came: a Success g1 v4
            e: came: a Success g1 v4
            c: came: a Success g1 v4
            e: sees a Success g1 v4
            w: Ok(Success)
    "#]]);
}

#[test]
fn a_wait_that_is_withdrawn_is_answered_at_once_and_nothing_is_told_later() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect d
            d: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        submit a b
            c: Created { state: Queued }, Created { state: Queued }
        wait a by=c for=1m
        wait b by=c for=1m
        unwait 7 by=d
            d: done
        unwait 5 9 by=c
            c: time over: 
            c: done
        unwait 5 by=c
            c: done
        credit w 2
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
            w: deliver b lease 2 attempt 1 delivery 1
        complete a
            w: Ok(Success)
        complete b
            c: came: b Success g1 v4
            w: Ok(Success)
    "#]]);
}

#[test]
fn a_report_may_say_how_long_its_end_is_kept() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 9
            w: done
        submit a b d e f
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
            w: deliver b lease 2 attempt 1 delivery 1
            w: deliver d lease 3 attempt 1 delivery 1
            w: deliver e lease 4 attempt 1 delivery 1
            w: deliver f lease 5 attempt 1 delivery 1
        complete a ttl=0s
            w: Ok(Success)
        complete b ttl=5s
            w: Ok(Success)
        complete b ttl=5s
            w: Ok(Success)
        fail d last ttl=5s bytes=4
            w: Ok(Failure)
        fail e last ttl=0s bytes=2000
            w: Ok(Failure)
        complete f bytes=2000 ttl=5s
            w: Err((ResultTooLarge, Some(Failure)))
        get a b d e f
            c: a unknown, b Success g1 v4, d Failure g1 v4, e Failure g1 v4, f Failure g1 v4
        restart
        connect c
            c: welcome new leases []
        after 5s
        get a b d e f
            c: a unknown, b unknown, d unknown, e Failure g1 v4, f Failure g1 v4
        after 1d
        get e f
            c: e unknown, f unknown
    "#]]);
}

#[test]
fn o20_another_result_ttl_is_for_tasks_that_are_submitted_from_then_on() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 10
            w: done
        submit a
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit own ttl=3s
            c: Created { state: Queued }
            w: deliver own lease 2 attempt 1 delivery 1
        ttl 5s
        submit b
            c: Created { state: Queued }
            w: deliver b lease 3 attempt 1 delivery 1
        complete a
            w: Ok(Success)
        complete own
            w: Ok(Success)
        complete b
            w: Ok(Success)
        restart
        connect c
            c: welcome new leases []
        get a b own
            c: a Success g1 v4, b Success g1 v4, own Success g1 v4
        after 4s
        get a b own
            c: a Success g1 v4, b Success g1 v4, own unknown
        after 2s
        get a b own
            c: a Success g1 v4, b unknown, own unknown
    "#]]);
}
