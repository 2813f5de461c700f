//! The two tasks of the story.
//!
//! Lives here: the functions that workers run and producers call. Does not live here: the analysis
//! itself; these functions only join it to the queue with arguments, progress and failures.

use std::path::Path;
use std::time::Duration;

use celeriac_worker::{Context, TaskFailure, task};
use serde::{Deserialize, Serialize};

use crate::audio;
use crate::cluster::{self, Clusters};
use crate::features::{self, Features};

/// What a progress report carries beside its state name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// The done part of the whole task, 0 to 1.
    pub(crate) part: f64,
}

/// Progress is reported each time another tenth of a stage is done: often enough to watch, too rare
/// to matter.
const STAGE_REPORTS: f64 = 10.0;

/// Decodes one song and measures it. A `pace_ms` above 0 makes it pause so long at each progress
/// report: a song of a few seconds is measured faster than anybody can watch.
///
/// This is heavy work that blocks its thread, so it is a plain function: the worker runs it on its
/// blocking pool. The short delay between attempts suits a demo; a real service would wait longer
/// for a file to arrive whole.
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
    let sound = audio::decode(path, stage(context, "DECODE", 0.0, pace))
        .map_err(|error| TaskFailure::new("AudioError", format!("{file}: {error}")))?;
    // Nothing can stop a function that blocks its thread; it has to ask.
    if context.is_cancelled() {
        return Err(TaskFailure::new("Cancelled", format!("{file}: stopped on request")));
    }
    Ok(features::analyse(&sound, stage(context, "ANALYSE", 0.5, pace)))
}

/// Groups the songs that sound alike; without `groups` their number is found.
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

/// Reports one of the two stages of `preprocess`, which begins when `before` of the task is done
/// and is half of it.
fn stage(context: &Context, state: &'static str, before: f64, pace: Duration) -> impl FnMut(f64) {
    let mut reported = -1.0;
    move |done| {
        let tenths = (done * STAGE_REPORTS).floor();
        if tenths > reported {
            reported = tenths;
            context
                .progress_blocking(state, &Done { part: before + done / 2.0 })
                .expect("a short name and a number can always be sent");
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
