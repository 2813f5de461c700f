//! One socket, from Welcome to its end: reads, writes, heartbeats, and the check that the broker is
//! not silent. One task does all of it, so nothing needs a lock. `exchange` matches answers with
//! requests.

use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use celeriac_proto::code_name;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval, sleep_until};
use tokio_util::codec::Decoder;
use tracing::{info, warn};

use super::driver::{self, Disconnect, Driver};
use super::exchange::{Accepted, Exchange};
use super::handshake::{Codec, Link};
use super::stream::{Reader, Writer};
use super::waiting::WaitKey;
use super::{Command, Event, deadline_after, effective_limits};
use celeriac_proto::limits::BATCH_ITEMS_MAX;
use celeriac_proto::wire::{self, server_frame};

/// The room that is made for each read.
const READ_BYTES: usize = 64 * 1024;
/// The most requests that are taken from the channel at once. The socket has its turn before the
/// next ones.
const TURN_COMMANDS_MAX: usize = 256;
/// How long the client waits for the answer to Goodbye.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// The heartbeat interval when the Welcome has none.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);

/// Serves a socket until it ends. Unanswered requests then go back to their callers.
pub(super) async fn serve(driver: &mut Driver, link: Link) -> Disconnect {
    let Link { reader, writer, codec, incoming, welcome } = link;
    // A broker may have other limits after a restart.
    let limits = effective_limits(welcome.limits);
    let beat = match welcome.heartbeat_ms {
        0 => HEARTBEAT_DEFAULT,
        millis => Duration::from_millis(millis),
    };
    let mut exchange = Exchange::new(welcome.server_time_ms, limits);
    for request in std::mem::take(&mut driver.watch_again) {
        exchange.watch_again(request);
    }
    admit(driver, welcome);
    let mut heartbeat = interval(beat);
    // After a stop of the whole program, one heartbeat is enough.
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pump = Pump {
        driver,
        reader,
        writer,
        codec,
        incoming,
        exchange,
        batch: Vec::with_capacity(TURN_COMMANDS_MAX),
        withdrawn: Vec::new(),
        is_drained: false,
        has_no_waits: false,
        heartbeat,
        heard_at: Instant::now(),
        // Two heartbeats may be lost or late before the broker counts as silent.
        silence_max: beat * 5 / 2,
        silence: Box::pin(sleep_until(Instant::now() + beat * 5 / 2)),
        give_up_at: None,
    };
    let disconnect = loop {
        if let Some(disconnect) = pump.turn().await {
            break disconnect;
        }
    };
    let Pump { driver, exchange, .. } = pump;
    // Without an id the next Hello asks for a new session.
    if exchange.session_lost {
        driver.session_id.clear();
    }
    driver.watch_again = exchange.interrupt();
    disconnect
}

/// Tells the handles and the owner of the new connection.
fn admit(driver: &mut Driver, welcome: wire::Welcome) {
    let resumed = welcome.resumed;
    info!(broker = driver.options.address, server = welcome.server_name, resumed, "connected");
    driver.session_id.clone_from(&welcome.session_id);
    *driver.shared.welcome.lock().expect("no holder of this lock panics") = Some(welcome.clone());
    driver.shared.set_trouble(None);
    driver.shared.connected.store(true, Ordering::Relaxed);
    driver.events.push(Event::Connected { welcome, resumed });
}

/// The state of one socket.
struct Pump<'d> {
    /// The connection to which the socket belongs.
    driver: &'d mut Driver,
    reader: Reader,
    writer: Writer,
    /// Decodes the frames of the broker.
    codec: Codec,
    /// The bytes that were read and are no whole frame yet.
    incoming: BytesMut,
    exchange: Exchange,
    /// The requests of one turn; kept to reuse its memory.
    batch: Vec<Command>,
    /// The withdrawn waits of one turn; kept to reuse its memory.
    withdrawn: Vec<WaitKey>,
    /// Whether the channel is closed and empty: no further request comes.
    is_drained: bool,
    /// Whether no handle is left that could wait.
    has_no_waits: bool,
    /// When the next heartbeat is sent.
    heartbeat: Interval,
    /// When the broker last sent something.
    heard_at: Instant,
    /// How long the broker may be silent before the connection counts as lost.
    silence_max: Duration,
    /// Set again only when it fires, which is much rarer than bytes are.
    silence: Pin<Box<Sleep>>,
    /// When closing goes to its next step; set while the connection is being closed.
    give_up_at: Option<Instant>,
}

