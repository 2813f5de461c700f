//! A broker in one thread and without sockets, for measurements: it takes frames as bytes and gives
//! frames as bytes. Each of the three stages between them is a separate function, so that a profile
//! can tell them apart.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use celeriac_machine::command::{Command, ConnectionKey, Now};
use celeriac_machine::{Effects, Machine, MachineConfig};
use celeriac_proto::FrameCodec;
use celeriac_proto::wire::{self, ClientFrame, ServerFrame};
use celeriac_store::Store;
use tokio::sync::mpsc;
use tokio_util::codec::Decoder;

use crate::clock::Clock;
use crate::commit::{self, Batch, Batches, CommitConfig, Commits, Committer};
use crate::config::Config;
use crate::encode;
use crate::send_queue::{Frames, SendQueue};
use crate::session::{self, decode};
use crate::tally::Tally;

/// The most entries of its send queue that a connection may leave unread.
const ENTRIES_UNREAD_MAX: usize = 100_000;

/// The fixed time of this broker.
const NOW: Now = Now { wall: 1_700_000_000_000, mono: 0 };

/// A broker for measurements, see the head of this module.
pub struct Inside {
    machine: Machine,
    committer: Committer,
    /// The other ends of the committer's channels. They are unused but must stay open.
    _channels: (Commits, Batches),
    bounds: decode::Bounds,
    codec: FrameCodec<ClientFrame, ServerFrame>,
    commands: Vec<Command>,
    batch: Batch,
    frames: Vec<mpsc::Receiver<Frames>>,
}

impl Inside {
    /// A broker over a new store.
    pub fn over(store: Store) -> Self {
        let config = Config::default();
        let machine = Machine::new(MachineConfig {
            lease_ms: config.lease_ms,
            result_ttl_ms: config.result_ttl_ms,
            result_bytes_max: config.result_bytes_max,
            leased_bytes_max: u64::MAX,
            seed: 1,
        });
        let (committer, commits, batches) = commit::over(
            store,
            CommitConfig {
                frame_bytes_max: config.frame_bytes_max,
                result_bytes_max: config.result_bytes_max,
                timeout: Duration::from_millis(config.commit_timeout_ms),
                limits: encode::limits(&config),
            },
            Arc::new(Tally::new(Clock::new(), Duration::ZERO)),
        );
        Self {
            machine,
            committer,
            _channels: (commits, batches),
            bounds: decode::Bounds::of(&config),
            codec: FrameCodec::new(config.frame_bytes_max),
            commands: Vec::new(),
            batch: Batch::default(),
            frames: Vec::new(),
        }
    }

    /// A new connection after its handshake. Its Welcome is its first answer.
    pub fn connect(&mut self, hello: wire::Hello) -> ConnectionKey {
        let connection = self.frames.len() as ConnectionKey;
        let (queue, frames) = SendQueue::new(ENTRIES_UNREAD_MAX);
        self.frames.push(frames);
        self.batch.opened.push((connection, queue));
        let connect = decode::hello(hello, connection, 1).expect("the Hello is valid");
        self.commands.push(Command::Connect(Box::new(connect)));
        connection
    }

    /// The first stage: whole frames to commands.
    #[inline(never)]
    pub fn decode(&mut self, connection: ConnectionKey, frames: &mut BytesMut) {
        while let Some(frame) = self.codec.decode(frames).expect("the frames are valid") {
            self.commands.push(session::client_command(frame, connection, &self.bounds));
        }
    }

    /// The second: commands to effects.
    #[inline(never)]
    pub fn apply(&mut self) {
        let mut fx = Effects { list: std::mem::take(&mut self.batch.effects) };
        for command in self.commands.drain(..) {
            self.machine.apply(NOW, command, &mut fx);
        }
        self.machine.tick(NOW, &mut fx);
        self.batch.effects = fx.list;
    }

    /// The third: effects to records on the disk and frames on their way.
    #[inline(never)]
    pub fn commit(&mut self) {
        let committed =
            self.committer.commit(std::mem::take(&mut self.batch)).expect("the disk works");
        self.committer.answer(committed);
    }

    /// Appends the frames that are on their way to a connection.
    pub fn take(&mut self, connection: ConnectionKey, frames: &mut BytesMut) {
        while let Ok(sent) = self.frames[connection as usize].try_recv() {
            frames.unsplit(sent.bytes);
        }
    }
}
