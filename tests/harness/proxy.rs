//! A proxy between a client and its broker that can cut, slow down and silence connections. It
//! forwards bytes and knows nothing of frames. A test can change its [`Toxics`] at any time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::RandomSource;

/// The most bytes that one read takes.
const CHUNK: usize = 16 * 1024;

/// What a proxy does to each direction of its connections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Toxics {
    /// From the client to the broker.
    pub up: Toxic,
    /// From the broker to the client.
    pub down: Toxic,
    /// Only the first connection of the proxy ends after `end_after`. Later connections do not.
    pub ends_once: bool,
}

/// What a proxy does to one direction. The default does nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Toxic {
    /// Each piece is forwarded after this delay,
    pub delay: Duration,
    /// and after up to this much more, at random.
    pub jitter: Duration,
    /// The most bytes of one write. 0: no limit.
    pub slice: usize,
    /// Bytes per second. 0: no limit.
    pub rate: u64,
    /// Forwards nothing and closes nothing.
    pub stalled: bool,
    /// The connection ends in this way after so many bytes.
    pub end: Option<(u64, Ending)>,
}

impl Toxic {
    /// A toxic that does nothing.
    pub const HARMLESS: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        slice: 0,
        rate: 0,
        stalled: false,
        end: None,
    };
}

/// How a direction of a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Both sides get an RST. Bytes that were not read yet may be lost.
    Reset,
    /// Both sides get a FIN.
    Close,
    /// Only this direction is closed; the other goes on.
    HalfClose,
}

/// A proxy with its own listener. It ends when this value is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    accepting: AbortHandle,
    connections: Arc<Mutex<JoinSet<()>>>,
    toxics: watch::Sender<Toxics>,
    passed: Arc<[AtomicU64; 2]>,
}

impl Proxy {
    /// Forwards to this address. The broker need not be up all the time.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        Self::toxic(target, Toxics::default(), 0).await
    }

    /// As [`start`](Self::start), with toxics from the first byte. The seed is for the jitter.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn toxic(target: SocketAddr, toxics: Toxics, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let (toxics, seen) = watch::channel(toxics);
        let accepted = Arc::clone(&connections);
        let mut random = RandomSource::new(seed);
        let passed = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let counted = Arc::clone(&passed);
        let accepting = tokio::spawn(async move {
            let mut is_first = true;
            while let Ok((stream, _)) = listener.accept().await {
                let wire = |direction| {
                    let (toxics, counted) = (seen.clone(), Arc::clone(&counted));
                    Pump { toxics, direction, counted, is_first, random: random.fork(), passed: 0 }
                };
                let pumps = [UP, DOWN].map(wire);
                is_first = false;
                let mut connections =
                    accepted.lock().expect("no thread panics while it holds this lock");
                while connections.try_join_next().is_some() {}
                connections.spawn(forward(stream, target, pumps));
            }
        });
        Self { address, accepting: accepting.abort_handle(), connections, toxics, passed }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for the clients behind the proxy.
    pub fn url(&self) -> String {
        format!("celeriac://{}", self.address)
    }

    /// Sets the toxics of all connections, existing and new.
    pub fn set(&self, toxics: Toxics) {
        self.toxics.send_replace(toxics);
    }

    /// How many bytes it has forwarded in each direction, over all connections.
    pub fn passed(&self) -> [u64; 2] {
        [UP, DOWN].map(|direction| self.passed[direction].load(Ordering::SeqCst))
    }

    /// Breaks all connections. New connections are served.
    pub fn cut(&self) {
        self.connections.lock().expect("no thread panics while it holds this lock").abort_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn forward(mut near: TcpStream, target: SocketAddr, [up, down]: [Pump; 2]) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        // The slices must not be joined again. If a peer is already gone, the next read or write
        // shows it.
        let _ = stream.set_nodelay(true);
    }
    let ending = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let (up, down) = (up.run(near_read, far_write), down.run(far_read, near_write));
        tokio::pin!(up, down);
        // A direction that ended quietly leaves the other one open.
        tokio::select! {
            ending = &mut up => match ending { Ending::HalfClose => down.await, ending => ending },
            ending = &mut down => match ending { Ending::HalfClose => up.await, ending => ending },
        }
    };
    if ending == Ending::Reset {
        for stream in [&near, &far] {
            // One of them may have been reset already.
            let _ = stream.set_zero_linger();
        }
    }
}

const UP: usize = 0;
const DOWN: usize = 1;

/// One direction of one connection.
struct Pump {
    toxics: watch::Receiver<Toxics>,
    direction: usize,
    /// Bytes that all connections of the proxy have forwarded, for each direction.
    counted: Arc<[AtomicU64; 2]>,
    is_first: bool,
    random: RandomSource,
    /// Bytes that this connection has forwarded.
    passed: u64,
}

