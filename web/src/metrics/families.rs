//! The metrics by name. `deploy/HTTP.md` lists them; a test compares the two.

use std::fmt;
use std::time::{Duration, SystemTime};

use celeriac_client::{BrokerStats, Histogram, QueueCounters, QueueStats};
use celeriac_proto::code_name;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// What one scrape shows.
#[derive(Debug)]
pub(super) struct Scrape {
    pub at: SystemTime,
    /// `None` for a caller with a scope.
    pub broker: Option<BrokerStats>,
    pub queues: Vec<QueueStats>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(&mut encoder);
        self.queue_gauges(&mut families)?;
        self.queue_counters(&mut families)?;
        if let Some(broker) = &self.broker {
            broker_gauges(broker, &mut families)?;
            broker_counters(broker, &mut families)?;
            process(broker, &mut families)?;
        }
        Ok(())
    }
}

/// A label's value, and what the metric has for it.
type By<T> = &'static [(&'static str, fn(&T) -> u64)];

/// The labels of a metric.
type Labels<'a> = Vec<(&'static str, &'a str)>;

struct Families<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Families<'_, '_> {
    fn family<'a, T>(
        &mut self,
        (name, help): (&str, &str),
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels<'a>, T)>,
        encode: impl Fn(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            match labels.is_empty() {
                true => encode(&mut family, value)?,
                false => encode(&mut family.encode_family(&labels)?, value)?,
            }
        }
        Ok(())
    }

    fn gauge<'a>(
        &mut self,
        name_and_help: (&str, &str),
        rows: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        self.family(name_and_help, MetricType::Gauge, rows, |encoder, value| {
            encoder.encode_gauge(&value)
        })
    }

    fn one(&mut self, name_and_help: (&str, &str), value: Option<f64>) -> fmt::Result {
        match value {
            Some(value) => self.gauge(name_and_help, [(Labels::new(), value)]),
            None => Ok(()),
        }
    }

    /// `_total` is added to the name.
    fn counter<'a>(
        &mut self,
        name_and_help: (&str, &str),
        rows: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        self.family(name_and_help, MetricType::Counter, rows, |encoder, value| {
            encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None)
        })
    }

    fn histogram<'a>(
        &mut self,
        name_and_help: (&str, &str),
        rows: impl IntoIterator<Item = (Labels<'a>, &'a Histogram)>,
    ) -> fmt::Result {
        self.family(name_and_help, MetricType::Histogram, rows, |encoder, histogram| {
            let bounds = histogram.bounds().iter().map(Duration::as_secs_f64);
            let buckets: Vec<(f64, u64)> =
                bounds.chain([f64::INFINITY]).zip(histogram.counts().iter().copied()).collect();
            let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }
}

impl Scrape {
    fn queue_gauges(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let of_queue = |value: fn(&QueueStats) -> f64| {
            self.queues
                .iter()
                .map(move |queue| (vec![("queue", queue.name.as_str())], value(queue)))
        };
        let by_state = |label: &'static str, values: By<QueueStats>| {
            self.queues.iter().flat_map(move |queue| {
                values.iter().map(move |(state, value)| {
                    (vec![("queue", queue.name.as_str()), (label, *state)], value(queue) as f64)
                })
            })
        };
        families.gauge(
            ("celeriac_queue_tasks", "Tasks of a queue by state"),
            by_state(
                "state",
                &[
                    ("scheduled", |queue| queue.scheduled),
                    ("ready", |queue| queue.ready),
                    ("leased", |queue| queue.leased),
                    ("started", |queue| queue.started),
                    ("dead", |queue| queue.dead),
                ],
            ),
        )?;
        families.gauge(
            ("celeriac_queue_oldest_ready_seconds", "How long the oldest ready task has waited"),
            self.queues.iter().map(|queue| {
                let oldest = queue.oldest_ready_at.unwrap_or(self.at);
                let span = self.at.duration_since(oldest).unwrap_or_default();
                (vec![("queue", queue.name.as_str())], span.as_secs_f64())
            }),
        )?;
        families.gauge(
            ("celeriac_queue_payload_bytes", "Payload bytes of the tasks that have not ended"),
            of_queue(|queue| queue.bytes as f64),
        )?;
        families.gauge(
            ("celeriac_queue_paused", "1 while the queue is paused"),
            of_queue(|queue| f64::from(u8::from(queue.paused))),
        )?;
        families.gauge(
            ("celeriac_queue_workers", "Connected workers that serve the queue"),
            of_queue(|queue| f64::from(queue.workers)),
        )?;
        families.gauge(
            ("celeriac_queue_slots", "Handlers that these workers run at once"),
            by_state(
                "state",
                &[("busy", |queue| queue.slots_busy), ("free", |queue| queue.slots_free)],
            ),
        )?;
        families.gauge(
            ("celeriac_tasks_waiting_for", "Ready tasks of a queue by what they wait for"),
            by_state(
                "reason",
                &[
                    ("no_worker", |queue| queue.waiting_no_worker),
                    ("paused", |queue| queue.waiting_paused),
                ],
            ),
        )
    }

    fn queue_counters(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let of_queue = |value: fn(&QueueCounters) -> u64| {
            self.queues
                .iter()
                .map(move |queue| (vec![("queue", queue.name.as_str())], value(&queue.counters)))
        };
        let by = |label: &'static str, values: By<QueueCounters>| {
            self.queues.iter().flat_map(move |queue| {
                values.iter().map(move |(name, value)| {
                    (vec![("queue", queue.name.as_str()), (label, *name)], value(&queue.counters))
                })
            })
        };
        families.counter(
            ("celeriac_tasks_submitted", "Tasks that were submitted or replayed"),
            of_queue(|counters| counters.submitted),
        )?;
        families.counter(
            ("celeriac_tasks_ended", "Tasks that ended, by state"),
            by(
                "state",
                &[
                    ("success", |counters| counters.succeeded),
                    ("failure", |counters| counters.failed),
                    ("revoked", |counters| counters.revoked),
                ],
            ),
        )?;
        families.counter(
            (
                "celeriac_tasks_retried",
                "Runs that failed and whose tasks waited for another attempt",
            ),
            of_queue(|counters| counters.retried),
        )?;
        families.counter(
            ("celeriac_deliveries", "Leases that workers got"),
            of_queue(|counters| counters.deliveries),
        )?;
        families.counter(
            ("celeriac_redeliveries", "Tasks that went back to their queue, by cause"),
            by(
                "cause",
                &[
                    ("worker_lost", |counters| counters.requeued_worker_lost),
                    ("released", |counters| counters.requeued_released),
                    ("taken_back", |counters| counters.requeued_taken_back),
                ],
            ),
        )?;
        let histogram = |value: fn(&QueueCounters) -> &Histogram| {
            self.queues
                .iter()
                .map(move |queue| (vec![("queue", queue.name.as_str())], value(&queue.counters)))
        };
        families.histogram(
            ("celeriac_queue_wait_seconds", "How long tasks were ready before a worker got them"),
            histogram(|counters| &counters.wait),
        )?;
        families.histogram(
            ("celeriac_task_run_seconds", "How long handlers ran, up to an outcome"),
            histogram(|counters| &counters.run),
        )
    }
}

