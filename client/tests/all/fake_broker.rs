//! A broker by hand: a listener, and connections whose frames the test reads and answers itself.

use std::time::Duration;

use bytes::BytesMut;
use celeriac_client::{Client, ClientBuilder};
use celeriac_proto::FrameCodec;
use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, Encoder};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct FakeBroker {
    listener: TcpListener,
    pub(crate) limits: wire::Limits,
    pub(crate) heartbeat_ms: u64,
}

/// One connection.
pub(crate) struct Peer {
    stream: TcpStream,
    codec: FrameCodec<wire::ClientFrame, wire::ServerFrame>,
    incoming: BytesMut,
    /// As the client said it; empty before it did.
    pub(crate) hello: wire::Hello,
}

impl FakeBroker {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self { listener, limits: wire::Limits::default(), heartbeat_ms: 60_000 }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().expect("it is bound").to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("celeriac://{}", self.address())
    }

    /// A client and the broker's end of its connection.
    pub(crate) async fn client(&self) -> (Client, Peer) {
        self.client_of(Client::builder(self.url()).timeout(SOON)).await
    }

    pub(crate) async fn client_of(&self, builder: ClientBuilder) -> (Client, Peer) {
        let (client, peer) = tokio::join!(builder.connect(), self.welcome());
        (client.expect("it was let in"), peer)
    }

    /// Accepts a connection and says nothing.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.expect("it accepts");
        let codec = FrameCodec::new(1 << 24);
        Peer { stream, codec, incoming: BytesMut::new(), hello: wire::Hello::default() }
    }

    /// Accepts a connection and lets it in.
    pub(crate) async fn welcome(&self) -> Peer {
        let mut peer = self.accept().await;
        let id = peer.receive_hello().await;
        let resumed = !peer.hello.session_id.is_empty();
        let welcome = wire::Welcome {
            protocol: 1,
            session_id: "session-1".into(),
            resumed,
            heartbeat_ms: self.heartbeat_ms,
            lease_ms: 15_000,
            server_time_ms: 1_000_000,
            limits: Some(self.limits),
            ..Default::default()
        };
        peer.answer(id, server_frame::Body::Welcome(welcome)).await;
        peer
    }

    /// Accepts a connection and refuses it.
    pub(crate) async fn refuse(&self, code: wire::ErrorCode) {
        let mut peer = self.accept().await;
        let id = peer.receive_hello().await;
        peer.answer(id, refusal(code)).await;
    }
}

impl Peer {
    pub(crate) async fn receive_hello(&mut self) -> u64 {
        let (id, client_frame::Body::Hello(hello)) = self.receive().await else {
            panic!("the first frame is Hello")
        };
        self.hello = hello;
        id
    }

    /// The next request. Heartbeats are answered and counted.
    pub(crate) async fn receive(&mut self) -> (u64, client_frame::Body) {
        self.next().await.expect("the client sends a request")
    }

    /// The next request; `None` when the client closed.
    pub(crate) async fn next(&mut self) -> Option<(u64, client_frame::Body)> {
        loop {
            match self.frame().await? {
                (id, client_frame::Body::Heartbeat(_)) => self.answer_heartbeat(id).await,
                request => return Some(request),
            }
        }
    }

    /// Answers so many heartbeats; nothing else may come meanwhile.
    pub(crate) async fn answer_heartbeats(&mut self, count: u32) {
        for _ in 0..count {
            match self.frame().await {
                Some((id, client_frame::Body::Heartbeat(_))) => self.answer_heartbeat(id).await,
                other => panic!("only heartbeats, and not {other:?}"),
            }
        }
    }

    async fn answer_heartbeat(&mut self, id: u64) {
        let reply = wire::HeartbeatReply { server_time_ms: 1_000_000 };
        self.answer(id, server_frame::Body::HeartbeatReply(reply)).await;
    }

    async fn frame(&mut self) -> Option<(u64, client_frame::Body)> {
        loop {
            if let Some(frame) =
                self.codec.decode(&mut self.incoming).expect("a client's frames are good")
            {
                return Some((
                    frame.request_id,
                    frame.body.expect("a client's frames have bodies"),
                ));
            }
            match self.stream.read_buf(&mut self.incoming).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn answer(&mut self, request_id: u64, body: server_frame::Body) {
        let mut bytes = BytesMut::new();
        self.codec
            .encode(wire::ServerFrame { request_id, body: Some(body) }, &mut bytes)
            .expect("it is short");
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn push(&mut self, body: server_frame::Body) {
        self.answer(0, body).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // A client that is gone is for the test to notice, where it matters.
        let _ = self.stream.write_all(bytes).await;
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
            error: None,
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
