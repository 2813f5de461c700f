//! The counters of queues, and the other figures for monitors.

use celeriac_proto::QueueName;
use expect_test::expect;

use super::check;
use super::crowd::Crowd;
use crate::command::{Ask, Message, Operate, Outlines};

#[test]
fn a_queue_counts_what_happens_to_its_tasks_and_how_long_they_wait_and_run() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a b d e
            c: Created { state: Queued }, Created { state: Queued }, Created { state: Queued }, Created { state: Queued }
        submit x in=10s
            c: Created { state: Scheduled }
        stats
            c: default: scheduled 1 ready 4 bytes 50 unserved 4 oldest 1000000; submitted 5 | broker: up 0ms connections 1 workers 0 lost 0 tasks 5
        after 3s
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
            w: deliver b lease 2 attempt 1 delivery 1
        stats
            c: default: scheduled 1 ready 2 leased 2 bytes 50 workers 1 busy 1 oldest 1000000; submitted 5 delivered 2 waits [2 up to 5000] 6000ms | broker: up 3000ms connections 2 workers 1 lost 0 tasks 5
        start a
            w: Ok(Started)
        after 30ms
        complete a
            w: Ok(Success)
            w: deliver d lease 3 attempt 1 delivery 1
        fail b
            w: Ok(Retry)
            w: deliver e lease 4 attempt 1 delivery 1
        stats
            c: default: scheduled 2 leased 2 bytes 40 workers 1 busy 1; submitted 5 succeeded 1 retried 1 delivered 4 waits [4 up to 5000] 12060ms runs [1 up to 5, 1 up to 50] 30ms | broker: up 3030ms connections 2 workers 1 lost 0 tasks 5
        reject d
            w: Ok(Failure)
        release e
            w: Ok(Queued)
            w: deliver e lease 5 attempt 1 delivery 1 again
        after 20s
            w: deliver b lease 6 attempt 2 delivery 1 again
            w: closing SessionLost: nothing was heard for the lease time
            w: closed
        stats
            c: default: ready 3 dead 1 bytes 30 unserved 3 oldest 1000000; submitted 5 succeeded 1 failed 1 retried 1 delivered 6 worker lost 2 released 1 waits [1 up to 5, 4 up to 5000] 12060ms runs [2 up to 5, 1 up to 50] 30ms | broker: up 23030ms connections 1 workers 0 lost 0 tasks 5
    "#]]);
}

#[test]
fn a_task_that_comes_back_to_its_queue_is_counted_by_its_cause_and_waits_only_once() {
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
        after 2s
        lose w
            w: closed
        after 20s
        stats
            c: default: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 1 delivered 1 worker lost 1 waits [1 up to 5] 0ms | broker: up 22000ms connections 1 workers 0 lost 0 tasks 1
        connect v runs=job
            v: welcome new leases []
        credit v 1
            v: done
            v: deliver a lease 2 attempt 1 delivery 1 again
        stats
            c: default: leased 1 bytes 10 workers 1 busy 1; submitted 1 delivered 2 worker lost 1 waits [1 up to 5] 0ms | broker: up 22000ms connections 2 workers 1 lost 0 tasks 1
        pause default
            v: signal TakenBack leases [2] (the queue is paused)
            c: done
        stats
            c: default: ready 1 bytes 10 workers 1 free 1 paused 1 oldest 1000000; submitted 1 delivered 2 worker lost 1 taken back 1 waits [1 up to 5] 0ms | broker: up 22000ms connections 2 workers 1 lost 0 tasks 1
        resume default
            c: done
            v: deliver a lease 3 attempt 1 delivery 1 again
        start a
            v: Ok(Started)
        bye v
            v: done
            v: closed
        stats
            c: default: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 1 delivered 3 worker lost 2 taken back 1 waits [1 up to 5] 0ms | broker: up 22000ms connections 1 workers 0 lost 0 tasks 1
    "#]]);
}

