//! Groups songs that sound alike.
//!
//! Lives here: k-means over the features of all songs, the choice of the number of groups, and
//! their names. Does not live here: how the features come about (see `features`). The same songs
//! always give the same groups.

use serde::{Deserialize, Serialize};

use crate::features::Features;

/// Numbers per song that are compared: tempo, loudness, centroid, zero crossings.
const DIMENSIONS: usize = 4;

/// More groups than this are not tried when the number is to be found.
const GROUPS_MAX: usize = 6;

/// Starts per number of groups; the best of them counts, because one start can end in a poor local
/// optimum.
const STARTS: u64 = 16;

/// Rounds per start; small sets settle within ten.
const ROUNDS_MAX: usize = 100;

type Point = [f64; DIMENSIONS];

/// The songs in groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clusters {
    /// The groups, the slowest first.
    pub(crate) groups: Vec<Group>,
    /// For each song, in the order given, the index of its group.
    pub(crate) group_of_song: Vec<usize>,
}

/// One group: what its songs have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// A few words against the mean of all songs, such as `slow soft dark`.
    pub(crate) name: String,
    /// Mean tempo of the songs that have one.
    pub(crate) tempo_bpm: Option<f64>,
    /// Mean loudness.
    pub(crate) loudness_dbfs: f64,
    /// Mean spectral centroid.
    pub(crate) centroid_hz: f64,
}

/// Groups the songs. Without `groups` the number is the one that separates them best (by
/// silhouette). A number larger than that of the songs is cut to it; no songs give no groups.
pub(crate) fn cluster(songs: &[Features], groups: Option<usize>) -> Clusters {
    if songs.is_empty() {
        return Clusters { groups: Vec::new(), group_of_song: Vec::new() };
    }
    let points = comparable(songs);
    let found = match groups {
        Some(count) => partition(&points, count.clamp(1, points.len())),
        None => best_partition(&points),
    };
    describe(songs, &points, &found)
}

/// Scales each number to mean 0 and deviation 1 over all songs, so that hertz do not outweigh
/// decibel.
fn comparable(songs: &[Features]) -> Vec<Point> {
    let columns: [fn(&Features) -> Option<f64>; DIMENSIONS] = [
        |song| song.tempo_bpm,
        |song| Some(song.loudness_dbfs),
        |song| Some(song.centroid_hz),
        |song| Some(song.zero_crossings_per_second),
    ];
    let mut points = vec![[0.0; DIMENSIONS]; songs.len()];
    for (dimension, column) in columns.iter().enumerate() {
        let known: Vec<f64> = songs.iter().filter_map(column).collect();
        let middle = mean(&known).unwrap_or(0.0);
        let deviation =
            mean(&known.iter().map(|value| (value - middle).powi(2)).collect::<Vec<_>>());
        let deviation = deviation.unwrap_or(0.0).sqrt();
        for (point, song) in points.iter_mut().zip(songs) {
            // A song without a tempo stands in the middle and is grouped by the other numbers.
            if let (Some(value), true) = (column(song), deviation > 1e-9) {
                point[dimension] = (value - middle) / deviation;
            }
        }
    }
    points
}

/// A grouping: for each point its group, and the sum of squared distances to the centres.
struct Partition {
    group_of_point: Vec<usize>,
    count: usize,
    spread: f64,
}

fn best_partition(points: &[Point]) -> Partition {
    let most = GROUPS_MAX.min(points.len().saturating_sub(1));
    (2..=most)
        .map(|count| partition(points, count))
        .map(|found| (silhouette(points, &found), found))
        // The first of equals: fewer groups.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map_or_else(|| partition(points, 1), |(_, found)| found)
}

fn partition(points: &[Point], count: usize) -> Partition {
    (0..STARTS)
        .map(|seed| settle(points, first_centres(points, count, seed)))
        .reduce(|best, next| if next.spread < best.spread { next } else { best })
        .expect("there is at least one start")
}

