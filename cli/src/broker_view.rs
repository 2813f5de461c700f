//! The broker itself, for `info` and for `status` without an id: as programs read it, and for
//! people.
//!
//! The names in [`BrokerDocument`] are a contract with scripts: `cli/README.md` lists them, and a
//! test compares the two.

use std::time::Duration;

use celeriac_client::{BrokerInfo, BrokerLimits, DataUsage, Error, ErrorCode};
use serde::Serialize;

use crate::arguments::SharedOptions;
use crate::byte_size::rough_bytes;
use crate::connection::{address, connect, failure};
use crate::draining;
use crate::exit::{Exit, Failure};
use crate::line::{Line, Text, Tone};
use crate::output::{Output, details_lines, print_to_stderr};
use crate::time::{absolute, ms, rough, whole_ms};

/// The broker for programs.
#[derive(Serialize)]
struct BrokerDocument<'a> {
    version: &'a str,
    protocol: u32,
    started_at_ms: i64,
    uptime_ms: u64,
    memory_bytes: Option<u64>,
    connections: u32,
    connections_max: u32,
    workers: u32,
    workers_lost: u32,
    queues: u32,
    mailboxes: u32,
    ready: u64,
    scheduled: u64,
    leased: u64,
    dead: u64,
    ended: u64,
    draining: bool,
    live_bytes: Option<u64>,
    log_bytes: Option<u64>,
    file_bytes: Option<u64>,
    reusable_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    usable_bytes: Option<u64>,
    disk_low_bytes: Option<u64>,
    disk_is_low: Option<bool>,
    #[serde(flatten)]
    limits: LimitsDocument,
}

/// The limits of the broker for programs.
#[derive(Serialize)]
struct LimitsDocument {
    frame_bytes_max: u64,
    payload_bytes_max: u64,
    result_bytes_max: u64,
    batch_items_max: u32,
    requests_in_flight_max: u32,
    credit_max: u32,
    heartbeat_ms: u64,
    lease_ms: u64,
    result_ttl_ms: u64,
}

impl<'a> BrokerDocument<'a> {
    fn new(broker: &'a BrokerInfo) -> Self {
        let data = broker.data.as_ref();
        Self {
            version: &broker.version,
            protocol: broker.protocol,
            started_at_ms: ms(broker.started_at),
            uptime_ms: whole_ms(broker.uptime),
            memory_bytes: broker.memory_bytes,
            connections: broker.connections,
            connections_max: broker.connections_max,
            workers: broker.workers,
            workers_lost: broker.workers_lost,
            queues: broker.queues,
            mailboxes: broker.mailboxes,
            ready: broker.ready,
            scheduled: broker.scheduled,
            leased: broker.leased,
            dead: broker.dead,
            ended: broker.ended,
            draining: broker.draining,
            live_bytes: data.map(|data| data.live_bytes),
            log_bytes: data.map(|data| data.log_bytes),
            file_bytes: data.map(|data| data.file_bytes),
            reusable_bytes: data.map(|data| data.reusable_bytes),
            disk_free_bytes: data.map(|data| data.disk_free_bytes),
            disk_bytes: data.map(|data| data.disk_bytes),
            usable_bytes: data.map(|data| data.usable_bytes),
            disk_low_bytes: data.map(|data| data.disk_low_bytes),
            disk_is_low: data.map(|data| data.disk_is_low),
            limits: LimitsDocument::new(&broker.limits),
        }
    }
}

impl LimitsDocument {
    fn new(limits: &BrokerLimits) -> Self {
        Self {
            frame_bytes_max: limits.frame_bytes_max,
            payload_bytes_max: limits.payload_bytes_max,
            result_bytes_max: limits.result_bytes_max,
            batch_items_max: limits.batch_items_max,
            requests_in_flight_max: limits.requests_in_flight_max,
            credit_max: limits.credit_max,
            heartbeat_ms: whole_ms(limits.heartbeat),
            lease_ms: whole_ms(limits.lease),
            result_ttl_ms: whole_ms(limits.result_ttl),
        }
    }
}

/// Asks the broker for its figures, and prints them.
pub(crate) async fn show(shared: &SharedOptions, output: &mut Output) -> Result<Exit, Failure> {
    let client = connect(shared).await?;
    let broker = client.broker_info().await.map_err(explained)?;
    client.close().await;
    if output.is_json() {
        output.document(&BrokerDocument::new(&broker))?;
    } else {
        let width = output.size().width;
        output.lines(&lines(&broker, &address(shared), width))?;
        if broker.draining && draining::has_reader(output) {
            print_to_stderr(draining::NOTE);
        }
    }
    Ok(Exit::Success)
}

/// The failure, in other words for a broker that is older than the request.
fn explained(error: Error) -> Failure {
    match error {
        Error::Refused { code: ErrorCode::Unsupported, .. } => Failure::error(
            "the broker is older than this command and cannot tell its figures: \
             use `queues` and `workers`, or install a newer broker",
        ),
        error => failure(error),
    }
}

