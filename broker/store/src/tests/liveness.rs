//! The live records, compared with a model of two maps: after any sequence of appends, commits and
//! restarts the store has the tasks of the model.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Submit(Slot, usize),
    Change(Slot, usize),
    Forget(Slot),
    Drop(Slot),
    Queue(u8, u64),
    DeleteQueue(u8),
    Commit,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..8u32;
    let bytes = prop_oneof![6 => 0..200usize, 4 => 2_000..9_000usize, 1 => 30_000..80_000usize];
    prop_oneof![
        6 => (slot.clone(), bytes.clone()).prop_map(|(slot, bytes)| Step::Submit(slot, bytes)),
        6 => (slot.clone(), bytes).prop_map(|(slot, bytes)| Step::Change(slot, bytes)),
        2 => slot.clone().prop_map(Step::Forget),
        1 => slot.prop_map(Step::Drop),
        1 => (0..3u8, any::<u64>()).prop_map(|(name, bound)| Step::Queue(name, bound)),
        1 => (0..3u8).prop_map(Step::DeleteQueue),
        6 => Just(Step::Commit),
        1 => Just(Step::Restart),
    ]
}

/// The store, and the tasks that it should hold.
struct Pair {
    folder: tempfile::TempDir,
    store: Option<Store>,
    now: Loaded,
    committed: Loaded,
    /// Tasks dropped without a record. They may come back, but only whole.
    dropped: Vec<(Submitted, Option<Changed>)>,
    marks: Marks,
    committed_marks: Marks,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, marks, loaded) = open_tight(folder.path());
        Self {
            folder,
            store: Some(store),
            now: loaded.clone(),
            committed: loaded,
            dropped: Vec::new(),
            marks,
            committed_marks: marks,
        }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("the store is open between two steps")
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Submit(slot, bytes) => {
                self.marks.serial += 1;
                let task = submitted(slot, self.marks.serial, bytes);
                self.store().append(&Record::Submitted(Box::new(task.clone())));
                self.now.tasks.insert(slot, (task, None));
            }
            Step::Change(slot, bytes) => {
                let Some((task, latest)) = self.now.tasks.get_mut(&slot) else { return };
                let version = latest.as_ref().map_or(2, |latest| latest.version + 1);
                let mut change = changed(slot, task.key.serial, version);
                self.marks.lease += 1;
                change.lease = self.marks.lease;
                change.revoked_reason = "x".repeat(bytes).into();
                *latest = Some(change.clone());
                self.store().append(&Record::Changed(Box::new(change)));
            }
            Step::Forget(slot) => {
                if let Some((task, _)) = self.now.tasks.remove(&slot) {
                    self.store().append(&Record::Forgotten(task.key));
                }
            }
            Step::Drop(slot) => {
                // The machine drops only confirmed tasks.
                if let Some(task) = self.committed.tasks.get(&slot)
                    && self.now.tasks.get(&slot) == Some(task)
                {
                    self.dropped.push(task.clone());
                    self.now.tasks.remove(&slot);
                    self.committed.tasks.remove(&slot);
                    self.store().drop_task(slot);
                }
            }
            Step::Queue(name, bound) => {
                let queue = queue(&name.to_string(), bound);
                self.store().append(&Record::Named(Named::Queue(queue.clone())));
                self.now.queues.insert(name.to_string(), queue);
            }
            Step::DeleteQueue(name) => {
                let name = queue(&name.to_string(), 0).name;
                self.now.queues.remove(name.as_str());
                self.store().append(&Record::Removed(Name::Queue(name)));
            }
            Step::Commit => {
                self.store().commit().unwrap();
                self.committed = self.now.clone();
                self.committed_marks = self.marks;
            }
            Step::Restart => self.restart(),
        }
    }

    fn restart(&mut self) {
        drop(self.store.take());
        let (mut store, marks, mut loaded) = open_tight(self.folder.path());
        assert_eq!(marks, self.committed_marks);
        // A dropped task that comes back must be whole, and no other task may be in its slot.
        for (slot, task) in std::mem::take(&mut loaded.tasks) {
            if self.committed.tasks.get(&slot) == Some(&task) {
                loaded.tasks.insert(slot, task);
            } else {
                assert!(self.dropped.contains(&task), "slot {slot} came back as {task:?}");
                store.drop_task(slot);
            }
        }
        assert_eq!(loaded, self.committed);
        self.now = loaded;
        self.marks = marks;
        self.store = Some(store);
    }

    fn compare(&mut self) {
        let expected = self.now.tasks.clone();
        assert_eq!(read_all(self.store(), 0..8), expected);
    }
}

/// Opens with hardly any slack, so that cleaning runs all the time.
fn open_tight(folder: &Path) -> (Store, Marks, Loaded) {
    let mut loaded = Loaded::default();
    let config = StoreConfig { slack_bytes: 2_000, cache_bytes: 60_000, ..small() };
    let folder = small_folder(folder);
    let (store, marks) = Store::open(folder, config, &mut |record| loaded.take(record)).unwrap();
    (store, marks, loaded)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_what_the_model_says(steps in proptest::collection::vec(step(), 1..120)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.run(step);
            pair.compare();
        }
        pair.run(Step::Commit);
        pair.run(Step::Restart);
        pair.compare();
    }
}
