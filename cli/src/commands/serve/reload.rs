//! SIGHUP: reads the settings again while the broker serves, all or nothing.
//!
//! `celeriac_broker::Control` decides about the settings of the broker. This file decides about
//! those of the process around it: a setting of [`ServeConfig`] without a line here does not
//! compile.

use std::sync::Arc;

use celeriac_broker::Control;
use celeriac_web::config::Settings;

use super::config::ServeConfig;
use super::names::names_of;
use super::source::{Loaded, Source};
use crate::exit::Failure;
use crate::logging::LogFilter;

/// The settings of a process that serves.
pub(super) struct Reload {
    pub(super) source: Arc<Source>,
    /// The settings that count.
    pub(super) counts: ServeConfig,
    pub(super) log: Arc<LogFilter>,
    pub(super) control: Control,
    pub(super) access: AccessText,
    /// The HTTP side, if there is one.
    pub(super) http: Option<Settings>,
}

/// What the access file said when it was read last. The broker reads it again in any case; the log
/// says whether anything in it is new.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AccessText(Option<Vec<u8>>);

impl AccessText {
    pub(super) fn read(config: &ServeConfig) -> Self {
        Self(config.broker.access_file.as_ref().and_then(|file| std::fs::read(file).ok()))
    }
}

impl Reload {
    /// Reads the settings again, and says in the log what became of them.
    pub(super) async fn run(&mut self) {
        match self.take().await {
            Ok((taken, needs_restart)) => {
                tracing::info!(changed = names(&taken), "the settings were read again");
                if !needs_restart.is_empty() {
                    let settings = names(&needs_restart);
                    tracing::warn!(settings, "these settings have changed and need a restart");
                }
            }
            Err(error) => {
                self.control.note_failed_reload();
                tracing::error!(
                    error,
                    "the settings were read again and nothing of them is taken: the ones before still count"
                );
            }
        }
    }

    /// Takes the settings, or none of them. Returns the keys of those that were taken, and of those
    /// that need a restart.
    async fn take(&mut self) -> Result<(Vec<&'static str>, Vec<&'static str>), String> {
        let source = self.source.clone();
        // A file may lie on a disk that does not answer.
        let loading = tokio::task::spawn_blocking(move || {
            let loaded = source.load()?;
            let access = AccessText::read(&loaded.config);
            Ok::<_, Failure>((loaded, access))
        });
        let loaded = loading.await.map_err(|error| error.to_string())?;
        let (Loaded { config, warnings }, access) = loaded.map_err(sentence)?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let ServeConfig { listen, listen_plain, http, insecure, log, log_format, broker } = config;
        // The broker comes first, because it may still refuse.
        let reloaded =
            self.control.reload(broker.clone()).await.map_err(|error| error.to_string())?;
        let (mut taken, mut needs_restart) = (reloaded.taken, reloaded.needs_restart);
        // Another name of the file needs a restart, and nothing of that file counts before.
        if self.counts.broker.access_file == broker.access_file && self.access != access {
            self.access = access;
            taken.push("access_file");
        }
        // A filter that `celeriac log` has set stays until the setting changes.
        if self.counts.log != log {
            // It was parsed before, so this does not fail.
            self.log.set(&log)?;
            self.counts.log = log;
            taken.push("log");
        }
        if let Some(settings) = &self.http {
            settings.take(http.of_web(broker.knows_clients()));
        }
        let counts = &mut self.counts.http;
        for (key, is_same) in [
            ("http_hosts", counts.http_hosts == http.http_hosts),
            ("http_trusted_proxies", counts.http_trusted_proxies == http.http_trusted_proxies),
        ] {
            if !is_same {
                taken.push(key);
            }
        }
        counts.http_hosts.clone_from(&http.http_hosts);
        counts.http_trusted_proxies.clone_from(&http.http_trusted_proxies);
        for (key, is_same) in [
            ("listen", self.counts.listen == listen),
            ("listen_plain", self.counts.listen_plain == listen_plain),
            ("http_listen", self.counts.http.http_listen == http.http_listen),
            ("http_origins", self.counts.http.http_origins == http.http_origins),
            ("http_path_prefix", self.counts.http.http_path_prefix == http.http_path_prefix),
            ("metrics_public", self.counts.http.metrics_public == http.metrics_public),
            ("insecure", self.counts.insecure == insecure),
            ("log_format", self.counts.log_format == log_format),
        ] {
            if !is_same {
                needs_restart.push(key);
            }
        }
        Ok((taken, needs_restart))
    }
}

fn sentence(failure: Failure) -> String {
    match failure {
        Failure::Sentence { sentence, .. } => sentence,
        Failure::ReaderGone => "a reader is gone".to_owned(),
    }
}

/// The names of settings as people write them.
fn names(keys: &[&'static str]) -> String {
    let names = keys.iter().map(|key| names_of(key)[0]);
    names.collect::<Vec<_>>().join(", ")
}
