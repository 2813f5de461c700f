//! The start: read everything on the medium, then prove that the medium can be written.

use celeriac_record::Record;

use super::append::Tail;
use super::cache::Cache;
use super::error::Error;
use super::medium::Medium;
use super::room::Outlook;
use super::survey::{self, Survey};
use super::{Marks, Store, StoreConfig, Usage};

impl Store {
    /// Opens the log on a medium, and hands every live record to `load`.
    ///
    /// Each live record comes exactly once, in the order of the log: for a task its submit, then
    /// the latest change of its state if there was one; for a queue its settings. Records that were
    /// replaced, forgotten or deleted do not come. A task that was dropped without a record may
    /// come again, whole. Tasks do not come in the order of their serials, because cleaning moves
    /// old records behind newer ones.
    ///
    /// # Errors
    /// When the log is damaged or of a newer format, or the medium fails.
    pub fn over(
        medium: Box<dyn Medium>,
        config: StoreConfig,
        load: &mut dyn FnMut(Record),
    ) -> Result<(Self, Marks), Error> {
        let survey = survey::survey(&*medium, medium.confirmed());
        let loaded =
            survey.and_then(|survey| survey::load(&*medium, &survey.index, load).map(|()| survey));
        let Survey { index, marks, leftovers } = match loaded {
            Ok(survey) => survey,
            Err(refusal) => {
                let error = refusal.into_error(medium.place());
                medium.abandon();
                return Err(error);
            }
        };
        let mut store = Self {
            cache: Cache::new(config.cache_bytes),
            tail: Tail::new(),
            failed: None,
            outlook: Outlook::default(),
            removed: leftovers,
            config,
            backup: None,
            medium,
            index,
            marks,
        };
        if let Err(error) = store.prove() {
            // sled's own threads may have ended, and closing would wait for them.
            let _ends_when_it_can =
                std::thread::Builder::new().name("store closing".into()).spawn(move || drop(store));
            return Err(error);
        }
        let Usage { live_bytes, log_bytes, chunks, file_bytes, disk_free_bytes, .. } =
            store.usage()?;
        tracing::info!(
            folder = %store.medium.place().display(),
            live_bytes,
            log_bytes,
            chunks,
            file_bytes,
            disk_free_bytes,
            "the data folder is open"
        );
        Ok((store, marks))
    }

    /// Writes an empty chunk. This proves that a batch becomes durable, and the log then always has
    /// a chunk that carries the marks.
    fn prove(&mut self) -> Result<(), Error> {
        self.seal_open(true);
        self.write_batch()?;
        self.medium.opened()
    }
}
