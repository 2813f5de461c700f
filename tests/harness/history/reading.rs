//! A history read once from end to end: by task, by lease, by connection and by session, with what
//! the order of the entries says about when each lease was given. What is promised is judged in the
//! rules.

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
    /// Each queue that was to be purged or deleted.
    pub(super) purges: Vec<Swept<'h>>,
    /// Each queue that was to be paused, or was shown as paused.
    pub(super) pauses: Vec<Swept<'h>>,
    /// Each queue that was to go on.
    pub(super) resumes: Vec<Swept<'h>>,
    /// Each cancel of many tasks: from when on it may have happened.
    pub(super) cancels_of_many: Vec<Mark>,
    /// Each time that dead tasks were to run again, or to be dropped, by a filter.
    dead_of_many: Vec<(Mark, bool)>,
    /// Each time that the broker was gone, and with it whatever was on its way.
    pub(super) downs: Vec<Mark>,
    pub(super) in_order: Vec<&'h str>,
    pub(super) settled: Option<Mark>,
}

/// All that was asked and told of one id.
#[derive(Default)]
pub(super) struct Task<'h> {
    pub(super) submits: Vec<Submit<'h>>,
    pub(super) cancels: Vec<Told<cancel_outcome::Kind>>,
    pub(super) forgets: Vec<Told<ErrorCode>>,
    /// Each time that it was to run again as a dead task: from when on it may have happened.
    pub(super) replays: Vec<Mark>,
    pub(super) reports: Vec<Reported<'h>>,
    /// In the order in which they were given.
    pub(super) leases: Vec<u64>,
    pub(super) seen: Vec<Seen<'h>>,
}

/// One try to submit a task. Those that were refused as a whole request are left out: they did
/// nothing.
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

/// Something was done to a whole queue, or seen to have been done.
#[derive(Clone, Copy)]
pub(super) struct Swept<'h> {
    pub(super) asked: Mark,
    pub(super) told: Option<Mark>,
    pub(super) queue: &'h str,
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
    pub(super) connection: ConnectionId,
    /// Told by a watch: its first answer, or what it pushed.
    pub(super) is_watched: bool,
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
        self.answered
            .filter(|(_, outcome)| outcome.code() == ErrorCode::Unspecified)
            .map(|(mark, _)| mark)
    }

    pub(super) fn ends_the_lease(&self) -> bool {
        !matches!(self.what, task_report::Report::Started(_) | task_report::Report::Progress(_))
    }

    pub(super) fn is_release(&self) -> bool {
        matches!(self.what, task_report::Report::Release(_))
    }

    /// Handed back, with the word that its handler has not begun, whatever was reported before.
    pub(super) fn is_unbegun(&self) -> bool {
        matches!(self.what, task_report::Report::Release(release) if release.not_begun)
    }
}

impl Task<'_> {
    fn note_dead(&mut self, asked: Mark, again: bool) {
        if again {
            self.replays.push(asked);
        } else {
            self.forgets.push(Told { asked, answered: None });
        }
    }
}

