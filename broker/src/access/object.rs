//! What a request is about, for the audit log: the queues and the ids that it names, and what else
//! it asks for. Never payloads, headers or results.

use std::fmt::Write as _;

use celeriac_machine::command::{
    Ask, CancelTarget, Connect, Dead, Filter, Forbidden, Mail, Observe, Operate, Order, Produce,
    Route, Work,
};
use celeriac_proto::TaskName;
use celeriac_record::QueueRecord;

use super::line::{add_count, add_named, add_texts};

/// The ids, and the queues, that a line names. It has the number of all ids.
const NAMED_MAX: usize = 10;

/// What a request is about.
#[derive(Debug, Default)]
pub(super) struct Object {
    queues: Vec<Box<str>>,
    ids: Vec<Box<str>>,
    count: usize,
    /// What the names do not say.
    detail: String,
}

impl Object {
    /// The queues and ids that a request names. A request that names neither is about itself.
    pub(super) fn of(ask: &Ask) -> Self {
        let mut object = Self::default();
        match ask {
            Ask::Produce(Produce::Submit(tasks)) => {
                for submission in tasks.iter().flatten() {
                    object.add_queue(&submission.spec.queue);
                    object.add_id(&submission.spec.id);
                }
            }
            Ask::Produce(Produce::Forget(ids))
            | Ask::Observe(
                Observe::Get { ids, .. } | Observe::Wait { ids, .. } | Observe::Watch { ids, .. },
            )
            | Ask::Operate(
                Operate::ReplayDead(Dead::Ids(ids)) | Operate::DiscardDead(Dead::Ids(ids)),
            ) => ids.iter().for_each(|id| object.add_id(id)),
            Ask::Produce(Produce::PutOutcome(outcomes)) => {
                outcomes.iter().flatten().for_each(|outcome| object.add_id(&outcome.id));
            }
            Ask::Produce(Produce::Chord { group, .. }) => object.add_id(group),
            Ask::Work(Work::Take { queue, .. })
            | Ask::Operate(Operate::PurgeQueue { queue, .. }) => object.add_queue(queue),
            Ask::Work(Work::Serve(serving)) => {
                serving.add_queues.iter().for_each(|(queue, _)| object.add_queue(queue));
                object.add_task_names(&serving.add_names);
            }
            Ask::Operate(
                Operate::ConfigureQueue(record) | Operate::DeclareQueue { record, .. },
            ) => {
                object.add_queue(&record.name);
                object.add_settings(record);
            }
            Ask::Operate(
                Operate::PauseQueues { queues, .. }
                | Operate::ListQueues { names: queues, .. }
                | Operate::Stats { names: queues, .. },
            ) => queues.iter().for_each(|queue| object.add_queue(queue)),
            Ask::Operate(
                Operate::ReplayDead(Dead::Matching(filter))
                | Operate::DiscardDead(Dead::Matching(filter))
                | Operate::ListTasks { filter, .. },
            ) => object.add_filter(filter),
            Ask::Operate(Operate::OrderWorkers { instances, order }) => {
                instances.iter().for_each(|instance| object.add_id(instance));
                object.add_detail(match order {
                    Order::Quiet => "quiet",
                    Order::Shutdown => "shutdown",
                    Order::Resume => "resume",
                });
            }
            Ask::Operate(Operate::LogFilter(filter)) => {
                filter.iter().for_each(|filter| object.add_detail(filter));
            }
            Ask::Produce(Produce::Cancel { target, .. }) => object.add_target(target),
            Ask::Operate(Operate::Backup(folder)) => object.add_id(&folder.to_string_lossy()),
            Ask::Mail(mail) => object.add_mail(mail),
            Ask::Route(route) => object.add_route(route),
            Ask::Observe(Observe::Unwait(_) | Observe::Unwatch { .. })
            | Ask::Work(Work::Credit(_) | Work::Report(_))
            | Ask::Operate(Operate::ListWorkers { .. } | Operate::Info | Operate::Drain(_))
            | Ask::Refuse(_)
            | Ask::Goodbye
            | Ask::Heartbeat { .. } => {}
        }
        object
    }

    /// The worker that wants to connect.
    pub(super) fn of_worker(connect: &Connect) -> Self {
        let mut object = Self::default();
        if let Some(worker) = &connect.worker {
            worker.queues.iter().for_each(|(queue, _)| object.add_queue(queue));
            object.add_task_names(&worker.task_names);
            if worker.any_name {
                object.add_detail("tasks of any name");
            }
        }
        object
    }

    /// What the machine refused.
    pub(super) fn of_forbidden(forbidden: &Forbidden) -> Self {
        let mut object = Self::default();
        match forbidden {
            Forbidden::Outcomes { ids, count } => {
                ids.iter().for_each(|id| object.add_id(id));
                object.count = *count;
            }
            Forbidden::Exchange(name) => object.add_queue(name),
            Forbidden::Mailbox(name) => object.add_queue(name),
        }
        object
    }

