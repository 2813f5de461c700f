//! Finds the tempo in the onset strength of a song: computes its autocorrelation, and chooses one
//! of the peaks.
//!
//! `features` computes the onset strength.

/// The slowest and the fastest tempo. They are less than two octaves apart, so that for few songs
/// two tempos fit.
const TEMPO_BPM: std::ops::RangeInclusive<f64> = 55.0..=190.0;

/// The tempo that people prefer if several fit. A tempo far from it counts less.
const PREFERRED_BPM: f64 = 120.0;

/// A smaller correlation from beat to beat is chance, and not a beat.
const CORRELATION_MIN: f64 = 0.12;

/// The double tempo is chosen if its correlation is at least this fraction of that of the slower
/// tempo.
const DOUBLE_FRACTION: f64 = 0.85;

/// The tempo in beats per minute; none if there is no regular beat, or less sound than four slow
/// beats.
pub(crate) fn tempo_bpm(onsets: &[f32], frames_per_second: f64) -> Option<f64> {
    let lag_of = |bpm: f64| 60.0 * frames_per_second / bpm;
    let lag_min = lag_of(*TEMPO_BPM.end()).ceil() as usize;
    let lag_max = lag_of(*TEMPO_BPM.start()).floor() as usize;
    if onsets.len() < 4 * lag_max {
        return None;
    }
    let correlation = Correlation::new(onsets, frames_per_second)?;
    let score = |lag: usize| {
        let octaves = (lag_of(PREFERRED_BPM) / lag as f64).log2();
        correlation.comb(lag) * (-0.5 * octaves * octaves).exp()
    };
    let mut best =
        (lag_min..=lag_max).max_by(|left, right| score(*left).total_cmp(&score(*right)))?;
    // Beats of equal strength also repeat at every second beat. The faster tempo is the right one
    // if it fits almost as well.
    for lag in [best / 2, best.div_ceil(2)] {
        let is_double = correlation.peak_near(lag) >= DOUBLE_FRACTION * correlation.peak_near(best);
        if lag >= lag_min && is_double {
            best = lag;
            break;
        }
    }
    if correlation.peak_near(best) < CORRELATION_MIN {
        return None;
    }
    Some(60.0 * frames_per_second / correlation.refine(best))
}

/// How similar the onset strength is to itself some frames later, from no similarity at 0 to
/// equality at 1.
struct Correlation {
    centred: Vec<f64>,
    power: f64,
}

impl Correlation {
    /// None if the sound has no onset.
    fn new(onsets: &[f32], frames_per_second: f64) -> Option<Self> {
        let onsets = widened(onsets);
        // The local mean is subtracted, so that a loud passage does not count as one long beat.
        let reach = (frames_per_second / 2.0) as usize;
        let mut sum = 0.0;
        let mut sums = vec![sum];
        for onset in &onsets {
            sum += onset;
            sums.push(sum);
        }
        let centred: Vec<f64> = (0..onsets.len())
            .map(|index| {
                let (from, to) =
                    (index.saturating_sub(reach), (index + reach + 1).min(onsets.len()));
                onsets[index] - (sums[to] - sums[from]) / (to - from) as f64
            })
            .collect();
        let power = centred.iter().map(|value| value * value).sum::<f64>() / centred.len() as f64;
        (power > 1e-9).then_some(Self { centred, power })
    }

    fn at(&self, lag: usize) -> f64 {
        if lag >= self.centred.len() {
            return 0.0;
        }
        let pairs = self.centred.len() - lag;
        let sum: f64 =
            self.centred.iter().zip(&self.centred[lag..]).map(|(now, later)| now * later).sum();
        sum / pairs as f64 / self.power
    }

    /// The sum of the correlations after one, two and three beats. A true beat repeats after each
    /// of them, and a chance peak does not. The neighbours of the multiples count too, because
    /// a beat rarely lasts a whole number of frames.
    fn comb(&self, lag: usize) -> f64 {
        self.at(lag) + 0.5 * self.peak_near(2 * lag) + 0.25 * self.peak_near(3 * lag)
    }

    fn peak_near(&self, lag: usize) -> f64 {
        (lag.saturating_sub(1)..=lag + 1).map(|near| self.at(near)).fold(f64::MIN, f64::max)
    }

    /// The lag of the peak with a fraction of a frame. The function follows the peak to four beats,
    /// where an error counts only a quarter. A parabola then places it between two frames.
    fn refine(&self, lag: usize) -> f64 {
        let mut beat = lag as f64;
        for beats in [1.0, 2.0, 4.0] {
            let around = (beat * beats).round() as usize;
            let reach = if beats == 1.0 { 1 } else { 2 };
            let peak = (around - reach..=around + reach)
                .max_by(|left, right| self.at(*left).total_cmp(&self.at(*right)))
                .expect("the range has at least three lags");
            let (before, top, after) = (self.at(peak - 1), self.at(peak), self.at(peak + 1));
            let bend = before - 2.0 * top + after;
            let shift =
                if bend < 0.0 { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) } else { 0.0 };
            beat = (peak as f64 + shift) / beats;
        }
        beat
    }
}

/// Spreads each onset over its neighbours. Beats that last 46.5 frames come after 46 and 47 frames
/// in turn, and both must count as the same beat.
fn widened(onsets: &[f32]) -> Vec<f64> {
    let weights = [1.0, 2.0, 3.0, 2.0, 1.0];
    let near = |index: usize, offset: usize| {
        (index + offset).checked_sub(2).and_then(|at| onsets.get(at)).copied()
    };
    (0..onsets.len())
        .map(|index| {
            (0..weights.len())
                .map(|offset| weights[offset] * f64::from(near(index, offset).unwrap_or(0.0)))
                .sum()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clicks(bpm: f64, seconds: f64, frames_per_second: f64) -> Vec<f32> {
        let mut onsets = vec![0f32; (seconds * frames_per_second) as usize];
        let beat = 60.0 * frames_per_second / bpm;
        let mut at = 0.0;
        while (at as usize) < onsets.len() {
            onsets[at as usize] = 1.0;
            at += beat;
        }
        onsets
    }

    #[test]
    fn equal_clicks_have_their_own_tempo_over_the_whole_range() {
        for bpm in (60..=186).step_by(3).map(f64::from) {
            let found = tempo_bpm(&clicks(bpm, 12.0, 100.0), 100.0).unwrap();
            assert!((found / bpm - 1.0).abs() < 0.02, "{bpm} was read as {found}");
        }
    }

    #[test]
    fn silence_and_short_sounds_have_no_tempo() {
        assert_eq!(tempo_bpm(&[0.0; 1000], 100.0), None);
        assert_eq!(tempo_bpm(&clicks(120.0, 1.0, 100.0), 100.0), None);
        assert_eq!(tempo_bpm(&[], 100.0), None);
    }

    #[test]
    fn one_single_onset_is_no_beat() {
        let mut onsets = vec![0f32; 1000];
        onsets[500] = 1.0;
        assert_eq!(tempo_bpm(&onsets, 100.0), None);
    }
}
