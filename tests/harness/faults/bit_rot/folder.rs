//! Data folders to be damaged, kept in memory, and the tasks that a broker must serve from them.
//! They are small, so that thousands of copies take minutes. They still have what a large folder
//! has: many chunks, records in pieces, a log that was cleaned, a snapshot of the storage engine.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use celeriac_proto::wire::{self, TaskState};

use crate::raw::{Answer, Request};
use crate::{BrokerProcess, RandomSource, RawConnection, Setup, raw, test_broker_binary};

/// With so little slack even a small log is cleaned.
const SLACK_BYTES: u64 = 16 * 1024;
const BLOCK_BYTES: usize = 4096;
const HOUR_MS: u64 = 3_600_000;

/// A file: the places with content. The rest is zeros.
#[derive(Debug)]
pub(super) struct OriginalFile {
    pub(super) name: PathBuf,
    pub(super) bytes: u64,
    blocks: Vec<(u64, Vec<u8>)>,
}

impl OriginalFile {
    fn read(folder: &Path, name: PathBuf) -> io::Result<Self> {
        let content = fs::read(folder.join(&name))?;
        let blocks = content.chunks(BLOCK_BYTES).enumerate();
        let blocks = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        let blocks =
            blocks.map(|(at, block)| ((at * BLOCK_BYTES) as u64, block.to_vec())).collect();
        Ok(Self { name, bytes: content.len() as u64, blocks })
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        let path = folder.join(&self.name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let file = File::create(path)?;
        file.set_len(self.bytes)?;
        self.blocks.iter().try_for_each(|(at, block)| file.write_all_at(block, *at))
    }

    /// A place outside the holes, if there is one.
    pub(super) fn byte_with_content(&self, random: &mut RandomSource) -> u64 {
        if self.blocks.is_empty() {
            return random.below(self.bytes);
        }
        let (at, block) = &self.blocks[random.below(self.blocks.len() as u64) as usize];
        at + random.below(block.len() as u64)
    }
}

pub(super) fn flip(path: &Path, byte: u64, bit: u32) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut found = [0];
    file.read_exact_at(&mut found, byte)?;
    file.write_all_at(&[found[0] ^ (1 << bit)], byte)
}

pub(super) fn cut(path: &Path, left: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(left)
}

/// An intact data folder after the end of its broker.
#[derive(Debug)]
pub(super) struct Original {
    pub(super) what: &'static str,
    /// The files that are not empty.
    pub(super) files: Vec<OriginalFile>,
    pub(super) content: Content,
}

impl Original {
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)?;
        self.files.iter().try_for_each(|file| file.write(folder))?;
        // The lock file is empty and must exist.
        File::create(folder.join("lock")).map(|_| ())
    }
}

/// What the broker must serve of each task.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The state and the result.
    tasks: BTreeMap<String, (TaskState, Bytes)>,
    /// The payload of a waiting task.
    payloads: BTreeMap<String, Bytes>,
}

/// The folders. Each has a different history.
pub(super) async fn originals() -> Result<Vec<Original>, String> {
    let small = |number: usize| 50 + number * 37 % 900;
    let large = |number: usize| 1_000 + number * 7_919 % 90_000;
    let mut originals = Vec::new();
    originals.push(original("after a stop", 60, small, false).await?);
    originals.push(original("after kill -9", 60, small, true).await?);
    originals.push(original("with large payloads", 16, large, true).await?);
    Ok(originals)
}

async fn original(
    what: &'static str,
    tasks: usize,
    bytes: fn(usize) -> usize,
    kill: bool,
) -> Result<Original, String> {
    let home = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let data = home.path().join("data");
    let setup = Setup::new()
        .program(test_broker_binary())
        .variable("CELERIAC_TEST_SLACK_BYTES", SLACK_BYTES.to_string())
        .data(&data);
    let mut broker = setup.try_start().await.map_err(|exit| format!("{exit:?}"))?;
    let content = fill(&broker, tasks, bytes).await?;
    // A start writes the snapshot. Later records are only in the log.
    broker.kill().await;
    broker.restart().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["done"], 1).await;
    worker.submit_one(wire::Task { result_ttl_ms: Some(0), ..raw::task("passing", "done") }).await;
    complete(&mut worker, b"1").await;
    if kill {
        broker.kill().await;
    } else {
        broker.stop().await;
    }
    let mut files = Vec::new();
    for name in names(&data, Path::new("")).map_err(|error| error.to_string())? {
        let file = OriginalFile::read(&data, name).map_err(|error| error.to_string())?;
        if file.bytes > 0 {
            files.push(file);
        }
    }
    let original = Original { what, files, content };
    let whole = home.path().join("whole");
    original.write(&whole).map_err(|error| error.to_string())?;
    let broker = Setup::new()
        .data(whole)
        .try_start()
        .await
        .map_err(|exit| format!("a whole copy: {exit:?}"))?;
    original
        .content
        .is_served_by(broker.address())
        .await
        .map_err(|reason| format!("a whole copy: {reason}"))?;
    Ok(original)
}

