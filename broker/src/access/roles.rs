//! Roles: which requests each of them allows. The table has every request; a request without a row
//! does not compile.

use celeriac_machine::command::{Ask, ChordAsk, Mail, Observe, Operate, Produce, Route, Work};
use celeriac_record::QueueRecord;

/// A set of requests that an entry of the access file may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Submits tasks, follows them and ends them.
    Producer,
    /// Serves queues.
    Worker,
    /// Looks at everything, and changes nothing.
    Reader,
    /// Changes queues, dead tasks and workers.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::Producer, Role::Worker, Role::Reader, Role::Operator];

    /// The name in the access file.
    pub fn name(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Worker => "worker",
            Role::Reader => "reader",
            Role::Operator => "operator",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Whether the audit log has a line for a request that was allowed. It has one for each that was
/// refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audited {
    Always,
    /// With `audit = "all"`.
    OnWish,
    Never,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// The name of the request in the audit log.
    pub action: &'static str,
    /// One of these roles is needed; `None`: no role, because the request is about the connection
    /// itself.
    pub roles: Option<&'static [Role]>,
    pub audited: Audited,
}

use Role::{Operator, Producer, Reader, Worker};

/// The row of a request.
pub(super) fn rule(ask: &Ask) -> Rule {
    match ask {
        Ask::Refuse(_) => anyone("refused"),
        Ask::Goodbye => anyone("goodbye"),
        Ask::Heartbeat { .. } => anyone("heartbeat"),
        Ask::Produce(produce) => rule_of_producer(produce),
        Ask::Observe(observe) => match observe {
            Observe::Get { .. } => read("get", &[Producer, Reader, Operator]),
            Observe::Wait { .. } => read("wait", &[Producer, Reader, Operator]),
            Observe::Watch { .. } => read("watch", &[Producer, Reader, Operator]),
            Observe::Unwait(_) => anyone("unwait"),
            Observe::Unwatch { .. } => anyone("unwatch"),
        },
        Ask::Work(work) => match work {
            Work::Credit(_) => read("credit", &[Worker]),
            Work::Report(_) => read("report", &[Worker]),
            Work::Serve(_) => read("serve", &[Worker]),
            Work::Take { .. } => read("take", &[Worker]),
        },
        Ask::Operate(operate) => rule_of_operator(operate),
        Ask::Mail(mail) => rule_of_mail(mail),
        Ask::Route(route) => match route {
            Route::DeclareExchange(_) => change("declare_exchange", &[Producer, Worker, Operator]),
            Route::FindExchange(_) => read("find_exchange", &[Producer, Worker, Operator]),
            Route::DeleteExchange { .. } => {
                change("delete_exchange", &[Producer, Worker, Operator])
            }
            Route::Bind(_) => change("bind", &[Producer, Worker, Operator]),
            Route::Unbind(_) => change("unbind", &[Producer, Worker, Operator]),
            Route::ListBindings { .. } => {
                read("list_bindings", &[Producer, Worker, Reader, Operator])
            }
        },
    }
}

fn rule_of_producer(produce: &Produce) -> Rule {
    match produce {
        Produce::Submit(_) => change("submit", &[Producer]),
        Produce::Cancel { .. } => change("cancel", &[Producer, Operator]),
        Produce::Forget(_) => change("forget", &[Producer, Operator]),
        Produce::PutOutcome(_) => change("put_outcome", &[Producer, Worker]),
        Produce::Chord { ask, .. } => match ask {
            ChordAsk::Part(_) => change("chord_part", &[Producer, Worker]),
            ChordAsk::Extend(_) => change("chord_extend", &[Producer, Worker]),
            ChordAsk::Done { .. } => change("chord_done", &[Producer, Worker]),
        },
    }
}

