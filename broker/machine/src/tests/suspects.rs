//! Lost workers: the tasks that a loss counts against, and how the broker distinguishes a task that
//! kills its workers from the other tasks of those workers.

use expect_test::expect;

use super::transcript::Transcript;
use super::{check, script};

#[test]
fn what_had_not_begun_is_not_charged_for_a_lost_worker() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 3
            w: done
        submit a1..a3 attempts=3
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect v runs=job
            v: welcome new leases []
        credit v 3
            v: done
            v: deliver a1 lease 4 attempt 2 delivery 2 again
            v: deliver a2 lease 5 attempt 1 delivery 1 again
            v: deliver a3 lease 6 attempt 1 delivery 1 again
    "#]]);
}

#[test]
fn no_attempt_beyond_the_last_begins_whatever_ended_the_others() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a attempts=1
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1 report start
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        get a
            c: a Failure g1 v4
    "#]]);
}

#[test]
fn a_task_that_was_lost_twice_is_given_out_alone() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a4
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        connect w runs=job concurrency=2
            w: welcome new leases []
        credit w 4
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
            w: deliver a3 lease 3 attempt 1 delivery 1
            w: deliver a4 lease 4 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        start a2
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect w runs=job concurrency=2
            w: welcome new leases []
        credit w 4
            w: done
            w: deliver a1 lease 5 attempt 2 delivery 2 again
            w: deliver a2 lease 6 attempt 2 delivery 2 again
            w: deliver a3 lease 7 attempt 1 delivery 1 again
            w: deliver a4 lease 8 attempt 1 delivery 1 again
        start a1
            w: Ok(Started)
        start a2
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect w runs=job concurrency=2
            w: welcome new leases []
        credit w 4
            w: done
            w: deliver a1 lease 9 attempt 3 delivery 3 report start again
        start a1
            w: Ok(Started)
        complete a1
            w: Ok(Success)
            w: deliver a2 lease 10 attempt 3 delivery 3 report start again
        complete a2
            w: Ok(Success)
            w: deliver a3 lease 11 attempt 1 delivery 1 again
            w: deliver a4 lease 12 attempt 1 delivery 1 again
        complete a3
            w: Ok(Success)
        complete a4
            w: Ok(Success)
    "#]]);
}

#[test]
fn with_one_attempt_left_a_task_is_given_out_alone_after_the_first_loss() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a1..a2 attempts=2
            c: Created { state: Queued }, Created { state: Queued }
        connect w runs=job concurrency=2
            w: welcome new leases []
        credit w 2
            w: done
            w: deliver a1 lease 1 attempt 1 delivery 1
            w: deliver a2 lease 2 attempt 1 delivery 1
        start a1
            w: Ok(Started)
        start a2
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect w runs=job concurrency=2
            w: welcome new leases []
        credit w 2
            w: done
            w: deliver a1 lease 3 attempt 2 delivery 2 report start again
        start a1
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect w runs=job concurrency=2
            w: welcome new leases []
        credit w 2
            w: done
            w: deliver a2 lease 4 attempt 2 delivery 2 report start again
        complete a2
            w: Ok(Success)
        get a1 a2
            c: a1 Failure g1 v7, a2 Success g1 v7
    "#]]);
}

#[test]
fn a_suspect_whose_workers_are_lost_without_a_word_is_given_up_in_the_end() {
    let death = "connect w runs=job\ncredit w 1\nlose w\nafter 15s\n";
    let said = script::run(&format!("connect c\nsubmit a\n{}get a\n", death.repeat(8)));
    // The task may have begun twice, without a report. Then it is delivered alone, and two of its
    // four attempts are left. No start was reported, so every delivery says attempt 1.
    assert_eq!(said.matches("w: deliver a").count(), 4, "{said}");
    assert!(said.contains("w: deliver a lease 4 attempt 1 delivery 1 report start"), "{said}");
    assert!(said.trim_end().ends_with("c: a Failure g1 v9"), "{said}");
}

#[test]
fn a_busy_worker_takes_nothing_more_until_it_is_free_for_a_suspect() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a attempts=2
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        lose w
            w: closed
        connect v runs=job concurrency=3
            v: welcome new leases []
        credit v 3
            v: done
        submit b1..b2
            c: Created { state: Queued }, Created { state: Queued }
            v: deliver b1 lease 2 attempt 1 delivery 1
            v: deliver b2 lease 3 attempt 1 delivery 1
        after 15s beating=v
        submit b3..b4
            c: Created { state: Queued }, Created { state: Queued }
        complete b1
            v: Ok(Success)
        complete b2
            v: Ok(Success)
            v: deliver a lease 4 attempt 2 delivery 2 report start again
        start a
            v: Ok(Started)
        complete a
            v: Ok(Success)
            v: deliver b3 lease 5 attempt 1 delivery 1
            v: deliver b4 lease 6 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_free_worker_takes_the_suspect_and_a_busy_one_goes_on() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a attempts=2
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        lose w
            w: closed
        connect v runs=job concurrency=2
            v: welcome new leases []
        credit v 2
            v: done
        submit b1
            c: Created { state: Queued }
            v: deliver b1 lease 2 attempt 1 delivery 1
        after 14s beating=v
        connect u runs=job concurrency=2
            u: welcome new leases []
        after 1s
        submit b2
            c: Created { state: Queued }
        credit u 2
            u: done
            v: deliver b2 lease 4 attempt 1 delivery 1
            u: deliver a lease 3 attempt 2 delivery 2 report start again
        submit b3
            c: Created { state: Queued }
        complete b1
            v: Ok(Success)
            v: deliver b3 lease 5 attempt 1 delivery 1
        complete a
            u: Ok(Success)
    "#]]);
}

