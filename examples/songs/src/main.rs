//! A small service that uses Celeriac. A user sends songs. A web handler submits a task for each
//! song and answers the user at once. Workers measure the songs in the background. A reader, in a
//! real service another container, sees when each song is done and fetches the results.
//!
//! Start with the function `run`: it has the five steps of the service in their order. The tasks
//! are in `tasks`, the broker and the workers in `backend`, and the reader in `reader`. All of them
//! run in this one process, so that the example needs no setup. Only one worker is a process of its
//! own: `Accident` kills it in the middle of a song.

mod audio;
mod backend;
mod cluster;
mod encoding;
mod features;
mod history;
mod playlist;
mod reader;
mod screen;
mod synthesis;
mod table;
mod tasks;
mod tempo;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use celeriac_client::{Client, State, TaskInfo};
use clap::Parser;
use tempfile::TempDir;

use crate::backend::Backend;
use crate::cluster::Clusters;
use crate::features::Features;
use crate::playlist::Song;
use crate::reader::{Reader, TaskOutcome};
use crate::screen::Screen;
use crate::tasks::{cluster_songs, preprocess};

/// A task that no worker has started within a day is revoked: the user no longer waits for it.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// With this pause a made song takes about a second.
const MADE_SONGS_PACE_MS: u64 = 40;

/// Printed at the end. The first command is for a folder with the source code of Celeriac.
const NEXT_STEPS: &str = "
Next, tasks of your own; serve and work go on until Ctrl-C (see README.md):
  cargo install --locked --path cli
  celeriac serve --data ./data
  celeriac work --name greet --queue default -- echo hello {0}
  celeriac submit greet --args '[\"world\"]' --wait";

/// Analyses and groups the songs of a folder through a task queue, and shows the progress.
#[derive(Debug, Parser)]
#[command(name = "songs", version)]
struct Arguments {
    /// A folder with WAV, FLAC, OGG or MP3 files; without it the program makes a dozen short
    /// songs, and a broken one
    folder: Option<PathBuf>,

    /// A folder for the data of the broker, in DIR/broker, and for made songs, in DIR/songs;
    /// without it the program uses a temporary folder and removes it at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The number of workers, each with one song at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,

    /// The number of groups; without it the program takes the number that separates the songs best
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    groups: Option<u16>,

    /// The pause at each of the twenty progress reports of a song, so that people can watch short
    /// songs; without it 40 for made songs, and 0 for those of a folder
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u16))]
    pace: Option<u16>,

    /// The token of the user, which the web handler and the reader know; the ids of the tasks
    /// begin with it
    #[arg(long, value_name = "TOKEN", default_value = "listener-42")]
    listener: String,

    /// Runs only a worker, for the broker at this address. The program starts itself so.
    #[arg(long, value_name = "URL", hide = true)]
    worker_of: Option<String>,

    /// The name of that worker.
    #[arg(long, value_name = "NAME", hide = true, default_value = "")]
    worker_name: String,
}

impl Arguments {
    fn pace_ms(&self) -> u64 {
        let default = if self.folder.is_none() { MADE_SONGS_PACE_MS } else { 0 };
        self.pace.map_or(default, u64::from)
    }

