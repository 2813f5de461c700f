//! A broker played by a test: a listener, and connections whose frames the test reads and answers
//! itself. The tests of the client and of the worker share this file. Each of them adds what it
//! needs in a `broker` module of its own, `Peer::answer` among it: the client's tests ignore a peer
//! that is gone, and the worker's tests fail.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use celeriac_proto::FrameCodec;
use celeriac_proto::wire::{self, client_frame, server_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, Encoder};

/// Longer than any step of these tests takes, unless it hangs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

const FRAME_BYTES_MAX: usize = 1 << 24;

pub(crate) struct FakeBroker {
    listener: TcpListener,
    /// The broker's words in its next Welcome.
    pub(crate) limits: wire::Limits,
    pub(crate) heartbeat_ms: u64,
    pub(crate) server_time_ms: i64,
}

/// The broker's end of one connection.
pub(crate) struct Peer {
    stream: TcpStream,
    codec: FrameCodec<wire::ClientFrame, wire::ServerFrame>,
    incoming: BytesMut,
    welcome: wire::Welcome,
    /// The client's Hello; empty before it came.
    pub(crate) hello: wire::Hello,
    /// The heartbeats that were answered, the latest last.
    pub(crate) heartbeats: Vec<wire::Heartbeat>,
}

impl FakeBroker {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let limits = wire::Limits::default();
        Self { listener, limits, heartbeat_ms: 60_000, server_time_ms: 1_000_000 }
    }

    pub(crate) fn url(&self) -> String {
        format!("celeriac://{}", self.listener.local_addr().expect("it is bound"))
    }

    /// Accepts a connection and sends nothing.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = within(self.listener.accept()).await.expect("it accepts");
        let welcome = wire::Welcome {
            protocol: 1,
            session_id: "session-1".to_owned(),
            heartbeat_ms: self.heartbeat_ms,
            lease_ms: 15_000,
            server_time_ms: self.server_time_ms,
            limits: Some(self.limits),
            ..Default::default()
        };
        Peer {
            stream,
            codec: FrameCodec::new(FRAME_BYTES_MAX),
            incoming: BytesMut::new(),
            welcome,
            hello: wire::Hello::default(),
            heartbeats: Vec::new(),
        }
    }
}

impl Peer {
    /// Receives Hello, which is the first frame, and returns its request id.
    pub(crate) async fn receive_hello(&mut self) -> u64 {
        let (id, client_frame::Body::Hello(hello)) = self.receive().await else {
            panic!("the first frame is Hello")
        };
        assert_eq!(id, 1);
        self.hello = hello;
        id
    }

    /// Answers Hello: the client has these leases.
    pub(crate) async fn say_welcome(&mut self, resumed: bool, leases: &[u64]) {
        let leases = leases.to_vec();
        let welcome = wire::Welcome { resumed, leases, ..self.welcome.clone() };
        self.answer(1, server_frame::Body::Welcome(welcome)).await;
    }

    /// The next request. Heartbeats are answered and noted.
    pub(crate) async fn receive(&mut self) -> (u64, client_frame::Body) {
        self.next().await.expect("the client sends a request")
    }

    /// The next request; `None` when the client closed the connection.
    pub(crate) async fn next(&mut self) -> Option<(u64, client_frame::Body)> {
        loop {
            match self.frame().await? {
                (id, client_frame::Body::Heartbeat(beat)) => self.answer_heartbeat(id, beat).await,
                request => return Some(request),
            }
        }
    }

    /// Answers heartbeats until so many have come on this connection. No other request may come.
    pub(crate) async fn heartbeats(&mut self, wanted: usize) {
        while self.heartbeats.len() < wanted {
            match self.frame().await {
                Some((id, client_frame::Body::Heartbeat(beat))) => {
                    self.answer_heartbeat(id, beat).await
                }
                other => panic!("only heartbeats, and not {other:?}"),
            }
        }
    }

    async fn answer_heartbeat(&mut self, id: u64, beat: wire::Heartbeat) {
        self.heartbeats.push(beat);
        let reply = wire::HeartbeatReply { server_time_ms: self.welcome.server_time_ms };
        // The client may have closed the connection; the next read says so.
        let _ = self.send(id, server_frame::Body::HeartbeatReply(reply)).await;
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
            match within(self.stream.read_buf(&mut self.incoming)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Sends a frame without a request.
    pub(crate) async fn push(&mut self, body: server_frame::Body) {
        self.answer(0, body).await;
    }

    /// Sends a frame. Fails when the client is gone.
    pub(crate) async fn send(
        &mut self,
        request_id: u64,
        body: server_frame::Body,
    ) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        self.codec
            .encode(wire::ServerFrame { request_id, body: Some(body) }, &mut bytes)
            .expect("it is short");
        self.write(&bytes).await
    }

    /// Sends any bytes. Fails when the client is gone.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

/// Fails the test instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("the test hangs")
}
