//! When a failed task runs again: the policy a producer sends along. The delays are computed by the
//! broker, not here.

use std::time::Duration;

use celeriac_proto::wire;

use crate::info::span_ms;

/// When a failed task runs again. What is not set is left to the broker: 4 runs in all, 1 s,
/// doubling, up to 10 minutes or to the first delay where that is longer.
///
/// ```
/// use std::time::Duration;
/// use celeriac_client::{Jitter, RetryPolicy};
///
/// const GENTLE: RetryPolicy = RetryPolicy::exponential(Duration::from_secs(2)).max_attempts(6).jitter(Jitter::Full);
/// const ONCE: RetryPolicy = RetryPolicy::never();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RetryPolicy {
    max_attempts: Option<u32>,
    backoff: Backoff,
    delay: Option<Duration>,
    factor: Option<f64>,
    delay_max: Option<Duration>,
    jitter: Jitter,
}

/// How the delay grows with the number of the failed attempt, n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backoff {
    /// delay × factor^(n-1).
    #[default]
    Exponential,
    /// Always the delay.
    Fixed,
    /// delay × n^factor.
    Polynomial,
}

/// How the delay is spread, so that tasks that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// The delay as computed.
    #[default]
    None,
    /// Anywhere between 0 and the delay.
    Full,
    /// Between half the delay and the delay.
    Equal,
}

impl RetryPolicy {
    /// The broker's defaults.
    pub const fn new() -> Self {
        Self {
            max_attempts: None,
            backoff: Backoff::Exponential,
            delay: None,
            factor: None,
            delay_max: None,
            jitter: Jitter::None,
        }
    }

    /// One run and no other.
    pub const fn never() -> Self {
        Self::new().max_attempts(1)
    }

    /// The same delay each time.
    pub const fn fixed(delay: Duration) -> Self {
        Self::new().backoff(Backoff::Fixed).delay(delay)
    }

    /// A delay that doubles, unless [`RetryPolicy::factor`] says otherwise.
    pub const fn exponential(delay: Duration) -> Self {
        Self::new().backoff(Backoff::Exponential).delay(delay)
    }

    /// A delay that grows with the square of the attempts, unless [`RetryPolicy::factor`] says
    /// otherwise.
    pub const fn polynomial(delay: Duration) -> Self {
        Self::new().backoff(Backoff::Polynomial).delay(delay)
    }

    /// Runs in all, the first included.
    pub const fn max_attempts(mut self, runs: u32) -> Self {
        self.max_attempts = Some(runs);
        self
    }

    /// How the delay grows.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The first delay.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The base of the exponential, or the exponent of the polynomial growth.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = Some(factor);
        self
    }

    /// No delay is longer than this.
    pub const fn delay_max(mut self, delay: Duration) -> Self {
        self.delay_max = Some(delay);
        self
    }

    /// How the delay is spread.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    pub(crate) fn to_wire(self) -> wire::RetryPolicy {
        let backoff = match self.backoff {
            Backoff::Exponential => wire::Backoff::Exponential,
            Backoff::Fixed => wire::Backoff::Fixed,
            Backoff::Polynomial => wire::Backoff::Polynomial,
        };
        let jitter = match self.jitter {
            Jitter::None => wire::Jitter::None,
            Jitter::Full => wire::Jitter::Full,
            Jitter::Equal => wire::Jitter::Equal,
        };
        wire::RetryPolicy {
            max_attempts: self.max_attempts,
            backoff: backoff.into(),
            delay_ms: self.delay.map(span_ms),
            factor: self.factor,
            delay_max_ms: self.delay_max.map(span_ms),
            jitter: jitter.into(),
        }
    }
}
