//! The fake broker of the client's tests: accepts and refuses clients, and answers submits and
//! requests for states.

use celeriac_client::{Client, ClientBuilder};
use celeriac_proto::wire::{self, client_frame, server_frame};

pub(crate) use crate::fake_broker::{FakeBroker, Peer, SOON};

impl FakeBroker {
    pub(crate) fn address(&self) -> String {
        self.url().trim_start_matches("celeriac://").to_owned()
    }

    /// A client and the broker's end of its connection.
    pub(crate) async fn client(&self) -> (Client, Peer) {
        self.client_of(Client::builder(self.url()).timeout(SOON)).await
    }

    pub(crate) async fn client_of(&self, builder: ClientBuilder) -> (Client, Peer) {
        let (client, peer) = tokio::join!(builder.connect(), self.welcome());
        (client.expect("the broker accepted it"), peer)
    }

    /// Accepts a connection and its client.
    pub(crate) async fn welcome(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.receive_hello().await;
        let resumed = !peer.hello.session_id.is_empty();
        peer.say_welcome(resumed, &[]).await;
        peer
    }

    /// Accepts a connection and refuses its client.
    pub(crate) async fn refuse(&self, code: wire::ErrorCode) {
        let mut peer = self.accept().await;
        let id = peer.receive_hello().await;
        peer.answer(id, refusal(code)).await;
    }
}

impl Peer {
    /// Answers so many further heartbeats. No other request may come meanwhile.
    pub(crate) async fn answer_heartbeats(&mut self, count: usize) {
        self.heartbeats(self.heartbeats.len() + count).await;
    }

    /// Answers a request. The test itself notices a client that is gone, where it matters.
    pub(crate) async fn answer(&mut self, request_id: u64, body: server_frame::Body) {
        let _ = self.send(request_id, body).await;
    }

    /// Sends any bytes.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.write(bytes).await;
    }

    /// Receives a submit and returns its tasks.
    pub(crate) async fn receive_submit(&mut self) -> (u64, Vec<wire::Task>) {
        match self.receive().await {
            (id, client_frame::Body::Submit(submit)) => (id, submit.tasks),
            (_, other) => panic!("a submit and not {other:?}"),
        }
    }

    /// Answers a submit: every task was created.
    pub(crate) async fn accept_submit(&mut self, request_id: u64, tasks: usize) {
        let outcome = wire::SubmitOutcome {
            kind: wire::submit_outcome::Kind::Created.into(),
            generation: 1,
            state: wire::TaskState::Queued.into(),
            ..wire::SubmitOutcome::default()
        };
        self.answer(request_id, submit_reply(vec![outcome; tasks])).await;
    }

    /// Receives a request for states and answers it.
    pub(crate) async fn answer_get(&mut self, tasks: Vec<wire::TaskInfo>) -> Vec<String> {
        match self.receive().await {
            (id, client_frame::Body::Get(get)) => {
                self.answer(
                    id,
                    server_frame::Body::GetReply(wire::GetReply { tasks, ..Default::default() }),
                )
                .await;
                get.ids
            }
            (_, other) => panic!("a get and not {other:?}"),
        }
    }
}

pub(crate) fn submit_reply(outcomes: Vec<wire::SubmitOutcome>) -> server_frame::Body {
    server_frame::Body::SubmitReply(wire::SubmitReply { outcomes })
}

pub(crate) fn error(code: wire::ErrorCode) -> wire::Error {
    wire::Error {
        code: code.into(),
        message: "because".into(),
        retryable: false,
        retry_after_ms: 0,
    }
}

pub(crate) fn refusal(code: wire::ErrorCode) -> server_frame::Body {
    server_frame::Body::Error(error(code))
}

pub(crate) fn info(id: &str, state: wire::TaskState, version: u32) -> wire::TaskInfo {
    wire::TaskInfo {
        id: id.into(),
        state: state.into(),
        generation: 1,
        version,
        submitted_at_ms: 1,
        ..Default::default()
    }
}
