//! The requests of operators: from the wire to [`Operate`].

use std::path::{Component, Path, PathBuf};

use bytes::{Buf, Bytes};
use celeriac_machine::command::{Cursor, Dead, Filter, List, ListPlace, Operate, Order};
use celeriac_proto::limits::{BATCH_ITEMS_MAX, NAME_BYTES_MAX};
use celeriac_proto::wire;
use celeriac_proto::{QueueName, TaskName};
use celeriac_record::QueueRecord;

use super::{Bounds, Checked, batch, ids, invalid, known_state, short, span, time};

/// A level for each part of the program takes far less.
const LOG_FILTER_BYTES_MAX: usize = 1_024;

/// Tasks on one page of a listing, by default and at most.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// The bytes of a cursor of a list.
const LIST_CURSOR_BYTES: usize = 29;

const NOT_OURS: &str = "the cursor is not one of ours";

pub(super) fn list_queues(list: wire::ListQueues) -> Checked<Operate> {
    at_most_a_batch(list.queues.len())?;
    let after = queue_cursor(&list.cursor)?;
    Ok(Operate::ListQueues { names: queue_names(list.queues)?, after })
}

pub(super) fn stats(stats: wire::Stats) -> Checked<Operate> {
    at_most_a_batch(stats.queues.len())?;
    let after = queue_cursor(&stats.cursor)?;
    Ok(Operate::Stats { names: queue_names(stats.queues)?, after })
}

pub(super) fn configure_queue(configure: wire::ConfigureQueue) -> Checked<Operate> {
    Ok(Operate::ConfigureQueue(queue_record(configure.queue, configure.settings)?))
}

pub(super) fn declare_queue(declare: wire::DeclareQueue) -> Checked<Operate> {
    let record = QueueRecord {
        idle_ms: span("idle_ms", declare.idle_ms, 1)?,
        ..queue_record(declare.queue, declare.settings)?
    };
    // The access of the client may take this right away.
    Ok(Operate::DeclareQueue { record, passive: declare.passive, may_configure: true })
}

pub(super) fn pause_queues(pause: wire::PauseQueues) -> Checked<Operate> {
    batch(pause.queues.len())?;
    Ok(Operate::PauseQueues { queues: queue_names(pause.queues)?, paused: pause.paused })
}

pub(super) fn purge_queue(purge: wire::PurgeQueue) -> Checked<Operate> {
    Ok(Operate::PurgeQueue { queue: QueueName::parse(purge.queue)?, delete: false })
}

pub(super) fn delete_queue(delete: wire::DeleteQueue) -> Checked<Operate> {
    Ok(Operate::PurgeQueue { queue: QueueName::parse(delete.queue)?, delete: true })
}

pub(super) fn replay_dead(replay: wire::ReplayDead) -> Checked<Operate> {
    Ok(Operate::ReplayDead(dead(replay.ids, replay.filter)?))
}

pub(super) fn discard_dead(discard: wire::DiscardDead) -> Checked<Operate> {
    Ok(Operate::DiscardDead(discarded(discard)?))
}

pub(super) fn list_workers(list: wire::ListWorkers) -> Checked<Operate> {
    let after = cursor(&list.cursor)?.map(u64::from_be_bytes);
    Ok(Operate::ListWorkers { after, with_tracebacks: list.with_tracebacks })
}

pub(super) fn order_workers(order: wire::OrderWorkers) -> Checked<Operate> {
    if order.instance_ids.len() > BATCH_ITEMS_MAX {
        return Err(invalid(format!(
            "an order names at most {BATCH_ITEMS_MAX} workers; without names it is for all"
        )));
    }
    let kind = match order.order() {
        wire::order::Kind::Quiet => Order::Quiet,
        wire::order::Kind::Shutdown => Order::Shutdown,
        wire::order::Kind::Resume => Order::Resume,
        wire::order::Kind::Unspecified => {
            return Err(invalid("the order is missing or unknown"));
        }
    };
    let instances = order.instance_ids.into_iter().map(|id| short("instance id", id));
    Ok(Operate::OrderWorkers { order: kind, instances: instances.collect::<Checked<_>>()? })
}

pub(super) fn backup(backup: wire::Backup, bounds: &Bounds) -> Checked<Operate> {
    if bounds.names_backups {
        return backup_name(&backup.folder).map(Operate::Backup);
    }
    if !Path::new(&backup.folder).is_absolute() {
        return Err(invalid("the folder of a backup is an absolute path on the broker's machine"));
    }
    Ok(Operate::Backup(backup.folder.into()))
}

/// The name of a backup below the folder of all backups.
fn backup_name(name: &str) -> Checked<PathBuf> {
    let path = Path::new(name);
    let is_one_name = path.components().count() == 1
        && matches!(path.components().next(), Some(Component::Normal(part)) if part == name);
    match is_one_name && name.len() <= NAME_BYTES_MAX {
        true => Ok(path.to_owned()),
        false => Err(invalid(
            "a backup of this broker has a name without `/`, and goes into its backup_folder",
        )),
    }
}

pub(super) fn log_filter(filter: wire::LogFilter) -> Checked<Operate> {
    match filter.filter {
        Some(filter) if filter.len() > LOG_FILTER_BYTES_MAX => Err(invalid(format!(
            "a log filter has at most {LOG_FILTER_BYTES_MAX} bytes, this one has {}",
            filter.len()
        ))),
        filter => Ok(Operate::LogFilter(filter.map(Into::into))),
    }
}

