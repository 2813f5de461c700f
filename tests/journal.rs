//! The store on a journal and an archive that lose what was not synced, against a naive model: any
//! history of commits, crashes in the middle of commits and of moves, and restarts leaves what was
//! confirmed, and of the commit that a crash cut either everything or nothing.

use std::collections::BTreeMap;

use celeriac_proto::{TaskId, TaskName};
use celeriac_record::{Record, Slot, Submitted, TaskKey, TaskSpec};
use celeriac_store::{Store, StoreConfig};
use celeriac_tests::RandomSource;
use celeriac_tests::simulated_disk::Disk;

/// Histories, and the commits of each.
const HISTORIES: u64 = 80;
const COMMITS: u64 = 120;
/// So few slots that most tasks are replaced or forgotten soon.
const SLOTS: u64 = 40;

/// The serial and the payload's length of the task in each slot.
type Tasks = BTreeMap<Slot, (u64, usize)>;

struct History {
    random: RandomSource,
    disk: Disk,
    confirmed: Tasks,
    serial: u64,
}

#[test]
fn any_history_of_commits_moves_and_crashes_leaves_what_was_confirmed() {
    let (mut moved, mut torn) = (0, 0);
    for seed in 1..=HISTORIES {
        let figures = History::new(seed).run(seed);
        moved += figures.moved;
        torn += figures.lost;
    }
    assert!(moved > 1_000 && torn > 100, "{moved} chunks moved, {torn} writes were torn");
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = RandomSource::new(seed);
        let disk = Disk::with_journal(random.bits());
        Self { random, disk, confirmed: Tasks::new(), serial: 0 }
    }

    fn run(mut self, seed: u64) -> celeriac_tests::simulated_disk::Figures {
        let mut uncertain = self.confirmed.clone();
        let mut commits = 0;
        while commits < COMMITS {
            let (mut store, found) = open(&self.disk, seed);
            assert!(
                found == self.confirmed || found == uncertain,
                "seed {seed}, commit {commits}: found {found:?}, confirmed {:?}, perhaps {uncertain:?}",
                self.confirmed
            );
            self.confirmed = found;
            uncertain = self.confirmed.clone();
            if self.random.below(4) == 0 {
                // A crash before the first chunk of this start is durable.
                self.disk.crash();
                continue;
            }
            self.disk.sync().expect("nothing was told to fail");
            while commits < COMMITS {
                commits += 1;
                uncertain = self.append(&mut store);
                store.commit().expect("nothing was told to fail");
                match self.random.below(12) {
                    0 => {
                        self.disk.crash();
                        break;
                    }
                    1 => {
                        self.disk.sync().expect("nothing was told to fail");
                        self.confirmed = uncertain.clone();
                        self.disk.move_at_times().expect("nothing was told to fail");
                        self.disk.crash();
                        break;
                    }
                    2 => self.disk.set_low(self.random.below(2) == 0),
                    _ => {}
                }
                self.disk.sync().expect("nothing was told to fail");
                self.confirmed = uncertain.clone();
                self.disk.move_at_times().expect("nothing was told to fail");
            }
        }
        self.disk.figures()
    }

    /// Appends a batch, and returns the tasks after it.
    fn append(&mut self, store: &mut Store) -> Tasks {
        let mut tasks = self.confirmed.clone();
        let records = match self.random.below(5) {
            0 => 1,
            1 => self.random.between(20, 200),
            _ => self.random.between(1, 12),
        };
        for _ in 0..records {
            let slot = self.random.below(SLOTS) as Slot;
            if let (true, Some((serial, _))) = (self.random.below(4) == 0, tasks.get(&slot)) {
                store.append(&Record::Forgotten(TaskKey { slot, serial: *serial }));
                tasks.remove(&slot);
                continue;
            }
            self.serial += 1;
            let bytes = match self.random.below(30) {
                0 => self.random.between(20_000, 120_000),
                _ => self.random.between(0, 2_000),
            } as usize;
            store.append(&Record::Submitted(Box::new(submitted(slot, self.serial, bytes))));
            tasks.insert(slot, (self.serial, bytes));
        }
        tasks
    }
}

/// Starts on the disk. Returns the store and the tasks that it has found.
fn open(disk: &Disk, seed: u64) -> (Store, Tasks) {
    let mut tasks = Tasks::new();
    let opened = disk.medium(1 << 20).and_then(|(medium, config): (_, StoreConfig)| {
        Store::over(medium, config, &mut |record| {
            let Record::Submitted(task) = record else { panic!("there are only submits") };
            let bytes = task.spec.payload.len();
            assert_eq!(*task, submitted(task.key.slot, task.key.serial, bytes), "seed {seed}");
            tasks.insert(task.key.slot, (task.key.serial, bytes));
        })
    });
    let (store, _) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    (store, tasks)
}

/// A task whose payload shows its serial, so that a mix-up is noticed.
fn submitted(slot: Slot, serial: u64, payload_bytes: usize) -> Submitted {
    let payload: Vec<u8> = serial.to_le_bytes().into_iter().cycle().take(payload_bytes).collect();
    let id = TaskId::parse(format!("task-{serial}")).expect("a plain id");
    let name = TaskName::parse("songs.preprocess").expect("a plain name");
    Submitted {
        key: TaskKey { slot, serial },
        generation: 1,
        after: None,
        submitted_at: 1_800_000_000_000,
        eta: None,
        expires: None,
        result_ttl_ms: 86_400_000,
        spec: TaskSpec { payload: payload.into(), ..TaskSpec::new(id, name) },
    }
}
