//! What one entry of the access file allows. This file decides about roles and about everything
//! that a request names: queues, task names, mailboxes, exchanges. The machine decides about ids,
//! because only it knows the queue of an id: it answers a foreign id like one that does not exist.

use std::path::Path;
use std::sync::Arc;

use celeriac_machine::command::{
    Ask, Code, Connect, Dead, Filter, Mail, Operate, Produce, Refusal, Route, Scope, Serving,
    Submission, Work,
};
use celeriac_proto::{
    CHORD_MEMBER_TASK_NAME, CHORD_PART_TASK_NAME, OUTCOMES_QUEUE, QueueName, TaskName,
};

use super::object::Object;
use super::roles::{Role, Rule, asks_for_bodies, rule};

/// The roles of an entry, and the part of the broker that they hold for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rights {
    pub roles: Vec<Role>,
    /// Whether readers and operators get payloads and results.
    pub bodies: bool,
    /// `None`: all queues and all names.
    pub scope: Option<Arc<Scope>>,
    /// It may ask for figures, whatever its roles are.
    pub figures: bool,
}

type Allowed = Result<(), Refusal>;

impl Rights {
    /// The right to ask for the figures of all queues, and no other.
    pub(super) fn for_figures() -> Self {
        Self { roles: Vec::new(), bodies: false, scope: None, figures: true }
    }

    /// Decides about the first frame of a worker.
    pub(super) fn check_connect(&self, entry: &str, connect: &Connect) -> Allowed {
        let Some(worker) = &connect.worker else { return Ok(()) };
        if !self.roles.contains(&Role::Worker) {
            return Err(forbidden(entry, "does not have the role worker"));
        }
        let Some(scope) = &self.scope else { return Ok(()) };
        for (queue, _) in &worker.queues {
            allow_queue(entry, scope, queue)?;
        }
        for name in &worker.task_names {
            allow_name(entry, scope, name)?;
        }
        if worker.any_name { all_names(entry, scope, "a worker of any name") } else { Ok(()) }
    }

    /// Decides about a request. Items of a batch that are not allowed become refusals, and are
    /// returned for the audit log.
    pub(super) fn check(&self, entry: &str, ask: &mut Ask) -> Result<Object, Refusal> {
        if self.figures && matches!(ask, Ask::Operate(Operate::Stats { .. })) {
            return Ok(Object::default());
        }
        self.check_role(entry, &rule(ask), asks_for_bodies(ask))?;
        if let Ask::Operate(Operate::DeclareQueue { may_configure, .. }) = ask {
            *may_configure = self.may_configure();
        }
        let mut refused = Object::default();
        if let Some(scope) = &self.scope {
            check_scope(entry, scope, ask, &mut refused)?;
        }
        Ok(refused)
    }

    /// Whether it may change the settings of queues.
    fn may_configure(&self) -> bool {
        let names_all = self.scope.as_ref().is_none_or(|scope| scope.names.is_all());
        self.roles.contains(&Role::Operator) && names_all
    }

    fn check_role(&self, entry: &str, rule: &Rule, bodies: bool) -> Allowed {
        let Some(roles) = rule.roles else { return Ok(()) };
        if !roles.iter().any(|role| self.roles.contains(role)) {
            let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
            let needs = names.join(" or ");
            return Err(forbidden(entry, &format!("does not have the role {needs}")));
        }
        if bodies && !self.bodies && !self.roles.contains(&Role::Producer) {
            return Err(forbidden(
                entry,
                "may read no payloads and no results: that needs bodies = true, or the role producer",
            ));
        }
        Ok(())
    }
}

/// Decides about everything that a request names, within a scope.
fn check_scope(entry: &str, scope: &Scope, ask: &mut Ask, refused: &mut Object) -> Allowed {
    match ask {
        Ask::Refuse(_) | Ask::Goodbye | Ask::Heartbeat { .. } => Ok(()),
        Ask::Produce(produce) => match produce {
            Produce::Submit(tasks) => {
                check_submits(entry, scope, tasks, refused);
                Ok(())
            }
            // The parts of all chords are tasks of one reserved queue.
            Produce::Chord { .. } => {
                let names = [CHORD_PART_TASK_NAME, CHORD_MEMBER_TASK_NAME];
                let allows = |name: &&str| scope.allows(OUTCOMES_QUEUE, name);
                match names.iter().all(allows) {
                    true => Ok(()),
                    false => Err(forbidden(
                        entry,
                        &format!("does not allow the queue `{OUTCOMES_QUEUE}` of chords"),
                    )),
                }
            }
            // The machine knows the queues of the ids.
            Produce::Cancel { .. } | Produce::Forget(_) | Produce::PutOutcome(_) => Ok(()),
        },
        Ask::Observe(_) => Ok(()),
        Ask::Work(work) => match work {
            // Both are about leases that the worker has.
            Work::Credit(_) | Work::Report(_) => Ok(()),
            Work::Serve(Serving { add_queues, add_names, .. }) => {
                let mut queues = add_queues.iter().map(|(queue, _)| queue);
                queues.try_for_each(|queue| allow_queue(entry, scope, queue))?;
                add_names.iter().try_for_each(|name| allow_name(entry, scope, name))
            }
            Work::Take { queue, .. } => {
                allow_queue(entry, scope, queue)?;
                all_names(entry, scope, "a request that takes tasks of any name")
            }
        },
        Ask::Operate(operate) => check_operate(entry, scope, operate),
        Ask::Mail(mail) => check_mail(entry, scope, mail),
        Ask::Route(route) => match route {
            Route::DeclareExchange(record) => allow_queue(entry, scope, &record.name),
            Route::FindExchange(exchange) | Route::DeleteExchange { exchange, .. } => {
                allow_queue(entry, scope, exchange)
            }
            Route::Bind(binding) | Route::Unbind(binding) => {
                allow_queue(entry, scope, &binding.exchange)?;
                allow_queue(entry, scope, binding.to.as_str())
            }
            Route::ListBindings { .. } => Ok(()),
        },
    }
}

