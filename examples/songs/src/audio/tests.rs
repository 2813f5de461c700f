//! Decodes files in a temporary folder: all formats and sample sizes, and files without audio.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::encoding;
use crate::synthesis::{self, CLIPS};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn decode(&self, name: &str, bytes: &[u8]) -> Result<Sound, AudioError> {
        decode(&self.file(name, bytes), |_| ())
    }
}

/// One second of a 440 Hz sine of the given amplitude.
fn sine(rate: u32, amplitude: f64) -> Vec<f64> {
    (0..rate)
        .map(|index| {
            amplitude * (std::f64::consts::TAU * 440.0 * f64::from(index) / f64::from(rate)).sin()
        })
        .collect()
}

fn wav_of(samples: &[f64], channels: u16, rate: u32) -> Vec<u8> {
    let samples: Vec<i16> = samples.iter().map(|sample| encoding::sixteen_bits(*sample)).collect();
    encoding::wav(channels, rate, &samples)
}

#[test]
fn flac_and_wav_of_the_same_samples_decode_to_the_same_sound() {
    let folder = Folder::new();
    let samples: Vec<i16> =
        CLIPS[4].render().iter().map(|sample| encoding::sixteen_bits(*sample)).collect();
    let wav = folder.decode("a.wav", &encoding::wav(1, 44_100, &samples)).unwrap();
    let flac = folder.decode("a.flac", &encoding::flac(1, 44_100, &samples).unwrap()).unwrap();
    assert_eq!(wav.mono.len(), samples.len());
    assert_eq!(wav.mono, flac.mono);
    assert_eq!(
        (wav.rate, wav.mean_square, wav.seconds),
        (flac.rate, flac.mean_square, flac.seconds)
    );
}

#[test]
fn sample_sizes_of_wav_agree() {
    let folder = Folder::new();
    let sine = sine(8_000, 0.5);
    let eight: Vec<u8> = sine.iter().map(|sample| (sample * 127.0 + 128.0).round() as u8).collect();
    let twenty_four: Vec<u8> = sine
        .iter()
        .flat_map(|sample| ((sample * 8_388_607.0) as i32).to_le_bytes()[..3].to_vec())
        .collect();
    let float: Vec<u8> = sine.iter().flat_map(|sample| (*sample as f32).to_le_bytes()).collect();
    let files = [
        wav_of(&sine, 1, 8_000),
        encoding::wav_container(1, 8, 1, 8_000, &eight),
        encoding::wav_container(1, 24, 1, 8_000, &twenty_four),
        encoding::wav_container(3, 32, 1, 8_000, &float),
    ];
    for (index, bytes) in files.iter().enumerate() {
        let sound = folder.decode("size.wav", bytes).unwrap();
        assert_eq!((sound.mono.len(), sound.rate), (8_000, 8_000), "file {index}");
        for (got, wanted) in sound.mono.iter().zip(&sine) {
            assert!(
                (f64::from(*got) - wanted).abs() < 0.01,
                "file {index}: {got} instead of {wanted}"
            );
        }
    }
}

#[test]
fn stereo_is_mixed_and_its_level_is_measured_before_the_mix() {
    let folder = Folder::new();
    let opposite: Vec<f64> =
        sine(8_000, 0.5).iter().flat_map(|sample| [*sample, -sample]).collect();
    let sound = folder.decode("stereo.wav", &wav_of(&opposite, 2, 8_000)).unwrap();
    assert_eq!((sound.mono.len(), sound.seconds), (8_000, 1.0));
    assert!(sound.mono.iter().all(|sample| sample.abs() < 0.001));
    assert!((sound.mean_square - 0.125).abs() < 0.001, "{}", sound.mean_square);
}

#[test]
fn mp3_is_decoded() {
    // MPEG-1 layer III, 128 kbit/s, 44.1 kHz, mono; a frame whose side information is all zero is
    // silence.
    let mut frame = vec![0u8; 417];
    frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0xc4]);
    let sound = Folder::new().decode("silence.mp3", &frame.repeat(100)).unwrap();
    assert_eq!(sound.rate, 44_100);
    assert!((sound.seconds - 2.6).abs() < 0.1, "{} seconds", sound.seconds);
    assert_eq!(sound.mean_square, 0.0);
}

#[test]
fn values_that_are_no_numbers_become_silence() {
    let bytes: Vec<u8> = [f32::NAN, f32::INFINITY, 0.5, f32::NEG_INFINITY]
        .repeat(2_000)
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let sound =
        Folder::new().decode("odd.wav", &encoding::wav_container(3, 32, 1, 8_000, &bytes)).unwrap();
    assert!(sound.mono.iter().all(|sample| sample.is_finite()) && sound.mean_square.is_finite());
}

#[test]
fn broken_files_are_errors_with_a_reason() {
    let folder = Folder::new();
    synthesis::write_songs(folder.0.path()).unwrap();
    let broken = decode(&folder.0.path().join(synthesis::BROKEN_FILE), |_| ()).unwrap_err();
    assert!(broken.to_string().contains("damaged"), "{broken}");
    let text = b"This is a letter and not a song. ".repeat(400);
    let cases: [(&str, &[u8], &str); 6] = [
        ("empty.wav", b"", "the file is empty"),
        ("text.mp3", &text, "is not a WAV, FLAC, OGG or MP3 file"),
        ("text.wav", &text, "is not a WAV, FLAC, OGG or MP3 file"),
        ("zeros.flac", &[0; 5_000], "is not a WAV, FLAC, OGG or MP3 file"),
        ("four.ogg", b"OggS", "ends too early"),
        ("no-samples.wav", &encoding::wav(1, 44_100, &[]), "holds no sound"),
    ];
    for (name, bytes, wanted) in cases {
        let error = folder.decode(name, bytes).unwrap_err();
        assert!(error.to_string().contains(wanted), "{name}: {error}");
    }
    let missing = decode(&folder.0.path().join("missing.wav"), |_| ()).unwrap_err();
    assert!(matches!(missing, AudioError::Unreadable(_)), "{missing}");
}

#[test]
fn a_file_with_a_cut_or_a_flipped_byte_never_causes_a_panic() {
    let folder = Folder::new();
    for clip in &CLIPS[..2] {
        let whole = clip.encode().unwrap();
        for cut in [1, 4, 11, 30, 43, 44, 45, 100, 5_000, whole.len() / 2, whole.len() - 1] {
            let _either = folder.decode(clip.file, &whole[..cut]);
        }
        for at in (0..60).chain([1_000, 9_999]) {
            let mut flipped = whole[..20_000].to_vec();
            flipped[at] ^= 0xff;
            let _either = folder.decode(clip.file, &flipped);
        }
    }
}

#[test]
fn a_file_that_ends_too_early_gives_the_part_before_its_end() {
    let whole = wav_of(&sine(8_000, 0.5).repeat(4), 1, 8_000);
    let sound = Folder::new().decode("cut.wav", &whole[..whole.len() / 2]).unwrap();
    assert!((1.5..=2.1).contains(&sound.seconds), "{} seconds", sound.seconds);
}

#[test]
fn progress_rises_to_one() {
    let folder = Folder::new();
    let path = folder.file("song.flac", &CLIPS[1].encode().unwrap());
    let mut seen = Vec::new();
    decode(&path, |done| seen.push(done)).unwrap();
    assert!(seen.len() > 3 && seen.is_sorted() && seen.last() == Some(&1.0), "{seen:?}");
}
