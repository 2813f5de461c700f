//! Workers and clients that connect and disconnect.

use std::collections::BTreeSet;

use super::names::{name_of, queue_of};
use super::{CLIENT, Model, Said};
use crate::command::{Command, Connect, WorkerInfo};

impl Model {
    pub(super) fn connect(
        &mut self,
        worker: usize,
        queues: Vec<u8>,
        names: Vec<u8>,
        resume: Option<u64>,
        entry: u8,
    ) {
        let kept = resume.is_some_and(|resume| self.reference.may_resume(resume, entry));
        if !kept {
            self.disconnect(worker);
        }
        let info = WorkerInfo {
            queues: queues.iter().map(|queue| (queue_of(*queue), 1)).collect(),
            task_names: names.iter().map(|name| name_of(*name)).collect(),
            hostname: "host".into(),
            pid: 1,
            concurrency: 100,
            ..WorkerInfo::default()
        };
        let said = self.say_hello(worker, resume, Some(info), entry);
        let session = self.peers[worker].session.expect("the worker has a session");
        assert_eq!(
            kept,
            resume == Some(session),
            "a worker resumes exactly the sessions that exist and are of its entry"
        );
        let again = self.reference.connect(session, worker, (queues, names), entry);
        let delivered: BTreeSet<u64> =
            said.deliveries.iter().map(|(_, delivery)| delivery.lease).collect();
        assert_eq!(delivered, again, "what was not started is handed to its worker again");
    }

    pub(super) fn connect_client(&mut self) {
        let said = self.say_hello(CLIENT, None, None, 0);
        assert!(said.deliveries.is_empty());
    }

    fn say_hello(
        &mut self,
        peer: usize,
        resume: Option<u64>,
        worker: Option<WorkerInfo>,
        entry: u8,
    ) -> Said {
        self.latest += 1;
        let (connection, session) = (self.latest, |number: u64| u128::from(number).to_be_bytes());
        self.peers[peer].connection = Some(connection);
        let instance = format!("peer-{peer}").into();
        let (session_id, resume) = (session(connection), resume.map(session));
        let (entry, scope) = ((entry > 0).then(|| format!("entry-{entry}").into()), None);
        let request = 1;
        let connect =
            Connect { connection, request, session_id, resume, instance, worker, entry, scope };
        self.command(Command::Connect(Box::new(connect)))
    }

    pub(super) fn disconnect(&mut self, worker: usize) {
        if let Some(connection) = self.peers[worker].connection.take() {
            self.command(Command::Disconnect { connection, reason: None });
            if let Some(session) = self.reference.session_of(worker) {
                self.reference.disconnect(session);
            }
        }
    }
}
