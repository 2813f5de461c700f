//! One socket, from Welcome to its end: reads, writes, heartbeats and the watch over silence, all
//! in one task, so that nothing of it needs a lock. Matching answers with requests is the work of
//! `exchange`.

use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval, sleep_until};
use tokio_util::codec::Decoder;
use tracing::{info, warn};

use super::driver::{self, Driver, Ended};
use super::exchange::{Accepted, Exchange};
use super::handshake::{Codec, Link};
use super::stream::{Reader, Writer};
use super::waiting::WaitKey;
use super::{Command, Event, deadline_after, effective_limits};
use celeriac_proto::limits::BATCH_ITEMS_MAX;
use celeriac_proto::wire::{self, server_frame};

const READ_BYTES: usize = 64 * 1024;
/// Requests taken at once from the channel; more wait for the next turn, after a look at the
/// socket.
const TURN_COMMANDS_MAX: usize = 256;
/// How long the answer to Goodbye is waited for.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);

/// Serves a connection until it ends. What is unanswered then is handed back to its callers.
pub(super) async fn serve(driver: &mut Driver, link: Link) -> Ended {
    let Link { reader, writer, codec, incoming, welcome } = link;
    let limits = effective_limits(welcome.limits);
    let beat = match welcome.heartbeat_ms {
        0 => HEARTBEAT_DEFAULT,
        millis => Duration::from_millis(millis),
    };
    let mut exchange = Exchange::new(welcome.server_time_ms, limits);
    for part in std::mem::take(&mut driver.watch_again) {
        exchange.watch_again(part);
    }
    admit(driver, welcome);
    let mut heartbeat = interval(beat);
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
        drained: false,
        has_no_waits: false,
        heartbeat,
        heard_at: Instant::now(),
        silence_max: beat * 5 / 2,
        silence: Box::pin(sleep_until(Instant::now() + beat * 5 / 2)),
        give_up_at: None,
    };
    let ended = loop {
        if let Some(ended) = pump.turn().await {
            break ended;
        }
    };
    let Pump { driver, exchange, .. } = pump;
    if exchange.session_lost {
        driver.session_id.clear();
    }
    driver.watch_again = exchange.interrupt();
    ended
}

/// Makes the new connection known to the handles and to the owner.
fn admit(driver: &mut Driver, welcome: wire::Welcome) {
    let resumed = welcome.resumed;
    info!(broker = driver.options.address, server = welcome.server_name, resumed, "connected");
    driver.session_id.clone_from(&welcome.session_id);
    *driver.shared.welcome.lock().expect("no holder of this lock panics") = Some(welcome.clone());
    driver.shared.set_trouble(None);
    driver.shared.connected.store(true, Ordering::Relaxed);
    driver.events.push(Event::Connected { welcome, resumed });
}

/// Everything that one socket needs.
struct Pump<'d> {
    driver: &'d mut Driver,
    reader: Reader,
    writer: Writer,
    codec: Codec,
    incoming: BytesMut,
    exchange: Exchange,
    batch: Vec<Command>,
    withdrawn: Vec<WaitKey>,
    /// No request will come any more.
    drained: bool,
    /// There is no handle left that could wait.
    has_no_waits: bool,
    heartbeat: Interval,
    heard_at: Instant,
    silence_max: Duration,
    /// Set anew only when it fires, which is much rarer than bytes are.
    silence: Pin<Box<Sleep>>,
    /// Set while closing.
    give_up_at: Option<Instant>,
}