#[test]
fn the_wait_of_a_scheduled_task_and_of_a_retry_begins_when_it_is_due() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a in=10s attempts=2
            c: Created { state: Scheduled }
        after 14s
        stats
            c: default: ready 1 bytes 10 unserved 1 oldest 1010000; submitted 1 | broker: up 14000ms connections 1 workers 0 lost 0 tasks 1
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
        stats
            c: default: leased 1 bytes 10 workers 1 busy 1; submitted 1 delivered 1 waits [1 up to 5000] 4000ms | broker: up 14000ms connections 2 workers 1 lost 0 tasks 1
        fail a
            w: Ok(Retry)
        after 10s
            w: deliver a lease 2 attempt 2 delivery 1 report start again
        stats
            c: default: leased 1 bytes 10 workers 1 busy 1; submitted 1 retried 1 delivered 2 waits [1 up to 5, 1 up to 5000] 4000ms runs [1 up to 5] 0ms | broker: up 24000ms connections 2 workers 1 lost 0 tasks 1
    "#]]);
}

#[test]
fn after_a_restart_the_counters_begin_anew_and_a_task_is_ready_since_its_submit() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a
            c: Created { state: Queued }
        submit b in=5s
            c: Created { state: Scheduled }
        after 10s
        restart
        connect c
            c: welcome new leases []
        after 1s
        stats
            c: default: ready 2 bytes 20 unserved 2 oldest 1000000 | broker: up 1000ms connections 1 workers 0 lost 0 tasks 2
        connect w runs=job
            w: welcome new leases []
        credit w 2
            w: done
            w: deliver a lease 1 attempt 1 delivery 1
            w: deliver b lease 2 attempt 1 delivery 1
        stats
            c: default: leased 2 bytes 20 workers 1 busy 1; delivered 2 waits [1 up to 1000, 1 up to 30000] 12000ms | broker: up 1000ms connections 2 workers 1 lost 0 tasks 2
    "#]]);
}

#[test]
fn the_counters_of_a_queue_that_is_gone_are_those_of_the_queues_that_are_gone() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        submit a queue=night ttl=0s
            c: Created { state: Queued }
        submit b queue=night
            c: Created { state: Queued }
        cancel a
            c: ("a", Revoked)
        stats
            c: default: | night: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 2 revoked 1 | broker: up 0ms connections 1 workers 0 lost 0 tasks 1
        cancel b
            c: ("b", Revoked)
        stats
            c: default: | broker: up 0ms connections 1 workers 0 lost 0 tasks 1; gone submitted 2 revoked 2
        submit d queue=night
            c: Created { state: Queued }
        stats
            c: default: | night: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 1 | broker: up 0ms connections 1 workers 0 lost 0 tasks 2; gone submitted 2 revoked 2
        delete night
            c: count 1
        stats
            c: default: | broker: up 0ms connections 1 workers 0 lost 0 tasks 2; gone submitted 3 revoked 3
    "#]]);
}

#[test]
fn a_worker_has_its_slots_in_each_of_its_queues_while_it_is_connected() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job queues=default,night concurrency=3
            w: welcome new leases []
        connect v runs=job queues=night concurrency=2
            v: welcome new leases []
        credit w 5
            w: done
        credit v 1
            v: done
        stats
            c: default: workers 1 free 3 | night: workers 2 free 5 | broker: up 0ms connections 3 workers 2 lost 0 tasks 0
        submit a queue=night
            c: Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        stats
            c: default: workers 1 busy 1 free 2 | night: leased 1 bytes 10 workers 2 busy 1 free 4; submitted 1 delivered 1 waits [1 up to 5] 0ms | broker: up 0ms connections 3 workers 2 lost 0 tasks 1
        serve w without=night
            w: done
        stats
            c: default: workers 1 busy 1 free 2 | night: leased 1 bytes 10 workers 1 free 2; submitted 1 delivered 1 waits [1 up to 5] 0ms | broker: up 0ms connections 3 workers 2 lost 0 tasks 1
        quiet v
            v: order Quiet
            c: count 1
        lose w
            w: closed
        submit b queue=night
            c: Created { state: Queued }
        stats
            c: default: | night: ready 1 leased 1 bytes 20 workers 1 busy 2 unserved 1 oldest 1000000; submitted 2 delivered 1 waits [1 up to 5] 0ms | broker: up 0ms connections 2 workers 1 lost 1 tasks 2
    "#]]);
}