impl Pump<'_> {
    /// Handles the event that comes first. Returns `Some` when the socket is finished.
    async fn turn(&mut self) -> Option<Disconnect> {
        if let Err(disconnect) = self.take_frames() {
            return Some(disconnect);
        }
        self.say_goodbye_when_done();
        self.incoming.reserve(READ_BYTES);
        let Driver { shared, commands, withdrawn, closing, events, .. } = &mut *self.driver;
        let room = self.exchange.room().min(TURN_COMMANDS_MAX);
        // While the owner does not take its events, nothing is read, and the broker feels it.
        let reading = !events.is_behind();
        let writing = !self.exchange.outgoing.is_empty() || self.writer.keeps_bytes();
        tokio::select! {
            _ = self.heartbeat.tick() => {
                let memory_bytes = shared.memory_bytes.load(Ordering::Relaxed);
                self.exchange.beat(shared.running.load(Ordering::Relaxed), memory_bytes);
            }
            read = self.reader.read_buf(&mut self.incoming), if reading => match read {
                Ok(0) if self.exchange.has_said_goodbye() => return Some(Disconnect::Closed),
                Ok(0) => return Some(Disconnect::Lost("the broker closed it".to_owned())),
                Ok(_) => self.heard_at = Instant::now(),
                Err(error) => return Some(Disconnect::Lost(error.to_string())),
            },
            written = self.writer.send(&mut self.exchange.outgoing), if writing => {
                if let Err(error) = written {
                    return Some(Disconnect::Lost(error.to_string()));
                }
            }
            count = commands.recv_many(&mut self.batch, room), if !self.is_drained && room > 0 => {
                self.is_drained = count == 0;
                for command in self.batch.drain(..) {
                    self.exchange.send(command);
                }
            }
            count = withdrawn.recv_many(&mut self.withdrawn, BATCH_ITEMS_MAX),
                if !self.has_no_waits =>
            {
                self.has_no_waits = count == 0;
                self.exchange.withdraw(self.withdrawn.drain(..));
            }
            // While nothing was read, the silence was this client's own.
            () = events.drain_one(), if !reading => self.heard_at = Instant::now(),
            time = driver::asked_to_close(closing), if self.give_up_at.is_none() => {
                commands.close();
                self.exchange.end_waits();
                self.give_up_at = Some(deadline_after(time));
            }
            () = until(self.give_up_at) => return self.end_closing(),
            () = &mut self.silence => return self.suspect_silence(reading),
        }
        None
    }

    /// Takes every whole frame that was received. `Err` when the socket is finished.
    fn take_frames(&mut self) -> Result<(), Disconnect> {
        while let Some(frame) = self
            .codec
            .decode(&mut self.incoming)
            .map_err(|error| Disconnect::Lost(error.to_string()))?
        {
            match self.exchange.accept(frame) {
                Accepted::Settled => {}
                Accepted::Parted => return Err(Disconnect::Closed),
                Accepted::Push(body) => {
                    if let server_frame::Body::Closing(wire::Closing { error: Some(error) }) = &body
                    {
                        warn!(
                            code = code_name(error.code()),
                            "the broker closes the connection: {}", error.message
                        );
                        self.driver.reconnect_pause = Duration::from_millis(error.retry_after_ms)
                            .min(driver::RECONNECT_PAUSE_MAX);
                    }
                    self.driver.events.push(Event::Push(body));
                }
            }
        }
        Ok(())
    }

    /// While closing: sends Goodbye as soon as no caller waits for an answer.
    fn say_goodbye_when_done(&mut self) {
        let closing = self.give_up_at.is_some();
        if closing
            && self.is_drained
            && self.exchange.is_idle()
            && !self.exchange.has_said_goodbye()
        {
            self.exchange.say_goodbye();
            self.give_up_at = Some(Instant::now() + GOODBYE_TIME);
        }
    }

    /// The time for closing is over: first for the unanswered requests, then for Goodbye.
    fn end_closing(&mut self) -> Option<Disconnect> {
        if self.exchange.has_said_goodbye() {
            return Some(Disconnect::Closed);
        }
        self.exchange.say_goodbye();
        self.give_up_at = Some(Instant::now() + GOODBYE_TIME);
        None
    }

    /// The broker may have been silent for too long. But after a stop of this whole program the
    /// broker's bytes are in the socket, unread.
    fn suspect_silence(&mut self, reading: bool) -> Option<Disconnect> {
        if reading && self.heard_at + self.silence_max <= Instant::now() {
            match self.reader.take_ready(&mut self.incoming) {
                true => self.heard_at = Instant::now(),
                false => {
                    return Some(Disconnect::Lost(format!(
                        "the broker was silent for {:?}",
                        self.silence_max
                    )));
                }
            }
        }
        // Not at once again: while events wait, nothing is read and `heard_at` does not move.
        let at_least = Instant::now() + self.silence_max / 5;
        self.silence.as_mut().reset((self.heard_at + self.silence_max).max(at_least));
        None
    }
}

/// Returns at this moment; never without one.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
