//! The question before a command that cannot be undone. On a terminal a person answers it;
//! everywhere else the command needs `--yes`.
//!
//! A command checks whether it can ask before it connects to the broker. A script without `--yes`
//! therefore fails every time and changes nothing, whatever the broker would have answered.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::exit::{Exit, Failure};
use celeriac_web::printable::clean_lines;

/// The option of every command that asks.
#[derive(Args)]
pub(crate) struct ConfirmOptions {
    /// Skip the confirmation; required without a terminal
    #[arg(long)]
    yes: bool,
}

/// Consent to a command that cannot be undone: given, or to be asked for.
#[must_use = "the question is not asked yet"]
pub(crate) enum Consent {
    /// The user gave `--yes`.
    Given,
    /// A person at the terminal has to be asked.
    Ask,
}

impl ConfirmOptions {
    /// Fails if there is neither `--yes` nor a terminal. `action` is the subject of the sentence.
    pub(crate) fn consent(&self, action: &str) -> Result<Consent, Failure> {
        if self.yes {
            return Ok(Consent::Given);
        }
        // The question goes to stderr: stdout has only the result of the command.
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            return Ok(Consent::Ask);
        }
        Err(Failure::usage(format!(
            "{action} cannot be undone, and there is no terminal to ask for confirmation: add --yes"
        )))
    }
}

impl Consent {
    /// Whether a person will read the question, so that it is worth finding out what it says.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        matches!(self, Self::Ask)
    }

    /// Asks the person, unless consent is given. Any answer but yes is a failure.
    pub(crate) async fn ask(self, question: &str) -> Result<(), Failure> {
        match self {
            Self::Given => Ok(()),
            Self::Ask => {
                let question = question.to_owned();
                // The answer may take long, and the connection must send heartbeats meanwhile.
                let answer = tokio::task::spawn_blocking(move || read_answer(&question)).await;
                match answer {
                    Ok(Ok(text)) if is_yes(&text) => Ok(()),
                    Ok(Ok(_)) => {
                        Err(Failure::new(Exit::Error, "not confirmed, nothing was changed"))
                    }
                    Ok(Err(error)) => {
                        Err(Failure::error(format!("cannot ask for confirmation: {error}")))
                    }
                    Err(_) => Err(Failure::error("cannot ask for confirmation")),
                }
            }
        }
    }
}

fn read_answer(question: &str) -> io::Result<String> {
    let mut stderr = io::stderr();
    write!(stderr, "{} [y/N] ", clean_lines(question))?;
    stderr.flush()?;
    let mut text = String::new();
    io::stdin().read_line(&mut text)?;
    Ok(text)
}

fn is_yes(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y\n", "Y", " yes \n"].into_iter().all(is_yes));
        assert!(["", "\n", "n\n", "no", "yess", "ja"].into_iter().all(|text| !is_yes(text)));
    }
}
