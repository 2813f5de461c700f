//! What holds for every client at every moment, whatever the script.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use celeriac_proto::limits::{FRAME_BYTES_MAX_BEFORE_HELLO, HELLO_PREFIX_BYTES, PROTOCOL_VERSION};
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{
    ClientFrame, ErrorCode, ReportOutcome, TaskReport, Welcome, task_report,
};

/// What a connection has agreed to.
#[derive(Debug)]
pub(crate) struct Standing {
    said_hello: bool,
    welcome: Option<Welcome>,
    unanswered: HashSet<u64>,
    heard_at: Instant,
}

/// What holds over all connections of a client.
#[derive(Debug, Default)]
pub(crate) struct Laws {
    token: Option<String>,
    instance: Option<String>,
    /// Leases, and the kinds of reports on them that were answered.
    answered: HashSet<(u64, std::mem::Discriminant<task_report::Report>)>,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            said_hello: false,
            welcome: None,
            unanswered: HashSet::new(),
            heard_at: Instant::now(),
        }
    }
}

impl Standing {
    pub(crate) fn welcomed(&mut self, welcome: Welcome) {
        self.welcome = Some(welcome);
        self.heard_at = Instant::now();
    }

    pub(crate) fn is_welcome(&self) -> bool {
        self.welcome.is_some()
    }

    pub(crate) fn answered(&mut self, request_id: u64) {
        self.unanswered.remove(&request_id);
    }

    /// When silence of this client is too long.
    pub(crate) fn silent_at(&self) -> Option<Instant> {
        let welcome = self.welcome.as_ref().filter(|welcome| welcome.lease_ms > 0)?;
        Some(self.heard_at + Duration::from_millis(welcome.lease_ms))
    }

    fn frame_bytes_max(&self) -> usize {
        let limits = self.welcome.as_ref().and_then(|welcome| welcome.limits.as_ref());
        limits.map_or(FRAME_BYTES_MAX_BEFORE_HELLO, |limits| limits.frame_bytes_max as usize)
    }

    fn credit_max(&self) -> u32 {
        let limits = self.welcome.as_ref().and_then(|welcome| welcome.limits.as_ref());
        limits.map_or(u32::MAX, |limits| limits.credit_max)
    }
}

impl Laws {
    pub(crate) fn new(token: Option<String>) -> Self {
        Self { token, ..Self::default() }
    }

    /// Judges a frame that came.
    pub(crate) fn judge(
        &mut self,
        standing: &mut Standing,
        frame: &ClientFrame,
        bytes: &[u8],
    ) -> Result<(), String> {
        standing.heard_at = Instant::now();
        if bytes.len() > standing.frame_bytes_max() {
            let (sent, max) = (bytes.len(), standing.frame_bytes_max());
            return Err(format!("a frame of {sent} bytes, and {max} are allowed"));
        }
        if frame.request_id == 0 {
            return Err("a request has the id 0".into());
        }
        if !standing.unanswered.insert(frame.request_id) {
            return Err(format!(
                "another request with the id {} is not answered yet",
                frame.request_id
            ));
        }
        match &frame.body {
            Some(Body::Hello(hello)) if !standing.said_hello => {
                standing.said_hello = true;
                self.judge_hello(hello, bytes)
            }
            Some(Body::Hello(_)) => Err("Hello came twice on one connection".into()),
            None => Err("a frame has no body".into()),
            Some(_) if !standing.is_welcome() => {
                Err("a frame came before Welcome was there".into())
            }
            Some(Body::Credit(credit)) if credit.credit > standing.credit_max() => Err(format!(
                "a credit of {}, and {} is the most",
                credit.credit,
                standing.credit_max()
            )),
            Some(Body::Report(report)) => {
                report.reports.iter().try_for_each(|report| self.judge_report(report))
            }
            Some(_) => Ok(()),
        }
    }

    fn judge_hello(
        &mut self,
        hello: &celeriac_proto::wire::Hello,
        bytes: &[u8],
    ) -> Result<(), String> {
        if !(hello.protocol_min..=hello.protocol_max).contains(&PROTOCOL_VERSION) {
            return Err(format!(
                "Hello offers versions {} to {}",
                hello.protocol_min, hello.protocol_max
            ));
        }
        if let Some(token) = &self.token {
            if hello.token != *token {
                return Err("Hello lacks the token of the URL".into());
            }
            let place = bytes.windows(token.len()).position(|window| window == token.as_bytes());
            if place.is_none_or(|place| place + token.len() > HELLO_PREFIX_BYTES) {
                return Err(format!(
                    "the token is not within the first {HELLO_PREFIX_BYTES} bytes of Hello"
                ));
            }
        }
        let instance = self.instance.get_or_insert_with(|| hello.instance_id.clone());
        if *instance != hello.instance_id {
            return Err(format!(
                "the instance was `{instance}` and is `{}` now",
                hello.instance_id
            ));
        }
        Ok(())
    }

    fn judge_report(&self, report: &TaskReport) -> Result<(), String> {
        let kind = report.report.as_ref().ok_or("a report says nothing")?;
        if self.answered.contains(&(report.lease, std::mem::discriminant(kind))) {
            return Err(format!(
                "a report on lease {} was answered, and is sent again",
                report.lease
            ));
        }
        Ok(())
    }

    /// What was answered need not be said again. Progress may be reported many times.
    pub(crate) fn reported(&mut self, report: &TaskReport, outcome: &ReportOutcome) {
        let again = [
            ErrorCode::Overloaded,
            ErrorCode::Internal,
            ErrorCode::ShuttingDown,
            ErrorCode::DiskFull,
        ];
        if again.iter().any(|code| *code as i32 == outcome.code) {
            return;
        }
        match &report.report {
            None | Some(task_report::Report::Progress(_)) => {}
            Some(kind) => drop(self.answered.insert((report.lease, std::mem::discriminant(kind)))),
        }
    }
}
