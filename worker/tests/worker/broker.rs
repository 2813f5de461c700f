//! The fake broker of the worker's tests: sends exactly what the test tells it, and expects exactly
//! what the test expects.

use bytes::Bytes;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{
    Credit, Deliver, Delivery, Done, ErrorCode, Heartbeat, ReportOutcome, ReportReply, TaskReport,
    client_frame, server_frame,
};
use celeriac_worker::{RunError, WorkerBuilder};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use crate::fake_broker::{FakeBroker, Peer, within};

/// A result of more bytes is too large for this broker.
pub(crate) const RESULT_BYTES_MAX: u64 = 1_000;

impl FakeBroker {
    pub(crate) async fn start() -> Self {
        let mut broker = Self::bind().await;
        broker.limits.result_bytes_max = RESULT_BYTES_MAX;
        // Far above the time in which a panic prints its backtrace, during which this broker is
        // silent too.
        broker.heartbeat_ms = 2_000;
        broker.server_time_ms = 0;
        broker
    }

    /// The next connection of the worker, after its Hello. Welcome is not sent yet.
    pub(crate) async fn accept_hello(&self) -> Peer {
        let mut session = self.accept().await;
        session.receive_hello().await;
        session
    }

    /// The next connection, welcomed as a new session, and its credit.
    pub(crate) async fn welcome(&self) -> (Peer, u32) {
        let mut session = self.accept_hello().await;
        session.say_welcome(false, &[]).await;
        let credit = session.credit().await;
        (session, credit)
    }

    /// The next connection, welcomed as the old session with these leases.
    pub(crate) async fn resume(&self, leases: &[u64]) -> Peer {
        let mut session = self.accept_hello().await;
        assert_eq!(session.hello.session_id, "session-1");
        session.say_welcome(true, leases).await;
        session.credit().await;
        session
    }
}

impl Peer {
    pub(crate) async fn answer(&mut self, request_id: u64, body: server_frame::Body) {
        self.send(request_id, body).await.expect("the worker is there");
    }

    /// The latest heartbeat.
    pub(crate) fn heartbeat(&self) -> Heartbeat {
        self.heartbeats.last().copied().unwrap_or_default()
    }

    /// Expects Credit and confirms it.
    pub(crate) async fn credit(&mut self) -> u32 {
        let (request_id, body) = self.receive().await;
        let client_frame::Body::Credit(credit) = body else { panic!("{body:?} is no Credit") };
        self.answer(request_id, server_frame::Body::Done(Done {})).await;
        credit.credit
    }

    /// Expects Goodbye. A worker that holds no lease may send it at once, or first set its credit
    /// to 0.
    pub(crate) async fn goodbye(&mut self) {
        loop {
            let (request_id, body) = self.receive().await;
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
            match self.receive().await {
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

    /// Accepts the reports before an end, and returns the batch whose last report is the end. That
    /// batch is not answered.
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
    /// those in words. A worker reports a start only if the end does not follow soon after.
    pub(crate) async fn words_but_starts(&mut self, wanted: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < wanted {
            let mut reports = self.reports(1).await;
            reports.retain(|report| !matches!(report.report, Some(Report::Started(_))));
            taken.extend(reports);
        }
        words(&taken)
    }

    /// As [`Peer::reports`], in words.
    pub(crate) async fn words(&mut self, wanted: usize) -> Vec<String> {
        words(&self.reports(wanted).await)
    }
}

/// Reports in words, such as `1 started` and `1 complete 42`.
pub(crate) fn words(reports: &[TaskReport]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let word = |report: &TaskReport| {
        let what = match report.report.as_ref().expect("a report") {
            Report::Settle(_) => "settle".to_owned(),
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

    /// Drops the worker while it runs.
    pub(crate) async fn dropped(self) {
        self.worker.abort();
        assert!(within(self.worker).await.is_err());
    }
}
