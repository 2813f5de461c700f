//! The requests and watches of one connection, from their encoding to their answers. This module
//! does no I/O: it leaves the bytes to be written in [`Exchange::outgoing`], and
//! [`Exchange::accept`] takes the frames that were received.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use celeriac_proto::limits::WAITED_IDS_MAX;
use celeriac_proto::wire::{self, client_frame, server_frame};
use celeriac_proto::{code_name, encode_request, measure::measure};
use foldhash::fast::FixedState;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::broker_clock::BrokerClock;
use super::state_buffer::WatchRequest;
use super::waiting::WaitKey;
use super::{Command, Purpose, Reply};
use crate::error::{Error, ErrorCode};

/// The length in front of each frame.
const LENGTH_BYTES: usize = 4;

/// The most bytes that are encoded and not written yet. Beyond that no further request is taken.
const OUTGOING_BYTES_MAX: usize = 1024 * 1024;

/// The broker stops reading when too many requests are unanswered. The client stays this far below
/// that number, so that heartbeats still get through.
const IN_FLIGHT_RESERVE: usize = 8;

/// What the task that owns the socket has to do about a frame.
#[allow(clippy::large_enum_variant, reason = "it lives for one call; a box would cost more")]
pub(super) enum Accepted {
    /// Nothing: the frame was an answer, and its caller has it.
    Settled,
    /// Pass it on to the owner of the connection.
    Push(server_frame::Body),
    /// Close the socket: the broker answered Goodbye.
    Parted,
}

/// The unanswered requests, the waits and the watches of one connection. It lives as long as the
/// socket: [`Exchange::interrupt`] hands over what the next connection needs.
pub(super) struct Exchange {
    /// Encoded frames that are not written yet. The owner of the socket writes them from the
    /// front.
    pub(super) outgoing: BytesMut,
    /// The longest frame that the broker accepts.
    frame_bytes_max: usize,
    /// The most unanswered requests, `Wait`s not counted.
    in_flight_max: usize,
    /// The id of the latest request. Ids rise from 1, so that 0 means a push.
    request_id: u64,
    pending: HashMap<u64, Pending, FixedState>,
    /// The request ids of the unanswered `Wait`s. They take no room from other requests.
    waits: HashMap<WaitKey, u64, FixedState>,
    /// How many task ids these `Wait`s have together.
    waited_ids: usize,
    /// The watches that have begun, by the ids that the broker gave them.
    watches: HashMap<u64, WatchRequest, FixedState>,
    /// Sent again with the next heartbeat.
    deferred: Vec<DeferredWatch>,
    /// The id of Goodbye, once it was sent.
    goodbye_id: Option<u64>,
    /// Whether the broker gave up the session. The next connection then begins a new one.
    pub(super) session_lost: bool,
    /// The broker's clock, for the times at which requests were sent.
    clock: BrokerClock,
}

/// A watch that the broker could not begin just now, or whose first states it could not show.
struct DeferredWatch {
    body: Arc<client_frame::Body>,
    request: WatchRequest,
}

/// A request that was encoded and is not answered yet.
struct Pending {
    /// The request, which gives the answer its meaning.
    body: Arc<client_frame::Body>,
    /// When the request was sent, by the broker's clock; never later than the real moment.
    sent_at_ms: i64,
    /// Set for a `Watch`, and for the `Get` of those tasks that its answer left out.
    watch: Option<WatchRequest>,
    /// Set for a `Wait`.
    wait: Option<WaitKey>,
    /// `None` for a watch that is begun again after a reconnect, and for the `Get` that completes
    /// it: no caller waits for these.
    reply: Option<oneshot::Sender<Reply>>,
}

