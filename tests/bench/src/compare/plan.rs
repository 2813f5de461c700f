//! The steps of a whole run and of a quick one, and the choice of `ONLY`.

use std::time::Duration;

use anyhow::{Result, bail};

use super::python;
use super::system::{Load, System, Workload};

/// One measurement on a new server.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Submits, or lifecycles, for about this long.
    Load {
        workload: Workload,
        load: Load,
        span: Duration,
    },
    /// Round trips, one after the other.
    Roundtrip {
        tasks: u64,
    },
    /// Lifecycles while more and more tasks wait. The time that submitting the waiting ones may
    /// take limits how many there are.
    Growth {
        waiting: Vec<u64>,
        load: Load,
        span: Duration,
        filling: Duration,
    },
    /// The time to the first answer with so many tasks in the folder, several times.
    Restart {
        tasks: u64,
        times: usize,
    },
    /// Tasks that become due while many others are not.
    Scheduled {
        waiting: u64,
        due: u64,
        over: Duration,
    },
    IdleConnections {
        connections: usize,
    },
    /// Pages out of so many tasks.
    Listing {
        tasks: u64,
    },
    /// The longest step of the machine with so many tasks in its table.
    Longest {
        tasks: u64,
    },
}

impl Step {
    pub(crate) fn workload(&self) -> Workload {
        match self {
            Self::Load { workload, .. } => *workload,
            Self::Roundtrip { .. } => Workload::Roundtrip,
            Self::Growth { .. } => Workload::Backlog,
            Self::Restart { .. } => Workload::Restart,
            Self::Scheduled { .. } => Workload::Scheduled,
            Self::IdleConnections { .. } => Workload::IdleConnections,
            Self::Listing { .. } => Workload::Listing,
            Self::Longest { .. } => Workload::WorstStep,
        }
    }

    /// Whether every round measures it. Steps that take long and hardly differ from run to run are
    /// measured in the first round only.
    pub(crate) fn is_repeated(&self) -> bool {
        matches!(self, Self::Load { .. } | Self::Roundtrip { .. })
    }

    /// The text for the progress.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Load { workload, load, .. } => {
                format!(
                    "{}, batches of {}, {} in flight",
                    workload.name(),
                    load.batch,
                    load.in_flight
                )
            }
            other => other.workload().name().to_owned(),
        }
    }
}

/// All steps.
#[derive(Debug)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    pub rounds: usize,
    /// A server that takes longer for one step has failed in it.
    pub patience: Duration,
    /// A system that has used more time in total gets no further steps.
    pub time_for_each: Duration,
}

/// Payloads of 200 bytes, results of 64.
fn load(producers: usize, workers: usize, batch: usize, in_flight: usize) -> Load {
    Load { tasks: 0, producers, workers, batch, in_flight, payload: 200, result: 64 }
}

/// The loads for every system, each for this time. The most informative one comes first.
fn loads(span: Duration) -> Vec<Step> {
    let step = |workload, load| Step::Load { workload, load, span };
    vec![
        step(Workload::Lifecycle, load(4, 4, 100, 4)),
        step(Workload::Enqueue, load(4, 0, 100, 4)),
        step(Workload::Lifecycle, load(4, 4, 1, 1)),
        step(Workload::Lifecycle, load(4, 4, 1, 32)),
        step(Workload::Enqueue, load(1, 0, 1, 1)),
    ]
}

impl Plan {
    /// About half an hour on two cores.
    pub(crate) fn whole(rounds: usize) -> Self {
        let span = Duration::from_secs(2);
        let mut steps = loads(span);
        steps.extend([
            Step::Roundtrip { tasks: 1_000 },
            Step::Growth {
                waiting: vec![0, 10_000, 100_000, 1_000_000],
                load: load(4, 4, 100, 4),
                span,
                filling: Duration::from_secs(100),
            },
            // It has a server of its own, so that its memory is that of waiting tasks, and not of
            // ended ones.
            Step::Growth {
                waiting: vec![10_000_000],
                load: load(4, 4, 100, 4),
                span,
                filling: Duration::from_secs(100),
            },
            Step::Restart { tasks: 100_000, times: 3 },
            Step::Scheduled { waiting: 1_000_000, due: 10_000, over: Duration::from_secs(10) },
            Step::IdleConnections { connections: 10_000 },
            Step::Listing { tasks: 1_000_000 },
            Step::Longest { tasks: 10_000_000 },
        ]);
        Self { steps, rounds, patience: Duration::from_secs(240), time_for_each: Duration::MAX }
    }

    /// About three minutes: they show whether everything works, and the order of magnitude. Slow
    /// servers do not finish all of it.
    pub(crate) fn quick(rounds: usize) -> Self {
        let span = Duration::from_millis(300);
        let mut steps = loads(span);
        steps.extend([
            Step::Roundtrip { tasks: 100 },
            Step::Growth {
                waiting: vec![0, 10_000, 100_000],
                load: load(4, 4, 100, 4),
                span,
                filling: Duration::from_secs(3),
            },
            Step::Restart { tasks: 1_000, times: 1 },
            Step::Scheduled { waiting: 10_000, due: 1_000, over: Duration::from_secs(1) },
            Step::IdleConnections { connections: 500 },
            Step::Listing { tasks: 50_000 },
            Step::Longest { tasks: 100_000 },
        ]);
        Self {
            steps,
            rounds,
            patience: Duration::from_secs(40),
            time_for_each: Duration::from_secs(25),
        }
    }
}

