//! Groups songs that sound alike: k-means over the features of all songs, the choice of the number
//! of groups, and the names of the groups.
//!
//! `features` computes the features. The same songs always give the same groups.

use serde::{Deserialize, Serialize};

use crate::features::Features;

/// The numbers of a song that are compared: tempo, loudness, centroid, zero crossings.
const DIMENSIONS: usize = 4;

/// The largest number of groups that is tried, if the user sets none.
const GROUPS_MAX: usize = 6;

/// The runs of k-means for each number of groups. The best run counts, because a single run can end
/// in a poor local optimum.
const RUNS: u64 = 16;

/// The most rounds of one run. A small set needs less than ten.
const ROUNDS_MAX: usize = 100;

/// The numbers of one song, scaled so that they can be compared.
type Point = [f64; DIMENSIONS];

/// The songs in groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clusters {
    /// The groups, the slowest first.
    pub(crate) groups: Vec<Group>,
    /// The index of the group of each song, in the order of the songs.
    pub(crate) group_of_song: Vec<usize>,
}

/// One group with the means of its songs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// A few words that compare the group with the mean of all songs, such as `slow soft dark`.
    pub(crate) name: String,
    /// The mean tempo of the songs that have a tempo.
    pub(crate) tempo_bpm: Option<f64>,
    /// The mean loudness.
    pub(crate) loudness_dbfs: f64,
    /// The mean spectral centroid.
    pub(crate) centroid_hz: f64,
}

/// Groups the songs. Without `groups` the function takes the number of groups that separates the
/// songs best (by silhouette). There are never more groups than songs, and without songs there are
/// none.
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

/// Scales each number to mean 0 and standard deviation 1 over all songs. Otherwise the centroid in
/// hertz would count more than the loudness in decibel.
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
            // A song without a tempo gets the mean, 0, and is grouped by its other numbers.
            if let (Some(value), true) = (column(song), deviation > 1e-9) {
                point[dimension] = (value - middle) / deviation;
            }
        }
    }
    points
}

/// The points in groups.
struct Partition {
    group_of_point: Vec<usize>,
    /// The number of groups.
    count: usize,
    /// The sum of the squared distances of the points to the centres of their groups.
    spread: f64,
}

/// The partition with the largest silhouette.
fn best_partition(points: &[Point]) -> Partition {
    let count_max = GROUPS_MAX.min(points.len().saturating_sub(1));
    let mut best = partition(points, 1);
    let mut best_silhouette = None;
    for count in 2..=count_max {
        let next = partition(points, count);
        let next_silhouette = silhouette(points, &next);
        // If two are equal, the one with fewer groups counts.
        if best_silhouette.is_none_or(|best| next_silhouette > best) {
            best = next;
            best_silhouette = Some(next_silhouette);
        }
    }
    best
}

/// The partition into `count` groups with the smallest spread.
fn partition(points: &[Point], count: usize) -> Partition {
    (0..RUNS)
        .map(|seed| k_means(points, first_centres(points, count, seed)))
        .reduce(|best, next| if next.spread < best.spread { next } else { best })
        .expect("there is at least one run")
}

/// Draws the first centres by k-means++: the farther a point is from the nearest centre, the more
/// likely it is the next centre. The probability grows with the square of the distance.
fn first_centres(points: &[Point], count: usize, seed: u64) -> Vec<Point> {
    let mut random = Random(seed);
    let first = (random.fraction() * points.len() as f64) as usize;
    let mut centres = vec![points[first.min(points.len() - 1)]];
    while centres.len() < count {
        let distances: Vec<f64> =
            points.iter().map(|point| nearest(point, &centres).square_distance).collect();
        let mut draw = random.fraction() * distances.iter().sum::<f64>();
        let mut chosen = points.len() - 1;
        for (index, distance) in distances.iter().enumerate() {
            draw -= distance;
            if draw < 0.0 {
                chosen = index;
                break;
            }
        }
        centres.push(points[chosen]);
    }
    centres
}

