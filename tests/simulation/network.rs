//! A network in memory between many programs and one broker, with seeded delays, splits, resets,
//! half-closes and partitions. The bytes that a program writes arrive whole and in order or not at
//! all, as with TCP. The random source decides when and in which pieces.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use celeriac_client::connection::{Connector, Halves};
use celeriac_history::{History, TappedStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::trace;
use celeriac_tests::RandomSource;

/// The most bytes in flight in one direction. A writer waits for room.
const IN_FLIGHT_MAX: usize = 512 * 1024;

/// One in so many connections reaches a peer that never answers.
const SILENT_ONE_IN: u64 = 20;

/// The number of a program, the same for all its connections.
pub type Node = usize;

/// The broker's end of a connection.
pub type Accepted = (Reader, Writer);

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

struct State {
    random: RandomSource,
    /// Where the broker accepts connections. `None` while it is down.
    listener: Option<mpsc::UnboundedSender<Accepted>>,
    nodes: BTreeMap<Node, Place>,
    links: Vec<Link>,
    /// No connection is delayed or broken any more.
    is_healed: bool,
    resets: u64,
}

#[derive(Default)]
struct Place {
    cut_off_until: Option<Instant>,
    is_dead: bool,
}

/// One connection: a pipe for each direction.
struct Link {
    node: Node,
    to_broker: Shared,
    to_node: Shared,
}

type Shared = Arc<Mutex<Pipe>>;

/// How a direction ends, after the bytes in flight have arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

#[derive(Default)]
struct Pipe {
    in_flight: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    latest: Option<Instant>,
    end: Option<End>,
    /// The reader is gone: writing fails.
    is_deaf: bool,
    /// Written bytes are dropped.
    is_void: bool,
    /// The whole connection is reset after so many more bytes.
    cut_after: Option<usize>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// Ends the pipe. `left` is how many of the pieces in flight still arrive.
    fn cut(&mut self, left: usize, end: Option<End>) {
        self.in_flight.truncate(left);
        self.bytes = self.in_flight.iter().map(|(_, bytes)| bytes.len()).sum();
        self.is_void = end.is_none();
        self.is_deaf = end.is_some();
        self.end = self.end.or(end);
        self.wake();
    }
}

fn lock(pipe: &Shared) -> MutexGuard<'_, Pipe> {
    pipe.lock().expect("no thread panics while it holds this lock")
}

