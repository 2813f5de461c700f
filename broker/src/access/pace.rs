//! How many lines of the audit log a client can cause that may not do what it asks for. Each entry
//! at each address has some lines a second, and the next line has the number of those without one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use celeriac_machine::command::Monotonic;

/// The lines of one entry at one address in one second, and the pairs of both that are counted one
/// by one. All other addresses of an entry share a count.
const LINES_PER_SECOND: u64 = 10;
const SENDERS_MAX: usize = 64;

/// The counts of all senders.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    of: BTreeMap<Sender, Count>,
    /// The second in which old counts were removed.
    cleaned: u64,
}

/// An entry at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Sender {
    /// `None`: somebody whom no entry names.
    entry: Option<Box<str>>,
    /// `None`: all addresses without a count of their own.
    address: Option<IpAddr>,
}

#[derive(Debug, Default)]
struct Count {
    second: u64,
    in_second: u64,
    /// Those without a line.
    unsaid: u64,
}

impl Pace {
    /// Counts something that should have a line. Returns how many before it have no line, or `None`
    /// when this one gets none either.
    pub(super) fn count(
        &self,
        entry: Option<&str>,
        address: IpAddr,
        now: Monotonic,
    ) -> Option<u64> {
        let mut counts = self.0.lock().expect("no thread panics while it holds the lock");
        let second = now / 1_000;
        let mut sender = Sender { entry: entry.map(Box::from), address: Some(address) };
        if !counts.of.contains_key(&sender) && counts.of.len() >= SENDERS_MAX {
            counts.clean(second);
            if counts.of.len() >= SENDERS_MAX {
                sender.address = None;
            }
        }
        let count = counts.of.entry(sender).or_default();
        if count.second != second {
            (count.second, count.in_second) = (second, 0);
        }
        count.in_second += 1;
        if count.in_second > LINES_PER_SECOND {
            count.unsaid += 1;
            return None;
        }
        Some(std::mem::take(&mut count.unsaid))
    }
}

impl Counts {
    /// Removes the counts of earlier seconds, once in a second. What they have not said goes to the
    /// shared count of their entry.
    fn clean(&mut self, second: u64) {
        if std::mem::replace(&mut self.cleaned, second) == second {
            return;
        }
        for (sender, count) in std::mem::take(&mut self.of) {
            if count.second == second {
                self.of.insert(sender, count);
            } else if count.unsaid > 0 {
                let shared = Sender { address: None, ..sender };
                self.of.entry(shared).or_default().unsaid += count.unsaid;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn o12_an_address_has_ten_lines_of_failed_logins_a_second_and_then_a_count() {
        let pace = Pace::default();
        for _ in 0..10 {
            assert_eq!(pace.count(None, address(1), 500), Some(0));
        }
        for _ in 0..25 {
            assert_eq!(pace.count(None, address(1), 999), None);
        }
        assert_eq!(pace.count(None, address(2), 999), Some(0));
        assert_eq!(pace.count(Some("web"), address(1), 999), Some(0));
        assert_eq!(pace.count(None, address(1), 1_000), Some(25));
        assert_eq!(pace.count(None, address(1), 1_001), Some(0));
    }

    #[test]
    fn o12_many_addresses_share_a_count_which_loses_nothing() {
        let pace = Pace::default();
        for _ in 0..12 {
            pace.count(Some("web"), address(0), 2_000);
        }
        let mut said = 0;
        for last in 0..=255 {
            said += u64::from(pace.count(None, address(last), 2_001).is_some());
        }
        assert_eq!(
            said,
            63 + LINES_PER_SECOND,
            "63 have their own count, and the others share one"
        );
        assert!(pace.0.lock().expect("free").of.len() <= SENDERS_MAX + 1);
        // A second later the counts of before make room, and what they had to say is kept.
        assert_eq!(pace.count(None, address(9), 3_000), Some(0));
        assert_eq!(pace.count(Some("web"), address(3), 3_000), Some(0));
        let counts = pace.0.lock().expect("free");
        let unsaid = |entry: Option<&str>| {
            let shared = Sender { entry: entry.map(Box::from), address: None };
            counts.of[&shared].unsaid
        };
        assert_eq!((unsaid(None), unsaid(Some("web"))), (256 - 63 - 10, 2));
    }
}
