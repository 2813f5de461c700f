//! Scans: requests that look at many tasks: purge, delete, pause, cancel by root or tag, replay and
//! discard by filter, listings. The machine does each scan in slices, and carries out other
//! commands between the slices. The answer comes at the end of the scan.
//!
//! A connection has at most one scan under way. Its next requests wait until the scan is answered,
//! so that they see the effects of the scan. Only requests that must never be delayed do not wait:
//! submits, reports, credit and signs of life. Connections take turns. When a connection is lost,
//! its scan under way continues to the end, except that a listing stops; its waiting requests are
//! dropped.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use celeriac_record::{Actor, Slot};

use crate::Machine;
use crate::cancel::CancelMany;
use crate::command::{
    Answer, Ask, CancelTarget, Code, ConnectionKey, Dead, Observe, Operate, Outlines, Produce,
    Refusal, RequestId,
};
use crate::dead::DeadMany;
use crate::listing::Listing;
use crate::operate::{Pausing, Purge};
use crate::slice::{Look, NAME};
use crate::step::{Asker, Step};

/// Bounds of one slice of one connection, and of all slices of one tick. The unit is one look at a
/// slot, some nanoseconds of work, because the machine has no clock.
const SLICE: u32 = 60_000;
const SLICES_PER_TICK: u32 = 2;

/// A page of a listing ends after so many slices, full or not. A page of a rare filter then ends
/// with few tasks, and its cursor says where to go on. So a client hears how far the listing is,
/// and may stop it.
const SLICES_PER_PAGE: u32 = 32;

/// The most ids in the requests of one connection that wait for the end of a scan.
const WAITING_IDS_MAX: usize = 20_000;

/// The most scans whose connection is lost. Further scans are stopped before their end.
const ORPHANS_MAX: usize = 1_000;

/// All scans under way, and the requests that wait behind them.
#[derive(Debug)]
pub(crate) struct Scans {
    lines: BTreeMap<ConnectionKey, Line>,
    orphans: VecDeque<Scan>,
    /// The connection that was served last.
    turn: Option<ConnectionKey>,
    /// The looks that are left for the connection whose turn it is.
    left: u32,
    /// The looks of a slice.
    slice: u32,
}

/// The scan of one connection, and the requests of the connection that wait behind the scan.
#[derive(Debug, Default)]
struct Line {
    scan: Option<Scan>,
    later: VecDeque<(RequestId, Ask)>,
    later_ids: usize,
}

/// One request that looks at many tasks.
#[derive(Debug)]
struct Scan {
    asker: Asker,
    actor: Actor,
    /// The serial of the latest task at the time of the request. Later tasks stay as they are.
    before: u64,
    /// The next slot to look at, and the slot after the last.
    next: Slot,
    end: Slot,
    kind: ScanKind,
}

/// The operation on the tasks.
#[derive(Debug)]
pub(crate) enum ScanKind {
    Purge(Purge),
    Pause(Pausing),
    Cancel(CancelMany),
    Dead(DeadMany),
    List(Listing),
}

impl Default for Scans {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            orphans: VecDeque::new(),
            turn: None,
            left: SLICE,
            slice: SLICE,
        }
    }
}

