//! What the open pages and streams of one caller look at. However many of them there are, the
//! broker is asked once a second; and it is not asked at all while nothing is open.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use celeriac_client::{BrokerInfo, QueueInfo, WorkerStatus};
use tokio::sync::Mutex;

use crate::problem::Problem;

/// The time between two looks of a stream.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// What was read within this time is read again from memory. It is shorter than [`LOOK`], so that
/// each stream finds something new each time.
const FRESH: Duration = Duration::from_millis(900);

/// The latest answers to one caller.
#[derive(Default)]
pub(crate) struct Looks {
    pub queues: Latest<Arc<[QueueInfo]>>,
    pub workers: Latest<Arc<[WorkerStatus]>>,
    pub broker: Latest<Arc<BrokerInfo>>,
    /// Single queues by name.
    pub queue: Shelf<Option<Arc<QueueInfo>>>,
    /// The caller was refused payloads and results. Its rights stay as they are while it is
    /// connected.
    pub has_no_bodies: AtomicBool,
    /// The parts of pages by address.
    pub pages: Shelf<Arc<[Part]>>,
}

/// A part of a page: the id of its element, and the HTML within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub id: &'static str,
    pub html: String,
    /// The same without the ages of times, which the script counts by itself.
    pub without_ages: String,
}

/// An answer that is asked for once a second at most.
pub(crate) struct Latest<T>(Mutex<Option<(Instant, Result<T, Problem>)>>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Latest<T> {
    /// The latest answer while it is fresh, or a new one. Who comes meanwhile waits for it.
    pub(crate) async fn at(
        &self,
        ask: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let mut latest = self.0.lock().await;
        if let Some((at, answer)) = &*latest
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        // The time before the question: what the answer tells is no older than that.
        let now = Instant::now();
        let answer = ask.await;
        *latest = Some((now, answer.clone()));
        answer
    }
}

/// Answers by name, as long as somebody holds them.
pub(crate) struct Shelf<T>(std::sync::Mutex<HashMap<String, Weak<Latest<T>>>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(std::sync::Mutex::default())
    }
}

impl<T> Shelf<T> {
    /// The place of this name. All who hold it share what it has.
    pub(crate) fn at(&self, name: &str) -> Arc<Latest<T>> {
        let mut all = self.0.lock().expect("no panic while it is locked");
        if let Some(look) = all.get(name).and_then(Weak::upgrade) {
            return look;
        }
        all.retain(|_, look| look.strong_count() > 0);
        let look = Arc::new(Latest::default());
        all.insert(name.to_owned(), Arc::downgrade(&look));
        look
    }
}

/// HTML without the text of its times. Texts of tasks are escaped, so every `<time` is ours.
pub(crate) fn without_ages(html: &str) -> String {
    let mut parts = html.split("<time ");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (tag, after) = part.split_once('>').unwrap_or((part, ""));
        let after = after.split_once("</time>").map_or(after, |(_, after)| after);
        rest.extend(["<time ", tag, ">", after]);
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_hundred_streams_ask_once() {
        let (look, asked) = (Latest::default(), AtomicU32::new(0));
        let ask = || async {
            tokio::task::yield_now().await;
            Ok(asked.fetch_add(1, Ordering::Relaxed))
        };
        let all = futures_util::future::join_all((0..100).map(|_| look.at(ask()))).await;
        assert_eq!(all, vec![Ok(0); 100]);
    }

    #[test]
    fn what_nobody_holds_is_not_kept() {
        let shelf = Shelf::<u32>::default();
        let held = shelf.at("a");
        assert!(Arc::ptr_eq(&held, &shelf.at("a")));
        drop(shelf.at("b"));
        shelf.at("c");
        assert_eq!(shelf.0.lock().expect("no panic").len(), 2);
    }

    #[test]
    fn ages_do_not_make_a_part_new() {
        let html = |age: &str| format!("a <time title=\"x\">{age}</time> b <time a>{age}</time>");
        assert_eq!(without_ages("<time title=\"x\">3s</time> b"), "<time title=\"x\"> b");
        assert_eq!(without_ages(&html("1s")), without_ages(&html("2s")));
        assert_eq!(without_ages("no time"), "no time");
    }
}
