//! Accepts connections, with TLS or without, and serves HTTP on each.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HeaderMap};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::caller::{Certificate, Peer};
use crate::guard::arrived;
use crate::places::{Answering, Place, Places, UnderWay};
use crate::router::Web;

/// The most connections at once. Beyond them one without a request under way makes room.
const CONNECTIONS_MAX: usize = 4_096;
/// The headers of a request have this long, and so has the next request of a connection.
const HEADERS: Duration = Duration::from_secs(30);
/// The longest request line and headers together.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// A client that takes no byte for this long is closed.
const WRITE: Duration = Duration::from_secs(30);
/// After a failed accept (mostly for lack of file descriptors) the next one waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At the end, requests under way have this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Makes the handshake of TLS. A handshake that fails gives `None`.
pub trait Secure: Send + Sync + 'static {
    /// The stream inside of TLS.
    fn secure(
        &self,
        stream: TcpStream,
    ) -> Pin<Box<dyn Future<Output = Option<Secured>> + Send + '_>>;
}

/// A connection after its handshake.
pub struct Secured {
    /// The stream inside of TLS.
    pub stream: Box<dyn Stream>,
    /// The certificate that the client has shown.
    pub certificate: Option<Certificate>,
}

/// Serves HTTP on this listener until `shutdown` resolves, and then ends the requests under way.
pub async fn serve(
    listener: TcpListener,
    secure: Option<Arc<dyn Secure>>,
    web: Web,
    shutdown: impl Future<Output = ()>,
) {
    if let Ok(address) = listener.local_addr() {
        web.shared.sessions.are_of_port(address.port());
    }
    let web = Arc::new(web);
    let graceful = GracefulShutdown::new();
    let accept = async {
        let places = Places::new(CONNECTIONS_MAX);
        let mut failed = false;
        loop {
            let place = places.take().await;
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        warn!(%error, "cannot accept over HTTP; trying again until it works");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            failed = false;
            let (web, secure, watcher) = (web.clone(), secure.clone(), graceful.watcher());
            tokio::spawn(async move {
                // Answers are written whole, so they need not wait for more bytes.
                let _ = stream.set_nodelay(true);
                let secured = match &secure {
                    None => Some(Secured { stream: Box::new(stream), certificate: None }),
                    Some(secure) => tokio::select! {
                        secured = secure.secure(stream) => secured,
                        () = place.leave.cancelled() => None,
                    },
                };
                let Some(Secured { stream, certificate }) = secured else { return };
                // On an address of IPv6 a client of IPv4 has one of both kinds. It counts as IPv4.
                let address = address.ip().to_canonical();
                let certificate = certificate.map(Arc::new);
                let peer = Peer { address, certificate, encrypted: secure.is_some() };
                serve_connection(stream, peer, web, place, watcher).await;
            });
        }
    };
    tokio::select! {
        () = accept => unreachable!("accepting goes on until it is dropped"),
        () = web.shared.callers.close_idle() => unreachable!("looking goes on until it is dropped"),
        () = shutdown => {}
    }
    web.shared.stop.cancel();
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        debug!("some requests over HTTP did not end in time");
    }
}

/// Serves HTTP on one stream, for a client at this address, until the stream ends.
pub async fn serve_stream(stream: Box<dyn Stream>, address: IpAddr, web: Arc<Web>) {
    let peer = Peer { address, certificate: None, encrypted: false };
    let place = Places::new(1).take().await;
    serve_connection(stream, peer, web, place, GracefulShutdown::new().watcher()).await;
}

async fn serve_connection(
    stream: Box<dyn Stream>,
    peer: Peer,
    web: Arc<Web>,
    place: Arc<Place>,
    watcher: Watcher,
) {
    let (address, leave) = (peer.address, place.leave.clone());
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let under_way = UnderWay::begin(&place);
        let mut request = arrived(&web.shared.settings.now(), peer.clone(), request);
        request.extensions_mut().insert(place.clone());
        let answer = web.router.clone().oneshot(request);
        async move {
            answer.await.map(|answer| {
                let is_stream = is_stream(answer.headers());
                answer.map(|body| Answering::new(body, is_stream, under_way))
            })
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADERS)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(100);
    let connection = builder.serve_connection(TokioIo::new(Impatient::new(stream)), answer);
    tokio::select! {
        ended = watcher.watch(connection.into_owned()) => if let Err(error) = ended {
            debug!(peer = %address, %error, "a connection over HTTP ends");
        },
        () = leave.cancelled() => debug!(peer = %address, "a silent connection makes room"),
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

/// The first bytes of a connection of HTTP/2. Until a byte differs from them, or all have come, the
/// version is not known, and nothing else bounds how long a client takes.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose writes fail when the other side takes no byte for [`WRITE`], and whose reads fail
/// when the version of the protocol is not known after [`HEADERS`].
struct Impatient<S> {
    stream: S,
    waiting: Option<Pin<Box<Sleep>>>,
    /// What has to come of the preface, and until when.
    opening: Option<(&'static [u8], Pin<Box<Sleep>>)>,
}

impl<S: Stream> Impatient<S> {
    fn new(stream: S) -> Self {
        let opening = Some((PREFACE, Box::pin(tokio::time::sleep(HEADERS))));
        Self { stream, waiting: None, opening }
    }

    /// Compares what has come with the preface.
    fn hears(&mut self, bytes: &[u8]) {
        if let Some((rest, _)) = &mut self.opening {
            match rest.strip_prefix(bytes).filter(|rest| !rest.is_empty()) {
                Some(left) => *rest = left,
                None => self.opening = None,
            }
        }
    }

    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Stream> AsyncRead for Impatient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (this, before) = (self.get_mut(), buffer.filled().len());
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if polled.is_ready() {
            this.hears(&buffer.filled()[before..]);
            return polled;
        }
        match &mut this.opening {
            Some((_, until)) => {
                until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            None => Poll::Pending,
        }
    }
}

impl<S: Stream> AsyncWrite for Impatient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.bounded(context, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        this.bounded(context, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(context);
        this.bounded(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    /// How long a connection stays on which these bytes came and no others.
    async fn stays(bytes: &[u8]) -> Result<Duration, ()> {
        let (mut ours, theirs) = duplex(1_024);
        let mut stream = Impatient::new(theirs);
        ours.write_all(bytes).await.expect("it is open");
        let began = Instant::now();
        let read = async {
            let mut buffer = [0; 7];
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
            began.elapsed()
        };
        timeout(HEADERS * 10, read).await.map_err(|_| ())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_say_its_version_is_closed() {
        for bytes in [&b""[..], b"P", b"PRI * HTT", &PREFACE[..PREFACE.len() - 1]] {
            assert_eq!(stays(bytes).await, Ok(HEADERS), "{bytes:?}");
        }
        // From here on hyper has its own deadlines.
        for bytes in [&b"G"[..], b"PRI * HTTP/1", PREFACE, b"GET / HTTP/1.1\r\n"] {
            assert_eq!(stays(bytes).await, Err(()), "{bytes:?}");
        }
    }
}
