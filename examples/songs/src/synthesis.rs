//! The songs that the program makes when it gets no folder: twelve clips in three families, and one
//! broken file.
//!
//! This file has the list of clips and the sound of each family; `encoding` has the file formats.
//! All sound is computed from the list, so each run makes the same bytes.

use std::f64::consts::TAU;
use std::fs;
use std::io;
use std::path::Path;

use crate::encoding;

/// The length of each clip. Eight seconds have enough beats of the slowest clip to measure its
/// tempo.
pub(crate) const CLIP_SECONDS: f64 = 8.0;

/// The one made file that no decoder can read.
pub(crate) const BROKEN_FILE: &str = "broken.ogg";

/// The kind of music of a clip. A test checks that the clustering finds these families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Slow, soft, dark: one swelling chord per beat, made of sines.
    Pad,
    /// Middle tempo and level: kick, snare and a filtered saw chord.
    Rock,
    /// Fast, loud, bright: a kick on each beat, noisy hats and an open saw arpeggio.
    Electronic,
}

/// One song to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip {
    /// The name of the file. Its extension chooses the format, `wav` or `flac`.
    pub(crate) file: &'static str,
    /// The family, which decides the instruments.
    pub(crate) family: Family,
    /// Beats per minute.
    pub(crate) tempo_bpm: f64,
    /// The root mean square level. Full scale is 0 dB.
    pub(crate) level_dbfs: f64,
    /// The lowest note of the chords, in hertz.
    pub(crate) root_hz: f64,
    /// The sample rate in hertz.
    pub(crate) rate: u32,
    /// 1 or 2 channels. Both channels have the same sound.
    pub(crate) channels: u16,
}

const fn clip(
    file: &'static str,
    family: Family,
    tempo_bpm: f64,
    level_dbfs: f64,
    root_hz: f64,
    rate: u32,
    channels: u16,
) -> Clip {
    Clip { file, family, tempo_bpm, level_dbfs, root_hz, rate, channels }
}

/// All clips. The columns are file, family, tempo, level, root, sample rate and channels.
pub(crate) const CLIPS: [Clip; 12] = [
    clip("slow-tide.wav", Family::Pad, 60.0, -30.0, 110.0, 22_050, 1),
    clip("low-cloud.flac", Family::Pad, 66.0, -28.5, 98.0, 44_100, 1),
    clip("paper-lanterns.wav", Family::Pad, 72.0, -27.5, 123.5, 44_100, 2),
    clip("harbour-lights.flac", Family::Pad, 78.0, -26.0, 130.8, 22_050, 2),
    clip("second-gear.wav", Family::Rock, 100.0, -19.5, 82.4, 44_100, 2),
    clip("brick-and-wire.flac", Family::Rock, 108.0, -18.5, 87.3, 44_100, 2),
    clip("garage-door.wav", Family::Rock, 116.0, -18.0, 92.5, 22_050, 1),
    clip("long-road-home.flac", Family::Rock, 124.0, -17.0, 77.8, 44_100, 1),
    clip("neon-stairs.wav", Family::Electronic, 150.0, -13.0, 220.0, 44_100, 2),
    clip("static-bloom.flac", Family::Electronic, 158.0, -12.0, 246.9, 44_100, 2),
    clip("night-circuit.wav", Family::Electronic, 166.0, -11.5, 233.1, 44_100, 1),
    clip("glass-runner.flac", Family::Electronic, 174.0, -10.5, 261.6, 44_100, 1),
];

/// Writes all clips and the broken file into `folder`. Creates the folder if it is missing.
pub(crate) fn write_songs(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for clip in &CLIPS {
        fs::write(folder.join(clip.file), clip.encode()?)?;
    }
    fs::write(folder.join(BROKEN_FILE), broken_ogg())
}

/// A file that begins like OGG and has noise after its first four bytes.
fn broken_ogg() -> Vec<u8> {
    let mut noise = Noise(7);
    let mut bytes = b"OggS".to_vec();
    for _ in 0..4096 {
        bytes.push(noise.bits() as u8);
    }
    bytes
}

impl Clip {
    /// The bytes of the file.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let mono = self.render();
        let channels = usize::from(self.channels);
        let samples: Vec<i16> = mono
            .iter()
            .flat_map(|sample| std::iter::repeat_n(encoding::sixteen_bits(*sample), channels))
            .collect();
        if self.file.ends_with(".flac") {
            encoding::flac(self.channels, self.rate, &samples)
        } else {
            Ok(encoding::wav(self.channels, self.rate, &samples))
        }
    }

    /// One channel of sound at the level of the clip. Its samples are between -1 and 1, except rare
    /// peaks.
    pub(crate) fn render(&self) -> Vec<f64> {
        let samples = (CLIP_SECONDS * f64::from(self.rate)) as usize;
        let mut band = Band::new(self);
        let mut sound = Vec::with_capacity(samples);
        for index in 0..samples {
            sound.push(band.play(self, index as f64 / f64::from(self.rate)));
        }
        let mean_square = sound.iter().map(|sample| sample * sample).sum::<f64>() / samples as f64;
        let gain = 10f64.powf(self.level_dbfs / 20.0) / mean_square.sqrt();
        for sample in &mut sound {
            *sample *= gain;
        }
        sound
    }
}

