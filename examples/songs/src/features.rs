//! The features of a song: loudness, spectral centroid, zero crossings, and the onset strength over
//! time.
//!
//! `tempo` finds the tempo from the onset strength, and `cluster` compares songs by their features.

use realfft::RealFftPlanner;
use serde::{Deserialize, Serialize};

use crate::audio::Sound;
use crate::tempo::tempo_bpm;

/// Analysed frames per second of sound. A hundredth of a second is precise enough for a beat.
const FRAMES_PER_SECOND: u32 = 100;

/// The length of a window is about this long: a window must hold a few periods of a bass note.
const WINDOW_SECONDS: f64 = 0.04;

/// The number of frequency bands for the onsets, spaced evenly in pitch from 40 Hz up.
const BANDS: usize = 24;

/// The lowest loudness. A quieter sound counts as silence, which keeps the logarithm finite.
const SILENCE_DBFS: f64 = -100.0;

/// The features of one song. They are the result of the task `songs.preprocess` and an argument of
/// `songs.cluster`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Features {
    /// The length of the song in seconds.
    pub(crate) seconds: f64,
    /// Beats per minute; none if the song has no beat or is too short.
    pub(crate) tempo_bpm: Option<f64>,
    /// The root mean square level in decibel below full scale. A full-scale square wave has 0.
    pub(crate) loudness_dbfs: f64,
    /// The centre of mass of the spectrum in hertz. A low centroid sounds dark, a high one bright.
    pub(crate) centroid_hz: f64,
    /// Sign changes per second. Tones have few, noise has many.
    pub(crate) zero_crossings_per_second: f64,
}

/// Computes the features. `progress` is called from time to time with the part that is done, 0 to
/// 1.
pub(crate) fn analyse(sound: &Sound, progress: impl FnMut(f64)) -> Features {
    let spectrum = scan(sound, progress);
    let analysed_seconds = sound.mono.len() as f64 / f64::from(sound.rate);
    let crossings = sound.mono.windows(2).filter(|pair| (pair[0] < 0.0) != (pair[1] < 0.0)).count();
    Features {
        seconds: sound.seconds,
        tempo_bpm: tempo_bpm(&spectrum.onsets, spectrum.frames_per_second),
        loudness_dbfs: decibel(sound.mean_square),
        centroid_hz: spectrum.centroid_hz,
        zero_crossings_per_second: crossings as f64 / analysed_seconds,
    }
}

fn decibel(mean_square: f64) -> f64 {
    if mean_square > 0.0 { (10.0 * mean_square.log10()).max(SILENCE_DBFS) } else { SILENCE_DBFS }
}

/// The values that one pass over the short-time spectra computes.
struct Spectrum {
    centroid_hz: f64,
    onsets: Vec<f32>,
    frames_per_second: f64,
}

fn scan(sound: &Sound, mut progress: impl FnMut(f64)) -> Spectrum {
    let rate = f64::from(sound.rate);
    let hop = (sound.rate / FRAMES_PER_SECOND) as usize;
    let length = ((WINDOW_SECONDS * rate) as usize).next_power_of_two();
    let transform = RealFftPlanner::<f32>::new().plan_fft_forward(length);
    let window: Vec<f32> = (0..length)
        .map(|index| 0.5 - 0.5 * (std::f32::consts::TAU * index as f32 / length as f32).cos())
        .collect();
    let mut input = transform.make_input_vec();
    let mut bins = transform.make_output_vec();
    let mut scratch = transform.make_scratch_vec();
    let bin_hz = rate / length as f64;
    let band_of_bin: Vec<usize> =
        (0..bins.len()).map(|bin| band(bin as f64 * bin_hz, rate / 2.0)).collect();

    let frames = sound.mono.len().div_ceil(hop);
    let mut onsets = Vec::with_capacity(frames);
    let mut previous = [0f32; BANDS];
    let (mut weighted, mut total) = (0f64, 0f64);
    for frame in 0..frames {
        // The last windows reach past the end of the sound. Silence follows there.
        let rest = sound.mono[frame * hop..].iter().copied().chain(std::iter::repeat(0.0));
        for ((value, sample), weight) in input.iter_mut().zip(rest).zip(&window) {
            *value = sample * weight;
        }
        transform
            .process_with_scratch(&mut input, &mut bins, &mut scratch)
            .expect("the transform itself made the buffers");
        let mut energies = [0f32; BANDS];
        for (index, bin) in bins.iter().enumerate() {
            let magnitude = bin.norm();
            weighted += f64::from(magnitude) * index as f64 * bin_hz;
            total += f64::from(magnitude);
            energies[band_of_bin[index]] += magnitude;
        }
        let levels = energies.map(|energy| (1.0 + 10.0 * energy).ln());
        // The first frame has no frame before it, so it has no onset.
        let rise: f32 =
            levels.iter().zip(&previous).map(|(now, before)| (now - before).max(0.0)).sum();
        onsets.push(if frame == 0 { 0.0 } else { rise });
        previous = levels;
        if frame % 50 == 0 {
            progress(frame as f64 / frames as f64);
        }
    }
    progress(1.0);
    let centroid_hz = if total > 0.0 { weighted / total } else { 0.0 };
    Spectrum { centroid_hz, onsets, frames_per_second: rate / hop as f64 }
}

/// The band of a frequency. All frequencies below 40 Hz are in the first band.
fn band(hertz: f64, nyquist_hz: f64) -> usize {
    let lowest: f64 = 40.0;
    let position = (hertz.max(lowest) / lowest).log2() / (nyquist_hz / lowest).log2();
    ((position * BANDS as f64) as usize).min(BANDS - 1)
}

#[cfg(test)]
mod tests;
