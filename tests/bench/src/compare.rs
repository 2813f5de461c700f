//! Compares Celeriac and its peers, in turn: `make bench`. It installs nothing and names what is
//! missing. It ends every process that it starts, also when it is interrupted or killed. The report
//! then has everything that was measured until then.

mod celeriac;
mod chart;
mod figures;
mod goals;
mod growth;
mod machine;
mod measure;
mod peers;
mod plan;
mod python;
mod report;
mod system;
#[cfg(test)]
mod tests;
mod text;
mod turns;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::builder::FalseyValueParser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use self::celeriac::Celeriac;
use self::machine::Machine;
use self::plan::{Only, Plan};
use self::report::Report;
use self::system::{System, Workload};
use self::turns::Present;

/// The limit of open files: the idle connections, and room for everything else.
const OPEN_FILES: u64 = 30_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds. The figures are medians over them. 3, or 1 for a quick run.
    #[arg(long, env = "ROUNDS")]
    rounds: Option<usize>,
    /// Systems and workloads to measure: parts of their names, with commas between them.
    #[arg(long, env = "ONLY", default_value = "")]
    only: String,
    /// Small loads: they show whether everything works, and the order of magnitude.
    #[arg(long, env = "QUICK", value_parser = FalseyValueParser::new())]
    quick: bool,
    /// The folder of the report. The servers' folders are made in it too.
    #[arg(long)]
    folder: Option<PathBuf>,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    LocalSet::new().run_until(compare(options)).await
}

async fn compare(options: Options) -> Result<ExitCode> {
    let mut systems: Vec<Box<dyn System>> = vec![
        Box::new(Celeriac::on_the_raw_wire()),
        Box::new(Celeriac::through_the_crates()),
        Box::new(Celeriac::through_the_crates_with_tls()),
    ];
    systems.extend(peers::all());
    let only = Only::parse(&options.only, &systems)?;
    let plan = plan(&options, &only)?;
    raise_open_files()?;

    let folder = options.folder.clone().unwrap_or_else(target_folder);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let scratch = tempfile::Builder::new().prefix("running-").tempdir_in(&folder)?;
    let chosen = systems.iter().filter(|system| only.system(&***system)).map(|system| &**system);
    let (present, missing) = found(chosen);
    let how = how(&plan, options.quick);
    let mut machine = Machine::here()?;
    machine.fdatasync_ms.extend(measure::disk(scratch.path())?);
    let (rows, python, failures) = (Vec::new(), Vec::new(), Vec::new());
    let mut report = Report { folder, machine, how, rows, python, failures, missing };
    for sentence in &report.missing {
        say(&format!("missing: {sentence}"));
    }

    let everything = async {
        turns::run(&plan, &present, scratch.path(), &mut report).await?;
        match only.python() {
            true => python::run(&plan, options.quick, scratch.path(), &mut report).await,
            false => Ok(()),
        }
    };
    // When this future is dropped, its server ends.
    let interrupted = tokio::select! {
        outcome = everything => outcome.map(|()| false)?,
        () = interruption() => true,
    };
    if interrupted {
        report.how.push_str(" The run was interrupted.");
        say("interrupted; what was measured is in the report");
    }
    report.write()?;
    writeln!(
        std::io::stdout(),
        "{}\nThe report is in {}.",
        text::summary(&report),
        report.folder.display()
    )?;
    remove(scratch).await?;
    let is_whole = !interrupted && report.failures.is_empty();
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plan(options: &Options, only: &Only) -> Result<Plan> {
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    ensure!(rounds > 0, "ROUNDS=0 measures nothing");
    let mut plan = if options.quick { Plan::quick(rounds) } else { Plan::whole(rounds) };
    plan.steps.retain(|step| only.workload(step.workload()));
    Ok(plan)
}

/// The installed systems. For the others, the sentence that says what is missing.
fn found<'a>(systems: impl Iterator<Item = &'a dyn System>) -> (Vec<Present<'a>>, Vec<String>) {
    let (mut present, mut missing) = (Vec::new(), Vec::new());
    for system in systems {
        match system.version() {
            Ok(version) => present.push(Present { system, version }),
            Err(system::Missing(sentence)) if missing.contains(&sentence) => {}
            Err(system::Missing(sentence)) => missing.push(sentence),
        }
    }
    (present, missing)
}

fn how(plan: &Plan, quick: bool) -> String {
    let repeated: Vec<&str> =
        [Workload::Enqueue, Workload::Lifecycle, Workload::Roundtrip].map(Workload::name).into();
    format!(
        "{}Payloads have 200 bytes, results 64. Every measurement uses a new server in an empty folder, and the systems take \
         turns. Load and server share the machine. One thread drives every system, except Celery, whose producers are \
         Python processes. The figures are medians of {} round{} for {}, and of one round for the rest.",
        if quick {
            "This is a quick run: it shows only orders of magnitude, and slow servers did not finish everything. "
        } else {
            ""
        },
        plan.rounds,
        if plan.rounds == 1 { "" } else { "s" },
        repeated.join(", "),
    )
}

/// Ctrl-C or SIGTERM.
async fn interruption() {
    let (Ok(mut end), Ok(mut hang_up)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = end.recv() => {}
        _ = hang_up.recv() => {}
    }
}

/// The servers inherit the limit.
fn raise_open_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    }
    Ok(())
}

/// In the target folder of cargo.
fn target_folder() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("bench")
}

/// A server that was killed just now may still be writing its last file.
async fn remove(scratch: tempfile::TempDir) -> Result<()> {
    let path = scratch.keep();
    let mut removed = Ok(());
    for _ in 0..100 {
        removed = std::fs::remove_dir_all(&path);
        if removed.is_ok() || !path.exists() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    removed.with_context(|| format!("{} is left", path.display()))
}

fn say(sentence: &str) {
    // If stderr is closed, the report is still written.
    let _ = writeln!(std::io::stderr(), "{sentence}");
}
