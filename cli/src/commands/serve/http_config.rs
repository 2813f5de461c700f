//! The settings of the HTTP side, and the forms of its address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use celeriac_web::config::WebConfig;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The settings of the HTTP side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct HttpConfig {
    pub(super) http_listen: HttpAddress,
    pub(super) http_hosts: Vec<String>,
    pub(super) http_origins: Vec<String>,
    pub(super) http_path_prefix: String,
    pub(super) http_trusted_proxies: Vec<IpAddr>,
    pub(super) metrics_public: bool,
}

impl HttpConfig {
    /// The settings as the HTTP side has them.
    pub(super) fn of_web(&self, knows_callers: bool) -> WebConfig {
        WebConfig {
            hosts: self.http_hosts.clone(),
            origins: self.http_origins.clone(),
            trusted_proxies: self.http_trusted_proxies.clone(),
            path_prefix: self.http_path_prefix.clone(),
            metrics_public: self.metrics_public,
            knows_callers,
        }
    }
}

/// Where the HTTP side listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpAddress {
    /// There is no HTTP side.
    Off,
    /// An address of the settings.
    At(SocketAddr),
    /// The address that nobody has set. A broker that finds it taken goes on without HTTP: another
    /// broker of this machine may have it.
    Default(SocketAddr),
}

impl HttpAddress {
    /// The default beside this address of the protocol: this machine alone, and the next port.
    pub(super) fn beside(listen: SocketAddr) -> Self {
        let port = match listen.port() {
            0 => 0,
            u16::MAX => return Self::Off,
            port => port + 1,
        };
        Self::Default(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    pub(super) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) | Self::Default(address) => Some(address),
        }
    }
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|_| {
                "give an IP address and a port, such as 127.0.0.1:23538, or off".to_owned()
            }),
        }
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl Serialize for HttpAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HttpAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
