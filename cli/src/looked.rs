//! How far the broker has looked for a listing: a line on the terminal, while a rare filter is
//! looked for among very many tasks. Nobody needs it when the tasks are printed, so it then goes.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use celeriac_client::TaskPage;

use crate::output::is_dumb;

/// The line. It is written only to a terminal that can take it away again.
pub(crate) struct Looked {
    is_wanted: bool,
    is_shown: Cell<bool>,
}

impl Looked {
    /// With `is_for_people` the line is written if stderr is a terminal.
    pub(crate) fn new(is_for_people: bool) -> Self {
        let is_wanted = is_for_people && io::stderr().is_terminal() && !is_dumb();
        Self { is_wanted, is_shown: Cell::new(false) }
    }

    /// Shows how far the listing is after a page that is not the last one.
    pub(crate) fn show(&self, page: &TaskPage) {
        if let Some(text) = text(page).filter(|_| self.is_wanted) {
            // When stderr is closed nobody looks at it.
            let _ = write!(io::stderr(), "\r{text} ");
            self.is_shown.set(true);
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if self.is_shown.replace(false) {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// A failure is printed on a line of its own.
impl Drop for Looked {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A broker that is older than the two numbers does not say how far it is.
fn text(page: &TaskPage) -> Option<String> {
    let percent = page.looked.saturating_mul(100).checked_div(page.total)?;
    Some(format!("the broker has looked at {percent} % of the tasks; Ctrl-C stops the listing"))
}

#[cfg(test)]
mod tests {
    use celeriac_proto::wire;

    use super::*;

    #[test]
    fn an_older_broker_does_not_say_how_far_it_is() {
        let page = |looked, total| wire::TaskPage { looked, total, ..Default::default() }.into();
        let expected = "the broker has looked at 20 % of the tasks; Ctrl-C stops the listing";
        assert_eq!(text(&page(2, 10)).as_deref(), Some(expected));
        assert_eq!(text(&page(0, 0)), None);
    }
}
