//! The question before something that cannot be undone: asked on a terminal, and everywhere else
//! answered by `--yes`.
//!
//! Whether anybody can be asked is settled before the broker is: a script that forgot `--yes`
//! changes nothing and learns so every time, whatever the broker would have said.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::printable::clean_lines;

/// The flag of every command that asks.
#[derive(Args)]
pub(crate) struct Confirm {
    /// Do not ask; needed where nobody can be asked
    #[arg(long)]
    yes: bool,
}

/// Permission that was given, or that somebody is there to give.
#[must_use = "the question is still to be asked"]
pub(crate) enum Consent {
    /// `--yes`.
    Given,
    /// A person is at the terminal.
    Ask,
}

impl Confirm {
    /// Refuses at once when nobody can be asked.
    pub(crate) fn consent(&self, what: &str) -> Result<Consent, Failure> {
        if self.yes {
            return Ok(Consent::Given);
        }
        // The question goes to stderr: stdout has the answer of the command and nothing else.
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            return Ok(Consent::Ask);
        }
        Err(Failure::usage(format!(
            "{what} cannot be undone and nobody can be asked here: say --yes"
        )))
    }
}

impl Consent {
    /// Asks unless permission was given; anything but a yes ends the command.
    pub(crate) async fn ask(self, question: &str) -> Result<(), Failure> {
        match self {
            Self::Given => Ok(()),
            Self::Ask => {
                let question = question.to_owned();
                // A person may think for long, and the connection has to live meanwhile.
                let answer = tokio::task::spawn_blocking(move || read_answer(&question)).await;
                match answer {
                    Ok(Ok(text)) if is_yes(&text) => Ok(()),
                    Ok(Ok(_)) => Err(Failure::new(Exit::Error, "nothing was done")),
                    Ok(Err(error)) => Err(Failure::error(format!("cannot ask: {error}"))),
                    Err(_) => Err(Failure::error("cannot ask")),
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
