//! Plays one script: takes its steps from top to bottom, answers by itself what every broker
//! answers, and stops at the first thing that is not as it should be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use celeriac_proto::wire::client_frame::Body as Asked;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{ClientFrame, Done, HeartbeatReply, ServerFrame};
use prost_reflect::DynamicMessage;
use serde_json::Value as Json;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::bodies::Bodies;
use crate::items::{Outcome, Place, Request, Wanted};
use crate::laws::{Laws, Standing};
use crate::peer::{Door, Event, send};
use crate::script::{Action, Script};
use crate::subject::Subject;
use crate::welcome;

/// How often it is looked whether the subject has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long Welcome lets wait for itself, so that what was sent too soon is seen.
const HELLO_ALONE: Duration = Duration::from_millis(20);

/// What is tried, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program, with its arguments.
    pub command: Vec<String>,
    /// How long each step may take.
    pub patience: Duration,
    /// Shows each frame and each line on standard error.
    pub verbose: bool,
}

/// Where a client does something else than the script says.
#[derive(Debug)]
pub struct Failure {
    /// The script's file and line, and what stands there.
    pub at: String,
    /// What was wrong.
    pub why: String,
    /// The last that the subject wrote on its standard error.
    pub complaints: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "      {}\n      {}", self.at, self.why)?;
        self.complaints.iter().try_for_each(|line| write!(f, "\n      | {line}"))
    }
}

/// Plays a script for a subject that is started for it.
///
/// # Errors
/// The first thing that is not as the script or PROTOCOL.md says.
pub async fn play(script: &Script, plan: &Plan) -> Result<(), Failure> {
    let early = |why: String| Failure {
        at: format!("scripts/{}.script", script.name),
        why,
        complaints: Vec::new(),
    };
    let mut player = Player::start(script, plan).await.map_err(early)?;
    let mut at = "at its end".to_owned();
    let mut result = Ok(());
    for (place, step) in script.steps.iter().enumerate() {
        at = format!(":{}  {}", step.line, shortened(&step.text));
        player.named_starts = named_starts(script, place);
        result = player.act(&step.action).await;
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        at = "  at its end".to_owned();
        result = player.end().await;
    }
    let complaints = player.subject.complaints();
    result.map_err(|why| Failure {
        at: format!("scripts/{}.script{at}", script.name),
        why,
        complaints,
    })
}

