//! A connection to the broker for each caller, kept while the caller comes back. The broker decides
//! for each connection what it may do, so callers never share one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use celeriac_client::{Client, Error};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::api::BodyRoom;
use crate::caller::Caller;
use crate::live::Looks;
use crate::problem::Problem;
use crate::upstream::Upstream;

/// A connection that nobody used for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// The time between two looks for idle connections.
const LOOK: Duration = Duration::from_secs(5);
/// The most connections. Beyond them the one that was used longest ago makes room.
const CONNECTIONS_MAX: usize = 1_000;
/// How long a request waits for the answer of the broker.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most streams at once, in all and of one token.
const STREAMS_MAX: usize = 1_000;
const STREAMS_OF_ONE_MAX: usize = 100;

/// The connections of all callers.
pub(crate) struct Callers {
    upstream: Arc<dyn Upstream>,
    /// Callers have to name a token or show a certificate.
    knows_callers: bool,
    kept: Mutex<HashMap<Caller, Arc<Kept>>>,
    /// The shares that somebody holds.
    shares: Mutex<HashMap<Caller, Weak<Share>>>,
    streams: Arc<Semaphore>,
    /// The connection for figures that everybody may read.
    everybody: OnceCell<Client>,
}

/// The connection of one caller.
struct Kept {
    client: OnceCell<Client>,
    used: Mutex<Instant>,
    share: Arc<Share>,
    /// What the streams of the caller have seen.
    looks: Mutex<Arc<Looks>>,
}

/// What all callers with one token may have together, from whatever addresses they come.
struct Share {
    streams: Arc<Semaphore>,
    bodies: Arc<BodyRoom>,
}

/// The right to one stream.
pub(crate) struct StreamPermit {
    _of_all: OwnedSemaphorePermit,
    _of_one: OwnedSemaphorePermit,
    /// It is kept while the stream goes on, also when the connection of the caller makes room.
    _share: Arc<Share>,
    kept: Arc<Kept>,
    looks: Arc<Looks>,
}