/// k-means++: each further centre is drawn with a chance that grows with the squared distance to
/// the nearest one.
fn first_centres(points: &[Point], count: usize, seed: u64) -> Vec<Point> {
    let mut random = Random(seed);
    let mut centres =
        vec![points[((random.fraction() * points.len() as f64) as usize).min(points.len() - 1)]];
    while centres.len() < count {
        let distances: Vec<f64> = points.iter().map(|point| nearest(point, &centres).1).collect();
        let mut draw = random.fraction() * distances.iter().sum::<f64>();
        let chosen = distances.iter().position(|distance| {
            draw -= distance;
            draw < 0.0
        });
        centres.push(points[chosen.unwrap_or(points.len() - 1)]);
    }
    centres
}

fn settle(points: &[Point], mut centres: Vec<Point>) -> Partition {
    let assign = |centres: &[Point]| {
        points.iter().map(|point| nearest(point, centres).0).collect::<Vec<_>>()
    };
    let mut group_of_point = assign(&centres);
    for _ in 0..ROUNDS_MAX {
        for (group, centre) in centres.iter_mut().enumerate() {
            let members: Vec<&Point> = members(points, &group_of_point, group).collect();
            // A group that lost all its points keeps its centre.
            if !members.is_empty() {
                *centre = std::array::from_fn(|dimension| {
                    members.iter().map(|member| member[dimension]).sum::<f64>()
                        / members.len() as f64
                });
            }
        }
        let next = assign(&centres);
        if next == group_of_point {
            break;
        }
        group_of_point = next;
    }
    let spread = points.iter().map(|point| nearest(point, &centres).1).sum();
    Partition { group_of_point, count: centres.len(), spread }
}

/// How well the groups are apart, -1 to 1: the mean over all points of (to the next group - to the
/// own) / the larger.
fn silhouette(points: &[Point], partition: &Partition) -> f64 {
    let score = |index: usize| {
        let own = partition.group_of_point[index];
        let to_group = |group: usize| {
            let distances: Vec<f64> = (0..points.len())
                .filter(|other| *other != index && partition.group_of_point[*other] == group)
                .map(|other| square_distance(&points[index], &points[other]).sqrt())
                .collect();
            mean(&distances)
        };
        // A point alone in its group scores 0 by definition.
        let inside = to_group(own)?;
        let outside = (0..partition.count)
            .filter(|group| *group != own)
            .filter_map(to_group)
            .reduce(f64::min)?;
        let larger = inside.max(outside);
        (larger > 0.0).then(|| (outside - inside) / larger)
    };
    (0..points.len()).map(|index| score(index).unwrap_or(0.0)).sum::<f64>() / points.len() as f64
}

fn describe(songs: &[Features], points: &[Point], partition: &Partition) -> Clusters {
    let mut found: Vec<(usize, Group)> = Vec::new();
    for group in 0..partition.count {
        let indexes: Vec<usize> =
            (0..songs.len()).filter(|index| partition.group_of_point[*index] == group).collect();
        let average = |number: &dyn Fn(usize) -> Option<f64>| {
            mean(&indexes.iter().filter_map(|index| number(*index)).collect::<Vec<_>>())
        };
        // Songs that are all alike can leave a group without any; it is not told about.
        let Some(loudness_dbfs) = average(&|index| Some(songs[index].loudness_dbfs)) else {
            continue;
        };
        let side =
            |dimension: usize| average(&|index| Some(points[index][dimension])).unwrap_or(0.0);
        let name = name(side(0), side(1), side(2));
        let tempo_bpm = average(&|index| songs[index].tempo_bpm);
        let centroid_hz = average(&|index| Some(songs[index].centroid_hz)).unwrap_or(0.0);
        found.push((group, Group { name, tempo_bpm, loudness_dbfs, centroid_hz }));
    }
    found.sort_by(|(_, left), (_, right)| {
        let tempo = |group: &Group| group.tempo_bpm.unwrap_or(0.0);
        tempo(left)
            .total_cmp(&tempo(right))
            .then(left.loudness_dbfs.total_cmp(&right.loudness_dbfs))
    });
    let place = |group: &usize| {
        found.iter().position(|(old, _)| old == group).expect("a song's group has a song")
    };
    let group_of_song = partition.group_of_point.iter().map(place).collect();
    Clusters { groups: found.into_iter().map(|(_, group)| group).collect(), group_of_song }
}

