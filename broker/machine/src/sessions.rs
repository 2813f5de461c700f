//! Sessions: who is connected, what they can run, which leases they hold. A session outlives its
//! connection for as long as its leases do, so that a worker can come back to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use celeriac_record::{Lease, Record, SessionId, SessionRecord, Slot, State, Timestamp};

use super::command::{
    Code, Connect, ConnectionKey, Effect, Message, Monotonic, Now, Order, Refusal, RequestId,
    SignalKind, WorkerInfo,
};
use super::names::NameKey;
use super::queue::QueueKey;
use super::timers::MonoTimer;
use super::watch::{WaitKey, WatchKey};
use super::{Effects, Machine};

/// When clients are to look for a broker again that closes: it is mostly a restart.
const RESTART_MS: u64 = 1_000;

/// A session of this process; never used again.
pub(super) type SessionKey = u64;

#[derive(Debug)]
pub(super) struct Session {
    pub id: SessionId,
    /// Absent while the connection is lost.
    pub connection: Option<ConnectionKey>,
    pub instance: Arc<str>,
    /// How many handlers its worker runs at once; 0 for connections that only ask.
    pub concurrency: u32,
    /// As the store has it, if it has it.
    stored: Option<SessionRecord>,
    /// Absent for connections that only ask.
    pub worker: Option<Worker>,
    /// Leases it may hold at once.
    pub credit: u32,
    pub leases: Vec<Slot>,
    /// Payloads of those leases.
    pub leased_bytes: u64,
    /// What its worker was last told to do.
    pub order: Order,
    /// It holds a suspect, and takes nothing else.
    pub alone: bool,
    /// It takes nothing until it is free for a suspect of this queue.
    pub drains: Option<QueueKey>,
    /// The last sign of life.
    pub seen: Monotonic,
    pub seen_at: Timestamp,
    /// When silence is looked at next.
    pub timer_at: Monotonic,
    pub connected_at: Timestamp,
    pub memory_bytes: u64,
    /// With the request that waits, by which it may be withdrawn.
    pub waits: BTreeSet<(RequestId, WaitKey)>,
    pub watches: BTreeSet<WatchKey>,
    /// The ids of those waits, and of those watches.
    pub waited_ids: usize,
    pub watched_ids: usize,
    /// As the queues have it in their sets.
    pub idle: bool,
    pub hungry: bool,
}

/// What makes a session a worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub queues: Vec<Subscription>,
    pub names: BTreeSet<NameKey>,
    pub info: WorkerInfo,
}

/// One queue that a worker serves.
#[derive(Debug)]
pub(super) struct Subscription {
    pub queue: QueueKey,
    pub weight: i64,
    /// How far the queue is owed its turn (smooth weighted round robin).
    pub owed: i64,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub all: BTreeMap<SessionKey, Session>,
    by_id: BTreeMap<SessionId, SessionKey>,
    by_connection: BTreeMap<ConnectionKey, SessionKey>,
    latest: SessionKey,
    /// How many could take a task now.
    pub hungry: usize,
}

impl Session {
    pub fn is_quiet(&self) -> bool {
        self.order != Order::Resume
    }

    /// Whether it is that of a worker, also of one that has not resumed it since the broker
    /// restarted.
    pub fn is_of_worker(&self) -> bool {
        self.worker.is_some() || self.stored.is_some() || !self.leases.is_empty()
    }

    pub fn can_run(&self, name: NameKey) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.names.contains(&name))
    }
}

impl Sessions {
    pub fn of(&self, connection: ConnectionKey) -> Option<SessionKey> {
        self.by_connection.get(&connection).copied()
    }

    pub fn session(&self, key: SessionKey) -> &Session {
        self.all.get(&key).expect("a session is named only while it is in the table")
    }

    pub fn session_mut(&mut self, key: SessionKey) -> &mut Session {
        self.all.get_mut(&key).expect("a session is named only while it is in the table")
    }

