//! Reads the tempo from the onset strength of a song.
//!
//! Lives here: the autocorrelation and the choice among its peaks. Does not live here: where the
//! onset strength comes from (see `features`).

/// Slowest and fastest tempo looked for. Less than two octaves apart, so that few songs have two
/// readings.
const TEMPO_BPM: std::ops::RangeInclusive<f64> = 55.0..=190.0;

/// The tempo people tap when several would fit; readings far from it count less.
const PREFERRED_BPM: f64 = 120.0;

/// Below this correlation from beat to beat there is no beat, only chance.
const CORRELATION_MIN: f64 = 0.12;

/// A reading of twice the tempo wins if its correlation is at least this part of the slower one's.
const DOUBLE_PART: f64 = 0.85;

/// Tempo in beats per minute; none if there is no regular beat or less than four slow beats of
/// sound.
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
    // Beats of equal strength also repeat at every second beat: prefer the faster reading if it
    // fits as well.
    for lag in [best / 2, best.div_ceil(2)] {
        if lag >= lag_min && correlation.peak_near(lag) >= DOUBLE_PART * correlation.peak_near(best)
        {
            best = lag;
            break;
        }
    }
    if correlation.peak_near(best) < CORRELATION_MIN {
        return None;
    }
    Some(60.0 * frames_per_second / correlation.refine(best))
}

/// How much the onset strength resembles itself some frames later; 1 is the same.
struct Correlation {
    centred: Vec<f64>,
    power: f64,
}

impl Correlation {
    /// None if nothing ever sets in.
    fn new(onsets: &[f32], frames_per_second: f64) -> Option<Self> {
        let onsets = widened(onsets);
        // The local mean is taken off, so that a loud passage does not count as one long beat.
        let reach = (frames_per_second / 2.0) as usize;
        let mut sums = vec![0f64];
        sums.extend(onsets.iter().scan(0f64, |sum, onset| {
            *sum += *onset;
            Some(*sum)
        }));
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

    /// A true beat repeats after two and three beats as well, a chance peak does not. The
    /// neighbours of the multiples count too, because a beat rarely lasts a whole number of
    /// frames.
    fn comb(&self, lag: usize) -> f64 {
        self.at(lag) + 0.5 * self.peak_near(2 * lag) + 0.25 * self.peak_near(3 * lag)
    }

    fn peak_near(&self, lag: usize) -> f64 {
        (lag.saturating_sub(1)..=lag + 1).map(|near| self.at(near)).fold(f64::MIN, f64::max)
    }

    /// The lag as a fraction of frames: the peak is followed to four beats, where an error weighs a
    /// quarter, and there placed between the frames by a parabola.
    fn refine(&self, lag: usize) -> f64 {
        let mut beat = lag as f64;
        for beats in [1.0, 2.0, 4.0] {
            let around = (beat * beats).round() as usize;
            let reach = if beats == 1.0 { 1 } else { 2 };
            let peak = (around - reach..=around + reach)
                .max_by(|left, right| self.at(*left).total_cmp(&self.at(*right)))
                .expect("the range is not empty");
            let (before, top, after) = (self.at(peak - 1), self.at(peak), self.at(peak + 1));
            let bend = before - 2.0 * top + after;
            let shift =
                if bend < 0.0 { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) } else { 0.0 };
            beat = (peak as f64 + shift) / beats;
        }
        beat
    }
}

/// Spreads each onset over its neighbours: a beat that lasts 46.5 frames comes after 46 and 47 in
/// turn, and both have to count as the same.
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
    fn equal_clicks_are_read_at_their_own_tempo_over_the_whole_range() {
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
