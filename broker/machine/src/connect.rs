//! Connections and their sessions: a client connects, resumes its session, gives signs of life, is
//! silent for too long, disconnects or says goodbye.

use celeriac_proto::TaskId;
use celeriac_record::{Cancel, Lease, Name, Named, Record, SessionRecord, Slot, State};

use crate::Machine;
use crate::command::{
    Answer, Code, Connect, ConnectionKey, Effect, LostWorker, Message, Order, Push, Refusal, Scope,
    SignalKind,
};
use crate::keys::SessionKey;
use crate::lease::Loss;
use crate::session::Session;
use crate::step::{Asker, Step};
use crate::timers::MonoTimer;

/// After this time clients connect again to a broker that shut down: the shutdown is mostly a
/// restart.
const RESTART_MS: u64 = 1_000;

/// The reason why a session ends: its client said goodbye, or its client was silent for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndOfSession {
    Goodbye,
    Silence,
}

impl Machine {
    pub(crate) fn connect(&mut self, step: &mut Step<'_>, connect: Connect) {
        let Connect { connection, request, session_id, resume, instance, worker, entry, scope } =
            connect;
        let asker = Asker { connection, request };
        let served = worker.iter().flat_map(|worker| worker.queues.iter().map(|(name, _)| name));
        if let Err(refusal) = self.queues.room_for(served) {
            step.answer(asker, Answer::Refused(refusal));
            return step.push(Effect::Close(connection));
        }
        // Only a worker can resume a session, and only the session of a worker. Any other session
        // ends with its connection.
        let found =
            resume.filter(|_| worker.is_some()).and_then(|id| self.sessions.find_of_worker(&id));
        let found = found.filter(|key| self.may_resume(*key, entry.as_deref(), scope.as_deref()));
        let key = match found {
            Some(key) => key,
            None => self.sessions.create(session_id, instance.clone(), step.now),
        };
        self.drop_connection(step, key, Some("another connection took the session over"));
        self.sessions.connect(key, connection);
        let session = self.sessions.session_mut(key);
        (session.instance, session.entry, session.scope) = (instance, entry, scope);
        session.consumer.credit = 0;
        session.connected_at = step.now.wall;
        self.unsubscribe(key);
        if let Some(info) = worker {
            self.subscribe(key, info);
            self.store_session(step, key);
        }
        self.sessions.touch(key, step.now);
        self.arm_session(key);
        self.note_hunger(key);
        let resumed = found.is_some();
        self.welcome(step, asker, key, resumed);
        if resumed {
            // An operator may have given the order while the connection was lost, or the message
            // may be lost with the connection.
            let order = self.sessions.session(key).order;
            step.tell(connection, Push::Order(order));
        }
        self.deliver_again(step, connection, key);
        self.signal_again(step, key);
        // The balance left the worker's leases out while the worker was disconnected.
        self.arm_balance(step.now, key);
    }

    fn welcome(&self, step: &mut Step<'_>, asker: Asker, key: SessionKey, resumed: bool) {
        let session = self.sessions.session(key);
        let leases: Vec<Lease> =
            session.consumer.leases.iter().map(|slot| self.tasks.task(*slot).lease()).collect();
        let (session_id, wall) = (session.id, step.now.wall);
        step.answer(asker, Answer::Welcome { session_id, resumed, leases, wall });
    }

    /// Gives the store the data of the session that must survive a restart of the broker.
    fn store_session(&mut self, step: &mut Step<'_>, key: SessionKey) {
        let session = self.sessions.session_mut(key);
        let record = SessionRecord {
            id: session.id,
            instance: session.instance.clone(),
            entry: session.entry.clone(),
            concurrency: session.consumer.concurrency,
            order: session.order,
            keeps_leases: session.consumer.keeps_leases,
        };
        if session.stored.as_ref() != Some(&record) {
            step.store(Record::Named(Named::Session(record.clone())));
            session.stored = Some(record);
        }
    }

    /// Delivers again every task that the worker has not started: the worker may have lost these
    /// deliveries with its connection.
    fn deliver_again(&mut self, step: &mut Step<'_>, connection: ConnectionKey, key: SessionKey) {
        let leases = self.sessions.consumer(key).leases.iter();
        let unstarted = leases.filter(|slot| self.tasks.task(**slot).state == State::Leased);
        let deliveries: Vec<_> = unstarted.map(|slot| self.delivery(*slot)).collect();
        if !deliveries.is_empty() {
            step.send(connection, Message::Deliver(deliveries));
        }
    }