impl Scans {
    /// Whether no scan is under way.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.orphans.is_empty()
    }

    /// Makes slices shorter, so that a test of few tasks has many of them.
    #[cfg(test)]
    pub fn shorten(&mut self, slice: u32) {
        (self.slice, self.left) = (slice, slice);
    }

    /// The looks for one page of a listing.
    pub fn looks_per_page(&self) -> u32 {
        SLICES_PER_PAGE * self.slice
    }

    /// Counts work against the slice. Returns false when the slice is used up.
    pub fn spend(&mut self, cost: u32) -> bool {
        self.left = self.left.saturating_sub(cost);
        self.left > 0
    }

    /// Whether the slice is not used up.
    pub fn has_looks(&self) -> bool {
        self.left > 0
    }

    /// Lifts the bound of the slice for work that must be done in one step.
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
    /// The request to carry out now: none if the request waits for a scan of its connection. If too
    /// many requests wait already, the machine refuses the request at once.
    pub(crate) fn ask_for_now(&mut self, asker: Asker, ask: Ask) -> Option<Ask> {
        let Some(line) = self.scans.lines.get_mut(&asker.connection).filter(|_| !goes_past(&ask))
        else {
            return Some(ask);
        };
        if line.later_ids + ids_of(&ask) > WAITING_IDS_MAX {
            let message =
                "an earlier request of this connection looks at all tasks: wait for its answer";
            return Some(Ask::Refuse(Refusal::new(Code::Overloaded, message)));
        }
        line.later_ids += ids_of(&ask);
        line.later.push_back((asker.request, ask));
        None
    }

    /// Begins a scan, and does as much of the scan as this slice allows.
    pub(crate) fn begin_scan(
        &mut self,
        step: &mut Step<'_>,
        asker: Asker,
        kind: impl Into<ScanKind>,
    ) {
        let kind = kind.into();
        let (actor, before, end) = (step.actor.clone(), self.latest_serial, self.tasks.slots());
        let next = if let ScanKind::List(listing) = &kind { listing.from } else { 0 };
        let mut scan = Scan { asker, actor, before, next, end, kind };
        if !self.advance(step, &mut scan) {
            self.scans.lines.entry(asker.connection).or_default().scan = Some(scan);
        }
    }

    /// Continues the scans under way, for some milliseconds in total.
    pub(crate) fn continue_scans(&mut self, step: &mut Step<'_>) {
        let mut left = SLICES_PER_TICK * self.scans.slice;
        while left > 0 {
            let Some(turn) = self.scans.next_turn() else { break };
            let slice = left.min(self.scans.slice);
            self.scans.left = slice;
            match turn {
                Turn::Connection(connection) => self.continue_line(step, connection),
                Turn::Orphan => self.continue_orphan(step),
            }
            left -= slice - self.scans.left;
        }
        // The slice for scans that begin before the next tick.
        self.scans.left = self.scans.slice;
    }

    fn continue_line(&mut self, step: &mut Step<'_>, connection: ConnectionKey) {
        while let Some(line) = self.scans.lines.get_mut(&connection) {
            if let Some(mut scan) = line.scan.take() {
                let is_done = self.advance(step, &mut scan);
                if !is_done {
                    self.scans.lines.entry(connection).or_default().scan = Some(scan);
                    return;
                }
            } else if let Some((request, ask)) = line.later.pop_front() {
                line.later_ids -= ids_of(&ask);
                let room = self.scans.spend(NAME + NAME * ids_of(&ask) as u32);
                if let Some(session) = self.sessions.of(connection) {
                    self.carry_out(step, Asker { connection, request }, session, ask);
                }
                if !room {
                    return;
                }
            } else {
                self.scans.lines.remove(&connection);
            }
        }
    }

    fn continue_orphan(&mut self, step: &mut Step<'_>) {
        let Some(mut scan) = self.scans.orphans.pop_front() else { return };
        if !self.advance(step, &mut scan) {
            self.scans.orphans.push_front(scan);
        }
    }

    /// The connection is lost. Its scan continues to the end, because the client cannot know how
    /// many tasks were changed already. A listing stops.
    pub(crate) fn orphan_scans(&mut self, connection: ConnectionKey) {
        let scan = self.scans.lines.remove(&connection).and_then(|line| line.scan);
        let reads = |scan: &Scan| matches!(scan.kind, ScanKind::List(_));
        self.scans.orphans.extend(scan.filter(|scan| !reads(scan)));
        self.scans.orphans.truncate(ORPHANS_MAX);
    }

    /// Does a slice of a scan. Returns true after the last slice, when the answer is given.
    fn advance(&mut self, step: &mut Step<'_>, scan: &mut Scan) -> bool {
        let step = &mut step.on_behalf_of(scan.actor.clone());
        let is_done = match &mut scan.kind {
            ScanKind::Pause(pausing) => self.continue_pause(step, pausing),
            ScanKind::List(Listing { list: Some(_), .. }) | ScanKind::Dead(_) => {
                self.look_in_order(step, scan)
            }
            _ => self.look_on(step, scan),
        };
        self.after_slice(step, scan);
        if is_done {
            self.answer_scan(step, scan);
        }
        is_done
    }

    /// Looks at one slot after another. Returns false if the slice is used up before the end.
    fn look_on(&mut self, step: &mut Step<'_>, scan: &mut Scan) -> bool {
        self.before_slice(scan);
        while scan.next < scan.end {
            if self.scans.left == 0 {
                return false;
            }
            let (slot, before) = (scan.next, scan.before);
            let look = match &mut scan.kind {
                ScanKind::Purge(purge) => self.purge_slot(step, slot, before, purge),
                ScanKind::Cancel(cancel) => self.cancel_slot(step, slot, before, cancel),
                ScanKind::List(listing) => self.list_slot(slot, listing),
                ScanKind::Dead(_) | ScanKind::Pause(_) => Look::Enough,
            };
            let Look::Cost(cost) = look else { return true };
            scan.next += 1;
            self.scans.spend(cost);
        }
        true
    }

    /// Looks at the tasks of an ordered list. Returns false if the slice is used up before the end.
    fn look_in_order(&mut self, step: &mut Step<'_>, scan: &mut Scan) -> bool {
        self.before_slice(scan);
        match &mut scan.kind {
            ScanKind::Dead(dead) => self.settle_many(step, scan.before, dead),
            ScanKind::List(listing) => self.look_in_list(listing),
            _ => true,
        }
    }

    /// Looks names up again: since the slice before, a number of a queue or a slot may belong to
    /// another queue or task.
    fn before_slice(&self, scan: &mut Scan) {
        match &mut scan.kind {
            ScanKind::Purge(purge) => purge.queue = self.queues.find(&purge.name),
            ScanKind::Cancel(cancel) => {
                cancel.root = cancel.root_id.as_ref().and_then(|root| self.tasks.find(root))
            }
            ScanKind::Dead(dead) => {
                dead.queue = dead.filter.queue.as_ref().map(|name| self.queues.find(name))
            }
            ScanKind::List(listing) => {
                listing.queue = listing.filter.queue.as_ref().map(|name| self.queues.find(name))
            }
            ScanKind::Pause(_) => {}
        }
    }

    /// Sends the workers the signals about their leases.
    fn after_slice(&self, step: &mut Step<'_>, scan: &mut Scan) {
        match &mut scan.kind {
            ScanKind::Purge(purge) => purge.tell(step),
            ScanKind::Pause(pausing) => pausing.tell(step),
            ScanKind::Cancel(cancel) => cancel.tell(step),
            ScanKind::Dead(_) | ScanKind::List(_) => {}
        }
    }

    fn answer_scan(&mut self, step: &mut Step<'_>, scan: &mut Scan) {
        let answer = match &mut scan.kind {
            ScanKind::Purge(purge) => match self.finish_purge(step, purge) {
                Ok(count) => Answer::Count(count),
                Err(refusal) => Answer::Refused(refusal),
            },
            ScanKind::Pause(_) => Answer::Done,
            ScanKind::Cancel(cancel) => Answer::Cancelled(std::mem::take(&mut cancel.outcomes)),
            ScanKind::Dead(dead) => Answer::Count(dead.count),
            ScanKind::List(listing) => {
                let page = self.page(step, listing, scan.next, scan.end);
                return step.show(scan.asker, Outlines::Page(page));
            }
        };
        step.answer(scan.asker, answer);
    }
}

