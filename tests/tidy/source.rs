//! The files of the repository, and Rust text without its comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file.
pub(super) struct Source {
    /// The path from the root of the repository, with slashes.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    pub(super) fn read(path: &str) -> Option<Self> {
        let text = fs::read_to_string(root().join(path)).ok()?;
        Some(Self { path: path.to_owned(), text })
    }

    pub(super) fn is_generated(&self) -> bool {
        self.path.ends_with("/generated.rs")
    }

    /// Whether the whole file consists of tests.
    pub(super) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.split('/').any(|part| part == "tests")
    }

    /// The lines with blanks in place of comments, strings and characters, so that only code is
    /// left. Line numbers begin at 1.
    pub(super) fn code(&self) -> Vec<(usize, String)> {
        blanked(&self.text)
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.to_owned()))
            .collect()
    }

    /// The same without the lines after `#[cfg(test)]`, which is always last in a file.
    pub(super) fn code_outside_tests(&self) -> Vec<(usize, String)> {
        if self.is_test() {
            return Vec::new();
        }
        self.code().into_iter().take_while(|(_, line)| line.trim_end() != "#[cfg(test)]").collect()
    }

    /// The same, only the lines that belong to tests.
    pub(super) fn code_of_tests(&self) -> Vec<(usize, String)> {
        let outside = self.code_outside_tests().len();
        self.code().into_iter().skip(outside).collect()
    }
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is a folder of the workspace")
        .to_owned()
}

/// Inputs that a program generated. Some of them happen to be text.
const FUZZED: [&str; 3] = ["tests/fuzz/corpus", "tests/fuzz/regressions", "tests/fuzz/artifacts"];

/// Every text file, sorted. Folders that builds and tools make are left out.
pub(super) fn files() -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("the folder is readable") {
            let entry = entry.expect("the entry is readable");
            let name = entry.file_name().into_string().expect("the project's file names are plain");
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type().expect("the entry has a type");
            if kind.is_dir() {
                let is_made = name == "target"
                    || name == "node_modules"
                    || (name.starts_with('.') && name != ".ci");
                let foreign = is_made || FUZZED.contains(&path.as_str());
                if !foreign {
                    folders.push(path);
                }
            } else if kind.is_file() && name != ".git" {
                files.extend(Source::read(&path));
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

/// Whether `line` contains `word` without a letter, digit or underscore around it.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back().is_none_or(|character| !is_part(character));
        let after =
            line[start + word.len()..].chars().next().is_none_or(|character| !is_part(character));
        before && after
    })
}

/// Replaces comments and the content of strings and characters by blanks. The lines stay where they
/// are.
pub(super) fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = token(rest, code.chars().next_back());
        let (piece, after) = rest.split_at(length.unwrap_or(first.len_utf8()));
        match length {
            Some(_) => code
                .extend(piece.chars().map(|character| if character == '\n' { '\n' } else { ' ' })),
            None => code.push_str(piece),
        }
        rest = after;
    }
    code
}

/// The length of the comment, string or character at the beginning of `text`.
fn token(text: &str, before: Option<char>) -> Option<usize> {
    let to = |pattern: &str| text.find(pattern).unwrap_or(text.len());
    if text.starts_with("//") {
        return Some(to("\n"));
    }
    if text.starts_with("/*") {
        return Some((to("*/") + 2).min(text.len()));
    }
    if text.starts_with('"') {
        return Some(string(text));
    }
    if text.starts_with('\'') {
        return character(text);
    }
    let in_a_word = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    if text.starts_with('r') && (!in_a_word || before == Some('b')) {
        let hashes = text[1..].bytes().take_while(|&byte| byte == b'#').count();
        if text[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
        }
    }
    None
}

/// The length of a string from quote to quote.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character from quote to quote. A lifetime has none.
fn character(text: &str) -> Option<usize> {
    let inside = &text[1..];
    let first = inside.chars().next()?;
    // The character after a backslash belongs to the literal, even a quote.
    let least = if first == '\\' { 2 } else { first.len_utf8() };
    let end = inside
        .char_indices()
        .skip_while(|&(at, _)| at < least)
        .find(|&(_, character)| character == '\'')?
        .0;
    let is_escape = first == '\\' && !inside[..end].contains('\n');
    (end == least || is_escape).then_some(end + 2)
}

#[test]
fn comments_and_strings_are_no_code() {
    let cases = [
        ("let a = 1; // unsafe", "let a = 1;"),
        (r#"let a = "uns\"afe"; b"#, "let a =           ; b"),
        ("let a = 'u'; let b: &'static str;", "let a =    ; let b: &'static str;"),
        (r"let a = '\''; b", "let a =     ; b"),
        (r"let a = '\\'; b", "let a =     ; b"),
        (r"let a = '\u{1f3b5}'; b", "let a =            ; b"),
        ("a /* unsafe */ b", "a              b"),
        ("let a = r#\"un\"safe\"#; b", "let a =             ; b"),
        ("let a = br\"unsafe\"; b", "let a = b         ; b"),
    ];
    for (text, code) in cases {
        assert_eq!(blanked(text).trim_end(), code, "{text}");
    }
}

#[test]
fn words_stand_alone() {
    assert!(has_word("a.lock()", "lock"));
    assert!(!has_word("a.block()", "lock"));
    assert!(!has_word("unsafe_code", "unsafe"));
}
