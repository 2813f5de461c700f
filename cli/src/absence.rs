//! The lines on stderr about a broker that is away while a command waits for something. The client
//! connects again by itself, however long it takes; without these lines a person would not know why
//! nothing happens.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use celeriac_client::Client;

use crate::output::print_to_stderr;
use crate::time::{now_ms, time_of_day};

/// The time between two looks at the connection.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A broker that restarts within this time is not worth a line.
const GRACE: Duration = Duration::from_secs(1);

/// Waits for an outcome, and says meanwhile when the broker is away and when it is back.
pub(crate) async fn while_watched<T>(
    client: &Client,
    address: &str,
    outcome: impl Future<Output = T>,
) -> T {
    tokio::select! {
        outcome = outcome => outcome,
        never = report(client, address) => match never {},
    }
}

async fn report(client: &Client, address: &str) -> Infallible {
    let mut absence = Absence::default();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let is_there = client.connection().is_connected();
        match absence.see(is_there, Instant::now(), now_ms()) {
            Some(News::Away { since_ms }) => print_to_stderr(&format!(
                "the broker at {address} does not answer since {}; trying again",
                time_of_day(since_ms).chars().take(8).collect::<String>()
            )),
            Some(News::Back) => {
                print_to_stderr(&format!("the broker at {address} answers again"));
            }
            None => {}
        }
    }
}

/// What a person has to know.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Away { since_ms: i64 },
    Back,
}

/// Since when the broker is away.
#[derive(Default)]
struct Absence {
    since: Option<(Instant, i64)>,
    is_told: bool,
}

impl Absence {
    /// Takes a look at the connection. There is news once for each absence and each return.
    fn see(&mut self, is_there: bool, now: Instant, now_ms: i64) -> Option<News> {
        if is_there {
            let was_told = std::mem::take(self).is_told;
            return was_told.then_some(News::Back);
        }
        let (since, since_ms) = *self.since.get_or_insert((now, now_ms));
        if self.is_told || now.duration_since(since) < GRACE {
            return None;
        }
        self.is_told = true;
        Some(News::Away { since_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_and_its_end_are_told_once_and_a_short_one_not_at_all() {
        let mut absence = Absence::default();
        let start = Instant::now();
        let mut see = |is_there, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            absence.see(is_there, now, 1_000 * seconds as i64)
        };
        assert_eq!(see(true, 0), None);
        assert_eq!(see(false, 1), None);
        assert_eq!(see(true, 2), None);
        assert_eq!(see(false, 3), None);
        assert_eq!(see(false, 4), Some(News::Away { since_ms: 3_000 }));
        assert_eq!(see(false, 50), None);
        assert_eq!(see(true, 51), Some(News::Back));
        assert_eq!(see(true, 52), None);
    }
}
