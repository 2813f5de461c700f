//! The terminal while `top` has it, and back as it was: on q, on an error, and when something
//! panics.

use std::io::{self, IsTerminal, Write};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::Print;
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
    EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use tokio::sync::mpsc;

use super::frame::Frame;
use crate::exit::Failure;
use crate::output::Output;

/// Where the size is not known, which some terminals tell as 0.
const LINES_DEFAULT: u16 = 24;

/// A person to look at frames and to press keys.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// The whole terminal, until dropped.
pub(super) struct Screen {
    quit: mpsc::Receiver<()>,
    // Dropped last: keys are read raw to the end.
    _raw: Raw,
}

impl Screen {
    pub(super) fn enter() -> Result<Self, Failure> {
        let raw = Raw::enter()
            .map_err(|error| Failure::error(format!("cannot take over the terminal: {error}")))?;
        let (sender, quit) = mpsc::channel(1);
        // Reading keys blocks. The thread ends with the process, or with the first key that means
        // the end.
        std::thread::spawn(move || {
            while event::read().is_ok_and(|event| !is_end(&event)) {}
            let _ = sender.blocking_send(());
        });
        Ok(Self { quit, _raw: raw })
    }

    /// Resolves when a key said so, or when no key can be read any more.
    pub(super) async fn quit(&mut self) {
        self.quit.recv().await;
    }

    /// Shows a frame in place of the one before.
    pub(super) fn draw(
        &self,
        frame: &Frame<'_>,
        address: &str,
        notice: &str,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let (width, height) = terminal::size().unwrap_or_default();
        let height = if height == 0 { LINES_DEFAULT } else { height };
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate)?;
        // Lines of the frame before that this one does not have are cleared too.
        let lines = frame.lines(address, notice, Some(height.into()));
        for (line, text) in
            (0..height).zip(lines.into_iter().chain(std::iter::repeat(String::new())))
        {
            queue!(bytes, MoveTo(0, line), Clear(ClearType::CurrentLine), Print(cut(text, width)))?;
        }
        queue!(bytes, EndSynchronizedUpdate)?;
        Ok(output.bytes(&bytes)?)
    }
}

/// What does not fit into a line is left out here: a terminal that does not wrap shows its last
/// character at the margin. A width of 0 is not known.
fn cut(mut line: String, width: u16) -> String {
    if width > 0
        && let Some((end, _)) = line.char_indices().nth(width.into())
    {
        line.truncate(end);
    }
    line
}

/// Raw keys and the second screen.
struct Raw;

impl Raw {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        // From here on dropping it restores what was changed.
        let raw = Self;
        execute!(io::stdout(), EnterAlternateScreen, DisableLineWrap, Hide)?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nobody is left to be told when the terminal is gone.
        let _ = execute!(io::stdout(), Show, EnableLineWrap, LeaveAlternateScreen);
        let _ = io::stdout().flush();
        let _ = terminal::disable_raw_mode();
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
        return false;
    };
    match code {
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
        KeyCode::Char('c' | 'd') => modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_control_c_end_it_and_other_keys_do_not() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(is_end(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(is_end(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!is_end(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!is_end(&Event::Resize(80, 24)));
    }

    #[test]
    fn a_line_ends_where_the_screen_does() {
        let cases = [
            ("leased 40", 8, "leased 4"),
            ("leased 4", 8, "leased 4"),
            ("ééé", 2, "éé"),
            ("any", 0, "any"),
            ("", 3, ""),
        ];
        for (line, width, shown) in cases {
            assert_eq!(cut(line.to_owned(), width), shown);
        }
    }
}
