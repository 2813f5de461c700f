//! The order of measurements: rounds, in each round the steps, in each step the systems in turn. So
//! other load on the machine affects all systems. A server that fails in a step is not measured in
//! that step again.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures_util::FutureExt;
use tokio::time::timeout;

use super::measure::{Found, disk, measure};
use super::plan::{Plan, Step};
use super::report::{Failure, Report, full_name};
use super::system::{NOT_OFFERED, System, Workload};

/// An installed system and its version.
pub(crate) struct Present<'a> {
    pub system: &'a dyn System,
    pub version: String,
}

/// Runs the plan. After each measurement the report is written, with everything measured so far.
pub(crate) async fn run(
    plan: &Plan,
    systems: &[Present<'_>],
    scratch: &Path,
    report: &mut Report,
) -> Result<()> {
    let mut spent = vec![Duration::ZERO; systems.len()];
    for round in 0..plan.rounds {
        for (number, step) in
            plan.steps.iter().enumerate().filter(|(_, step)| round == 0 || step.is_repeated())
        {
            for (present, spent) in systems.iter().zip(&mut spent) {
                let is_asked =
                    present.system.offers(step.workload()) && *spent < plan.time_for_each;
                if !is_asked || report.has_failed(present.system, number) {
                    continue;
                }
                let begun = Instant::now();
                let mut found = Vec::new();
                let outcome = bounded(plan, step, present.system, scratch, &mut found).await;
                *spent += begun.elapsed();
                if outcome.as_ref().is_err_and(|error| error.to_string() == NOT_OFFERED) {
                    continue;
                }
                tell(round + 1, step, present.system, begun, &found, &outcome);
                for (point, figures) in found {
                    report.add(present, point, figures);
                }
                if let Err(error) = outcome {
                    report.failures.push(Failure::of(present.system, number, step, &error));
                }
                if asks_the_disk(step) {
                    report.machine.fdatasync_ms.extend(disk(scratch)?);
                }
                report.write()?;
            }
        }
    }
    Ok(())
}

/// Submits one at a time are compared with the disk at that moment.
fn asks_the_disk(step: &Step) -> bool {
    matches!(step, Step::Load { workload: Workload::Enqueue, load, .. } if load.batch * load.in_flight == 1)
}

/// A driver that panics, or a server that does not answer, only loses its own figures.
async fn bounded(
    plan: &Plan,
    step: &Step,
    system: &dyn System,
    scratch: &Path,
    found: &mut Vec<Found>,
) -> Result<()> {
    let measured = AssertUnwindSafe(measure(step, system, scratch, found)).catch_unwind();
    match timeout(plan.patience, measured).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            bail!(
                "{}",
                text.or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("the driver panicked")
            )
        }
        Err(_) => bail!("it took longer than {} s", plan.patience.as_secs()),
    }
}

/// Prints a line of progress. If stderr is closed, the report is still written.
fn tell(
    round: usize,
    step: &Step,
    system: &dyn System,
    begun: Instant,
    found: &[Found],
    outcome: &Result<()>,
) {
    let mut line = format!("round {round}  {:<38} {}:", step.name(), full_name(system));
    for (point, figures) in found {
        let parts = [
            point.count.filter(|_| found.len() > 1).map(|count| format!("[{count}]")),
            figures.per_second.map(|figure| format!("{figure:.0}/s")),
            figures.p50_ms.map(|figure| format!("p50 {figure:.3} ms")),
            figures.kib_each.map(|figure| format!("{figure:.1} KiB each")),
        ];
        for part in parts.into_iter().flatten() {
            line.push(' ');
            line.push_str(&part);
        }
    }
    if let Err(error) = outcome {
        line.push_str(&format!(" failed: {error:#}"));
    }
    let _ = writeln!(std::io::stderr(), "{line} ({:.1} s)", begun.elapsed().as_secs_f64());
}