#[test]
fn a_worker_stops_waiting_for_a_suspect_that_is_gone() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a attempts=2
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        lose w
            w: closed
        connect v runs=job concurrency=2
            v: welcome new leases []
        credit v 2
            v: done
        submit b1
            c: Created { state: Queued }
            v: deliver b1 lease 2 attempt 1 delivery 1
        after 15s beating=v
        submit b2
            c: Created { state: Queued }
        pause default
            v: signal TakenBack leases [2] (the queue is paused)
            c: done
        resume default
            c: done
            v: deliver a lease 3 attempt 2 delivery 2 report start again
        cancel a
            v: signal TakenBack leases [3] (cancelled)
            c: ("a", Revoked)
            v: deliver b1 lease 4 attempt 1 delivery 1 again
            v: deliver b2 lease 5 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_suspect_is_alone_over_a_restart_too() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a attempts=2
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect v runs=job concurrency=2
            v: welcome new leases []
        credit v 2
            v: done
            v: deliver a lease 2 attempt 2 delivery 2 report start again
        submit b
            c: Created { state: Queued }
        restart
        connect v resume runs=job concurrency=2
            v: welcome back leases [2]
            v: order Resume
            v: deliver a lease 2 attempt 2 delivery 2 report start again
        credit v 2
            v: done
        start a
            v: Ok(Started)
        restart
        connect v resume runs=job concurrency=2
            v: welcome back leases [2]
            v: order Resume
        credit v 2
            v: done
        complete a
            v: Ok(Success)
            v: deliver b lease 3 attempt 1 delivery 1
    "#]]);
}

#[test]
fn a_failure_that_is_reported_clears_a_suspect() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a attempts=4 backoff=fixed
            c: Created { state: Queued }
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
            w: deliver a lease 2 attempt 2 delivery 2 again
        start a
            w: Ok(Started)
        lose w
            w: closed
        after 15s
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
            w: deliver a lease 3 attempt 3 delivery 3 report start again
        start a
            w: Ok(Started)
        fail a
            w: Ok(Retry)
        submit b
            c: Created { state: Queued }
            w: deliver b lease 4 attempt 1 delivery 1
        after 1s
            w: deliver a lease 5 attempt 4 delivery 3 report start again
    "#]]);
}

/// One task kills every worker that begins it. All other tasks end, and the losses do not count
/// against them.
#[test]
fn one_poison_task_is_found_and_all_others_succeed() {
    let mut scene = Transcript::new();
    scene.line("connect c");
    scene.line("submit p");
    scene.line("submit a1..a30 deliveries=1");
    let mut deaths = 0;
    for _ in 0..200 {
        scene.line("connect w runs=job concurrency=1");
        scene.line("credit w 10");
        while let Some(task) = scene.next_unstarted() {
            scene.line(&format!("start {task}"));
            if task == "p" {
                deaths += 1;
                scene.line("lose w");
                break;
            }
            scene.line(&format!("complete {task}"));
        }
        scene.line("after 15s");
    }
    assert_eq!(deaths, 4, "{}", scene.text());
    let said = scene.line("get p a1 a2 a30").join(" ");
    assert!(said.contains("p Failure") && said.matches("Success").count() == 3, "{said}");
}

#[test]
fn a_handler_whose_process_died_counts_as_a_lost_worker_for_its_task_alone() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 3
            w: done
        submit a attempts=9
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit b
            c: Created { state: Queued }
            w: deliver b lease 2 attempt 1 delivery 1
        start a
            w: Ok(Started)
        release a lost
            w: Ok(Queued)
            w: deliver a lease 3 attempt 2 delivery 2 again
        release a lost lease=1
            w: Err((StaleLease, Some(Leased)))
        start a
            w: Ok(Started)
        release a lost
            w: Ok(Queued)
        complete b
            w: Ok(Success)
            w: deliver a lease 4 attempt 3 delivery 3 report start again
        release a lost
            w: Ok(Queued)
            w: deliver a lease 5 attempt 4 delivery 4 report start again
        get a b
            c: a Leased g1 v11, b Success g1 v4
    "#]]);
}

#[test]
fn a_task_that_kills_its_process_too_often_fails() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 3
            w: done
        submit a attempts=9 deliveries=2
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        release a lost
            w: Ok(Queued)
            w: deliver a lease 2 attempt 2 delivery 2 report start again
        release a lost
            w: Ok(Failure)
        release a lost
            w: Ok(Failure)
        submit b attempts=1
            c: Created { state: Queued }
            w: deliver b lease 3 attempt 1 delivery 1 report start
        start b
            w: Ok(Started)
        release b lost
            w: Ok(Failure)
        get a b
            c: a Failure g1 v7, b Failure g1 v4
    "#]]);
}
