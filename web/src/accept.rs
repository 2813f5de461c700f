//! Accepts connections, with TLS or without, and serves HTTP on each.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::caller::{Certificate, Peer};
use crate::guard::arrived;
use crate::router::Web;

/// The most connections at once. Further ones wait until one ends.
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
    let web = Arc::new(web);
    let graceful = GracefulShutdown::new();
    let accept = async {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut failed = false;
        loop {
            let place = places.clone().acquire_owned().await.expect("it is never closed");
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
                let _place = place;
                // Answers are written whole, so they need not wait for more bytes.
                let _ = stream.set_nodelay(true);
                let secured = match &secure {
                    None => Some(Secured { stream: Box::new(stream), certificate: None }),
                    Some(secure) => secure.secure(stream).await,
                };
                let Some(Secured { stream, certificate }) = secured else { return };
                let (address, certificate) = (address.ip(), certificate.map(Arc::new));
                let peer = Peer { address, certificate, encrypted: secure.is_some() };
                serve_connection(stream, peer, web, watcher).await;
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

async fn serve_connection(stream: Box<dyn Stream>, peer: Peer, web: Arc<Web>, watcher: Watcher) {
    let address = peer.address;
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let request = arrived(&web.shared.config, peer.clone(), request);
        web.router.clone().oneshot(request)
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
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        debug!(peer = %address, %error, "a connection over HTTP ends");
    }
}

/// A stream whose writes fail when the other side takes no byte for [`WRITE`].
struct Impatient<S> {
    stream: S,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S: Stream> Impatient<S> {
    fn new(stream: S) -> Self {
        Self { stream, waiting: None }
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
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
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
