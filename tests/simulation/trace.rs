//! A hash of everything that happened: two runs of a seed are the same if the hash is the same.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::interpose;

static HASH: AtomicU64 = AtomicU64::new(0xCBF2_9CE4_8422_2325);
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// Prints every step from now on.
pub fn tell() {
    IS_TOLD.store(true, Relaxed);
}

fn mix(word: u64) {
    let hash = (HASH.load(Relaxed) ^ word).wrapping_mul(0x9FB2_1C65_1E98_DF25);
    HASH.store(hash ^ (hash >> 29), Relaxed);
}

/// Notes bytes that arrived.
pub fn note(place: u64, bytes: &[u8]) {
    mix(interpose::elapsed().as_millis() as u64);
    mix(place << 32 | bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
    rest.iter().for_each(|byte| mix(u64::from(*byte)));
}

/// Notes a step of the world.
pub fn step(words: &str) {
    note(u64::from(u32::MAX), words.as_bytes());
    if IS_TOLD.load(Relaxed) {
        println!("{:>12.3} s  {words}", interpose::elapsed().as_secs_f64());
    }
}

/// The hash so far.
pub fn hash() -> u64 {
    HASH.load(Relaxed)
}
