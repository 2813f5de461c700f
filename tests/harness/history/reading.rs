//! A history read once from end to end: by task, by lease, by connection and by session, with what the order of the
//! entries says about when each lease was given. What is promised is judged in the rules.

use std::collections::{BTreeMap, HashMap};

use celeriac_proto::wire::{self, ErrorCode, cancel_outcome, cancel_signal, task_report};

use super::Promises;
use super::event::{Answer, Ask, ConnectionId, Entry, Event, Mark};
use super::walls::Walls;

/// All of a history, in order.
pub(super) struct Reading<'h> {
    pub(super) promises: &'h Promises,
    pub(super) walls: Walls,
    pub(super) tasks: BTreeMap<&'h str, Task<'h>>,
    pub(super) leases: BTreeMap<u64, Lease<'h>>,
    pub(super) connections: BTreeMap<ConnectionId, Connection<'h>>,
    pub(super) sessions: BTreeMap<&'h str, Session>,
    /// Each queue that was to be purged, and each cancel of many tasks: from when on it may have happened.
    pub(super) purges: Vec<(Mark, &'h str)>,
    pub(super) cancels_of_many: Vec<Mark>,
    pub(super) in_order: Vec<&'h str>,
    pub(super) settled: Option<Mark>,
}

/// All that was asked and told of one id.
#[derive(Default)]
pub(super) struct Task<'h> {
    pub(super) submits: Vec<Submit<'h>>,
    pub(super) cancels: Vec<Told<cancel_outcome::Kind>>,
    pub(super) forgets: Vec<Told<ErrorCode>>,
    pub(super) reports: Vec<Reported<'h>>,
    /// In the order in which they were given.
    pub(super) leases: Vec<u64>,
    pub(super) seen: Vec<Seen<'h>>,
}

/// One try to submit a task. Those that were refused as a whole request are left out: they did nothing.
pub(super) struct Submit<'h> {
    pub(super) asked: Mark,
    pub(super) answered: Option<(Mark, &'h wire::SubmitOutcome)>,
    pub(super) connection: ConnectionId,
    pub(super) task: &'h wire::Task,
}

/// A request for one id, and what it was told.
pub(super) struct Told<Outcome> {
    pub(super) asked: Mark,
    pub(super) answered: Option<(Mark, Outcome)>,
}

/// One report, each time it was sent.
#[derive(Clone, Copy)]
pub(super) struct Reported<'h> {
    pub(super) asked: Mark,
    pub(super) answered: Option<(Mark, &'h wire::ReportOutcome)>,
    pub(super) lease: u64,
    pub(super) what: &'h task_report::Report,
}

/// Somebody was told what a task is.
pub(super) struct Seen<'h> {
    /// Not before this. Unknown when it was pushed.
    pub(super) asked: Option<Mark>,
    pub(super) told: Mark,
    pub(super) with_result: bool,
    pub(super) info: &'h wire::TaskInfo,
}

/// One hand-over of a task.
pub(super) struct Lease<'h> {
    pub(super) delivery: &'h wire::Delivery,
    pub(super) sights: Vec<(Mark, ConnectionId)>,
    /// Deliveries under the same number that say something else.
    pub(super) otherwise: Vec<(Mark, &'h wire::Delivery)>,
    pub(super) reports: Vec<Reported<'h>>,
    pub(super) began: Vec<Mark>,
    /// The entry after which it was given, as far as the order tells.
    pub(super) given_after: Mark,
    /// The entry after which it or a lower one was given.
    pub(super) lower_after: Mark,
    pub(super) taken_back: Option<Mark>,
}

/// One connection.
#[derive(Default)]
pub(super) struct Connection<'h> {
    pub(super) connecting: Mark,
    pub(super) welcome: Option<(Mark, &'h wire::Welcome)>,
    pub(super) gone: Option<Mark>,
    /// The first time it asked for tasks.
    pub(super) credit: Option<Mark>,
    /// The last request that was answered, by when it was asked.
    pub(super) last_answered: Option<Mark>,
}

/// A worker's standing, over all its connections.
#[derive(Default)]
pub(super) struct Session {
    pub(super) connections: Vec<ConnectionId>,
    /// Requests that were answered, by when they were asked: the broker heard of it after that.
    pub(super) signs: Vec<Mark>,
    pub(super) goodbye: Option<Mark>,
    pub(super) lease_ms: u64,
}

