//! The terminal while `top` uses it. Its former state comes back on q, on an error, and after a
//! panic.

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

/// The height of a terminal that does not tell its own. Some terminals report 0.
const LINES_DEFAULT: u16 = 24;

/// Whether a person can see the frames and press keys.
pub(super) fn has_terminal() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// The whole terminal, until this value is dropped.
pub(super) struct Screen {
    quit: mpsc::Receiver<()>,
    // This field is dropped last, so that keys are read in raw mode to the end.
    _raw: RawMode,
}

impl Screen {
    pub(super) fn enter() -> Result<Self, Failure> {
        let raw = RawMode::enter()
            .map_err(|error| Failure::error(format!("cannot take over the terminal: {error}")))?;
        let (sender, quit) = mpsc::channel(1);
        // Reading keys blocks. The thread ends with the process, or with the first key that quits.
        std::thread::spawn(move || {
            while event::read().is_ok_and(|event| !is_quit(&event)) {}
            let _ = sender.blocking_send(());
        });
        Ok(Self { quit, _raw: raw })
    }

    /// Waits until the user presses a key that quits, or until keys can no longer be read.
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
        // The frame before may have had more lines: empty lines clear them.
        let lines = frame.lines(address, notice, Some(height.into()));
        let all = lines.into_iter().chain(std::iter::repeat(String::new()));
        for (line, text) in (0..height).zip(all) {
            queue!(bytes, MoveTo(0, line), Clear(ClearType::CurrentLine), Print(cut(text, width)))?;
        }
        queue!(bytes, EndSynchronizedUpdate)?;
        Ok(output.bytes(&bytes)?)
    }
}

/// Cuts a line to the width of the screen. A terminal that does not wrap would show the last
/// character of a longer line at its margin. A width of 0 means that the width is not known.
fn cut(mut line: String, width: u16) -> String {
    if width > 0
        && let Some((end, _)) = line.char_indices().nth(width.into())
    {
        line.truncate(end);
    }
    line
}

/// Raw keys and the alternate screen, until this value is dropped.
struct RawMode;

impl RawMode {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        // If the next step fails, dropping this value restores the keys.
        let raw = Self;
        execute!(io::stdout(), EnterAlternateScreen, DisableLineWrap, Hide)?;
        Ok(raw)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // These fail when the terminal is closed; then there is nothing to restore.
        let _ = execute!(io::stdout(), Show, EnableLineWrap, LeaveAlternateScreen);
        let _ = io::stdout().flush();
        let _ = terminal::disable_raw_mode();
    }
}

fn is_quit(event: &Event) -> bool {
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
    fn q_and_control_c_quit_and_other_keys_do_not() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(is_quit(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(is_quit(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!is_quit(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!is_quit(&Event::Resize(80, 24)));
    }

    #[test]
    fn a_line_is_cut_at_the_width_of_the_screen() {
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