    fn add(&mut self, session: Session) -> SessionKey {
        self.latest += 1;
        self.by_id.insert(session.id, self.latest);
        self.by_connection.extend(session.connection.map(|connection| (connection, self.latest)));
        self.all.insert(self.latest, session);
        self.latest
    }

    fn new_session(id: SessionId, instance: Arc<str>, now: Now) -> Session {
        Session {
            id,
            connection: None,
            instance,
            concurrency: 0,
            stored: None,
            worker: None,
            credit: 0,
            leases: Vec::new(),
            leased_bytes: 0,
            order: Order::Resume,
            alone: false,
            drains: None,
            seen: now.mono,
            seen_at: now.wall,
            timer_at: 0,
            connected_at: now.wall,
            memory_bytes: 0,
            waits: BTreeSet::new(),
            watches: BTreeSet::new(),
            waited_ids: 0,
            watched_ids: 0,
            idle: false,
            hungry: false,
        }
    }

    /// The session that held a lease before the broker restarted; it may come back.
    pub fn find_or_restore(&mut self, id: SessionId, worker: &str, now: Now) -> SessionKey {
        match self.by_id.get(&id) {
            Some(key) => *key,
            None => self.add(Self::new_session(id, worker.into(), now)),
        }
    }

    /// A worker's session of before the broker restarted.
    pub fn restore(&mut self, record: SessionRecord, now: Now) {
        let key = self.find_or_restore(record.id, &record.instance, now);
        let session = self.session_mut(key);
        (session.concurrency, session.order) = (record.concurrency, record.order);
        session.stored = Some(record);
    }

    /// The log says that a session is over.
    pub fn unrestore(&mut self, id: SessionId) {
        if let Some(key) = self.by_id.remove(&id) {
            self.all.remove(&key);
        }
    }
}

impl Machine {
    pub(super) fn connect(&mut self, now: Now, connect: Connect, fx: &mut Effects) {
        let Connect { connection, request, session_id, resume, instance, worker } = connect;
        let served = worker.iter().flat_map(|worker| worker.queues.iter().map(|(name, _)| name));
        if let Err(refusal) = self.queues.room_for(served) {
            fx.send(connection, Message::Refused { request, refusal });
            return fx.push(Effect::Close(connection));
        }
        // The session of a worker is resumed by a worker alone; any other ends with its connection.
        let found = resume
            .filter(|_| worker.is_some())
            .and_then(|id| self.sessions.by_id.get(&id).copied());
        let found = found.filter(|key| self.sessions.session(*key).is_of_worker());
        let key = match found {
            Some(key) => key,
            None => self.sessions.add(Sessions::new_session(session_id, instance.clone(), now)),
        };
        self.drop_connection(key, fx, Some("another connection took the session over"));
        self.sessions.by_connection.insert(connection, key);
        let session = self.sessions.session_mut(key);
        session.connection = Some(connection);
        session.instance = instance;
        session.credit = 0;
        session.connected_at = now.wall;
        self.unsubscribe(key);
        if let Some(info) = worker {
            self.sessions.session_mut(key).concurrency = info.concurrency;
            self.subscribe(key, info);
            self.store_session(key, fx);
        }
        self.touch(now, key);
        self.arm_session(key);
        self.note_hunger(key);
        let session = self.sessions.session(key);
        let leases: Vec<Lease> =
            session.leases.iter().map(|slot| self.tasks.task(*slot).lease()).collect();
        let welcome = Message::Welcome {
            request,
            session_id: session.id,
            resumed: found.is_some(),
            leases,
            wall: now.wall,
        };
        let order = session.order;
        fx.send(connection, welcome);
        if found.is_some() {
            // It may have been given while the connection was lost, or have been lost with it.
            fx.send(connection, Message::Order(order));
        }
        self.deliver_again(connection, key, fx);
        self.signal_again(now, key, fx);
        // Nobody was looking after what it held while it was away.
        self.arm_balance(now, key);
    }

