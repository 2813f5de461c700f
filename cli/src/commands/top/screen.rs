//! The terminal while `top` uses it. Its former state comes back on q, on an error, and after a
//! panic.

use std::io::{self, IsTerminal};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event};
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
    EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
};
use rustix::stdio::stdout;
use tokio::sync::mpsc;

use crate::descriptor::write_all;
use crate::exit::Failure;
use crate::line::Line;
use crate::output::{Output, Size, is_dumb};

/// The height of a terminal that does not tell its own.
const HEIGHT_DEFAULT: usize = 24;

/// The most events that wait. The thread that reads them then waits too.
const EVENTS_MAX: usize = 64;

/// Whether a person can see the frames and press keys, and the terminal can show one frame in place
/// of another.
pub(super) fn has_terminal() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal() && !is_dumb()
}

/// The whole terminal, until this value is dropped.
pub(super) struct Screen {
    events: mpsc::Receiver<Event>,
    // This field is dropped last, so that keys are read in raw mode to the end.
    _raw: RawMode,
}

impl Screen {
    pub(super) fn enter() -> Result<Self, Failure> {
        let raw = RawMode::enter()
            .map_err(|error| Failure::error(format!("cannot take over the terminal: {error}")))?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        // Reading keys blocks. The thread ends with the process, or when keys cannot be read.
        std::thread::spawn(move || {
            while let Ok(event) = event::read() {
                if sender.blocking_send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self { events, _raw: raw })
    }

    /// The next key, or the next change of the size. `None` when keys can no longer be read.
    pub(super) async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The size of the screen. Its height is always known.
    pub(super) fn size(&self, output: &Output) -> Size {
        let size = output.size();
        Size { height: Some(size.height.unwrap_or(HEIGHT_DEFAULT)), ..size }
    }

    /// Shows these lines in place of all that were there, and one line at the lower edge.
    pub(super) fn draw(
        &self,
        lines: Vec<Line>,
        lowest: Line,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let Size { width, height } = self.size(output);
        let height = height.unwrap_or(HEIGHT_DEFAULT);
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate)?;
        // There may have been more lines before: empty lines clear them.
        let all = lines.into_iter().chain(std::iter::repeat(Line::default()));
        let all = all.take(height.saturating_sub(1)).chain([lowest]);
        for (row, line) in (0..=u16::MAX).zip(all) {
            let text = output.rendered(&line.cut(width));
            queue!(bytes, MoveTo(0, row), Clear(ClearType::CurrentLine), Print(text))?;
        }
        queue!(bytes, EndSynchronizedUpdate)?;
        Ok(output.bytes(&bytes)?)
    }
}

/// Raw keys and the alternate screen, until this value is dropped.
struct RawMode;

impl RawMode {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        // If the next step fails, dropping this value restores the keys.
        let raw = Self;
        let mut bytes = Vec::new();
        queue!(bytes, EnterAlternateScreen, DisableLineWrap, Hide)?;
        write_all(stdout(), &bytes)?;
        Ok(raw)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // These fail when the terminal is closed; then there is nothing to restore.
        let mut bytes = Vec::new();
        let _ = queue!(bytes, Show, EnableLineWrap, LeaveAlternateScreen);
        let _ = write_all(stdout(), &bytes);
        let _ = terminal::disable_raw_mode();
    }
}