/// Words for where a group stands against the mean of all songs.
fn name(tempo: f64, loudness: f64, centroid: f64) -> String {
    let sides = [(tempo, "slow", "fast"), (loudness, "soft", "loud"), (centroid, "dark", "bright")];
    let words: Vec<&str> = sides
        .into_iter()
        .filter(|(side, _, _)| side.abs() > 0.4)
        .map(|(side, below, above)| if side < 0.0 { below } else { above })
        .collect();
    if words.is_empty() { "middle".to_owned() } else { words.join(" ") }
}

fn members<'a>(
    points: &'a [Point],
    group_of_point: &'a [usize],
    group: usize,
) -> impl Iterator<Item = &'a Point> + use<'a> {
    points.iter().zip(group_of_point).filter(move |(_, own)| **own == group).map(|(point, _)| point)
}

fn nearest(point: &Point, centres: &[Point]) -> (usize, f64) {
    centres
        .iter()
        .map(|centre| square_distance(point, centre))
        .enumerate()
        .min_by(|(_, left), (_, right)| left.total_cmp(right))
        .expect("there is at least one centre")
}

fn square_distance(left: &Point, right: &Point) -> f64 {
    left.iter().zip(right).map(|(left, right)| (left - right).powi(2)).sum()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Xorshift64*: small and seeded, so that the same songs give the same groups.
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        // Zero would stay zero for ever.
        let mut state = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0 = state;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn song(tempo_bpm: Option<f64>, loudness_dbfs: f64, centroid_hz: f64) -> Features {
        let zero_crossings_per_second = centroid_hz / 2.0;
        Features { seconds: 8.0, tempo_bpm, loudness_dbfs, centroid_hz, zero_crossings_per_second }
    }

    fn three_families() -> Vec<Features> {
        let family = |tempo: f64, loudness: f64, centroid: f64| {
            (0..4).map(f64::from).map(move |step| {
                song(Some(tempo + step * 3.0), loudness + step * 0.5, centroid + step * 40.0)
            })
        };
        family(60.0, -30.0, 300.0)
            .chain(family(110.0, -18.0, 1500.0))
            .chain(family(160.0, -10.0, 4500.0))
            .collect()
    }

    #[test]
    fn number_of_groups_is_found_and_groups_are_ordered_by_tempo() {
        let clusters = cluster(&three_families(), None);
        assert_eq!(clusters.group_of_song, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(clusters.groups[0].name, "slow soft dark");
        assert_eq!(clusters.groups[2].name, "fast loud bright");
        assert_eq!(clusters.groups[1].tempo_bpm, Some(114.5));
    }

    #[test]
    fn order_of_the_songs_does_not_change_who_is_together() {
        let mut songs = three_families();
        songs.reverse();
        assert_eq!(cluster(&songs, None).group_of_song, [2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn given_number_of_groups_is_kept_within_the_number_of_songs() {
        assert_eq!(cluster(&three_families(), Some(2)).groups.len(), 2);
        assert_eq!(cluster(&three_families()[..2], Some(9)).groups.len(), 2);
        assert_eq!(cluster(&three_families(), Some(0)).groups.len(), 1);
    }

    #[test]
    fn few_songs_and_equal_songs_are_one_group() {
        assert_eq!(cluster(&[], None).groups.len(), 0);
        assert_eq!(cluster(&three_families()[..1], None).group_of_song, [0]);
        assert_eq!(cluster(&three_families()[..2], None).group_of_song, [0, 0]);
        let same = vec![song(Some(100.0), -20.0, 900.0); 5];
        let clusters = cluster(&same, None);
        assert_eq!((clusters.groups.len(), clusters.groups[0].name.as_str()), (1, "middle"));
    }

    #[test]
    fn song_without_a_tempo_is_grouped_by_the_rest() {
        let mut songs = three_families();
        songs.push(song(None, -30.0, 310.0));
        let clusters = cluster(&songs, Some(3));
        assert_eq!(clusters.group_of_song[12], clusters.group_of_song[0]);
        assert!(clusters.groups.iter().all(|group| group.tempo_bpm.is_some()));
    }
}