impl Lease<'_> {
    /// When its worker first said something from which a start follows, if ever.
    pub(super) fn begun(&self) -> Option<Mark> {
        self.reports.iter().filter(|report| !report.is_release()).map(|report| report.asked).min()
    }

    /// Whether its worker gave it back without having begun it.
    pub(super) fn is_released(&self) -> bool {
        self.begun().is_none() && !self.reports.is_empty()
    }

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
            pauses: Vec::new(),
            resumes: Vec::new(),
            cancels_of_many: Vec::new(),
            dead_of_many: Vec::new(),
            downs: Vec::new(),
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
        reading.sort_what_was_asked_of_many();
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
                let seen = Seen {
                    asked: None,
                    told: mark,
                    connection,
                    is_watched: true,
                    with_result: false,
                    info,
                };
                self.task(&info.id).seen.push(seen);
            }
            Event::Began { lease, .. } => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.began.push(mark);
                }
            }
            Event::BrokerDown => self.downs.push(mark),
            Event::InOrder { queue } => self.in_order.push(queue),
            Event::Settled => self.settled = Some(mark),
            _ => {}
        }
    }

    fn read_ask(
        &mut self,
        mark: Mark,
        connection: ConnectionId,
        ask: &'h Ask,
        answer: Option<(Mark, &'h Answer)>,
    ) {
        if answer.is_some() {
            self.note_sign(mark, connection);
        }
        let swept = |queue: &'h str| Swept { asked: mark, told: answer.map(|(at, _)| at), queue };
        match ask {
            Ask::Submit(task) => {
                let answered = answer.and_then(|(at, answer)| match answer {
                    Answer::Submit(outcome) => Some((at, outcome)),
                    _ => None,
                });
                self.task(&task.id).submits.push(Submit {
                    asked: mark,
                    answered,
                    connection,
                    task,
                });
            }
            Ask::Cancel { id, .. } => {
                let answered = answer.and_then(|(at, answer)| match answer {
                    Answer::Cancel(kind) => Some((at, *kind)),
                    _ => None,
                });
                self.task(id).cancels.push(Told { asked: mark, answered });
            }
            Ask::CancelMany { .. } => {
                self.cancels_of_many.push(mark);
                if let Some((at, Answer::CancelMany(outcomes))) = answer {
                    for outcome in outcomes {
                        let answered = Some((at, outcome.kind()));
                        self.task(&outcome.id).cancels.push(Told { asked: mark, answered });
                    }
                }
            }
            Ask::Purge { queue } => self.purges.push(swept(queue)),
            Ask::Delete { queue } => {
                self.purges.push(swept(queue));
                // When it comes again it is not paused.
                self.resumes.push(swept(queue));
            }
            Ask::Pause { queue, paused: true } => self.pauses.push(swept(queue)),
            Ask::Pause { queue, paused: false } => self.resumes.push(swept(queue)),
            Ask::Queues => {
                if let Some((at, Answer::Queues(queues))) = answer {
                    let paused = queues.iter().filter(|queue| queue.paused);
                    self.pauses.extend(paused.map(|queue| Swept {
                        asked: mark,
                        told: Some(at),
                        queue: &queue.name,
                    }));
                }
            }
            Ask::Dead { ids, again } if ids.is_empty() => self.dead_of_many.push((mark, *again)),
            Ask::Dead { ids, again } => {
                ids.iter().for_each(|id| self.task(id).note_dead(mark, *again))
            }
            Ask::Forget { id } => {
                let answered = answer.and_then(|(at, answer)| match answer {
                    Answer::Forget(code) => Some((at, *code)),
                    _ => None,
                });
                self.task(id).forgets.push(Told { asked: mark, answered });
            }
            Ask::Read { .. } | Ask::Watch { .. } | Ask::List => {
                self.read_sight(mark, connection, ask, answer)
            }
            Ask::Report(report) => self.read_report(mark, report, answer),
            Ask::Credit(credit) if *credit > 0 => {
                self.connection(connection).credit.get_or_insert(mark);
            }
            Ask::Goodbye => {
                let session =
                    self.connection(connection).welcome.map(|(_, welcome)| &*welcome.session_id);
                if let Some(session) = session.and_then(|id| self.sessions.get_mut(id)) {
                    session.goodbye.get_or_insert(mark);
                }
            }
            Ask::Credit(_) | Ask::Other => {}
        }
    }

    fn read_sight(
        &mut self,
        asked: Mark,
        connection: ConnectionId,
        ask: &Ask,
        answer: Option<(Mark, &'h Answer)>,
    ) {
        let (is_watched, with_result) = match ask {
            Ask::Read { with_result, .. } => (false, *with_result),
            Ask::Watch { with_result, .. } => (true, *with_result),
            _ => (false, false),
        };
        let (told, infos) = match answer {
            Some((told, Answer::Read(info))) => (told, std::slice::from_ref(&**info)),
            Some((told, Answer::List(infos))) => (told, &infos[..]),
            _ => return,
        };
        for info in infos {
            let seen = Seen { asked: Some(asked), told, connection, is_watched, with_result, info };
            self.task(&info.id).seen.push(seen);
        }
    }

    fn read_report(
        &mut self,
        asked: Mark,
        report: &'h wire::TaskReport,
        answer: Option<(Mark, &'h Answer)>,
    ) {
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

    /// What was asked by a filter was perhaps asked of any id.
    fn sort_what_was_asked_of_many(&mut self) {
        for (mark, again) in std::mem::take(&mut self.dead_of_many) {
            self.tasks.values_mut().for_each(|task| task.note_dead(mark, again));
        }
        // Requests stand in the order in which they were asked, and what was shown in that in which
        // it was told.
        for task in self.tasks.values_mut() {
            task.seen.sort_by_key(|seen| seen.told);
        }
    }

    fn sort_reports_to_leases(&mut self) {
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

    /// A lease was given after its task was submitted, and after the connection on which it first
    /// came asked for tasks; and after every lower one, since leases rise.
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
        (!welcome.leases.contains(&lease))
            .then(|| connection.credit.unwrap_or(connection.connecting))
    }

    /// The session that a connection belongs to.
    pub(super) fn session_of(&self, connection: ConnectionId) -> Option<&'h str> {
        let (_, welcome) = self.connections.get(&connection)?.welcome?;
        Some(&welcome.session_id)
    }
}

/// The answer to each item; none when the whole request was refused. One that was refused because
/// tasks run may have ended others before it came to them: it counts as one without an answer.
fn answers(entries: &[Entry]) -> HashMap<Mark, (Mark, Option<&Answer>)> {
    let answered = entries.iter().enumerate().filter_map(|(at, entry)| match &entry.event {
        Event::Answered { ask, answer } => Some((*ask, (at, Some(answer)))),
        Event::Refused { ask, code } if *code != ErrorCode::NotFinished => Some((*ask, (at, None))),
        _ => None,
    });
    answered.collect()
}
