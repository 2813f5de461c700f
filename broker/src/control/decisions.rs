//! Which settings a reload takes, and which need a restart. A setting of [`Config`] without a line
//! here does not compile.

use crate::config::Config;

/// New settings, compared with those that count.
#[derive(Debug)]
pub(super) struct Decided {
    /// The settings that count, with those of the new ones that a reload takes.
    pub config: Config,
    pub taken: Vec<&'static str>,
    pub needs_restart: Vec<&'static str>,
}

impl Decided {
    fn take<T: Clone + PartialEq>(
        &mut self,
        key: &'static str,
        setting: impl Fn(&mut Config) -> &mut T,
        new: &T,
    ) {
        let counts = setting(&mut self.config);
        if counts != new {
            counts.clone_from(new);
            self.taken.push(key);
        }
    }

    fn keep<T: PartialEq>(&mut self, key: &'static str, counts: &T, new: &T) {
        if counts != new {
            self.needs_restart.push(key);
        }
    }
}

/// Decides about each setting.
pub(super) fn decide(counts: &Config, new: &Config) -> Decided {
    let Config {
        data,
        token,
        tls_certificate,
        tls_key,
        tls_client,
        tls_client_ca,
        access_file,
        backup_folder,
        audit_file,
        audit,
        heartbeat_ms,
        lease_ms,
        frame_bytes_max,
        payload_bytes_max,
        result_bytes_max,
        connections_max,
        result_ttl_ms,
        disk_reserve_bytes,
        commit_timeout_ms,
    } = new;
    let mut decided =
        Decided { config: counts.clone(), taken: Vec::new(), needs_restart: Vec::new() };
    let it = &mut decided;
    it.keep("data", &counts.data, data);
    // Sessions compare it at their Hello, and clients that are connected would keep their rights.
    it.keep("token", &counts.token, token);
    // TLS on or off, and whether clients show a certificate, decide who is let in. The files then
    // belong to the other way, and none of them is taken.
    let is_same_way = counts.tls_certificate.is_some() == tls_certificate.is_some()
        && counts.tls_client == *tls_client;
    it.keep("tls_client", &counts.tls_client, tls_client);
    if is_same_way {
        it.take("tls_certificate", |config| &mut config.tls_certificate, tls_certificate);
        it.take("tls_key", |config| &mut config.tls_key, tls_key);
        it.take("tls_client_ca", |config| &mut config.tls_client_ca, tls_client_ca);
    } else {
        it.keep("tls_certificate", &counts.tls_certificate, tls_certificate);
        it.keep("tls_key", &counts.tls_key, tls_key);
        it.keep("tls_client_ca", &counts.tls_client_ca, tls_client_ca);
    }
    // The content of the access file is read again in any case. Another file, or none, would be
    // another way to let clients in.
    it.keep("access_file", &counts.access_file, access_file);
    it.keep("backup_folder", &counts.backup_folder, backup_folder);
    it.keep("audit_file", &counts.audit_file, audit_file);
    it.keep("audit", &counts.audit, audit);
    // Every connection was told these in its Welcome, and the machine's timers run by them.
    it.keep("heartbeat_ms", &counts.heartbeat_ms, heartbeat_ms);
    it.keep("lease_ms", &counts.lease_ms, lease_ms);
    it.keep("frame_bytes_max", &counts.frame_bytes_max, frame_bytes_max);
    it.keep("payload_bytes_max", &counts.payload_bytes_max, payload_bytes_max);
    it.keep("result_bytes_max", &counts.result_bytes_max, result_bytes_max);
    it.take("connections_max", |config| &mut config.connections_max, connections_max);
    it.take("result_ttl_ms", |config| &mut config.result_ttl_ms, result_ttl_ms);
    it.take("disk_reserve_bytes", |config| &mut config.disk_reserve_bytes, disk_reserve_bytes);
    it.keep("commit_timeout_ms", &counts.commit_timeout_ms, commit_timeout_ms);
    decided
}
