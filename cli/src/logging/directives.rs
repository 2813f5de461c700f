//! The filter of the log, as an operator writes it: a level, and levels for parts of the program.
//!
//! `EnvFilter` takes every word that is no level for the name of a part, and is then silent. So
//! this file refuses words that are neither.

use tracing_subscriber::EnvFilter;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The parts of the program that log: ours, and the libraries below them.
const TARGETS: [&str; 8] = [
    "celeriac",
    "celeriac_broker",
    "celeriac_store",
    "celeriac_worker",
    "celeriac_client",
    "sled",
    "tokio",
    "mio",
];

/// Parses a filter such as `info` or `warn,celeriac_broker=debug`. A level without a target is for
/// Celeriac; libraries log what is wrong, and everything at `trace`.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, String> {
    let directives: Result<Vec<_>, _> = filter.split(',').map(directive).collect();
    let directives = [quiet(filter).to_owned(), directives?.join(",")].join(",");
    EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
}

/// What a level leaves out that others can cause without a bound. The library of HTTP/2 warns of
/// what any peer sends, and nothing says of which one. Directives after these count more.
fn quiet(filter: &str) -> &'static str {
    let has = |level: &str| filter.split(',').any(|it| it.trim().eq_ignore_ascii_case(level));
    if has("info") || has("warn") { "h2=error" } else { "" }
}

/// One directive, as `EnvFilter` needs it.
fn directive(text: &str) -> Result<String, String> {
    let text = text.trim();
    let Some((target, level)) = text.rsplit_once('=') else {
        let level = parse_level(text)?;
        let is_for_all = !matches!(level, "info" | "debug");
        return Ok(if is_for_all { level.to_owned() } else { format!("warn,celeriac={level}") });
    };
    let level = parse_level(level)?;
    let first = target.split("::").next().unwrap_or_default();
    if !TARGETS.contains(&first) {
        return Err(format!("`{target}` is no part of the program: use {}", list(&TARGETS)));
    }
    Ok(format!("{target}={level}"))
}

fn parse_level(text: &str) -> Result<&'static str, String> {
    let found = LEVELS.into_iter().find(|level| level.eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("`{text}` is no level: use {}", list(&LEVELS)))
}

/// `a, b or c`.
fn list(words: &[&str]) -> String {
    match words {
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_levels_of_known_parts_are_a_filter() {
        for filter in [
            "info",
            "WARN",
            "off",
            "debug, sled=trace",
            "info,celeriac_broker=debug",
            "sled::tree=off",
        ] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_level_without_a_target_is_for_celeriac() {
        assert_eq!(directive("debug"), Ok("warn,celeriac=debug".to_owned()));
        assert_eq!(directive("error"), Ok("error".to_owned()));
        assert_eq!(directive("trace"), Ok("trace".to_owned()));
    }

    #[test]
    fn what_a_peer_of_http_2_does_is_no_warning() {
        for (filter, h2) in
            [("info", true), ("WARN,sled=off", true), ("debug", false), ("off", false)]
        {
            assert_eq!(quiet(filter) == "h2=error", h2, "{filter}");
            assert_eq!(parse(filter).expect("it is right").to_string().contains("h2=error"), h2);
        }
    }

    #[test]
    fn a_misspelled_level_or_part_is_refused_with_the_list() {
        for (filter, sentence) in [
            ("wran", "`wran` is no level: use off, error, warn, info, debug or trace"),
            ("0", "`0` is no level"),
            ("", "`` is no level"),
            ("info,", "`` is no level"),
            ("info,celeriac_broker=loud", "`loud` is no level"),
            ("celeriac_brokr=debug", "`celeriac_brokr` is no part of the program: use celeriac, "),
            ("celeriac", "`celeriac` is no level"),
            ("a=b=c", "`c` is no level"),
        ] {
            let error = parse(filter).map(drop).expect_err(filter);
            assert!(error.contains(sentence), "{filter}: {error}");
        }
    }
}
