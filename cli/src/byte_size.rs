//! Sizes as people write them, `8MiB`, `64KiB`, `1000000`, and as they read them, `1.5 GiB`.

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

/// A size for people, in its largest unit: `512 B`, `64 MiB`, `1.5 GiB`.
pub(crate) fn rough_bytes(bytes: u64) -> String {
    const LARGE: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, "B");
    for larger in LARGE {
        if whole < 1024 {
            break;
        }
        (whole, rest, unit) = (whole / 1024, whole % 1024, larger);
    }
    match rest * 10 / 1024 {
        0 => format!("{whole} {unit}"),
        tenths => format!("{whole}.{tenths} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (16 << 20, "16 MiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (38 << 30, "38 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(rough_bytes(bytes), shown);
        }
    }

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
