//! Connections and the sessions behind them: a client connects, resumes, is heard, falls silent,
//! disconnects or says goodbye.

use celeriac_record::{Lease, Name, Named, Record, SessionRecord, State};

use crate::Machine;
use crate::command::{
    Answer, Code, Connect, ConnectionKey, Effect, Message, Order, Push, Refusal, SignalKind,
};
use crate::keys::SessionKey;
use crate::session::Session;
use crate::step::{Asker, Step};
use crate::timers::MonoTimer;

/// When clients are to look for a broker again that closes: it is mostly a restart.
const RESTART_MS: u64 = 1_000;

/// Whether a session ends because its client said so, or because nothing was heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndOfSession {
    Goodbye,
    Silence,
}

impl Machine {
    pub(crate) fn connect(&mut self, step: &mut Step<'_>, connect: Connect) {
        let Connect { connection, request, session_id, resume, instance, worker } = connect;
        let asker = Asker { connection, request };
        let served = worker.iter().flat_map(|worker| worker.queues.iter().map(|(name, _)| name));
        if let Err(refusal) = self.queues.room_for(served) {
            step.answer(asker, Answer::Refused(refusal));
            return step.push(Effect::Close(connection));
        }
        // The session of a worker is resumed by a worker alone; any other ends with its connection.
        let found =
            resume.filter(|_| worker.is_some()).and_then(|id| self.sessions.find_of_worker(&id));
        let key = match found {
            Some(key) => key,
            None => self.sessions.create(session_id, instance.clone(), step.now),
        };
        self.drop_connection(step, key, Some("another connection took the session over"));
        self.sessions.connect(key, connection);
        let session = self.sessions.session_mut(key);
        session.instance = instance;
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
            // The order may have been given while the connection was lost, or be lost with it.
            let order = self.sessions.session(key).order;
            step.tell(connection, Push::Order(order));
        }
        self.deliver_again(step, connection, key);
        self.signal_again(step, key);
        // Nobody has balanced what the worker held while it was away.
        self.arm_balance(step.now, key);
    }

    fn welcome(&self, step: &mut Step<'_>, asker: Asker, key: SessionKey, resumed: bool) {
        let session = self.sessions.session(key);
        let leases: Vec<Lease> =
            session.consumer.leases.iter().map(|slot| self.tasks.task(*slot).lease()).collect();
        let (session_id, wall) = (session.id, step.now.wall);
        step.answer(asker, Answer::Welcome { session_id, resumed, leases, wall });
    }

    /// Has the store keep what is to outlive a restart of the broker.
    fn store_session(&mut self, step: &mut Step<'_>, key: SessionKey) {
        let session = self.sessions.session_mut(key);
        let record = SessionRecord {
            id: session.id,
            instance: session.instance.clone(),
            concurrency: session.consumer.concurrency,
            order: session.order,
        };
        if session.stored.as_ref() != Some(&record) {
            step.store(Record::Named(Named::Session(record.clone())));
            session.stored = Some(record);
        }
    }

    /// Delivers again what the worker may have lost with its connection: everything that it has not
    /// started.
    fn deliver_again(&mut self, step: &mut Step<'_>, connection: ConnectionKey, key: SessionKey) {
        let leases = self.sessions.consumer(key).leases.iter();
        let unstarted = leases.filter(|slot| self.tasks.task(**slot).state == State::Leased);
        let deliveries: Vec<_> = unstarted.map(|slot| self.delivery(*slot)).collect();
        if !deliveries.is_empty() {
            step.send(connection, Message::Deliver(deliveries));
        }
    }

    /// Signals again a cancel or a soft time limit that came while the connection was lost, or was
    /// lost with it.
    fn signal_again(&self, step: &mut Step<'_>, key: SessionKey) {
        for slot in &self.sessions.consumer(key).leases {
            let task = self.tasks.task(*slot);
            let run = self.tasks.run(task).expect("a leased task has a run");
            if run.soft_limit_at.is_some_and(|at| at <= step.now.mono) {
                self.signal(step, *slot, SignalKind::SoftTimeLimit, "soft_time_limit");
            }
            if let Some(reason) = &run.cancel {
                let kind = if run.grace_at.is_some() {
                    SignalKind::Force
                } else {
                    SignalKind::Cooperative
                };
                self.signal(step, *slot, kind, reason);
            }
        }
    }

    /// The connection is lost. The session of a worker waits for another connection; any other
    /// session is gone.
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

    /// The client closes on purpose: its leases go back at once.
    pub(crate) fn goodbye(&mut self, step: &mut Step<'_>, asker: Asker) {
        step.answer(asker, Answer::Done);
        step.push(Effect::Close(asker.connection));
        if let Some(key) = self.sessions.of(asker.connection) {
            self.end_session(step, key, EndOfSession::Goodbye);
        }
    }

    /// The broker closes. Sessions stay as they are: their workers resume them after the restart.
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

    /// Ends a session of which nothing was heard for the lease time.
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

    /// A session that ends on purpose hands back what it has not started; that counts as no
    /// delivery.
    fn end_session(&mut self, step: &mut Step<'_>, key: SessionKey, why: EndOfSession) {
        if why == EndOfSession::Silence {
            self.suspect_leases(key);
        }
        self.unsubscribe(key);
        let mut leases = self.sessions.consumer(key).leases.clone();
        leases.sort_unstable_by_key(|slot| self.tasks.task(*slot).order());
        // From the last to the first, each in front of its queue: the oldest ends up first.
        for slot in leases.into_iter().rev() {
            let is_unstarted = self.tasks.task(slot).state == State::Leased;
            if why == EndOfSession::Goodbye && is_unstarted {
                self.take_back(step, slot);
            } else {
                self.lose_lease(step, slot);
            }
        }
        self.drop_connection(step, key, None);
        self.remove_session(step, key);
    }

    fn remove_session(&mut self, step: &mut Step<'_>, key: SessionKey) {
        self.unsubscribe(key);
        let session = self.sessions.remove(key);
        self.timers.clear_mono(session.timer_at, MonoTimer::Session(key));
        if session.stored.is_some() {
            step.store(Record::Removed(Name::Session(session.id)));
        }
    }

    /// Forgets the connection, what it waits for and what it watches. With a reason, its client is
    /// told and the connection is closed.
    fn drop_connection(&mut self, step: &mut Step<'_>, key: SessionKey, reason: Option<&str>) {
        let Some(connection) = self.sessions.disconnect(key) else { return };
        self.orphan_scans(connection);
        self.end_observing(key);
        self.note_hunger(key);
        if let Some(reason) = reason {
            step.tell(connection, Push::Closing(Refusal::new(Code::SessionLost, reason)));
            step.push(Effect::Close(connection));
        }
    }

    /// A request of the client waits for its turn: the client lives.
    pub(crate) fn alive(&mut self, step: &Step<'_>, connection: ConnectionKey) {
        if let Some(key) = self.sessions.of(connection) {
            self.sessions.touch(key, step.now);
        }
    }

    /// A long frame is on its way, or waits for its turn. Its sender's heartbeats wait behind it,
    /// and so do their answers: the broker tells the sender that it is heard.
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

    /// Gives some workers, or all, the order to be quiet, to resume or to shut down. Says how many
    /// workers were told.
    pub(crate) fn order_workers(
        &mut self,
        step: &mut Step<'_>,
        instances: &[Box<str>],
        order: Order,
    ) -> u64 {
        let is_meant = |session: &Session| {
            session.is_of_worker()
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
}
