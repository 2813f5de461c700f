//! Lines of comments and of Markdown prose are at most 100 characters wide. rustfmt formats the
//! code. Tables, code blocks, links and string literals may be wider.

use super::source::files;
use super::{Findings, rust_files};

const LINE_CHARACTERS_MAX: usize = 100;

#[test]
fn comments_are_at_most_100_wide() {
    let mut findings = Findings::default();
    for file in rust_files() {
        let comments = file.text.lines().map(|line| {
            let is_comment = line.trim_start().starts_with("//");
            if is_comment { line } else { "" }
        });
        let prose = |line: &str| line.trim_start().trim_start_matches(['/', '!']).trim().to_owned();
        for (number, width) in too_wide(comments, prose) {
            findings.add(&file.path, number, advice(width));
        }
    }
    findings.none();
}

#[test]
fn markdown_prose_is_at_most_100_wide() {
    let mut findings = Findings::default();
    for file in files().iter().filter(|file| file.path.ends_with(".md")) {
        for (number, width) in too_wide(file.text.lines(), |line| line.trim().to_owned()) {
            findings.add(&file.path, number, advice(width));
        }
    }
    findings.none();
}

fn advice(width: usize) -> String {
    format!("{width} characters, {LINE_CHARACTERS_MAX} at most: wrap the line")
}

/// The number and the width of each line of prose that is too wide. `prose` removes the comment
/// marks of a line.
fn too_wide<'a>(
    lines: impl Iterator<Item = &'a str>,
    prose: impl Fn(&str) -> String,
) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut is_in_code = false;
    for (index, line) in lines.enumerate() {
        let text = prose(line);
        if text.starts_with("```") {
            is_in_code = !is_in_code;
            continue;
        }
        let width = line.chars().count();
        if width > LINE_CHARACTERS_MAX && !is_in_code && !may_be_wide(&text) {
            found.push((index + 1, width));
        }
    }
    found
}

/// Whether the line is a row of a table or a heading, or has no space outside its link where it
/// could be wrapped.
fn may_be_wide(text: &str) -> bool {
    let is_table = text.starts_with('|');
    let is_heading = text.starts_with('#');
    let is_reference = text.starts_with('[') && text.contains("]: ");
    let is_link = ["](", "://"].iter().any(|mark| text.contains(mark)) && {
        let longest = text.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
        text.chars().count() - longest < LINE_CHARACTERS_MAX && longest > LINE_CHARACTERS_MAX / 2
    };
    is_table || is_heading || is_reference || is_link
}

#[test]
fn prose_is_told_from_tables_code_and_links() {
    let words = "word ".repeat(30);
    let link = format!("[the page](https://example.org/{})", "x".repeat(100));
    let text = format!("{words}\n| {words} |\n```\n{words}\n```\nshort\n{link}\n[1]: {words}");
    let found = too_wide(text.lines(), |line| line.trim().to_owned());
    assert_eq!(found, [(1, 150)]);
}
