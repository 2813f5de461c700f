//! The memory of the process. The limits of the memory that single parts may take stand beside
//! these parts.

/// The bytes of the process that are in memory. Linux tells them in pages; elsewhere, or without
/// `/proc`, nobody does.
pub(crate) fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    resident_pages(&pages)?.checked_mul(rustix::param::page_size() as u64)
}

/// The second number of `statm`; the first is the size of the address space.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
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

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_used_is_counted() {
        const BYTES: usize = 64 * 1024 * 1024;
        let used = std::hint::black_box(vec![1_u8; BYTES]);
        let resident = resident_bytes().expect("Linux tells");
        assert!(resident >= used.len() as u64, "{resident}");
    }
}
