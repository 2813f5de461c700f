//! Requests that look at many tasks: purge, delete, pause, cancel by root or tag, replay and
//! discard by filter, listings. Each is done in slices, between which everybody else has a turn,
//! and is answered at its end.
//!
//! A connection has one of them under way. What it asks next waits until that is answered, so that
//! it sees what it asked for; only what must never be held up goes past: submits, reports, credit
//! and signs of life. Connections take turns. When a connection goes, the one that is under way is
//! done to its end, and those that wait are not begun.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use celeriac_record::{Actor, Slot};

use super::admin::{Pausing, Purge};
use super::cancel::CancelMany;
use super::command::{
    Ask, CancelTarget, Code, ConnectionKey, Dead, Message, Now, Refusal, RequestId,
};
use super::dead::DeadMany;
use super::look::Listing;
use super::{Effects, Machine, refused};

/// Work is counted in looks at a slot, some nanoseconds each: the machine has no clock. One slice
/// of one connection, and all slices of one tick.
const SLICE: u32 = 60_000;
const TICK: u32 = 2 * SLICE;

/// What a change of one task counts for, what a name of a queue does, and what a look at the rules
/// of a task does.
pub(super) const CHANGE: u32 = 200;
pub(super) const NAME: u32 = 100;
pub(super) const RULES: u32 = 10;

/// Ids in the requests of one connection that wait for a scan to end.
const WAITING_IDS_MAX: usize = 20_000;

/// Scans whose connection is gone. More are given up where they stand.
const ORPHANS_MAX: usize = 1_000;

/// All scans under way, and what waits behind them.
#[derive(Debug)]
pub(super) struct Scans {
    lines: BTreeMap<ConnectionKey, Line>,
    orphans: VecDeque<Scan>,
    /// Who was served last.
    turn: Option<ConnectionKey>,
    /// Looks that are left to whoever has the turn.
    left: u32,
}

/// The scan of one connection, and what it asked after it.
#[derive(Debug, Default)]
struct Line {
    scan: Option<Scan>,
    later: VecDeque<(RequestId, Ask)>,
    later_ids: usize,
}

/// One request that looks at many tasks.
#[derive(Debug)]
pub(super) struct Scan {
    pub connection: ConnectionKey,
    pub request: RequestId,
    actor: Actor,
    /// The latest task at the time of the request: what came after it stays as it is.
    pub before: u64,
    /// The next slot to look at, and the one after the last.
    pub next: Slot,
    pub end: Slot,
    pub work: Work,
}

/// What is done to the tasks.
#[derive(Debug)]
pub(super) enum Work {
    Purge(Purge),
    Pause(Pausing),
    Cancel(CancelMany),
    Dead(DeadMany),
    List(Listing),
}

/// What one look at a slot came to.
pub(super) enum Look {
    /// It counted for so much.
    Cost(u32),
    /// There is nothing more to look for, from this slot on.
    Enough,
}

impl Default for Scans {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), orphans: VecDeque::new(), turn: None, left: SLICE }
    }
}

impl Scans {
    /// Whether one is under way.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.orphans.is_empty()
    }

    /// Counts work against the slice; false when that is used up.
    pub fn spend(&mut self, cost: u32) -> bool {
        self.left = self.left.saturating_sub(cost);
        self.left > 0
    }

    /// Makes room for work that is done at one go.
    pub fn lift(&mut self) {
        self.left = u32::MAX;
    }

    fn next_turn(&mut self) -> Option<Turn> {
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.lines.range((after, Bound::Unbounded)).next().map(|(key, _)| *key);
        let round = next.is_none();
        self.turn = next;
        match next {
            Some(connection) => Some(Turn::Connection(connection)),
            None if !self.orphans.is_empty() => Some(Turn::Orphan),
            None if round && !self.lines.is_empty() => self.next_turn(),
            None => None,
        }
    }
}

enum Turn {
    Connection(ConnectionKey),
    Orphan,
}

