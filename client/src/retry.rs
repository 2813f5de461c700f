//! When a failed task runs again: the policy that a producer sends with the task. The broker
//! computes the delays.

use std::time::Duration;

use celeriac_proto::wire;

use crate::info::span_ms;

/// When a failed task runs again. For a part that is not set the broker's default counts: 4 runs in
/// all, a first delay of 1 s that doubles after each failure, and a longest delay of 10 minutes, or
/// of the first delay where that is longer.
///
/// ```
/// use std::time::Duration;
///
/// use celeriac_client::{Jitter, RetryPolicy};
///
/// const GENTLE: RetryPolicy =
///     RetryPolicy::exponential(Duration::from_secs(2)).max_attempts(6).jitter(Jitter::Full);
/// const ONCE: RetryPolicy = RetryPolicy::never();
/// ```
///
/// The delays apply to failures of the handler. A task whose worker is lost goes back to the front
/// of its queue at once; an attempt that had begun counts as one run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RetryPolicy {
    max_attempts: Option<u32>,
    backoff: Backoff,
    delay: Option<Duration>,
    factor: Option<f64>,
    delay_max: Option<Duration>,
    jitter: Jitter,
}

/// How the delay grows with the number `n` of the failed attempt, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backoff {
    /// delay × factor^(n-1). The default factor is 2.
    #[default]
    Exponential,
    /// The delay is always the same.
    Fixed,
    /// delay × n^factor. The default factor is 2.
    Polynomial,
}

/// How the broker varies the delay at random, so that tasks that failed together do not all run
/// again at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// The computed delay.
    #[default]
    None,
    /// A random delay between 0 and the computed delay.
    Full,
    /// A random delay between half the computed delay and the computed delay.
    Equal,
}

impl RetryPolicy {
    /// A policy that sets nothing: the broker's defaults.
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

    /// The task runs once. A failure ends it.
    pub const fn never() -> Self {
        Self::new().max_attempts(1)
    }

    /// The delay is the same after each failure.
    pub const fn fixed(delay: Duration) -> Self {
        Self::new().backoff(Backoff::Fixed).delay(delay)
    }

    /// The delay doubles after each failure, or grows by [`RetryPolicy::factor`].
    pub const fn exponential(delay: Duration) -> Self {
        Self::new().backoff(Backoff::Exponential).delay(delay)
    }

    /// The delay grows with the square of the number of attempts, or with the power that
    /// [`RetryPolicy::factor`] sets.
    pub const fn polynomial(delay: Duration) -> Self {
        Self::new().backoff(Backoff::Polynomial).delay(delay)
    }

    /// The number of runs in all, the first included.
    pub const fn max_attempts(mut self, runs: u32) -> Self {
        self.max_attempts = Some(runs);
        self
    }

    /// How the delay grows.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The delay after the first failure.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The base of the exponential growth, or the exponent of the polynomial growth.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = Some(factor);
        self
    }

    /// The longest delay.
    pub const fn delay_max(mut self, delay: Duration) -> Self {
        self.delay_max = Some(delay);
        self
    }

    /// How the broker varies the delay at random.
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