impl Callers {
    pub(crate) fn new(upstream: Arc<dyn Upstream>, knows_callers: bool) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let (kept, shares) = <(Mutex<_>, Mutex<_>)>::default();
        Self { upstream, knows_callers, kept, shares, streams, everybody: OnceCell::new() }
    }

    pub(crate) fn upstream(&self) -> &dyn Upstream {
        &*self.upstream
    }

    /// The connection of this caller, opened if there is none.
    pub(crate) async fn client(&self, caller: &Caller) -> Result<Client, Problem> {
        // Nobody has tried a token, so the broker hears of no login that failed.
        if self.knows_callers && caller.is_nobody() {
            return Err(Problem::unauthenticated("the token is missing"));
        }
        let kept = self.kept(caller);
        let connect = || self.upstream.client(caller).timeout(TIMEOUT).instance("http").connect();
        match kept.client.get_or_try_init(connect).await {
            Ok(client) => Ok(client.clone()),
            Err(error) => {
                self.forget(caller, &kept);
                Err(error.into())
            }
        }
    }

    /// The answer of the broker to a request of this caller.
    pub(crate) async fn ask<T>(
        &self,
        caller: &Caller,
        request: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        let client = self.client(caller).await?;
        request(client).await.map_err(|error| {
            // The entry of the caller is gone, or its connection is: the next request begins anew.
            if matches!(error, Error::Handshake { .. } | Error::Closed) {
                let kept = self.kept(caller);
                self.forget(caller, &kept);
            }
            error.into()
        })
    }

    /// The answer to a request for the figures that everybody may read.
    pub(crate) async fn ask_for_everybody<T>(
        &self,
        request: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Result<T, Problem> {
        let builder = self.upstream.client_for_metrics();
        let builder =
            builder.ok_or_else(|| Problem::unauthenticated("the figures need a token"))?;
        let connect = || builder.timeout(TIMEOUT).instance("http-metrics").connect();
        let client = self.everybody.get_or_try_init(connect).await?;
        Ok(request(client.clone()).await?)
    }

    /// The right to one stream, while there are not too many. Who is not let in takes none.
    pub(crate) async fn stream(&self, caller: &Caller) -> Result<StreamPermit, Problem> {
        self.client(caller).await?;
        let kept = self.kept(caller);
        let full =
            |whose: &str| Problem::overloaded(format!("there are too many streams of {whose}"));
        let share = kept.share.clone();
        let of_one = share.streams.clone().try_acquire_owned();
        let of_one = of_one.map_err(|_| full("this token"))?;
        let of_all = self.streams.clone().try_acquire_owned().map_err(|_| full("all callers"))?;
        let looks = kept.looks.lock().expect("no panic while it is locked").clone();
        Ok(StreamPermit { _of_all: of_all, _of_one: of_one, _share: share, kept, looks })
    }

    /// The caller has changed something: a page that is opened from now on sees nothing of before.
    pub(crate) fn look_anew(&self, caller: &Caller) {
        *self.kept(caller).looks.lock().expect("no panic while it is locked") = Arc::default();
    }

    /// The share of this caller of the room for bodies.
    pub(crate) fn body_room(&self, caller: &Caller) -> Arc<BodyRoom> {
        self.kept(caller).share.bodies.clone()
    }

    fn kept(&self, caller: &Caller) -> Arc<Kept> {
        let now = Instant::now();
        let mut all = self.kept.lock().expect("no panic while it is locked");
        if let Some(kept) = all.get(caller) {
            kept.touch(now);
            return kept.clone();
        }
        if all.len() >= CONNECTIONS_MAX
            && let Some(oldest) =
                all.iter().min_by_key(|(_, kept)| kept.rank()).map(|(it, _)| it.clone())
        {
            all.remove(&oldest);
        }
        let kept = Arc::new(Kept {
            client: OnceCell::new(),
            used: Mutex::new(now),
            share: self.share(caller),
            looks: Mutex::default(),
        });
        all.insert(caller.clone(), kept.clone());
        kept
    }

    /// The share of the token of this caller. Without a token an address has a share.
    fn share(&self, caller: &Caller) -> Arc<Share> {
        let key = match caller.is_nobody() {
            true => caller.clone(),
            false => caller.without_address(),
        };
        let mut all = self.shares.lock().expect("no panic while it is locked");
        if let Some(share) = all.get(&key).and_then(Weak::upgrade) {
            return share;
        }
        all.retain(|_, share| share.strong_count() > 0);
        let streams = Arc::new(Semaphore::new(STREAMS_OF_ONE_MAX));
        let share = Arc::new(Share { streams, bodies: Arc::new(BodyRoom::of_one()) });
        all.insert(key, Arc::downgrade(&share));
        share
    }

    fn forget(&self, caller: &Caller, failed: &Arc<Kept>) {
        let mut all = self.kept.lock().expect("no panic while it is locked");
        if all.get(caller).is_some_and(|kept| Arc::ptr_eq(kept, failed)) {
            all.remove(caller);
        }
    }

    /// Closes idle connections until it is dropped.
    pub(crate) async fn close_idle(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = Instant::now();
            let is_used = |kept: &Arc<Kept>| {
                kept.share.streams.available_permits() < STREAMS_OF_ONE_MAX
                    || now.duration_since(kept.used()) < IDLE
            };
            // A connection closes when its last handle goes, so a request under way ends in peace.
            self.kept.lock().expect("no panic while it is locked").retain(|_, kept| is_used(kept));
        }
    }
}

impl StreamPermit {
    /// What all streams of this caller look at.
    pub(crate) fn looks(&self) -> &Arc<Looks> {
        &self.looks
    }
}

impl Kept {
    fn used(&self) -> Instant {
        *self.used.lock().expect("no panic while it is locked")
    }

    /// Which connection makes room: one that is not open, such as that of a wrong token, before
    /// those that are, and among them the one that was used longest ago.
    fn rank(&self) -> (bool, Instant) {
        (self.client.initialized(), self.used())
    }

    fn touch(&self, now: Instant) {
        *self.used.lock().expect("no panic while it is locked") = now;
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.kept.touch(Instant::now());
    }
}
