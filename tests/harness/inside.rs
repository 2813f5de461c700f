//! Everything that tests and measurements use of the inside of the broker goes through this file.
//! It also has whole lifecycles inside one broker, without sockets and threads: `celeriac-bench
//! inside` counts their instructions, and the micro-benchmarks measure their time. The frames are
//! those of a load on raw connections.

use std::path::Path;

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use celeriac_proto::FrameCodec;
use celeriac_proto::wire::{self, ClientFrame, ServerFrame, client_frame, server_frame};
use tokio_util::codec::{Decoder, Encoder};

use crate::raw;

use celeriac_broker::internals::inside::Inside;
pub use celeriac_broker::internals::{FAIL_READS, simulation};
pub use celeriac_fuzz_functions as fuzz;
use celeriac_store::{FolderConfig, Store, StoreConfig};

use crate::simulated_disk::Disk;

const QUEUE: &str = "bench";
const NAME: &str = "bench.nothing";
const PAYLOAD_BYTES: usize = 200;
const RESULT_BYTES: usize = 64;

/// A broker with a producer and a worker.
pub struct Loop {
    /// The broker. The caller drives it stage by stage.
    pub broker: Inside,
    /// The producer's connection.
    pub producer: u64,
    /// The worker's connection.
    pub worker: u64,
    payload: Bytes,
    result: Bytes,
    requests: u64,
    tasks: u64,
}

impl Loop {
    /// A new broker whose disk is memory.
    pub fn in_memory(credit: u32) -> Self {
        let (medium, config) = Disk::in_memory().medium(0).expect("an empty journal can be read");
        let (store, _) = Store::over(medium, config, &mut |_| {}).expect("nothing is there yet");
        Self::over(Inside::over(store), credit)
    }

    /// A new broker with this new folder.
    pub fn on_disk(folder: &Path, credit: u32) -> Self {
        let (folder, config) = (FolderConfig::new(folder), StoreConfig::default());
        let (store, _) =
            Store::open(folder, config, &mut |_| {}).expect("a new folder can be used");
        Self::over(Inside::over(store), credit)
    }

    /// `credit` is how many tasks the worker takes at once.
    fn over(mut broker: Inside, credit: u32) -> Self {
        let producer = broker.connect(raw::hello());
        let worker = broker.connect(raw::worker_hello(&[QUEUE], &[NAME]));
        let (payload, result) =
            (Bytes::from(vec![b'p'; PAYLOAD_BYTES]), Bytes::from(vec![b'r'; RESULT_BYTES]));
        let mut this = Self { broker, producer, worker, payload, result, requests: 1, tasks: 0 };
        let mut frames = this.frame(client_frame::Body::Credit(wire::Credit { credit }));
        this.broker.decode(worker, &mut frames);
        this.broker.apply();
        this.broker.commit();
        this.broker.take(producer, &mut BytesMut::new());
        this.broker.take(worker, &mut BytesMut::new());
        this
    }

    /// The bytes of a submit of so many new tasks.
    pub fn submit(&mut self, batch: usize) -> BytesMut {
        let payload = self.payload.clone();
        let tasks = (self.tasks..).take(batch).map(|number| wire::Task {
            queue: QUEUE.into(),
            payload: payload.clone(),
            ..raw::task(&format!("00-{number:012}"), NAME)
        });
        let submit = wire::Submit { tasks: tasks.collect() };
        self.tasks += batch as u64;
        self.frame(client_frame::Body::Submit(submit))
    }

    /// The bytes of the reports that complete the tasks in these frames, and the number of reports.
    ///
    /// # Errors
    /// When the bytes are no frames.
    pub fn complete(&mut self, frames: &mut BytesMut) -> Result<(BytesMut, usize)> {
        let mut codec = FrameCodec::<ServerFrame, ClientFrame>::new(usize::MAX);
        let mut reports = Vec::new();
        while let Some(frame) = codec.decode(frames)? {
            let Some(server_frame::Body::Deliver(deliver)) = frame.body else { continue };
            reports.extend(deliver.deliveries.into_iter().map(|delivery| wire::TaskReport {
                id: delivery.id,
                lease: delivery.lease,
                report: Some(wire::task_report::Report::Complete(wire::Complete {
                    result: self.result.clone(),
                    content_type: String::new(),
                    ..Default::default()
                })),
            }));
        }
        let count = reports.len();
        Ok((self.frame(client_frame::Body::Report(wire::Report { reports })), count))
    }

    /// One request of the producer or the worker through all stages. Returns the frames for the
    /// worker.
    pub fn exchange(&mut self, connection: u64, mut frames: BytesMut) -> BytesMut {
        let (mut told, mut ignored) = (BytesMut::new(), BytesMut::new());
        self.broker.decode(connection, &mut frames);
        self.broker.apply();
        self.broker.commit();
        self.broker.take(self.worker, &mut told);
        self.broker.take(self.producer, &mut ignored);
        told
    }

    /// Runs so many lifecycles in one batch.
    ///
    /// # Errors
    /// When not all of them were handed out.
    pub fn lifecycles(&mut self, batch: usize) -> Result<()> {
        let submit = self.submit(batch);
        let mut told = self.exchange(self.producer, submit);
        let (report, count) = self.complete(&mut told)?;
        ensure!(count == batch, "{count} of {batch} tasks were handed out");
        self.exchange(self.worker, report);
        Ok(())
    }

    fn frame(&mut self, body: client_frame::Body) -> BytesMut {
        self.requests += 1;
        let frame = ClientFrame { request_id: self.requests, timeout_ms: 0, body: Some(body) };
        let mut bytes = BytesMut::new();
        FrameCodec::<ServerFrame, ClientFrame>::new(0)
            .encode(frame, &mut bytes)
            .expect("it is far below 4 GiB");
        bytes
    }
}