fn broker_gauges(broker: &BrokerStats, families: &mut Families<'_, '_>) -> fmt::Result {
    let version = vec![("version", broker.version.as_str())];
    families.gauge(("celeriac_build_info", "The version of the broker"), [(version, 1.0)])?;
    let kinds = [
        ("client", broker.connections.saturating_sub(broker.workers)),
        ("worker", broker.workers),
        ("before_hello", broker.connections_before_hello),
    ];
    families.gauge(
        ("celeriac_connections", "Connections by kind"),
        kinds.map(|(kind, count)| (vec![("kind", kind)], f64::from(count))),
    )?;
    families.one(
        ("celeriac_connections_max", "The most connections that the broker accepts"),
        Some(f64::from(broker.connections_max)),
    )?;
    let kinds = [("connected", broker.workers), ("lost", broker.workers_lost)];
    families.gauge(
        ("celeriac_workers", "Workers: connected, and lost ones whose tasks are kept for them"),
        kinds.map(|(kind, count)| (vec![("kind", kind)], f64::from(count))),
    )?;
    let one = |number: u64| Some(number as f64);
    families.one(("celeriac_mailboxes", "Mailboxes"), one(broker.mailboxes.into()))?;
    families.one(
        ("celeriac_tasks", "Tasks that the broker knows, ended ones included"),
        one(broker.tasks),
    )?;
    families.one(
        ("celeriac_draining", "1 while an operator drains the broker"),
        one(broker.draining.into()),
    )?;
    if let Some(data) = &broker.data {
        for (name, help, bytes) in [
            ("celeriac_store_live_bytes", "Records that still matter", data.live_bytes),
            ("celeriac_store_log_bytes", "All records", data.log_bytes),
            ("celeriac_store_file_bytes", "The files that hold the records", data.file_bytes),
            ("celeriac_disk_free_bytes", "Free space on the disk", data.disk_free_bytes),
            ("celeriac_disk_usable_bytes", "The room that is left for records", data.usable_bytes),
            ("celeriac_disk_low_bytes", "The disk is low below this room", data.disk_low_bytes),
        ] {
            families.one((name, help), one(bytes))?;
        }
        families.one(
            ("celeriac_disk_is_low", "1 while the broker takes no new task"),
            one(data.disk_is_low.into()),
        )?;
    }
    families.one(
        (
            "celeriac_tls_certificate_expires_timestamp_seconds",
            "When the certificate of the broker expires",
        ),
        broker.certificate_expires_at.map(since_1970),
    )?;
    families.one(
        ("celeriac_config_last_reload_successful", "0: the settings were read and not taken"),
        one((!broker.reload_failed).into()),
    )?;
    families.one(
        ("celeriac_config_last_reload_timestamp_seconds", "When the settings were last read"),
        Some(since_1970(broker.reloaded_at)),
    )?;
    families.one(
        ("celeriac_restore_seconds", "How long the broker read its data folder at its start"),
        Some(broker.restore.as_secs_f64()),
    )
}

