//! A worker on the wire protocol, so that the tests decide when a task starts, fails and ends.

use std::time::Duration;

use celeriac_client::connection::{Connection, ConnectionOptions, Event};
use celeriac_proto::wire::{self, client_frame::Body, server_frame, task_report::Report};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::process::{Broker, DEADLINE};

/// A worker that holds one task at a time. The test reports on the task.
pub(crate) struct Worker {
    runtime: Runtime,
    connection: Connection,
    events: mpsc::Receiver<Event>,
}

impl Worker {
    /// Connects as a worker for tasks of this name in the queue `default`.
    pub(crate) fn connect(broker: &Broker, task_name: &str) -> Self {
        Self::connect_as(broker, "worker-1", task_name)
    }

    /// Like `connect`, with this instance id.
    pub(crate) fn connect_as(broker: &Broker, instance: &str, task_name: &str) -> Self {
        Self::connect_to(&broker.address, instance, task_name)
    }

    /// Like `connect_as`, with the address of a broker.
    pub(crate) fn connect_to(address: &str, instance: &str, task_name: &str) -> Self {
        Self::open(ConnectionOptions::new(address), instance, task_name)
    }

    /// Like `connect`, with a token.
    pub(crate) fn connect_with_token(broker: &Broker, token: &str, task_name: &str) -> Self {
        let mut options = ConnectionOptions::new(&broker.address);
        options.token = token.to_owned();
        Self::open(options, "worker-1", task_name)
    }

    fn open(mut options: ConnectionOptions, instance: &str, task_name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("starts");
        options.instance_id = instance.to_owned();
        options.worker = Some(wire::WorkerInfo {
            queues: vec![wire::QueueSubscription { queue: "default".to_owned(), weight: 1 }],
            task_names: vec![task_name.to_owned()],
            concurrency: 1,
            ..Default::default()
        });
        let (connection, events) =
            runtime.block_on(Connection::open(options)).expect("the broker is there");
        let worker = Self { runtime, connection, events };
        worker.request(Body::Credit(wire::Credit { credit: 1 }));
        worker
    }

    /// Waits for the next task.
    pub(crate) fn receive(&mut self) -> wire::Delivery {
        let events = &mut self.events;
        let next = async {
            loop {
                if let Event::Push(server_frame::Body::Deliver(deliver)) =
                    events.recv().await.expect("connected")
                {
                    return deliver
                        .deliveries
                        .into_iter()
                        .next()
                        .expect("a delivery is never empty");
                }
            }
        };
        self.runtime
            .block_on(async { tokio::time::timeout(DEADLINE, next).await })
            .expect("a task comes")
    }

    /// Waits for the next order of an operator.
    pub(crate) fn receive_order(&mut self) -> wire::order::Kind {
        let events = &mut self.events;
        let next = async {
            loop {
                if let Event::Push(server_frame::Body::Order(order)) =
                    events.recv().await.expect("connected")
                {
                    return order.kind();
                }
            }
        };
        self.runtime
            .block_on(async { tokio::time::timeout(DEADLINE, next).await })
            .expect("an order comes")
    }

    /// Reports on a task. The broker has to accept the report.
    pub(crate) fn report(&self, delivery: &wire::Delivery, report: Report) {
        let report = wire::TaskReport {
            id: delivery.id.clone(),
            lease: delivery.lease,
            report: Some(report),
        };
        match self.request(Body::Report(wire::Report { reports: vec![report] })) {
            server_frame::Body::ReportReply(reply) => {
                assert_eq!(reply.outcomes[0].code, 0, "{reply:?}")
            }
            other => panic!("{other:?}"),
        }
    }

    /// Starts the next task and ends it with this result.
    pub(crate) fn complete(&mut self, result: &'static [u8], content_type: &str) {
        let delivery = self.receive();
        self.report(&delivery, Report::Started(wire::Started {}));
        let complete = wire::Complete {
            result: result.into(),
            content_type: content_type.to_owned(),
            ..Default::default()
        };
        self.report(&delivery, Report::Complete(complete));
    }

    /// Starts the next task and fails it without a retry.
    pub(crate) fn fail(&mut self, kind: &str, message: &str) {
        let delivery = self.receive();
        self.report(&delivery, Report::Started(wire::Started {}));
        let traceback = "at songs.py:7\n  decode(title)".to_owned();
        let error = wire::TaskError {
            kind: kind.to_owned(),
            message: message.to_owned(),
            traceback,
            ..Default::default()
        };
        self.report(
            &delivery,
            Report::Fail(wire::Fail { error: Some(error), r#final: true, ..Default::default() }),
        );
    }

    fn request(&self, body: Body) -> server_frame::Body {
        self.runtime
            .block_on(self.connection.request(body, Duration::from_secs(30)))
            .expect("the broker answers")
    }
}