    /// Adds its part of a line.
    pub(super) fn add_to(&self, line: &mut String) {
        if !self.queues.is_empty() {
            add_texts(line, "queues", &self.queues);
        }
        if self.count > 0 {
            add_texts(line, "ids", &self.ids);
            add_count(line, "count", self.count as u64);
        }
        if !self.detail.is_empty() {
            add_named(line, "detail", &self.detail);
        }
    }

    fn add_target(&mut self, target: &CancelTarget) {
        match target {
            CancelTarget::Ids(ids) => ids.iter().for_each(|id| self.add_id(id)),
            CancelTarget::Root(root) => self.add_part("root", root),
            CancelTarget::Tag(tag) => self.add_part("tag", tag),
        }
    }

    fn add_filter(&mut self, filter: &Filter) {
        let Filter { queue, states, name, tag, root, id_prefix, .. } = filter;
        queue.iter().for_each(|queue| self.add_queue(queue));
        states.iter().for_each(|state| self.add_part("state", state.name()));
        name.iter().for_each(|name| self.add_part("name", name));
        tag.iter().for_each(|tag| self.add_part("tag", tag));
        root.iter().for_each(|root| self.add_part("root", root));
        if !id_prefix.is_empty() {
            self.add_part("ids that begin with", id_prefix);
        }
    }

    fn add_settings(&mut self, record: &QueueRecord) {
        for (setting, value) in [
            ("tasks_max", record.tasks_max),
            ("bytes_max", record.bytes_max),
            ("expires_in_ms", record.expires_in_ms),
            ("result_ttl_ms", record.result_ttl_ms),
            ("idle_ms", record.idle_ms),
        ] {
            value.iter().for_each(|value| self.add_part(setting, &value.to_string()));
        }
    }

    fn add_task_names(&mut self, names: &[TaskName]) {
        names.iter().take(NAMED_MAX).for_each(|name| self.add_part("name", name));
    }

    fn add_part(&mut self, what: &str, value: &str) {
        let separator = if self.detail.is_empty() { "" } else { ", " };
        let _ = write!(self.detail, "{separator}{what} {value}");
    }

    fn add_detail(&mut self, detail: &str) {
        let separator = if self.detail.is_empty() { "" } else { ", " };
        let _ = write!(self.detail, "{separator}{detail}");
    }

    /// The names of mailboxes and exchanges count as names of queues.
    fn add_mail(&mut self, mail: &Mail) {
        match mail {
            Mail::DeclareMailbox(name, _)
            | Mail::FindMailbox(name)
            | Mail::DeleteMailbox { mailbox: name, .. }
            | Mail::PurgeMailbox(name)
            | Mail::Consume(name)
            | Mail::Fetch(name) => self.add_queue(name),
            Mail::Publish(publish) => {
                let message = &publish.message;
                self.add_queue(message.exchange.as_deref().unwrap_or(&message.routing_key));
            }
            Mail::Unconsume(_) | Mail::Ack(_) | Mail::PutBack(_) | Mail::ListMailboxes { .. } => {}
        }
    }

    fn add_route(&mut self, route: &Route) {
        match route {
            Route::DeclareExchange(record) => self.add_queue(&record.name),
            Route::FindExchange(exchange) | Route::DeleteExchange { exchange, .. } => {
                self.add_queue(exchange);
            }
            Route::Bind(binding) | Route::Unbind(binding) => {
                self.add_queue(&binding.exchange);
                self.add_queue(binding.to.as_str());
            }
            Route::ListBindings { .. } => {}
        }
    }

    pub(super) fn add_queue(&mut self, queue: &str) {
        if self.queues.len() < NAMED_MAX && !self.queues.iter().any(|known| **known == *queue) {
            self.queues.push(queue.into());
        }
    }

    /// Whether it names no task.
    pub(super) fn is_without_tasks(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add_id(&mut self, id: &str) {
        if self.ids.len() < NAMED_MAX {
            self.ids.push(id.into());
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o12_a_line_names_ten_ids_and_queues_and_has_the_number_of_all_ids() {
        let mut object = Object::default();
        (0..12).for_each(|number| object.add_id(&format!("id-{number}")));
        (0..24).for_each(|number| object.add_queue(&format!("queue-{}", number / 2)));
        object.add_part("tag", "night");
        object.add_part("root", "r");
        let mut line = String::new();
        object.add_to(&mut line);
        assert!(line.starts_with(",\"queues\":[\"queue-0\",\"queue-1\","), "{line}");
        assert!(line.contains("\"queue-9\"],\"ids\":[\"id-0\","), "{line}");
        assert!(
            line.ends_with("\"id-9\"],\"count\":12,\"detail\":\"tag night, root r\""),
            "{line}"
        );
    }
}
