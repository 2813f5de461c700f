//! A broker played by the test: it says and expects exactly what the test tells it to.

use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::FrameCodec;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{
    ClientFrame, Credit, Deliver, Delivery, Done, ErrorCode, Heartbeat, HeartbeatReply, Hello,
    Limits, ReportOutcome, ReportReply, ServerFrame, TaskReport, Welcome, client_frame,
    server_frame,
};
use celeriac_worker::{RunError, WorkerBuilder};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::codec::Framed;

/// Nothing in these tests takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A result of more bytes is too large for this broker.
pub(crate) const RESULT_BYTES_MAX: u64 = 1_000;

pub(crate) struct Broker {
    listener: TcpListener,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    pub(crate) fn url(&self) -> String {
        format!("celeriac://{}", self.listener.local_addr().expect("bound"))
    }

    /// The next connection of the worker, after its Hello; Welcome is not said yet.
    pub(crate) async fn accept(&self) -> Session {
        let (stream, _) = within(self.listener.accept()).await.expect("a connection");
        let mut session = Session {
            framed: Framed::new(stream, FrameCodec::new(16 << 20)),
            hello: Hello::default(),
            heartbeats: 0,
            heartbeat: Heartbeat::default(),
        };
        let (request_id, body) = session.request().await;
        let client_frame::Body::Hello(hello) = body else { panic!("{body:?} is no Hello") };
        assert_eq!(request_id, 1);
        session.hello = hello;
        session
    }

    /// The next connection, welcomed as a new session, and its credit.
    pub(crate) async fn welcome(&self) -> (Session, u32) {
        let mut session = self.accept().await;
        session.say_welcome(false, &[]).await;
        let credit = session.credit().await;
        (session, credit)
    }

    /// The next connection, welcomed as the old session with these leases.
    pub(crate) async fn resume(&self, leases: &[u64]) -> Session {
        let mut session = self.accept().await;
        assert_eq!(session.hello.session_id, "session");
        session.say_welcome(true, leases).await;
        session.credit().await;
        session
    }
}

pub(crate) struct Session {
    framed: Framed<TcpStream, FrameCodec<ClientFrame, ServerFrame>>,
    pub(crate) hello: Hello,
    pub(crate) heartbeats: u32,
    /// The latest one.
    pub(crate) heartbeat: Heartbeat,
}

impl Session {
    pub(crate) async fn say_welcome(&mut self, resumed: bool, leases: &[u64]) {
        let limits = Limits { result_bytes_max: RESULT_BYTES_MAX, ..Limits::default() };
        let welcome = Welcome {
            protocol: 1,
            session_id: "session".to_owned(),
            resumed,
            // Far above what a panic takes to print its backtrace, during which this peer is silent
            // too.
            heartbeat_ms: 2_000,
            lease_ms: 15_000,
            limits: Some(limits),
            leases: leases.to_vec(),
            ..Welcome::default()
        };
        self.answer(1, server_frame::Body::Welcome(welcome)).await;
    }

    pub(crate) async fn answer(&mut self, request_id: u64, body: server_frame::Body) {
        self.framed
            .send(ServerFrame { request_id, body: Some(body) })
            .await
            .expect("the worker is there");
    }

    pub(crate) async fn push(&mut self, body: server_frame::Body) {
        self.answer(0, body).await;
    }

    /// The next frame, heartbeats not counted; `None` at the end of the connection.
    pub(crate) async fn request_or_end(&mut self) -> Option<(u64, client_frame::Body)> {
        loop {
            let frame = within(self.framed.next()).await?.ok()?;
            match frame.body.expect("a body") {
                client_frame::Body::Heartbeat(beat) => {
                    self.on_heartbeat(frame.request_id, beat).await
                }
                body => return Some((frame.request_id, body)),
            }
        }
    }

    pub(crate) async fn request(&mut self) -> (u64, client_frame::Body) {
        self.request_or_end().await.expect("a request")
    }

    /// Until so many heartbeats have come on this connection.
    pub(crate) async fn heartbeats(&mut self, wanted: u32) {
        while self.heartbeats < wanted {
            let frame = within(self.framed.next()).await.expect("a frame").expect("no error");
            let Some(client_frame::Body::Heartbeat(beat)) = frame.body else {
                panic!("{frame:?} is no heartbeat")
            };
            self.on_heartbeat(frame.request_id, beat).await;
        }
    }

    async fn on_heartbeat(&mut self, request_id: u64, beat: Heartbeat) {
        self.heartbeats += 1;
        self.heartbeat = beat;
        let frame = server_frame::Body::HeartbeatReply(HeartbeatReply::default());
        // The worker may have closed by now; the next read says so.
        let _ = self.framed.send(ServerFrame { request_id, body: Some(frame) }).await;
    }

    /// Expects Credit and confirms it.
    pub(crate) async fn credit(&mut self) -> u32 {
        let (request_id, body) = self.request().await;
        let client_frame::Body::Credit(credit) = body else { panic!("{body:?} is no Credit") };
        self.answer(request_id, server_frame::Body::Done(Done {})).await;
        credit.credit
    }

    /// Expects Goodbye. A worker that held nothing may say it at once, or say before that its
    /// credit is 0.
    pub(crate) async fn goodbye(&mut self) {
        loop {
            let (request_id, body) = self.request().await;
            self.answer(request_id, server_frame::Body::Done(Done {})).await;
            match body {
                client_frame::Body::Goodbye(_) => return,
                body => assert!(
                    matches!(body, client_frame::Body::Credit(Credit { credit: 0 })),
                    "{body:?}"
                ),
            }
        }
    }

