//! The raw conversation: one request of each kind, in a fixed order. When the connection is cut, a
//! second connection checks whether the unanswered request took effect, and continues the
//! conversation from there.

use std::net::SocketAddr;

use bytes::Bytes;
use celeriac_proto::wire::{self, TaskState, cancel_outcome, task_report};
use tokio::time::timeout;

use crate::PATIENCE;
use crate::raw::{self, Answer, Lost, RawConnection, Request};

/// The conversation of one run.
pub(super) struct Script {
    broker: SocketAddr,
    wire: SocketAddr,
    name: String,
    session: String,
    delivery: Option<wire::Delivery>,
    /// The number of steps with the right answer.
    done: usize,
}

/// The requests, in this order. The answer to each is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Submit,
    Credit,
    Started,
    Progress,
    Complete,
    Wait,
    Watch,
    Cancel,
    Forget,
}

const STEPS: [Step; 9] = [
    Step::Submit,
    Step::Credit,
    Step::Started,
    Step::Progress,
    Step::Complete,
    Step::Wait,
    Step::Watch,
    Step::Cancel,
    Step::Forget,
];

/// Why a connection was given up.
enum Left {
    Cut,
    Wrong(String),
}

impl From<Lost> for Left {
    fn from(_: Lost) -> Self {
        Left::Cut
    }
}

impl Script {
    pub(super) fn new(broker: SocketAddr, wire: SocketAddr, name: &str) -> Self {
        Self {
            broker,
            wire,
            name: name.to_owned(),
            session: String::new(),
            delivery: None,
            done: 0,
        }
    }

    /// The conversation on the connection that is cut, and then on one that is not.
    pub(super) async fn go(mut self) -> Result<(), String> {
        let first = timeout(PATIENCE, self.talk(self.wire)).await.unwrap_or(Err(Left::Cut));
        match first {
            Ok(()) => return self.look_back().await,
            Err(Left::Wrong(what)) => return Err(what),
            Err(Left::Cut) => {}
        }
        self.look_at_what_is_open().await?;
        match timeout(PATIENCE, self.talk(self.broker)).await {
            Ok(Ok(())) => self.look_back().await,
            Ok(Err(Left::Wrong(what))) => Err(format!("said again: {what}")),
            Ok(Err(Left::Cut)) => {
                Err("the second connection, which nobody cuts, was lost".to_owned())
            }
            Err(_) => {
                Err(format!("after the cut there was no answer: {} steps were done", self.done))
            }
        }
    }

    fn task(&self) -> String {
        format!("{}-task", self.name)
    }

    fn other(&self) -> String {
        format!("{}-other", self.name)
    }

    async fn talk(&mut self, address: SocketAddr) -> Result<(), Left> {
        let mut connection = RawConnection::try_silent(address).await?;
        let hello = wire::Hello {
            session_id: self.session.clone(),
            ..raw::worker_hello(&[&self.name], &["cut"])
        };
        match connection.try_request(Request::Hello(hello)).await? {
            Answer::Welcome(welcome) => self.session = welcome.session_id,
            other => return Err(Left::Wrong(format!("no Welcome but {other:?}"))),
        }
        for step in &STEPS[self.done..] {
            let answer = connection.try_request(self.request(*step)).await?;
            self.judge(*step, &answer).map_err(Left::Wrong)?;
            if *step == Step::Credit {
                self.delivery = Some(self.delivered(&mut connection).await?);
            }
            self.done += 1;
        }
        connection.try_request(Request::Goodbye(wire::Goodbye {})).await?;
        Ok(())
    }

    async fn delivered(&self, connection: &mut RawConnection) -> Result<wire::Delivery, Left> {
        loop {
            if let Answer::Deliver(deliver) = connection.push().await? {
                let [delivery] = &deliver.deliveries[..] else {
                    return Err(Left::Wrong(format!("more than one delivery: {deliver:?}")));
                };
                let known =
                    self.delivery.as_ref().is_none_or(|known| known.lease == delivery.lease);
                if !known || delivery.id != self.task() || delivery.deliveries != 1 {
                    return Err(Left::Wrong(format!("another delivery than before: {delivery:?}")));
                }
                return Ok(delivery.clone());
            }
        }
    }

    fn request(&self, step: Step) -> Request {
        let report = |what| {
            let delivery = self.delivery.as_ref().expect("it comes after Credit");
            Request::Report(wire::Report { reports: vec![raw::report(delivery, what)] })
        };
        let ids = vec![self.task()];
        match step {
            Step::Submit => {
                let task =
                    wire::Task { queue: self.name.clone(), ..raw::task(&self.task(), "cut") };
                let other = wire::Task {
                    queue: format!("{}-elsewhere", self.name),
                    ..raw::task(&self.other(), "cut")
                };
                Request::Submit(wire::Submit { tasks: vec![task, other] })
            }
            Step::Credit => Request::Credit(wire::Credit { credit: 1 }),
            Step::Started => report(raw::started()),
            Step::Progress => report(task_report::Report::Progress(wire::ProgressReport {
                state: "HALF".into(),
                meta: Bytes::from_static(b"1"),
            })),
            Step::Complete => report(raw::complete(b"42")),
            Step::Wait => Request::Wait(wire::Wait { ids, mode: 0, until: 0, with_results: true }),
            Step::Watch => {
                Request::Watch(wire::Watch { ids: vec![self.other()], with_results: true })
            }
            Step::Cancel => {
                Request::Cancel(wire::Cancel { ids: vec![self.other()], ..Default::default() })
            }
            Step::Forget => Request::Forget(wire::Forget { ids }),
        }
    }

