//! Runs the program like a user, and checks its exit code and its output. The modules have their
//! own tests.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

fn songs(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_songs"))
        .args(arguments)
        .output()
        .expect("cargo builds the program for this test")
}

fn printed(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Half a second of a quiet tone, 8 kHz, 8 bit.
fn short_wav() -> Vec<u8> {
    let samples: Vec<u8> =
        (0..4_000u32).map(|index| if index % 16 < 8 { 140 } else { 116 }).collect();
    let length = samples.len() as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(8_000u32.to_le_bytes());
    file.extend(8_000u32.to_le_bytes());
    file.extend(b"\x01\0\x08\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

#[test]
fn made_songs_are_grouped_twice_with_one_data_folder() {
    let data = tempfile::tempdir().unwrap();
    for run in ["first", "second"] {
        let output = songs(&[Path::new("--pace=0"), Path::new("--data"), data.path()]);
        let text = printed(&output);
        assert!(output.status.success(), "{run} run: {text}");
        let lines_of = |song: &str, state: &str| {
            let (state, ending) = (format!(" {state} "), format!("preprocess: {song}"));
            text.lines().filter(|line| line.contains(&state) && line.ends_with(&ending)).count()
        };
        assert_eq!(lines_of("slow tide", "SUCCESS"), 1, "{run} run: {text}");
        assert_eq!(lines_of("broken", "RETRY"), 2, "{run} run: {text}");
        assert_eq!(lines_of("broken", "FAILURE"), 1, "{run} run: {text}");
        assert!(
            text.contains("broken.ogg: is not a WAV, FLAC, OGG or MP3 file, or is damaged"),
            "{run} run: {text}"
        );
        for members in [
            "group A (slow soft dark): harbour lights, low cloud, paper lanterns, slow tide",
            "): brick and wire, garage door, long road home, second gear",
            "group C (fast loud bright): glass runner, neon stairs, night circuit, static bloom",
        ] {
            assert!(text.contains(members), "{run} run: {text}");
        }
    }
}

#[test]
fn songs_of_a_given_folder_are_grouped_and_other_files_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tone.wav"), short_wav()).unwrap();
    fs::write(folder.path().join("empty.mp3"), b"").unwrap();
    fs::write(folder.path().join("notes.txt"), b"not a song").unwrap();
    fs::create_dir(folder.path().join("more.flac")).unwrap();
    let output = songs(&[folder.path()]);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("2 songs submitted"), "{text}");
    assert!(text.contains("empty.mp3: the file is empty"), "{text}");
    assert!(text.contains("group A (middle): tone"), "{text}");
    let (_, next_steps) = text.split_once("\nNext, ").expect("the next steps");
    for command in ["cargo install ", "celeriac serve ", "celeriac work ", "celeriac submit "] {
        assert!(next_steps.contains(&format!("\n  {command}")), "{text}");
    }
    assert!(next_steps.lines().all(|line| line.len() <= 72), "{text}");
}

#[test]
fn folder_without_songs_and_folder_of_broken_songs_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let output = songs(&[folder.path()]);
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("songs: there is no song in"), "{text}");

    fs::write(folder.path().join("letter.ogg"), b"dear listener").unwrap();
    let output = songs(&[folder.path()]);
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("none of the songs could be analysed") && text.contains("letter.ogg"),
        "{text}"
    );
}

#[test]
fn song_of_a_killed_worker_is_ended_by_another_worker() {
    let output = songs(&[Path::new("--pace=20")]);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("worker-2 was killed (SIGKILL) in \"preprocess: "), "{text}");
    assert!(text.contains("worker-1 began this song again, and no song was lost"), "{text}");
}

/// Everything that the program writes to a terminal of this many columns.
fn written_to_terminal(columns: u16, arguments: &[&str]) -> String {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).expect("a terminal");
    grantpt(&terminal).expect("granted");
    unlockpt(&terminal).expect("unlocked");
    let size = Winsize { ws_col: columns, ws_row: 40, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).expect("a size");
    let path = ptsname(&terminal, Vec::new()).expect("a name").into_string().expect("text");
    let side = || Stdio::from(File::options().read(true).write(true).open(&path).expect("opened"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_songs"))
        .args(arguments)
        .env("TERM", "xterm-256color")
        .stdin(side())
        .stdout(side())
        .stderr(side())
        .spawn()
        .expect("cargo builds the program for this test");
    let mut written = Vec::new();
    let mut buffer = [0; 4096];
    let mut terminal = File::from(terminal);
    // Linux reports the end as an error.
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        written.extend_from_slice(&buffer[..length]);
    }
    assert!(child.wait().expect("ended").success());
    String::from_utf8(written).expect("text")
}

/// The lines that a terminal shows at the end. It knows only what the program sends: moves up and
/// down, and the removal of a line.
fn shown(written: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        match character {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                let mut number = String::new();
                let letter = characters.by_ref().skip(1).find(|next| {
                    number.push(*next);
                    next.is_ascii_alphabetic()
                });
                let count = number[..number.len() - 1].parse().unwrap_or(1);
                match letter {
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row += count,
                    Some('K') => lines[row].clear(),
                    _ => {}
                }
            }
            _ => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
        if !character.is_control() {
            let line: &mut Vec<char> = &mut lines[row];
            line.resize(line.len().max(column), ' ');
            line[column - 1] = character;
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
}

#[test]
fn no_bar_stays_on_a_terminal() {
    for columns in [60, 80] {
        let written = written_to_terminal(columns, &["--pace=5"]);
        let lines = shown(&written, columns.into());
        let text = lines.join("\n");
        assert!(text.contains("✔ preprocess: slow tide"), "{text}");
        assert!(written.contains('░') && !text.contains('░'), "{text}");
        assert!(!text.contains(" of 13 tasks"), "{text}");
    }
}
