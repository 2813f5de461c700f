//! The broker of the tests, to be started instead of `celeriac serve`: the same broker with the
//! same arguments. Its system calls can be made to fail, and its wall clock can be moved.
//!
//! The environment says which calls fail, see `plan.rs`. SIGUSR1 moves the wall clock an hour
//! ahead, SIGUSR2 an hour back. With `CELERIAC_TEST_SLACK_BYTES` the log is cleaned earlier than in
//! a real broker, and its journal is so small that it moves chunks all the time.

mod interposed;
mod plan;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use celeriac_broker::{Broker, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

const HOUR_SECONDS: i64 = 3_600;
const SLACK: &str = "CELERIAC_TEST_SLACK_BYTES";

/// An exit code and its sentence.
type Failure = (u8, String);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(serve());
            // It does not wait for calls that may hang, as the real broker does not.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err((1, error.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, sentence)) => {
            // If stderr is closed, there is no one to tell.
            let _told = writeln!(std::io::stderr(), "celeriac: {sentence}");
            ExitCode::from(code)
        }
    }
}

async fn serve() -> Result<(), Failure> {
    let (config, listen) = arguments().map_err(|sentence| (2, sentence))?;
    let slack = std::env::var(SLACK)
        .ok()
        .map(|text| text.parse().map_err(|_| (2, format!("{SLACK}: {text}"))));
    let mut terminate = listen_for(SignalKind::terminate())?;
    let (ahead, back) =
        (listen_for(SignalKind::user_defined1())?, listen_for(SignalKind::user_defined2())?);
    let listener = TcpListener::bind(listen).await.map_err(|error| (10, error.to_string()))?;
    let address = listener.local_addr().map_err(|error| (10, error.to_string()))?;
    // No other code sets it.
    let _set = celeriac_tests::inside::FAIL_READS.set(interposed::effect_on_pread);
    plan::arm().map_err(|sentence| (2, sentence))?;
    let opened = match slack.transpose()? {
        Some(bytes) => Broker::open_with_small_bounds(config, bytes).await,
        None => Broker::open(config).await,
    };
    let broker = opened.map_err(|error| (error.exit_code(), error.to_string()))?;
    plan::ready();
    tokio::spawn(move_clock(ahead, back));
    writeln!(std::io::stdout(), "celeriac: listening on {address}")
        .map_err(|error| (1, error.to_string()))?;
    let shutdown = async {
        terminate.recv().await;
    };
    broker.serve(listener, shutdown).await.map_err(|error| (error.exit_code(), error.to_string()))
}

fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| (1, format!("cannot listen for signals: {error}")))
}

async fn move_clock(mut ahead: Signal, mut back: Signal) {
    loop {
        let seconds = tokio::select! {
            _ = ahead.recv() => HOUR_SECONDS,
            _ = back.recv() => -HOUR_SECONDS,
        };
        interposed::move_clock(seconds);
        // The sender of the signal waits for this line.
        let _told = writeln!(
            std::io::stderr(),
            "celeriac-test-broker: the wall clock was moved by {seconds} s"
        );
    }
}

/// `serve --data DIR --listen ADDRESS:PORT --config FILE`, as the harness gives them.
fn arguments() -> Result<(Config, SocketAddr), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = words
            .iter()
            .position(|word| word == flag)
            .ok_or_else(|| format!("{flag} is missing"))?;
        words.get(at + 1).cloned().ok_or_else(|| format!("{flag} needs a value"))
    };
    let text = std::fs::read_to_string(value("--config")?)
        .map_err(|error| format!("--config: {error}"))?;
    let mut config: Config = toml::from_str(&text).map_err(|error| format!("--config: {error}"))?;
    config.data = PathBuf::from(value("--data")?);
    let listen = value("--listen")?.parse().map_err(|error| format!("--listen: {error}"))?;
    Ok((config, listen))
}
