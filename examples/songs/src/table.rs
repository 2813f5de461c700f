//! The table at the end of the story.
//!
//! Lives here: songs, their histories, features and groups as text. Does not live here: computing
//! any of it.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::cluster::Clusters;
use crate::container::Ended;
use crate::features::Features;
use crate::playlist::Song;

/// Written where there is no value.
const NONE: &str = "–";

/// The whole ending: a row for each song, what each group has in common, and why songs failed.
pub(crate) fn ending(
    songs: &[Song],
    ended: &[Ended<Features>],
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
    // Only the songs that succeeded took part in the clustering, in the same order.
    let mut groups = clusters.group_of_song.iter();
    let mut members = vec![Vec::new(); clusters.groups.len()];
    let mut failures = String::new();
    for (song, ended) in songs.iter().zip(ended) {
        let mut row = vec![song.title.clone(), ended.history.to_string()];
        match &ended.outcome {
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
                let _infallible = writeln!(failures, "{}: {reason}", song.title);
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

fn legend(clusters: &Clusters, members: &[Vec<&str>]) -> String {
    let mut text = String::new();
    for (index, (group, members)) in clusters.groups.iter().zip(members).enumerate() {
        let _infallible =
            writeln!(text, "group {} ({}): {}", letter(index), group.name, members.join(", "));
    }
    text
}

/// A for the first group; there are never more groups than letters when their number was found.
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

    fn ended(outcome: Result<Features, String>) -> Ended<Features> {
        Ended { history: History::default(), outcome }
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
    fn failed_songs_stand_in_the_table_and_shift_no_group() {
        let songs = [song("broken"), song("slow"), song("quick")];
        let done = [features(None), features(Some(150.0))];
        let all = [
            ended(Err("failed: no sound".to_owned())),
            ended(Ok(done[0].clone())),
            ended(Ok(done[1].clone())),
        ];
        let mut clusters = cluster(&done, Some(1));
        clusters.groups.push(clusters.groups[0].clone());
        clusters.group_of_song = vec![0, 1];
        let text = ending(&songs, &all, &clusters, 160);
        assert!(text.contains("broken: failed: no sound\n"), "{text}");
        assert!(text.contains("): slow\n") && text.contains("): quick\n"), "{text}");
        assert!(text.contains("150.0") && text.contains("900 Hz") && text.contains(NONE), "{text}");
    }

    #[test]
    fn narrow_terminal_gets_a_narrow_table() {
        let text = ending(
            &[song("slow")],
            &[ended(Ok(features(None)))],
            &cluster(&[features(None)], None),
            70,
        );
        assert!(text.lines().all(|line| line.chars().count() <= 70), "{text}");
    }
}
