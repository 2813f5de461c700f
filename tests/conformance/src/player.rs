//! Plays one script: takes its steps from top to bottom and stops at the first difference.
//! `player/incoming.rs` handles what the client sends, `player/steps.rs` has the steps.

mod incoming;
mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::Value as Json;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::bodies::Bodies;
use crate::listener::{Event, Listener};
use crate::protocol_rules::{ConnectionState, ProtocolRules};
use crate::request::{Place, Request, Wanted};
use crate::script::{Action, Script};
use crate::subject::Subject;

/// The pause between two checks whether the subject has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The delay before Welcome is sent. A client that sends frames before Welcome is found by it.
const WELCOME_DELAY: Duration = Duration::from_millis(20);

/// Which subject is tested, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program, with its arguments.
    pub command: Vec<String>,
    /// How long each step may take.
    pub patience: Duration,
    /// Shows each frame and each line on standard error.
    pub verbose: bool,
}

/// The first difference between a client and its script.
#[derive(Debug)]
pub struct Failure {
    /// The file and the line of the script, and the text of the line.
    pub at: String,
    /// What was wrong.
    pub why: String,
    /// The last lines that the subject wrote to its standard error.
    pub complaints: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "      {}\n      {}", self.at, self.why)?;
        self.complaints.iter().try_for_each(|line| write!(f, "\n      | {line}"))
    }
}

/// Starts the subject and plays a script to it.
///
/// # Errors
/// The first difference from the script or from PROTOCOL.md.
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

/// The leases whose start is named by this step or a later one.
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
    state: ConnectionState,
    /// The broker sends nothing more on it.
    is_deaf: bool,
    /// The broker closed it. Frames that still arrive are ignored.
    is_cut: bool,
    /// The client closed it.
    has_ended: bool,
}

struct Player {
    bodies: Bodies,
    subject: Subject,
    listener: Listener,
    events: UnboundedReceiver<Event>,
    connections: BTreeMap<u64, Connection>,
    /// The connection that sent Hello last.
    current: u64,
    rules: ProtocolRules,
    requests: Vec<Request>,
    /// The items that steps have named. A later step answers them.
    named: HashMap<String, Vec<Place>>,
    named_starts: BTreeSet<u64>,
    /// Frames that the client may send at any time, and the answer to each.
    allowed: Vec<(DynamicMessage, DynamicMessage)>,
    lines: Vec<Json>,
    patience: Duration,
    verbose: bool,
}

impl Player {
    async fn start(script: &Script, plan: &Plan) -> Result<Self, String> {
        let (sender, events) = unbounded_channel();
        let listener = Listener::open(sender.clone()).await.map_err(|error| error.to_string())?;
        let token = script.token.as_ref().map(|token| format!("{token}@")).unwrap_or_default();
        let subject = Subject::start(
            &plan.command,
            &format!("celeriac://{token}{}", listener.address),
            sender,
        )?;
        Ok(Self {
            bodies: Bodies::new()?,
            subject,
            listener,
            events,
            connections: BTreeMap::new(),
            current: 0,
            rules: ProtocolRules::new(script.token.clone()),
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
                sent.map_err(|_| "the client has closed the connection".to_owned())
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
                self.listener.close_for(*span, latest).await.map_err(|error| error.to_string())
            }
            Action::Closes => self.closes().await,
            Action::Quiet(span) => self.quiet(*span).await,
            Action::Exits => self.exits().await,
        }
    }

    /// The script is over. The client must have sent nothing that the script does not name.
    async fn end(&mut self) -> Result<(), String> {
        self.quiet(POLL_INTERVAL).await
    }

    #[expect(clippy::print_stderr, reason = "it was asked for")]
    fn show(&self, who: &str, what: &impl fmt::Display) {
        if self.verbose {
            eprintln!("      {who}: {what}");
        }
    }
}
