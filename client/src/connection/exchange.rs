//! The requests and watches of one connection, from the moment they are encoded to their answers.
//! No I/O: bytes to be written are left in [`Exchange::outgoing`], frames that came are given to
//! [`Exchange::accept`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use celeriac_proto::encode_request;
use celeriac_proto::limits::WAITED_IDS_MAX;
use celeriac_proto::wire::{self, client_frame, server_frame};
use foldhash::fast::FixedState;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::waiting::WaitKey;
use super::watching::WatchPart;
use super::{Command, Purpose, Reply};
use crate::error::{Error, ErrorCode};

const LENGTH_BYTES: usize = 4;

/// Bytes encoded and not yet written, beyond which no further request is taken.
const OUTGOING_BYTES_MAX: usize = 1024 * 1024;

/// The broker reads no further when so many requests are unanswered; a heartbeat must still get
/// through.
const IN_FLIGHT_RESERVE: usize = 8;

/// What a frame asks of the task that owns the socket.
#[allow(clippy::large_enum_variant, reason = "it lives for one call; a box would cost more")]
pub(super) enum Accepted {
    /// It was an answer.
    Settled,
    /// Something for the owner of the connection.
    Push(server_frame::Body),
    /// The broker answered Goodbye.
    Parted,
}

pub(super) struct Exchange {
    pub(super) outgoing: BytesMut,
    frame_bytes_max: usize,
    in_flight_max: usize,
    request_id: u64,
    pending: HashMap<u64, Pending, FixedState>,
    /// Requests that wait. They take no room from others.
    waits: HashMap<WaitKey, u64, FixedState>,
    /// The ids that they wait for.
    waited_ids: usize,
    watches: HashMap<u64, WatchPart, FixedState>,
    /// Watches that the broker could not begin just now, and first states of watches that it could
    /// not show.
    later: Vec<(Arc<client_frame::Body>, WatchPart)>,
    goodbye_id: Option<u64>,
    /// The broker gave the session up: the next connection begins a new one.
    pub(super) session_lost: bool,
    clock: BrokerClock,
}

struct Pending {
    /// What was asked, for the meaning of its answer.
    body: Arc<client_frame::Body>,
    sent_at_ms: i64,
    /// For a `Watch`, and for the `Get` of what its answer left out.
    watch: Option<WatchPart>,
    /// For a `Wait`.
    wait: Option<WaitKey>,
    /// None for a watch that is begun again after a reconnect, and for the rest of one.
    reply: Option<oneshot::Sender<Reply>>,
}

/// Whether its answer grows with what is stored: such an answer is refused while earlier ones are
/// not read.
fn is_read(body: &client_frame::Body) -> bool {
    use client_frame::Body;
    matches!(
        body,
        Body::Get(_)
            | Body::Wait(_)
            | Body::ListTasks(_)
            | Body::ListQueues(_)
            | Body::ListWorkers(_)
    )
}

fn ids_waited_for(body: &client_frame::Body) -> usize {
    match body {
        client_frame::Body::Wait(wait) => wait.ids.len(),
        _ => 0,
    }
}

/// Whether nothing was done, and the same request will do in a moment: the broker closes down, or
/// this client has not read its earlier answers yet.
fn is_for_later(error: &wire::Error, body: &client_frame::Body) -> bool {
    match error.code() {
        ErrorCode::ShuttingDown => true,
        ErrorCode::Overloaded => error.retryable && is_read(body),
        _ => false,
    }
}

/// The caller of a request, if it has one.
struct ReplyTo(Option<oneshot::Sender<Reply>>);

impl ReplyTo {
    fn send(self, reply: Reply) {
        if let Some(caller) = self.0 {
            // The caller may have gone; then the answer is of no use to anybody.
            let _ = caller.send(reply);
        }
    }

    /// False only when the caller has gone.
    fn is_awaited(&self) -> bool {
        self.0.as_ref().is_none_or(|caller| !caller.is_closed())
    }
}

/// What time it is at the broker, never later than it really is there.
struct BrokerClock {
    server_time_ms: i64,
    heard_at: Instant,
}

impl BrokerClock {
    fn set(server_time_ms: i64) -> Self {
        Self { server_time_ms, heard_at: Instant::now() }
    }

