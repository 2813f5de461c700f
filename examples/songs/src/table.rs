//! The table at the end: the songs with their states, features and groups as text.
//!
//! This file computes none of these values.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::cluster::Clusters;
use crate::features::Features;
use crate::playlist::Song;
use crate::reader::TaskOutcome;

/// The text of a cell without a value.
const NONE: &str = "–";

/// A table with a row for each song, then a line for each group, then a line for each song that
/// failed.
pub(crate) fn summary(
    songs: &[Song],
    outcomes: &[TaskOutcome<Features>],
    clusters: &Clusters,
    columns: u16,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    table.set_header([
        "song",
        "states, each with the ms since its submit",
        "bpm",
        "dBFS",
        "centroid",
        "length",
        "group",
    ]);
    // The clustering got only the songs that succeeded, in the same order.
    let mut groups = clusters.group_of_song.iter();
    let mut members = vec![Vec::new(); clusters.groups.len()];
    let mut failures = String::new();
    for (song, outcome) in songs.iter().zip(outcomes) {
        let mut row = vec![song.title.clone(), outcome.history.to_string()];
        match &outcome.result {
            Ok(features) => {
                row.extend(numbers(features));
                let group = groups.next().copied();
                row.push(group.map_or_else(|| NONE.to_owned(), letter));
                if let Some(members) = group.and_then(|group| members.get_mut(group)) {
                    members.push(song.title.as_str());
                }
            }
            Err(reason) => {
                row.extend(std::iter::repeat_n(NONE.to_owned(), 5));
                failures.push_str(&format!("{}: {reason}\n", song.title));
            }
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n{}{failures}", legend(clusters, &members))
}

fn numbers(features: &Features) -> [String; 4] {
    [
        features.tempo_bpm.map_or_else(|| NONE.to_owned(), |tempo| format!("{tempo:.1}")),
        format!("{:.1}", features.loudness_dbfs),
        format!("{:.0} Hz", features.centroid_hz),
        format!("{:.1} s", features.seconds),
    ]
}

/// A line for each group with the titles of its songs.
fn legend(clusters: &Clusters, members: &[Vec<&str>]) -> String {
    let mut text = String::new();
    for (index, (group, members)) in clusters.groups.iter().zip(members).enumerate() {
        let members = members.join(", ");
        text.push_str(&format!("group {} ({}): {members}\n", letter(index), group.name));
    }
    text
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
    use crate::history::History;

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
}
