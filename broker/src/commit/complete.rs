//! Completes messages from the records. Every completed message fits into a frame: deliveries are
//! distributed over several frames, an answer about tasks holds as many tasks as have room and
//! names the others, and a listing ends where its page is full.

use std::vec::IntoIter;

use bytes::Bytes;
use celeriac_machine::command::{
    BrokerOutline, Cursor, DeliveryOutline, Page, QueueOutline, Stats, StoredOutcome,
    SubmitOutcome, TaskOutline, WorkerKey, WorkerOutline,
};
use celeriac_proto::QueueName;
use celeriac_record::{Slot, Submitted, Timestamp};
use celeriac_store::{Error, Located, Store};

use super::committer::CommitConfig;
use super::connections::Room;
use super::kept::Ends;
use crate::outgoing::{
    BrokerView, Delivery, FoundTask, Outgoing, Outside, QueueView, Selection, Shown, StatsView,
    TaskView, WorkerView,
};
use crate::{process, size};

/// Deliveries are distributed over frames of about this size.
const DELIVER_BYTES: usize = 1024 * 1024;

/// A longer slice takes most of its chunk, or has memory of its own.
const CHUNK_BYTES: usize = 24 * 1024;

/// A part of a frame, with the most bytes that it takes in the frame.
pub(super) struct Measured<T> {
    pub(super) message: T,
    pub(super) bytes: usize,
}

impl Measured<Outgoing> {
    /// A message that needs no records.
    pub(super) fn of(message: Outgoing) -> Self {
        let bytes = size::body(&message);
        Self { message, bytes }
    }
}

impl<T> Measured<T> {
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Measured<U> {
        Measured { message: make(self.message), bytes: self.bytes }
    }
}

/// Reads records for one message.
pub(super) struct Completer<'a> {
    pub(super) store: &'a mut Store,
    pub(super) config: CommitConfig,
}

