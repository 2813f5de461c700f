//! A connection without a client: a test sends exact frames and sees exactly what comes back. It
//! sends nothing by itself, not even heartbeats.

mod parts;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use celeriac_proto::wire::{self, client_frame, server_frame};
use celeriac_proto::{FrameCodec, limits};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;

pub use self::parts::{
    complete, fail, frame_bytes, hello, hello_bytes, report, started, task, worker_hello,
};
use crate::within;
use celeriac_history::{Tap, TappedStream};

/// A request of a client.
pub type Request = client_frame::Body;
/// A frame of the broker.
pub type Answer = server_frame::Body;

/// How much of a request is printed when it fails. Payloads can be long.
const WHAT_CHARS: usize = 120;

/// The connection ended. The text says how.
#[derive(Debug, Clone)]
pub struct Lost(pub String);

/// One connection, frame by frame.
#[derive(Debug)]
pub struct RawConnection {
    frames: Framed<TappedStream<TcpStream>, FrameCodec<wire::ServerFrame, wire::ClientFrame>>,
    last_request: u64,
    answers: BTreeMap<u64, Answer>,
    pushes: VecDeque<Answer>,
    beat_every: Option<Duration>,
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Lost> {
    let stream = TcpStream::connect(address).await.map_err(|error| Lost(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| Lost(error.to_string()))?;
    Ok(stream)
}

impl RawConnection {
    /// A connection without a handshake.
    pub async fn silent(address: SocketAddr) -> Self {
        Self::try_silent(address).await.expect("the broker takes connections")
    }

    /// As [`silent`](Self::silent), for a broker that may be down.
    ///
    /// # Errors
    /// [`Lost`] when nobody listens.
    pub async fn try_silent(address: SocketAddr) -> Result<Self, Lost> {
        Ok(Self::over(TappedStream::untapped(connect(address).await?)))
    }

    /// As [`try_silent`](Self::try_silent), with a tap that writes a history.
    ///
    /// # Errors
    /// [`Lost`] when nobody listens.
    pub async fn try_tapped(address: SocketAddr, tap: Tap) -> Result<Self, Lost> {
        Ok(Self::over(TappedStream::new(connect(address).await?, tap)))
    }

    fn over(stream: TappedStream<TcpStream>) -> Self {
        let frames = Framed::new(stream, FrameCodec::new(limits::FRAME_BYTES_MAX));
        let (answers, pushes) = (BTreeMap::new(), VecDeque::new());
        Self { frames, last_request: 0, answers, pushes, beat_every: None }
    }

    /// A connection after its handshake.
    pub async fn open(address: SocketAddr) -> Self {
        Self::greeted(address, hello()).await.0
    }

    /// A worker's connection after its handshake, with this credit.
    pub async fn worker(address: SocketAddr, queues: &[&str], names: &[&str], credit: u32) -> Self {
        let (mut connection, _) = Self::greeted(address, worker_hello(queues, names)).await;
        connection.credit(credit).await;
        connection
    }

    /// A connection after a handshake with this Hello.
    pub async fn greeted(address: SocketAddr, hello: wire::Hello) -> (Self, wire::Welcome) {
        let mut connection = Self::silent(address).await;
        let answer = connection.request(Request::Hello(hello)).await;
        match answer {
            Ok(Answer::Welcome(welcome)) => (connection, welcome),
            other => panic!("no Welcome but {other:?}"),
        }
    }

    /// From now on the connection sends a heartbeat whenever it has waited for so long. A worker
    /// that waits for more than the lease time is lost without them.
    #[must_use]
    pub fn beating(self, every: Duration) -> Self {
        Self { beat_every: Some(every), ..self }
    }

    /// Sends bytes that may be no frame.
    ///
    /// # Errors
    /// [`Lost`] when the connection is gone.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.frames.get_mut().write_all(bytes).await.map_err(|error| Lost(error.to_string()))
    }

    /// Closes the sending direction.
    pub async fn close_sending(&mut self) {
        // The broker may have closed the connection already. The test checks that later.
        let _ = self.frames.get_mut().shutdown().await;
    }

    /// Sends a request and does not wait for its answer.
    ///
    /// # Errors
    /// [`Lost`] when the connection is gone.
    pub async fn send(&mut self, body: Request, timeout_ms: u64) -> Result<u64, Lost> {
        self.last_request += 1;
        let frame =
            wire::ClientFrame { request_id: self.last_request, timeout_ms, body: Some(body) };
        self.frames.send(frame).await.map_err(|error| Lost(error.to_string()))?;
        Ok(self.last_request)
    }

    /// Keeps a request until the next [`flush`](Self::flush), which sends it together with others.
    /// Many bytes are sent before.
    ///
    /// # Errors
    /// [`Lost`] when the connection is gone.
    pub async fn feed(&mut self, body: Request) -> Result<u64, Lost> {
        self.last_request += 1;
        let frame =
            wire::ClientFrame { request_id: self.last_request, timeout_ms: 0, body: Some(body) };
        self.frames.feed(frame).await.map_err(|error| Lost(error.to_string()))?;
        Ok(self.last_request)
    }

    /// Sends the requests that were kept.
    ///
    /// # Errors
    /// [`Lost`] when the connection is gone.
    pub async fn flush(&mut self) -> Result<(), Lost> {
        let flushed = SinkExt::<wire::ClientFrame>::flush(&mut self.frames).await;
        flushed.map_err(|error| Lost(error.to_string()))
    }

    /// Sends a request that needs no answer, with the id 0.
    ///
    /// # Errors
    /// [`Lost`] when the connection is gone.
    pub async fn send_unanswered(&mut self, body: Request) -> Result<(), Lost> {
        let frame = wire::ClientFrame { request_id: 0, timeout_ms: 0, body: Some(body) };
        self.frames.send(frame).await.map_err(|error| Lost(error.to_string()))
    }

    /// Reads the next frame and puts it where it belongs.
    async fn receive(&mut self) -> Result<(), Lost> {
        let received = match self.beat_every {
            None => self.frames.next().await,
            Some(every) => loop {
                match timeout(every, self.frames.next()).await {
                    Ok(received) => break received,
                    Err(_) => {
                        self.send(Request::Heartbeat(wire::Heartbeat::default()), 0).await?;
                    }
                }
            },
        };
        match received {
            Some(Ok(frame)) => {
                match (frame.request_id, frame.body) {
                    (_, None) => panic!("the broker sent a frame without a body"),
                    (0, Some(Answer::HeartbeatReply(_))) => {}
                    (_, Some(Answer::HeartbeatReply(_))) if self.beat_every.is_some() => {}
                    (0, Some(push)) => self.pushes.push_back(push),
                    (id, Some(answer)) => {
                        let before = self.answers.insert(id, answer);
                        assert!(before.is_none(), "request {id} was answered twice");
                    }
                }
                Ok(())
            }
            Some(Err(error)) => Err(Lost(error.to_string())),
            None => Err(Lost("closed".into())),
        }
    }

    /// The answer to a request sent before.
    ///
    /// # Errors
    /// [`Lost`] when the connection ended first.
    pub async fn answer(&mut self, request_id: u64) -> Result<Answer, Lost> {
        loop {
            if let Some(answer) = self.answers.remove(&request_id) {
                return Ok(answer);
            }
            self.receive().await?;
        }
    }

    /// The next push. This future may be dropped while it waits.
    ///
    /// # Errors
    /// [`Lost`] when the connection ended first.
    pub async fn push(&mut self) -> Result<Answer, Lost> {
        loop {
            if let Some(push) = self.pushes.pop_front() {
                return Ok(push);
            }
            self.receive().await?;
        }
    }

    /// The next frame: an answer with the id of its request, or a push with 0. Load generators that
    /// keep many requests in flight use it.
    ///
    /// # Errors
    /// [`Lost`] when the connection ended first.
    pub async fn next(&mut self) -> Result<(u64, Answer), Lost> {
        loop {
            if let Some((id, answer)) = self.answers.pop_first() {
                return Ok((id, answer));
            }
            if let Some(push) = self.pushes.pop_front() {
                return Ok((0, push));
            }
            self.receive().await?;
        }
    }

    /// The next frame, if it has come already.
    ///
    /// # Errors
    /// [`Lost`] when the connection ended first.
    pub fn next_there(&mut self) -> Result<Option<(u64, Answer)>, Lost> {
        self.next().now_or_never().transpose()
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`Lost`] when the connection ended first.
    pub async fn try_request(&mut self, body: Request) -> Result<Answer, Lost> {
        let id = self.send(body, 0).await?;
        self.answer(id).await
    }

    /// Sends a request and waits for its answer. A refusal is an error.
    ///
    /// # Errors
    /// The error with which the broker refused the request.
    ///
    /// # Panics
    /// When the connection ends or nothing comes.
    pub async fn request(&mut self, body: Request) -> Result<Answer, wire::Error> {
        self.request_with_timeout(body, 0).await
    }

    /// As [`request`](Self::request), with a timeout for the broker.
    ///
    /// # Errors
    /// The error with which the broker refused the request.
    pub async fn request_with_timeout(
        &mut self,
        body: Request,
        timeout_ms: u64,
    ) -> Result<Answer, wire::Error> {
        let what: String = format!("the answer to {body:?}").chars().take(WHAT_CHARS).collect();
        let asked = async {
            let id = self.send(body, timeout_ms).await?;
            self.answer(id).await
        };
        match within(&what, asked).await {
            Ok(Answer::Error(error)) => Err(error),
            Ok(answer) => Ok(answer),
            Err(lost) => {
                panic!("the connection ended before {what}: {lost:?}; pushed: {:?}", self.pushes)
            }
        }
    }

    /// Reads until the broker has closed the connection. Returns the last error that the broker
    /// named.
    ///
    /// # Panics
    /// When it does not close.
    pub async fn closed_with(mut self) -> Option<wire::Error> {
        within("the broker to close the connection", async {
            while self.receive().await.is_ok() {}
        })
        .await;
        let pushed = self.pushes.into_iter().filter_map(|push| match push {
            Answer::Closing(closing) => closing.error,
            Answer::Error(error) => Some(error),
            _ => None,
        });
        let answered = self.answers.into_values().filter_map(|answer| match answer {
            Answer::Error(error) => Some(error),
            _ => None,
        });
        answered.chain(pushed).last()
    }

    /// All bytes until the broker closes the connection: for clients of other protocols.
    ///
    /// # Panics
    /// When it does not close.
    pub async fn bytes_until_closed(self) -> Vec<u8> {
        let parts = self.frames.into_parts();
        let (mut stream, mut bytes) = (parts.io, parts.read_buf.to_vec());
        // A reset ends it too.
        let _ = within("the broker to close the connection", stream.read_to_end(&mut bytes)).await;
        bytes
    }

    /// Submits tasks. Returns one outcome for each.
    pub async fn submit(&mut self, tasks: Vec<wire::Task>) -> Vec<wire::SubmitOutcome> {
        match self.request(Request::Submit(wire::Submit { tasks })).await {
            Ok(Answer::SubmitReply(reply)) => reply.outcomes,
            other => panic!("no SubmitReply but {other:?}"),
        }
    }

    /// Submits one task.
    pub async fn submit_one(&mut self, task: wire::Task) -> wire::SubmitOutcome {
        self.submit(vec![task]).await.pop().expect("one outcome per task")
    }

    /// Reports. Returns one outcome for each report.
    pub async fn report(&mut self, reports: Vec<wire::TaskReport>) -> Vec<wire::ReportOutcome> {
        match self.request(Request::Report(wire::Report { reports })).await {
            Ok(Answer::ReportReply(reply)) => reply.outcomes,
            other => panic!("no ReportReply but {other:?}"),
        }
    }

    /// Reports on one lease.
    pub async fn report_one(&mut self, report: wire::TaskReport) -> wire::ReportOutcome {
        self.report(vec![report]).await.pop().expect("one outcome per report")
    }

    /// Everything that the broker knows of a task, including its result.
    pub async fn info(&mut self, id: &str) -> wire::TaskInfo {
        let get = wire::Get { ids: vec![id.into()], with_results: true, ..Default::default() };
        match self.request(Request::Get(get)).await {
            Ok(Answer::GetReply(mut reply)) => reply.tasks.pop().expect("one answer per id"),
            other => panic!("no GetReply but {other:?}"),
        }
    }

    /// Waits in the broker until the task has ended.
    pub async fn ended(&mut self, id: &str) -> wire::TaskInfo {
        self.reached(id, wire::TaskState::Unknown).await
    }

    /// Waits in the broker until the task has this state or a later one. `Unknown`: until it has
    /// ended.
    pub async fn reached(&mut self, id: &str, until: wire::TaskState) -> wire::TaskInfo {
        let wait =
            wire::Wait { ids: vec![id.into()], mode: 0, until: until.into(), with_results: true };
        match self.request_with_timeout(Request::Wait(wait), 15_000).await {
            Ok(Answer::WaitReply(mut reply)) => {
                assert!(reply.satisfied, "{id} did not reach {until:?}: {:?}", reply.tasks);
                reply.tasks.pop().expect("one answer per id")
            }
            other => panic!("no WaitReply but {other:?}"),
        }
    }

    /// Begins a watch. Returns its id and the states at that moment.
    pub async fn watch(&mut self, ids: &[&str]) -> wire::WatchReply {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        match self.request(Request::Watch(wire::Watch { ids, with_results: true })).await {
            Ok(Answer::WatchReply(reply)) => reply,
            other => panic!("no WatchReply but {other:?}"),
        }
    }

    /// The next transition of any watch of this connection.
    pub async fn transition(&mut self) -> wire::TaskInfo {
        match within("a transition", self.push()).await {
            Ok(Answer::Transition(transition)) => {
                transition.task.expect("a transition tells of a task")
            }
            other => panic!("no Transition but {other:?}"),
        }
    }

    /// Sets the credit: how many leases this session may hold from now on.
    pub async fn credit(&mut self, credit: u32) {
        let answer = self.request(Request::Credit(wire::Credit { credit })).await;
        assert!(matches!(answer, Ok(Answer::Done(_))), "no Done but {answer:?}");
    }

    /// The next deliveries, until there are this many.
    pub async fn deliveries(&mut self, count: usize) -> Vec<wire::Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            deliveries.extend(self.some_deliveries().await);
        }
        assert_eq!(deliveries.len(), count, "more deliveries than expected");
        deliveries
    }

    /// The next deliveries, as many as come at once.
    pub async fn some_deliveries(&mut self) -> Vec<wire::Delivery> {
        match within("a delivery", self.push()).await {
            Ok(Answer::Deliver(deliver)) => deliver.deliveries,
            other => panic!("no Deliver but {other:?}"),
        }
    }

    /// The next delivery.
    pub async fn delivery(&mut self) -> wire::Delivery {
        self.deliveries(1).await.pop().expect("one was counted")
    }

    /// The pushes before the answer to a request that is sent now. Answers and pushes keep their
    /// order, so this shows that something was *not* pushed.
    pub async fn pushed_so_far(&mut self) -> Vec<Answer> {
        self.info("nobody").await;
        self.pushes.drain(..).collect()
    }
}