    fn now_ms(&self) -> i64 {
        let since = i64::try_from(self.heard_at.elapsed().as_millis()).unwrap_or(0);
        self.server_time_ms.saturating_add(since)
    }
}

impl Exchange {
    pub(super) fn new(server_time_ms: i64, limits: wire::Limits) -> Self {
        Self {
            outgoing: BytesMut::with_capacity(16 * 1024),
            frame_bytes_max: usize::try_from(limits.frame_bytes_max).unwrap_or(usize::MAX),
            in_flight_max: (limits.requests_in_flight_max as usize)
                .saturating_sub(IN_FLIGHT_RESERVE)
                .max(1),
            // 1 was Hello.
            request_id: 1,
            pending: HashMap::default(),
            waits: HashMap::default(),
            waited_ids: 0,
            watches: HashMap::default(),
            later: Vec::new(),
            goodbye_id: None,
            session_lost: false,
            clock: BrokerClock::set(server_time_ms),
        }
    }

    /// How many more requests may be taken now.
    pub(super) fn room(&self) -> usize {
        if self.outgoing.len() >= OUTGOING_BYTES_MAX {
            return 0;
        }
        self.in_flight_max.saturating_sub(self.pending.len() - self.waits.len())
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.values().all(|pending| pending.reply.is_none())
    }

    /// Encodes a request, unless its caller has gone.
    pub(super) fn send(&mut self, command: Command) {
        let Command { body, timeout, purpose, reply } = command;
        if reply.is_closed() {
            return;
        }
        let (watch, wait) = match purpose {
            Purpose::Answer => (None, None),
            Purpose::Watch(part) => (Some(part), None),
            Purpose::Wait(key) => (None, Some(key)),
        };
        if wait.is_some() && self.waited_ids + ids_waited_for(&body) > WAITED_IDS_MAX {
            let message = format!(
                "this connection waits for {WAITED_IDS_MAX} tasks already, as many as it may"
            );
            let _ = reply.send(Reply::Failed(Error::refused(ErrorCode::Overloaded, message)));
            return;
        }
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        self.send_body(body, timeout_ms, watch, wait, Some(reply));
    }

    /// Nobody waits for these any more: the broker is told, and their answers are ignored.
    pub(super) fn withdraw(&mut self, waits: impl Iterator<Item = WaitKey>) {
        let mut request_ids = Vec::new();
        for wait in waits {
            // One that was never sent, or is answered by now, is not there.
            if let Some(id) = self.waits.get(&wait).copied() {
                self.take_pending(id);
                request_ids.push(id);
            }
        }
        if !request_ids.is_empty() {
            self.encode(&client_frame::Body::Unwait(wire::Unwait { request_ids }), 0);
        }
    }

    fn take_pending(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        if let Some(wait) = &pending.wait {
            self.waits.remove(wait);
            self.waited_ids -= ids_waited_for(&pending.body);
        }
        Some(pending)
    }

    /// Begins a watch of an earlier connection again.
    pub(super) fn watch_again(&mut self, part: WatchPart) {
        let body = client_frame::Body::Watch(part.request.clone());
        self.send_for(Arc::new(body), part);
    }

    /// Sends what a watch needs and nobody waits for.
    fn send_for(&mut self, body: Arc<client_frame::Body>, part: WatchPart) {
        if part.sink().is_some() {
            self.send_body(body, 0, Some(part), None, None);
        }
    }

    fn send_body(
        &mut self,
        body: Arc<client_frame::Body>,
        timeout_ms: u64,
        watch: Option<WatchPart>,
        wait: Option<WaitKey>,
        reply: Option<oneshot::Sender<Reply>>,
    ) {
        let start = self.outgoing.len();
        let id = self.encode(&body, timeout_ms);
        let length = self.outgoing.len() - start - LENGTH_BYTES;
        if length > self.frame_bytes_max {
            self.outgoing.truncate(start);
            let message = format!(
                "a request of {length} bytes, and the broker allows {}",
                self.frame_bytes_max
            );
            match reply {
                Some(reply) => drop(
                    reply.send(Reply::Failed(Error::refused(ErrorCode::FrameTooLarge, message))),
                ),
                None => warn!("a watch cannot be begun again: {message}"),
            }
            return;
        }
        let sent_at_ms = self.clock.now_ms();
        if let Some(wait) = wait {
            self.waits.insert(wait, id);
            self.waited_ids += ids_waited_for(&body);
        }
        self.pending.insert(id, Pending { body, sent_at_ms, watch, wait, reply });
    }