#[test]
fn tasks_whose_name_no_worker_of_the_queue_knows_wait_for_a_worker() {
    check(expect![[r#"
        connect c
            c: welcome new leases []
        connect w runs=job
            w: welcome new leases []
        credit w 1
            w: done
        submit a b
            c: Created { state: Queued }, Created { state: Queued }
            w: deliver a lease 1 attempt 1 delivery 1
        submit x y name=renamed
            c: Created { state: Queued }, Created { state: Queued }
        stats
            c: default: ready 3 leased 1 bytes 40 workers 1 busy 1 unserved 2 oldest 1000000; submitted 4 delivered 1 waits [1 up to 5] 0ms | broker: up 0ms connections 2 workers 1 lost 0 tasks 4
        connect v runs=renamed queues=night
            v: welcome new leases []
        stats
            c: default: ready 3 leased 1 bytes 40 workers 1 busy 1 unserved 2 oldest 1000000; submitted 4 delivered 1 waits [1 up to 5] 0ms | night: workers 1 busy 1 | broker: up 0ms connections 3 workers 2 lost 0 tasks 4
        connect u runs=renamed
            u: welcome new leases []
        stats
            c: default: ready 3 leased 1 bytes 40 workers 2 busy 2 oldest 1000000; submitted 4 delivered 1 waits [1 up to 5] 0ms | night: workers 1 busy 1 | broker: up 0ms connections 4 workers 3 lost 0 tasks 4
        quiet u
            u: order Quiet
            c: count 1
        stats
            c: default: ready 3 leased 1 bytes 40 workers 2 busy 2 unserved 2 oldest 1000000; submitted 4 delivered 1 waits [1 up to 5] 0ms | night: workers 1 busy 1 | broker: up 0ms connections 4 workers 3 lost 0 tasks 4
    "#]]);
}

#[test]
fn a_client_with_a_scope_gets_the_counters_of_its_queues_alone() {
    check(expect![[r#"
        connect a
            a: welcome new leases []
        connect m sees=mine
            m: welcome new leases []
        submit f queue=others by=a
            a: Created { state: Queued }
        submit o queue=mine by=a
            a: Created { state: Queued }
        stats by=m
            m: mine: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 1
        stats others mine by=m
            m: mine: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 1
        stats by=a
            a: default: | mine: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 1 | others: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 1 | broker: up 0ms connections 2 workers 0 lost 0 tasks 2
        stats by=a after=mine
            a: others: ready 1 bytes 10 unserved 1 oldest 1000000; submitted 1
    "#]]);
}

#[test]
fn pages_of_counters_have_each_queue_once_and_none_is_long() {
    let name = |number: usize| QueueName::parse(format!("q{number:05}")).expect("a name");
    let mut crowd = Crowd::new();
    let queues = (0..6_000).map(name).collect();
    crowd.ask(1, Ask::Operate(Operate::PauseQueues { queues, paused: true }));
    crowd.tick_until_idle();
    crowd.said.clear();
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        crowd.ask(1, Ask::Operate(Operate::Stats { names: Vec::new(), after }));
        let Some((_, Message::Show(_, Outlines::Stats(stats)))) = crowd.said.pop() else {
            panic!("no answer")
        };
        assert_eq!(stats.broker.is_some(), pages == 0);
        assert!(stats.queues.len() <= 2_500);
        found.extend(stats.queues.into_iter().map(|queue| queue.name));
        pages += 1;
        after = stats.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<QueueName> =
        [QueueName::default()].into_iter().chain((0..6_000).map(name)).collect();
    assert_eq!(found, expected);
    assert_eq!(pages, 3);
}
