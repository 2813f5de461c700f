//! The way to the broker: in the same process, or over the network.

use std::pin::Pin;
use std::time::Duration;

use celeriac_client::{BrokerUrl, Client, ClientBuilder, Error};

use crate::caller::Caller;

/// How long a broker on another machine may take to open a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to show that it serves. This is shorter than the patience of the probes, so
/// that a silent broker is told from a server that is stuck itself.
const SIGN_OF_LIFE: Duration = Duration::from_secs(4);

/// The id of a task that nobody has: the broker looks for it to show that it serves.
const NO_TASK: &str = "celeriac-health";

/// The way to the broker.
pub trait Upstream: Send + Sync + 'static {
    /// A connection on behalf of this caller, not yet open.
    fn client(&self, caller: &Caller) -> ClientBuilder;

    /// A connection that may read the figures of all queues, for `/metrics` without a token.
    /// `None`: there is none.
    fn client_for_metrics(&self) -> Option<ClientBuilder>;

    /// How the broker is. The future ends within some seconds.
    fn health(&self) -> Pin<Box<dyn Future<Output = Health> + Send + '_>>;
}

/// How the broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The broker reads its data folder, and has read so many records.
    Restoring {
        /// The number of records.
        records: u64,
    },
    /// A request has come through.
    Serves {
        /// An operator drains the broker: it delivers no task.
        draining: bool,
        /// The disk is low: the broker takes no new task.
        disk_is_low: bool,
    },
    /// No request comes through.
    Silent,
    /// The broker is another process, and no request comes through to it.
    Away,
    /// The broker shuts down.
    Ends,
}

/// A broker that is reached over the network.
#[derive(Debug, Clone)]
pub struct Remote {
    url: BrokerUrl,
}

impl Remote {
    /// The broker at this address. Its token is used for nothing but the question whether the
    /// broker serves.
    pub fn new(url: BrokerUrl) -> Self {
        Self { url }
    }

    fn builder(&self, token: &str) -> ClientBuilder {
        Client::builder(self.url.text_with_token(token)).connect_timeout(CONNECT)
    }

    async fn sign_of_life(&self) -> Result<(), Error> {
        let client = self.builder(self.url.token()).timeout(SIGN_OF_LIFE).connect().await?;
        let answer = client.info(&[NO_TASK]).await.map(drop);
        client.close().await;
        answer
    }
}

impl Upstream for Remote {
    fn client(&self, caller: &Caller) -> ClientBuilder {
        self.builder(&caller.token)
    }

    fn client_for_metrics(&self) -> Option<ClientBuilder> {
        None
    }

    fn health(&self) -> Pin<Box<dyn Future<Output = Health> + Send + '_>> {
        Box::pin(async {
            let answer = tokio::time::timeout(SIGN_OF_LIFE, self.sign_of_life()).await;
            match answer {
                // A broker that refuses a token answers. What it does with tasks is not told.
                Ok(Ok(()) | Err(Error::Refused { retryable: false, .. })) => {
                    Health::Serves { draining: false, disk_is_low: false }
                }
                Ok(Err(Error::Handshake { retryable: false, .. })) => {
                    Health::Serves { draining: false, disk_is_low: false }
                }
                _ => Health::Away,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn o25_a_broker_elsewhere_that_does_not_answer_is_away() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = nobody.local_addr().expect("it is bound");
        drop(nobody);
        let url = format!("celeriac://{address}").parse().expect("an address");
        assert_eq!(Remote::new(url).health().await, Health::Away);
    }
}
