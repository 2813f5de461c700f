//! The process as the system sees it: its memory, its processor time and its file descriptors. The
//! limits of the memory that single parts may take stand beside these parts.
//!
//! Linux tells all of them below `/proc`. Elsewhere, or without `/proc`, nobody does.

use rustix::process::{Resource, getrlimit};

use crate::outgoing::Process;

const MICROS_PER_SECOND: u64 = 1_000_000;

/// What the system tells of the process.
pub(crate) fn figures() -> Process {
    Process {
        memory_bytes: resident_bytes(),
        cpu_us: cpu_us(),
        open_files: open_files(),
        open_files_max: getrlimit(Resource::Nofile).current,
    }
}

/// The bytes of the process that are in memory, which Linux tells in pages.
pub(crate) fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    resident_pages(&pages)?.checked_mul(rustix::param::page_size() as u64)
}

/// The second number of `statm`; the first is the size of the address space.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The processor time of all threads in microseconds, which Linux tells in ticks.
fn cpu_us() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    cpu_ticks(&stat)?.checked_mul(MICROS_PER_SECOND)?.checked_div(per_second)
}

/// The numbers 14 and 15 of `stat`: the time of the process itself, and that of the system for it.
/// The second entry is the name of the program in parentheses, which may have spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut numbers = behind_name.split_ascii_whitespace().skip(11);
    let own: u64 = numbers.next()?.parse().ok()?;
    own.checked_add(numbers.next()?.parse().ok()?)
}

/// The number of open file descriptors. Linux tells it as the size of the folder since version 6.2;
/// an older one has to be counted.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match std::fs::metadata(FOLDER).ok()?.len() {
        0 => Some(std::fs::read_dir(FOLDER).ok()?.count() as u64),
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_counts_and_anything_else_is_no_figure() {
        assert_eq!(resident_pages("5432 123 45 1 0 678 0\n"), Some(123));
        for other in ["", "5432", "5432 many 45", "-1 -2"] {
            assert_eq!(resident_pages(other), None, "{other}");
        }
    }

    #[test]
    fn the_processor_time_is_found_behind_any_name() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 110 22 9 9 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(132));
        for other in ["", "7 a S 1", "7 (a) S 1 2 3 4 5 6 7 8 9 10 110"] {
            assert_eq!(cpu_ticks(other), None, "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_used_is_counted() {
        const BYTES: usize = 64 * 1024 * 1024;
        let used = std::hint::black_box(vec![1_u8; BYTES]);
        let resident = resident_bytes().expect("Linux tells");
        assert!(resident >= used.len() as u64, "{resident}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn descriptors_that_are_open_are_counted() {
        let before = open_files().expect("Linux tells");
        let opened: Vec<_> = (0..500).map(|_| std::fs::File::open("/proc/self/stat")).collect();
        let after = open_files().expect("Linux tells");
        // Other tests of this process open and close files meanwhile.
        assert!(after >= before.saturating_sub(100) + 500, "{before} {after} {}", opened.len());
        assert!(figures().cpu_us.is_some());
    }
}
