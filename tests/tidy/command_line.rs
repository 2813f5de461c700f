//! The modules of a binary form layers: no file uses a file that uses it, directly or over others.

use std::collections::{BTreeMap, BTreeSet};

use super::rust_files;
use super::source::Source;

/// The folders with the sources of a binary.
const BINARIES: [&str; 2] = ["cli/src/", "examples/songs/src/"];

/// For each module, the modules that its file uses. The crate's root has the empty name.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_module_of_a_binary_uses_one_that_uses_it() {
    for folder in BINARIES {
        let files: Vec<Source> =
            rust_files().into_iter().filter(|file| file.path.starts_with(folder)).collect();
        assert!(files.len() > 10, "{folder} has moved: change this test");
        let modules: BTreeSet<String> =
            files.iter().map(|file| module_of(&file.path[folder.len()..])).collect();
        let mut uses = Uses::new();
        for file in &files {
            let module = module_of(&file.path[folder.len()..]);
            let code: Vec<String> =
                file.code_outside_tests().into_iter().map(|(_, line)| line).collect();
            uses.insert(module.clone(), used_by(&module, &code.join("\n"), &modules));
        }
        let circle = circle(&uses);
        assert!(
            circle.is_empty(),
            "{folder}: these modules use each other in a circle: {circle:?}; move the code that they \
             share into a module that uses none of them"
        );
    }
}

/// `commands/serve.rs` is the module `commands::serve`.
fn module_of(path: &str) -> String {
    let name = path.trim_end_matches(".rs").replace('/', "::");
    if name == "main" { String::new() } else { name }
}

/// The modules that the code of `module` names: its children, and the longest module in each path
/// that begins with `crate` or `super`.
fn used_by(module: &str, code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for line in code.lines() {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
        if words.next() == Some("mod") {
            used.extend(words.next().map(|name| within(module, name.trim_end_matches(';'))));
        }
    }
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    for (start, base) in [("crate::", ""), ("super::", parent)] {
        for (at, _) in code.match_indices(start) {
            for path in expanded(path_at(&code[at + start.len()..])) {
                used.insert(longest_module(&within(base, &path), modules));
            }
        }
    }
    used.remove(module);
    used
}

fn within(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

/// The path that `text` begins with, its braces included.
fn path_at(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|character: char| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth <= 0 && !character.is_alphanumeric() && !['_', ':', '{', '}'].contains(&character)
    });
    &text[..end.unwrap_or(text.len())]
}

/// One path for each part in braces: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let mut depth = 0;
    let parts = inside.split(|character: char| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0 && character == ','
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(|part| expanded(&format!("{before}{part}"))).collect()
}

fn longest_module(path: &str, modules: &BTreeSet<String>) -> String {
    let mut module = path;
    while !modules.contains(module) {
        module = module.rsplit_once("::").map_or("", |(outer, _)| outer);
    }
    module.to_owned()
}

/// The modules of the circles. Takes away each module that uses no module that is left, or that no
/// module that is left uses, until every module that is left does both.
fn circle(uses: &Uses) -> BTreeSet<&str> {
    let mut left: BTreeSet<&str> = uses.keys().map(String::as_str).collect();
    loop {
        let in_circle = |module: &&str| {
            let is_user = uses[*module].iter().any(|used| left.contains(used.as_str()));
            is_user && left.iter().any(|other| uses[*other].contains(*module))
        };
        let next: BTreeSet<&str> = left.iter().copied().filter(in_circle).collect();
        if next == left {
            return left;
        }
        left = next;
    }
}

#[test]
fn a_circle_over_several_modules_is_found() {
    let names = ["", "a", "a::b", "c"].map(str::to_owned);
    let modules: BTreeSet<String> = names.clone().into();
    let code = ["mod a;\nmod c;", "mod b;\nuse crate::{\n    c::{D, E},\n};", "", ""];
    let mut uses: Uses = names
        .iter()
        .zip(code)
        .map(|(name, code)| (name.clone(), used_by(name, code, &modules)))
        .collect();
    assert_eq!(uses["a"], BTreeSet::from(["a::b".to_owned(), "c".to_owned()]));
    assert_eq!(circle(&uses), BTreeSet::new());
    uses.insert("a::b".to_owned(), used_by("a::b", "use super::X;", &modules));
    assert_eq!(circle(&uses), BTreeSet::from(["a", "a::b"]));
}