/// Whether the size of the answer depends on what is stored. The broker refuses such a request
/// while the client has not read its earlier answers.
fn reads_stored_tasks(body: &client_frame::Body) -> bool {
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

/// How many task ids a `Wait` has; 0 for other requests.
fn ids_waited_for(body: &client_frame::Body) -> usize {
    match body {
        client_frame::Body::Wait(wait) => wait.ids.len(),
        _ => 0,
    }
}

/// Whether the broker did nothing and the same request may succeed in a moment: the broker is
/// shutting down, or this client has not read its earlier answers yet.
fn is_for_later(error: &wire::Error, body: &client_frame::Body) -> bool {
    match error.code() {
        ErrorCode::ShuttingDown => true,
        ErrorCode::Overloaded => error.retryable && reads_stored_tasks(body),
        _ => false,
    }
}

/// The caller of a request, if it has one.
struct ReplyTo(Option<oneshot::Sender<Reply>>);

impl ReplyTo {
    /// Gives the caller its reply.
    fn send(self, reply: Reply) {
        if let Some(caller) = self.0 {
            // The caller may have dropped its future. Then nobody needs the answer.
            let _ = caller.send(reply);
        }
    }

    /// False only when there was a caller and it has dropped its future.
    fn is_awaited(&self) -> bool {
        self.0.as_ref().is_none_or(|caller| !caller.is_closed())
    }
}

impl Exchange {
    /// An exchange for a connection whose Welcome had this time and these limits.
    pub(super) fn new(server_time_ms: i64, limits: wire::Limits) -> Self {
        Self {
            outgoing: BytesMut::with_capacity(16 * 1024),
            frame_bytes_max: usize::try_from(limits.frame_bytes_max).unwrap_or(usize::MAX),
            in_flight_max: (limits.requests_in_flight_max as usize)
                .saturating_sub(IN_FLIGHT_RESERVE)
                .max(1),
            // Hello had 1.
            request_id: 1,
            pending: HashMap::default(),
            waits: HashMap::default(),
            waited_ids: 0,
            watches: HashMap::default(),
            deferred: Vec::new(),
            goodbye_id: None,
            session_lost: false,
            clock: BrokerClock::set(server_time_ms),
        }
    }

    /// How many more requests the exchange takes now.
    pub(super) fn room(&self) -> usize {
        if self.outgoing.len() >= OUTGOING_BYTES_MAX {
            return 0;
        }
        self.in_flight_max.saturating_sub(self.pending.len() - self.waits.len())
    }

    /// Whether no caller waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.values().all(|pending| pending.reply.is_none())
    }

    /// Encodes a request, unless its caller has dropped its future.
    pub(super) fn send(&mut self, command: Command) {
        let Command { body, timeout, purpose, reply } = command;
        if reply.is_closed() {
            return;
        }
        let (watch, wait) = match purpose {
            Purpose::Answer => (None, None),
            Purpose::Watch(request) => (Some(request), None),
            Purpose::Wait(key) => (None, Some(key)),
        };
        if wait.is_some() && self.waited_ids + ids_waited_for(&body) > WAITED_IDS_MAX {
            let message = format!(
                "this connection waits for {WAITED_IDS_MAX} tasks already, as many as it may"
            );
            let _ = reply.send(Reply::Failed(Error::refused(ErrorCode::Overloaded, message)));
            return;
        }
        // 0 would mean that the request has no timeout.
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        self.send_body(body, timeout_ms, watch, wait, Some(reply));
    }

    /// Tells the broker that nobody waits for these any more. Their answers are ignored.
    pub(super) fn withdraw(&mut self, waits: impl Iterator<Item = WaitKey>) {
        let mut request_ids = Vec::new();
        for wait in waits {
            // A wait that was never sent, or is answered by now, is not in the map.
            if let Some(id) = self.waits.get(&wait).copied() {
                self.take_pending(id);
                request_ids.push(id);
            }
        }
        if !request_ids.is_empty() {
            self.encode(&client_frame::Body::Unwait(wire::Unwait { request_ids }), 0);
        }
    }

    /// Removes an unanswered request.
    fn take_pending(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        if let Some(wait) = &pending.wait {
            self.waits.remove(wait);
            self.waited_ids -= ids_waited_for(&pending.body);
        }
        Some(pending)
    }

    /// Begins a watch of an earlier connection again.
    pub(super) fn watch_again(&mut self, request: WatchRequest) {
        let body = client_frame::Body::Watch(request.request.clone());
        self.send_for_watch(Arc::new(body), request);
    }

    /// Sends a request that a watch needs and for which no caller waits.
    fn send_for_watch(&mut self, body: Arc<client_frame::Body>, request: WatchRequest) {
        if request.states().is_some() {
            self.send_body(body, 0, Some(request), None, None);
        }
    }

    /// Encodes a request and notes it as unanswered. A request for which the broker would close the
    /// connection is refused here, and is not sent.
    fn send_body(
        &mut self,
        body: Arc<client_frame::Body>,
        timeout_ms: u64,
        watch: Option<WatchRequest>,
        wait: Option<WaitKey>,
        reply: Option<oneshot::Sender<Reply>>,
    ) {
        let start = self.outgoing.len();
        let id = self.encode(&body, timeout_ms);
        let frame = &self.outgoing[start + LENGTH_BYTES..];
        if let Err(error) = check(&body, frame, self.frame_bytes_max) {
            self.outgoing.truncate(start);
            match reply {
                Some(reply) => drop(reply.send(Reply::Failed(error))),
                None => warn!("a watch cannot be begun again: {error}"),
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

    /// Appends a frame to the outgoing bytes, and returns its request id.
    fn encode(&mut self, body: &client_frame::Body, timeout_ms: u64) -> u64 {
        self.request_id += 1;
        encode_request(self.request_id, timeout_ms, body, &mut self.outgoing)
            .expect("it is shorter than 4 GiB");
        self.request_id
    }

    /// Sends a heartbeat, and forgets the requests and watches that nobody needs any more.
    pub(super) fn beat(&mut self, running: u32, memory_bytes: u64) {
        // A watch whose caller has gone stays until its answer has the id to unwatch. A wait stays
        // until it is withdrawn.
        self.pending.retain(|_, pending| {
            let stays = pending.watch.is_some() || pending.wait.is_some();
            stays || pending.reply.as_ref().is_none_or(|reply| !reply.is_closed())
        });
        let abandoned: Vec<u64> = self
            .watches
            .iter()
            .filter(|(_, request)| request.states().is_none())
            .map(|(id, _)| *id)
            .collect();
        for watch_id in abandoned {
            self.unwatch(watch_id);
        }
        for DeferredWatch { body, request } in std::mem::take(&mut self.deferred) {
            self.send_for_watch(body, request);
        }
        // Nothing waits for the answer, which only sets the clock.
        self.encode(&client_frame::Body::Heartbeat(wire::Heartbeat { running, memory_bytes }), 0);
    }

    /// Sends Goodbye. The broker answers, which [`Exchange::accept`] returns as
    /// [`Accepted::Parted`], or closes the connection.
    pub(super) fn say_goodbye(&mut self) {
        if self.goodbye_id.is_none() {
            self.goodbye_id = Some(self.encode(&client_frame::Body::Goodbye(wire::Goodbye {}), 0));
        }
    }

    /// Whether Goodbye was sent. After it a closed socket is the expected end.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.goodbye_id.is_some()
    }

    /// Ends a watch at the broker.
    fn unwatch(&mut self, watch_id: u64) {
        self.watches.remove(&watch_id);
        // Nothing depends on the answer, which is ignored when it comes.
        self.encode(&client_frame::Body::Unwatch(wire::Unwatch { watch_id }), 0);
    }

    /// Handles a frame of the broker.
    pub(super) fn accept(&mut self, frame: wire::ServerFrame) -> Accepted {
        let Some(body) = frame.body else {
            // A kind of frame that this version does not know. An unknown answer fails its request;
            // an unknown push is ignored.
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
        // Nothing depends on an answer whose caller has gone, or that nobody asked for.
        let Some(pending) = self.take_pending(frame.request_id) else { return Accepted::Settled };
        self.settle(pending, Box::new(body));
        Accepted::Settled
    }

    /// Handles a frame that answers no request: transitions go to their watches, all others to the
    /// owner of the connection.
    fn accept_push(&mut self, body: server_frame::Body) -> Accepted {
        match body {
            server_frame::Body::Transition(wire::Transition { watch_id, task }) => {
                let states = self.watches.get(&watch_id).map(WatchRequest::states);
                match (states, task) {
                    (Some(Some(states)), Some(task)) => states.push(task),
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

    /// Gives an answer to its caller, and to its watch.
    fn settle(&mut self, pending: Pending, answer: Box<server_frame::Body>) {
        let Pending { body, sent_at_ms, watch, reply, .. } = pending;
        let reply = ReplyTo(reply);
        if watch.is_none() && !matches!(*answer, server_frame::Body::Error(_)) {
            // The caller can then take the tasks out of the body without a copy.
            drop(body);
            return reply.send(Reply::Answer(answer));
        }
        match (*answer, watch) {
            (server_frame::Body::Error(error), None) if is_for_later(&error, &body) => {
                reply.send(Reply::Interrupted { sent_at_ms, refused: Some(error) });
            }
            (server_frame::Body::Error(error), Some(request)) if reply.0.is_none() => {
                self.watch_refused(body, request, error)
            }
            (server_frame::Body::GetReply(rest), Some(request)) => {
                self.show(&request, rest.tasks, &rest.left_out)
            }
            (server_frame::Body::Error(error), _) => reply.send(Reply::Failed(error.into())),
            (server_frame::Body::WatchReply(begun), Some(request)) => {
                let watch_id = begun.watch_id;
                if request.states().is_some() && reply.is_awaited() {
                    self.show(&request, begun.tasks, &begun.left_out);
                    self.watches.insert(watch_id, request);
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

    /// Shows the first states of a watch, and asks for those that the answer had no room for. A
    /// transition that comes earlier is shown earlier, and the older state is then not shown.
    fn show(&mut self, request: &WatchRequest, tasks: Vec<wire::TaskInfo>, left_out: &[u32]) {
        let Some(states) = request.states() else { return };
        // An answer without any task would be repeated for ever.
        let is_progress = !tasks.is_empty();
        for task in tasks {
            states.push(task);
        }
        let wire::Watch { ids, with_results } = &request.request;
        let ids: Vec<String> =
            left_out.iter().filter_map(|place| ids.get(*place as usize).cloned()).collect();
        if ids.is_empty() || !is_progress {
            return;
        }
        let body = client_frame::Body::Get(wire::Get {
            ids: ids.clone(),
            with_results: *with_results,
            with_payloads: false,
        });
        self.send_for_watch(Arc::new(body), request.of(ids));
    }

    /// The broker did not begin a watch again after a reconnect, or did not show its first states.
    /// The owner of the watch cannot see the refusal, only the end of the watch.
    fn watch_refused(
        &mut self,
        body: Arc<client_frame::Body>,
        request: WatchRequest,
        error: wire::Error,
    ) {
        debug!(code = code_name(error.code()), "a watch was not begun again: {}", error.message);
        if error.retryable {
            self.deferred.push(DeferredWatch { body, request });
        } else if let Some(states) = request.states() {
            states.end();
        }
    }

    /// Ends every `Wait` as closed: closing does not wait for them.
    pub(super) fn end_waits(&mut self) {
        let waits: Vec<u64> = self.waits.values().copied().collect();
        for id in waits {
            if let Some(Pending { reply: Some(reply), .. }) = self.take_pending(id) {
                let _ = reply.send(Reply::Failed(Error::Closed));
            }
        }
    }

    /// The connection is gone: tells every caller, and returns the watches that the next connection
    /// has to begin again.
    pub(super) fn interrupt(self) -> Vec<WatchRequest> {
        let is_watch = |body: &client_frame::Body| matches!(body, client_frame::Body::Watch(_));
        // A deferred `Get` is left out: its watch begins again, with all of its states.
        let deferred = self
            .deferred
            .into_iter()
            .filter(|deferred| is_watch(&deferred.body))
            .map(|deferred| deferred.request);
        let mut requests: Vec<WatchRequest> = self.watches.into_values().chain(deferred).collect();
        for pending in self.pending.into_values() {
            let Pending { body, sent_at_ms, watch, reply, .. } = pending;
            match (reply, watch) {
                // The caller of a watch sends it again itself.
                (Some(reply), _) => {
                    let _ = reply.send(Reply::Interrupted { sent_at_ms, refused: None });
                }
                (None, Some(request)) if is_watch(&body) => requests.push(request),
                (None, _) => {}
            }
        }
        requests.retain(|request| request.states().is_some());
        requests
    }
}

/// Refuses a frame that is too long or has too many fields. Tasks of a submit were checked before.
fn check(body: &client_frame::Body, frame: &[u8], bytes_max: usize) -> Result<(), Error> {
    let bytes = frame.len();
    if bytes > bytes_max {
        let message = format!("the request has {bytes} bytes, and the broker allows {bytes_max}");
        return Err(Error::refused(ErrorCode::FrameTooLarge, message));
    }
    if matches!(body, client_frame::Body::Submit(_) | client_frame::Body::Report(_)) {
        return Ok(());
    }
    measure::<wire::ClientFrame>(frame)
        .map(drop)
        .map_err(|error| Error::refused(ErrorCode::InvalidArgument, error.to_string()))
}