/// Like [`batch`], where an empty list means all items.
fn at_most_a_batch(items: usize) -> Checked<()> {
    if items == 0 { Ok(()) } else { batch(items) }
}

fn queue_names(names: Vec<String>) -> Checked<Vec<QueueName>> {
    Ok(names.into_iter().map(QueueName::parse).collect::<Result<_, _>>()?)
}

fn queue_record(name: String, settings: Option<wire::QueueSettings>) -> Checked<QueueRecord> {
    let settings = settings.unwrap_or_default();
    Ok(QueueRecord {
        name: QueueName::parse(name)?,
        paused: false,
        tasks_max: settings.tasks_max,
        bytes_max: settings.bytes_max,
        expires_in_ms: span("expires_in_ms", settings.expires_in_ms, 0)?,
        result_ttl_ms: span("result_ttl_ms", settings.result_ttl_ms, 0)?,
        declared: false,
        idle_ms: None,
    })
}

pub(super) fn list_tasks(list: wire::ListTasks) -> Checked<Operate> {
    if list.limit > PAGE_MAX {
        return Err(invalid(format!("a page has at most {PAGE_MAX} tasks")));
    }
    let wire::ListTasks { newest_first, just_ended, .. } = list;
    let after = match (newest_first, list.cursor.len()) {
        (true, _) => cursor(&list.cursor)?.map(|bytes| Cursor::Serial(u64::from_be_bytes(bytes))),
        (false, 0) => None,
        (false, LIST_CURSOR_BYTES) => Some(Cursor::In(list_place(&list.cursor, just_ended)?)),
        (false, _) if just_ended => return Err(invalid(NOT_OURS)),
        (false, _) => cursor(&list.cursor)?.map(|bytes| Cursor::Slot(u32::from_be_bytes(bytes))),
    };
    let limit = if list.limit == 0 { PAGE_DEFAULT } else { list.limit } as usize;
    let filter = filter(list.filter.unwrap_or_default())?;
    let with_tracebacks = list.with_tracebacks;
    Ok(Operate::ListTasks { filter, limit, newest_first, just_ended, after, with_tracebacks })
}

/// The place in a list where a page begins. `encode/listings.rs` writes it.
fn list_place(cursor: &Bytes, just_ended: bool) -> Checked<ListPlace> {
    let mut bytes = cursor.clone();
    let list = match bytes.get_u8() {
        1 => List::Dead,
        2 => List::Leases,
        3 => List::Line,
        4 => List::Ended,
        _ => return Err(invalid(NOT_OURS)),
    };
    if just_ended != (list == List::Ended) {
        return Err(invalid("the cursor is that of another listing"));
    }
    let (group, order) = (bytes.get_u64(), bytes.get_u64());
    let (slot, looked) = (bytes.get_u32(), bytes.get_u64());
    Ok(ListPlace { list, group, order, slot, looked })
}

/// The place where a page begins. `None`: the start.
fn cursor<const N: usize>(bytes: &[u8]) -> Checked<Option<[u8; N]>> {
    match bytes {
        [] => Ok(None),
        bytes => Ok(Some(bytes.try_into().map_err(|_| invalid(NOT_OURS))?)),
    }
}

/// Like [`cursor`], for a listing in the order of names.
fn queue_cursor(bytes: &[u8]) -> Checked<Option<QueueName>> {
    let name = |bytes| QueueName::parse(std::str::from_utf8(bytes).ok()?).ok();
    match bytes {
        [] => Ok(None),
        bytes => Ok(Some(name(bytes).ok_or_else(|| invalid(NOT_OURS))?)),
    }
}

fn filter(filter: wire::TaskFilter) -> Checked<Filter> {
    let some = |text: Box<str>| (!text.is_empty()).then_some(text);
    Ok(Filter {
        queue: (!filter.queue.is_empty()).then(|| QueueName::parse(filter.queue)).transpose()?,
        states: filter.states.iter().map(|state| known_state(*state)).collect::<Checked<_>>()?,
        name: (!filter.name.is_empty()).then(|| TaskName::parse(filter.name)).transpose()?,
        tag: some(short("tag", filter.tag)?),
        root: some(short("root id", filter.root_id)?),
        id_prefix: short("prefix of ids", filter.id_prefix)?,
        submitted_before: time(
            "time before which tasks were submitted",
            filter.submitted_before_ms,
        )?,
        submitted_after: time("time after which tasks were submitted", filter.submitted_after_ms)?,
        scope: None,
    })
}

/// A client must name the tasks to discard: an empty filter is more likely a mistake than intended.
fn discarded(discard: wire::DiscardDead) -> Checked<Dead> {
    let is_empty =
        discard.filter.as_ref().is_some_and(|filter| *filter == wire::TaskFilter::default());
    match (discard.all, discard.ids.is_empty(), &discard.filter) {
        (true, true, None) => Ok(Dead::Matching(Filter::default())),
        (true, ..) => Err(invalid("all dead tasks, and ids or a filter besides: one of the three")),
        (false, ..) if is_empty => {
            Err(invalid("the filter says nothing: all dead tasks are named by `all`"))
        }
        (false, ..) => dead(discard.ids, discard.filter),
    }
}

/// Ids or a filter. An empty filter means all tasks.
fn dead(ids: Vec<String>, filter: Option<wire::TaskFilter>) -> Checked<Dead> {
    match (ids.is_empty(), filter) {
        (false, None) => Ok(Dead::Ids(self::ids(ids)?)),
        (true, Some(filter)) => Ok(Dead::Matching(self::filter(filter)?)),
        _ => Err(invalid("dead tasks are named by ids or by a filter: one of the two")),
    }
}
