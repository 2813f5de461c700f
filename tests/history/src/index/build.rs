//! Builds the index from the entries of a history.

use std::collections::{BTreeMap, HashMap};

use celeriac_proto::wire::{self, ErrorCode, OnConflict, cancel_signal};

use super::{ChordAsk, ChordRequest, Connection, IdRequest, Index, Lease, QueueOperation};
use super::{Reported, Seen, Session, Submit, Task};
use crate::Promises;
use crate::clocks::Clocks;
use crate::event::{Answer, ConnectionId, Entry, Event, Position, RequestItem};

/// One item of a request as it was sent, and its answer.
#[derive(Clone, Copy)]
struct Sent<'h> {
    position: Position,
    connection: ConnectionId,
    answer: Option<(Position, &'h Answer)>,
}

impl<'h> Sent<'h> {
    /// The position of the answer and what `choose` takes from it.
    fn answered<Outcome>(
        &self,
        choose: impl FnOnce(&'h Answer) -> Option<Outcome>,
    ) -> Option<(Position, Outcome)> {
        let (at, answer) = self.answer?;
        Some((at, choose(answer)?))
    }
}

impl Task<'_> {
    /// A request named this id among dead tasks that were to run again or to be dropped.
    fn note_dead(&mut self, asked: Position, again: bool) {
        if again {
            self.replays.push(asked);
        } else {
            self.forgets.push(IdRequest { asked, answered: None });
        }
    }
}

impl<'h> Index<'h> {
    pub(crate) fn of(entries: &'h [Entry], promises: &'h Promises) -> Self {
        let answers = answers(entries);
        let mut index = Self {
            promises,
            clocks: Clocks::of(entries),
            tasks: BTreeMap::new(),
            leases: BTreeMap::new(),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            chords: BTreeMap::new(),
            purges: Vec::new(),
            pauses: Vec::new(),
            resumes: Vec::new(),
            drains: Vec::new(),
            ends_of_drains: Vec::new(),
            cancels_of_many: Vec::new(),
            dead_of_many: Vec::new(),
            downs: Vec::new(),
            in_order: Vec::new(),
            settled: None,
        };
        for (position, entry) in entries.iter().enumerate() {
            match &entry.event {
                Event::Asked(item) => {
                    let answer = answers.get(&position).copied();
                    // A request that was refused as a whole did nothing.
                    if !matches!(answer, Some((_, None))) {
                        let answer = answer.and_then(|(at, answer)| Some((at, answer?)));
                        let connection = entry.connection;
                        index.read_item(item, Sent { position, connection, answer });
                    }
                }
                event => index.read_event(position, entry.connection, event),
            }
        }
        index.apply_requests_by_filter();
        index.find_tasks_beside_others();
        index.assign_reports_to_leases();
        index.find_when_leases_were_given();
        index
    }

    fn task(&mut self, id: &'h str) -> &mut Task<'h> {
        self.tasks.entry(id).or_default()
    }

    fn connection(&mut self, id: ConnectionId) -> &mut Connection<'h> {
        self.connections.entry(id).or_default()
    }

