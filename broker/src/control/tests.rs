//! Which settings are taken and which are named, that all or none are taken, and that a call comes
//! through the driver and the commit.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::commit::{self, CommitConfig};
use crate::config::{AuditWhat, TlsClient};
use crate::descriptors::Places;
use crate::server::{Broker, Running};
use crate::session::Decoding;
use crate::testing::TestBroker;

/// A configuration in which each setting differs from the one of [`before`].
fn after() -> Config {
    Config {
        data: "b".into(),
        token: Some("b".to_owned()),
        tls_certificate: Some("b".into()),
        tls_key: Some("b".into()),
        tls_client: TlsClient::Required,
        tls_client_ca: Some("b".into()),
        access_file: Some("b".into()),
        backup_folder: Some("b".into()),
        audit_file: Some("b".into()),
        audit: AuditWhat::All,
        heartbeat_ms: 1,
        lease_ms: 1,
        frame_bytes_max: 1,
        payload_bytes_max: 1,
        result_bytes_max: 1,
        connections_max: 1,
        result_ttl_ms: 1,
        disk_reserve_bytes: 1,
        commit_timeout_ms: 1,
    }
}

fn before() -> Config {
    let file = Some(PathBuf::from("a"));
    Config {
        data: "a".into(),
        token: Some("a".to_owned()),
        tls_certificate: file.clone(),
        tls_key: file.clone(),
        tls_client_ca: file.clone(),
        access_file: file.clone(),
        backup_folder: file.clone(),
        audit_file: file,
        ..Config::default()
    }
}

#[test]
fn o20_every_setting_is_taken_or_named_and_none_is_forgotten() {
    let all = toml::Table::try_from(after()).expect("a configuration is a table");
    for tls_client in [TlsClient::Required, TlsClient::Optional] {
        let before = Config { tls_client, ..before() };
        let Decided { config, taken, needs_restart } = decide(&before, &after());
        let mut decided = [taken.clone(), needs_restart.clone()].concat();
        if tls_client == TlsClient::Required {
            decided.push("tls_client");
        }
        decided.sort_unstable();
        let mut keys: Vec<&str> = all.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(decided, keys);
        // What is taken counts, and what is named does not.
        let counts = toml::Table::try_from(config).expect("a configuration is a table");
        let were = toml::Table::try_from(before).expect("a configuration is a table");
        for key in taken {
            assert_eq!(counts[key], all[key], "{key}");
        }
        for key in needs_restart {
            assert_eq!(counts[key], were[key], "{key}");
        }
    }
    let Decided { taken, needs_restart, .. } = decide(&before(), &before());
    assert!(taken.is_empty() && needs_restart.is_empty(), "{taken:?} {needs_restart:?}");
}

#[test]
fn o20_a_reload_never_asks_clients_for_less_than_before() {
    let tls = |tls_client, ca: Option<&str>| Config {
        tls_client,
        tls_client_ca: ca.map(Into::into),
        ..before()
    };
    let required = tls(TlsClient::Required, Some("a"));
    for (new, named) in [
        (tls(TlsClient::None, None), vec!["tls_client", "tls_client_ca"]),
        (tls(TlsClient::Optional, Some("a")), vec!["tls_client"]),
        (
            Config { tls_certificate: None, tls_key: None, ..required.clone() },
            vec!["tls_certificate", "tls_key"],
        ),
        (Config { token: None, ..required.clone() }, vec!["token"]),
    ] {
        let Decided { config, taken, needs_restart } = decide(&required, &new);
        assert_eq!((taken, needs_restart), (vec![], named));
        assert!(config == required, "{config:?}");
    }
}

#[tokio::test]
async fn o20_all_or_none_of_the_settings_are_taken() {
    let mut first = Config::default();
    let broker = TestBroker::start_with(|config| first = config.clone()).await;
    let control = broker.control();
    let good = Config { result_ttl_ms: 7, connections_max: 3, ..first.clone() };
    let reloaded = control.reload(good.clone()).await.expect("it can be used");
    assert_eq!(reloaded.taken, ["connections_max", "result_ttl_ms"]);
    assert_eq!(reloaded.needs_restart, Vec::<&str>::new());
    // One of two is wrong.
    let broken = Config { result_ttl_ms: 8, disk_reserve_bytes: 0, ..good.clone() };
    let error = control.reload(broken).await.expect_err("there is a least reserve");
    assert_eq!(error.to_string(), "disk_reserve_bytes is 0, the least is 1048576");
    let again = control.reload(good.clone()).await.expect("it can be used");
    assert_eq!(again.taken, Vec::<&str>::new(), "the broken ones changed nothing");
    // What needs a restart is named each time, and the rest is taken.
    let later = Config { heartbeat_ms: 999, disk_reserve_bytes: 1 << 21, ..good };
    for taken in [vec!["disk_reserve_bytes"], vec![]] {
        let reloaded = control.reload(later.clone()).await.expect("it can be used");
        assert_eq!((reloaded.taken, reloaded.needs_restart), (taken, vec!["heartbeat_ms"]));
    }
    let control = control.clone();
    broker.stop().await;
    let ended = control.reload(first).await.expect_err("the broker has ended");
    assert!(matches!(ended, ReloadError::Ended), "{ended}");
    assert!(control.pass().await.is_none());
}

#[tokio::test]
async fn o23_a_call_passes_only_when_a_batch_has_been_committed() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let broker = Broker::open(Config::new(folder.path())).await.expect("a new folder");
    let mut committing = None;
    let places = Places { guests: 1, connections: 1 };
    let commit = |store, config: CommitConfig, tally| {
        let (committer, commits, batches) = commit::over(store, config, tally);
        committing = Some((committer, batches));
        Ok(commits)
    };
    let Running { shared, .. } = broker.start(places, Decoding::Apart, commit).expect("it starts");
    let (mut committer, mut batches) = committing.expect("the start calls it");
    let (control, calls) = Control::new(shared.tally.clone());
    let in_use =
        InUse { asked: Config::default(), certificates: None, seats: 1, shared: shared.clone() };
    tokio::spawn(calls.carry_out(in_use));
    // The effects of the start are the first batch, if there are any.
    for _ in 0..2 {
        let passing = control.clone();
        let passing = tokio::spawn(async move { passing.pass().await });
        let batch = loop {
            let batch = batches.batches.recv().await.expect("the driver runs");
            if !batch.passing.is_empty() {
                break batch;
            }
            let committed = committer.commit(batch).expect("the disk works");
            batches.confirm(false);
            committer.answer(committed);
        };
        // The driver has handed it over, and a disk that hangs would hold it here.
        assert!(!passing.is_finished());
        let committed = committer.commit(batch).expect("the disk works");
        batches.confirm(false);
        // It is durable, and nobody was told.
        tokio::task::yield_now().await;
        assert!(!passing.is_finished());
        committer.answer(committed);
        let passed = tokio::time::timeout(Duration::from_secs(60), passing).await;
        assert!(passed.expect("it passes").expect("it does not panic").is_some());
    }
    drop((committer, batches));
}
