//! Spans of time in attributes: a whole number and a unit. They are checked here, at compile time,
//! so that the worker has nothing to parse when it runs.

use syn::LitStr;

/// The longest span, 100 years. A longer one is a mistake, and the broker refuses it too.
const SPAN_MS_MAX: u64 = 100 * 365 * 24 * 3_600 * 1_000;

/// The milliseconds of a literal such as `"10s"`.
pub(crate) fn milliseconds(literal: &LitStr) -> syn::Result<u64> {
    parse(&literal.value()).map_err(|message| syn::Error::new(literal.span(), message))
}

/// The milliseconds of a text, or why it is no span.
fn parse(text: &str) -> Result<u64, String> {
    // The digits at the beginning; the rest is the unit.
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    // A sign, a fraction or a space is part of the unit then, and is refused.
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => {
            return Err(format!(
                "`{text}` is no span of time: write a whole number and ms, s, m, h or d, \
                 as in \"10s\""
            ));
        }
    };
    if number.is_empty() {
        return Err(format!("`{text}` has no number before its unit: write it as in \"10s\""));
    }
    number
        .parse::<u64>()
        .ok()
        // A number that overflows is as wrong as one that is too long.
        .and_then(|number| number.checked_mul(unit_ms))
        .filter(|ms| *ms <= SPAN_MS_MAX)
        .ok_or_else(|| format!("`{text}` is longer than 100 years"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_span_is_a_whole_number_and_a_unit() {
        assert_eq!(parse("500ms"), Ok(500));
        assert_eq!(parse("10s"), Ok(10_000));
        assert_eq!(parse("5m"), Ok(300_000));
        assert_eq!(parse("1h"), Ok(3_600_000));
        assert_eq!(parse("1d"), Ok(86_400_000));
        assert_eq!(parse("0s"), Ok(0));
    }

    #[test]
    fn other_texts_are_refused_with_their_reason() {
        for text in ["", "10", "10 s", "1.5s", "-1s", "1w", "s10", "10S"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("s").expect_err("no number").contains("no number"));
        assert!(parse("36501d").expect_err("too long").contains("100 years"));
        assert!(parse("99999999999999999999d").expect_err("overflow").contains("100 years"));
    }
}
