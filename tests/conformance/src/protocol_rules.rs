//! The rules of PROTOCOL.md that every client must follow at every moment, whatever the script
//! says.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use celeriac_proto::limits::{FRAME_BYTES_MAX_BEFORE_HELLO, HELLO_PREFIX_BYTES, PROTOCOL_VERSION};
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{
    ClientFrame, ErrorCode, ReportOutcome, TaskReport, Welcome, task_report,
};

/// What client and broker have said on one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    said_hello: bool,
    welcome: Option<Welcome>,
    unanswered: HashSet<u64>,
    heard_at: Instant,
}

/// The rules for one client, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct ProtocolRules {
    token: Option<String>,
    instance: Option<String>,
    /// Leases, and the kinds of reports on them that were answered.
    answered: HashSet<(u64, std::mem::Discriminant<task_report::Report>)>,
}

impl Default for ConnectionState {
    fn default() -> Self {
        Self {
            said_hello: false,
            welcome: None,
            unanswered: HashSet::new(),
            heard_at: Instant::now(),
        }
    }
}

impl ConnectionState {
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

    /// The moment from which the silence of this client is too long.
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

impl ProtocolRules {
    pub(crate) fn new(token: Option<String>) -> Self {
        Self { token, ..Self::default() }
    }

    /// Checks one frame of the client.
    pub(crate) fn check(
        &mut self,
        state: &mut ConnectionState,
        frame: &ClientFrame,
        bytes: &[u8],
    ) -> Result<(), String> {
        state.heard_at = Instant::now();
        if bytes.len() > state.frame_bytes_max() {
            let (sent, max) = (bytes.len(), state.frame_bytes_max());
            return Err(format!(
                "the client sent a frame of {sent} bytes; {max} bytes are allowed"
            ));
        }
        if frame.request_id == 0 {
            return Err("the client sent a request with the id 0".into());
        }
        if !state.unanswered.insert(frame.request_id) {
            return Err(format!(
                "the client sent a second request with the id {} before the first was answered",
                frame.request_id
            ));
        }
        match &frame.body {
            Some(Body::Hello(hello)) if !state.said_hello => {
                state.said_hello = true;
                self.check_hello(hello, bytes)
            }
            Some(Body::Hello(_)) => Err("the client sent Hello twice on one connection".into()),
            None => Err("the client sent a frame without a body".into()),
            Some(_) if !state.is_welcome() => {
                Err("the client sent a frame before it had Welcome".into())
            }
            Some(Body::Credit(credit)) if credit.credit > state.credit_max() => Err(format!(
                "the client sent a credit of {}; the most is {}",
                credit.credit,
                state.credit_max()
            )),
            Some(Body::Report(report)) => {
                report.reports.iter().try_for_each(|report| self.check_report(report))
            }
            Some(_) => Ok(()),
        }
    }

    fn check_hello(
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
                return Err("Hello does not have the token of the URL".into());
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
                "Hello names the instance `{}`; before it was `{instance}`",
                hello.instance_id
            ));
        }
        Ok(())
    }

    fn check_report(&self, report: &TaskReport) -> Result<(), String> {
        let kind = report.report.as_ref().ok_or("the client sent an empty report")?;
        if self.answered.contains(&(report.lease, std::mem::discriminant(kind))) {
            return Err(format!(
                "the client sent a report on lease {} again, although it was answered",
                report.lease
            ));
        }
        Ok(())
    }

    /// Notes the answer to a report: the client must not send this report again. Progress may be
    /// reported many times.
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