/// The choice: words that are part of a system's name or durability, of a workload's name, or of
/// the name of the rows of Python. No word chooses everything.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Only {
    systems: Vec<String>,
    workloads: Vec<String>,
    has_python: bool,
}

impl Only {
    /// Reads the words between the commas.
    ///
    /// # Errors
    /// When a word matches nothing; the sentence lists what there is.
    pub(crate) fn parse(text: &str, systems: &[Box<dyn System>]) -> Result<Self> {
        let mut only = Self::default();
        for word in
            text.split(',').map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty())
        {
            let is_system = systems.iter().any(|system| names(&**system).contains(&word));
            let is_workload = Workload::ALL.iter().any(|workload| workload.name().contains(&word));
            let is_python = python::NAME.contains(&word);
            if !is_system && !is_workload && !is_python {
                let mut known: Vec<&str> = systems.iter().map(|system| system.name()).collect();
                known.dedup();
                let workloads = Workload::ALL.map(Workload::name);
                bail!(
                    "ONLY={word} matches nothing; there are {}; {}; and {}",
                    known.join(", "),
                    workloads.join(", "),
                    python::NAME
                );
            }
            only.has_python |= is_python;
            if is_system {
                only.systems.push(word.clone());
            }
            if is_workload {
                only.workloads.push(word);
            }
        }
        Ok(only)
    }

    /// Whether the rows of Python are measured.
    pub(crate) fn python(&self) -> bool {
        self.has_python || (self.systems.is_empty() && self.workloads.is_empty())
    }

    pub(crate) fn system(&self, system: &dyn System) -> bool {
        if self.has_python && self.systems.is_empty() && self.workloads.is_empty() {
            return false;
        }
        self.systems.is_empty() || self.systems.iter().any(|word| names(system).contains(word))
    }

    pub(crate) fn workload(&self, workload: Workload) -> bool {
        self.workloads.is_empty()
            || self.workloads.iter().any(|word| workload.name().contains(word))
    }
}

fn names(system: &dyn System) -> String {
    format!("{} {}", system.name(), system.durability()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::future::LocalBoxFuture;

    use super::super::system::{Missing, Running};
    use super::*;

    /// A system with a name and a durability, which is never started.
    struct Named(&'static str, &'static str);

    impl System for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn durability(&self) -> &'static str {
            self.1
        }

        fn version(&self) -> Result<String, Missing> {
            Err(Missing("it is nowhere".into()))
        }

        fn offers(&self, _: Workload) -> bool {
            false
        }

        fn start<'a>(&'a self, _: &'a Path) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
            Box::pin(async { bail!("it is never started") })
        }
    }

    fn systems() -> Vec<Box<dyn System>> {
        vec![Box::new(Named("Redis", "appendfsync always")), Box::new(Named("beanstalkd", "-f0"))]
    }

    #[test]
    fn nothing_chosen_is_everything() {
        for text in ["", " , "] {
            let only = Only::parse(text, &systems()).unwrap();
            assert!(
                only.system(&Named("Redis", "")) && only.workload(Workload::Scheduled),
                "{text:?}"
            );
        }
    }

    #[test]
    fn words_choose_systems_and_workloads() {
        let only = Only::parse("redis, idle,enqueue", &systems()).unwrap();
        assert!(only.system(&Named("Redis", "appendfsync always")));
        assert!(!only.system(&Named("beanstalkd", "-f0")));
        let chosen: Vec<_> =
            Workload::ALL.into_iter().filter(|workload| only.workload(*workload)).collect();
        assert_eq!(chosen, [Workload::Enqueue, Workload::IdleConnections]);

        let only = Only::parse("always", &systems()).unwrap();
        assert!(
            only.system(&*systems()[0])
                && !only.system(&*systems()[1])
                && only.workload(Workload::Restart)
        );
    }

    #[test]
    fn python_alone_measures_no_other_system() {
        let only = Only::parse("python", &systems()).unwrap();
        assert!(only.python() && !only.system(&*systems()[0]));
        let only = Only::parse("python,redis", &systems()).unwrap();
        assert!(only.python() && only.system(&*systems()[0]) && !only.system(&*systems()[1]));
        assert!(Only::parse("", &systems()).unwrap().python());
        assert!(!Only::parse("redis", &systems()).unwrap().python());
    }

    #[test]
    fn a_word_that_matches_nothing_is_answered_with_what_there_is() {
        let error = Only::parse("redis,kafka", &systems()).unwrap_err().to_string();
        for part in ["kafka", "Redis", "beanstalkd", "roundtrip"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
