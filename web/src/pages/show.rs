//! Texts, times and figures as the pages show them. A text of a task or a worker gets onto a page
//! only through this file: hidden characters become escapes, and maud escapes the rest.

use std::time::{Duration, SystemTime};

use celeriac_client::State;
use maud::{Markup, html};

use crate::printable::clean;
use crate::site::Site;
use crate::time::{ms, relative, rfc3339, rough, whole_ms};

/// A text of a stranger on one line.
pub(super) fn text(text: &str) -> String {
    clean(text)
}

/// A text of a stranger as one word of a command that a visitor copies into a shell. `None`: the
/// word would be no name for the command, or it has a character that nobody sees.
pub(super) fn word_of_shell(text: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    match text {
        "" => None,
        text if text.starts_with('-') || clean(text) != text => None,
        text if text.bytes().all(is_plain) => Some(text.to_owned()),
        text => Some(format!("'{}'", text.replace('\'', "'\\''"))),
    }
}

/// The present time, to show how long ago something was.
pub(super) fn now_ms() -> i64 {
    ms(SystemTime::now())
}

/// A time as its age, and exactly on hover. The script keeps the age up to date.
pub(super) fn time(at: SystemTime) -> Markup {
    let exact = rfc3339(ms(at));
    html! { time datetime=(exact) title=(exact) { (relative(ms(at), now_ms())) } }
}

/// A time by the clock in UTC, as a log has it.
pub(super) fn clock(at: SystemTime) -> String {
    let exact = rfc3339(ms(at));
    let seconds = exact.get(..19).unwrap_or(&exact);
    seconds.replace('T', " ") + " UTC"
}

/// A time that may not be there.
pub(super) fn time_or_dash(at: Option<SystemTime>) -> Markup {
    match at {
        Some(at) => time(at),
        None => html! { span.dim { "–" } },
    }
}

/// A span in its two largest units.
pub(super) fn span(span: Duration) -> String {
    rough(whole_ms(span))
}

/// A whole number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// So many of these, in words: `1 task`, `2,000 tasks`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Something per second.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate <= 0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => count(rate.round() as u64),
    }
}

/// Bytes in the unit that gives a short number.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = larger;
    }
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A state as a dot and its word.
pub(super) fn state(state: State) -> Markup {
    let name = state.to_string();
    html! { (dot(&name.to_lowercase(), &name)) }
}

/// A dot in the colour of this kind, and the word that says the same.
pub(super) fn dot(kind: &str, word: &str) -> Markup {
    html! { span class={ "state is-" (kind) } { span.dot aria-hidden="true" {} (word) } }
}

/// The id of a task, as a link to its page.
pub(super) fn task_link(site: &Site, id: &str) -> Markup {
    html! { a.id href=(site.link("/task", &[("id", id)])) { (text(id)) } }
}

/// The name of a queue, as a link to its page.
pub(super) fn queue_link(site: &Site, name: &str) -> Markup {
    html! { a href=(site.link("/queue", &[("name", name)])) { (text(name)) } }
}

/// The instance of a worker, as a link to its page.
pub(super) fn worker_link(site: &Site, instance: &str) -> Markup {
    html! { a.id href=(site.link("/worker", &[("instance", instance)])) { (text(instance)) } }
}

/// A table that scrolls by itself where the window is narrow.
pub(super) fn table(label: &str, head: Markup, body: Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" {
            table { thead { tr { (head) } } tbody { (body) } }
        }
    }
}

/// What stands where there is nothing: a sentence, and what to type next.
pub(super) fn empty(sentence: &str, command: Option<&str>) -> Markup {
    html! {
        div.empty {
            p { (sentence) }
            @if let Some(command) = command { p { code.copy { (command) } } }
        }
    }
}

/// A large figure with its word.
pub(super) fn tile(word: &str, figure: &str, more: Markup) -> Markup {
    html! { div.tile { dt { (word) } dd { strong { (figure) } " " span.dim { (more) } } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_easy_to_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!([0.0, 0.25, 9.96, 1_500.4].map(rate), ["0", "0.2", "10.0", "1,500"]);
        assert_eq!(
            [0, 1_023, 1_536, 50 << 20, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "50 MiB", "16384 PiB"]
        );
    }

    #[test]
    fn a_copied_command_has_the_name_as_one_word() {
        assert_eq!(word_of_shell("songs.play-7").as_deref(), Some("songs.play-7"));
        assert_eq!(word_of_shell("q$(touch x)").as_deref(), Some("'q$(touch x)'"));
        assert_eq!(word_of_shell("a'; rm b").as_deref(), Some("'a'\\''; rm b'"));
        assert_eq!(word_of_shell("`ü` *").as_deref(), Some("'`ü` *'"));
        for other in ["", "-x", "a\nb", "a\u{202e}b", "\u{1b}[2J"] {
            assert_eq!(word_of_shell(other), None, "{other:?}");
        }
    }

    #[test]
    fn texts_of_strangers_are_shown_and_not_obeyed() {
        let site = Site::default();
        let shown = task_link(&site, "<b>\"'&\u{202e}\u{1b}").into_string();
        assert!(shown.contains("&lt;b&gt;&quot;'&amp;\\u{202e}\\u{1b}"), "{shown}");
        assert!(shown.contains("?id=%3Cb%3E%22%27%26%E2%80%AE%1B"), "{shown}");
    }
}