    /// Appends a frame to the outgoing bytes.
    fn encode(&mut self, body: &client_frame::Body, timeout_ms: u64) -> u64 {
        self.request_id += 1;
        encode_request(self.request_id, timeout_ms, body, &mut self.outgoing)
            .expect("it is shorter than 4 GiB");
        self.request_id
    }

    /// Sends a heartbeat and lets go of what nobody waits for any more.
    pub(super) fn beat(&mut self, running: u32, memory_bytes: u64) {
        // A watch that nobody waits for any more stays until its answer names what to unwatch, a
        // wait until it is withdrawn.
        self.pending.retain(|_, pending| {
            let stays = pending.watch.is_some() || pending.wait.is_some();
            stays || pending.reply.as_ref().is_none_or(|reply| !reply.is_closed())
        });
        let abandoned: Vec<u64> = self
            .watches
            .iter()
            .filter(|(_, part)| part.sink().is_none())
            .map(|(id, _)| *id)
            .collect();
        abandoned.into_iter().for_each(|watch_id| self.unwatch(watch_id));
        for (body, part) in std::mem::take(&mut self.later) {
            self.send_for(body, part);
        }
        self.encode(&client_frame::Body::Heartbeat(wire::Heartbeat { running, memory_bytes }), 0);
    }

    /// Asks to part. Answered by [`Accepted::Parted`], or by the broker closing the connection.
    pub(super) fn say_goodbye(&mut self) {
        if self.goodbye_id.is_none() {
            self.goodbye_id = Some(self.encode(&client_frame::Body::Goodbye(wire::Goodbye {}), 0));
        }
    }

    pub(super) fn has_said_goodbye(&self) -> bool {
        self.goodbye_id.is_some()
    }

    fn unwatch(&mut self, watch_id: u64) {
        self.watches.remove(&watch_id);
        // Its answer is of no interest and is ignored when it comes.
        self.encode(&client_frame::Body::Unwatch(wire::Unwatch { watch_id }), 0);
    }

    /// Takes a frame of the broker.
    pub(super) fn accept(&mut self, frame: wire::ServerFrame) -> Accepted {
        let Some(body) = frame.body else {
            // A kind of answer that this version does not know; an unknown push is none of our
            // business.
            if let Some(Pending { reply: Some(reply), .. }) = self.take_pending(frame.request_id) {
                let _ = reply.send(Reply::Failed(Error::Protocol(
                    "an answer of an unknown kind".to_owned(),
                )));
            }
            return Accepted::Settled;
        };
        if let server_frame::Body::HeartbeatReply(reply) = &body {
            self.clock = BrokerClock::set(reply.server_time_ms);
            return Accepted::Settled;
        }
        if frame.request_id == 0 {
            return self.accept_push(body);
        }
        if self.goodbye_id == Some(frame.request_id) {
            return Accepted::Parted;
        }
        // An answer whose caller has gone, or one that nobody asked for: nothing depends on it.
        let Some(pending) = self.take_pending(frame.request_id) else { return Accepted::Settled };
        self.settle(pending, Box::new(body));
        Accepted::Settled
    }

    fn accept_push(&mut self, body: server_frame::Body) -> Accepted {
        match body {
            server_frame::Body::Transition(wire::Transition { watch_id, task }) => {
                let sink = self.watches.get(&watch_id).map(WatchPart::sink);
                match (sink, task) {
                    (Some(Some(sink)), Some(task)) => sink.push(task),
                    (Some(None), _) => self.unwatch(watch_id),
                    _ => {}
                }
                Accepted::Settled
            }
            server_frame::Body::Error(error) => {
                self.accept_push(server_frame::Body::Closing(wire::Closing { error: Some(error) }))
            }
            server_frame::Body::Closing(closing) => {
                let code = closing.error.as_ref().map(wire::Error::code);
                self.session_lost |= code == Some(ErrorCode::SessionLost);
                Accepted::Push(server_frame::Body::Closing(closing))
            }
            body => Accepted::Push(body),
        }
    }