/// Moves the centres into the middle of their groups, until no point changes its group.
fn k_means(points: &[Point], mut centres: Vec<Point>) -> Partition {
    let assign = |centres: &[Point]| {
        points.iter().map(|point| nearest(point, centres).index).collect::<Vec<_>>()
    };
    let mut group_of_point = assign(&centres);
    for _ in 0..ROUNDS_MAX {
        for (group, centre) in centres.iter_mut().enumerate() {
            let members: Vec<&Point> = members(points, &group_of_point, group).collect();
            // A group that has lost all its points keeps its centre.
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
    let spread = points.iter().map(|point| nearest(point, &centres).square_distance).sum();
    Partition { group_of_point, count: centres.len(), spread }
}

/// How well the groups are separated, from -1 to 1. For each point it compares the mean distance to
/// the points of its own group with the mean distance to those of the next group: their difference,
/// divided by the larger of the two. The silhouette is the mean over all points.
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
        // A point that is alone in its group has the score 0 by definition.
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

/// A group with its index in the partition.
struct FoundGroup {
    index: usize,
    group: Group,
}

/// Names the groups and sorts them by tempo.
fn describe(songs: &[Features], points: &[Point], partition: &Partition) -> Clusters {
    let mut found: Vec<FoundGroup> = Vec::new();
    for index in 0..partition.count {
        // If all songs are alike, a group can have no song. Such a group is left out.
        if let Some(group) = describe_group(songs, points, partition, index) {
            found.push(FoundGroup { index, group });
        }
    }
    found.sort_by(|FoundGroup { group: left, .. }, FoundGroup { group: right, .. }| {
        let tempo = |group: &Group| group.tempo_bpm.unwrap_or(0.0);
        tempo(left)
            .total_cmp(&tempo(right))
            .then(left.loudness_dbfs.total_cmp(&right.loudness_dbfs))
    });
    let place = |index: &usize| {
        found
            .iter()
            .position(|found| found.index == *index)
            .expect("the group of a song has a song")
    };
    let group_of_song = partition.group_of_point.iter().map(place).collect();
    Clusters { groups: found.into_iter().map(|found| found.group).collect(), group_of_song }
}

/// The means and the name of one group; none if it has no song.
fn describe_group(
    songs: &[Features],
    points: &[Point],
    partition: &Partition,
    group: usize,
) -> Option<Group> {
    let members: Vec<usize> =
        (0..songs.len()).filter(|index| partition.group_of_point[*index] == group).collect();
    let average = |number: &dyn Fn(usize) -> Option<f64>| {
        mean(&members.iter().filter_map(|index| number(*index)).collect::<Vec<_>>())
    };
    let deviation = |dimension: usize| average(&|index| Some(points[index][dimension]));
    Some(Group {
        name: name(deviation(0)?, deviation(1)?, deviation(2)?),
        tempo_bpm: average(&|index| songs[index].tempo_bpm),
        loudness_dbfs: average(&|index| Some(songs[index].loudness_dbfs))?,
        centroid_hz: average(&|index| Some(songs[index].centroid_hz))?,
    })
}

/// Words for the values of a group that differ clearly from the mean of all songs, which is 0. The
/// unit is the standard deviation.
fn name(tempo: f64, loudness: f64, centroid: f64) -> String {
    const CLEARLY: f64 = 0.4;
    let mut words = Vec::new();
    for (value, below, above) in
        [(tempo, "slow", "fast"), (loudness, "soft", "loud"), (centroid, "dark", "bright")]
    {
        if value.abs() > CLEARLY {
            words.push(if value < 0.0 { below } else { above });
        }
    }
    if words.is_empty() { "middle".to_owned() } else { words.join(" ") }
}

fn members<'a>(
    points: &'a [Point],
    group_of_point: &'a [usize],
    group: usize,
) -> impl Iterator<Item = &'a Point> + use<'a> {
    points.iter().zip(group_of_point).filter(move |(_, own)| **own == group).map(|(point, _)| point)
}

/// The centre that is nearest to a point.
struct Nearest {
    index: usize,
    square_distance: f64,
}

fn nearest(point: &Point, centres: &[Point]) -> Nearest {
    centres
        .iter()
        .enumerate()
        .map(|(index, centre)| Nearest { index, square_distance: square_distance(point, centre) })
        .min_by(|left, right| left.square_distance.total_cmp(&right.square_distance))
        .expect("there is at least one centre")
}

fn square_distance(left: &Point, right: &Point) -> f64 {
    left.iter().zip(right).map(|(left, right)| (left - right).powi(2)).sum()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Xorshift64*, a small random generator with a seed, so that the same songs give the same groups.
struct Random(u64);

impl Random {
    /// A number from 0 to less than 1.
    fn fraction(&mut self) -> f64 {
        // The generator would never leave the state 0.
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
    fn order_of_the_songs_does_not_change_the_groups() {
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
