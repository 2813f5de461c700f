//! Completes messages from the records. What leaves here fits into a frame: deliveries are spread
//! over several, an answer about tasks holds as many as have room and says which it leaves out, a
//! listing ends where its page is full.

use bytes::Bytes;
use celeriac_machine::command::{
    Code, ConnectionKey, Cursor, Delivery, LeftOut, Message, QueueInfo, Refusal, RequestId,
    SubmitOutcome, View, WorkerKey, WorkerStatus,
};
use celeriac_proto::QueueName;
use celeriac_record::{Slot, Timestamp};
use celeriac_store::Error;
use tracing::debug;

use super::kept::strip;
use super::readers::Room;
use super::{Committer, Outgoing};
use crate::size;

/// Deliveries are spread over frames of about this size.
const DELIVER_BYTES: usize = 1024 * 1024;

impl Committer {
    /// Completes a message, and adds it to what goes out when there is somebody to send it to.
    pub(super) fn fill(
        &mut self,
        connection: ConnectionKey,
        mut message: Message,
        outgoing: &mut Vec<Outgoing>,
    ) -> Result<(), Error> {
        let Some(room) = self.readers.room(connection) else {
            debug!(connection, "a message for a connection that is gone");
            return Ok(());
        };
        if room.answer_bytes == 0
            && let Some(request) = answer_about_much(&message)
        {
            let text =
                "earlier answers to this connection were not read yet: read them, and ask again";
            message = Message::Refused { request, refusal: Refusal::new(Code::Overloaded, text) };
        }
        let (bytes, memory) = match &mut message {
            Message::Deliver(deliveries) => {
                return self.fill_deliveries(
                    connection,
                    std::mem::take(deliveries),
                    room,
                    outgoing,
                );
            }
            Message::Transition { task, .. } => self.fill_view(task, room)?,
            Message::Waited { request, tasks, left_out, .. } => {
                if let Some(kept) = self.readers.kept(connection) {
                    kept.show(*request, tasks);
                }
                self.fill_views(tasks, left_out, room)?
            }
            // What a watch is answered with is never refused for want of room: it names the watch,
            // which has begun.
            Message::Got { tasks, left_out, .. } | Message::Watching { tasks, left_out, .. } => {
                self.fill_views(tasks, left_out, room)?
            }
            Message::Page { tasks, next, .. } => self.fill_page(tasks, next, room)?,
            Message::Workers { workers, next, .. } => self.fill_workers(workers, next, room)?,
            Message::Queues { queues, next, wall, .. } => {
                (self.fill_queues(queues, next, *wall, room)?, 0)
            }
            Message::Submitted { outcomes, .. } => (self.fit_outcomes(outcomes), 0),
            message => (size::message(message), 0),
        };
        self.put(connection, message, size::FRAME + bytes + memory, outgoing);
        Ok(())
    }

    /// False when nobody is left to send it to.
    fn put(
        &mut self,
        connection: ConnectionKey,
        message: Message,
        bytes: usize,
        outgoing: &mut Vec<Outgoing>,
    ) -> bool {
        let weight = self.readers.promise(connection, bytes);
        let is_there = weight.is_some();
        outgoing.extend(weight.map(|weight| (connection, Some((message, weight)))));
        is_there
    }

    /// Completes the view of a task that is about to go, for the answer to a wait that has seen it
    /// end.
    pub(super) fn keep(
        &mut self,
        connection: ConnectionKey,
        request: RequestId,
        mut task: View,
    ) -> Result<(), Error> {
        let Some(room) = self.readers.room(connection) else { return Ok(()) };
        let (bytes, memory) = self.fill_view(&mut task, Room { is_behind: true, ..room })?;
        // The largest view that may join them at the end is to have room in the frame too.
        let frame_bytes_max = self.settings.frame_bytes_max;
        let largest = size::FRAME + size::VIEW_BYTES_MAX + self.settings.result_bytes_max;
        let of_wait_max = frame_bytes_max.saturating_sub(largest).max(frame_bytes_max / 2);
        let Some(kept) = self.readers.kept(connection) else { return Ok(()) };
        if !kept.has_room(request, bytes + memory, of_wait_max) {
            strip(&mut task);
        }
        let bytes = size::view(&task);
        if kept.has_room(request, bytes, of_wait_max) {
            kept.keep(request, task, bytes);
        }
        Ok(())
    }

    /// What the tasks of one answer may have together.
    fn answer_bytes(&self, room: Room) -> usize {
        room.answer_bytes.min(self.settings.frame_bytes_max - size::FRAME)
    }