/// The broker for people. Every line has its place in 40 columns, apart from a long address.
pub(crate) fn lines(broker: &BrokerInfo, address: &str, width: Option<usize>) -> Vec<Line> {
    let mut lines = details_lines(&of_the_process(broker, address), None);
    add_part(&mut lines, "TASKS", &of_the_tasks(broker));
    if let Some(data) = &broker.data {
        add_part(&mut lines, "DATA", &of_the_data(data));
    }
    add_part(&mut lines, "LIMITS", &of_the_limits(broker));
    lines.into_iter().map(|line| line.cut(width)).collect()
}

/// Adds a heading, and below it, indented, the rows.
fn add_part(lines: &mut Vec<Line>, heading: &str, rows: &[(&str, Text)]) {
    lines.push(Line::default());
    lines.push(Text::new(heading, Tone::Heading).into());
    for row in details_lines(rows, None) {
        let mut line = Line::from("  ");
        line.append(row);
        lines.push(line);
    }
}

fn of_the_process(broker: &BrokerInfo, address: &str) -> Vec<(&'static str, Text)> {
    let workers = match broker.workers_lost {
        0 => broker.workers.to_string().into(),
        lost => Text::new(&format!("{}, and {lost} lost", broker.workers), Tone::Warning),
    };
    let connections = format!("{} of {}", broker.connections, broker.connections_max);
    let is_nearly_full =
        u64::from(broker.connections) * 10 >= u64::from(broker.connections_max) * 9;
    let tone = if is_nearly_full { Tone::Warning } else { Tone::Plain };
    let memory = broker.memory_bytes.map_or("-".to_owned(), rough_bytes);
    let mut rows = vec![
        ("version", broker.version.as_str().into()),
        ("protocol", broker.protocol.to_string().into()),
        ("address", address.into()),
        ("started", absolute(ms(broker.started_at)).into()),
        ("uptime", rough(whole_ms(broker.uptime)).into()),
        ("memory", memory.into()),
        ("connections", Text::new(&connections, tone)),
        ("workers", workers),
        ("queues", broker.queues.to_string().into()),
        ("mailboxes", broker.mailboxes.to_string().into()),
    ];
    if broker.draining {
        rows.push(("draining", Text::new("yes: no task is delivered", Tone::Warning)));
    }
    rows
}

fn of_the_tasks(broker: &BrokerInfo) -> Vec<(&'static str, Text)> {
    let dead = if broker.dead > 0 { Tone::Bad } else { Tone::Plain };
    vec![
        ("ready", broker.ready.to_string().into()),
        ("scheduled", broker.scheduled.to_string().into()),
        ("leased", broker.leased.to_string().into()),
        ("dead", Text::new(&broker.dead.to_string(), dead)),
        ("ended", broker.ended.to_string().into()),
    ]
}

fn of_the_data(data: &DataUsage) -> Vec<(&'static str, Text)> {
    let room = data.usable_bytes;
    let shown = rough_bytes(room);
    let room = match (data.disk_is_low, room < data.disk_low_bytes.saturating_mul(2)) {
        (true, _) => Text::new(&format!("{shown}: low, no new tasks"), Tone::Bad),
        (false, true) => Text::new(&format!("{shown}: nearly low"), Tone::Warning),
        (false, false) => shown.into(),
    };
    // Why the room is less than what the disk has.
    let to_move = data.disk_free_bytes.saturating_add(data.reusable_bytes);
    let to_move = to_move.saturating_sub(data.usable_bytes);
    let disk =
        format!("{} of {} free", rough_bytes(data.disk_free_bytes), rough_bytes(data.disk_bytes));
    vec![
        ("room", room),
        ("low below", rough_bytes(data.disk_low_bytes).into()),
        ("disk", disk.into()),
        ("to move", format!("{} in the journal", rough_bytes(to_move)).into()),
        ("file", rough_bytes(data.file_bytes).into()),
        ("log", rough_bytes(data.log_bytes).into()),
        ("live", rough_bytes(data.live_bytes).into()),
    ]
}

fn of_the_limits(broker: &BrokerInfo) -> Vec<(&'static str, Text)> {
    let limits = &broker.limits;
    vec![
        ("frame", rough_bytes(limits.frame_bytes_max).into()),
        ("payload", rough_bytes(limits.payload_bytes_max).into()),
        ("result", rough_bytes(limits.result_bytes_max).into()),
        ("batch", format!("{} items", limits.batch_items_max).into()),
        ("unanswered", format!("{} requests", limits.requests_in_flight_max).into()),
        ("credit", format!("{} tasks per worker", limits.credit_max).into()),
        ("heartbeat", setting(limits.heartbeat).into()),
        ("lease", setting(limits.lease).into()),
        ("result ttl", setting(limits.result_ttl).into()),
    ]
}

/// A span that somebody set is mostly whole: `15s`, not `15.0s`.
fn setting(span: Duration) -> String {
    rough(whole_ms(span)).replace(".0s", "s")
}
