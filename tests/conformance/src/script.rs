//! Scripts: what the broker sends in which order, and what the client must do. README.md describes
//! their form.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use prost_reflect::DynamicMessage;
use serde_json::Value as Json;

use crate::bodies::Bodies;

/// One script of the kit.
#[derive(Debug, Clone)]
pub struct Script {
    /// The name of its file.
    pub name: String,
    /// What it tests, in one sentence.
    pub about: String,
    pub(crate) token: Option<String>,
    pub(crate) steps: Vec<Step>,
}

/// What a client must be able to do for a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// It submits, waits and watches.
    Producer,
    /// It runs tasks.
    Worker,
}

/// One step, with the line where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) action: Action,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Tell(Json),
    Prints(Json),
    Expect {
        name: String,
        frame: DynamicMessage,
    },
    Answer {
        to: String,
        frame: DynamicMessage,
        extra: Vec<u8>,
    },
    Push {
        frame: DynamicMessage,
        extra: Vec<u8>,
    },
    /// From here on the client may send this frame, and it gets this answer.
    May {
        frame: DynamicMessage,
        answer: DynamicMessage,
    },
    Raw(Vec<u8>),
    Cut,
    Deaf,
    Away(Duration),
    Closes,
    Quiet(Duration),
    Exits,
}

impl Script {
    /// The role that it tests.
    pub fn role(&self) -> Role {
        if self.name.starts_with("worker") { Role::Worker } else { Role::Producer }
    }

    fn parse(name: &str, text: &str, bodies: &Bodies) -> Result<Self, String> {
        let mut script =
            Self { name: name.to_owned(), about: String::new(), token: None, steps: Vec::new() };
        for (line, text) in lines(text) {
            let (verb, rest) = text.split_once(':').unwrap_or((&text, ""));
            match verb {
                "about" => script.about = rest.trim().to_owned(),
                "token" => script.token = Some(rest.trim().to_owned()),
                _ => {
                    let action = action(verb, rest.trim(), bodies)
                        .map_err(|wrong| format!("{name}:{line}: {wrong}"))?;
                    script.steps.push(Step { line, text, action });
                }
            }
        }
        if script.about.is_empty() || script.steps.is_empty() {
            return Err(format!("{name}: a script needs the line `about` and steps"));
        }
        Ok(script)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The lines with their numbers. An indented line belongs to the line above.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_more = line.starts_with(' ');
        let line = line.trim();
        match lines.last_mut() {
            _ if line.is_empty() || line.starts_with('#') => {}
            Some((_, above)) if is_more => {
                above.push(' ');
                above.push_str(line);
            }
            _ => lines.push((number + 1, line.to_owned())),
        }
    }
    lines
}

fn action(verb: &str, rest: &str, bodies: &Bodies) -> Result<Action, String> {
    let json = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
    let words: Vec<&str> = verb.split_whitespace().collect();
    Ok(match words[..] {
        ["tell"] => Action::Tell(json(rest)?),
        ["prints"] => Action::Prints(json(rest)?),
        ["C", "closes"] => Action::Closes,
        ["C"] => Action::Expect { name: String::new(), frame: bodies.client(rest)? },
        ["C", name] => Action::Expect { name: name.to_owned(), frame: bodies.client(rest)? },
        ["may"] => {
            let (frame, answer) =
                rest.split_once("=>").ok_or("`may` has a frame, `=>` and an answer")?;
            Action::May { frame: bodies.client(frame)?, answer: bodies.server(answer)? }
        }
        ["B", "raw"] => Action::Raw(hex(rest)?),
        ["B", "cuts"] => Action::Cut,
        ["B", "deaf"] => Action::Deaf,
        ["B", "away", number, "ms"] => Action::Away(millis(number)?),
        ["B", "push"] => {
            let (frame, extra) = server(rest, bodies)?;
            Action::Push { frame, extra }
        }
        ["B"] => answer("", rest, bodies)?,
        ["B", name] => answer(name, rest, bodies)?,
        ["quiet", number, "ms"] => Action::Quiet(millis(number)?),
        ["exits"] => Action::Exits,
        _ => return Err(format!("there is no step `{verb}`")),
    })
}

fn answer(to: &str, rest: &str, bodies: &Bodies) -> Result<Action, String> {
    let (frame, extra) = server(rest, bodies)?;
    Ok(Action::Answer { to: to.to_owned(), frame, extra })
}

/// A frame of the broker, and the bytes after `++` that are appended to it: fields of a later
/// protocol.
fn server(text: &str, bodies: &Bodies) -> Result<(DynamicMessage, Vec<u8>), String> {
    let (text, extra) = text.split_once("++").unwrap_or((text, ""));
    Ok((bodies.server(text)?, hex(extra)?))
}

fn millis(number: &str) -> Result<Duration, String> {
    number.parse().map(Duration::from_millis).map_err(|_| format!("`{number}` is no number"))
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let byte = |text| {
        u8::from_str_radix(text, 16).map_err(|_| format!("`{text}` is no byte in hexadecimal"))
    };
    text.split_whitespace().map(byte).collect()
}

/// All scripts of the kit, in the order of their names.
///
/// # Errors
/// A sentence that names the script and the line that cannot be read.
pub fn scripts() -> Result<Vec<Script>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let bodies = Bodies::new()?;
    let entries =
        std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let is_script = |path: &&std::path::PathBuf| {
        path.extension().is_some_and(|extension| extension == "script")
    };
    paths
        .iter()
        .filter(is_script)
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            Script::parse(&name, &text, &bodies)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Script, String> {
        Script::parse("name", text, &Bodies::new()?)
    }

    #[test]
    fn what_is_indented_belongs_to_the_line_above() {
        let script = parse(
            "about: It is short.\n# no step\nC: get {\n  ids: \"a\"\n}\n  # nor this\nB cuts\n",
        );
        // The closing brace is not indented.
        assert!(script.is_err());
        let script = parse("about: It is short.\nC: get {\n  ids: \"a\" }\nB cuts\n")
            .expect("it can be read");
        assert_eq!(script.steps.iter().map(|step| step.line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for wrong in [
            "C: nothing {}",
            "B away soon ms",
            "B raw: xyz",
            "tell: {",
            "sleeps",
            "B: done {} ++ q",
        ] {
            let error = parse(&format!("about: It is wrong.\n{wrong}\n")).expect_err(wrong);
            assert!(error.starts_with("name:2: "), "{error}");
        }
        assert!(parse("about: It has no steps.\n").is_err());
    }

    #[test]
    fn all_scripts_of_the_kit_can_be_read_and_have_a_role() {
        let scripts = scripts().expect("they can be read");
        assert!(scripts.len() >= 30);
        for script in scripts {
            let is_named =
                ["producer-", "worker-"].iter().any(|role| script.name.starts_with(role));
            assert!(is_named && script.about.ends_with('.'), "{}", script.name);
        }
    }
}