    /// Signals a cancel or a soft time limit again: the signal came while the connection was lost,
    /// or may be lost with the connection.
    fn signal_again(&self, step: &mut Step<'_>, key: SessionKey) {
        for slot in &self.sessions.consumer(key).leases {
            let task = self.tasks.task(*slot);
            let run = self.tasks.run(task).expect("a leased task has a run");
            if run.soft_limit_at.is_some_and(|at| at <= step.now.mono) {
                self.signal(step, *slot, SignalKind::SoftTimeLimit, "soft_time_limit");
            }
            if let Some(reason) = run.cancel.as_ref().filter(|_| run.cancel_as == Cancel::Told) {
                let kind = if run.grace_at.is_some() {
                    SignalKind::Force
                } else {
                    SignalKind::Cooperative
                };
                self.signal(step, *slot, kind, reason);
            }
        }
    }

    /// A connection is lost. The session of a worker waits for another connection; any other
    /// session ends.
    pub(crate) fn disconnect(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionKey,
        reason: Option<Refusal>,
    ) {
        if let Some(refusal) = reason {
            step.answer(Asker { connection, request: 0 }, Answer::Refused(refusal));
        }
        step.push(Effect::Close(connection));
        let Some(key) = self.sessions.of(connection) else { return };
        self.drop_connection(step, key, None);
        let consumer = self.sessions.consumer(key);
        if consumer.worker.is_none() && consumer.leases.is_empty() {
            self.remove_session(step, key);
        }
    }

    /// The access of the client has ended. The session of a worker waits for another connection.
    pub(crate) fn expel(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionKey,
        reason: Refusal,
    ) {
        step.tell(connection, Push::Closing(reason));
        self.disconnect(step, connection, None);
    }

    /// The client closes its session on purpose: the broker takes its leases back at once.
    pub(crate) fn goodbye(&mut self, step: &mut Step<'_>, asker: Asker) {
        step.answer(asker, Answer::Done);
        step.push(Effect::Close(asker.connection));
        if let Some(key) = self.sessions.of(asker.connection) {
            self.end_session(step, key, EndOfSession::Goodbye);
        }
    }

    /// The broker shuts down. Sessions stay as they are: their workers resume them after the
    /// restart.
    pub(crate) fn close_all(&mut self, step: &mut Step<'_>) {
        for connection in self.sessions.connections() {
            let refusal = Refusal {
                retry_after_ms: RESTART_MS,
                ..Refusal::new(Code::ShuttingDown, "the broker is shutting down")
            };
            step.tell(connection, Push::Closing(refusal));
            step.push(Effect::Close(connection));
        }
    }

    /// Ends a session whose client was silent for the lease time.
    pub(crate) fn session_timer(&mut self, step: &mut Step<'_>, key: SessionKey) {
        let Some(session) = self.sessions.all.get(&key) else { return };
        if !session.must_be_heard() {
            return;
        }
        if step.now.mono < session.seen + self.config.lease_ms {
            self.arm_session(key);
        } else {
            self.drop_connection(step, key, Some("nothing was heard for the lease time"));
            self.end_session(step, key, EndOfSession::Silence);
        }
    }

    /// Ends a session. If its client said goodbye, tasks that have not started go back to their
    /// queues, and their leases do not count as deliveries.
    fn end_session(&mut self, step: &mut Step<'_>, key: SessionKey, why: EndOfSession) {
        if why == EndOfSession::Silence {
            self.suspect_leases(key);
        }
        let mut lost = self.lost_worker(step, key, why);
        self.unsubscribe(key);
        let mut leases = self.sessions.consumer(key).leases.clone();
        leases.sort_unstable_by_key(|slot| self.tasks.task(*slot).order());
        // Each task goes to the front of its queue. The newest task goes first, so the oldest task
        // is in front at the end.
        for slot in leases.into_iter().rev() {
            let is_unstarted = self.tasks.task(slot).state == State::Leased;
            if why == EndOfSession::Goodbye && is_unstarted {
                self.take_back(step, slot);
            } else {
                let loss = match why {
                    EndOfSession::Silence => Loss::Silence,
                    EndOfSession::Goodbye => Loss::Goodbye,
                };
                let id = self.tasks.id(self.tasks.task(slot));
                let state = self.lose_lease(step, slot, loss);
                // A task that was queued again may have expired.
                let found = self.tasks.find(&id).map(|slot| self.tasks.task(slot).state);
                note_task(&mut lost, id, found.unwrap_or(state));
            }
        }
        if why == EndOfSession::Silence && self.sessions.session(key).is_of_worker()
            || lost.queued + lost.failed + lost.revoked > 0
        {
            // The last task that was lost is the oldest one.
            lost.tasks.reverse();
            step.push(Effect::WorkerLost(Box::new(lost)));
        }
        self.drop_connection(step, key, None);
        self.remove_session(step, key);
    }

    /// The worker of a session that ends, before its tasks are lost.
    fn lost_worker(&self, step: &Step<'_>, key: SessionKey, why: EndOfSession) -> LostWorker {
        let session = self.sessions.session(key);
        let silent_ms = step.now.mono.saturating_sub(session.seen);
        LostWorker {
            instance: session.instance.clone(),
            silent_ms: (why == EndOfSession::Silence).then_some(silent_ms),
            queued: 0,
            failed: 0,
            revoked: 0,
            tasks: Vec::new(),
        }
    }

