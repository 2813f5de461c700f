//! Tests of access: a whole broker with an access file, and clients over streams in memory.

mod cursors;
mod files;
mod matrix;
mod refusals;
mod sessions;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use celeriac_proto::FrameCodec;
use celeriac_proto::limits::PROTOCOL_VERSION;
use celeriac_proto::wire::{
    self, ClientFrame, ErrorCode, Hello, ServerFrame, client_frame, server_frame,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::codec::{Decoder, Encoder};

use super::{Access, NewToken};
use crate::clock::{Clock, moment};
use crate::config::AuditWhat;
use crate::descriptors::Places;
use crate::lobby::{Peer, Via};
use crate::server::{Broker, Running};
use crate::session::{Decoding, Shared};
use crate::{Config, commit, session};

use client_frame::Body as Ask;
use server_frame::Body as Answer;

/// No answer takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// An entry of an access file, and the token that it is for.
struct Pass {
    token: String,
    entry: String,
}

/// An entry with these lines beside the name and the key.
fn pass(name: &str, lines: &str) -> Pass {
    let new = NewToken::draw();
    let (id, hash) = (&new.id, &new.sha256);
    let entry =
        format!("[[token]]\nname = \"{name}\"\nid = \"{id}\"\nsha256 = \"{hash}\"\n{lines}\n");
    Pass { token: new.token, entry }
}

const EVERYTHING: &str = "roles = [\"producer\", \"worker\", \"reader\", \"operator\"]\nqueues = [\"*\"]\nnames = [\"*\"]";

/// A broker with an access file.
struct Served {
    folder: TempDir,
    shared: Arc<Shared>,
    latest: AtomicU64,
}

impl Served {
    async fn with(passes: &[&Pass]) -> Self {
        Self::with_config(passes, |_| ()).await
    }

    async fn with_config(passes: &[&Pass], change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut config = Config::new(folder.path().join("data"));
        std::fs::create_dir(folder.path().join("backups")).expect("a new folder");
        config.access_file = Some(folder.path().join("access.toml"));
        config.backup_folder = Some(folder.path().join("backups"));
        config.audit_file = Some(folder.path().join("audit"));
        config.audit = AuditWhat::Operators;
        change(&mut config);
        write(&folder, passes);
        let broker = Broker::open(config).await.expect("the access file is right");
        let places = Places { guests: 64, connections: 1_000 };
        let Running { shared, .. } =
            broker.start(places, Decoding::Apart, commit::start).expect("the broker starts");
        let access = shared.access.clone().expect("the broker has an access file");
        tokio::spawn(async move { access.keep_fresh().await });
        Self { folder, shared, latest: AtomicU64::new(0) }
    }

    fn access(&self) -> &Access {
        self.shared.access.as_ref().expect("the broker has an access file")
    }

    /// Writes another access file and reads it.
    async fn change(&self, passes: &[&Pass]) {
        write(&self.folder, passes);
        let prepared = self.access().prepare().await.expect("the access file is right");
        self.access().take(prepared);
    }

    fn audit_file(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    /// The lines of the audit file, once it has this many.
    async fn audit_lines(&self, count: usize) -> Vec<String> {
        let read = async {
            loop {
                let text = std::fs::read_to_string(self.audit_file()).expect("the file is there");
                let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                if lines.len() >= count {
                    return lines;
                }
                // The thread that writes the file has no other sign of its progress.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the lines are written")
    }

    /// The lines of the audit file, once all are written.
    async fn all_audit_lines(&self) -> Vec<String> {
        self.access().written().await;
        self.audit_lines(0).await
    }

    /// A connection before its Hello.
    async fn open_connection(&self, identities: &[&str]) -> Caller {
        self.open_via(Via::Protocol, identities).await
    }

    async fn open_via(&self, via: Via, identities: &[&str]) -> Caller {
        let connection = self.latest.fetch_add(1, Ordering::Relaxed) + 1;
        let (stream, theirs) = tokio::io::duplex(1 << 20);
        let (read, write) = tokio::io::split(theirs);
        let guest = self.shared.lobby.enter(connection).await;
        let mut peer = Peer::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 7)));
        peer.remote.via = via;
        peer.identities = identities.iter().map(|name| (*name).to_owned()).collect();
        tokio::spawn(session::run(read, write, peer, guest, self.shared.clone()));
        Caller { stream, bytes: BytesMut::new(), pushed: Vec::new(), latest: 0 }
    }

    async fn call(&self, pass: &Pass) -> Caller {
        self.connect(pass, None).await.expect("the broker knows the token")
    }

    /// A worker of these queues, which runs tasks of this name.
    async fn work(&self, pass: &Pass, queues: &[&str], name: &str) -> Result<Caller, wire::Error> {
        self.connect(pass, Some(worker(queues, name))).await
    }

    async fn connect(
        &self,
        pass: &Pass,
        worker: Option<wire::WorkerInfo>,
    ) -> Result<Caller, wire::Error> {
        let mut caller = self.open_connection(&[]).await;
        match caller.hello(&pass.token, worker).await {
            Answer::Welcome(_) => Ok(caller),
            Answer::Error(error) => Err(error),
            other => panic!("an answer to Hello: {other:?}"),
        }
    }
}

fn write(folder: &TempDir, passes: &[&Pass]) {
    let text: String = passes.iter().map(|pass| pass.entry.as_str()).collect();
    std::fs::write(folder.path().join("access.toml"), text).expect("the folder takes a file");
}

fn worker(queues: &[&str], name: &str) -> wire::WorkerInfo {
    let queue = |queue: &&str| wire::QueueSubscription { queue: (*queue).to_owned(), weight: 1 };
    wire::WorkerInfo {
        queues: queues.iter().map(queue).collect(),
        task_names: vec![name.to_owned()],
        concurrency: 1,
        ..Default::default()
    }
}

/// A client on the raw wire.
struct Caller {
    stream: DuplexStream,
    bytes: BytesMut,
    /// What came and answers no request.
    pushed: Vec<Answer>,
    latest: u64,
}

impl Caller {
    async fn hello(&mut self, token: &str, worker: Option<wire::WorkerInfo>) -> Answer {
        self.resume(token, worker, "").await
    }

    /// Says Hello with the id of a session.
    async fn resume(
        &mut self,
        token: &str,
        worker: Option<wire::WorkerInfo>,
        session_id: &str,
    ) -> Answer {
        let hello = Hello {
            protocol_min: PROTOCOL_VERSION,
            protocol_max: PROTOCOL_VERSION,
            client_name: "test".to_owned(),
            client_version: "1".to_owned(),
            instance_id: "test".to_owned(),
            token: token.to_owned(),
            session_id: session_id.to_owned(),
            worker,
            ..Hello::default()
        };
        self.ask(Ask::Hello(hello)).await
    }

    /// Sends a request, and returns its answer.
    async fn ask(&mut self, body: Ask) -> Answer {
        self.latest += 1;
        let request_id = self.latest;
        self.send(request_id, body).await;
        loop {
            let frame = self.next().await.expect("the request is answered");
            match frame.body {
                Some(body) if frame.request_id == request_id => return body,
                body => self.pushed.extend(body),
            }
        }
    }

    async fn send(&mut self, request_id: u64, body: Ask) {
        let mut bytes = BytesMut::new();
        let frame = ClientFrame { request_id, timeout_ms: 1, body: Some(body) };
        FrameCodec::<ServerFrame, ClientFrame>::new(usize::MAX)
            .encode(frame, &mut bytes)
            .expect("a frame can be encoded");
        self.stream.write_all(&bytes).await.expect("the session reads");
    }

    /// The next frame; `None` when the connection has ended.
    async fn next(&mut self) -> Option<ServerFrame> {
        let mut codec = FrameCodec::<ServerFrame, ClientFrame>::new(usize::MAX);
        let next = async {
            loop {
                if let Some(frame) = codec.decode(&mut self.bytes).expect("frames are whole") {
                    return Some(frame);
                }
                if self.stream.read_buf(&mut self.bytes).await.expect("the session answers") == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the broker says something in time")
    }

    /// Submits tasks, and returns the code of each.
    async fn submit(&mut self, tasks: &[(&str, &str, &str)]) -> Vec<ErrorCode> {
        let task = |(id, queue, name): &(&str, &str, &str)| wire::Task {
            id: (*id).to_owned(),
            queue: (*queue).to_owned(),
            name: (*name).to_owned(),
            ..Default::default()
        };
        let submit = wire::Submit { tasks: tasks.iter().map(task).collect() };
        match self.ask(Ask::Submit(submit)).await {
            Answer::SubmitReply(reply) => {
                let code = |outcome: wire::SubmitOutcome| {
                    outcome.error.map_or(ErrorCode::Unspecified, |error| error.code())
                };
                reply.outcomes.into_iter().map(code).collect()
            }
            Answer::Error(error) => vec![error.code(); tasks.len()],
            other => panic!("an answer to Submit: {other:?}"),
        }
    }

    /// The states of these ids.
    async fn states(&mut self, ids: &[&str]) -> Vec<wire::TaskState> {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        match self.ask(Ask::Get(wire::Get { ids, ..Default::default() })).await {
            Answer::GetReply(reply) => reply.tasks.iter().map(wire::TaskInfo::state).collect(),
            other => panic!("an answer to Get: {other:?}"),
        }
    }
}

fn code_of(answer: &Answer) -> ErrorCode {
    match answer {
        Answer::Error(error) => error.code(),
        _ => ErrorCode::Unspecified,
    }
}