impl Reported<'_> {
    pub(super) fn accepted(&self) -> Option<Mark> {
        self.answered.filter(|(_, outcome)| outcome.code() == ErrorCode::Unspecified).map(|(mark, _)| mark)
    }

    pub(super) fn ends_the_lease(&self) -> bool {
        !matches!(self.what, task_report::Report::Started(_) | task_report::Report::Progress(_))
    }

    pub(super) fn is_release(&self) -> bool {
        matches!(self.what, task_report::Report::Release(_))
    }
}

impl Lease<'_> {
    pub(super) fn first_seen(&self) -> Mark {
        self.sights.first().map_or(0, |(mark, _)| *mark)
    }
}

impl<'h> Reading<'h> {
    pub(super) fn of(entries: &'h [Entry], promises: &'h Promises) -> Self {
        let answers = answers(entries);
        let mut reading = Self {
            promises,
            walls: Walls::of(entries),
            tasks: BTreeMap::new(),
            leases: BTreeMap::new(),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            purges: Vec::new(),
            cancels_of_many: Vec::new(),
            in_order: Vec::new(),
            settled: None,
        };
        for (mark, entry) in entries.iter().enumerate() {
            match &entry.event {
                Event::Asked(ask) => {
                    let answer = answers.get(&mark).copied();
                    // What was refused as a whole did nothing.
                    if !matches!(answer, Some((_, None))) {
                        let answer = answer.and_then(|(at, answer)| Some((at, answer?)));
                        reading.read_ask(mark, entry.connection, ask, answer);
                    }
                }
                event => reading.read_event(mark, entry.connection, event),
            }
        }
        reading.sort_reports_to_leases();
        reading.find_when_leases_were_given();
        reading
    }

    fn task(&mut self, id: &'h str) -> &mut Task<'h> {
        self.tasks.entry(id).or_default()
    }

    fn connection(&mut self, id: ConnectionId) -> &mut Connection<'h> {
        self.connections.entry(id).or_default()
    }

