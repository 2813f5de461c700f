//! The songs of a folder, with their titles and the ids of their tasks.
//!
//! A file is a song by its extension. The worker finds out whether it has audio in it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// The extensions of audio files, in upper or lower case.
const EXTENSIONS: [&str; 6] = ["wav", "wave", "flac", "ogg", "oga", "mp3"];

/// The longest id that a broker accepts.
const ID_BYTES_MAX: usize = 255;

/// One audio file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Song {
    /// The id of its task: the user's token and the name of the file. A program that knows both
    /// can fetch the result.
    pub(crate) id: String,
    /// The title for people, unique within the folder.
    pub(crate) title: String,
    /// The absolute path, because the worker may have another current folder.
    pub(crate) path: String,
}

/// The songs of `folder` in the order of their names. Folders inside it, other files, and names
/// that are not UTF-8 are left out.
///
/// # Errors
/// The folder cannot be read, its name is not UTF-8, or it has no song.
pub(crate) fn songs_of(folder: &Path, listener: &str) -> anyhow::Result<Vec<Song>> {
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot open the folder {}", folder.display()))?;
    let entries = fs::read_dir(&folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry =
            entry.with_context(|| format!("cannot read the folder {}", folder.display()))?;
        // `is_file` follows links, so a link to a file counts as a file.
        if let (Ok(name), true) = (entry.file_name().into_string(), entry.path().is_file()) {
            names.push(name);
        }
    }
    names.retain(|name| is_song(name));
    names.sort();
    let Some(folder_name) = folder.to_str() else {
        bail!(
            "the name of the folder {} is not UTF-8, so it cannot be sent to a worker",
            folder.display()
        );
    };
    if names.is_empty() {
        bail!("there is no song in {folder_name}: no file ends in .{}", EXTENSIONS.join(", ."));
    }
    Ok(with_ids_and_titles(folder_name, listener, &names))
}

fn is_song(name: &str) -> bool {
    // A leading dot hides a file. Some systems put such a file beside each song.
    Path::new(name).extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
        !name.starts_with('.')
            && EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
    })
}

fn with_ids_and_titles(folder: &str, listener: &str, names: &[String]) -> Vec<Song> {
    let titles: Vec<String> = names.iter().map(|name| title(name)).collect();
    let mut ids = HashSet::new();
    let mut songs = Vec::with_capacity(names.len());
    for (name, title) in names.iter().zip(&titles) {
        // The same song in two formats has one title twice; then the name of the file is the title.
        let is_shared = titles.iter().filter(|other| *other == title).count() > 1;
        songs.push(Song {
            id: unique_id(&format!("{listener}:{name}"), &mut ids),
            title: if is_shared { name.clone() } else { title.clone() },
            path: format!("{folder}/{name}"),
        });
    }
    songs
}

/// `slow-tide.wav` becomes `slow tide`.
fn title(name: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let words: Vec<&str> = stem.split(['-', '_', ' ']).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { name.to_owned() } else { words.join(" ") }
}

/// Cuts a long file name to the length of an id. If that makes two ids equal, a number tells them
/// apart.
fn unique_id(wanted: &str, taken: &mut HashSet<String>) -> String {
    let mut id = cut(wanted, ID_BYTES_MAX).to_owned();
    let mut count = 1;
    while !taken.insert(id.clone()) {
        count += 1;
        let ending = format!("#{count}");
        id = format!("{}{ending}", cut(wanted, ID_BYTES_MAX - ending.len()));
    }
    id
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        folder
    }

    #[test]
    fn only_audio_files_of_the_folder_itself_are_songs() {
        let folder = folder_with(&[
            "b.WAV",
            "a-long_way  home.mp3",
            "cover.jpg",
            "notes",
            ".hidden.ogg",
            "c.flac.txt",
        ]);
        fs::create_dir(folder.path().join("more.wav")).unwrap();
        fs::write(folder.path().join("more.wav/inside.wav"), b"x").unwrap();
        let songs = songs_of(folder.path(), "listener-42").unwrap();
        let titles: Vec<&str> = songs.iter().map(|song| song.title.as_str()).collect();
        assert_eq!(titles, ["a long way home", "b"]);
        assert_eq!(songs[1].id, "listener-42:b.WAV");
        assert!(Path::new(&songs[1].path).is_absolute() && Path::new(&songs[1].path).is_file());
    }

    #[test]
    fn songs_of_the_same_title_are_told_apart() {
        let folder = folder_with(&["one.wav", "one.flac", "two.wav"]);
        let songs = songs_of(folder.path(), "listener-42").unwrap();
        let titles: Vec<&str> = songs.iter().map(|song| song.title.as_str()).collect();
        assert_eq!(titles, ["one.flac", "one.wav", "two"]);
        assert_ne!(songs[0].id, songs[1].id);
    }

    #[test]
    fn names_too_long_for_an_id_stay_different_ids() {
        let names: Vec<String> =
            (0..12).map(|number| format!("{}{number:02}.wav", "ä".repeat(124))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let songs = songs_of(folder_with(&names).path(), "listener-42").unwrap();
        let ids: HashSet<&str> = songs.iter().map(|song| song.id.as_str()).collect();
        assert_eq!(ids.len(), 12);
        assert!(ids.iter().all(|id| id.len() <= ID_BYTES_MAX));
    }

    #[test]
    fn folder_without_songs_and_no_folder_are_errors_that_name_it() {
        let folder = folder_with(&["cover.jpg"]);
        let error = format!("{:#}", songs_of(folder.path(), "listener-42").unwrap_err());
        assert!(error.contains("there is no song in") && error.contains(".flac"), "{error}");
        let missing = folder.path().join("missing");
        let error = format!("{:#}", songs_of(&missing, "listener-42").unwrap_err());
        assert!(error.contains("cannot open the folder") && error.contains("missing"), "{error}");
    }
}