impl Pump {
    async fn run(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Ending {
        let mut buffer = vec![0; CHUNK];
        loop {
            if let Some(ending) = self.ended(0) {
                return self.end(ending, &mut to).await;
            }
            self.unstalled().await;
            let count = match from.read(&mut buffer).await {
                Ok(0) => return self.end(Ending::HalfClose, &mut to).await,
                Ok(count) => count,
                Err(_) => return Ending::Reset,
            };
            self.delayed().await;
            let mut bytes = &buffer[..count];
            while !bytes.is_empty() {
                self.unstalled().await;
                let (piece, ending) = self.piece(bytes.len());
                if to.write_all(&bytes[..piece]).await.is_err() {
                    return Ending::Reset;
                }
                self.passed += piece as u64;
                self.counted[self.direction].fetch_add(piece as u64, Ordering::SeqCst);
                bytes = &bytes[piece..];
                if let Some(ending) = ending {
                    return self.end(ending, &mut to).await;
                }
                self.paced(piece).await;
            }
        }
    }

    fn toxic(&self) -> Toxic {
        of(&self.toxics.borrow(), self.direction).clone()
    }

    /// Whether the connection ends within the next bytes, and how.
    fn ended(&self, next: u64) -> Option<Ending> {
        let spared = self.toxics.borrow().ends_once && !self.is_first;
        self.toxic()
            .end
            .filter(|(at, _)| !spared && *at <= self.passed + next)
            .map(|(_, ending)| ending)
    }

    /// How much is written at once, and whether that is everything.
    fn piece(&self, rest: usize) -> (usize, Option<Ending>) {
        let toxic = self.toxic();
        let piece = if toxic.slice == 0 { rest } else { rest.min(toxic.slice) };
        match self.ended(piece as u64) {
            Some(ending) => {
                let left = toxic.end.map_or(0, |(at, _)| at.saturating_sub(self.passed));
                (usize::try_from(left).unwrap_or(piece).min(piece), Some(ending))
            }
            None => (piece, None),
        }
    }

    async fn unstalled(&mut self) {
        let direction = self.direction;
        // When the toxics are gone the proxy is dropped, and this task ends.
        let _ = self.toxics.wait_for(|toxics| !of(toxics, direction).stalled).await;
    }

    async fn delayed(&mut self) {
        let Toxic { delay, jitter, .. } = self.toxic();
        let jitter = Duration::from_micros(self.random.below(jitter.as_micros() as u64 + 1));
        if !(delay + jitter).is_zero() {
            sleep(delay + jitter).await;
        }
    }

    async fn paced(&self, bytes: usize) {
        let Toxic { rate, slice, .. } = self.toxic();
        if let Some(micros) = (bytes as u64 * 1_000_000).checked_div(rate) {
            sleep(Duration::from_micros(micros)).await;
        } else if slice > 0 {
            // The other side gets time to read what has arrived.
            tokio::task::yield_now().await;
        }
    }

    async fn end(&self, ending: Ending, to: &mut (impl AsyncWrite + Unpin)) -> Ending {
        if ending == Ending::HalfClose {
            // A side that is gone gets no RST.
            let _ = to.shutdown().await;
        }
        ending
    }
}

fn of(toxics: &Toxics, direction: usize) -> &Toxic {
    if direction == UP { &toxics.up } else { &toxics.down }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that arrive behind a proxy that ends after a hundred bytes, and how the near side
    /// sees the end.
    async fn passed(up: Toxic) -> (Vec<u8>, std::io::Result<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let target = listener.local_addr().expect("it listens");
        let proxy = Proxy::toxic(target, Toxics { up, ..Toxics::default() }, 1).await;
        let mut near = TcpStream::connect(proxy.address()).await.expect("it listens");
        let (mut far, _) = listener.accept().await.expect("the proxy connects");
        near.write_all(&[7; 100]).await.expect("the proxy reads");
        near.shutdown().await.expect("it is open");
        let mut bytes = Vec::new();
        let _ = crate::within("the end", far.read_to_end(&mut bytes)).await;
        drop(far);
        let end = crate::within("the near end", near.read(&mut [0; 10])).await;
        (bytes, end)
    }

    #[tokio::test]
    async fn bytes_pass_whole_through_slices_delays_and_a_narrow_pipe() {
        let toxic = Toxic {
            slice: 1,
            rate: 100_000,
            delay: Duration::from_millis(1),
            jitter: Duration::from_millis(2),
            ..Toxic::default()
        };
        let (bytes, end) = passed(toxic).await;
        assert_eq!((bytes.len(), end.ok()), (100, Some(0)));
    }

    #[tokio::test]
    async fn a_connection_ends_at_the_byte_it_should() {
        for at in [0, 1, 99, 100] {
            let toxic = Toxic { end: Some((at, Ending::HalfClose)), slice: 7, ..Toxic::default() };
            assert_eq!(passed(toxic).await.0.len() as u64, at);
        }
        let (_, end) = passed(Toxic { end: Some((5, Ending::Reset)), ..Toxic::default() }).await;
        assert!(end.is_err(), "a reset is an error: {end:?}");
    }

    #[tokio::test]
    async fn a_stalled_wire_passes_nothing_until_it_is_free_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let target = listener.local_addr().expect("it listens");
        let stalled =
            Toxics { up: Toxic { stalled: true, ..Toxic::default() }, ..Toxics::default() };
        let proxy = Proxy::toxic(target, stalled, 1).await;
        let mut near = TcpStream::connect(proxy.address()).await.expect("it listens");
        let (mut far, _) = listener.accept().await.expect("the proxy connects");
        near.write_all(b"late").await.expect("the kernel takes it");
        let mut bytes = [0; 4];
        let early =
            tokio::time::timeout(Duration::from_millis(50), far.read_exact(&mut bytes)).await;
        assert!(early.is_err(), "something passed");
        proxy.set(Toxics::default());
        crate::within("the bytes", far.read_exact(&mut bytes)).await.expect("they come");
        assert_eq!(&bytes, b"late");
    }
}