    fn read_event(&mut self, mark: Mark, connection: ConnectionId, event: &'h Event) {
        match event {
            Event::Connecting => self.connection(connection).connecting = mark,
            Event::Welcomed(welcome) => {
                self.connection(connection).welcome = Some((mark, welcome));
                let connecting = self.connection(connection).connecting;
                let session = self.sessions.entry(&welcome.session_id).or_default();
                session.connections.push(connection);
                session.lease_ms = welcome.lease_ms;
                session.signs.push(connecting);
            }
            Event::Disconnected => self.connection(connection).gone = Some(mark),
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
                lease.sights.push((mark, connection));
                if **delivery != *lease.delivery {
                    lease.otherwise.push((mark, delivery));
                }
                let task = self.task(&delivery.id);
                if !task.leases.contains(&delivery.lease) {
                    task.leases.push(delivery.lease);
                }
            }
            Event::Signalled { lease, kind: cancel_signal::Kind::TakenBack } => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.taken_back.get_or_insert(mark);
                }
            }
            Event::Pushed(info) => {
                self.task(&info.id).seen.push(Seen { asked: None, told: mark, with_result: false, info });
            }
            Event::Began { lease, .. } => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.began.push(mark);
                }
            }
            Event::InOrder { queue } => self.in_order.push(queue),
            Event::Settled => self.settled = Some(mark),
            _ => {}
        }
    }

    fn read_ask(&mut self, mark: Mark, connection: ConnectionId, ask: &'h Ask, answer: Option<(Mark, &'h Answer)>) {
        if answer.is_some() {
            self.note_sign(mark, connection);
        }
        match ask {
            Ask::Submit(task) => {
                let answered = answer.and_then(|(at, answer)| match answer {
                    Answer::Submit(outcome) => Some((at, outcome)),
                    _ => None,
                });
                self.task(&task.id).submits.push(Submit { asked: mark, answered, connection, task });
            }
            Ask::Cancel { id, .. } => {
                let answered = answer.and_then(|(at, answer)| match answer {
                    Answer::Cancel(kind) => Some((at, *kind)),
                    _ => None,
                });
                self.task(id).cancels.push(Told { asked: mark, answered });
            }
            Ask::CancelMany { .. } => self.cancels_of_many.push(mark),
            Ask::Purge { queue } => self.purges.push((mark, queue)),
            Ask::Forget { id } => {
                let answered = answer.and_then(|(at, answer)| match answer {
                    Answer::Forget(code) => Some((at, *code)),
                    _ => None,
                });
                self.task(id).forgets.push(Told { asked: mark, answered });
            }
            Ask::Read { id, with_result } => {
                if let Some((told, Answer::Read(info))) = answer {
                    let with_result = *with_result;
                    self.task(id).seen.push(Seen { asked: Some(mark), told, with_result, info });
                }
            }
            Ask::List => {
                if let Some((told, Answer::List(infos))) = answer {
                    for info in infos {
                        self.task(&info.id).seen.push(Seen { asked: Some(mark), told, with_result: false, info });
                    }
                }
            }
            Ask::Report(report) => self.read_report(mark, report, answer),
            Ask::Credit(credit) if *credit > 0 => {
                self.connection(connection).credit.get_or_insert(mark);
            }
            Ask::Goodbye => {
                let session = self.connection(connection).welcome.map(|(_, welcome)| &*welcome.session_id);
                if let Some(session) = session.and_then(|id| self.sessions.get_mut(id)) {
                    session.goodbye.get_or_insert(mark);
                }
            }
            Ask::Credit(_) | Ask::Other => {}
        }
    }

    fn read_report(&mut self, asked: Mark, report: &'h wire::TaskReport, answer: Option<(Mark, &'h Answer)>) {
        let Some(what) = &report.report else { return };
        let answered = answer.and_then(|(at, answer)| match answer {
            Answer::Report(outcome) => Some((at, outcome)),
            _ => None,
        });
        let reported = Reported { asked, answered, lease: report.lease, what };
        self.task(&report.id).reports.push(reported);
    }

    fn note_sign(&mut self, mark: Mark, connection: ConnectionId) {
        let connection = self.connection(connection);
        connection.last_answered = Some(mark);
        let session = connection.welcome.map(|(_, welcome)| &*welcome.session_id);
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(id)) {
            session.signs.push(mark);
        }
    }

    fn sort_reports_to_leases(&mut self) {
        for (id, task) in &mut self.tasks {
            task.leases.sort_unstable();
            for report in &task.reports {
                // A report on the lease of another task changes nothing.
                if let Some(lease) = self.leases.get_mut(&report.lease).filter(|lease| lease.delivery.id == **id) {
                    lease.reports.push(*report);
                }
            }
        }
    }

    /// A lease was given after its task was submitted, and after the connection on which it first came asked for tasks;
    /// and after every lower one, since leases rise.
    fn find_when_leases_were_given(&mut self) {
        let mut bounds = BTreeMap::new();
        for (number, lease) in &self.leases {
            let submits = self.tasks.get(&*lease.delivery.id).map_or(&[][..], |task| &task.submits);
            let submitted = submits.iter().map(|submit| submit.asked).min().unwrap_or(0);
            let asked_for = lease.sights.iter().filter_map(|(_, id)| self.not_before(*id, *number)).max();
            bounds.insert(*number, submitted.max(asked_for.unwrap_or(0)));
        }
        let mut latest = 0;
        for (number, lease) in &mut self.leases {
            latest = latest.max(bounds[number]);
            lease.lower_after = latest;
            // Where leases do not rise it says nothing, and a rule of its own says that.
            lease.given_after = if latest < lease.first_seen() { latest } else { bounds[number] };
        }
        for session in self.sessions.values_mut() {
            session.signs.sort_unstable();
        }
    }

    /// What came on a connection and was not held before was given after it asked for tasks.
    pub(super) fn not_before(&self, connection: ConnectionId, lease: u64) -> Option<Mark> {
        let connection = self.connections.get(&connection)?;
        let (_, welcome) = connection.welcome?;
        (!welcome.leases.contains(&lease)).then(|| connection.credit.unwrap_or(connection.connecting))
    }

    /// The session that a connection belongs to.
    pub(super) fn session_of(&self, connection: ConnectionId) -> Option<&'h str> {
        let (_, welcome) = self.connections.get(&connection)?.welcome?;
        Some(&welcome.session_id)
    }
}

/// The answer to each item; none when the whole request was refused.
fn answers(entries: &[Entry]) -> HashMap<Mark, (Mark, Option<&Answer>)> {
    let answered = entries.iter().enumerate().filter_map(|(at, entry)| match &entry.event {
        Event::Answered { ask, answer } => Some((*ask, (at, Some(answer)))),
        Event::Refused { ask, .. } => Some((*ask, (at, None))),
        _ => None,
    });
    answered.collect()
}