    /// Whether the answer is right, for a request that is sent for the first time or again.
    fn judge(&self, step: Step, answer: &Answer) -> Result<(), String> {
        use wire::submit_outcome::Kind;
        let right = match (step, answer) {
            (Step::Submit, Answer::SubmitReply(reply)) => reply.outcomes.iter().all(|outcome| {
                matches!(outcome.kind(), Kind::Created | Kind::Joined) && outcome.generation == 1
            }),
            (Step::Credit, Answer::Done(_)) => true,
            (Step::Started | Step::Progress | Step::Complete, Answer::ReportReply(reply)) => {
                reply.outcomes.iter().all(|outcome| outcome.code() == wire::ErrorCode::Unspecified)
            }
            (Step::Wait, Answer::WaitReply(reply)) => {
                reply.satisfied && reply.tasks.iter().all(|task| is_whole(task, TaskState::Success))
            }
            (Step::Watch, Answer::WatchReply(reply)) => reply.tasks.len() == 1,
            (Step::Cancel, Answer::CancelReply(reply)) => reply.outcomes.iter().all(|outcome| {
                matches!(
                    outcome.kind(),
                    cancel_outcome::Kind::Revoked | cancel_outcome::Kind::AlreadyEnded
                )
            }),
            (Step::Forget, Answer::ForgetReply(reply)) => reply.outcomes().all(|code| {
                matches!(code, wire::ErrorCode::Unspecified | wire::ErrorCode::NotFound)
            }),
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("{step:?} was answered with {answer:?}")) }
    }

    /// Every answered request took effect. No request after the open one did. The open request took
    /// effect as a whole or not at all.
    async fn look_at_what_is_open(&self) -> Result<(), String> {
        let mut connection = RawConnection::open(self.broker).await;
        let (task, other) =
            (connection.info(&self.task()).await, connection.info(&self.other()).await);
        let reached =
            |step| self.done > STEPS.iter().position(|other| *other == step).expect("it is a step");
        let open = STEPS.get(self.done).copied();
        let expect = |what: &str, right: bool| {
            let shown = format!("{what}, with {open:?} open: {task:?}, {other:?}");
            if right { Ok(()) } else { Err(shown) }
        };
        let (here, there) = (task.state(), other.state());
        let never = [TaskState::Unknown; 2];
        match open {
            Some(Step::Submit) => {
                return expect(
                    "half a submit",
                    [here, there] == never || [here, there] == [TaskState::Queued; 2],
                );
            }
            Some(Step::Forget) | None => {
                expect(
                    "forgotten or not",
                    here == TaskState::Unknown || is_whole(&task, TaskState::Success),
                )?;
            }
            _ if reached(Step::Complete) => {
                expect("a result is lost", is_whole(&task, TaskState::Success))?
            }
            Some(Step::Complete) => {
                let open = matches!(here, TaskState::Started) && task.attempts == 1;
                expect("half a completion", open || is_whole(&task, TaskState::Success))?;
            }
            Some(Step::Started) => {
                expect("half a start", matches!(here, TaskState::Leased | TaskState::Started))?;
            }
            Some(Step::Progress) => expect("a start is lost", here == TaskState::Started)?,
            _ => expect("a submit is lost", matches!(here, TaskState::Queued | TaskState::Leased))?,
        }
        match open {
            Some(Step::Cancel) => {
                expect("half a cancel", matches!(there, TaskState::Queued | TaskState::Revoked))
            }
            _ if reached(Step::Cancel) => expect("a cancel is lost", there == TaskState::Revoked),
            _ => expect("cancelled by nobody", there == TaskState::Queued),
        }
    }

    /// The state at the end of every conversation.
    async fn look_back(&self) -> Result<(), String> {
        let mut connection = RawConnection::open(self.broker).await;
        let (task, other) =
            (connection.info(&self.task()).await, connection.info(&self.other()).await);
        let right = task.state() == TaskState::Unknown
            && other.state() == TaskState::Revoked
            && other.generation == 1;
        if right { Ok(()) } else { Err(format!("in the end {task:?} and {other:?}")) }
    }
}

/// The task ran once, and this is its result.
fn is_whole(task: &wire::TaskInfo, state: TaskState) -> bool {
    task.state() == state
        && (task.generation, task.attempts, task.deliveries) == (1, 1, 1)
        && &task.result[..] == b"42"
}
