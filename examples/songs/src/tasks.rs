//! The two tasks of this program: the functions that workers run and that producers name.
//!
//! These functions connect the analysis to the queue: arguments, progress reports and failures. The
//! analysis itself is in `audio`, `features` and `cluster`.

use std::path::Path;
use std::time::Duration;

use celeriac_worker::{Context, TaskFailure, task};
use serde::{Deserialize, Serialize};

use crate::audio;
use crate::cluster::{self, Clusters};
use crate::features::{self, Features};

/// The data of a progress report, beside the name of its state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// How much of the whole task is done, 0 to 1.
    pub(crate) done: f64,
}

/// Progress reports for each of the two steps of `preprocess`: enough to see the progress, and too
/// few to slow the task down.
const REPORTS_PER_STEP: f64 = 10.0;

/// Decodes one song and measures it.
///
/// A `pace_ms` above 0 makes the task pause that long at each progress report. Without a pause a
/// song of a few seconds is measured before a person can see the progress.
///
/// This is heavy work that blocks its thread, so it is a plain function: the worker runs it in its
/// pool of blocking threads. The short delay between attempts suits a demo. A real service would
/// wait longer, for example until an upload is complete.
#[task(
    name = "songs.preprocess",
    queue = "songs",
    max_attempts = 3,
    retry_delay = "200ms",
    backoff = "fixed",
    time_limit = "10m"
)]
pub(crate) fn preprocess(
    context: &Context,
    path: String,
    pace_ms: u64,
) -> Result<Features, TaskFailure> {
    let path = Path::new(&path);
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let pace = Duration::from_millis(pace_ms);
    // A failure is retried, unless the failure itself or `max_attempts` forbids it.
    let sound = audio::decode(path, report_step(context, "DECODE", 0.0, pace))
        .map_err(|error| TaskFailure::new("AudioError", format!("{file}: {error}")))?;
    // The worker cannot stop a function that blocks its thread, so the function has to ask.
    if context.is_cancelled() {
        return Err(TaskFailure::new("Cancelled", format!("{file}: stopped on request")));
    }
    Ok(features::analyse(&sound, report_step(context, "ANALYSE", 0.5, pace)))
}

/// Groups the songs that sound alike. Without `groups` the function finds the number of groups.
#[task(
    name = "songs.cluster",
    queue = "songs",
    max_attempts = 2,
    retry_delay = "200ms",
    time_limit = "1m"
)]
pub(crate) fn cluster_songs(songs: Vec<Features>, groups: Option<usize>) -> Clusters {
    cluster::cluster(&songs, groups)
}

/// Returns a function that reports the progress of one of the two steps of `preprocess`. Each step
/// is half of the task; `done_before` is how much of the task is done before the step.
fn report_step(
    context: &Context,
    state: &'static str,
    done_before: f64,
    pace: Duration,
) -> impl FnMut(f64) {
    let mut last_report = -1.0;
    move |done| {
        let report = (done * REPORTS_PER_STEP).floor();
        if report > last_report {
            last_report = report;
            context
                .progress_blocking(state, &Progress { done: done_before + done / 2.0 })
                .expect("a short name and one number are never too large to send");
            std::thread::sleep(pace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesis::{BROKEN_FILE, CLIPS, write_songs};

    #[test]
    fn preprocess_measures_a_song_and_names_the_file_that_it_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        write_songs(folder.path()).unwrap();
        let context = Context::detached("listener-42:test");
        let path = |file: &str| folder.path().join(file).to_str().unwrap().to_owned();
        let features = preprocess::run(&context, path(CLIPS[0].file), 0).unwrap();
        assert_eq!(features.seconds, 8.0);
        let failure = preprocess::run(&context, path(BROKEN_FILE), 0).unwrap_err();
        assert_eq!(failure.kind(), "AudioError");
        assert!(
            failure.is_retryable() && failure.message().starts_with("broken.ogg: "),
            "{failure}"
        );
    }
}
