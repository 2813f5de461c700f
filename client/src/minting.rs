//! Generates ids for tasks whose caller chose none: UUIDs of version 7, in the order of time. To
//! ask the system for randomness costs more than the rest of a submit. So the client asks once per
//! millisecond, and counts up within it (RFC 9562, 6.2, method 2). An id is no secret and need not
//! be hard to guess: knowing it gives no access.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// The milliseconds since 1970 are the upper 48 bits.
const MILLIS_SHIFT: u32 = 80;
const VERSION_7: u128 = 0x7 << 76;
const VARIANT: u128 = 0b10 << 62;
/// The random bits: 12 after the version and 61 after the variant. The bit above the 61 stays 0, so
/// that counting up has room.
const RANDOM: u128 = (0xfff << 64) | ((1 << 61) - 1);

thread_local! {
    /// The latest id of this thread. Each thread begins with random bits of its own.
    static LATEST: Cell<u128> = const { Cell::new(0) };
}

/// A new id, different from all others.
pub(crate) fn new_id() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = next(LATEST.get(), since.as_millis() & 0xffff_ffff_ffff);
    LATEST.set(id);
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    Uuid::from_u128(id).hyphenated().encode_lower(&mut text).to_owned()
}

/// The id after `latest` within the same millisecond, or else one with new random bits.
fn next(latest: u128, now_ms: u128) -> u128 {
    if latest >> MILLIS_SHIFT == now_ms {
        return latest + 1;
    }
    now_ms << MILLIS_SHIFT | VERSION_7 | VARIANT | (Uuid::new_v4().as_u128() & RANDOM)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_of_version_7_and_in_the_order_of_time() {
        let mut latest = 0;
        for now_ms in [1, 1, 1, 2, 3, 3] {
            let id = next(latest, now_ms);
            assert!(id > latest, "{id:x} after {latest:x}");
            let uuid = Uuid::from_u128(id);
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
            assert_eq!(uuid.get_timestamp().map(|time| time.to_unix().0 * 1_000), Some(0));
            latest = id;
        }
    }

    #[test]
    fn ids_of_many_threads_are_all_different() {
        let mint = || (0..1_000).map(|_| new_id()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(mint)).collect();
        let ids: Vec<String> =
            threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
        let different: HashSet<&String> = ids.iter().collect();
        assert_eq!((ids.len(), different.len()), (8_000, 8_000));
        for id in &ids {
            assert_eq!(Uuid::parse_str(id).expect("an id").get_version_num(), 7);
        }
    }
}
