//! The delay of a failed task before its next attempt.

use celeriac_record::{Backoff, Jitter, RetryPolicy};

/// The delay after the failure of attempt `attempt`; attempts count from 1. The seed decides the
/// jitter.
pub(crate) fn delay_ms(policy: &RetryPolicy, attempt: u32, seed: u64) -> u64 {
    let attempt = attempt.max(1);
    let delay = policy.delay_ms as f64;
    let delay = match policy.backoff {
        Backoff::Fixed => delay,
        Backoff::Exponential => delay * policy.factor.powf(f64::from(attempt - 1)),
        Backoff::Polynomial => delay * f64::from(attempt).powf(policy.factor),
    };
    // NaN and infinity become the cap.
    let delay = if delay < policy.delay_max_ms as f64 {
        delay.max(0.0) as u64
    } else {
        policy.delay_max_ms
    };
    match policy.jitter {
        Jitter::None => delay,
        Jitter::Full => spread(delay, seed, attempt),
        Jitter::Equal => delay / 2 + spread(delay - delay / 2, seed, attempt),
    }
}

/// A number from 0 to `most`. The same seed and attempt give the same number.
fn spread(most: u64, seed: u64, attempt: u32) -> u64 {
    let random = split_mix(seed.wrapping_add(u64::from(attempt)));
    ((u128::from(random) * (u128::from(most) + 1)) >> 64) as u64
}

/// One step of the generator SplitMix64. Its outputs are well distributed.
pub(crate) fn split_mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff, factor: f64, jitter: Jitter) -> RetryPolicy {
        RetryPolicy {
            backoff,
            factor,
            jitter,
            delay_ms: 1_000,
            delay_max_ms: 60_000,
            attempts_max: 100,
        }
    }

    #[test]
    fn delays_grow_by_their_law_up_to_the_cap() {
        let delays = |backoff, factor| {
            let policy = policy(backoff, factor, Jitter::None);
            [1, 2, 3, 50].map(|attempt| delay_ms(&policy, attempt, 0))
        };
        assert_eq!(delays(Backoff::Fixed, 2.0), [1_000, 1_000, 1_000, 1_000]);
        assert_eq!(delays(Backoff::Exponential, 2.0), [1_000, 2_000, 4_000, 60_000]);
        assert_eq!(delays(Backoff::Polynomial, 3.0), [1_000, 8_000, 27_000, 60_000]);
        assert_eq!(delays(Backoff::Exponential, 1e300), [1_000, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_repeats_for_the_same_seed() {
        for seed in 0..1_000 {
            let full = delay_ms(&policy(Backoff::Fixed, 1.0, Jitter::Full), 1, seed);
            let equal = delay_ms(&policy(Backoff::Fixed, 1.0, Jitter::Equal), 1, seed);
            assert!(full <= 1_000 && (500..=1_000).contains(&equal));
            assert_eq!(full, delay_ms(&policy(Backoff::Fixed, 1.0, Jitter::Full), 1, seed));
        }
        let different =
            (0..100).map(|seed| delay_ms(&policy(Backoff::Fixed, 1.0, Jitter::Full), 1, seed));
        assert!(different.collect::<std::collections::BTreeSet<_>>().len() > 50);
    }
}