impl Completer<'_> {
    /// The submit of a task, payload included.
    pub(super) fn submitted(&mut self, slot: Slot) -> Result<Submitted, Error> {
        let at = self.located(slot).submitted;
        self.store.submitted(at)
    }

    fn located(&self, slot: Slot) -> Located {
        self.store.locate(slot).expect("the machine names only tasks whose submit it has stored")
    }

    /// The most bytes that the tasks of one answer may take together.
    fn answer_bytes(&self, room: Room) -> usize {
        room.answer_bytes.min(self.config.frame_bytes_max - size::FRAME)
    }

    /// Completes as many deliveries as one frame holds. Returns `None` when there are no more. The
    /// delivery that did not fit waits in `read_ahead` for the next frame.
    pub(super) fn deliveries(
        &mut self,
        outlines: &mut IntoIter<DeliveryOutline>,
        read_ahead: &mut Option<Delivery>,
    ) -> Result<Option<Measured<Vec<Delivery>>>, Error> {
        let (mut deliveries, mut bytes) = (Vec::with_capacity(outlines.len()), 0);
        loop {
            let delivery = match read_ahead.take() {
                Some(delivery) => delivery,
                None => match outlines.next() {
                    Some(outline) => self.delivery(outline)?,
                    None => break,
                },
            };
            let size = size::delivery(&delivery.submitted);
            if !deliveries.is_empty() && size::FRAME + bytes + size > DELIVER_BYTES {
                *read_ahead = Some(delivery);
                break;
            }
            bytes += size;
            deliveries.push(delivery);
        }
        let measured = Measured { message: deliveries, bytes };
        Ok(Some(measured).filter(|measured| !measured.message.is_empty()))
    }

    fn delivery(&mut self, outline: DeliveryOutline) -> Result<Delivery, Error> {
        let submitted = self.submitted(outline.slot)?;
        Ok(Delivery { outline, submitted: Box::new(submitted) })
    }

    /// Completes the view of a task.
    pub(super) fn task(&mut self, outline: TaskOutline) -> Result<Measured<TaskView>, Error> {
        let TaskOutline { id, task, with_result, with_payload, with_tracebacks } = outline;
        let Some(outline) = task else { return Ok(measured(TaskView { id, found: None })) };
        let located = self.located(outline.slot);
        let submitted = match with_payload {
            true => self.store.submitted(located.submitted)?,
            false => self.store.submitted_head(located.submitted)?,
        };
        let changed = located.changed.map(|at| match with_result {
            true => self.store.changed(at),
            false => self.store.changed_head(at),
        });
        let mut changed = changed.transpose()?;
        if let Some(changed) = changed.as_mut().filter(|_| !with_tracebacks) {
            for error in &mut changed.errors {
                error.traceback = Box::default();
            }
        }
        let (submitted, changed) = (Box::new(submitted), changed.map(Box::new));
        let found = FoundTask { outline, submitted, changed, payload_left_out: false };
        let mut view = measured(TaskView { id, found: Some(found) });
        if view.bytes > self.config.frame_bytes_max - size::FRAME {
            // A frame holds the largest payload or the largest result, but perhaps not both.
            view = measured(view.message.without_payload());
        }
        Ok(view)
    }

    /// Completes as many of the tasks as have room, at least one. First come the tasks that are
    /// dropped soonest, since no client can ask for them later; the others follow in the order in
    /// which the client named them. A task that was kept for the answer is shown as it was kept.
    pub(super) fn selection(
        &mut self,
        outlines: Vec<TaskOutline>,
        mut kept: Option<&mut Ends>,
        room: Room,
    ) -> Result<Measured<Selection>, Error> {
        let dropped_at = |outline: &TaskOutline| {
            let kept = kept.as_ref().and_then(|kept| kept.outline(&outline.id));
            kept.or(outline.task).and_then(|task| task.forget_at).unwrap_or(Timestamp::MAX)
        };
        let mut order: Vec<u32> = (0..outlines.len() as u32).collect();
        order.sort_by_key(|place| dropped_at(&outlines[*place as usize]));
        let bytes_max = self.answer_bytes(room).saturating_sub(outlines.len() * size::PLACE);
        let mut outlines: Vec<Option<TaskOutline>> = outlines.into_iter().map(Some).collect();
        let mut views: Vec<Option<TaskView>> = Vec::new();
        views.resize_with(outlines.len(), || None);
        let (mut bytes, mut filled) = (0, 0);
        for place in &order {
            let place = *place as usize;
            let outline = outlines[place].take().expect("each place is taken once");
            let view = match kept.as_mut().and_then(|kept| kept.show(&outline.id)) {
                Some(view) => measured(view),
                None => self.task(outline)?,
            };
            if filled > 0 && bytes + view.bytes > bytes_max {
                break;
            }
            bytes += view.bytes;
            filled += 1;
            views[place] = Some(view.message);
        }
        let mut left_out = order.split_off(filled);
        left_out.sort_unstable();
        bytes += left_out.len() * size::PLACE;
        let tasks = views.into_iter().flatten().collect();
        Ok(Measured { message: Selection { tasks, left_out }, bytes })
    }

    /// Ends the page where it is full.
    pub(super) fn page(
        &mut self,
        page: Page<TaskOutline>,
        room: Room,
    ) -> Result<Measured<Shown>, Error> {
        let Page { tasks: outlines, mut next, newest_first, just_ended, looked, total } = page;
        let bytes_max = self.answer_bytes(room);
        let mut tasks: Vec<(Cursor, TaskView)> = Vec::with_capacity(outlines.len());
        let mut bytes = 0;
        for (behind, outline) in outlines {
            let view = self.task(outline)?;
            if bytes + view.bytes > bytes_max
                && let Some((latest, _)) = tasks.last()
            {
                next = Some(*latest);
                break;
            }
            bytes += view.bytes;
            tasks.push((behind, view.message));
        }
        let page = Page { tasks, next, newest_first, just_ended, looked, total };
        Ok(Measured { message: Shown::Page(page), bytes })
    }

    /// Ends the page before a worker that has no room on it. A worker that has no room on a page of
    /// its own is shown with fewer of its tasks.
    pub(super) fn workers(
        &mut self,
        outlines: Vec<WorkerOutline>,
        mut next: Option<WorkerKey>,
        room: Room,
    ) -> Result<Measured<Shown>, Error> {
        let bytes_max = self.answer_bytes(room);
        let mut workers: Vec<WorkerView> = Vec::with_capacity(outlines.len());
        let mut bytes = 0;
        for outline in outlines {
            let leases = outline.running.len();
            let worker = self.worker(outline, bytes_max.saturating_sub(bytes))?;
            let is_whole =
                worker.message.running.len() == leases && bytes + worker.bytes <= bytes_max;
            if !is_whole && let Some(before) = workers.last() {
                next = Some(before.status.key);
                break;
            }
            bytes += worker.bytes;
            workers.push(worker.message);
        }
        Ok(Measured { message: Shown::Workers { workers, next }, bytes })
    }

    /// Completes a worker, with as many of its tasks as have room in this many bytes.
    fn worker(
        &mut self,
        outline: WorkerOutline,
        bytes_max: usize,
    ) -> Result<Measured<WorkerView>, Error> {
        let WorkerOutline { status, running: leases, running_left_out } = outline;
        let mut bytes = size::worker(&status);
        let mut running = Vec::with_capacity(leases.len());
        let mut left_out = leases.len() as u32;
        for lease in leases {
            let view = self.task(lease)?;
            if bytes + view.bytes > bytes_max {
                break;
            }
            bytes += view.bytes;
            left_out -= 1;
            running.push(view.message);
        }
        let running_left_out = running_left_out + left_out;
        let message = WorkerView { status, running, running_left_out };
        Ok(Measured { message, bytes })
    }

    /// Ends the page where it is full.
    pub(super) fn queues(
        &mut self,
        outlines: Vec<QueueOutline>,
        mut next: Option<QueueName>,
        now: Timestamp,
        room: Room,
    ) -> Result<Measured<Shown>, Error> {
        let bytes_max = self.answer_bytes(room);
        let mut queues: Vec<QueueView> = Vec::with_capacity(outlines.len());
        let mut bytes = 0;
        for outline in outlines {
            let of_queue = size::queue(&outline);
            if bytes + of_queue > bytes_max
                && let Some(before) = queues.last()
            {
                next = Some(before.outline.record.name.clone());
                break;
            }
            bytes += of_queue;
            let oldest_ms = match outline.oldest {
                Some(slot) => self.ready_for_ms(slot, now)?,
                None => 0,
            };
            queues.push(QueueView { outline, oldest_ms });
        }
        Ok(Measured { message: Shown::Queues { queues, next }, bytes })
    }

    /// Adds what the system tells about the memory and the disk.
    pub(super) fn broker(&mut self, outline: BrokerOutline) -> Measured<Shown> {
        let memory_bytes = process::resident_bytes();
        let view = BrokerView { outline, memory_bytes, usage: self.store.recent_usage() };
        Measured { bytes: size::BROKER, message: Shown::Broker(Box::new(view)) }
    }

    /// Ends the page where it is full. What the broker knows outside the machine goes with the
    /// broker's own figures.
    pub(super) fn stats(
        &self,
        mut stats: Stats,
        outside: Option<Outside>,
        room: Room,
    ) -> Measured<Shown> {
        let bytes_max = self.answer_bytes(room);
        let mut bytes = size::stats_head(&stats);
        let mut fit = 0;
        for queue in &stats.queues {
            let of_queue = size::queue_stats(queue);
            if fit > 0 && bytes + of_queue > bytes_max {
                break;
            }
            bytes += of_queue;
            fit += 1;
        }
        if fit < stats.queues.len() {
            stats.queues.truncate(fit);
            stats.next = stats.queues.last().map(|queue| queue.name.clone());
        }
        Measured { bytes, message: Shown::Stats(Box::new(StatsView { stats, outside })) }
    }

    /// How long a task has been ready.
    fn ready_for_ms(&mut self, slot: Slot, now: Timestamp) -> Result<u64, Error> {
        let located = self.located(slot);
        let changed = located.changed.map(|at| self.store.changed_head(at)).transpose()?;
        let submitted = self.store.submitted_head(located.submitted)?;
        let due = changed.as_ref().and_then(|changed| changed.due).or(submitted.eta).unwrap_or(0);
        Ok(now.saturating_sub(due.max(submitted.submitted_at)).max(0) as u64)
    }

    /// Cuts outcomes to the frame: the outcomes of a batch always have room, but the sentences of
    /// very many refusals may not.
    pub(super) fn fit_outcomes(&self, outcomes: &mut [SubmitOutcome]) {
        if size::outcomes(outcomes) <= self.config.frame_bytes_max - size::FRAME {
            return;
        }
        for outcome in outcomes {
            if let SubmitOutcome::Refused(refusal) = outcome {
                refusal.message = Box::default();
            }
        }
    }

    /// Like [`fit_outcomes`](Self::fit_outcomes), for outcomes that a client put.
    pub(super) fn fit_stored(&self, outcomes: &mut [StoredOutcome]) {
        if size::stored(outcomes) <= self.config.frame_bytes_max - size::FRAME {
            return;
        }
        for (refusal, _) in outcomes.iter_mut().filter_map(|outcome| outcome.as_mut().err()) {
            refusal.message = Box::default();
        }
    }
}

/// A view with its measured bytes.
fn measured(view: TaskView) -> Measured<TaskView> {
    Measured { bytes: size::task(&view), message: view }
}

/// Copies the short slices of a view that is kept for long, so that they do not keep their whole
/// chunks in memory.
pub(super) fn detach(view: &mut TaskView) {
    let Some(found) = &mut view.found else { return };
    let spec = &mut found.submitted.spec;
    let changed = found.changed.as_deref_mut();
    let (result, progress) = changed
        .map_or((None, None), |changed| (changed.result.as_mut(), changed.progress.as_mut()));
    let slices = spec.headers.iter_mut().map(|(_, value)| value).chain([&mut spec.payload]);
    let slices = slices.chain(result.map(|result| &mut result.bytes));
    for slice in slices.chain(progress.map(|progress| &mut progress.meta)) {
        if slice.len() <= CHUNK_BYTES {
            *slice = Bytes::copy_from_slice(slice);
        }
    }
}