/// Makes tasks of every kind: with results, waiting with payloads, scheduled, forgotten, and so
/// many short-lived ones that the log was cleaned.
async fn fill(
    broker: &BrokerProcess,
    tasks: usize,
    bytes: fn(usize) -> usize,
) -> Result<Content, String> {
    let mut content = Content::default();
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["done"], 100).await;
    for number in 0..tasks {
        let payload = Bytes::from(vec![b'a' + (number % 26) as u8; bytes(number)]);
        let task =
            |id: &str, name: &str| wire::Task { payload: payload.clone(), ..raw::task(id, name) };
        for passing in 0..4 {
            let id = format!("passing-{number}-{passing}");
            worker.submit_one(wire::Task { result_ttl_ms: Some(0), ..task(&id, "done") }).await;
            complete(&mut worker, b"1").await;
        }
        let id = format!("task-{number}");
        match number % 4 {
            0 | 1 => {
                let result = Bytes::from(format!("\"result of {id}\""));
                worker.submit_one(task(&id, "done")).await;
                complete(&mut worker, &result).await;
                content.tasks.insert(id, (TaskState::Success, result));
            }
            2 => {
                worker.submit_one(task(&id, "waiting")).await;
                content.tasks.insert(id.clone(), (TaskState::Queued, Bytes::new()));
                content.payloads.insert(id, payload);
            }
            _ => {
                let late = wire::Task { countdown_ms: Some(24 * HOUR_MS), ..task(&id, "waiting") };
                worker.submit_one(late).await;
                content.tasks.insert(id, (TaskState::Scheduled, Bytes::new()));
            }
        }
    }
    worker.submit_one(raw::task("forgotten", "done")).await;
    complete(&mut worker, b"1").await;
    let forget = wire::Forget { ids: vec!["forgotten".into()] };
    worker.request(Request::Forget(forget)).await.map_err(|error| format!("forget: {error:?}"))?;
    content.tasks.insert("forgotten".into(), (TaskState::Unknown, Bytes::new()));
    Ok(content)
}

async fn complete(worker: &mut RawConnection, result: &[u8]) {
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, raw::complete(result))).await;
}

fn names(folder: &Path, inside: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join(inside))? {
        let entry = entry?;
        let name = inside.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.extend(names(folder, &name)?);
        } else {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

impl Content {
    /// The error says what is missing or different.
    pub(super) async fn is_served_by(&self, address: SocketAddr) -> Result<(), String> {
        let mut reader = RawConnection::open(address).await;
        let ids = self.tasks.keys().cloned().collect();
        let answer = reader
            .request(Request::Get(wire::Get { ids, with_results: true, ..Default::default() }))
            .await;
        let Ok(Answer::GetReply(reply)) = answer else {
            return Err(format!("no GetReply but {answer:?}"));
        };
        for (info, (id, (state, result))) in reply.tasks.iter().zip(&self.tasks) {
            if info.state() != *state || info.result != result {
                return Err(format!(
                    "served, but {id} is {:?} with {:?}",
                    info.state(),
                    info.result
                ));
            }
        }
        // A worker that is lost gives them back; no other has come before it in this life.
        let count = self.payloads.len();
        let mut worker =
            RawConnection::worker(address, &["default"], &["waiting"], count as u32).await;
        for delivery in worker.deliveries(count).await {
            if self.payloads.get(&delivery.id) != Some(&delivery.payload) {
                return Err(format!("served, but {} has another payload", delivery.id));
            }
        }
        Ok(())
    }
}
