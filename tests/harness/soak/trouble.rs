//! What breaks in a soak: one fault at a time, chosen by a seeded source. A process that was killed
//! is replaced at once.

use crate::proxy::Proxy;
use crate::soak::load::QUEUE;
use crate::soak::{LEASE, Plan};
use crate::{BrokerProcess, RandomSource, WorkerProcess};

/// The worker processes, each behind a proxy of its own.
#[derive(Debug)]
pub(super) struct Workers {
    program: std::path::PathBuf,
    members: Vec<(Proxy, WorkerProcess)>,
    random: RandomSource,
}

impl Workers {
    pub(super) async fn start(plan: &Plan, broker: &BrokerProcess) -> Self {
        let mut members = Vec::new();
        for _ in 0..plan.workers.max(2) {
            let proxy = Proxy::start(broker.address()).await;
            let worker = WorkerProcess::start(&plan.worker, &proxy.url(), &[QUEUE]);
            members.push((proxy, worker));
        }
        Self { program: plan.worker.clone(), members, random: RandomSource::new(plan.seed) }
    }

    /// Breaks one thing and says which.
    pub(super) async fn trouble(&mut self, broker: &mut BrokerProcess) -> String {
        for (_, worker) in &mut self.members {
            assert!(worker.is_running(), "a worker ended by itself");
        }
        let which = self.random.below(self.members.len() as u64) as usize;
        match self.random.below(11) {
            0..=2 => {
                let fresh = self.fresh(which);
                std::mem::replace(&mut self.members[which].1, fresh).kill().await;
                format!("worker {which} killed")
            }
            3..=4 => {
                self.members[which].1.freeze();
                tokio::time::sleep(LEASE * 3 / 2).await;
                self.members[which].1.thaw();
                format!("worker {which} frozen for longer than the lease")
            }
            5..=7 => {
                self.members[which].0.cut();
                format!("worker {which} cut off")
            }
            8..=9 => {
                let fresh = self.fresh(which);
                let leaving = std::mem::replace(&mut self.members[which].1, fresh);
                leaving.terminate();
                assert!(leaving.exit().await.success(), "a worker that was told to end ends well");
                format!("worker {which} told to end")
            }
            _ => {
                broker.kill().await;
                broker.restart().await;
                "broker killed".into()
            }
        }
    }

    fn fresh(&self, which: usize) -> WorkerProcess {
        WorkerProcess::start(&self.program, &self.members[which].0.url(), &[QUEUE])
    }
}
