//! What the user of `top` looks at: the filter, the table that the keys scroll, and how far it was
//! scrolled. The keys change it. This file knows neither the terminal nor the broker.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::line::{Line, Text, Tone};

/// The longest filter, in characters.
const FILTER_CHARACTERS_MAX: usize = 200;

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pane {
    #[default]
    Queues,
    Workers,
}

/// What a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressed {
    /// It ends the command.
    Quit,
    /// The screen may have to be drawn anew.
    Changed,
    Nothing,
}

/// The filter and the place in both tables.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Rows are shown whose names have this text.
    filter: String,
    is_editing: bool,
    pane: Pane,
    queues: Place,
    workers: Place,
}

/// The part of a table that is shown.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The rows above the first one that is shown.
    above: usize,
    /// The rows that the last frame showed.
    shown: usize,
}

impl View {
    /// Whether the filter lets a row with one of these names through. Capitals do not matter.
    pub(super) fn shows<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        if !self.is_filtered() {
            return true;
        }
        let filter = self.filter.to_lowercase();
        names.any(|name| name.to_lowercase().contains(&filter))
    }

    fn is_filtered(&self) -> bool {
        !self.filter.is_empty()
    }

    /// The first row to show of a table with this many rows, when there is room for `room`. Keeps
    /// the place within the table, which may have become shorter.
    pub(super) fn place(&mut self, pane: Pane, rows: usize, room: usize) -> usize {
        let place = self.place_in(pane);
        place.shown = room;
        place.above = place.above.min(rows.saturating_sub(room));
        place.above
    }

    fn place_in(&mut self, pane: Pane) -> &mut Place {
        match pane {
            Pane::Queues => &mut self.queues,
            Pane::Workers => &mut self.workers,
        }
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: &KeyEvent) -> Pressed {
        if key.kind != KeyEventKind::Press {
            return Pressed::Nothing;
        }
        match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Pressed::Quit;
            }
            KeyCode::Esc => self.set_filter(String::new(), false),
            KeyCode::Tab => {
                self.pane = match self.pane {
                    Pane::Queues => Pane::Workers,
                    Pane::Workers => Pane::Queues,
                };
            }
            KeyCode::Up => self.scroll(|place| place.above.saturating_sub(1)),
            KeyCode::Down => self.scroll(|place| place.above.saturating_add(1)),
            KeyCode::PageUp => self.scroll(|place| place.above.saturating_sub(place.shown)),
            KeyCode::PageDown => self.scroll(|place| place.above.saturating_add(place.shown)),
            KeyCode::Home => self.scroll(|_| 0),
            KeyCode::End => self.scroll(|_| usize::MAX),
            KeyCode::Enter => self.is_editing = false,
            KeyCode::Backspace if self.is_editing => {
                let mut filter = self.filter.clone();
                filter.pop();
                self.set_filter(filter, true);
            }
            KeyCode::Char(character) if self.is_editing => {
                let is_text = (key.modifiers - KeyModifiers::SHIFT).is_empty();
                if is_text && self.filter.chars().count() < FILTER_CHARACTERS_MAX {
                    self.set_filter(format!("{}{character}", self.filter), true);
                }
            }
            KeyCode::Char('q' | 'Q') => return Pressed::Quit,
            KeyCode::Char('/') => self.is_editing = true,
            _ => return Pressed::Nothing,
        }
        Pressed::Changed
    }

    fn set_filter(&mut self, filter: String, is_editing: bool) {
        (self.filter, self.is_editing) = (filter, is_editing);
        (self.queues.above, self.workers.above) = (0, 0);
    }

    fn scroll(&mut self, above: impl Fn(&Place) -> usize) {
        let place = self.place_in(self.pane);
        place.above = above(place);
    }

    /// The last line of the screen: the filter, and as many of the keys as the width has room for.
    pub(super) fn keys(&self, width: Option<usize>) -> Line {
        let mut line = Line::default();
        if self.is_editing {
            line.push(Text::new(&format!("/{}_", self.filter), Tone::Heading));
            line.push(Text::new("  Enter keep  Esc clear", Tone::Faint));
            return line;
        }
        if self.is_filtered() {
            line.push(Text::new(&format!("/{}", self.filter), Tone::Heading));
            line.push(Text::new("  Esc clear  ", Tone::Faint));
        }
        let pane = match self.pane {
            Pane::Queues => "queues",
            Pane::Workers => "workers",
        };
        let long =
            format!("q quit  / filter  ↑ ↓ PgUp PgDn Home End scroll {pane}  Tab other table");
        let short = format!("q quit  / filter  ↑ ↓ {pane}  Tab other");
        let room = width.map(|width| width.saturating_sub(line.width()));
        let keys = [long, short]
            .into_iter()
            .find(|keys| room.is_none_or(|room| Text::from(keys.as_str()).width() <= room));
        let keys = keys.unwrap_or_else(|| "q quit  / filter".to_owned());
        line.push(Text::new(&keys, Tone::Faint));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, codes: &[KeyCode]) -> Pressed {
        let key = |code: &KeyCode| KeyEvent::new(*code, KeyModifiers::NONE);
        codes.iter().map(|code| view.press(&key(code))).last().expect("a key")
    }

    fn keys(text: &str) -> Vec<KeyCode> {
        text.chars().map(KeyCode::Char).collect()
    }

    #[test]
    fn q_and_control_c_quit_and_other_keys_do_not() {
        let mut view = View::default();
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(&control_c), Pressed::Quit);
        assert_eq!(press(&mut view, &keys("q")), Pressed::Quit);
        assert_eq!(press(&mut view, &keys("c")), Pressed::Nothing);
        assert_eq!(press(&mut view, &[KeyCode::Esc]), Pressed::Changed);
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut view = View::default();
        // In a filter, q is a letter, and Ctrl-U is not.
        press(&mut view, &keys("/q"));
        view.press(&KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        view.press(&KeyEvent::new(KeyCode::Char('U'), KeyModifiers::SHIFT));
        let shows = |view: &View, names: [&str; 2]| view.shows(names.into_iter());
        assert!(shows(&view, ["a-Queue", ""]) && shows(&view, ["", "qu"]));
        assert!(!shows(&view, ["a", "q"]));
        assert_eq!(view.keys(None).render(false), "/qU_  Enter keep  Esc clear");
        press(&mut view, &[KeyCode::Backspace, KeyCode::Enter]);
        assert!(shows(&view, ["a", "q"]));
        assert!(view.keys(None).render(false).starts_with("/q  Esc clear  q quit  "));
        press(&mut view, &[KeyCode::Esc]);
        assert!(shows(&view, ["a", "b"]));
        press(&mut view, &keys(&format!("/{}", "x".repeat(1_000))));
        assert_eq!(view.filter.len(), FILTER_CHARACTERS_MAX);
        assert_eq!(press(&mut view, &[KeyCode::Enter, KeyCode::Char('q')]), Pressed::Quit);
    }

    #[test]
    fn the_line_of_the_keys_has_what_fits() {
        let mut view = View::default();
        for width in [40, 80, 120, 200] {
            let keys = view.keys(Some(width));
            assert!(keys.width() <= width, "{keys:?}");
            assert!(keys.render(false).contains("Tab other"), "{keys:?}");
        }
        press(&mut view, &keys("/songs"));
        press(&mut view, &[KeyCode::Enter]);
        let keys = view.keys(Some(40));
        assert_eq!(keys.render(false), "/songs  Esc clear  q quit  / filter");
    }

    #[test]
    fn the_keys_scroll_one_table_within_its_rows() {
        let mut view = View::default();
        let mut above = |codes: &[KeyCode]| {
            press(&mut view, codes);
            (view.place(Pane::Queues, 30, 10), view.place(Pane::Workers, 12, 10))
        };
        use KeyCode::{Down, End, Home, PageDown, PageUp, Tab, Up};
        assert_eq!(above(&[Down, Down]), (2, 0));
        assert_eq!(above(&[PageDown]), (12, 0));
        assert_eq!(above(&[End]), (20, 0));
        assert_eq!(above(&[Down, Down]), (20, 0));
        assert_eq!(above(&[Up]), (19, 0));
        assert_eq!(above(&[PageUp]), (9, 0));
        assert_eq!(above(&[Tab, PageDown]), (9, 2));
        assert_eq!(above(&[Tab, Home, Up]), (0, 2));
        // A table that became shorter is shown to its end.
        assert_eq!(view.place(Pane::Workers, 3, 10), 0);
    }
}