    /// Has the store keep what is to outlive a restart of the broker.
    fn store_session(&mut self, key: SessionKey, fx: &mut Effects) {
        let session = self.sessions.session_mut(key);
        let Session { id, concurrency, order, .. } = *session;
        let record = SessionRecord { id, instance: session.instance.clone(), concurrency, order };
        if session.stored.as_ref() != Some(&record) {
            fx.push(Effect::Store(Record::Session(record.clone())));
            session.stored = Some(record);
        }
    }

    /// What the worker may have lost with its connection: everything that it has not started.
    fn deliver_again(&mut self, connection: ConnectionKey, key: SessionKey, fx: &mut Effects) {
        let session = self.sessions.session(key);
        let unstarted =
            session.leases.iter().filter(|slot| self.tasks.task(**slot).state == State::Leased);
        let deliveries: Vec<_> = unstarted.map(|slot| self.delivery(*slot)).collect();
        if !deliveries.is_empty() {
            fx.send(connection, Message::Deliver(deliveries));
        }
    }

    /// A cancel or a soft time limit that came while the connection was lost, or was lost with it.
    fn signal_again(&self, now: Now, key: SessionKey, fx: &mut Effects) {
        for slot in &self.sessions.session(key).leases {
            let task = self.tasks.task(*slot);
            let run = self.tasks.run(task).expect("a leased task has a run");
            if run.soft_limit_at.is_some_and(|at| at <= now.mono) {
                self.signal(*slot, SignalKind::SoftTimeLimit, "soft_time_limit", fx);
            }
            if let Some(reason) = &run.cancel {
                let kind = if run.grace_at.is_some() {
                    SignalKind::Force
                } else {
                    SignalKind::Cooperative
                };
                self.signal(*slot, kind, reason, fx);
            }
        }
    }

    fn subscribe(&mut self, key: SessionKey, info: WorkerInfo) {
        let mut queues: Vec<Subscription> = Vec::with_capacity(info.queues.len());
        for (name, weight) in &info.queues {
            let queue = self.queues.find_or_create(name);
            // Named twice, it counts once.
            if self.queues.queue_mut(queue).servers.insert(key) {
                queues.push(Subscription { queue, weight: i64::from((*weight).max(1)), owed: 0 });
                self.queues.note_use(queue);
            }
        }
        let mut names: BTreeSet<NameKey> = BTreeSet::new();
        for name in &info.task_names {
            let name = self.names.take(name);
            // A name announced twice is used once.
            if !names.insert(name) {
                self.names.release(name);
            }
        }
        self.sessions.session_mut(key).worker = Some(Worker { queues, names, info });
    }

    fn unsubscribe(&mut self, key: SessionKey) {
        self.set_hunger(key, false, false);
        let Some(worker) = self.sessions.session_mut(key).worker.take() else { return };
        for subscription in &worker.queues {
            self.queues.queue_mut(subscription.queue).servers.remove(&key);
            self.queues.note_use(subscription.queue);
        }
        for name in worker.names {
            self.names.release(name);
        }
    }

    /// The connection is lost. A worker's session waits for another; any other is gone.
    pub(super) fn disconnect(
        &mut self,
        connection: ConnectionKey,
        reason: Option<Refusal>,
        fx: &mut Effects,
    ) {
        if let Some(refusal) = reason {
            fx.send(connection, Message::Refused { request: 0, refusal });
        }
        fx.push(Effect::Close(connection));
        let Some(key) = self.sessions.of(connection) else { return };
        self.drop_connection(key, fx, None);
        let session = self.sessions.session(key);
        if session.worker.is_none() && session.leases.is_empty() {
            self.remove_session(key, fx);
        }
    }

