//! A connection with many requests in flight: they are written together and answered in order. The
//! protocols are those of the peers. Each peer has a function that finds the end of an answer.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::compare::system::{Load, Timing};

const READ_BYTES: usize = 64 * 1024;

/// The length of the first answer in these bytes, if it is complete. A refusal is an error.
pub(super) type Scan = fn(&[u8]) -> Result<Option<usize>>;

/// Whether an answer is the expected one, if the protocol itself does not say so.
pub(super) type Check = fn(&[u8]) -> Result<()>;

/// So many connections that complete the handshake and then do nothing, until they are dropped.
pub(super) async fn idle_connections(
    count: usize,
    greeted: impl AsyncFn() -> Result<Wire>,
) -> Result<Box<dyn Any>> {
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        // The bare connection, without its buffers.
        idle.push(greeted().await?.stream);
    }
    Ok(Box::new(idle))
}

/// A connection with its buffers for writing and reading.
pub(super) struct Wire {
    stream: TcpStream,
    scan: Scan,
    /// Checks each answer that is otherwise only counted.
    pub check: Option<Check>,
    /// The requests until the next flush.
    pub out: Vec<u8>,
    input: BytesMut,
}

impl Wire {
    pub async fn connect(port: u16, scan: Scan) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, scan, check: None, out: Vec::new(), input: BytesMut::new() })
    }

    /// Writes all requests at once.
    pub async fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Result<Bytes> {
        loop {
            if let Some(answer) = self.answer_there()? {
                return Ok(answer);
            }
            self.fill().await?;
        }
    }

    /// The next answer, if it has arrived.
    pub fn answer_there(&mut self) -> Result<Option<Bytes>> {
        Ok((self.scan)(&self.input)?.map(|length| self.input.split_to(length).freeze()))
    }

    /// Waits for so many answers and checks them only for refusals.
    pub async fn answers(&mut self, count: usize) -> Result<()> {
        while !self.are_there(count)? {
            self.fill().await?;
        }
        Ok(())
    }

    /// Takes so many answers if they have arrived, or else none.
    pub fn are_there(&mut self, count: usize) -> Result<bool> {
        let mut end = 0;
        for _ in 0..count {
            let Some(length) = (self.scan)(&self.input[end..])? else { return Ok(false) };
            if let Some(check) = self.check {
                check(&self.input[end..end + length])?;
            }
            end += length;
        }
        let _ = self.input.split_to(end);
        Ok(true)
    }

    async fn fill(&mut self) -> Result<()> {
        self.input.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }

    /// Submits so many tasks: requests of `load.batch` tasks, `load.in_flight` of them in flight.
    /// `request` appends one task. Returns how long each request took.
    pub async fn submit(
        &mut self,
        mut left: u64,
        load: &Load,
        mut request: impl FnMut(&mut Vec<u8>),
    ) -> Result<Vec<Duration>> {
        let mut under_way: VecDeque<(Instant, usize)> = VecDeque::with_capacity(load.in_flight);
        let mut latencies = Vec::new();
        while left > 0 || !under_way.is_empty() {
            while left > 0 && under_way.len() < load.in_flight {
                let count = left.min(load.batch as u64);
                for _ in 0..count {
                    request(&mut self.out);
                }
                under_way.push_back((Instant::now(), usize::try_from(count)?));
                left -= count;
            }
            self.flush().await?;
            let Some((since, count)) = under_way.pop_front() else { break };
            self.answers(count).await?;
            latencies.push(since.elapsed());
            // Other answers that have arrived make room too, so that a window is filled in one
            // write.
            while let Some(&(since, count)) = under_way.front()
                && self.are_there(count)?
            {
                under_way.pop_front();
                latencies.push(since.elapsed());
            }
        }
        Ok(latencies)
    }
}

/// The first line, and its length with its end, if it is complete.
pub(super) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1))
}

/// A number in digits.
pub(super) fn number(digits: &[u8]) -> Result<i64> {
    Ok(std::str::from_utf8(digits)?.trim().parse()?)
}

/// The completions of a run. The workers claim them as they go.
#[derive(Clone)]
pub(super) struct Claims(Arc<AtomicU64>);

impl Claims {
    pub fn new(tasks: u64) -> Self {
        Self(Arc::new(AtomicU64::new(tasks)))
    }

    /// Claims up to so many. None means that other workers do the rest.
    pub fn take(&self, most: u64) -> u64 {
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left - left.min(most)));
        before.unwrap_or_default().min(most)
    }
}

/// The share of one producer or worker in the tasks, as even as possible.
pub(super) fn share(tasks: u64, of: usize, index: usize) -> u64 {
    let (of, index) = (of as u64, index as u64);
    tasks / of + u64::from(index < tasks % of)
}

/// Waits for all of them. The first error ends the others.
pub(super) async fn all_of(
    mut tasks: JoinSet<Result<Vec<Duration>>>,
    since: Instant,
) -> Result<Timing> {
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    Ok(Timing { elapsed: since.elapsed(), latencies })
}
