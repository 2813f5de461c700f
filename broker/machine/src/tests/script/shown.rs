//! The output of the machine, in the words of a script.

use crate::command::{
    Answer, BrokerOutline, ChordState, Cursor, ListPlace, Message, Outlines, Page, Push,
    QueueOutline, StoredOutcome, TaskOutline, WaitingFor,
};

fn words_of_page(page: Page<TaskOutline>) -> String {
    let next = page.next.map(|cursor| match cursor {
        Cursor::Slot(slot) => slot.to_string(),
        Cursor::Serial(serial) => serial.to_string(),
        Cursor::In(ListPlace { list, group, order, slot, looked }) => {
            format!("{list:?}/{group}/{order}/{slot}/{looked}")
        }
    });
    let next = next.map_or("None".to_owned(), |next| format!("Some({next})"));
    let tasks = page.tasks.into_iter().map(|(_, task)| task).collect();
    let looked = match page.looked == page.total {
        true => String::new(),
        false => format!(" looked {} of {}", page.looked, page.total),
    };
    format!("page {} next {next}{looked}", views(tasks))
}

pub(super) fn words_of(message: Message) -> String {
    match message {
        Message::Answer(_, Answer::Welcome { resumed, leases, .. }) => {
            format!("welcome {} leases {leases:?}", if resumed { "back" } else { "new" })
        }
        Message::Answer(_, Answer::Done) => "done".into(),
        Message::Answer(_, Answer::Refused(refusal)) => {
            format!("refused {:?}: {}", refusal.code, refusal.message)
        }
        Message::Answer(_, Answer::Heartbeat { .. }) => "heartbeat".into(),
        Message::Answer(_, Answer::Submitted(outcomes)) => joined(outcomes),
        Message::Answer(_, Answer::Reported(outcomes)) => joined(outcomes),
        Message::Answer(_, Answer::Stored(outcomes)) => {
            outcomes.into_iter().map(stored).collect::<Vec<_>>().join(", ")
        }
        Message::Answer(_, Answer::Chord(state)) => chord(&state),
        Message::Show(_, Outlines::Got { tasks }) => views(tasks),
        Message::Show(_, Outlines::Waited { satisfied, tasks }) => {
            format!("{} {}", if satisfied { "came:" } else { "time over:" }, views(tasks))
        }
        Message::Show(_, Outlines::Watching { tasks, .. }) => format!("watching {}", views(tasks)),
        Message::Answer(_, Answer::Forgot(outcomes)) => joined(outcomes),
        Message::Answer(_, Answer::Cancelled(outcomes)) => joined(outcomes),
        Message::Show(_, Outlines::Queues { queues, .. }) => {
            let line = |info: QueueOutline| {
                let paused = if info.record.paused { " paused" } else { "" };
                format!(
                    "{}: ready {} scheduled {} leased {} dead {}{paused}",
                    info.record.name, info.ready, info.scheduled, info.leased, info.dead
                )
            };
            queues.into_iter().map(line).collect::<Vec<_>>().join("; ")
        }
        Message::Answer(_, Answer::Declared { created, ready, workers }) => {
            let how = if created { "created" } else { "known" };
            format!("{how}: ready {ready} workers {workers}")
        }
        Message::Answer(_, Answer::Count(count)) => format!("count {count}"),
        Message::Show(_, Outlines::Page(page)) => words_of_page(page),
        Message::Show(_, Outlines::Workers { workers, .. }) => {
            let shown = workers.iter().map(|worker| {
                let lost = if worker.status.lost { " lost" } else { "" };
                format!(
                    "{} runs {:?}{lost}",
                    worker.status.instance,
                    worker.status.task_names.iter().map(|name| name.as_str()).collect::<Vec<_>>()
                )
            });
            format!("workers [{}]", shown.collect::<Vec<_>>().join(", "))
        }
        Message::Show(_, Outlines::Broker(broker)) => figures(&broker),
        Message::Show(_, Outlines::Stats(stats)) => super::counted::words_of(&stats),
        Message::Answer(_, Answer::LogFilter(filter)) => format!("filter {filter}"),
        Message::Push(Push::Signal { leases, kind, reason }) => {
            format!("signal {kind:?} leases {leases:?} ({reason})")
        }
        Message::Push(Push::Order(order)) => format!("order {order:?}"),
        Message::Transition { task, .. } => format!("sees {}", view(&task)),
        Message::Push(Push::Closing(refusal)) => {
            format!("closing {:?}: {}", refusal.code, refusal.message)
        }
        Message::Deliver(_) => unreachable!("the caller handles deliveries"),
        message => super::mail::words_of(message),
    }
}

fn figures(broker: &BrokerOutline) -> String {
    let BrokerOutline { ready, scheduled, leased, dead, ended, .. } = broker;
    let draining = if broker.draining { " draining" } else { "" };
    format!(
        "up {}ms since {}: connections {} workers {} lost {} queues {} mailboxes {}; ready {ready} \
         scheduled {scheduled} leased {leased} dead {dead} ended {ended}{draining}",
        broker.uptime_ms,
        broker.started_at,
        broker.connections,
        broker.workers,
        broker.workers_lost,
        broker.queues,
        broker.mailboxes,
    )
}

fn stored(outcome: StoredOutcome) -> String {
    match outcome {
        Ok((state, generation)) => format!("{state:?} g{generation}"),
        Err((refusal, state)) => format!("{:?} {state:?}: {}", refusal.code, refusal.message),
    }
}

fn chord(chord: &ChordState) -> String {
    let size = chord.size.map_or("?".into(), |size| size.to_string());
    let lease = match chord.lease {
        0 => String::new(),
        lease => format!(" lease {lease}"),
    };
    let parts: Vec<&str> = chord.parts.iter().map(|id| id.as_str()).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" {parts:?}") };
    let left = match chord.parts_left {
        0 => String::new(),
        left => format!(" and {left} more"),
    };
    let done = if chord.is_done { " done" } else { "" };
    format!("chord {} of {size}+{}{lease}{parts}{left}{done}", chord.count, chord.added)
}

fn joined<T: std::fmt::Debug>(items: Vec<T>) -> String {
    items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
}

fn views(tasks: Vec<TaskOutline>) -> String {
    tasks.iter().map(view).collect::<Vec<_>>().join(", ")
}

pub(super) fn view(view: &TaskOutline) -> String {
    let Some(task) = &view.task else { return format!("{} unknown", view.id) };
    let waits = match task.waiting_for {
        WaitingFor::Nothing => String::new(),
        waits => format!(" for {waits:?}"),
    };
    format!("{} {:?}{waits} g{} v{}", view.id, task.state, task.generation, task.version)
}