    fn settle(&mut self, pending: Pending, answer: Box<server_frame::Body>) {
        let Pending { body, sent_at_ms, watch, reply, .. } = pending;
        let reply = ReplyTo(reply);
        if watch.is_none() && !matches!(*answer, server_frame::Body::Error(_)) {
            // The caller may want it for itself alone.
            drop(body);
            return reply.send(Reply::Answer(answer));
        }
        match (*answer, watch) {
            (server_frame::Body::Error(error), None) if is_for_later(&error, &body) => {
                reply.send(Reply::Interrupted { sent_at_ms, refused: Some(error) });
            }
            (server_frame::Body::Error(error), Some(part)) if reply.0.is_none() => {
                self.watch_refused(body, part, error)
            }
            (server_frame::Body::GetReply(rest), Some(part)) => {
                self.show(&part, rest.tasks, &rest.left_out)
            }
            (server_frame::Body::Error(error), _) => reply.send(Reply::Failed(error.into())),
            (server_frame::Body::WatchReply(begun), Some(part)) => {
                let watch_id = begun.watch_id;
                if part.sink().is_some() && reply.is_awaited() {
                    self.show(&part, begun.tasks, &begun.left_out);
                    self.watches.insert(watch_id, part);
                } else {
                    self.unwatch(watch_id);
                }
                let begun = server_frame::Body::WatchReply(wire::WatchReply {
                    watch_id,
                    ..Default::default()
                });
                reply.send(Reply::Answer(Box::new(begun)));
            }
            (answer, _) => reply.send(Reply::Answer(Box::new(answer))),
        }
    }

    /// Shows the first states of a watch, and asks for those that the answer had no room for.
    /// Transitions that come before them are shown before them, and older states not at all.
    fn show(&mut self, part: &WatchPart, tasks: Vec<wire::TaskInfo>, left_out: &[u32]) {
        let Some(sink) = part.sink() else { return };
        let is_progress = !tasks.is_empty();
        tasks.into_iter().for_each(|task| sink.push(task));
        let wire::Watch { ids, with_results } = &part.request;
        let ids: Vec<String> =
            left_out.iter().filter_map(|place| ids.get(*place as usize).cloned()).collect();
        if ids.is_empty() || !is_progress {
            return;
        }
        let body =
            client_frame::Body::Get(wire::Get { ids: ids.clone(), with_results: *with_results });
        self.send_for(Arc::new(body), part.of(ids));
    }

    /// A watch was not begun again after a reconnect, or its first states were not shown. Its owner
    /// cannot see the refusal, only the end of the watch.
    fn watch_refused(
        &mut self,
        body: Arc<client_frame::Body>,
        part: WatchPart,
        error: wire::Error,
    ) {
        debug!(code = error.code().as_str_name(), "a watch was not begun again: {}", error.message);
        if error.retryable {
            self.later.push((body, part));
        } else if let Some(sink) = part.sink() {
            sink.end();
        }
    }

    /// Ends every `Wait`: closing does not wait for them.
    pub(super) fn end_waits(&mut self) {
        let waits: Vec<u64> = self.waits.values().copied().collect();
        for id in waits {
            if let Some(Pending { reply: Some(reply), .. }) = self.take_pending(id) {
                let _ = reply.send(Reply::Failed(Error::Closed));
            }
        }
    }

    /// The connection is gone: tells every caller, and returns the watches that the next connection
    /// has to begin.
    pub(super) fn interrupt(self) -> Vec<WatchPart> {
        let is_watch = |body: &client_frame::Body| matches!(body, client_frame::Body::Watch(_));
        // Of a watch that had begun all states are shown again.
        let later = self.later.into_iter().filter(|(body, _)| is_watch(body)).map(|(_, part)| part);
        let mut parts: Vec<WatchPart> = self.watches.into_values().chain(later).collect();
        for pending in self.pending.into_values() {
            let Pending { body, sent_at_ms, watch, reply, .. } = pending;
            match (reply, watch) {
                // The caller of a watch begins it again itself.
                (Some(reply), _) => {
                    drop(reply.send(Reply::Interrupted { sent_at_ms, refused: None }))
                }
                (None, Some(part)) if is_watch(&body) => parts.push(part),
                (None, _) => {}
            }
        }
        parts.retain(|part| part.sink().is_some());
        parts
    }
}
