//! The state of writing one value: the depth in lists and maps, and the first refusal. The other
//! modules decide what is refused.

use std::cell::{Cell, RefCell};
use std::fmt::Display;

use serde::ser;

use super::{DEPTH_MAX, NotJson, PATH_BYTES_MAX, WRAPPERS_MAX};

/// The state that all serializers of one value share.
pub(super) struct Walk {
    /// The most bytes of JSON.
    bytes_max: usize,
    /// How many lists and maps are open.
    depth: Cell<usize>,
    /// How many `Some` and newtype structs are open.
    wrappers: Cell<usize>,
    /// Whether anything was refused. Apart from the refusal, because this is checked often.
    refused: Cell<bool>,
    refusal: RefCell<Refusal>,
    /// The depth of the last list or map that noted its step. Each notes one step at most, even
    /// when the value goes on after a refusal.
    noted: Cell<usize>,
}

#[derive(Default)]
struct Refusal {
    /// Why, in words.
    reason: String,
    /// The steps to the refused value, the innermost first.
    steps: Vec<String>,
}

impl Walk {
    /// The state for a value inside `levels` lists and maps.
    pub(super) fn new(levels: usize, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            depth: Cell::new(levels),
            wrappers: Cell::new(0),
            refused: Cell::new(false),
            refusal: RefCell::default(),
            noted: Cell::new(usize::MAX),
        }
    }

    /// The most bytes of JSON.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// How many lists and maps are open now, those around the value included.
    pub(super) fn depth(&self) -> usize {
        self.depth.get()
    }

    /// A list or map begins.
    pub(super) fn deeper<E: ser::Error>(&self) -> Result<(), E> {
        self.depth.set(self.depth.get() + 1);
        match self.depth.get() > DEPTH_MAX {
            true => self.refuse(format_args!(
                "lists and maps inside each other are at most {DEPTH_MAX} deep"
            )),
            false => Ok(()),
        }
    }

    /// A list or map ends.
    pub(super) fn back(&self) {
        self.depth.set(self.depth.get() - 1);
    }

    /// A `Some` or a newtype struct begins.
    pub(super) fn wrap<E: ser::Error>(&self) -> Result<(), E> {
        self.wrappers.set(self.wrappers.get() + 1);
        match self.wrappers.get() > WRAPPERS_MAX {
            true => self.refuse(format_args!(
                "values are wrapped in options and structs of one value at most {WRAPPERS_MAX} \
                 times, and this one may contain itself"
            )),
            false => Ok(()),
        }
    }

    /// A `Some` or a newtype struct ends.
    pub(super) fn unwrap(&self) {
        self.wrappers.set(self.wrappers.get() - 1);
    }

    /// Makes an error, and keeps it when it is the first: the value's `Serialize` may ignore it.
    #[cold]
    pub(super) fn refuse<T, E: ser::Error>(&self, reason: impl Display) -> Result<T, E> {
        self.remember(&reason);
        Err(E::custom(reason))
    }

    /// Fails after any refusal, so that a value with a refused part is not written to its end.
    pub(super) fn unless_refused<E: ser::Error>(&self) -> Result<(), E> {
        match self.refused.get() {
            true => Err(E::custom(&self.refusal.borrow().reason)),
            false => Ok(()),
        }
    }

    /// Whether anything was refused.
    pub(super) fn has_refused(&self) -> bool {
        self.refused.get()
    }

    /// Notes an error and its place: the step inside the list or map at this depth.
    #[inline]
    pub(super) fn at<T, E: Display>(
        &self,
        depth: usize,
        result: Result<T, E>,
        step: impl FnOnce() -> String,
    ) -> Result<T, E> {
        if let Err(error) = &result {
            self.note(depth, error, step);
        }
        result
    }

    #[cold]
    #[inline(never)]
    fn note(&self, depth: usize, error: &impl Display, step: impl FnOnce() -> String) {
        self.remember(error);
        if depth < self.noted.get() {
            self.noted.set(depth);
            let step = step();
            self.refusal.borrow_mut().steps.push(step);
        }
    }

    /// Keeps a reason, when it is the first.
    fn remember(&self, reason: &impl Display) {
        if !self.refused.replace(true) {
            let reason = reason.to_string();
            self.refusal.borrow_mut().reason = reason;
        }
    }

    /// The first refusal. Without one, `reason` is the reason, and the value itself the place.
    pub(super) fn into_refusal(self, reason: String) -> NotJson {
        let refused = self.refused.get();
        let refusal = self.refusal.into_inner();
        NotJson {
            path: path(&refusal.steps),
            reason: if refused { refusal.reason } else { reason },
        }
    }
}

/// The path for people, cut where it would be too long.
fn path(steps: &[String]) -> String {
    let mut path = "$".to_owned();
    for step in steps.iter().rev() {
        if path.len() + step.len() > PATH_BYTES_MAX {
            path.push('…');
            break;
        }
        path.push_str(step);
    }
    path
}
