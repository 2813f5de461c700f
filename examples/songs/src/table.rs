//! The table at the end: the songs with their states, features and groups as text.
//!
//! This file computes none of these values.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use console::{measure_text_width, truncate_str};

use crate::cluster::Clusters;
use crate::features::Features;
use crate::history::{ARROW, History};
use crate::playlist::Song;
use crate::reader::TaskOutcome;

/// The text of a cell without a value.
const NONE: &str = "–";

/// The heading of the states, where the column is wide enough for it. Elsewhere it is `states`.
const STATES_HEADING: &str = "states, each with the ms since its submit";

/// The space that a column takes beside its text: a line, and a blank on each side.
const COLUMN_FRAME: usize = 3;

/// A song takes at most this many lines, in a terminal of at least 80 columns.
const LINES_OF_SONG_MAX: usize = 2;

/// The longest and the shortest width for the titles, if some are longer. The lines below the table
/// have the whole titles.
const TITLE_MAX: usize = 40;
const TITLE_MIN: usize = 8;

/// The width of the shortest form of the states, such as `SUCCESS 1.2 s`.
const STATES_MIN: usize = 13;

/// A table with a row for each song, then a line for each group, then a line for each song that
/// failed.
pub(crate) fn summary(
    songs: &[Song],
    outcomes: &[TaskOutcome<Features>],
    clusters: &Clusters,
    columns: u16,
) -> String {
    // The clustering got only the songs that succeeded, in the same order.
    let mut groups = clusters.group_of_song.iter();
    let mut members = vec![Vec::new(); clusters.groups.len()];
    let mut failures = String::new();
    let mut values = Vec::with_capacity(songs.len());
    for (song, outcome) in songs.iter().zip(outcomes) {
        match &outcome.result {
            Ok(features) => {
                let group = groups.next().copied();
                let [tempo, loudness, centroid, length] = numbers(features);
                let letter = group.map_or_else(|| NONE.to_owned(), letter);
                values.push([tempo, loudness, centroid, length, letter]);
                if let Some(members) = group.and_then(|group| members.get_mut(group)) {
                    members.push(song.title.as_str());
                }
            }
            Err(reason) => {
                values.push(std::array::from_fn(|_| NONE.to_owned()));
                failures.push_str(&folded(&format!("{}: {reason}", song.title), columns));
            }
        }
    }
    let table = table(songs, outcomes, values, columns);
    format!("{table}\n{}{failures}", legend(clusters, &members, columns))
}