impl Machine {
    /// What is to be done now about a request: nothing if it waits for a scan of its connection.
    /// One that may not wait is refused at once.
    pub(super) fn ask_for_now(
        &mut self,
        connection: ConnectionKey,
        request: RequestId,
        ask: Ask,
    ) -> Option<Ask> {
        let Some(line) = self.scans.lines.get_mut(&connection).filter(|_| !goes_past(&ask)) else {
            return Some(ask);
        };
        if line.later_ids + ids_of(&ask) > WAITING_IDS_MAX {
            let message =
                "an earlier request of this connection looks at all tasks: wait for its answer";
            return Some(Ask::Refuse(Refusal::new(Code::Overloaded, message)));
        }
        line.later_ids += ids_of(&ask);
        line.later.push_back((request, ask));
        None
    }

    /// Begins a scan, and does as much of it as this turn has room for.
    pub(super) fn begin_scan(
        &mut self,
        now: Now,
        connection: ConnectionKey,
        request: RequestId,
        work: Work,
        fx: &mut Effects,
    ) {
        let (actor, before, end) = (self.actor.clone(), self.latest_serial, self.tasks.slots());
        let next = if let Work::List(listing) = &work { listing.from } else { 0 };
        let mut scan = Scan { connection, request, actor, before, next, end, work };
        if !self.advance(now, &mut scan, fx) {
            self.scans.lines.entry(connection).or_default().scan = Some(scan);
        }
    }

    /// Goes on with the scans under way: some milliseconds in all.
    pub(super) fn continue_scans(&mut self, now: Now, fx: &mut Effects) {
        let mut left = TICK;
        while left > 0 {
            let Some(turn) = self.scans.next_turn() else { break };
            let slice = left.min(SLICE);
            self.scans.left = slice;
            match turn {
                Turn::Connection(connection) => self.continue_line(now, connection, fx),
                Turn::Orphan => self.continue_orphan(now, fx),
            }
            left -= slice - self.scans.left;
        }
        // For those that come until the next tick.
        self.scans.left = SLICE;
    }

    fn continue_line(&mut self, now: Now, connection: ConnectionKey, fx: &mut Effects) {
        while let Some(line) = self.scans.lines.get_mut(&connection) {
            if let Some(mut scan) = line.scan.take() {
                let is_done = self.advance(now, &mut scan, fx);
                if !is_done {
                    self.scans.lines.entry(connection).or_default().scan = Some(scan);
                    return;
                }
            } else if let Some((request, ask)) = line.later.pop_front() {
                line.later_ids -= ids_of(&ask);
                let room = self.scans.spend(NAME + NAME * ids_of(&ask) as u32);
                if let Some(session) = self.sessions.of(connection) {
                    self.carry_out(now, connection, session, request, ask, fx);
                }
                if !room {
                    return;
                }
            } else {
                self.scans.lines.remove(&connection);
            }
        }
    }

    fn continue_orphan(&mut self, now: Now, fx: &mut Effects) {
        let Some(mut scan) = self.scans.orphans.pop_front() else { return };
        if !self.advance(now, &mut scan, fx) {
            self.scans.orphans.push_front(scan);
        }
    }

    /// The connection is gone: what it began is done to its end, for nobody can tell how far it has
    /// come.
    pub(super) fn orphan_scans(&mut self, connection: ConnectionKey) {
        let scan = self.scans.lines.remove(&connection).and_then(|line| line.scan);
        let reads = |scan: &Scan| matches!(scan.work, Work::List(_));
        self.scans.orphans.extend(scan.filter(|scan| !reads(scan)));
        self.scans.orphans.truncate(ORPHANS_MAX);
    }

    /// Does a slice of a scan. True when it was the last one, and the answer is given.
    fn advance(&mut self, now: Now, scan: &mut Scan, fx: &mut Effects) -> bool {
        let actor = std::mem::replace(&mut self.actor, scan.actor.clone());
        let is_done = match &mut scan.work {
            Work::Pause(pausing) => self.continue_pause(now, pausing, fx),
            _ => self.look_on(now, scan, fx),
        };
        self.after_slice(scan, fx);
        if is_done {
            self.answer_scan(scan, fx);
        }
        self.actor = actor;
        is_done
    }

