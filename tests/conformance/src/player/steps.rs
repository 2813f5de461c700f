//! The steps of a script that wait for the client or answer it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use celeriac_proto::wire::ServerFrame;
use celeriac_proto::wire::server_frame::Body;
use prost_reflect::DynamicMessage;
use serde_json::Value as Json;

use super::{POLL_INTERVAL, Player, WELCOME_DELAY};
use crate::listener::send;
use crate::request::{Outcome, Place, Request, Wanted};
use crate::welcome;

impl Player {
    pub(super) async fn send_to(
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
            Err("the client has closed the connection".into())
        }
    }

    pub(super) async fn prints(&mut self, expected: &Json) -> Result<(), String> {
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

    pub(super) async fn expect(
        &mut self,
        name: &str,
        frame: &DynamicMessage,
    ) -> Result<(), String> {
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
            ("", []) => format!("the client sent no such `{}`, and nothing else", wanted.kind()),
            ("", waiting) => {
                format!("the client sent no such `{}`, but {}", wanted.kind(), waiting.join("; "))
            }
            (why, _) => format!("the client sent a different request: {why}"),
        }
    }

    /// The requests of the client that no step has named.
    fn left_over(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| !request.is_answered && !request.is_taken())
    }

    pub(super) async fn answer(
        &mut self,
        to: &str,
        frame: &DynamicMessage,
        extra: &[u8],
    ) -> Result<(), String> {
        self.show("B", frame);
        if frame.has_field_by_name("welcome") {
            // Frames that came together with Hello came before Welcome.
            while self.next_event(Instant::now() + WELCOME_DELAY).await? {}
        }
        let places =
            self.named.get(to).cloned().ok_or_else(|| format!("no step is named `{to}`"))?;
        let answer: ServerFrame = frame.transcode_to().map_err(|error| error.to_string())?;
        if let Some(outcomes) = outcomes_of(&answer) {
            self.set_outcomes(&places, outcomes)?;
            return self.settle().await;
        }
        let requests: BTreeSet<(u64, u64)> =
            places.into_iter().map(|(connection, id, _)| (connection, id)).collect();
        for (connection, id) in requests {
            self.requests.retain(|request| (request.connection, request.id) != (connection, id));
            let Some(body) = answer.body.clone() else {
                // A body that only a later protocol has.
                let frame = ServerFrame { request_id: id, body: None };
                self.connection(connection).state.answered(id);
                let write =
                    self.connection(connection).write.as_mut().ok_or("there is no connection")?;
                send(write, &frame, extra).await;
                continue;
            };
            self.reply(connection, id, welcome::completed(body), extra).await?;
        }
        Ok(())
    }

    fn set_outcomes(&mut self, places: &[Place], outcomes: Vec<Outcome>) -> Result<(), String> {
        if outcomes.len() != places.len() {
            return Err(format!(
                "the script has {} outcomes for {} items",
                outcomes.len(),
                places.len()
            ));
        }
        for (&(connection, id, place), outcome) in places.iter().zip(outcomes) {
            if let Some(request) = self.request(connection, id) {
                request.set_outcome(place, outcome);
            }
        }
        Ok(())
    }

    fn request(&mut self, connection: u64, id: u64) -> Option<&mut Request> {
        self.requests
            .iter_mut()
            .find(|request| (request.connection, request.id) == (connection, id))
    }

    pub(super) fn cut(&mut self) -> Result<(), String> {
        let number = self.current;
        let connection = self.connections.get_mut(&number).ok_or("there is no connection")?;
        (connection.write, connection.is_cut) = (None, true);
        self.requests.retain(|request| request.connection != number);
        Ok(())
    }

    pub(super) async fn closes(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        let number = self.current;
        while !self.connection(number).has_ended {
            self.wait(deadline, |_| "the client keeps the connection open".into()).await?;
        }
        self.connection(number).write = None;
        self.requests.retain(|request| request.connection != number);
        Ok(())
    }

    pub(super) async fn quiet(&mut self, span: Duration) -> Result<(), String> {
        let until = Instant::now() + span;
        while self.next_event(until).await? {
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

    pub(super) async fn exits(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.subject.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the subject ended with a failure: {status}")),
                None if Instant::now() >= deadline => return Err("the subject does not end".into()),
                None => drop(self.next_event(Instant::now() + POLL_INTERVAL).await?),
            }
        }
    }
}

/// The outcomes of the items, if the answer is one to a batch.
fn outcomes_of(answer: &ServerFrame) -> Option<Vec<Outcome>> {
    match &answer.body {
        Some(Body::SubmitReply(reply)) => {
            Some(reply.outcomes.iter().cloned().map(Outcome::Submit).collect())
        }
        Some(Body::ReportReply(reply)) => {
            Some(reply.outcomes.iter().copied().map(Outcome::Report).collect())
        }
        _ => None,
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
