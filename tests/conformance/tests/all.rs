//! The kit, tried: this project's own clients pass all scripts, and clients with faults do not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use celeriac_conformance::{Plan, Script, play, scripts};
use tokio::task::JoinSet;

/// Generous: a loaded machine is no fault of a client.
const PATIENCE: Duration = Duration::from_secs(30);

/// Scripts that are played at once.
const AT_ONCE: usize = 8;

fn plan(command: &[&str]) -> Plan {
    Plan {
        command: command.iter().map(ToString::to_string).collect(),
        patience: PATIENCE,
        verbose: false,
    }
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python/run")
}

/// Plays all scripts, and says which failed.
async fn failures(scripts: Vec<Script>, plan: &Plan) -> Vec<String> {
    let (mut playing, mut failed) = (JoinSet::new(), Vec::new());
    for script in scripts {
        if playing.len() == AT_ONCE {
            failed.extend(
                playing.join_next().await.and_then(|played| played.expect("nothing panics")),
            );
        }
        let plan = plan.clone();
        playing.spawn(async move {
            let failure = play(&script, &plan).await.err()?;
            Some(format!("{}\n{failure}", script.name))
        });
    }
    while let Some(played) = playing.join_next().await {
        failed.extend(played.expect("nothing panics"));
    }
    failed
}

async fn passes(plan: &Plan) {
    let failed = failures(scripts().expect("the scripts can be read"), plan).await;
    assert!(failed.is_empty(), "{} scripts failed:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn the_rust_crates_pass() {
    passes(&plan(&[env!("CARGO_BIN_EXE_celeriac-conformance-rust")])).await;
}

#[tokio::test]
async fn the_python_client_passes() {
    passes(&plan(&[&python().display().to_string()])).await;
}

/// A client that does nothing at all is not taken for a good one by any script.
#[tokio::test]
async fn every_script_asks_something_of_a_client() {
    let plan = Plan { patience: Duration::from_millis(200), ..plan(&["cat"]) };
    let scripts = scripts().expect("the scripts can be read");
    let count = scripts.len();
    assert_eq!(failures(scripts, &plan).await.len(), count);
}

/// Faults of a worker, and the script that finds each.
const FAULTS: [(&str, &str); 6] = [
    ("begin-unconfirmed", "worker-report-start"),
    ("run-twice", "worker-delivered-twice"),
    ("forget-reports", "worker-resume-reports"),
    ("report-again", "worker-resume-reports"),
    ("keep-lost-leases", "worker-resume-lost-lease"),
    ("no-heartbeats", "worker-heartbeats"),
];

#[tokio::test]
async fn faults_that_are_planted_in_a_client_are_found() {
    let scripts = scripts().expect("the scripts can be read");
    for (fault, name) in FAULTS {
        let subject = python().display().to_string();
        let plan = Plan { patience: Duration::from_secs(5), ..plan(&[&subject, "--fault", fault]) };
        let script =
            scripts.iter().find(|script| script.name == name).expect("it is there").clone();
        assert_eq!(failures(vec![script], &plan).await.len(), 1, "{name} does not find `{fault}`");
    }
}
