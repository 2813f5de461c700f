//! What the client sends: the player checks each frame and answers by itself what every broker
//! answers.

use std::time::Instant;

use celeriac_proto::wire::client_frame::Body as Asked;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{ClientFrame, Done, HeartbeatReply, ServerFrame};

use super::{Connection, POLL_INTERVAL, Player};
use crate::listener::{Event, send};
use crate::protocol_rules::ConnectionState;
use crate::request::Request;

impl Player {
    /// Waits for the next event until this time. False when none came.
    pub(super) async fn next_event(&mut self, until: Instant) -> Result<bool, String> {
        let waited = tokio::time::timeout_at(until.into(), self.events.recv()).await;
        let Ok(Some(event)) = waited else {
            self.heartbeats_come()?;
            return Ok(false);
        };
        self.handle_event(event).await?;
        self.heartbeats_come()?;
        Ok(true)
    }

    /// Waits for the next event within the time of a step. The error says what the step waits for.
    pub(super) async fn wait(
        &mut self,
        deadline: Instant,
        what: impl FnOnce(&Self) -> String,
    ) -> Result<(), String> {
        if Instant::now() >= deadline {
            return Err(what(self));
        }
        let came = self.next_event(deadline.min(Instant::now() + POLL_INTERVAL)).await?;
        // The last event may be the one that the step waits for.
        match self.subject.ended() {
            Some(status) if !came => Err(format!("the subject has ended: {status}")),
            _ => Ok(()),
        }
    }

    fn heartbeats_come(&self) -> Result<(), String> {
        let Some(connection) = self.connections.get(&self.current) else { return Ok(()) };
        let is_open = !connection.has_ended && !connection.is_cut && connection.write.is_some();
        match connection.state.silent_at().filter(|_| is_open) {
            Some(silent_at) if Instant::now() > silent_at => {
                Err("the client sent no heartbeat for `lease_ms`".into())
            }
            _ => Ok(()),
        }
    }

    async fn handle_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Connected(number, write) => {
                let state = ConnectionState::default();
                let connection = Connection {
                    write: Some(write),
                    state,
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
                return Err(format!("the client sent bytes that are no frame: {why}"));
            }
            Event::NoFrame(..) => {}
            Event::Frame(number, ..) if self.connection(number).is_cut => {}
            Event::Frame(number, frame, bytes) => {
                return self.handle_frame(number, *frame, &bytes).await;
            }
            Event::Line(line) => {
                self.show("prints", &line);
                let line = serde_json::from_str(&line)
                    .map_err(|_| format!("the subject printed a line that is no JSON: {line}"))?;
                self.lines.push(line);
            }
        }
        Ok(())
    }

    pub(super) fn connection(&mut self, number: u64) -> &mut Connection {
        self.connections.get_mut(&number).expect("what comes is of a connection that was told of")
    }

    async fn handle_frame(
        &mut self,
        number: u64,
        frame: ClientFrame,
        bytes: &[u8],
    ) -> Result<(), String> {
        let mut request = Request::new(number, frame, &self.bodies);
        self.show("C", &request.shown());
        let connection = self.connections.get_mut(&number).expect("it was told of");
        self.rules.check(&mut connection.state, &request.frame, bytes)?;
        match &request.frame.body {
            Some(Asked::Hello(_)) => self.current = number,
            Some(Asked::Heartbeat(_)) => {
                let reply =
                    Body::HeartbeatReply(HeartbeatReply { server_time_ms: 1_790_000_000_000 });
                return self.reply(number, request.id, reply, &[]).await;
            }
            Some(Asked::Credit(_) | Asked::Unwait(_) | Asked::Unwatch(_) | Asked::Goodbye(_)) => {
                // A Goodbye still counts as a frame where the script expects none.
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

    /// Answers every batch whose items all have an outcome.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        while let Some(place) = self.requests.iter().position(|request| request.answer().is_some())
        {
            let request = self.requests.remove(place);
            let body = request.answer().expect("it was there");
            if let (Some(Asked::Report(report)), Body::ReportReply(reply)) =
                (&request.frame.body, &body)
            {
                let pairs = report.reports.iter().zip(&reply.outcomes);
                pairs.for_each(|(report, outcome)| self.rules.reported(report, outcome));
            }
            self.reply(request.connection, request.id, body, &[]).await?;
        }
        Ok(())
    }

    pub(super) async fn reply(
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
        connection.state.answered(request_id);
        if let Body::Welcome(welcome) = &body {
            connection.state.welcomed(welcome.clone());
        }
        let frame = ServerFrame { request_id, body: Some(body) };
        if let Some(write) = &mut connection.write {
            // When the client has closed the connection, the next step finds it.
            send(write, &frame, extra).await;
        }
        Ok(())
    }
}