    /// Whether the program kills a worker, to show that no song is lost. A song needs some time to
    /// be hit, and another worker has to go on.
    fn is_one_doomed(&self) -> bool {
        self.folder.is_none() && self.pace_ms() > 0 && self.workers > 1
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.worker_of {
        // Ctrl-C reaches this process too, and ends it without a word.
        Some(url) => backend::run_child_worker(url, &arguments.worker_name).await,
        None => tokio::select! {
            outcome = run(&arguments) => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // This fails if standard error is closed. The exit code tells of the error anyway.
            let _ = console::Term::stderr().write_line(&format!("songs: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let data = DataFolder::open(arguments.data.as_deref())?;
    let songs = songs(arguments, &data)?;

    // Steps 1 and 2: start a broker and its workers. In a real service the broker is the program
    // `celeriac serve`, and a worker is a small program that registers its tasks and runs.
    let (workers, is_one_doomed) = (arguments.workers.into(), arguments.is_one_doomed());
    let mut backend = Backend::start(&data.path().join("broker"), workers, is_one_doomed).await?;
    screen.print(&format!("broker at {}, its data in {}", backend.url(), data.path().display()));

    // Step 3: the web handler submits a task for each song. It could answer its user now.
    let web_handler =
        Client::connect(backend.url()).await.context("the web handler found no broker")?;
    for song in &songs {
        submit(&web_handler, song, arguments.pace_ms())
            .await
            .with_context(|| format!("{} was not accepted", song.title))?;
    }
    screen.print(&format!("{} songs submitted", songs.len()));

    // Step 4: the reader, which knows only the ids, watches the states and fetches the results.
    let reader = Reader::connect(backend.url()).await.context("the reader found no broker")?;
    let ids: Vec<&str> = songs.iter().map(|song| song.id.as_str()).collect();
    screen.open(ids.len());
    let mut accident = Accident::default();
    let outcomes: Vec<TaskOutcome<Features>> = reader
        .follow(&ids, &mut screen, |info, screen| accident.observe(info, &mut backend, screen))
        .await?;

    // Step 5: a second task takes the results of the first ones.
    let features: Vec<Features> =
        outcomes.iter().filter_map(|song| song.result.as_ref().ok()).cloned().collect();
    let clusters = if features.is_empty() {
        None
    } else {
        Some(group(arguments, &web_handler, &reader, &mut screen, features).await?)
    };
    screen.close();
    web_handler.close().await;
    reader.close().await;
    backend.stop().await?;

    let Some(clusters) = clusters else {
        let reasons: Vec<String> =
            outcomes.into_iter().filter_map(|song| song.result.err()).collect();
        bail!("none of the songs could be analysed:\n{}", reasons.join("\n"));
    };
    screen.print(table::summary(&songs, &outcomes, &clusters, screen.columns()).trim_end());
    if let Some(line) = accident.summary() {
        screen.print(&line);
    }
    screen.print(NEXT_STEPS);
    Ok(())
}

/// The end of a worker in the middle of a song, which the program causes: the broker gives the song
/// to another worker when the lease time is over.
#[derive(Default)]
struct Accident {
    song_id: String,
    killed: String,
    summary: Option<String>,
}

impl Accident {
    /// Kills the doomed worker when it analyses a song, and sees who ends this song.
    fn observe(
        &mut self,
        info: &TaskInfo,
        backend: &mut Backend,
        screen: &Screen,
    ) -> anyhow::Result<()> {
        let is_analysed = info.state == State::Started
            && info.progress.as_ref().is_some_and(|progress| progress.state == "ANALYSE");
        if is_analysed && backend.kill(&info.worker)? {
            let (worker, title) = (&info.worker, info.title());
            screen.print(&format!("✘ {worker} was killed (SIGKILL) in \"{title}\""));
            self.song_id.clone_from(&info.id);
            self.killed.clone_from(&info.worker);
        } else if info.id == self.song_id && info.state == State::Success {
            self.summary = Some(format!(
                "{} was killed in \"{}\";\n{} began this song again, and no song was lost",
                self.killed,
                info.title(),
                info.worker
            ));
        }
        Ok(())
    }

    fn summary(self) -> Option<String> {
        self.summary
    }
}

/// Submits the task for one song, as a web handler does.
///
/// The program chooses the id of the task: any program that knows the user's token and the name of
/// the file can fetch the result, from any machine. Logs and listings show the shadow in place of
/// the name of the task.
async fn submit(client: &Client, song: &Song, pace_ms: u64) -> Result<(), celeriac_client::Error> {
    client
        .apply_async(&preprocess, (song.path.clone(), pace_ms))
        .task_id(&song.id)
        .shadow(format!("preprocess: {}", song.title))
        .expires_in(DAY)
        .send()
        .await?;
    Ok(())
}

/// Submits the task that groups the songs. The reader fetches the groups by the id of the task.
async fn group(
    arguments: &Arguments,
    web_handler: &Client,
    reader: &Reader,
    screen: &mut Screen,
    features: Vec<Features>,
) -> anyhow::Result<Clusters> {
    let id = format!("{}/clusters", arguments.listener);
    let shadow = format!("cluster: {} songs", features.len());
    web_handler
        .apply_async(&cluster_songs, (features, arguments.groups.map(usize::from)))
        .task_id(&id)
        .shadow(shadow)
        .send()
        .await
        .context("the clustering was not accepted")?;
    screen.open(1);
    let outcomes = reader.follow::<Clusters>(&[&id], screen, |_, _| Ok(())).await?;
    let outcome = outcomes.into_iter().next().context("the reader gave no outcome for the id")?;
    outcome.result.map_err(|reason| anyhow::anyhow!("the songs could not be grouped: {reason}"))
}

/// The songs of the given folder, or songs that the program makes.
fn songs(arguments: &Arguments, data: &DataFolder) -> anyhow::Result<Vec<Song>> {
    if let Some(folder) = &arguments.folder {
        return playlist::songs_of(folder, &arguments.listener);
    }
    let folder = data.path().join("songs");
    synthesis::write_songs(&folder)
        .with_context(|| format!("cannot write songs to {}", folder.display()))?;
    playlist::songs_of(&folder, &arguments.listener)
}

/// The folder for all data. A temporary folder is removed when the program ends.
enum DataFolder {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl DataFolder {
    fn open(named: Option<&Path>) -> anyhow::Result<Self> {
        match named {
            Some(path) => {
                std::fs::create_dir_all(path)
                    .with_context(|| format!("cannot make the folder {}", path.display()))?;
                Ok(Self::Kept(path.to_owned()))
            }
            None => {
                Ok(Self::Temporary(tempfile::tempdir().context("cannot make a temporary folder")?))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