    /// Looks at slot after slot. False when the slice is used up before the end.
    fn look_on(&mut self, now: Now, scan: &mut Scan, fx: &mut Effects) -> bool {
        self.before_slice(scan);
        while scan.next < scan.end {
            if self.scans.left == 0 {
                return false;
            }
            let (slot, before) = (scan.next, scan.before);
            let look = match &mut scan.work {
                Work::Purge(purge) => self.purge_slot(now, slot, before, purge, fx),
                Work::Cancel(cancel) => self.cancel_slot(now, slot, before, cancel, fx),
                Work::Dead(dead) => self.dead_slot(now, slot, before, dead, fx),
                Work::List(listing) => self.list_slot(slot, listing),
                Work::Pause(_) => Look::Enough,
            };
            let Look::Cost(cost) = look else { return true };
            scan.next += 1;
            self.scans.spend(cost);
        }
        true
    }

    /// Numbers may have changed their meaning since the slice before.
    fn before_slice(&self, scan: &mut Scan) {
        match &mut scan.work {
            Work::Purge(purge) => purge.queue = self.queues.find(&purge.name),
            Work::Cancel(cancel) => {
                cancel.root = cancel.root_id.as_ref().and_then(|root| self.tasks.find(root))
            }
            Work::Dead(dead) => {
                dead.queue = dead.filter.queue.as_ref().map(|name| self.queues.find(name))
            }
            Work::List(listing) => {
                listing.queue = listing.filter.queue.as_ref().map(|name| self.queues.find(name))
            }
            Work::Pause(_) => {}
        }
    }

    /// Tells the workers what was done to their leases.
    fn after_slice(&self, scan: &mut Scan, fx: &mut Effects) {
        match &mut scan.work {
            Work::Purge(purge) => purge.tell(fx),
            Work::Pause(pausing) => pausing.tell(fx),
            Work::Cancel(cancel) => cancel.tell(fx),
            Work::Dead(_) | Work::List(_) => {}
        }
    }

    fn answer_scan(&mut self, scan: &mut Scan, fx: &mut Effects) {
        let request = scan.request;
        let message = match &mut scan.work {
            Work::Purge(purge) => match self.finish_purge(purge, fx) {
                Ok(count) => Message::Count { request, count },
                Err(refusal) => refused(request, refusal),
            },
            Work::Pause(_) => Message::Done { request },
            Work::Cancel(cancel) => {
                Message::Cancelled { request, outcomes: std::mem::take(&mut cancel.outcomes) }
            }
            Work::Dead(dead) => Message::Count { request, count: dead.count },
            Work::List(listing) => {
                let next = (scan.next < scan.end).then(|| scan.next.saturating_sub(1));
                Message::Page { request, tasks: self.page(listing), next }
            }
        };
        fx.send(scan.connection, message);
    }
}

/// Requests that never wait for those before them.
fn goes_past(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::Submit(_)
            | Ask::Report(_)
            | Ask::Credit(_)
            | Ask::Heartbeat { .. }
            | Ask::Goodbye
            | Ask::Wait { .. }
            | Ask::Unwait(_)
            | Ask::Unwatch { .. }
            | Ask::Refuse(_)
    )
}

/// Ids and names in a request that may wait.
fn ids_of(ask: &Ask) -> usize {
    match ask {
        Ask::Get { ids, .. }
        | Ask::Watch { ids, .. }
        | Ask::Forget(ids)
        | Ask::Cancel { target: CancelTarget::Ids(ids), .. }
        | Ask::ReplayDead(Dead::Ids(ids))
        | Ask::DiscardDead(Dead::Ids(ids)) => ids.len(),
        Ask::ListQueues { names, .. } | Ask::PauseQueues { queues: names, .. } => names.len(),
        Ask::OrderWorkers { instances, .. } => instances.len(),
        _ => 0,
    }
}