/// The instruments, with the state that they keep from sample to sample.
struct Band {
    noise: Noise,
    previous_noise: f64,
    filtered: f64,
    filter: f64,
}

/// The roots of the four chords, in semitones above the lowest note. A chord lasts four beats.
const CHORD_ROOTS: [f64; 4] = [0.0, 5.0, 7.0, 3.0];

/// The notes of the arpeggio of the fast songs, in semitones. A beat has two of them.
const ARPEGGIO: [f64; 8] = [12.0, 19.0, 24.0, 19.0, 15.0, 19.0, 24.0, 27.0];

impl Band {
    fn new(clip: &Clip) -> Self {
        // Each song has its own seed, so that no two songs have the same noise.
        let seed = clip.tempo_bpm.to_bits() ^ clip.root_hz.to_bits();
        let filter = 1.0 - (-TAU * 1_200.0 / f64::from(clip.rate)).exp();
        Self { noise: Noise(seed), previous_noise: 0.0, filtered: 0.0, filter }
    }

    fn play(&mut self, clip: &Clip, seconds: f64) -> f64 {
        let beat_seconds = 60.0 / clip.tempo_bpm;
        let beat = (seconds / beat_seconds).floor();
        let since_beat = seconds - beat * beat_seconds;
        let chord = CHORD_ROOTS[(beat as usize / 4) % CHORD_ROOTS.len()];
        let root = semitones_above(clip.root_hz, chord);
        let noise = self.noise.sample();
        // The difference of two neighbouring samples keeps the high frequencies of white noise.
        let hiss = (noise - self.previous_noise) / 2.0;
        self.previous_noise = noise;
        match clip.family {
            Family::Pad => pad(root, seconds, since_beat),
            Family::Rock => self.rock(root, seconds, beat as usize, since_beat, noise),
            Family::Electronic => {
                electronic(clip.root_hz, seconds, beat as usize, since_beat, beat_seconds, hiss)
            }
        }
    }

    fn rock(&mut self, root: f64, seconds: f64, beat: usize, since_beat: f64, noise: f64) -> f64 {
        let chord = saw(root * 2.0, seconds) + saw(root * 3.0, seconds);
        self.filtered += self.filter * (chord - self.filtered);
        let drum = if beat.is_multiple_of(2) {
            kick(since_beat)
        } else {
            0.6 * noise * (-18.0 * since_beat).exp()
                + 0.3 * (TAU * 190.0 * seconds).sin() * (-25.0 * since_beat).exp()
        };
        (1.2 * drum + 0.35 * self.filtered * (0.25 + (-4.0 * since_beat).exp())).tanh()
    }
}

/// A chord that rises within a fiftieth of a second and fades until the next beat.
fn pad(root: f64, seconds: f64, since_beat: f64) -> f64 {
    let swell = (1.0 - (-since_beat / 0.02).exp()) * (-2.5 * since_beat).exp();
    let chord: f64 = [0.0, 3.0, 7.0, 12.0]
        .iter()
        .map(|interval| (TAU * semitones_above(root, *interval) * seconds).sin())
        .sum();
    chord * (0.05 + swell)
}

fn electronic(
    root: f64,
    seconds: f64,
    beat: usize,
    since_beat: f64,
    beat_seconds: f64,
    hiss: f64,
) -> f64 {
    let half = beat_seconds / 2.0;
    let second_half = since_beat >= half;
    let since_note = if second_half { since_beat - half } else { since_beat };
    let note = ARPEGGIO[(beat * 2 + usize::from(second_half)) % ARPEGGIO.len()];
    let lead = saw(semitones_above(root, note), seconds) * (0.3 + 0.7 * (-9.0 * since_note).exp());
    let hat = hiss * (-30.0 * since_note).exp() * if second_half { 2.2 } else { 1.6 };
    (1.6 * kick(since_beat) + 0.8 * lead + 1.5 * hat).tanh()
}

/// A sine that falls from 170 to 50 hertz. The phase is the integral of the frequency.
fn kick(since_beat: f64) -> f64 {
    let phase = 50.0 * since_beat + 120.0 / 30.0 * (1.0 - (-30.0 * since_beat).exp());
    (TAU * phase).sin() * (-11.0 * since_beat).exp()
}

fn saw(hertz: f64, seconds: f64) -> f64 {
    2.0 * (hertz * seconds).fract() - 1.0
}

fn semitones_above(hertz: f64, semitones: f64) -> f64 {
    hertz * (semitones / 12.0).exp2()
}

/// SplitMix64, a small random generator with a seed. It gives the same numbers on every machine.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between -1 and 1.
    fn sample(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_songs_are_the_same_bytes_each_time() {
        for clip in &CLIPS {
            assert_eq!(clip.encode().unwrap(), clip.encode().unwrap(), "{}", clip.file);
        }
        assert_eq!(broken_ogg(), broken_ogg());
    }

    #[test]
    fn made_songs_are_not_clipped() {
        for clip in &CLIPS {
            let peak = clip.render().iter().fold(0f64, |peak, sample| peak.max(sample.abs()));
            assert!(peak <= 1.0, "{} peaks at {peak}", clip.file);
        }
    }
}
