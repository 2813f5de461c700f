//! A wire that can be cut, slowed down and silenced: a proxy between a client and its broker. It
//! forwards bytes and knows nothing of frames. What it does to them, its [`Toxics`], may be changed
//! at any time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::luck::Luck;

/// Read at once, at most.
const CHUNK: usize = 16 * 1024;

/// What a proxy does to each direction of its connections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Toxics {
    /// From the client to the broker.
    pub up: Toxic,
    /// From the broker to the client.
    pub down: Toxic,
    /// Only the first connection of the proxy comes to the end that is given; whoever connects
    /// again is spared.
    pub ends_once: bool,
}

/// What a proxy does to one direction. The default does nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Toxic {
    /// Each read waits for this long before it is passed on,
    pub delay: Duration,
    /// and for up to this much longer.
    pub jitter: Duration,
    /// So many bytes are written at once; 0: as they come.
    pub slice: usize,
    /// Bytes in a second; 0: as fast as it goes.
    pub rate: u64,
    /// Nothing passes, and nobody is told.
    pub stalled: bool,
    /// After so many bytes of a connection it ends in this way.
    pub end: Option<(u64, Ending)>,
}

impl Toxic {
    /// Does nothing.
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
    /// Both sides are told by RST; what was not yet read may be lost.
    Reset,
    /// Both sides are told by FIN.
    Close,
    /// Only this direction is closed; the other goes on.
    HalfClose,
}

/// A listener of its own; ends with its value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    accepting: AbortHandle,
    connections: Arc<Mutex<JoinSet<()>>>,
    toxics: watch::Sender<Toxics>,
    passed: Arc<[AtomicU64; 2]>,
}

impl Proxy {
    /// Forwards to this address, which need not be there all the time.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        Self::toxic(target, Toxics::default(), 0).await
    }

    /// As [`start`](Self::start), with toxics from the first byte. The seed is that of the jitter.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn toxic(target: SocketAddr, toxics: Toxics, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let (toxics, seen) = watch::channel(toxics);
        let accepted = Arc::clone(&connections);
        let mut luck = Luck::new(seed);
        let passed = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let counted = Arc::clone(&passed);
        let accepting = tokio::spawn(async move {
            let mut is_first = true;
            while let Ok((stream, _)) = listener.accept().await {
                let wire = |direction| {
                    let (toxics, counted) = (seen.clone(), Arc::clone(&counted));
                    Pump { toxics, direction, counted, is_first, luck: luck.fork(), passed: 0 }
                };
                let pumps = [UP, DOWN].map(wire);
                is_first = false;
                let mut connections = accepted.lock().expect("nobody panics with this lock");
                while connections.try_join_next().is_some() {}
                connections.spawn(forward(stream, target, pumps));
            }
        });
        Self { address, accepting: accepting.abort_handle(), connections, toxics, passed }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for whoever is to be cut off.
    pub fn url(&self) -> String {
        format!("celeriac://{}", self.address)
    }

    /// From now on these; connections that are there and those to come.
    pub fn set(&self, toxics: Toxics) {
        self.toxics.send_replace(toxics);
    }

    /// How many bytes it passed on so far, up and down, all connections together.
    pub fn passed(&self) -> [u64; 2] {
        [UP, DOWN].map(|direction| self.passed[direction].load(Ordering::SeqCst))
    }

    /// Breaks what is connected. Who connects anew is served.
    pub fn cut(&self) {
        self.connections.lock().expect("nobody panics with this lock").abort_all();
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
        // What is sliced must not be put together again. A peer that is gone already shows itself
        // in a moment.
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
    /// By all connections of the proxy, for each direction.
    counted: Arc<[AtomicU64; 2]>,
    is_first: bool,
    luck: Luck,
    /// By this one.
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

    /// How much is written at once, and whether that was all.
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
        // The proxy is gone when its toxics are, and this task with it.
        let _ = self.toxics.wait_for(|toxics| !of(toxics, direction).stalled).await;
    }

    async fn delayed(&mut self) {
        let Toxic { delay, jitter, .. } = self.toxic();
        let jitter = Duration::from_micros(self.luck.below(jitter.as_micros() as u64 + 1));
        if !(delay + jitter).is_zero() {
            sleep(delay + jitter).await;
        }
    }

    async fn paced(&self, bytes: usize) {
        let Toxic { rate, slice, .. } = self.toxic();
        if let Some(micros) = (bytes as u64 * 1_000_000).checked_div(rate) {
            sleep(Duration::from_micros(micros)).await;
        } else if slice > 0 {
            // So that the other side gets to read what there is.
            tokio::task::yield_now().await;
        }
    }

    async fn end(&self, ending: Ending, to: &mut (impl AsyncWrite + Unpin)) -> Ending {
        if ending == Ending::HalfClose {
            // Who is gone needs no telling.
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

    /// What comes out at the far end of a proxy of a hundred bytes, and what the near end sees of
    /// its end.
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
