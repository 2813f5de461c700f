//! Records that no broker writes, found by the fuzz target of stored chunks. The machine restores
//! them and continues.

use celeriac_proto::{QueueName, TaskId, TaskName};
use celeriac_record::{
    Actor, Cancel, Changed, ClosedBy, Record, State, Submitted, TaskKey, TaskSpec,
};

use super::script::settings;
use crate::command::{
    Ask, Command, Connect, Effect, Message, Now, Release, ReportKind, TaskReport, Work, WorkerInfo,
};
use crate::{Effects, Machine};

const NOW: Now = Now { wall: 1_000_000, mono: 0 };
const KEY: TaskKey = TaskKey { slot: 0, serial: 1 };
const SESSION: [u8; 16] = [7; 16];

fn submitted() -> Record {
    Record::Submitted(Box::new(Submitted {
        key: KEY,
        generation: 1,
        after: None,
        submitted_at: NOW.wall,
        eta: None,
        expires: None,
        result_ttl_ms: 60_000,
        spec: TaskSpec {
            max_deliveries: 3,
            ..TaskSpec::new(
                TaskId::parse("a").expect("an id"),
                TaskName::parse("job").expect("a name"),
            )
        },
    }))
}

fn started() -> Changed {
    Changed {
        key: KEY,
        state: State::Started,
        version: 3,
        at: NOW.wall,
        actor: Actor::Worker,
        lease: 5,
        closed_by: ClosedBy::Nobody,
        session: Some(SESSION),
        worker: "w".into(),
        attempts: 1,
        deliveries: 1,
        losses: 0,
        silent: 0,
        due: None,
        leased_at: None,
        started_at: None,
        progress: None,
        errors: Vec::new(),
        result: None,
        result_ttl_ms: None,
        revoked_reason: "".into(),
        cancel: Cancel::None,
        cancel_at: None,
        settled: false,
        redelivered: false,
    }
}

fn restored(changed: Changed) -> Machine {
    let mut machine = Machine::new(settings());
    machine.restore(NOW, submitted());
    machine.restore(NOW, Record::Changed(Box::new(changed)));
    machine.restored(NOW, 5, 1, &mut Effects::default());
    machine.check_invariants();
    machine
}

/// Resumes the session as its worker and releases lease 5. Returns the leases of all deliveries.
fn resume_and_release(machine: &mut Machine) -> Vec<u64> {
    let worker = WorkerInfo {
        queues: vec![(QueueName::default(), 1)],
        task_names: vec![TaskName::parse("job").expect("a name")],
        hostname: "host".into(),
        pid: 1,
        concurrency: 1,
        ..WorkerInfo::default()
    };
    let (connection, session_id) = (1, [1; 16]);
    let (resume, worker) = (Some(SESSION), Some(worker));
    let connect = Connect {
        connection,
        request: 1,
        session_id,
        resume,
        instance: "w".into(),
        worker,
        entry: None,
        scope: None,
    };
    let report = TaskReport {
        id: TaskId::parse("a").expect("an id"),
        lease: 5,
        kind: ReportKind::Release(Release::Unfinished),
    };
    let mut fx = Effects::default();
    machine.apply(NOW, Command::Connect(Box::new(connect)), &mut fx);
    for ask in [Ask::Work(Work::Report(vec![Ok(report)])), Ask::Work(Work::Credit(1))] {
        machine.apply(NOW, Command::Request { connection, request: 2, ask }, &mut fx);
    }
    machine.tick(NOW, &mut fx);
    machine.check_invariants();
    let delivered = fx.list.into_iter().filter_map(|effect| match effect {
        Effect::Send(_, Message::Deliver(deliveries)) => Some(deliveries),
        _ => None,
    });
    delivered.flatten().map(|delivery| delivery.lease).collect()
}

#[test]
fn a_restored_lease_that_is_nobodys_is_handed_out_again() {
    let mut machine = restored(Changed { session: None, ..started() });
    assert_eq!(resume_and_release(&mut machine), [6]);
}

#[test]
fn a_restored_lease_that_was_never_counted_can_be_released() {
    let mut machine = restored(Changed { attempts: 0, deliveries: 0, ..started() });
    assert_eq!(resume_and_release(&mut machine), [6]);
}

#[test]
fn restored_counts_at_their_highest_rise_no_further() {
    let mut machine = restored(Changed {
        version: u32::MAX,
        attempts: u32::MAX,
        deliveries: u32::MAX,
        ..started()
    });
    assert_eq!(resume_and_release(&mut machine), [6]);
}

#[test]
fn a_restored_task_that_waits_after_a_cancel_is_called_off() {
    let mut machine = restored(Changed {
        state: State::Queued,
        session: None,
        cancel: Cancel::Told,
        revoked_reason: "cancelled".into(),
        ..started()
    });
    let connection = 1;
    let worker = WorkerInfo {
        queues: vec![(QueueName::default(), 1)],
        any_name: true,
        concurrency: 1,
        ..WorkerInfo::default()
    };
    let (session_id, worker) = ([1; 16], Some(worker));
    let connect = Connect {
        connection,
        request: 1,
        session_id,
        resume: None,
        instance: "w".into(),
        worker,
        entry: None,
        scope: None,
    };
    let mut fx = Effects::default();
    machine.apply(NOW, Command::Connect(Box::new(connect)), &mut fx);
    let ask = Ask::Work(Work::Credit(1));
    machine.apply(NOW, Command::Request { connection, request: 2, ask }, &mut fx);
    machine.tick(NOW, &mut fx);
    machine.check_invariants();
    let reasons = fx.list.into_iter().filter_map(|effect| match effect {
        Effect::Send(_, Message::Deliver(deliveries)) => deliveries[0].revoked_reason.clone(),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), ["cancelled".into()]);
}