    fn fill_deliveries(
        &mut self,
        connection: ConnectionKey,
        mut deliveries: Vec<Delivery>,
        room: Room,
        outgoing: &mut Vec<Outgoing>,
    ) -> Result<(), Error> {
        loop {
            let (mut bytes, mut memory, mut full) = (size::FRAME, 0, None);
            for (place, delivery) in deliveries.iter_mut().enumerate() {
                // The first may have been read for the frame before.
                let submitted = match delivery.submitted.take() {
                    Some(submitted) => submitted,
                    None => {
                        let mut submitted =
                            self.store.submitted(self.located(delivery.slot).submitted)?;
                        if room.is_behind {
                            detach(&mut submitted.payload, CHUNK_BYTES);
                            submitted
                                .headers
                                .iter_mut()
                                .for_each(|(_, value)| detach(value, CHUNK_BYTES));
                        }
                        Box::new(submitted)
                    }
                };
                let size = size::delivery(&submitted);
                if place > 0 && bytes + size > DELIVER_BYTES {
                    delivery.submitted = Some(submitted);
                    full = Some(place);
                    break;
                }
                bytes += size;
                memory += size::memory(&submitted);
                delivery.submitted = Some(submitted);
            }
            let rest = full.map(|place| deliveries.split_off(place));
            let is_there =
                self.put(connection, Message::Deliver(deliveries), bytes + memory, outgoing);
            match rest {
                Some(rest) if is_there => deliveries = rest,
                _ => return Ok(()),
            }
        }
    }

    /// As many of the views as have room, at least one: first those that are dropped soonest, since
    /// nobody can ask for them later, then in the order in which they were asked for.
    fn fill_views(
        &mut self,
        views: &mut Vec<View>,
        left_out: &mut LeftOut,
        room: Room,
    ) -> Result<(usize, usize), Error> {
        if let [view] = &mut views[..] {
            return self.fill_view(view, room);
        }
        let mut order: LeftOut = (0..views.len() as u32).collect();
        let dropped_at = |view: &View| {
            view.task.as_ref().and_then(|task| task.forget_at).unwrap_or(Timestamp::MAX)
        };
        order.sort_by_key(|place| dropped_at(&views[*place as usize]));
        let bytes_max = self.answer_bytes(room).saturating_sub(views.len() * size::PLACE);
        let (mut sum, mut filled) = ((0, 0), 0);
        for place in &order {
            let (bytes, memory) = self.fill_view(&mut views[*place as usize], room)?;
            if filled > 0 && sum.0 + bytes > bytes_max {
                break;
            }
            sum = (sum.0 + bytes, sum.1 + memory);
            filled += 1;
        }
        *left_out = order.split_off(filled);
        if !left_out.is_empty() {
            left_out.sort_unstable();
            let (mut place, mut next) = (0, left_out.iter().copied().peekable());
            views.retain(|_| {
                place += 1;
                next.next_if_eq(&(place - 1)).is_none()
            });
        }
        Ok((sum.0 + left_out.len() * size::PLACE, sum.1))
    }

    /// Ends the page where it is full.
    fn fill_page(
        &mut self,
        tasks: &mut Vec<View>,
        next: &mut Option<Cursor>,
        room: Room,
    ) -> Result<(usize, usize), Error> {
        let bytes_max = self.answer_bytes(room);
        let mut sum = (0, 0);
        for place in 0..tasks.len() {
            let (bytes, memory) = self.fill_view(&mut tasks[place], room)?;
            if place > 0 && sum.0 + bytes > bytes_max {
                *next = tasks[place - 1].task.as_ref().map(|task| task.slot);
                tasks.truncate(place);
                break;
            }
            sum = (sum.0 + bytes, sum.1 + memory);
        }
        Ok(sum)
    }

    /// Ends the page before the worker that has no room on it. One that has none on a page of its
    /// own shows less of what it runs.
    fn fill_workers(
        &mut self,
        workers: &mut Vec<WorkerStatus>,
        next: &mut Option<WorkerKey>,
        room: Room,
    ) -> Result<(usize, usize), Error> {
        let bytes_max = self.answer_bytes(room);
        let mut sum = (0, 0);
        for place in 0..workers.len() {
            let worker = &mut workers[place];
            let mut of_worker = (size::worker(worker), 0);
            let mut shown = 0;
            for view in &mut worker.running {
                let (bytes, memory) = self.fill_view(view, room)?;
                if sum.0 + of_worker.0 + bytes > bytes_max {
                    break;
                }
                of_worker = (of_worker.0 + bytes, of_worker.1 + memory);
                shown += 1;
            }
            let is_whole = shown == worker.running.len() && sum.0 + of_worker.0 <= bytes_max;
            if place > 0 && !is_whole {
                *next = Some(workers[place - 1].key);
                workers.truncate(place);
                break;
            }
            worker.running_left_out += (worker.running.len() - shown) as u32;
            worker.running.truncate(shown);
            sum = (sum.0 + of_worker.0, sum.1 + of_worker.1);
        }
        Ok(sum)
    }