    fn read_event(&mut self, position: Position, connection: ConnectionId, event: &'h Event) {
        match event {
            Event::Connecting => self.connection(connection).connecting = position,
            Event::Welcomed(welcome) => {
                self.connection(connection).welcome = Some((position, welcome));
                let connecting = self.connection(connection).connecting;
                let session = self.sessions.entry(&welcome.session_id).or_default();
                session.connections.push(connection);
                session.lease_ms = welcome.lease_ms;
                session.signs.push(connecting);
            }
            Event::Disconnected => self.connection(connection).gone = Some(position),
            Event::Delivered(delivery) => {
                let lease = self.leases.entry(delivery.lease).or_insert_with(|| Lease {
                    delivery,
                    sights: Vec::new(),
                    otherwise: Vec::new(),
                    reports: Vec::new(),
                    began: Vec::new(),
                    given_after: 0,
                    lower_after: 0,
                    taken_back: None,
                });
                lease.sights.push((position, connection));
                if **delivery != *lease.delivery {
                    lease.otherwise.push((position, delivery));
                }
                let task = self.task(&delivery.id);
                if !task.leases.contains(&delivery.lease) {
                    task.leases.push(delivery.lease);
                }
            }
            Event::Signalled { lease, kind: cancel_signal::Kind::TakenBack } => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.taken_back.get_or_insert(position);
                }
            }
            Event::Pushed(info) => {
                let seen = Seen {
                    asked: None,
                    told: position,
                    connection,
                    is_watched: true,
                    with_result: false,
                    info,
                };
                self.task(&info.id).seen.push(seen);
            }
            Event::Began { lease, .. } => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.began.push(position);
                }
            }
            Event::BrokerDown => self.downs.push(position),
            Event::InOrder { queue } => self.in_order.push(queue),
            Event::Settled => self.settled = Some(position),
            _ => {}
        }
    }

    fn read_item(&mut self, item: &'h RequestItem, request: Sent<'h>) {
        if request.answer.is_some() {
            self.note_sign(request.position, request.connection);
        }
        match item {
            RequestItem::Submit(task) => self.read_submit(task, request),
            RequestItem::Cancel { .. }
            | RequestItem::CancelMany { .. }
            | RequestItem::Forget { .. }
            | RequestItem::Dead { .. } => self.read_end(item, request),
            RequestItem::Purge { .. }
            | RequestItem::Delete { .. }
            | RequestItem::Pause { .. }
            | RequestItem::Drain { .. }
            | RequestItem::Queues => self.read_queue_operation(item, request),
            RequestItem::Read { .. } | RequestItem::Watch { .. } | RequestItem::List => {
                self.read_states(item, request)
            }
            RequestItem::Report(report) => self.read_report(report, false, request),
            RequestItem::Put(report) => self.read_report(report, true, request),
            RequestItem::ChordPart(part) => {
                self.read_chord(&part.group, ChordAsk::Part(part), request)
            }
            RequestItem::ChordExtend(extend) => {
                self.read_chord(&extend.group, ChordAsk::Extend(extend), request)
            }
            RequestItem::ChordDone(done) => {
                self.read_chord(&done.group, ChordAsk::Done(done), request)
            }
            RequestItem::Credit(credit) if *credit > 0 => {
                self.connection(request.connection).credit.get_or_insert(request.position);
            }
            RequestItem::Goodbye => {
                if let Some(session) = self.session_mut(request.connection) {
                    session.goodbye.get_or_insert(request.position);
                }
            }
            RequestItem::Credit(_) | RequestItem::Other => {}
        }
    }

    fn read_submit(&mut self, task: &'h wire::Task, request: Sent<'h>) {
        let Sent { position: asked, connection, .. } = request;
        let answered = request.answered(|answer| match answer {
            Answer::Submit(outcome) => Some(outcome),
            _ => None,
        });
        let beside = answered.map(|(_, outcome)| &*outcome.id).filter(|id| !id.is_empty());
        let id = beside.unwrap_or(&task.id);
        self.task(id).submits.push(Submit { asked, answered, connection, task });
    }

    fn read_chord(&mut self, group: &'h str, ask: ChordAsk<'h>, request: Sent<'h>) {
        let Sent { position: asked, connection, .. } = request;
        let answered = request.answered(|answer| match answer {
            Answer::Chord(reply) => Some(Some(&**reply)),
            Answer::Done => Some(None),
            _ => None,
        });
        let request = ChordRequest { asked, answered, connection, ask };
        self.chords.entry(group).or_default().push(request);
    }

    /// Requests that end tasks, or that run ended tasks again.
    fn read_end(&mut self, item: &'h RequestItem, request: Sent<'h>) {
        let asked = request.position;
        match item {
            RequestItem::Cancel { id, .. } => {
                let answered = request.answered(|answer| match answer {
                    Answer::Cancel(kind) => Some(*kind),
                    _ => None,
                });
                self.task(id).cancels.push(IdRequest { asked, answered });
            }
            RequestItem::CancelMany { .. } => {
                self.cancels_of_many.push(asked);
                if let Some((at, Answer::CancelMany(outcomes))) = request.answer {
                    for outcome in outcomes {
                        let answered = Some((at, outcome.kind()));
                        self.task(&outcome.id).cancels.push(IdRequest { asked, answered });
                    }
                }
            }
            RequestItem::Forget { id } => {
                let answered = request.answered(|answer| match answer {
                    Answer::Forget(code) => Some(*code),
                    _ => None,
                });
                self.task(id).forgets.push(IdRequest { asked, answered });
            }
            RequestItem::Dead { ids, again } if ids.is_empty() => {
                self.dead_of_many.push((asked, *again));
            }
            RequestItem::Dead { ids, again } => {
                for id in ids {
                    self.task(id).note_dead(asked, *again);
                }
            }
            _ => {}
        }
    }

    fn read_queue_operation(&mut self, item: &'h RequestItem, request: Sent<'h>) {
        let (asked, told) = (request.position, request.answer.map(|(at, _)| at));
        let operation = |queue: &'h str| QueueOperation { asked, told, queue };
        match item {
            RequestItem::Purge { queue } => self.purges.push(operation(queue)),
            RequestItem::Delete { queue } => {
                self.purges.push(operation(queue));
                // A deleted queue is not paused when it is used again.
                self.resumes.push(operation(queue));
            }
            RequestItem::Pause { queue, paused: true } => self.pauses.push(operation(queue)),
            RequestItem::Pause { queue, paused: false } => self.resumes.push(operation(queue)),
            RequestItem::Drain { draining: true } => self.drains.push(operation("")),
            RequestItem::Drain { draining: false } => self.ends_of_drains.push(operation("")),
            RequestItem::Queues => {
                if let Some((_, Answer::Queues(queues))) = request.answer {
                    let paused = queues.iter().filter(|queue| queue.paused);
                    self.pauses.extend(paused.map(|queue| operation(&queue.name)));
                }
            }
            _ => {}
        }
    }

    fn read_states(&mut self, item: &RequestItem, request: Sent<'h>) {
        let (is_watched, with_result) = match item {
            RequestItem::Read { with_result, .. } => (false, *with_result),
            RequestItem::Watch { with_result, .. } => (true, *with_result),
            _ => (false, false),
        };
        let (told, infos) = match request.answer {
            Some((told, Answer::Read(info))) => (told, std::slice::from_ref(&**info)),
            Some((told, Answer::List(infos))) => (told, &infos[..]),
            _ => return,
        };
        let (asked, connection) = (Some(request.position), request.connection);
        for info in infos {
            let seen = Seen { asked, told, connection, is_watched, with_result, info };
            self.task(&info.id).seen.push(seen);
        }
    }

    fn read_report(&mut self, report: &'h wire::TaskReport, is_put: bool, request: Sent<'h>) {
        let Some(what) = &report.report else { return };
        let answered = request.answered(|answer| match answer {
            Answer::Report(outcome) => Some(outcome),
            _ => None,
        });
        let (asked, lease) = (request.position, report.lease);
        let reported = Reported { asked, answered, lease, what, is_put };
        self.task(&report.id).reports.push(reported);
    }

    /// The broker answered a request of this connection, so its session was alive.
    fn note_sign(&mut self, position: Position, connection: ConnectionId) {
        self.connection(connection).last_answered = Some(position);
        if let Some(session) = self.session_mut(connection) {
            session.signs.push(position);
        }
    }

    fn session_mut(&mut self, connection: ConnectionId) -> Option<&mut Session> {
        let id = self.session_of(connection)?;
        self.sessions.get_mut(id)
    }

    /// A request with a filter may have concerned every id.
    fn apply_requests_by_filter(&mut self) {
        for (position, again) in std::mem::take(&mut self.dead_of_many) {
            self.tasks.values_mut().for_each(|task| task.note_dead(position, again));
        }
        // Requests are in the order in which they were sent. States are sorted by when they were
        // told.
        for task in self.tasks.values_mut() {
            task.seen.sort_by_key(|seen| seen.told);
        }
    }

    /// A submit without an answer may have made a task beside another.
    fn find_tasks_beside_others(&mut self) {
        let is_unsure = |submit: &&Submit<'_>| {
            submit.answered.is_none() && submit.task.on_conflict() == OnConflict::Beside
        };
        let unsure = self.tasks.values().flat_map(|task| &task.submits).filter(is_unsure);
        let unsure: Vec<Submit<'h>> = unsure.copied().collect();
        for submit in unsure {
            if let Some(task) = self.tasks.get_mut(&*submit.id_beside()) {
                task.submits.push(submit);
            }
        }
    }

    fn assign_reports_to_leases(&mut self) {
        for (id, task) in &mut self.tasks {
            task.leases.sort_unstable();
            for report in &task.reports {
                // A report on the lease of another task changes nothing.
                if let Some(lease) =
                    self.leases.get_mut(&report.lease).filter(|lease| lease.delivery.id == **id)
                {
                    lease.reports.push(*report);
                }
            }
        }
    }

    /// A lease was given after its task was submitted, after its connection asked for credit, and
    /// after every lower lease, because lease numbers rise.
    fn find_when_leases_were_given(&mut self) {
        let mut bounds = BTreeMap::new();
        for (number, lease) in &self.leases {
            let submits = self.tasks.get(&*lease.delivery.id).map_or(&[][..], |task| &task.submits);
            let submitted = submits.iter().map(|submit| submit.asked).min().unwrap_or(0);
            let asked_for =
                lease.sights.iter().filter_map(|(_, id)| self.not_before(*id, *number)).max();
            bounds.insert(*number, submitted.max(asked_for.unwrap_or(0)));
        }
        let mut latest = 0;
        for (number, lease) in &mut self.leases {
            latest = latest.max(bounds[number]);
            lease.lower_after = latest;
            // Where lease numbers do not rise the order tells nothing. Another rule reports that.
            lease.given_after = if latest < lease.first_seen() { latest } else { bounds[number] };
        }
        for session in self.sessions.values_mut() {
            session.signs.sort_unstable();
        }
    }
}

/// The answer to each item, and none when the whole request was refused. A request that was refused
/// because tasks are running may have ended other tasks before, so it counts as a request without
/// an answer.
fn answers(entries: &[Entry]) -> HashMap<Position, (Position, Option<&Answer>)> {
    let answered = entries.iter().enumerate().filter_map(|(at, entry)| match &entry.event {
        Event::Answered { item, answer } => Some((*item, (at, Some(answer)))),
        Event::Refused { item, code } if *code != ErrorCode::NotFinished => {
            Some((*item, (at, None)))
        }
        _ => None,
    });
    answered.collect()
}
