//! What an action has done, on the page that the browser sees after it. The address holds a word of
//! the list below and a number. The page says it once, and only to the caller who has done it: the
//! same address says nothing after a reload, or to somebody to whom it was sent.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::look::Look;
use super::show::counted;
use crate::asked::Asked;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::site::with_pairs;

/// The most that waits for its page.
const UNSAID_MAX: usize = 1_000;

/// What callers have done, until their page has said it.
#[derive(Default)]
pub(crate) struct Unsaid(Mutex<VecDeque<(Caller, Done)>>);

impl Unsaid {
    fn note(&self, caller: &Caller, done: Done) {
        let mut all = self.0.lock().expect("no panic while it is locked");
        if all.len() == UNSAID_MAX {
            all.pop_front();
        }
        all.push_back((caller.clone(), done));
    }

    /// Whether the caller has done this, and no page has said it.
    pub(super) fn take(&self, caller: &Caller, done: Done) -> bool {
        let mut all = self.0.lock().expect("no panic while it is locked");
        let place = all.iter().position(|(who, what)| who == caller && *what == done);
        place.is_some_and(|place| all.remove(place).is_some())
    }
}

/// What was done, and to how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    what: &'static str,
    count: u64,
}

/// The words, and the sentences: without a number, or after the number of tasks.
const SENTENCES: [(&str, &str); 18] = [
    ("paused", "The queue is paused."),
    ("resumed", "The queue delivers again."),
    ("purged", " revoked. The queue is empty."),
    ("deleted", " revoked. The queue is deleted."),
    ("set", "The settings of the queue are saved."),
    ("cancelled", " cancelled, or asked to stop."),
    ("cancelled-some", " cancelled. There may be more: do it again."),
    ("forgotten", " forgotten."),
    ("forgotten-some", " forgotten. There may be more: do it again."),
    ("replayed", " replayed."),
    ("discarded", " discarded."),
    ("quiet", "The worker takes no more tasks."),
    ("active", "The worker takes tasks again."),
    ("shutdown", "The worker ends after the tasks that it runs."),
    ("draining", "The broker drains: it delivers no task."),
    ("delivering", "The broker delivers tasks again."),
    ("joined", "A task of this id goes on. Nothing was submitted."),
    ("new_generation", "The task runs again under this id. Its result of before is dropped."),
];

impl Done {
    /// `what` is one of the words above.
    pub(super) fn new(what: &str, count: u64) -> Option<Self> {
        let (what, _) = SENTENCES.iter().find(|(word, _)| *word == what)?;
        Some(Self { what, count })
    }

    pub(super) fn sentence(self) -> String {
        let sentence = SENTENCES.iter().find(|(word, _)| *word == self.what);
        let sentence = sentence.map_or("", |(_, sentence)| sentence);
        match sentence.starts_with(' ') {
            true => counted(self.count, "task was", "tasks were") + sentence,
            false => sentence.to_owned(),
        }
    }

    /// The path of the page that says what was done.
    pub(super) fn after(self, look: &Look, path: &str) -> String {
        look.shared.unsaid.note(&look.visitor.caller, self);
        self.behind(path)
    }

    /// This path, with what was done behind it.
    fn behind(self, path: &str) -> String {
        with_pairs(path, [("done", self.what), ("n", &self.count.to_string())])
    }
}

/// Takes what was done from a query.
pub(super) fn taken(asked: &mut Asked) -> Result<Option<Done>, Problem> {
    let (what, number) = (asked.take("done")?, asked.number("n", 0..=u64::MAX)?);
    let Some(what) = what else { return Ok(None) };
    let unknown = || Problem::invalid("`done` has no such word");
    Done::new(&what, number.unwrap_or_default()).ok_or_else(unknown).map(Some)
}

/// A path without what was done before.
pub(super) fn without_done(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut asked = Asked::of(query);
    asked.take_all("done");
    asked.take_all("n");
    with_pairs(path, asked.rest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_once_and_to_nobody_else() {
        let caller = |token: &str| Caller {
            token: token.into(),
            address: [10, 0, 0, 1].into(),
            certificate: None,
        };
        let (unsaid, done) = (Unsaid::default(), Done::new("purged", 3).expect("a word"));
        unsaid.note(&caller("a"), done);
        assert!(!unsaid.take(&caller("b"), done));
        assert!(!unsaid.take(&caller("a"), Done::new("purged", 99_999).expect("a word")));
        assert!(unsaid.take(&caller("a"), done));
        assert!(!unsaid.take(&caller("a"), done));
        for _ in 0..2 * UNSAID_MAX {
            unsaid.note(&caller("a"), done);
        }
        assert_eq!(unsaid.0.lock().expect("no panic").len(), UNSAID_MAX);
    }

    #[test]
    fn a_link_cannot_put_words_onto_a_page() {
        let mut asked = Asked::of("done=purged&n=1200&x=1");
        let done = taken(&mut asked).expect("known").expect("there");
        assert_eq!(done.sentence(), "1,200 tasks were revoked. The queue is empty.");
        assert_eq!(done.behind("/queue?name=a"), "/queue?name=a&done=purged&n=1200");
        assert_eq!(without_done("/queue?name=a&done=purged&n=1200"), "/queue?name=a");
        assert!(taken(&mut Asked::of("done=<b>Send+me+money</b>")).is_err());
        assert_eq!(taken(&mut Asked::of("x=1")), Ok(None));
    }
}