    fn fill_queues(
        &mut self,
        queues: &mut Vec<QueueInfo>,
        next: &mut Option<QueueName>,
        now: Timestamp,
        room: Room,
    ) -> Result<usize, Error> {
        let bytes_max = self.answer_bytes(room);
        let mut sum = 0;
        for place in 0..queues.len() {
            let bytes = size::queue(&queues[place]);
            if place > 0 && sum + bytes > bytes_max {
                *next = Some(queues[place - 1].record.name.clone());
                queues.truncate(place);
                break;
            }
            sum += bytes;
            let queue = &mut queues[place];
            if let Some(slot) = queue.oldest {
                let located = self.located(slot);
                let changed = located.changed.map(|at| self.store.changed_head(at)).transpose()?;
                let submitted = self.store.submitted_head(located.submitted)?;
                let due =
                    changed.as_ref().and_then(|changed| changed.due).or(submitted.eta).unwrap_or(0);
                queue.oldest_ms = now.saturating_sub(due.max(submitted.submitted_at)).max(0) as u64;
            }
        }
        Ok(sum)
    }

    /// The outcomes of a batch always have room; the sentences of very many refusals may not.
    fn fit_outcomes(&self, outcomes: &mut [SubmitOutcome]) -> usize {
        let bytes = size::outcomes(outcomes);
        if bytes <= self.settings.frame_bytes_max - size::FRAME {
            return bytes;
        }
        for outcome in outcomes.iter_mut() {
            if let SubmitOutcome::Refused(refusal) = outcome {
                refusal.message = Box::default();
            }
        }
        size::outcomes(outcomes)
    }

    /// Says how many bytes the view has in a frame, at most, and how many more in memory.
    fn fill_view(&mut self, view: &mut View, room: Room) -> Result<(usize, usize), Error> {
        let Some(task) = &mut view.task else { return Ok((size::view(view), 0)) };
        if let Some((submitted, _)) = &task.records {
            // It was kept.
            let memory = size::memory(submitted);
            return Ok((size::view(view), memory));
        }
        let few_bytes = if room.is_behind { CHUNK_BYTES } else { FEW_BYTES };
        let located = self.located(task.slot);
        // A view shows no payload.
        let mut submitted = self.store.submitted_head(located.submitted)?;
        let changed = located.changed.map(|at| match view.with_result {
            true => self.store.changed(at),
            false => self.store.changed_head(at),
        });
        let mut changed = changed.transpose()?;
        submitted.headers.iter_mut().for_each(|(_, value)| detach(value, few_bytes));
        if let Some(changed) = &mut changed {
            if !view.with_tracebacks {
                changed.errors.iter_mut().for_each(|error| error.traceback = Box::default());
            }
            changed.result.iter_mut().for_each(|result| detach(&mut result.bytes, few_bytes));
            changed.progress.iter_mut().for_each(|progress| detach(&mut progress.meta, few_bytes));
        }
        let memory = size::memory(&submitted);
        let task = view.task.as_mut().expect("it was there above");
        task.records = Some((Box::new(submitted), changed.map(Box::new)));
        Ok((size::view(view), memory))
    }

    pub(super) fn located(&self, slot: Slot) -> celeriac_store::Located {
        self.store.locate(slot).expect("the machine names only tasks whose submit it has stored")
    }
}

/// Which request it answers, if it is one of the answers that grow with what is stored.
fn answer_about_much(message: &Message) -> Option<RequestId> {
    match message {
        Message::Got { request, .. }
        | Message::Waited { request, .. }
        | Message::Page { request, .. }
        | Message::Queues { request, .. }
        | Message::Workers { request, .. } => Some(*request),
        _ => None,
    }
}

/// What is copied out of its chunk in any case, and what is when much of it may lie for long.
const FEW_BYTES: usize = 4 * 1024;
const CHUNK_BYTES: usize = 24 * 1024;

/// A few bytes are not to keep their whole chunk in memory until somebody reads them.
fn detach(bytes: &mut Bytes, few_bytes: usize) {
    if bytes.len() <= few_bytes {
        *bytes = Bytes::copy_from_slice(bytes);
    }
}
