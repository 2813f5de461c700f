//! The settings of the HTTP side. The command line reads files and flags.

use std::net::IpAddr;
use std::sync::{Arc, RwLock};

/// The settings of the HTTP side.
#[derive(Debug, Clone, Default)]
pub struct WebConfig {
    /// The names by which clients may address this server beside the loopback ones, such as
    /// `celeriac.example`. Without tokens every other `Host` is refused: a page of a stranger may
    /// point a name of its own at this machine.
    pub hosts: Vec<String>,
    /// The origins, such as `https://ops.example`, whose pages may read the API.
    pub origins: Vec<String>,
    /// The proxies whose `X-Forwarded-For` and `X-Forwarded-Prefix` count.
    pub trusted_proxies: Vec<IpAddr>,
    /// The path below which a proxy serves everything, such as `/celeriac`; empty for none.
    pub path_prefix: String,
    /// `/metrics` answers without a token.
    pub metrics_public: bool,
    /// Callers have to name a token or show a certificate. Then every `Host` is served.
    pub knows_callers: bool,
}

impl WebConfig {
    /// A proxy of IPv4 has the same address on a listener of IPv6.
    fn canonical(mut self) -> Self {
        for proxy in &mut self.trusted_proxies {
            *proxy = proxy.to_canonical();
        }
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The key of the setting that cannot be used, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let prefix = &self.path_prefix;
        if !prefix.is_empty() && !is_prefix(prefix) {
            let sentence = format!("`{prefix}` is no path such as /celeriac");
            return Err(("http_path_prefix", sentence));
        }
        for origin in &self.origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(['/', '*', ' '])) {
                let sentence = format!("`{origin}` is no origin such as https://ops.example");
                return Err(("http_origins", sentence));
            }
        }
        match self.hosts.iter().find(|host| host.is_empty() || host.contains(['/', '*', ' ', '@']))
        {
            Some(host) => Err(("http_hosts", format!("`{host}` is no host name"))),
            None => Ok(()),
        }
    }
}

/// The settings that count. A clone is another handle on the same ones.
#[derive(Debug, Clone)]
pub struct Settings(Arc<RwLock<Arc<WebConfig>>>);

impl Settings {
    pub(crate) fn new(config: WebConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config.canonical()))))
    }

    /// The settings of this moment.
    pub(crate) fn now(&self) -> Arc<WebConfig> {
        self.0.read().expect("no panic while it is locked").clone()
    }

    /// Takes [`WebConfig::hosts`] and [`WebConfig::trusted_proxies`] of these settings, which were
    /// checked, for every request that comes from now on. The other settings stay.
    pub fn take(&self, new: WebConfig) {
        let mut counts = self.0.write().expect("no panic while it is locked");
        let WebConfig { hosts, trusted_proxies, .. } = new.canonical();
        *counts = Arc::new(WebConfig { hosts, trusted_proxies, ..WebConfig::clone(&counts) });
    }
}

/// Whether every link may begin with this text.
pub(crate) fn is_prefix(prefix: &str) -> bool {
    let is_path = prefix.starts_with('/') && !prefix.ends_with('/') && !prefix.contains("//");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    is_path && prefix.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o20_hosts_and_proxies_are_taken_and_the_other_settings_stay() {
        let settings = Settings::new(WebConfig { knows_callers: true, ..WebConfig::default() });
        let other = settings.clone();
        other.take(WebConfig {
            hosts: vec!["a.example".into()],
            trusted_proxies: vec!["::ffff:10.0.0.1".parse().expect("an address")],
            metrics_public: true,
            path_prefix: "/x".into(),
            ..WebConfig::default()
        });
        let now = settings.now();
        assert_eq!(now.hosts, ["a.example"]);
        assert_eq!(now.trusted_proxies, [IpAddr::from([10, 0, 0, 1])]);
        assert!(now.knows_callers && !now.metrics_public && now.path_prefix.is_empty());
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let key = |config: WebConfig| config.check().err().map(|(key, _)| key);
        for prefix in ["/", "a", "/a/", "/a//b", "/a b", "/<b>"] {
            let config = WebConfig { path_prefix: prefix.into(), ..WebConfig::default() };
            assert_eq!(key(config), Some("http_path_prefix"), "{prefix}");
        }
        for origin in ["*", "ops.example", "https://", "https://ops.example/", "https://*.example"]
        {
            let config = WebConfig { origins: vec![origin.into()], ..WebConfig::default() };
            assert_eq!(key(config), Some("http_origins"), "{origin}");
        }
        let config = WebConfig {
            path_prefix: "/a/b".into(),
            origins: vec!["https://ops.example:8443".into()],
            hosts: vec!["celeriac.example".into()],
            ..WebConfig::default()
        };
        assert_eq!(key(config), None);
    }
}
