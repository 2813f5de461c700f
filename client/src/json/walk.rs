//! How far the writing of a value has come: how deep in lists and maps it is, and the first
//! refusal. What is refused, and where, is decided by those who write.

use std::cell::{Cell, RefCell};
use std::fmt::Display;

use serde::ser;

use super::{DEPTH_MAX, NotJson, PATH_BYTES_MAX, WRAPPERS_MAX};

/// The state that all parts of one value share.
pub(super) struct Walk {
    bytes_max: usize,
    depth: Cell<usize>,
    wrappers: Cell<usize>,
    refused: Cell<bool>,
    refusal: RefCell<Refusal>,
    /// The depth of the last list or map that told its step. One tells no more than one, even when
    /// the value goes on.
    told: Cell<usize>,
}

#[derive(Default)]
struct Refusal {
    reason: String,
    /// To the value, the innermost first.
    steps: Vec<String>,
}

impl Walk {
    pub(super) fn new(levels: usize, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            depth: Cell::new(levels),
            wrappers: Cell::new(0),
            refused: Cell::new(false),
            refusal: RefCell::default(),
            told: Cell::new(usize::MAX),
        }
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn depth(&self) -> usize {
        self.depth.get()
    }

    pub(super) fn deeper<E: ser::Error>(&self) -> Result<(), E> {
        self.depth.set(self.depth.get() + 1);
        match self.depth.get() > DEPTH_MAX {
            true => self.refuse(format_args!(
                "lists and maps inside each other are at most {DEPTH_MAX} deep"
            )),
            false => Ok(()),
        }
    }

    pub(super) fn back(&self) {
        self.depth.set(self.depth.get() - 1);
    }

    /// A `Some` or a struct of one value begins.
    pub(super) fn wrap<E: ser::Error>(&self) -> Result<(), E> {
        self.wrappers.set(self.wrappers.get() + 1);
        match self.wrappers.get() > WRAPPERS_MAX {
            true => self.refuse(format_args!(
                "values are wrapped in options and structs of one value at most {WRAPPERS_MAX} times, and this one may \
                 contain itself"
            )),
            false => Ok(()),
        }
    }

    pub(super) fn unwrap(&self) {
        self.wrappers.set(self.wrappers.get() - 1);
    }

    /// An error, remembered when it is the first: the value may swallow it.
    #[cold]
    pub(super) fn refuse<T, E: ser::Error>(&self, reason: impl Display) -> Result<T, E> {
        self.remember(&reason);
        Err(E::custom(reason))
    }

    /// Once something was refused, nothing ends well.
    pub(super) fn unless_refused<E: ser::Error>(&self) -> Result<(), E> {
        match self.refused.get() {
            true => Err(E::custom(&self.refusal.borrow().reason)),
            false => Ok(()),
        }
    }

    pub(super) fn has_refused(&self) -> bool {
        self.refused.get()
    }

    /// Notes an error and where it came from: the step inside the list or map at this depth.
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
        if depth < self.told.get() {
            self.told.set(depth);
            let step = step();
            self.refusal.borrow_mut().steps.push(step);
        }
    }

    fn remember(&self, reason: &impl Display) {
        if !self.refused.replace(true) {
            let reason = reason.to_string();
            self.refusal.borrow_mut().reason = reason;
        }
    }

    /// The first refusal; `reason` when there was none before the value itself.
    pub(super) fn into_refusal(self, reason: String) -> NotJson {
        let refused = self.refused.get();
        let refusal = self.refusal.into_inner();
        NotJson {
            path: path(&refusal.steps),
            reason: if refused { refusal.reason } else { reason },
        }
    }
}

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