impl Network {
    pub fn new(random: RandomSource) -> Self {
        Self(Arc::new(Mutex::new(State {
            random,
            listener: None,
            nodes: BTreeMap::new(),
            links: Vec::new(),
            is_healed: false,
            resets: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no thread panics while it holds this lock")
    }

    /// The broker starts to listen.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Accepted> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().listener = Some(sender);
        receiver
    }

    /// The broker accepts no more connections. It ends the existing ones itself.
    pub fn close(&self) {
        self.state().listener = None;
    }

    /// The broker crashes now. Some of the bytes that it had sent arrive, and then the end of the
    /// connection. If its machine crashed too, nothing arrives.
    pub fn crash_broker(&self) {
        let state = &mut *self.state();
        state.listener = None;
        let is_silent = state.random.one_in(3) && !state.is_healed;
        for link in state.links.drain(..) {
            lock(&link.to_broker).cut(0, Some(End::Reset));
            let mut pipe = lock(&link.to_node);
            let left = state.random.below(pipe.in_flight.len() as u64 + 1) as usize;
            pipe.cut(left, (!is_silent).then_some(End::Reset));
            drop(pipe);
            if is_silent {
                let mut pipe = lock(&link.to_broker);
                (pipe.is_void, pipe.is_deaf) = (true, false);
            }
        }
    }

    /// The program ends now, for good.
    pub fn kill(&self, node: Node) {
        let state = &mut *self.state();
        state.nodes.entry(node).or_default().is_dead = true;
        let is_silent = state.random.one_in(2);
        for link in state.links.extract_if(.., |link| link.node == node) {
            lock(&link.to_node).cut(0, Some(End::Reset));
            let mut pipe = lock(&link.to_broker);
            let left = state.random.below(pipe.in_flight.len() as u64 + 1) as usize;
            pipe.cut(left, (!is_silent).then_some(End::Closed));
        }
    }

    /// Nothing passes between the program and the broker for this time. Then the connections go on
    /// or break.
    pub fn cut_off(&self, node: Node, span: Duration) {
        let until = Instant::now() + span;
        self.state().nodes.entry(node).or_default().cut_off_until = Some(until);
    }

    /// Breaks one of the program's connections at one of its next bytes, in either direction.
    pub fn reset_soon(&self, node: Node) {
        let state = &mut *self.state();
        let bytes = state.random.span(1, 20_000).as_millis() as usize;
        let to_broker = state.random.one_in(2);
        if let Some(link) = state.links.iter().rev().find(|link| link.node == node) {
            let pipe = if to_broker { &link.to_broker } else { &link.to_node };
            lock(pipe).cut_after = Some(bytes);
        }
    }

    /// One direction of a connection ends, and the other goes on.
    pub fn half_close(&self, node: Node) {
        let state = &mut *self.state();
        let to_broker = state.random.one_in(2);
        if let Some(link) = state.links.iter().rev().find(|link| link.node == node) {
            let mut pipe = lock(if to_broker { &link.to_broker } else { &link.to_node });
            pipe.end = Some(End::Closed);
            pipe.is_void = true;
            pipe.wake();
        }
    }

    /// From now on all bytes arrive, and soon.
    pub fn heal(&self) {
        let state = &mut *self.state();
        state.is_healed = true;
        for place in state.nodes.values_mut() {
            place.cut_off_until = None;
        }
        for link in &state.links {
            for pipe in [&link.to_broker, &link.to_node] {
                let mut pipe = lock(pipe);
                pipe.cut_after = None;
                pipe.wake();
            }
        }
    }

    /// The number of connections that were reset.
    pub fn resets(&self) -> u64 {
        self.state().resets
    }

    fn cut_off_until(&self, node: Node) -> Option<Instant> {
        self.state().nodes.get(&node)?.cut_off_until.filter(|until| *until > Instant::now())
    }

    /// The connector of a program with this name. It writes everything into the history.
    pub fn connector(&self, node: Node, name: &str, history: &History) -> Connector {
        let (network, name, history) = (self.clone(), name.to_owned(), history.clone());
        Connector::new(move |_address| network.clone().dial(node, name.clone(), history.clone()))
    }

    async fn dial(self, node: Node, name: String, history: History) -> io::Result<Halves> {
        let delay = self.state().delay();
        tokio::time::sleep(delay).await;
        if let Some(until) = self.cut_off_until(node) {
            tokio::time::sleep_until(until).await;
        }
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (to_broker, to_node) = (Shared::default(), Shared::default());
        let reader = |pipe: &Shared| Reader::new(self.clone(), node, pipe.clone());
        let writer = |pipe: &Shared| Writer { network: self.clone(), pipe: pipe.clone() };
        if self.state().is_silent() {
            lock(&to_broker).is_void = true;
            return Ok(Halves {
                read: Box::new(reader(&to_node)),
                write: Box::new(writer(&to_broker)),
            });
        }
        let listener = {
            let state = &mut *self.state();
            let is_dead = state.nodes.entry(node).or_default().is_dead;
            let listener = state.listener.clone().filter(|_| !is_dead).ok_or_else(refused)?;
            state.links.push(Link { node, to_broker: to_broker.clone(), to_node: to_node.clone() });
            listener
        };
        // The tap is there before the broker knows of the connection.
        let tap = history.connecting(&name);
        listener.send((reader(&to_broker), writer(&to_node))).map_err(|_| refused())?;
        let stream = tokio::io::join(reader(&to_node), writer(&to_broker));
        let (read, write) = tokio::io::split(TappedStream::new(stream, tap));
        Ok(Halves { read: Box::new(read), write: Box::new(write) })
    }

    /// Resets the connection now.
    fn reset(&self, pipe: &Shared) {
        let state = &mut *self.state();
        let is_of = |link: &mut Link| {
            Arc::ptr_eq(&link.to_broker, pipe) || Arc::ptr_eq(&link.to_node, pipe)
        };
        for link in state.links.extract_if(.., is_of) {
            state.resets += 1;
            for pipe in [&link.to_broker, &link.to_node] {
                // Bytes before the reset may or may not be read.
                let mut pipe = lock(pipe);
                let left = if state.random.one_in(2) { usize::MAX } else { 0 };
                pipe.cut(left, Some(End::Reset));
            }
        }
    }

    /// One side dropped the connection.
    fn forget(&self, pipe: &Shared) {
        self.state().links.retain(|link| {
            let is_of = Arc::ptr_eq(&link.to_broker, pipe) || Arc::ptr_eq(&link.to_node, pipe);
            !(is_of && lock(&link.to_broker).is_deaf && lock(&link.to_node).is_deaf)
        });
    }
}

impl State {
    /// Whether this connection reaches a peer that never answers, such as an old address of the
    /// name of the broker.
    fn is_silent(&mut self) -> bool {
        !self.is_healed && self.random.one_in(SILENT_ONE_IN)
    }

    fn delay(&mut self) -> Duration {
        if self.is_healed {
            return Duration::from_millis(1);
        }
        match self.random.below(300) {
            0 => self.random.millis(50, 1_500),
            1..30 => self.random.millis(2, 30),
            _ => Duration::from_millis(self.random.below(2)),
        }
    }
}

/// The reading end of a pipe.
pub struct Reader {
    network: Network,
    node: Node,
    pipe: Shared,
    sleep: Pin<Box<Sleep>>,
}

impl Reader {
    fn new(network: Network, node: Node, pipe: Shared) -> Self {
        Self { network, node, pipe, sleep: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }

    /// Waits until a moment and polls again then.
    fn wait(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        if self.sleep.deadline() != until {
            self.sleep.as_mut().reset(until);
        }
        self.sleep.as_mut().poll(context)
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let reader = self.get_mut();
        loop {
            let mut pipe = lock(&reader.pipe);
            let Some((at, _)) = pipe.in_flight.front() else {
                return match pipe.end {
                    Some(End::Closed) => Poll::Ready(Ok(())),
                    Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                    None => {
                        pipe.reader = Some(context.waker().clone());
                        Poll::Pending
                    }
                };
            };
            let at = *at;
            pipe.reader = Some(context.waker().clone());
            drop(pipe);
            let at = reader.network.cut_off_until(reader.node).unwrap_or(at).max(at);
            if at > Instant::now() {
                match reader.wait(at, context) {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            let mut pipe = lock(&reader.pipe);
            let Some((_, bytes)) = pipe.in_flight.front_mut() else { continue };
            let count = bytes.len().min(buffer.remaining());
            trace::note(reader.node as u64, &bytes[..count]);
            buffer.put_slice(&bytes[..count]);
            bytes.advance(count);
            if bytes.is_empty() {
                pipe.in_flight.pop_front();
            }
            pipe.bytes -= count;
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut pipe = lock(&self.pipe);
        pipe.is_deaf = true;
        pipe.wake();
        drop(pipe);
        self.network.forget(&self.pipe);
    }
}

/// The writing end of a pipe.
pub struct Writer {
    network: Network,
    pipe: Shared,
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let writer = self.get_mut();
        let (delay, piece) = {
            let state = &mut *writer.network.state();
            let sliced = !state.is_healed && state.random.one_in(12);
            let most =
                if sliced { state.random.span(1, 4_096).as_millis() as usize } else { usize::MAX };
            (state.delay(), bytes.len().min(most))
        };
        let mut pipe = lock(&writer.pipe);
        if pipe.is_deaf || pipe.end.is_some() && !pipe.is_void {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.is_void {
            return Poll::Ready(Ok(bytes.len()));
        }
        if pipe.bytes >= IN_FLIGHT_MAX {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let cut = pipe.cut_after.filter(|left| *left <= piece);
        let count = cut.unwrap_or(piece);
        let at = (Instant::now() + delay).max(pipe.latest.unwrap_or_else(Instant::now));
        pipe.latest = Some(at);
        pipe.in_flight.push_back((at, Bytes::copy_from_slice(&bytes[..count])));
        pipe.bytes += count;
        pipe.cut_after = pipe.cut_after.map(|left| left.saturating_sub(count));
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        drop(pipe);
        if cut.is_some() {
            writer.network.reset(&writer.pipe);
        }
        Poll::Ready(Ok(count.max(1)))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.pipe);
        pipe.end = pipe.end.or(Some(End::Closed));
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut pipe = lock(&self.pipe);
        if !pipe.is_void {
            pipe.end = pipe.end.or(Some(End::Closed));
        }
        pipe.wake();
    }
}
