//! What breaks in a soak: one trouble at a time, drawn by a seeded generator. Whatever was killed
//! is replaced at once.

use crate::proxy::Proxy;
use crate::soak::load::QUEUE;
use crate::soak::{LEASE, Plan};
use crate::{BrokerProcess, WorkerProcess};

/// The worker processes, each behind a wire of its own.
#[derive(Debug)]
pub(super) struct Crew {
    program: std::path::PathBuf,
    members: Vec<(Proxy, WorkerProcess)>,
    luck: u64,
}

impl Crew {
    pub(super) async fn start(plan: &Plan, broker: &BrokerProcess) -> Self {
        let mut members = Vec::new();
        for _ in 0..plan.workers.max(2) {
            let proxy = Proxy::start(broker.address()).await;
            let worker = WorkerProcess::start(&plan.worker, &proxy.url(), &[QUEUE]);
            members.push((proxy, worker));
        }
        Self { program: plan.worker.clone(), members, luck: plan.seed }
    }

    /// Does one harm and says which.
    pub(super) async fn trouble(&mut self, broker: &mut BrokerProcess) -> String {
        for (_, worker) in &mut self.members {
            assert!(worker.is_running(), "a worker ended by itself");
        }
        let which = self.draw(self.members.len() as u64) as usize;
        match self.draw(11) {
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

    /// A number below `end`.
    fn draw(&mut self, end: u64) -> u64 {
        // Knuth's linear congruential generator; its high bits are the good ones.
        self.luck = self
            .luck
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.luck >> 33) % end
    }
}