impl Pump<'_> {
    /// Does whatever comes first. Returns when the connection is over.
    async fn turn(&mut self) -> Option<Ended> {
        if let Err(ended) = self.take_frames() {
            return Some(ended);
        }
        self.say_goodbye_when_done();
        self.incoming.reserve(READ_BYTES);
        let Driver { shared, commands, withdrawn, closing, events, .. } = &mut *self.driver;
        let room = self.exchange.room().min(TURN_COMMANDS_MAX);
        let reading = !events.is_behind();
        let writing = !self.exchange.outgoing.is_empty();
        tokio::select! {
            _ = self.heartbeat.tick() => {
                let memory_bytes = shared.memory_bytes.load(Ordering::Relaxed);
                self.exchange.beat(shared.running.load(Ordering::Relaxed), memory_bytes);
            }
            read = self.reader.read_buf(&mut self.incoming), if reading => match read {
                Ok(0) if self.exchange.has_said_goodbye() => return Some(Ended::Closed),
                Ok(0) => return Some(Ended::Lost("the broker closed it".to_owned())),
                Ok(_) => self.heard_at = Instant::now(),
                Err(error) => return Some(Ended::Lost(error.to_string())),
            },
            written = self.writer.write_buf(&mut self.exchange.outgoing), if writing => {
                if let Err(error) = written {
                    return Some(Ended::Lost(error.to_string()));
                }
            }
            count = commands.recv_many(&mut self.batch, room), if !self.drained && room > 0 => {
                self.drained = count == 0;
                self.batch.drain(..).for_each(|command| self.exchange.send(command));
            }
            count = withdrawn.recv_many(&mut self.withdrawn, BATCH_ITEMS_MAX), if !self.has_no_waits => {
                self.has_no_waits = count == 0;
                self.exchange.withdraw(self.withdrawn.drain(..));
            }
            // Silence was our own while nothing was read.
            () = events.drain_one(), if !reading => self.heard_at = Instant::now(),
            patience = driver::asked_to_close(closing), if self.give_up_at.is_none() => {
                commands.close();
                self.exchange.end_waits();
                self.give_up_at = Some(deadline_after(patience));
            }
            () = until(self.give_up_at) => return self.lose_patience(),
            () = &mut self.silence => return self.suspect_silence(reading),
        }
        None
    }

    /// Takes every whole frame that has come.
    fn take_frames(&mut self) -> Result<(), Ended> {
        while let Some(frame) =
            self.codec.decode(&mut self.incoming).map_err(|error| Ended::Lost(error.to_string()))?
        {
            match self.exchange.accept(frame) {
                Accepted::Settled => {}
                Accepted::Parted => return Err(Ended::Closed),
                Accepted::Push(body) => {
                    if let server_frame::Body::Closing(wire::Closing { error: Some(error) }) = &body
                    {
                        warn!(
                            code = error.code().as_str_name(),
                            "the broker closes the connection: {}", error.message
                        );
                        self.driver.back_in =
                            Duration::from_millis(error.retry_after_ms).min(driver::BACK_IN_MAX);
                    }
                    self.driver.events.push(Event::Push(body));
                }
            }
        }
        Ok(())
    }

    /// While closing: parts from the broker as soon as nobody waits for anything.
    fn say_goodbye_when_done(&mut self) {
        let closing = self.give_up_at.is_some();
        if closing && self.drained && self.exchange.is_idle() && !self.exchange.has_said_goodbye() {
            self.exchange.say_goodbye();
            self.give_up_at = Some(Instant::now() + GOODBYE_PATIENCE);
        }
    }

    /// Closing takes too long: what is unanswered stays so, and then Goodbye does.
    fn lose_patience(&mut self) -> Option<Ended> {
        if self.exchange.has_said_goodbye() {
            return Some(Ended::Closed);
        }
        self.exchange.say_goodbye();
        self.give_up_at = Some(Instant::now() + GOODBYE_PATIENCE);
        None
    }

    /// Nothing may have come for long. After a stop of this whole program the bytes lie in the
    /// socket, unread.
    fn suspect_silence(&mut self, reading: bool) -> Option<Ended> {
        if reading && self.heard_at + self.silence_max <= Instant::now() {
            match self.reader.take_ready(&mut self.incoming) {
                true => self.heard_at = Instant::now(),
                false => {
                    return Some(Ended::Lost(format!(
                        "the broker was silent for {:?}",
                        self.silence_max
                    )));
                }
            }
        }
        let at_least = Instant::now() + self.silence_max / 5;
        self.silence.as_mut().reset((self.heard_at + self.silence_max).max(at_least));
        None
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