    fn remove_session(&mut self, step: &mut Step<'_>, key: SessionKey) {
        self.unsubscribe(key);
        let session = self.sessions.remove(key);
        self.timers.clear_mono(session.timer_at, MonoTimer::Session(key));
        if session.stored.is_some() {
            step.store(Record::Removed(Name::Session(session.id)));
        }
    }

    /// Removes the connection from its session, with its waits and watches. If there is a reason,
    /// the client gets the reason and the machine closes the connection.
    fn drop_connection(&mut self, step: &mut Step<'_>, key: SessionKey, reason: Option<&str>) {
        let Some(connection) = self.sessions.disconnect(key) else { return };
        self.orphan_scans(connection);
        self.chords.lose(connection);
        self.end_observing(key);
        self.end_mail(step, connection);
        self.set_present(key, false);
        self.note_hunger(key);
        if let Some(reason) = reason {
            step.tell(connection, Push::Closing(Refusal::new(Code::SessionLost, reason)));
            step.push(Effect::Close(connection));
        }
    }

    /// A request of the client waits for its turn. The request is a sign of life.
    pub(crate) fn alive(&mut self, step: &Step<'_>, connection: ConnectionKey) {
        if let Some(key) = self.sessions.of(connection) {
            self.sessions.touch(key, step.now);
        }
    }

    /// A client sends a long frame, or its frame waits for its turn. The heartbeats of the client,
    /// and their answers, wait behind this frame. So the broker sends the client the answer to a
    /// heartbeat.
    pub(crate) fn heard(&mut self, step: &mut Step<'_>, connection: ConnectionKey) {
        if let Some(key) = self.sessions.of(connection) {
            self.sessions.touch(key, step.now);
            let wall = step.now.wall;
            step.answer(Asker { connection, request: 0 }, Answer::Heartbeat { wall });
        }
    }

    pub(crate) fn arm_session(&mut self, key: SessionKey) {
        let session = self.sessions.session_mut(key);
        self.timers.clear_mono(session.timer_at, MonoTimer::Session(key));
        session.timer_at = session.seen + self.config.lease_ms;
        self.timers.set_mono(session.timer_at, MonoTimer::Session(key));
    }

    /// Orders some workers, or all, to be quiet, to resume or to shut down. Returns the number of
    /// these workers.
    pub(crate) fn order_workers(
        &mut self,
        step: &mut Step<'_>,
        instances: &[Box<str>],
        order: Order,
    ) -> u64 {
        let scope = step.scope.as_deref();
        let is_meant = |session: &Session| {
            session.is_of_worker()
                && scope.is_none_or(|scope| self.is_within(session, scope))
                && (instances.is_empty()
                    || instances.iter().any(|instance| **instance == *session.instance))
        };
        let sessions = self.sessions.all.iter().filter(|(_, session)| is_meant(session));
        let keys: Vec<SessionKey> = sessions.map(|(key, _)| *key).collect();
        for key in &keys {
            let session = self.sessions.session_mut(*key);
            session.order = order;
            if let Some(connection) = session.connection {
                step.tell(connection, Push::Order(order));
            }
            self.store_session(step, *key);
            self.note_hunger(*key);
        }
        keys.len() as u64
    }

    /// Whether a worker serves queues of the scope, and neither serves nor holds what is of others.
    fn is_within(&self, session: &Session, scope: &Scope) -> bool {
        let consumer = &session.consumer;
        let is_seen = |slot: &Slot| self.sees_task(Some(scope), self.tasks.task(*slot));
        consumer.serves_only(&scope.queues) && consumer.leases.iter().all(is_seen)
    }

    /// Whether a client of this entry and this scope may resume a session. A client gets no tasks
    /// of others, and no session of another entry of the access file, also if it knows the id.
    fn may_resume(&self, key: SessionKey, entry: Option<&str>, scope: Option<&Scope>) -> bool {
        let session = self.sessions.session(key);
        let is_of_other =
            session.entry.as_deref().zip(entry).is_some_and(|(of, resumer)| of != resumer);
        let mut leases = session.consumer.leases.iter();
        !is_of_other && leases.all(|slot| self.sees_task(scope, self.tasks.task(*slot)))
    }
}

/// Counts a lost task, and keeps the latest of them: the oldest task comes last.
fn note_task(lost: &mut LostWorker, id: TaskId, state: State) {
    match state {
        State::Failure => lost.failed += 1,
        State::Revoked => lost.revoked += 1,
        _ => lost.queued += 1,
    }
    if lost.tasks.len() == LostWorker::TASKS_MAX {
        lost.tasks.remove(0);
    }
    lost.tasks.push((id, state));
}