    /// The client closes on purpose: its leases go back at once.
    pub(super) fn goodbye(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        request: RequestId,
        fx: &mut Effects,
    ) {
        fx.send(connection, Message::Done { request });
        fx.push(Effect::Close(connection));
        if let Some(key) = self.sessions.of(connection) {
            self.end_session(now, key, true, fx);
        }
    }

    /// Sessions stay as they are: their workers come back to them after the restart.
    pub(super) fn close_all(&mut self, fx: &mut Effects) {
        for connection in self.sessions.by_connection.keys() {
            let refusal = Refusal {
                retry_after_ms: RESTART_MS,
                ..Refusal::new(Code::ShuttingDown, "the broker is shutting down")
            };
            fx.send(*connection, Message::Closing(refusal));
            fx.push(Effect::Close(*connection));
        }
    }

    /// No sign of life for the lease time.
    pub(super) fn session_timer(&mut self, now: Now, key: SessionKey, fx: &mut Effects) {
        let Some(session) = self.sessions.all.get(&key) else { return };
        let silent =
            session.worker.is_some() || !session.leases.is_empty() || session.connection.is_none();
        if !silent {
            return;
        }
        if now.mono < session.seen + self.settings.lease_ms {
            self.arm_session(key);
        } else {
            self.drop_connection(key, fx, Some("nothing was heard for the lease time"));
            self.end_session(now, key, false, fx);
        }
    }

    /// A session that ends on purpose hands back what it has not started; that counts as no
    /// delivery.
    fn end_session(&mut self, now: Now, key: SessionKey, on_purpose: bool, fx: &mut Effects) {
        if !on_purpose {
            self.suspect_leases(key);
        }
        self.unsubscribe(key);
        let mut leases = self.sessions.session(key).leases.clone();
        leases.sort_unstable_by_key(|slot| self.tasks.task(*slot).order());
        // From the last to the first, each in front of its queue: the oldest ends up first.
        for slot in leases.into_iter().rev() {
            if on_purpose && self.tasks.task(slot).state == State::Leased {
                self.take_back(now, slot, fx);
            } else {
                self.lose_lease(now, slot, fx);
            }
        }
        self.drop_connection(key, fx, None);
        self.remove_session(key, fx);
    }

    fn remove_session(&mut self, key: SessionKey, fx: &mut Effects) {
        self.unsubscribe(key);
        let session = self.sessions.all.remove(&key).expect("removed once");
        self.timers.clear_mono(session.timer_at, MonoTimer::Session(key));
        self.sessions.by_id.remove(&session.id);
        if session.stored.is_some() {
            fx.push(Effect::Store(Record::SessionEnded(session.id)));
        }
    }

    /// Forgets the connection, what it waits for and watches. With a reason, it is told and closed.
    fn drop_connection(&mut self, key: SessionKey, fx: &mut Effects, reason: Option<&str>) {
        let Some(connection) = self.sessions.session_mut(key).connection.take() else { return };
        self.sessions.by_connection.remove(&connection);
        self.orphan_scans(connection);
        self.end_watches(key);
        self.note_hunger(key);
        if let Some(reason) = reason {
            fx.send(connection, Message::Closing(Refusal::new(Code::SessionLost, reason)));
            fx.push(Effect::Close(connection));
        }
    }

    /// Any frame, or a part of one, is a sign of life and renews every lease of the session.
    pub(super) fn touch(&mut self, now: Now, key: SessionKey) {
        let session = self.sessions.session_mut(key);
        session.seen = now.mono;
        session.seen_at = now.wall;
    }

    /// Its request waits its turn.
    pub(super) fn alive(&mut self, now: Now, connection: ConnectionKey) {
        if let Some(key) = self.sessions.of(connection) {
            self.touch(now, key);
        }
    }

    /// A long frame is on its way, or waits for its turn. Its sender's heartbeats wait behind it,
    /// and so does what would answer them: it is told that it is heard.
    pub(super) fn heard(&mut self, now: Now, connection: ConnectionKey, fx: &mut Effects) {
        if let Some(key) = self.sessions.of(connection) {
            self.touch(now, key);
            fx.send(connection, Message::HeartbeatReply { request: 0, wall: now.wall });
        }
    }

