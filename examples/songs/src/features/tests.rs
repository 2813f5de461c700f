//! The features of the made songs are the ones of their list, and the clustering finds their
//! families.

use super::*;
use crate::audio;
use crate::cluster::cluster;
use crate::synthesis::{CLIPS, Clip, Family};

fn measured(clip: &Clip) -> Features {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(clip.file);
    std::fs::write(&path, clip.encode().unwrap()).unwrap();
    analyse(&audio::decode(&path, |_| ()).unwrap(), |_| ())
}

fn sound(rate: u32, mono: Vec<f32>) -> Sound {
    let mean_square =
        mono.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / mono.len() as f64;
    Sound { rate, mean_square, seconds: mono.len() as f64 / f64::from(rate), mono }
}

#[test]
fn made_songs_have_the_features_of_their_list() {
    for clip in &CLIPS {
        let features = measured(clip);
        let tempo = features.tempo_bpm.unwrap();
        assert!(
            (tempo / clip.tempo_bpm - 1.0).abs() < 0.03,
            "{}: {} read as {tempo}",
            clip.file,
            clip.tempo_bpm
        );
        assert!(
            (features.loudness_dbfs - clip.level_dbfs).abs() < 0.2,
            "{}: {features:?}",
            clip.file
        );
        assert!((features.seconds - 8.0).abs() < 0.01, "{}: {features:?}", clip.file);
    }
}

#[test]
fn families_differ_in_brightness() {
    let centroids = |family: Family| {
        CLIPS
            .iter()
            .filter(|clip| clip.family == family)
            .map(|clip| measured(clip).centroid_hz)
            .collect::<Vec<_>>()
    };
    let (pad, rock, electronic) =
        (centroids(Family::Pad), centroids(Family::Rock), centroids(Family::Electronic));
    let highest = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
    let lowest = |values: &[f64]| values.iter().copied().fold(f64::MAX, f64::min);
    assert!(highest(&pad) < lowest(&rock), "{pad:?} {rock:?}");
    assert!(highest(&rock) < lowest(&electronic), "{rock:?} {electronic:?}");
}

#[test]
fn clusters_of_the_made_songs_are_their_families() {
    let features: Vec<Features> = CLIPS.iter().map(measured).collect();
    let clusters = cluster(&features, None);
    assert_eq!(clusters.groups.len(), 3, "{clusters:?}");
    let families: Vec<usize> = CLIPS.iter().map(|clip| clip.family as usize).collect();
    assert_eq!(clusters.group_of_song, families);
}

#[test]
fn sine_has_its_own_frequency_as_centroid_and_twice_as_many_crossings() {
    let tone = |rate: u32| {
        (0..rate * 3)
            .map(|index| (std::f32::consts::TAU * 1_000.0 * index as f32 / rate as f32).sin())
            .collect()
    };
    for rate in [8_000, 22_050, 44_100, 96_000] {
        let features = analyse(&sound(rate, tone(rate)), |_| ());
        assert!((features.centroid_hz - 1_000.0).abs() < 100.0, "{rate}: {features:?}");
        assert!(
            (features.zero_crossings_per_second - 2_000.0).abs() < 10.0,
            "{rate}: {features:?}"
        );
        assert!((features.loudness_dbfs + 3.01).abs() < 0.02, "{rate}: {features:?}");
        assert_eq!(features.tempo_bpm, None, "{rate}");
    }
}

#[test]
fn silence_and_a_single_sample_have_finite_features() {
    for mono in [vec![0.0; 44_100 * 4], vec![0.5]] {
        let features = analyse(&sound(44_100, mono), |_| ());
        assert_eq!(features.tempo_bpm, None);
        assert!(
            features.loudness_dbfs >= SILENCE_DBFS && features.centroid_hz.is_finite(),
            "{features:?}"
        );
    }
}