fn shortened(text: &str) -> String {
    const CHARACTERS: usize = 100;
    let cut: String = text.chars().take(CHARACTERS).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// The leases whose start is said something of, from this step on.
fn named_starts(script: &Script, from: usize) -> BTreeSet<u64> {
    let steps = script.steps.iter().skip(from);
    let expected = steps.filter_map(|step| match &step.action {
        Action::Expect { frame, .. } => Some(Wanted::of(frame)),
        _ => None,
    });
    expected.flatten().filter_map(|wanted| wanted.start_of()).collect()
}

struct Connection {
    write: Option<OwnedWriteHalf>,
    standing: Standing,
    /// The broker says nothing more.
    is_deaf: bool,
    /// The broker closed it: what still comes is not looked at.
    is_cut: bool,
    /// The client closed it.
    has_ended: bool,
}

struct Player {
    bodies: Bodies,
    subject: Subject,
    door: Door,
    events: UnboundedReceiver<Event>,
    connections: BTreeMap<u64, Connection>,
    /// The one that said Hello last.
    current: u64,
    laws: Laws,
    requests: Vec<Request>,
    /// What the steps have named, to be answered.
    named: HashMap<String, Vec<Place>>,
    named_starts: BTreeSet<u64>,
    /// What the client may send, and how it is answered.
    allowed: Vec<(DynamicMessage, DynamicMessage)>,
    lines: Vec<Json>,
    patience: Duration,
    verbose: bool,
}

impl Player {
    async fn start(script: &Script, plan: &Plan) -> Result<Self, String> {
        let (sender, events) = unbounded_channel();
        let door = Door::open(sender.clone()).await.map_err(|error| error.to_string())?;
        let token = script.token.as_ref().map(|token| format!("{token}@")).unwrap_or_default();
        let subject =
            Subject::start(&plan.command, &format!("celeriac://{token}{}", door.address), sender)?;
        Ok(Self {
            bodies: Bodies::new()?,
            subject,
            door,
            events,
            connections: BTreeMap::new(),
            current: 0,
            laws: Laws::new(script.token.clone()),
            requests: Vec::new(),
            named: HashMap::new(),
            named_starts: BTreeSet::new(),
            allowed: Vec::new(),
            lines: Vec::new(),
            patience: plan.patience,
            verbose: plan.verbose,
        })
    }

    async fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Tell(order) => {
                self.show("tell", order);
                self.subject.tell(order).await
            }
            Action::Prints(expected) => self.prints(expected).await,
            Action::Expect { name, frame } => self.expect(name, frame).await,
            Action::Answer { to, frame, extra } => self.answer(to, frame, extra).await,
            Action::Push { frame, extra } => {
                self.show("B push", frame);
                self.send_to(self.current, frame, extra).await
            }
            Action::May { frame, answer } => {
                self.allowed.push((frame.clone(), answer.clone()));
                Ok(())
            }
            Action::Raw(bytes) => {
                let write = self
                    .connections
                    .get_mut(&self.current)
                    .and_then(|connection| connection.write.as_mut());
                let sent = write.ok_or("there is no connection")?.write_all(bytes).await;
                sent.map_err(|_| "the client closed the connection before".to_owned())
            }
            Action::Cut => self.cut(),
            Action::Deaf => {
                let connection =
                    self.connections.get_mut(&self.current).ok_or("there is no connection")?;
                connection.is_deaf = true;
                Ok(())
            }
            Action::Away(span) => {
                let latest = self.connections.last_key_value().map_or(0, |(number, _)| *number);
                self.door.close_for(*span, latest).await.map_err(|error| error.to_string())
            }
            Action::Closes => self.closes().await,
            Action::Quiet(span) => self.quiet(*span).await,
            Action::Exits => self.exits().await,
        }
    }

    /// Waits for what happens next, at most until then. False when nothing did.
    async fn pump(&mut self, until: Instant) -> Result<bool, String> {
        let waited = tokio::time::timeout_at(until.into(), self.events.recv()).await;
        let Ok(Some(event)) = waited else {
            self.heartbeats_come()?;
            return Ok(false);
        };
        self.take_in(event).await?;
        self.heartbeats_come()?;
        Ok(true)
    }

    /// Waits for what happens next within the time of a step; an error says what was waited for.
    async fn wait(
        &mut self,
        deadline: Instant,
        what: impl FnOnce(&Self) -> String,
    ) -> Result<(), String> {
        if Instant::now() >= deadline {
            return Err(what(self));
        }
        let came = self.pump(deadline.min(Instant::now() + LOOK_INTERVAL)).await?;
        // What came last may be what is waited for.
        match self.subject.ended() {
            Some(status) if !came => Err(format!("the subject has ended: {status}")),
            _ => Ok(()),
        }
    }

    fn heartbeats_come(&self) -> Result<(), String> {
        let Some(connection) = self.connections.get(&self.current) else { return Ok(()) };
        let is_open = !connection.has_ended && !connection.is_cut && connection.write.is_some();
        match connection.standing.silent_at().filter(|_| is_open) {
            Some(silent_at) if Instant::now() > silent_at => {
                Err("no heartbeat came for `lease_ms`".into())
            }
            _ => Ok(()),
        }
    }

    async fn take_in(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Connected(number, write) => {
                let standing = Standing::default();
                let connection = Connection {
                    write: Some(write),
                    standing,
                    is_deaf: false,
                    is_cut: false,
                    has_ended: false,
                };
                self.connections.insert(number, connection);
            }
            Event::Ended(number) => {
                self.connection(number).has_ended = true;
            }
            Event::NoFrame(number, why) if !self.connection(number).is_cut => {
                return Err(format!("the client sent what is no frame: {why}"));
            }
            Event::NoFrame(..) => {}
            Event::Frame(number, ..) if self.connection(number).is_cut => {}
            Event::Frame(number, frame, bytes) => {
                return self.take_frame(number, *frame, &bytes).await;
            }
            Event::Line(line) => {
                self.show("prints", &line);
                let line = serde_json::from_str(&line)
                    .map_err(|_| format!("a line is no JSON: {line}"))?;
                self.lines.push(line);
            }
        }
        Ok(())
    }

    fn connection(&mut self, number: u64) -> &mut Connection {
        self.connections.get_mut(&number).expect("what comes is of a connection that was told of")
    }

    async fn take_frame(
        &mut self,
        number: u64,
        frame: ClientFrame,
        bytes: &[u8],
    ) -> Result<(), String> {
        let mut request = Request::new(number, frame, &self.bodies);
        self.show("C", &request.shown());
        let connection = self.connections.get_mut(&number).expect("it was told of");
        self.laws.judge(&mut connection.standing, &request.frame, bytes)?;
        match &request.frame.body {
            Some(Asked::Hello(_)) => self.current = number,
            Some(Asked::Heartbeat(_)) => {
                let reply =
                    Body::HeartbeatReply(HeartbeatReply { server_time_ms: 1_790_000_000_000 });
                return self.reply(number, request.id, reply, &[]).await;
            }
            Some(Asked::Credit(_) | Asked::Unwait(_) | Asked::Unwatch(_) | Asked::Goodbye(_)) => {
                // Goodbye says too much where the script waits for silence.
                request.is_answered = !matches!(request.frame.body, Some(Asked::Goodbye(_)));
                self.reply(number, request.id, Body::Done(Done {}), &[]).await?;
            }
            _ => {}
        }
        if matches!(request.frame.body, Some(Asked::Goodbye(_))) {
            self.connection(number).write = None;
        }
        if let Some((_, answer)) = self.allowed.iter().find(|(allowed, _)| request.is_as(allowed)) {
            let answer: ServerFrame = answer.transcode_to().map_err(|error| error.to_string())?;
            let body = answer.body.ok_or("an answer has a body")?;
            return self.reply(number, request.id, body, &[]).await;
        }
        request.accept_starts(|lease| self.named_starts.contains(&lease));
        self.requests.push(request);
        self.settle().await
    }

    /// Answers every batch that has all its outcomes.
    async fn settle(&mut self) -> Result<(), String> {
        while let Some(place) = self.requests.iter().position(|request| request.answer().is_some())
        {
            let request = self.requests.remove(place);
            let body = request.answer().expect("it was there");
            if let (Some(Asked::Report(report)), Body::ReportReply(reply)) =
                (&request.frame.body, &body)
            {
                let pairs = report.reports.iter().zip(&reply.outcomes);
                pairs.for_each(|(report, outcome)| self.laws.reported(report, outcome));
            }
            self.reply(request.connection, request.id, body, &[]).await?;
        }
        Ok(())
    }

    async fn reply(
        &mut self,
        number: u64,
        request_id: u64,
        body: Body,
        extra: &[u8],
    ) -> Result<(), String> {
        let connection = self.connection(number);
        if connection.is_deaf {
            return Ok(());
        }
        connection.standing.answered(request_id);
        if let Body::Welcome(welcome) = &body {
            connection.standing.welcomed(welcome.clone());
        }
        let frame = ServerFrame { request_id, body: Some(body) };
        if let Some(write) = &mut connection.write {
            // A client that has gone is found out by the next step.
            send(write, &frame, extra).await;
        }
        Ok(())
    }

    async fn send_to(
        &mut self,
        number: u64,
        frame: &DynamicMessage,
        extra: &[u8],
    ) -> Result<(), String> {
        let connection = self.connections.get_mut(&number);
        let write = connection
            .and_then(|connection| connection.write.as_mut())
            .ok_or("there is no connection")?;
        if send(write, frame, extra).await {
            Ok(())
        } else {
            Err("the client closed the connection before".into())
        }
    }

    async fn prints(&mut self, expected: &Json) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(place) = self.lines.iter().position(|line| has_all(line, expected)) {
                self.lines.remove(place);
                return Ok(());
            }
            self.wait(deadline, |player| match &player.lines[..] {
                [] => "the subject prints nothing".to_owned(),
                lines => {
                    format!(
                        "the subject prints {}",
                        lines.iter().map(Json::to_string).collect::<Vec<_>>().join(", ")
                    )
                }
            })
            .await?;
        }
    }

    async fn expect(&mut self, name: &str, frame: &DynamicMessage) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        let mut places = Vec::new();
        for wanted in Wanted::of(frame) {
            loop {
                let mut why = String::new();
                let mut requests = self.requests.iter_mut();
                let taken = requests
                    .find_map(|request| request.take(&wanted).map_err(|wrong| why = wrong).ok());
                if let Some(place) = taken {
                    places.push(place);
                    break;
                }
                self.wait(deadline, |player| player.what_came(&wanted, &why)).await?;
            }
        }
        self.requests.retain(|request| !(request.is_answered && request.is_taken()));
        self.named.insert(name.to_owned(), places);
        Ok(())
    }

    fn what_came(&self, wanted: &Wanted, why: &str) -> String {
        let waiting: Vec<String> = self.left_over().map(Request::shown).collect();
        match (why, &waiting[..]) {
            ("", []) => format!("no such `{}` comes, nor anything else", wanted.kind()),
            ("", waiting) => {
                format!("no such `{}` comes, but {}", wanted.kind(), waiting.join("; "))
            }
            (why, _) => format!("what comes is another: {why}"),
        }
    }

    /// What the client sent and the script has not named.
    fn left_over(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| !request.is_answered && !request.is_taken())
    }

    async fn answer(
        &mut self,
        to: &str,
        frame: &DynamicMessage,
        extra: &[u8],
    ) -> Result<(), String> {
        self.show("B", frame);
        if frame.has_field_by_name("welcome") {
            // What comes with Hello came before Welcome.
            while self.pump(Instant::now() + HELLO_ALONE).await? {}
        }
        let places =
            self.named.get(to).cloned().ok_or_else(|| format!("no step is named `{to}`"))?;
        let answer: ServerFrame = frame.transcode_to().map_err(|error| error.to_string())?;
        let outcomes: Option<Vec<Outcome>> = match &answer.body {
            Some(Body::SubmitReply(reply)) => {
                Some(reply.outcomes.iter().cloned().map(Outcome::Submit).collect())
            }
            Some(Body::ReportReply(reply)) => {
                Some(reply.outcomes.iter().copied().map(Outcome::Report).collect())
            }
            _ => None,
        };
        if let Some(outcomes) = outcomes {
            if outcomes.len() != places.len() {
                return Err(format!(
                    "the script has {} outcomes for {} items",
                    outcomes.len(),
                    places.len()
                ));
            }
            for ((connection, id, place), outcome) in places.into_iter().zip(outcomes) {
                if let Some(request) = self.request(connection, id) {
                    request.set_outcome(place, outcome);
                }
            }
            return self.settle().await;
        }
        let requests: BTreeSet<(u64, u64)> =
            places.into_iter().map(|(connection, id, _)| (connection, id)).collect();
        for (connection, id) in requests {
            self.requests.retain(|request| (request.connection, request.id) != (connection, id));
            let Some(body) = answer.body.clone() else {
                // A body that only a later protocol has.
                let frame = ServerFrame { request_id: id, body: None };
                self.connection(connection).standing.answered(id);
                let write =
                    self.connection(connection).write.as_mut().ok_or("there is no connection")?;
                send(write, &frame, extra).await;
                continue;
            };
            self.reply(connection, id, welcome::completed(body), extra).await?;
        }
        Ok(())
    }

    fn request(&mut self, connection: u64, id: u64) -> Option<&mut Request> {
        self.requests
            .iter_mut()
            .find(|request| (request.connection, request.id) == (connection, id))
    }

    fn cut(&mut self) -> Result<(), String> {
        let number = self.current;
        let connection = self.connections.get_mut(&number).ok_or("there is no connection")?;
        (connection.write, connection.is_cut) = (None, true);
        self.requests.retain(|request| request.connection != number);
        Ok(())
    }

    async fn closes(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        let number = self.current;
        while !self.connection(number).has_ended {
            self.wait(deadline, |_| "the client keeps the connection open".into()).await?;
        }
        self.connection(number).write = None;
        self.requests.retain(|request| request.connection != number);
        Ok(())
    }

    async fn quiet(&mut self, span: Duration) -> Result<(), String> {
        let until = Instant::now() + span;
        while self.pump(until).await? {
            self.says_no_more()?;
        }
        self.says_no_more()
    }

    fn says_no_more(&self) -> Result<(), String> {
        if let Some(line) = self.lines.first() {
            return Err(format!("the subject prints {line}"));
        }
        match self.left_over().next() {
            Some(request) => Err(format!("the client sends {}", request.shown())),
            None => Ok(()),
        }
    }

    async fn exits(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.subject.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the subject has ended otherwise: {status}")),
                None if Instant::now() >= deadline => return Err("the subject does not end".into()),
                None => drop(self.pump(Instant::now() + LOOK_INTERVAL).await?),
            }
        }
    }

    /// The script is over: nothing may be left of which it said nothing.
    async fn end(&mut self) -> Result<(), String> {
        self.quiet(LOOK_INTERVAL).await
    }

    #[expect(clippy::print_stderr, reason = "it was asked for")]
    fn show(&self, who: &str, what: &impl fmt::Display) {
        if self.verbose {
            eprintln!("      {who}: {what}");
        }
    }
}

/// Whether a line has at least these fields.
fn has_all(line: &Json, expected: &Json) -> bool {
    match (line, expected) {
        (Json::Object(line), Json::Object(expected)) => expected
            .iter()
            .all(|(key, value)| line.get(key).is_some_and(|there| has_all(there, value))),
        (line, expected) => line == expected,
    }
}
