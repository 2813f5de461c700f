//! `celeriac manual`: a manual page for each command, as `man celeriac-submit` shows it.
//!
//! The pages are the help texts of the command line in the form of `man`. clap's generator writes
//! all of a page but its end: there the help has examples and tables, whose lines must stay lines.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::exit::{Exit, Failure};

/// The arguments of `manual`.
#[derive(Args)]
pub(crate) struct ManualArguments {
    /// The folder for the pages; it is made when it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages of the command line `root`, whatever files of these names there were.
pub(crate) fn run(arguments: &ManualArguments, root: clap::Command) -> Result<Exit, Failure> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    // `celeriac help COMMAND` has no page of its own.
    let mut root = with_whole_help(root).disable_help_subcommand(true);
    root.build();
    write_pages(&root, folder)?;
    Ok(Exit::Success)
}

/// The command line with the help of every flag: the generator leaves out the text of a flag that
/// the short help does not list.
fn with_whole_help(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| argument.hide_short_help(false)).mut_subcommands(with_whole_help)
}

fn write_pages(command: &clap::Command, folder: &Path) -> Result<(), Failure> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(command, folder)?;
    }
    let man = Man::new(command.clone())
        .source(concat!("celeriac ", env!("CARGO_PKG_VERSION")))
        .manual("Celeriac");
    let file = folder.join(man.get_filename());
    let page = page(&man, command).map_err(|error| cannot_write(&file, &error))?;
    fs::write(&file, page).map_err(|error| cannot_write(&file, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::error(format!("cannot write the manual pages to {}: {error}", path.display()))
}

fn page(man: &Man, command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let end = command.get_after_long_help().or_else(|| command.get_after_help());
    if let Some(end) = end {
        notes(&end.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// The end of a help as a section. A line that begins with a space keeps its place; other lines
/// that follow each other are one paragraph.
fn notes(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]);
    let mut before = "";
    for line in text.lines() {
        let (is_kept, was_kept) = (line.starts_with(' '), before.starts_with(' '));
        match (is_kept, was_kept) {
            (true, false) => roff.control("nf", []),
            (false, true) => roff.control("fi", []),
            _ => &mut roff,
        };
        if line.is_empty() || was_kept && !is_kept {
            roff.control("PP", []);
        }
        if !line.is_empty() {
            roff.text([roman(line)]);
        }
        before = line;
    }
    if before.starts_with(' ') {
        roff.control("fi", []);
    }
    roff
}
