//! `celeriac web`: the HTTP side of a broker that runs elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::{Certificates, Config};
use celeriac_client::{BrokerUrl, Client, Error};
use celeriac_web::Web;
use celeriac_web::config::WebConfig;
use celeriac_web::upstream::Remote;
use clap::Args;
use tokio::net::TcpListener;

use crate::arguments::SharedOptions;
use crate::connection::broker;
use crate::exit::{Exit, Failure};
use crate::http_tls::secure;
use crate::output::{Output, print_to_stderr};
use crate::signals::{HangUp, ShutdownSignals};
use celeriac_web::printable::clean;

/// The pause between two attempts to reach the broker.
const PAUSE: Duration = Duration::from_secs(1);

/// The arguments of `web`.
#[derive(Args)]
pub(crate) struct WebArguments {
    /// The IP address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:23538")]
    listen: SocketAddr,

    /// Names under which browsers reach this server, beside those of this machine
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    hosts: Vec<String>,

    /// Origins such as `https://ops.example` whose pages may read the answers
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    origins: Vec<String>,

    /// The path below which a proxy serves everything, such as /celeriac
    #[arg(long, value_name = "PATH", default_value = "")]
    path_prefix: String,

    /// Proxies whose X-Forwarded-For names the client
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    trusted_proxies: Vec<IpAddr>,

    /// The file with the certificate of this server, in PEM: every connection speaks TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,

    /// The file with the private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,

    /// Allow an address that other machines reach, for a broker that asks for no token
    #[arg(long)]
    insecure: bool,
}

/// Serves until a signal ends it. Each caller's token goes to the broker, which decides.
pub(crate) async fn run(
    arguments: WebArguments,
    shared: &SharedOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut signals = ShutdownSignals::listen(HangUp::Ends)?;
    let url = broker(shared, |warning| print_to_stderr(&clean(warning)))?.url;
    let url: BrokerUrl = url.parse().map_err(|error| Failure::usage(format!("--url: {error}")))?;
    let tls = Config {
        tls_certificate: arguments.tls_certificate,
        tls_key: arguments.tls_key,
        ..Config::default()
    };
    let certificates = Certificates::of(&tls).map_err(|error| Failure::usage(error.to_string()))?;
    let knows_callers = tokio::select! {
        asked = asks_for_tokens(&url) => asked?,
        _ = signals.next() => return Ok(Exit::Success),
    };
    let listen = arguments.listen;
    if !listen.ip().to_canonical().is_loopback() && !knows_callers && !arguments.insecure {
        return Err(Failure::usage(format!(
            "--listen: other machines can reach {listen}, and the broker asks for no token: give \
             the broker one, or allow it with --insecure"
        )));
    }
    if !listen.ip().to_canonical().is_loopback() && knows_callers && certificates.is_none() {
        print_to_stderr(
            "the tokens of callers cross the network in clear text: let only a trusted network \
             reach this port, or set --tls-certificate and --tls-key",
        );
    }
    let config = WebConfig {
        hosts: arguments.hosts,
        origins: arguments.origins,
        trusted_proxies: arguments.trusted_proxies,
        path_prefix: arguments.path_prefix,
        metrics_public: false,
        knows_callers,
    };
    let web = Web::new(config, Arc::new(Remote::new(url)))
        .map_err(|(key, sentence)| Failure::usage(format!("{key}: {sentence}")))?;
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Address, format!("cannot listen on {listen}: {error}"))
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    output.line(&format!("celeriac: HTTP on {address}"))?;
    let keep_fresh = async {
        match &certificates {
            Some(certificates) => certificates.keep_fresh().await,
            None => std::future::pending().await,
        }
    };
    let end = async {
        tokio::select! {
            _ = signals.next() => {}
            () = keep_fresh => {}
        }
    };
    celeriac_web::serve(listener, secure(certificates.clone()), web, end).await;
    Ok(Exit::Success)
}

/// Whether the broker refuses a client without a token. Waits until the broker answers.
async fn asks_for_tokens(url: &BrokerUrl) -> Result<bool, Failure> {
    let mut was_said = false;
    loop {
        let client = Client::builder(url.text_with_token("")).connect().await;
        match client {
            Ok(client) => {
                client.close().await;
                return Ok(false);
            }
            Err(Error::Handshake { retryable: false, .. }) => return Ok(true),
            Err(
                error @ (Error::Connect { .. } | Error::Handshake { .. } | Error::Timeout { .. }),
            ) => {
                if !std::mem::replace(&mut was_said, true) {
                    print_to_stderr(&clean(&format!("{error}; trying again until it answers")));
                }
            }
            Err(error) => return Err(crate::connection::failure(error)),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