/// Most batches have tasks of one queue and one name, which is looked up once.
fn check_submits(
    entry: &str,
    scope: &Scope,
    tasks: &mut [Result<Submission, Refusal>],
    refused: &mut Object,
) {
    let mut latest: Option<(QueueName, TaskName)> = None;
    for item in tasks {
        let Ok(submission) = item else { continue };
        let (queue, name) = (&submission.spec.queue, &submission.spec.name);
        if latest.as_ref().is_some_and(|(known, of)| known == queue && of == name) {
            continue;
        }
        let allowed =
            allow_queue(entry, scope, queue).and_then(|()| allow_name(entry, scope, name));
        match allowed {
            Ok(()) => latest = Some((queue.clone(), name.clone())),
            Err(refusal) => {
                refused.add_queue(queue);
                refused.add_id(&submission.spec.id);
                *item = Err(refusal);
            }
        }
    }
}

fn check_operate(entry: &str, scope: &Scope, operate: &Operate) -> Allowed {
    let whole_queue = |queue: &QueueName| {
        allow_queue(entry, scope, queue)?;
        all_names(entry, scope, "a request about a whole queue")
    };
    match operate {
        Operate::ListQueues { names, .. } | Operate::Stats { names, .. } => {
            names.iter().try_for_each(|queue| allow_queue(entry, scope, queue))
        }
        Operate::ConfigureQueue(record) => whole_queue(&record.name),
        Operate::DeclareQueue { record, .. } => allow_queue(entry, scope, &record.name),
        Operate::PauseQueues { queues, .. } => queues.iter().try_for_each(whole_queue),
        Operate::PurgeQueue { queue, .. } => whole_queue(queue),
        Operate::ReplayDead(Dead::Matching(filter))
        | Operate::DiscardDead(Dead::Matching(filter))
        | Operate::ListTasks { filter, .. } => check_filter(entry, scope, filter),
        Operate::ReplayDead(Dead::Ids(_)) | Operate::DiscardDead(Dead::Ids(_)) => Ok(()),
        Operate::ListWorkers { .. } => Ok(()),
        Operate::OrderWorkers { .. } => all_names(entry, scope, "an order to workers"),
        Operate::Backup(_) | Operate::Info | Operate::Drain(_) | Operate::LogFilter(_) => {
            Err(forbidden(
                entry,
                "does not allow requests about the whole broker: they need queues = [\"*\"] and \
             names = [\"*\"]",
            ))
        }
    }
}

fn check_filter(entry: &str, scope: &Scope, filter: &Filter) -> Allowed {
    if let Some(queue) = &filter.queue {
        allow_queue(entry, scope, queue)?;
    }
    filter.name.as_ref().map_or(Ok(()), |name| allow_name(entry, scope, name))
}

fn check_mail(entry: &str, scope: &Scope, mail: &Mail) -> Allowed {
    match mail {
        Mail::DeclareMailbox(name, _)
        | Mail::FindMailbox(name)
        | Mail::DeleteMailbox { mailbox: name, .. }
        | Mail::PurgeMailbox(name)
        | Mail::Consume(name)
        | Mail::Fetch(name) => allow_queue(entry, scope, name),
        Mail::Publish(publish) => {
            // Without an exchange the routing key is the name of the mailbox.
            let message = &publish.message;
            allow_queue(entry, scope, message.exchange.as_deref().unwrap_or(&message.routing_key))
        }
        // These are about what the connection has consumed.
        Mail::Unconsume(_) | Mail::Ack(_) | Mail::PutBack(_) => Ok(()),
        Mail::ListMailboxes { .. } => Ok(()),
    }
}

/// The names of mailboxes and exchanges count as names of queues.
fn allow_queue(entry: &str, scope: &Scope, queue: &str) -> Allowed {
    match scope.queues.allow(queue) {
        true => Ok(()),
        false => Err(forbidden(entry, &format!("does not allow the queue `{queue}`"))),
    }
}

fn allow_name(entry: &str, scope: &Scope, name: &str) -> Allowed {
    match scope.names.allow(name) {
        true => Ok(()),
        false => Err(forbidden(entry, &format!("does not allow the task name `{name}`"))),
    }
}

fn all_names(entry: &str, scope: &Scope, what: &str) -> Allowed {
    match scope.names.is_all() {
        true => Ok(()),
        false => Err(forbidden(entry, &format!("allows some names alone, and {what} needs all"))),
    }
}

fn forbidden(entry: &str, why: &str) -> Refusal {
    Refusal::new(Code::Forbidden, format!("the access `{entry}` {why}"))
}

/// A backup of a broker with an access file goes into the folder that the operator chose.
pub(super) fn place_backup(ask: &mut Ask, folder: Option<&Path>) -> Allowed {
    let Ask::Operate(Operate::Backup(name)) = ask else { return Ok(()) };
    match folder {
        Some(folder) => {
            *name = folder.join(&*name);
            Ok(())
        }
        None => Err(Refusal::new(
            Code::InvalidArgument,
            "the broker has no backup_folder, which a backup needs where there is an access file",
        )),
    }
}
