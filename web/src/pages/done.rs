//! What an action has done, on the page that the browser sees after it. The address holds a word of
//! the list below and a number, so that a link of a stranger cannot put words onto a page.

use super::show::counted;
use crate::asked::Asked;
use crate::problem::Problem;
use crate::site::with_pairs;

/// What was done, and to how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
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

    /// This path, with what was done behind it.
    pub(super) fn after(self, path: &str) -> String {
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
    fn a_link_cannot_put_words_onto_a_page() {
        let mut asked = Asked::of("done=purged&n=1200&x=1");
        let done = taken(&mut asked).expect("known").expect("there");
        assert_eq!(done.sentence(), "1,200 tasks were revoked. The queue is empty.");
        assert_eq!(done.after("/queue?name=a"), "/queue?name=a&done=purged&n=1200");
        assert_eq!(without_done("/queue?name=a&done=purged&n=1200"), "/queue?name=a");
        assert!(taken(&mut Asked::of("done=<b>Send+me+money</b>")).is_err());
        assert_eq!(taken(&mut Asked::of("x=1")), Ok(None));
    }
}