    pub(super) fn arm_session(&mut self, key: SessionKey) {
        let session = self.sessions.session_mut(key);
        self.timers.clear_mono(session.timer_at, MonoTimer::Session(key));
        session.timer_at = session.seen + self.settings.lease_ms;
        self.timers.set_mono(session.timer_at, MonoTimer::Session(key));
    }

    pub(super) fn set_credit(&mut self, key: SessionKey, credit: u32) {
        self.sessions.session_mut(key).credit = credit;
        self.note_hunger(key);
    }

    /// Quiet, resume or shutdown for some workers, or for all. Says how many were told.
    pub(super) fn order_workers(
        &mut self,
        instances: &[Box<str>],
        order: Order,
        fx: &mut Effects,
    ) -> u64 {
        let wanted = |session: &Session| {
            session.is_of_worker()
                && (instances.is_empty()
                    || instances.iter().any(|instance| **instance == *session.instance))
        };
        let keys: Vec<SessionKey> = self
            .sessions
            .all
            .iter()
            .filter(|(_, session)| wanted(session))
            .map(|(key, _)| *key)
            .collect();
        for key in &keys {
            let session = self.sessions.session_mut(*key);
            session.order = order;
            if let Some(connection) = session.connection {
                fx.send(connection, Message::Order(order));
            }
            self.store_session(*key, fx);
            self.note_hunger(*key);
        }
        keys.len() as u64
    }

    /// Tells the holder of a lease something about it.
    pub(super) fn signal(&self, slot: Slot, kind: SignalKind, reason: &str, fx: &mut Effects) {
        let task = self.tasks.task(slot);
        let holder = self.tasks.run(task).and_then(|run| run.holder);
        if let Some(connection) = holder.and_then(|key| self.sessions.session(key).connection) {
            let leases = vec![task.lease()];
            fx.send(connection, Message::Signal { leases, kind, reason: reason.into() });
        }
    }

    /// Keeps the queues' sets of idle and hungry workers true after anything about a session
    /// changed.
    pub(super) fn note_hunger(&mut self, key: SessionKey) {
        let session = self.sessions.session(key);
        let leases = session.leases.len();
        let present =
            session.connection.is_some() && session.worker.is_some() && !session.is_quiet();
        if session.drains.is_some() && (!present || session.credit == 0 || session.alone) {
            return self.stop_draining(key);
        }
        let room = leases == 0
            || (session.leased_bytes < self.settings.leased_bytes_max
                && !session.alone
                && session.drains.is_none());
        let hungry = present && room && leases < session.credit as usize;
        self.set_hunger(key, hungry, hungry && leases < session.concurrency as usize);
    }

    fn set_hunger(&mut self, key: SessionKey, hungry: bool, idle: bool) {
        let session = self.sessions.session_mut(key);
        let was = (session.hungry, session.idle);
        if was == (hungry, idle) {
            return;
        }
        (session.hungry, session.idle) = (hungry, idle);
        let Some(worker) = &self.sessions.session(key).worker else { return };
        for subscription in &worker.queues {
            let queue = self.queues.queue_mut(subscription.queue);
            set_member(&mut queue.hungry, key, hungry);
            set_member(&mut queue.idle, key, idle);
            if was.0 != hungry {
                self.queues.note_ready(subscription.queue);
            }
        }
        match (was.0, hungry) {
            (false, true) => self.sessions.hungry += 1,
            (true, false) => self.sessions.hungry -= 1,
            _ => {}
        }
    }
}

fn set_member(set: &mut BTreeSet<SessionKey>, key: SessionKey, member: bool) {
    if member {
        set.insert(key);
    } else {
        set.remove(&key);
    }
}
