//! Sessions: the clients, their connections, and their last signs of life. A session of a worker
//! lives on for the lease time after its connection is lost, so that the worker can resume it.
//!
//! The consumer of a session (`consumer.rs`) says which tasks the session may get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use celeriac_record::{SessionId, SessionRecord, Timestamp};

use crate::command::{ConnectionKey, Monotonic, Now, Order, RequestId, Scope, WatchKey};
use crate::consumer::Consumer;
use crate::keys::{SessionKey, WaitKey};

#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    /// Absent while the connection is lost.
    pub connection: Option<ConnectionKey>,
    pub instance: Arc<str>,
    /// The name of the client's entry in the access file, if there is one.
    pub entry: Option<Arc<str>>,
    /// What its client may see. Absent: everything.
    pub scope: Option<Arc<Scope>>,
    /// The record of the session in the store, if there is one.
    pub stored: Option<SessionRecord>,
    /// The last order to the worker.
    pub order: Order,
    /// The last sign of life.
    pub seen: Monotonic,
    pub seen_at: Timestamp,
    /// When the machine next checks whether the session is silent.
    pub timer_at: Monotonic,
    pub connected_at: Timestamp,
    pub memory_bytes: u64,
    pub consumer: Consumer,
    pub observed: Observed,
}

/// The waits and watches of a session.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Each wait with its request. The client may end the wait by the id of the request.
    pub waits: BTreeSet<(RequestId, WaitKey)>,
    pub watches: BTreeSet<WatchKey>,
    /// The numbers of task ids in those waits and in those watches.
    pub waited_ids: usize,
    pub watched_ids: usize,
}

/// All sessions: by key, by id and by connection.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub all: BTreeMap<SessionKey, Session>,
    by_id: BTreeMap<SessionId, SessionKey>,
    by_connection: BTreeMap<ConnectionKey, SessionKey>,
    latest: SessionKey,
    /// The number of consumers that could take a task now.
    pub hungry: usize,
    /// The number of connected workers.
    pub workers: usize,
}

impl Session {
    pub fn is_quiet(&self) -> bool {
        self.order != Order::Resume
    }

    /// Whether the session belongs to a worker, even to a worker that has not resumed the session
    /// since the broker restarted.
    pub fn is_of_worker(&self) -> bool {
        self.consumer.worker.is_some() || self.stored.is_some() || !self.consumer.leases.is_empty()
    }

    /// Whether silence ends the session. A connected client that is no worker and holds no lease
    /// may be silent.
    pub fn must_be_heard(&self) -> bool {
        self.connection.is_none()
            || self.consumer.worker.is_some()
            || !self.consumer.leases.is_empty()
    }
}

impl Sessions {
    /// The session of a connection.
    pub fn of(&self, connection: ConnectionKey) -> Option<SessionKey> {
        self.by_connection.get(&connection).copied()
    }

    /// The session of a worker with this id.
    pub fn find_of_worker(&self, id: &SessionId) -> Option<SessionKey> {
        self.by_id.get(id).copied().filter(|key| self.session(*key).is_of_worker())
    }

    pub fn session(&self, key: SessionKey) -> &Session {
        self.all.get(&key).expect("a session with a key is in the table")
    }

    pub fn session_mut(&mut self, key: SessionKey) -> &mut Session {
        self.all.get_mut(&key).expect("a session with a key is in the table")
    }

    pub fn consumer(&self, key: SessionKey) -> &Consumer {
        &self.session(key).consumer
    }

    pub fn consumer_mut(&mut self, key: SessionKey) -> &mut Consumer {
        &mut self.session_mut(key).consumer
    }

    /// The number of connections that have a session.
    pub fn connected(&self) -> usize {
        self.by_connection.len()
    }

    /// The number of sessions without a connection. They are sessions of workers.
    pub fn lost(&self) -> usize {
        self.all.len() - self.by_connection.len()
    }

    /// Every connection that has a session.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionKey> {
        self.by_connection.keys().copied()
    }

    /// Makes a session without a connection.
    pub fn create(&mut self, id: SessionId, instance: Arc<str>, now: Now) -> SessionKey {
        let session = Session {
            id,
            connection: None,
            instance,
            entry: None,
            scope: None,
            stored: None,
            order: Order::Resume,
            seen: now.mono,
            seen_at: now.wall,
            timer_at: 0,
            connected_at: now.wall,
            memory_bytes: 0,
            consumer: Consumer::default(),
            observed: Observed::default(),
        };
        self.latest += 1;
        self.by_id.insert(id, self.latest);
        self.all.insert(self.latest, session);
        self.latest
    }

    pub fn remove(&mut self, key: SessionKey) -> Session {
        let session = self.all.remove(&key).expect("a session is removed once");
        self.by_id.remove(&session.id);
        session
    }

    /// Gives a session its connection.
    pub fn connect(&mut self, key: SessionKey, connection: ConnectionKey) {
        self.by_connection.insert(connection, key);
        self.session_mut(key).connection = Some(connection);
    }

    /// Takes the connection from a session, if it has one.
    pub fn disconnect(&mut self, key: SessionKey) -> Option<ConnectionKey> {
        let connection = self.session_mut(key).connection.take()?;
        self.by_connection.remove(&connection);
        Some(connection)
    }

    /// A sign of life renews every lease of the session.
    pub fn touch(&mut self, key: SessionKey, now: Now) {
        let session = self.session_mut(key);
        (session.seen, session.seen_at) = (now.mono, now.wall);
    }

    /// The session that held a lease before the broker restarted. Its worker may resume the
    /// session.
    pub fn find_or_restore(&mut self, id: SessionId, worker: &str, now: Now) -> SessionKey {
        match self.by_id.get(&id) {
            Some(key) => *key,
            None => self.create(id, worker.into(), now),
        }
    }

    /// Restores a worker's session from its record.
    pub fn restore(&mut self, record: SessionRecord, now: Now) {
        let key = self.find_or_restore(record.id, &record.instance, now);
        let session = self.session_mut(key);
        (session.consumer.concurrency, session.order) = (record.concurrency, record.order);
        session.consumer.keeps_leases = record.keeps_leases;
        session.entry = record.entry.clone();
        session.stored = Some(record);
    }

    /// Removes a session that ended according to the log.
    pub fn unrestore(&mut self, id: SessionId) {
        if let Some(key) = self.by_id.remove(&id) {
            self.all.remove(&key);
        }
    }
}
