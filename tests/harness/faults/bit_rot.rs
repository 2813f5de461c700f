//! Bit rot and truncation: one bit is flipped, or a file is cut short, at a random place of any
//! file of a data folder that no broker uses. The broker refuses to start with a sentence, or
//! serves everything intact. It never hides the damage and never panics. `celeriac check` must
//! agree with it.

mod folder;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio::task::JoinSet;

use self::folder::{Content, Original};
use super::Tally;
use crate::traffic_run::panic_text;
use crate::{RandomSource, Setup, celeriac_binary};

/// One in so many damaged folders is also checked by `celeriac check`.
const CHECKED: u64 = 8;
/// The exit codes for a folder that is refused: it is damaged, has a newer format, or is no data
/// folder any more.
const CODES: [i32; 3] = [12, 13, 17];
/// More brokers at the same time would only wait for each other.
const AT_ONCE: usize = 2;

/// Damages so many copies of data folders.
pub async fn run(runs: u64, seed: u64) -> Tally {
    let mut tally = Tally::new("bit rot and truncation", "damages");
    let mut random = RandomSource::new(seed);
    let originals = match folder::originals().await {
        Ok(originals) => Arc::new(originals),
        Err(reason) => {
            tally.failed_starts.push(format!("while the folders were made: {reason}"));
            return tally;
        }
    };
    let mut under_way = JoinSet::new();
    for run in 0..runs {
        if under_way.len() >= AT_ONCE
            && let Some(ended) = under_way.join_next().await
        {
            take(ended, seed, &mut tally);
        }
        let (originals, random) = (originals.clone(), random.fork());
        under_way.spawn(async move { damage_one(&originals, run, random).await });
    }
    while let Some(ended) = under_way.join_next().await {
        take(ended, seed, &mut tally);
    }
    if runs >= 50 && !tally.counts.contains_key(REFUSED) {
        tally.violations.push("no damage was ever found: are the checks on?".into());
    }
    tally.with_counts_as_remarks()
}

const REFUSED: &str = "refused";
const SERVED: &str = "served intact";

/// The outcome of one damage: what was damaged, and the answer of the broker or what was wrong with
/// it.
type Verdict = (String, Result<&'static str, String>);

fn take(ended: Result<Verdict, tokio::task::JoinError>, seed: u64, tally: &mut Tally) {
    tally.runs += 1;
    match ended {
        Ok((_, Ok(outcome))) => tally.count(outcome),
        Ok((damage, Err(reason))) => {
            tally.violations.push(format!("seed {seed}: {damage}: {reason}"))
        }
        Err(panic) => tally.violations.push(format!("seed {seed}: {}", panic_text(panic))),
    }
}

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { byte: u64, bit: u32 },
    Cut { left: u64 },
}

async fn damage_one(originals: &[Original], run: u64, mut random: RandomSource) -> Verdict {
    let original = &originals[random.below(originals.len() as u64) as usize];
    let (file, damage) = draw(original, &mut random);
    let what = format!(
        "{damage:?} in {} of the folder {}",
        original.files[file].name.display(),
        original.what
    );
    let home = match tempfile::tempdir() {
        Ok(home) => home,
        Err(error) => return (what, Err(format!("no temporary folder: {error}"))),
    };
    let data = home.path().join("data");
    let written = original.write(&data).and_then(|()| match damage {
        Damage::Flip { byte, bit } => {
            folder::flip(&data.join(&original.files[file].name), byte, bit)
        }
        Damage::Cut { left } => folder::cut(&data.join(&original.files[file].name), left),
    });
    if let Err(error) = written {
        return (what, Err(format!("the copy cannot be made: {error}")));
    }
    let checked = run.is_multiple_of(CHECKED).then(|| check(&data));
    let outcome = serve(&data, &original.content).await;
    (what, agree(outcome, checked))
}

/// Half of the damages hit the log: sled's file or a segment of the journal. Most of them hit a
/// place that is not a hole in the file.
fn draw(original: &Original, random: &mut RandomSource) -> (usize, Damage) {
    let holds_log = |name: &Path| {
        name == Path::new("db") || name.to_str().is_some_and(|name| name.starts_with("journal."))
    };
    let files = original.files.iter().enumerate();
    let logs: Vec<_> =
        files.filter(|(_, file)| holds_log(&file.name)).map(|(file, _)| file).collect();
    let file = match random.below(2) {
        0 => logs[random.below(logs.len() as u64) as usize],
        _ => random.below(original.files.len() as u64) as usize,
    };
    let found = &original.files[file];
    if random.below(5) == 0 {
        return (file, Damage::Cut { left: random.below(found.bytes) });
    }
    let byte = match random.below(4) {
        0 => random.below(found.bytes),
        _ => found.byte_with_content(random),
    };
    (file, Damage::Flip { byte, bit: random.below(8) as u32 })
}

/// The answer of the broker: refused with this exit code, or everything served.
async fn serve(data: &Path, content: &Content) -> Result<Option<i32>, String> {
    match Setup::new().data(data).try_start().await {
        Ok(mut broker) => {
            let intact = content.is_served_by(broker.address()).await;
            broker.kill().await;
            intact?;
            if broker.stderr().contains("panicked at") {
                return Err(format!("served after a panic: {}", broker.stderr()));
            }
            Ok(None)
        }
        Err(exit) => match exit.status.code() {
            Some(code) if CODES.contains(&code) && exit.is_a_clear_refusal() => Ok(Some(code)),
            _ => Err(format!("not refused clearly: {exit:?}")),
        },
    }
}

/// The exit code of `celeriac check`.
fn check(data: &Path) -> Result<i32, String> {
    let output = Command::new(celeriac_binary())
        .arg("check")
        .arg(data)
        .output()
        .map_err(|error| error.to_string())?;
    output.status.code().ok_or_else(|| format!("`celeriac check`: {output:?}"))
}

fn agree(
    served: Result<Option<i32>, String>,
    checked: Option<Result<i32, String>>,
) -> Result<&'static str, String> {
    let served = served?;
    if let Some(checked) = checked.transpose()?
        && checked != served.unwrap_or(0)
    {
        return Err(format!(
            "`celeriac check` ends with {checked}, and `celeriac serve` with {served:?}"
        ));
    }
    Ok(if served.is_some() { REFUSED } else { SERVED })
}
