//! The fenced blocks of the documents of the project. Whether and how they run is not here.

use std::fs;
use std::path::{Path, PathBuf};

/// Blocks in these languages are commands that a reader pastes into a terminal.
const COMMANDS: [&str; 2] = ["sh", "console"];
/// Blocks in these languages are no commands. Other tests read most of them.
const OTHERS: [&str; 8] =
    ["nginx", "python", "rust", "rust,ignore", "rust,no_run", "text", "toml", "transcript"];

/// A fenced block of a document.
#[derive(Debug)]
pub(super) struct Block {
    /// The path within the project.
    pub(super) document: String,
    pub(super) line: usize,
    pub(super) language: String,
    pub(super) text: String,
}

impl Block {
    pub(super) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Where the block stands, for the sentence of a failure.
    pub(super) fn place(&self) -> String {
        format!("{}:{}: {}", self.document, self.line, self.first_line())
    }
}

/// The root of the project.
pub(super) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project is there")
}

/// The blocks of commands of all documents, in the order in which they stand there.
///
/// # Panics
/// A block names no language, or one of which this file does not know whether it has commands.
pub(super) fn blocks_of_commands() -> Vec<Block> {
    let mut documents = Vec::new();
    collect(&project(), &mut documents);
    documents.sort();
    let blocks: Vec<Block> = documents.iter().flat_map(|path| blocks_of(path)).collect();
    let (commands, others): (Vec<_>, Vec<_>) =
        blocks.into_iter().partition(|block| COMMANDS.contains(&block.language.as_str()));
    for block in others {
        let language = &block.language;
        assert!(
            OTHERS.contains(&language.as_str()),
            "{}: the language {language:?} of this block is not one of {COMMANDS:?} or {OTHERS:?}",
            block.place()
        );
    }
    commands
}

fn collect(folder: &Path, documents: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            collect(&path, documents);
        } else if name.ends_with(".md") {
            documents.push(path);
        }
    }
}

fn blocks_of(path: &Path) -> Vec<Block> {
    let document = path.strip_prefix(project()).expect("it is in the project");
    let document = document.display().to_string();
    let text = fs::read_to_string(path).expect("a document is text");
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                let document = document.clone();
                let language = language.to_owned();
                open = Some(Block { document, line: index + 1, language, text: String::new() });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{document}: a block has no end");
    blocks
}