fn broker_counters(broker: &BrokerStats, families: &mut Families<'_, '_>) -> fmt::Result {
    let auth = &broker.auth_failures;
    let reasons = [
        ("token_missing", auth.token_missing),
        ("token_wrong", auth.token_wrong),
        ("certificate", auth.certificate),
        ("handshake", auth.handshake),
    ];
    families.counter(
        ("celeriac_auth_failures", "Connections that were not let in, by reason"),
        reasons.map(|(reason, count)| (vec![("reason", reason)], count)),
    )?;
    let refused: Vec<(String, u64)> =
        broker.refused.iter().map(|(code, count)| (code_name(*code), *count)).collect();
    families.counter(
        ("celeriac_requests_refused", "Requests, and items of them, that were refused, by code"),
        refused.iter().map(|(code, count)| (vec![("code", code.as_str())], *count)),
    )?;
    families.histogram(
        ("celeriac_store_commit_seconds", "How long commits took that wrote something"),
        [(Labels::new(), &broker.commit)],
    )
}

/// The names are those that Prometheus gives to each process.
fn process(broker: &BrokerStats, families: &mut Families<'_, '_>) -> fmt::Result {
    let process = &broker.process;
    families.one(
        ("process_resident_memory_bytes", "Memory in use"),
        process.memory_bytes.map(|bytes| bytes as f64),
    )?;
    families.one(
        ("process_open_fds", "Open file descriptors"),
        process.open_files.map(|count| count as f64),
    )?;
    families.one(
        ("process_max_fds", "The most file descriptors"),
        process.open_files_max.map(|count| count as f64),
    )?;
    families.one(
        ("process_start_time_seconds", "When the broker began to serve"),
        Some(since_1970(broker.started_at)),
    )?;
    let cpu = process.cpu.map(|cpu| (Labels::new(), cpu.as_secs_f64()));
    families.family(
        ("process_cpu_seconds", "Processor time of all threads"),
        MetricType::Counter,
        cpu,
        |encoder, seconds| encoder.encode_counter::<NoLabelSet, f64, f64>(&seconds, None),
    )
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
