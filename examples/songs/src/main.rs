//! The story that Celeriac serves: a listener sends songs, a web handler answers at once and hands
//! the heavy work to a queue, workers do it in the background, and another container learns when
//! each song is done and what came out.
//!
//! Lives here: the order of the story. Read `tell` from top to bottom; each step is what a real
//! program would do at that point. Does not live here: the tasks (`tasks`), the broker and the
//! workers (`stage`), the reader (`container`).

mod audio;
mod cluster;
mod container;
mod encoding;
mod features;
mod history;
mod playlist;
mod screen;
mod stage;
mod synthesis;
mod table;
mod tasks;
mod tempo;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use celeriac_client::Client;
use clap::Parser;
use tempfile::TempDir;

use crate::cluster::Clusters;
use crate::container::{Ended, OtherContainer};
use crate::features::Features;
use crate::playlist::Song;
use crate::screen::Screen;
use crate::stage::Stage;
use crate::tasks::{cluster_songs, preprocess};

/// A song that nobody has begun to work on after this time is not wanted any more.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A made song takes about a second in this way.
const MADE_SONGS_PACE_MS: u64 = 40;

/// Analyses and groups the songs of a folder through a task queue, and shows how.
#[derive(Debug, Parser)]
#[command(name = "songs", version)]
struct Arguments {
    /// Folder with WAV, FLAC, OGG or MP3 files; without it the program makes a dozen short songs,
    /// and a broken one
    folder: Option<PathBuf>,

    /// Where the broker keeps its data, in DIR/broker; made songs go to DIR/songs. Without it a
    /// temporary folder is used and removed at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// How many workers run, each one song at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,

    /// How many groups to make; without it the number that separates the songs best
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    groups: Option<u16>,

    /// Pause at each of the twenty progress reports of a song, so that short songs can be watched;
    /// without it 40 for the made songs and 0 for those of a folder
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u16))]
    pace: Option<u16>,

    /// The user's token, known to the web handler and to whoever reads the results; the ids of the
    /// tasks begin with it
    #[arg(long, value_name = "TOKEN", default_value = "listener-42")]
    listener: String,
}

impl Arguments {
    fn pace_ms(&self) -> u64 {
        let usual = if self.folder.is_none() { MADE_SONGS_PACE_MS } else { 0 };
        self.pace.map_or(usual, u64::from)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = tokio::select! {
        ended = tell(&arguments) => ended,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The bars are gone by now, so the line stands alone.
            let _unread = console::Term::stderr().write_line(&format!("songs: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn tell(arguments: &Arguments) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let data = DataFolder::open(arguments.data.as_deref())?;
    let songs = songs(arguments, &data)?;

    // One: a broker, on a folder of its own. In a real service it is a program of its own:
    // `celeriac serve`. Two: workers. They are small programs that register their tasks and
    // run, here in the same process.
    let stage = Stage::open(&data.path().join("broker"), usize::from(arguments.workers)).await?;
    screen.say(&format!("broker at {}, its data in {}", stage.url(), data.path().display()));

    // Three: the web handler. It submits a task for each song and could answer its listener now.
    let web_handler =
        Client::connect(stage.url()).await.context("the web handler found no broker")?;
    for song in &songs {
        submit(&web_handler, song, arguments.pace_ms())
            .await
            .with_context(|| format!("{} was not accepted", song.title))?;
    }
    screen.say(&format!("{} songs submitted", songs.len()));

    // Four: another container, with nothing but the ids, follows the states and fetches the values.
    let container = OtherContainer::connect(stage.url())
        .await
        .context("the other container found no broker")?;
    let ids: Vec<&str> = songs.iter().map(|song| song.id.as_str()).collect();
    screen.expect(ids.len());
    let ended: Vec<Ended<Features>> = container.follow(&ids, &mut screen).await?;

    // Five: the next work, on what came out of the first.
    let features: Vec<Features> =
        ended.iter().filter_map(|song| song.outcome.as_ref().ok()).cloned().collect();
    let clusters = if features.is_empty() {
        None
    } else {
        Some(group(arguments, &web_handler, &container, &mut screen, features).await?)
    };
    screen.close();
    web_handler.close().await;
    container.close().await;
    stage.close().await?;

    let Some(clusters) = clusters else {
        let reasons: Vec<String> =
            ended.into_iter().filter_map(|song| song.outcome.err()).collect();
        bail!("none of the songs could be analysed:\n{}", reasons.join("\n"));
    };
    screen.say(table::ending(&songs, &ended, &clusters, screen.columns()).trim_end());
    Ok(())
}

/// What the web handler does for one song. The id is chosen: whoever knows the listener's token and
/// the file can ask for the result, from any machine. The shadow is what logs and listings show.
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

/// Has the songs grouped, and lets the other container fetch the groups by their id.
async fn group(
    arguments: &Arguments,
    web_handler: &Client,
    container: &OtherContainer,
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
    screen.expect(1);
    let ended = container.follow::<Clusters>(&[&id], screen).await?;
    let ended = ended.into_iter().next().context("one id gives one end")?;
    ended.outcome.map_err(|reason| anyhow::anyhow!("the songs could not be grouped: {reason}"))
}

/// The songs of the given folder, or those that the program makes itself.
fn songs(arguments: &Arguments, data: &DataFolder) -> anyhow::Result<Vec<Song>> {
    if let Some(folder) = &arguments.folder {
        return playlist::songs_of(folder, &arguments.listener);
    }
    let folder = data.path().join("songs");
    synthesis::write_songs(&folder)
        .with_context(|| format!("cannot write songs to {}", folder.display()))?;
    playlist::songs_of(&folder, &arguments.listener)
}

/// A folder that stays if the user named it, and goes with the program if not.
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