    pub(crate) async fn deliver(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        let deliveries = deliveries.into_iter().collect();
        self.push(server_frame::Body::Deliver(Deliver { deliveries })).await;
    }

    /// One batch of reports, not answered.
    pub(crate) async fn batch(&mut self) -> (u64, Vec<TaskReport>) {
        loop {
            match self.request().await {
                (request_id, client_frame::Body::Report(report)) => {
                    return (request_id, report.reports);
                }
                // The credit follows the pace of the work.
                (request_id, client_frame::Body::Credit(_)) => {
                    self.answer(request_id, server_frame::Body::Done(Done {})).await;
                }
                (_, body) => panic!("{body:?} is no Report"),
            }
        }
    }

    pub(crate) async fn answer_batch(
        &mut self,
        request_id: u64,
        codes: impl IntoIterator<Item = ErrorCode>,
    ) {
        let outcomes =
            codes.into_iter().map(|code| ReportOutcome { code: code.into(), state: 0 }).collect();
        self.answer(request_id, server_frame::Body::ReportReply(ReportReply { outcomes })).await;
    }

    /// Accepts what comes before an end, and takes the batch with the end in last place, not
    /// answered.
    pub(crate) async fn batch_with_end(&mut self) -> (u64, Vec<TaskReport>) {
        loop {
            let (request_id, reports) = self.batch().await;
            match reports.last().and_then(|report| report.report.as_ref()) {
                Some(Report::Started(_) | Report::Progress(_)) => {
                    self.answer_batch(request_id, reports.iter().map(|_| ErrorCode::Unspecified))
                        .await;
                }
                _ => return (request_id, reports),
            }
        }
    }

    /// Answers a batch whose last report alone has this outcome.
    pub(crate) async fn answer_end(
        &mut self,
        (request_id, reports): (u64, Vec<TaskReport>),
        code: ErrorCode,
    ) {
        let before = reports.len() - 1;
        self.answer_batch(
            request_id,
            std::iter::repeat_n(ErrorCode::Unspecified, before).chain([code]),
        )
        .await;
    }

    /// Takes reports until so many have come, and accepts them all.
    pub(crate) async fn reports(&mut self, wanted: usize) -> Vec<TaskReport> {
        let mut taken = Vec::new();
        while taken.len() < wanted {
            let (request_id, reports) = self.batch().await;
            self.answer_batch(request_id, reports.iter().map(|_| ErrorCode::Unspecified)).await;
            taken.extend(reports);
        }
        taken
    }

    /// Takes reports until so many have come that are no starts, accepts them all, and returns
    /// those in words. A worker says that it has begun only when it has not ended soon after.
    pub(crate) async fn words_but_starts(&mut self, wanted: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < wanted {
            let mut reports = self.reports(1).await;
            reports.retain(|report| !matches!(report.report, Some(Report::Started(_))));
            taken.extend(reports);
        }
        words(&taken)
    }

    /// As [`Session::reports`], in words.
    pub(crate) async fn words(&mut self, wanted: usize) -> Vec<String> {
        words(&self.reports(wanted).await)
    }
}

/// Reports in words, such as `1 started` and `1 complete 42`.
pub(crate) fn words(reports: &[TaskReport]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let word = |report: &TaskReport| {
        let what = match report.report.as_ref().expect("a report") {
            Report::Started(_) => "started".to_owned(),
            Report::Progress(progress) => format!("{} {}", progress.state, text(&progress.meta)),
            Report::Complete(complete) => format!("complete {}", text(&complete.result)),
            Report::Fail(fail) => {
                let error = fail.error.as_ref().expect("an error");
                format!(
                    "fail {} {}{}",
                    error.kind,
                    error.message,
                    if fail.r#final { " (final)" } else { "" }
                )
            }
            Report::Retry(retry) => format!("retry after {:?}", retry.after_ms),
            Report::Release(_) => "release".to_owned(),
            Report::Reject(reject) => {
                format!("reject {}", reject.error.as_ref().expect("an error").kind)
            }
        };
        format!("{} {what}", report.lease)
    };
    reports.iter().map(word).collect()
}

/// A first delivery of a task with these arguments, `[args, kwargs]` in JSON. Its id is
/// `task-LEASE`.
pub(crate) fn delivery(lease: u64, name: &str, payload: &str) -> Delivery {
    Delivery {
        id: format!("task-{lease}"),
        lease,
        name: name.to_owned(),
        queue: "default".to_owned(),
        payload: payload.to_owned().into(),
        attempt: 1,
        attempts_max: 4,
        deliveries: 1,
        ..Delivery::default()
    }
}

/// A worker that runs beside the test, and its end.
pub(crate) struct Running {
    shutdown: Option<oneshot::Sender<()>>,
    worker: JoinHandle<Result<(), RunError>>,
}

pub(crate) fn run(builder: WorkerBuilder) -> Running {
    let (shutdown, told) = oneshot::channel();
    let worker = builder.build();
    let worker = tokio::spawn(async move {
        worker
            .run(async {
                if told.await.is_err() {
                    std::future::pending().await
                }
            })
            .await
    });
    Running { shutdown: Some(shutdown), worker }
}

impl Running {
    pub(crate) fn shut_down(&mut self) {
        let shutdown = self.shutdown.take().expect("told once");
        shutdown.send(()).expect("the worker listens");
    }

    pub(crate) async fn ended(self) -> Result<(), RunError> {
        within(self.worker).await.expect("the worker does not panic")
    }

    /// Drops the worker where it stands.
    pub(crate) async fn dropped(self) {
        self.worker.abort();
        assert!(within(self.worker).await.is_err());
    }
}

/// Fails the test instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("the test hangs")
}