fn rule_of_operator(operate: &Operate) -> Rule {
    match operate {
        Operate::ListQueues { .. } => read("list_queues", &[Reader, Operator]),
        // A producer may get every task of its scope by its id, and so it may look for those of
        // one tree.
        Operate::ListTasks { filter, .. } if filter.root.is_some() => {
            read("list_tasks", &[Producer, Reader, Operator])
        }
        Operate::ListTasks { .. } => read("list_tasks", &[Reader, Operator]),
        Operate::ListWorkers { .. } => read("list_workers", &[Reader, Operator]),
        Operate::Info => read("info", &[Reader, Operator]),
        Operate::Stats { .. } => read("stats", &[Reader, Operator]),
        // Apps declare the queues that they use.
        Operate::DeclareQueue { passive: true, .. } => {
            read("declare_queue", &[Producer, Worker, Operator])
        }
        Operate::DeclareQueue { passive: false, record, .. } => {
            let rule = change("declare_queue", &[Producer, Worker, Operator]);
            // It may change the settings of a queue, and then it is like an action of an operator.
            let audited = if brings_settings(record) { Audited::Always } else { rule.audited };
            Rule { audited, ..rule }
        }
        Operate::ConfigureQueue(_) => action("configure_queue"),
        Operate::PauseQueues { paused: true, .. } => action("pause_queues"),
        Operate::PauseQueues { paused: false, .. } => action("resume_queues"),
        Operate::Drain(true) => action("drain"),
        Operate::Drain(false) => action("end_drain"),
        Operate::LogFilter(None) => read("show_log_filter", &[Reader, Operator]),
        Operate::LogFilter(Some(_)) => action("change_log_filter"),
        Operate::PurgeQueue { delete: false, .. } => action("purge_queue"),
        Operate::PurgeQueue { delete: true, .. } => action("delete_queue"),
        Operate::ReplayDead(_) => action("replay_dead"),
        Operate::DiscardDead(_) => action("discard_dead"),
        Operate::OrderWorkers { .. } => action("order_workers"),
        Operate::Backup(_) => action("backup"),
    }
}

fn brings_settings(record: &QueueRecord) -> bool {
    let QueueRecord {
        name: _,
        paused: _,
        tasks_max,
        bytes_max,
        expires_in_ms,
        result_ttl_ms,
        declared: _,
        idle_ms,
    } = record;
    [tasks_max, bytes_max, expires_in_ms, result_ttl_ms, idle_ms].into_iter().any(Option::is_some)
}

fn rule_of_mail(mail: &Mail) -> Rule {
    const ROLES: &[Role] = &[Producer, Worker, Operator];
    match mail {
        Mail::DeclareMailbox(..) => change("declare_mailbox", ROLES),
        Mail::FindMailbox(_) => read("find_mailbox", ROLES),
        Mail::DeleteMailbox { .. } => change("delete_mailbox", ROLES),
        Mail::PurgeMailbox(_) => change("purge_mailbox", ROLES),
        Mail::Consume(_) => read("consume", ROLES),
        Mail::Fetch(_) => read("fetch_mail", ROLES),
        Mail::Publish(_) => change("publish", ROLES),
        Mail::Unconsume(_) => anyone("unconsume"),
        Mail::Ack(_) => anyone("ack_mail"),
        Mail::PutBack(_) => anyone("put_back_mail"),
        Mail::ListMailboxes { .. } => read("list_mailboxes", &[Producer, Worker, Reader, Operator]),
    }
}

/// A request about what the connection itself has begun or got.
fn anyone(action: &'static str) -> Rule {
    Rule { action, roles: None, audited: Audited::Never }
}

fn read(action: &'static str, roles: &'static [Role]) -> Rule {
    Rule { action, roles: Some(roles), audited: Audited::Never }
}

fn change(action: &'static str, roles: &'static [Role]) -> Rule {
    Rule { action, roles: Some(roles), audited: Audited::OnWish }
}

/// A request of operators alone.
fn action(action: &'static str) -> Rule {
    Rule { action, roles: Some(&[Operator]), audited: Audited::Always }
}

/// Whether a request asks for payloads or results.
pub(super) fn asks_for_bodies(ask: &Ask) -> bool {
    match ask {
        Ask::Observe(
            Observe::Get { with_results: true, .. }
            | Observe::Get { with_payloads: true, .. }
            | Observe::Wait { with_results: true, .. }
            | Observe::Watch { with_results: true, .. },
        ) => true,
        Ask::Observe(
            Observe::Get { .. }
            | Observe::Wait { .. }
            | Observe::Watch { .. }
            | Observe::Unwait(_)
            | Observe::Unwatch { .. },
        ) => false,
        Ask::Refuse(_)
        | Ask::Goodbye
        | Ask::Heartbeat { .. }
        | Ask::Produce(_)
        | Ask::Work(_)
        | Ask::Operate(_)
        | Ask::Mail(_)
        | Ask::Route(_) => false,
    }
}