impl From<Purge> for ScanKind {
    fn from(purge: Purge) -> Self {
        Self::Purge(purge)
    }
}

impl From<Pausing> for ScanKind {
    fn from(pausing: Pausing) -> Self {
        Self::Pause(pausing)
    }
}

impl From<CancelMany> for ScanKind {
    fn from(cancel: CancelMany) -> Self {
        Self::Cancel(cancel)
    }
}

impl From<DeadMany> for ScanKind {
    fn from(dead: DeadMany) -> Self {
        Self::Dead(dead)
    }
}

impl From<Listing> for ScanKind {
    fn from(listing: Listing) -> Self {
        Self::List(listing)
    }
}

/// Whether a request never waits for the scan before it.
fn goes_past(ask: &Ask) -> bool {
    match ask {
        Ask::Refuse(_) | Ask::Goodbye | Ask::Heartbeat { .. } | Ask::Work(_) => true,
        Ask::Produce(Produce::Submit(_) | Produce::PutOutcome(_) | Produce::Chord { .. }) => true,
        Ask::Produce(Produce::Cancel { .. } | Produce::Forget(_)) => false,
        Ask::Observe(Observe::Wait { .. } | Observe::Unwait(_) | Observe::Unwatch { .. }) => true,
        Ask::Observe(Observe::Get { .. } | Observe::Watch { .. }) => false,
        Ask::Operate(_) => false,
        Ask::Mail(_) | Ask::Route(_) => true,
    }
}

/// The number of ids and names in a request that may wait.
fn ids_of(ask: &Ask) -> usize {
    match ask {
        Ask::Observe(Observe::Get { ids, .. } | Observe::Watch { ids, .. })
        | Ask::Produce(
            Produce::Forget(ids) | Produce::Cancel { target: CancelTarget::Ids(ids), .. },
        )
        | Ask::Operate(
            Operate::ReplayDead(Dead::Ids(ids)) | Operate::DiscardDead(Dead::Ids(ids)),
        ) => ids.len(),
        Ask::Operate(
            Operate::ListQueues { names, .. } | Operate::PauseQueues { queues: names, .. },
        ) => names.len(),
        Ask::Operate(Operate::OrderWorkers { instances, .. }) => instances.len(),
        _ => 0,
    }
}
