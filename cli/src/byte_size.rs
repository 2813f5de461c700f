//! Sizes as people write them: `8MiB`, `64KiB`, `1000000`.

/// The units and their bytes. A number without a unit is bytes.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// Parses a whole number with a unit or without one. Large and small letters mean the same.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits_end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let bytes = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, factor)| digits.parse::<u64>().ok()?.checked_mul(factor));
    bytes.ok_or_else(|| format!("`{text}` is not a size such as 8MiB, 64KiB or 1000000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_unit() {
        assert_eq!(parse_bytes("8MiB"), Ok(8 << 20));
        assert_eq!(parse_bytes("64 KiB"), Ok(64 << 10));
        assert_eq!(parse_bytes("1gib"), Ok(1 << 30));
        assert_eq!(parse_bytes("5MB"), Ok(5_000_000));
        assert_eq!(parse_bytes("7B"), Ok(7));
        assert_eq!(parse_bytes("0"), Ok(0));
        assert_eq!(parse_bytes("1000000"), Ok(1_000_000));
    }

    #[test]
    fn a_text_that_is_no_size_is_refused_with_a_sentence() {
        for text in ["", "MiB", "8M", "-1", "1.5MiB", "8 apples", "99999999999TiB"] {
            let sentence = parse_bytes(text).expect_err(text);
            assert!(sentence.contains(&format!("`{text}`")), "{sentence}");
        }
    }
}