/// The rows of the songs. The titles and the states get the width that the `values` leave.
fn table(
    songs: &[Song],
    outcomes: &[TaskOutcome<Features>],
    values: Vec<[String; 5]>,
    columns: u16,
) -> Table {
    let headings = ["bpm", "dBFS", "centroid", "length", "group"];
    let mut rest = usize::from(columns).saturating_sub(1 + 2 * COLUMN_FRAME);
    for (index, heading) in headings.iter().enumerate() {
        let widths = values.iter().map(|row| measure_text_width(&row[index]));
        let width = widths.max().unwrap_or(0).max(heading.len());
        rest = rest.saturating_sub(width + COLUMN_FRAME);
    }
    let title_max = rest.saturating_sub(STATES_MIN).clamp(TITLE_MIN, TITLE_MAX);
    let titles: Vec<_> =
        songs.iter().map(|song| truncate_str(&song.title, title_max, "…")).collect();
    let title_width = titles.iter().map(|title| measure_text_width(title)).max().unwrap_or(0);
    let states_width = rest.saturating_sub(title_width);

    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    let states_heading =
        if states_width < STATES_HEADING.len() { "states" } else { STATES_HEADING };
    table.set_header(["song", states_heading].into_iter().chain(headings));
    for ((title, outcome), values) in titles.into_iter().zip(outcomes).zip(values) {
        let states = states(&outcome.history, states_width);
        table.add_row([title.into_owned(), states].into_iter().chain(values));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The longest form of the states that fits into the lines of a song.
fn states(history: &History, width: usize) -> String {
    let forms = [history.to_string(), history.names()];
    let fitting = forms.iter().map(|form| wrapped(form, width)).find(|lines| {
        lines.len() <= LINES_OF_SONG_MAX
            && lines.iter().all(|line| measure_text_width(line) <= width)
    });
    fitting.map_or_else(|| history.end(), |lines| lines.join("\n"))
}

/// The lines of a text that may be broken after each arrow.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for step in text.split_inclusive(ARROW) {
        match lines.last_mut() {
            Some(line)
                if measure_text_width(line) + measure_text_width(step.trim_end()) <= width =>
            {
                line.push_str(step);
            }
            _ => lines.push(step.to_owned()),
        }
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

fn numbers(features: &Features) -> [String; 4] {
    [
        features.tempo_bpm.map_or_else(|| NONE.to_owned(), |tempo| format!("{tempo:.1}")),
        format!("{:.1}", features.loudness_dbfs),
        format!("{:.0} Hz", features.centroid_hz),
        format!("{:.1} s", features.seconds),
    ]
}

/// For each group the titles of its songs.
fn legend(clusters: &Clusters, members: &[Vec<&str>], columns: u16) -> String {
    let mut text = String::new();
    for (index, (group, members)) in clusters.groups.iter().zip(members).enumerate() {
        let members = members.join(", ");
        let line = format!("group {} ({}): {members}", letter(index), group.name);
        text.push_str(&folded(&line, columns));
    }
    text
}

/// The text in lines that fit into the columns. It is broken between words, and the lines after the
/// first one are indented.
fn folded(text: &str, columns: u16) -> String {
    const INDENT: &str = "  ";
    let (mut folded, mut width) = (String::new(), 0);
    for word in text.split(' ') {
        let word_width = measure_text_width(word);
        if width > 0 && width + 1 + word_width > usize::from(columns) {
            folded.push('\n');
            folded.push_str(INDENT);
            width = INDENT.len();
        } else if width > 0 {
            folded.push(' ');
            width += 1;
        }
        folded.push_str(word);
        width += word_width;
    }
    folded.push('\n');
    folded
}

/// The name of a group: `A` for the first one. Numbers follow after `Z`, which only a user who sets
/// the number of groups can see.
fn letter(group: usize) -> String {
    match u8::try_from(group) {
        Ok(index) if index < 26 => char::from(b'A' + index).to_string(),
        _ => (group + 1).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::cluster;
    use crate::history::tests::history_of;

    fn song(title: &str) -> Song {
        Song {
            id: format!("listener-42:{title}"),
            title: title.to_owned(),
            path: format!("/songs/{title}"),
        }
    }

    fn outcome(result: Result<Features, String>) -> TaskOutcome<Features> {
        TaskOutcome { history: History::default(), result }
    }

    fn features(tempo_bpm: Option<f64>) -> Features {
        Features {
            seconds: 8.0,
            tempo_bpm,
            loudness_dbfs: -18.0,
            centroid_hz: 900.0,
            zero_crossings_per_second: 500.0,
        }
    }

    #[test]
    fn failed_songs_are_in_the_table_and_shift_no_group() {
        let songs = [song("broken"), song("slow"), song("quick")];
        let done = [features(None), features(Some(150.0))];
        let all = [
            outcome(Err("failed: no sound".to_owned())),
            outcome(Ok(done[0].clone())),
            outcome(Ok(done[1].clone())),
        ];
        let mut clusters = cluster(&done, Some(1));
        clusters.groups.push(clusters.groups[0].clone());
        clusters.group_of_song = vec![0, 1];
        let text = summary(&songs, &all, &clusters, 160);
        assert!(text.contains("broken: failed: no sound\n"), "{text}");
        assert!(text.contains("): slow\n") && text.contains("): quick\n"), "{text}");
        assert!(text.contains("150.0") && text.contains("900 Hz") && text.contains(NONE), "{text}");
    }

    #[test]
    fn narrow_terminal_gets_a_narrow_table() {
        let text = summary(
            &[song("slow")],
            &[outcome(Ok(features(None)))],
            &cluster(&[features(None)], None),
            70,
        );
        assert!(text.lines().all(|line| line.chars().count() <= 70), "{text}");
    }

    #[test]
    fn groups_and_failures_are_broken_between_words() {
        let songs: Vec<Song> = (0..12).map(|number| song(&format!("song {number:02}"))).collect();
        let reason = ["failed: the file has no sound that could be decoded"; 3].join(", and ");
        let mut outcomes = vec![outcome(Err(reason.clone()))];
        outcomes.resize_with(12, || outcome(Ok(features(None))));
        let clusters = cluster(&vec![features(None); 11], Some(1));
        let text = summary(&songs, &outcomes, &clusters, 80);
        assert!(text.lines().all(|line| measure_text_width(line) <= 80), "{text}");
        let unbroken = text.replace("\n  ", " ");
        assert!(unbroken.contains(&format!("song 00: {reason}\n")), "{text}");
        assert!(unbroken.contains("song 10, song 11\n"), "{text}");
    }

    #[test]
    fn song_takes_at_most_two_lines() {
        let times = [0, 104, 105, 1_206, 1_466, 1_927].map(Some);
        let names = ["QUEUED", "LEASED", "STARTED", "DECODE", "ANALYSE", "SUCCESS"];
        let steps: Vec<_> = names.into_iter().zip(times).collect();
        let attempts = ["QUEUED", "LEASED", "STARTED", "RETRY", "LEASED", "STARTED", "FAILURE"];
        let retried: Vec<_> = attempts.into_iter().zip((0..7).map(|at| Some(at * 900))).collect();
        let songs = [song("paper lanterns"), song(&"a long way home ".repeat(4)), song("broken")];
        let done = [features(Some(150.0)), features(None)];
        for columns in [80, 120, 160] {
            let outcomes = [
                TaskOutcome { history: history_of(&steps), result: Ok(done[0].clone()) },
                TaskOutcome { history: history_of(&steps), result: Ok(done[1].clone()) },
                TaskOutcome { history: history_of(&retried), result: Err("bad".to_owned()) },
            ];
            for songs in [&songs[..], &songs[..1]] {
                let text = summary(songs, &outcomes, &cluster(&done, Some(1)), columns);
                let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('│')).collect();
                // One more line is the heading.
                assert!(rows.len() <= 1 + 2 * songs.len(), "{text}");
                let table = text.lines().take_while(|line| !line.starts_with("group"));
                for line in table {
                    assert!(measure_text_width(line) <= columns.into(), "{text}");
                }
            }
            let text = summary(&songs[..1], &outcomes, &cluster(&done, Some(1)), columns);
            let is_whole = text.contains("QUEUED 0 → LEASED 104 → STARTED 105");
            assert_eq!(is_whole, columns > 80, "{text}");
            assert!(text.contains("SUCCESS 1.9 s") || text.contains("SUCCESS 1927 ms"), "{text}");
        }
    }
}
