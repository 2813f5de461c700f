//! The HTTP side within the process of the broker: its address, and its way to the broker, which is
//! the door of `celeriac_broker` and no socket.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use celeriac_broker::{Certificates, Control, Door, Origin, Purpose, Restored, ShownCertificate};
use celeriac_client::connection::{Connector, Halves};
use celeriac_client::{BrokerUrl, Client, ClientBuilder};
use celeriac_web::Web;
use celeriac_web::caller::Caller;
use celeriac_web::config::Settings;
use celeriac_web::upstream::{Health, Upstream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::ServeConfig;
use super::http_config::HttpAddress;
use super::sockets::{self, Sockets};
use crate::exit::Failure;
use crate::http_tls::secure;

/// The HTTP side while it serves.
pub(super) struct Http {
    pub(super) address: SocketAddr,
    pub(super) settings: Settings,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

/// What the HTTP side needs of the broker, before the broker serves.
pub(super) struct Inside {
    door: Door,
    restored: Restored,
    /// The broker, once it serves.
    control: watch::Receiver<Option<Control>>,
    certificates: Option<Certificates>,
    /// Whether everybody may read the figures, and the token that the broker asks for.
    figures: Option<String>,
}

impl Inside {
    pub(super) fn new(
        config: &ServeConfig,
        door: Door,
        restored: Restored,
        control: watch::Receiver<Option<Control>>,
        certificates: Option<Certificates>,
    ) -> Self {
        let token = config.broker.token.clone().unwrap_or_default();
        let figures = config.http.metrics_public.then_some(token);
        Self { door, restored, control, certificates, figures }
    }
}

impl Http {
    /// Listens and serves from now on. `None`: it is off.
    ///
    /// # Errors
    /// An address that was set cannot be used.
    pub(super) async fn start(
        config: &ServeConfig,
        sockets: &mut Sockets,
        inside: Inside,
    ) -> Result<Option<Self>, Failure> {
        let (config, knows_callers) = (&config.http, config.broker.knows_clients());
        let Some(listener) = listen(config.http_listen, sockets.http.take()).await? else {
            return Ok(None);
        };
        let address = listener.local_addr().map_err(|error| Failure::error(error.to_string()))?;
        let secure = secure(inside.certificates.clone());
        let web = Web::new(config.of_web(knows_callers), Arc::new(Local::new(inside)))
            .map_err(|(key, sentence)| Failure::usage(format!("{key}: {sentence}")))?;
        let (settings, stop) = (web.settings(), CancellationToken::new());
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(celeriac_web::serve(listener, secure, web, stopped));
        Ok(Some(Self { address, settings, stop, serving }))
    }

    /// Takes no more requests.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the requests under way, for a bounded time.
    pub(super) async fn ended(self) {
        self.stop.cancel();
        // It ends by itself soon.
        let _ = self.serving.await;
    }
}

async fn listen(
    address: HttpAddress,
    socket: Option<std::net::TcpListener>,
) -> Result<Option<TcpListener>, Failure> {
    if let Some(socket) = socket {
        let listener = sockets::listen(Some(socket), SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        return Ok(Some(listener));
    }
    match address {
        HttpAddress::Off => Ok(None),
        HttpAddress::At(address) => sockets::listen(None, address).await.map(Some),
        HttpAddress::Default(address) => match TcpListener::bind(address).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => {
                tracing::warn!(
                    %address,
                    %error,
                    "there is no HTTP side, because its default address cannot be used: set \
                     http_listen to another address, or to off"
                );
                Ok(None)
            }
        },
    }
}

/// The way to the broker of this process.
struct Local {
    url: BrokerUrl,
    inside: Inside,
}

impl Local {
    fn new(inside: Inside) -> Self {
        Self { url: "celeriac://localhost".parse().expect("it is an address"), inside }
    }

    /// A connection through the door, not yet open.
    fn enter(&self, token: &str, origin: Origin) -> ClientBuilder {
        let door = self.inside.door.clone();
        let enter = Connector::new(move |_address| {
            let (door, origin) = (door.clone(), origin.clone());
            async move {
                let (read, write) = tokio::io::split(door.enter(origin).await?);
                Ok(Halves { read: Box::new(read), write: Box::new(write) })
            }
        });
        Client::builder(self.url.text_with_token(token)).connector(enter)
    }
}

impl Upstream for Local {
    fn client(&self, caller: &Caller) -> ClientBuilder {
        let certificate = caller.certificate.as_deref().map(|certificate| ShownCertificate {
            names: certificate.names.clone(),
            identities: certificate.identities.clone(),
        });
        let origin = Origin { address: caller.address, certificate, purpose: Purpose::Client };
        self.enter(&caller.token, origin)
    }

    fn client_for_metrics(&self) -> Option<ClientBuilder> {
        let token = self.inside.figures.as_deref()?;
        let address = IpAddr::from([127, 0, 0, 1]);
        let origin = Origin { address, certificate: None, purpose: Purpose::Figures };
        Some(self.enter(token, origin))
    }

    fn health(&self) -> Pin<Box<dyn Future<Output = Health> + Send + '_>> {
        Box::pin(async {
            let control = self.inside.control.borrow().clone();
            let Some(control) = control else {
                return Health::Restoring { records: self.inside.restored.records() };
            };
            match control.pass().await {
                Some(passed) => {
                    let (draining, disk_is_low) = (passed.draining, passed.disk_is_low);
                    Health::Serves { draining, disk_is_low }
                }
                None => Health::Ends,
            }
        })
    }
}
