//! Tests of what people see: every table and screen at four widths, with and without colours.
//!
//! The expected texts are in the folder `screens`; `UPDATE_EXPECT=1` writes them anew. The rows
//! have what clients may choose: text that would control a terminal, wide characters, long texts.

use celeriac_client::{BrokerInfo, QueueInfo, TaskInfo, WorkerStatus};
use celeriac_proto::wire::{self, TaskState};
use expect_test::{ExpectFile, expect_file};
use tracing::Level;

use crate::commands::top;
use crate::line::Line;
use crate::logging;
use crate::output::{Size, details_lines};
use crate::task_columns::{DEAD, TaskColumn, USUAL, chosen_table, table};
use crate::task_history::TaskHistory;
use crate::{broker_view, queue_view, task_history, task_view, worker_view};

/// 2026-11-22 10:57:17.250 in UTC.
const NOW_MS: i64 = 1_795_345_037_250;

/// The widths of the terminals.
const WIDTHS: [usize; 4] = [40, 80, 120, 200];

/// Text that clears the screen, turns text around, and breaks a line.
const HOSTILE: &str = "a\u{1b}[2J\u{9b}2J\u{202e}b\nc";

fn task(id: &str, state: TaskState) -> wire::TaskInfo {
    wire::TaskInfo {
        id: id.to_owned(),
        state: state.into(),
        generation: 1,
        version: 3,
        name: "songs.preprocess".to_owned(),
        queue: "default".to_owned(),
        priority: 4,
        submitted_at_ms: NOW_MS - 843_000,
        attempts: 1,
        attempts_max: 4,
        worker: "host-4711".to_owned(),
        ..Default::default()
    }
}

fn error(attempt: u32, message: &str) -> wire::TaskError {
    wire::TaskError {
        kind: "ValueError".to_owned(),
        message: message.to_owned(),
        traceback: "at songs.py:7\n\tdecode(\u{1b}[2J)".to_owned(),
        at_ms: NOW_MS - 720_000,
        attempt,
        ..Default::default()
    }
}

/// An attempt that was lost with its worker.
fn lost_with_worker() -> wire::TaskError {
    wire::TaskError {
        kind: "worker_lost".to_owned(),
        message: format!("the worker {HOSTILE} was silent for 15 s"),
        at_ms: NOW_MS - 800_000,
        leased_at_ms: Some(NOW_MS - 840_000),
        started_at_ms: Some(NOW_MS - 839_000),
        worker: HOSTILE.to_owned(),
        ..error(1, "")
    }
}

fn tasks() -> Vec<TaskInfo> {
    let progress = wire::Progress {
        state: "PROGRESS".to_owned(),
        meta: "{\"percent\":40}".into(),
        at_ms: NOW_MS - 1_000,
    };
    let tasks = [
        wire::TaskInfo {
            progress: Some(progress),
            started_at_ms: Some(NOW_MS - 3_000),
            ..task("019f3a1c-7b3c-7def-8a10-0242ac120002", TaskState::Started)
        },
        wire::TaskInfo {
            waiting_for: wire::WaitingFor::Worker.into(),
            attempts: 0,
            ..task("019f3a1c-7b3c-7def-8a10-0242ac120003", TaskState::Queued)
        },
        wire::TaskInfo {
            name: "songs.다이너마이트".to_owned(),
            queue: "노래".to_owned(),
            started_at_ms: Some(NOW_MS - 9_100),
            finished_at_ms: Some(NOW_MS - 2_000),
            ..task("다이너마이트-다이너마이트-다이너마이트", TaskState::Success)
        },
        wire::TaskInfo {
            shadow: HOSTILE.to_owned(),
            queue: HOSTILE.to_owned(),
            errors: vec![error(1, HOSTILE)],
            eta_at_ms: Some(NOW_MS + 30_000),
            ..task(HOSTILE, TaskState::Retry)
        },
        wire::TaskInfo {
            eta_at_ms: Some(NOW_MS + 7_200_000),
            attempts: 0,
            ..task("user-42", TaskState::Scheduled)
        },
        wire::TaskInfo {
            revoked_reason: "expired".to_owned(),
            ..task(&"long-".repeat(40), TaskState::Revoked)
        },
    ];
    tasks.into_iter().map(TaskInfo::from).collect()
}

fn dead_tasks() -> Vec<TaskInfo> {
    let dead = |id, message: &str| wire::TaskInfo {
        attempts: 4,
        started_at_ms: Some(NOW_MS - 730_000),
        finished_at_ms: Some(NOW_MS - 720_000),
        errors: vec![error(3, "no song"), error(4, message)],
        ..task(id, TaskState::Failure)
    };
    let tasks = [
        dead("song-7", "no song"),
        dead("019f3a1c-7b3c-7def-8a10-0242ac120002", &"노래가 없어요 ".repeat(20)),
        dead(HOSTILE, HOSTILE),
    ];
    tasks.into_iter().map(TaskInfo::from).collect()
}

fn queues(round: u64) -> Vec<QueueInfo> {
    let queue = |name: &str, ready, rate, workers| wire::QueueInfo {
        name: name.to_owned(),
        ready,
        scheduled: 12,
        leased: 3,
        oldest_ready_ms: 75_000,
        workers,
        submitted_total: 1_000 + round * rate,
        ended_total: 900 + round * rate / 2,
        ..Default::default()
    };
    let queues = [
        queue("default", 123_456, 7, 4),
        queue("idle", 0, 0, 1),
        wire::QueueInfo { dead: 2, ..queue("노래", 40, 1_200, 0) },
        wire::QueueInfo { paused: true, ..queue(HOSTILE, 1, 0, 1) },
        queue(&"long.".repeat(50), 5, 3, 1),
    ];
    queues.into_iter().map(QueueInfo::from).collect()
}

fn workers() -> Vec<WorkerStatus> {
    let running = || wire::TaskInfo {
        started_at_ms: Some(NOW_MS - 3_250),
        ..task("019f3a1c-7b3c-7def-8a10-0242ac120002", TaskState::Started)
    };
    let worker = |instance: &str, running: Vec<wire::TaskInfo>| wire::WorkerStatus {
        instance_id: instance.to_owned(),
        hostname: "host".to_owned(),
        pid: 4711,
        queues: vec!["default".to_owned(), "노래".to_owned()],
        task_names: vec!["songs.preprocess".to_owned(), HOSTILE.to_owned()],
        concurrency: 8,
        credit: 16,
        running,
        memory_bytes: 50_000_000,
        connected_at_ms: NOW_MS - 7_200_000,
        seen_at_ms: NOW_MS - 500,
        ..Default::default()
    };
    let hostile = wire::TaskInfo { name: HOSTILE.to_owned(), ..task(HOSTILE, TaskState::Leased) };
    let workers = [
        worker("idle-1", Vec::new()),
        wire::WorkerStatus {
            running_left_out: 40,
            ..worker("host-4711", vec![running(), hostile])
        },
        wire::WorkerStatus {
            lost: true,
            hostname: HOSTILE.to_owned(),
            ..worker(HOSTILE, vec![running()])
        },
        wire::WorkerStatus {
            quiet: true,
            memory_bytes: 0,
            ..worker("worker-019f3a1c-7b3c-7def-8a10-0242ac120002.다이너마이트", Vec::new())
        },
    ];
    workers.into_iter().map(WorkerStatus::from).collect()
}

/// Whether every line of a screen is at most as wide as the terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fits {
    Yes,
    No,
}

/// Compares a screen at each width with its expected text.
fn check(expected: ExpectFile, fits: Fits, lines: impl Fn(Option<usize>) -> Vec<Line>) {
    let mut text = String::new();
    for width in WIDTHS {
        let lines = lines(Some(width));
        if fits == Fits::Yes {
            for line in &lines {
                assert!(line.width() <= width, "wider than {width}: {line:?}");
            }
        }
        for (colours, has_colours) in [("", false), (", with colours", true)] {
            text.push_str(&format!("== {width} columns{colours}\n"));
            for line in &lines {
                text.push_str(&line.render(has_colours).replace('\u{1b}', "␛"));
                text.push('\n');
            }
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn tasks_fit_the_terminal() {
    check(expect_file!["./screens/tasks.txt"], Fits::Yes, |width| {
        table(&tasks(), &USUAL, NOW_MS).lines(width)
    });
}

#[test]
fn chosen_columns_of_tasks_are_all_shown() {
    const CHOSEN: [TaskColumn; 4] =
        [TaskColumn::Note, TaskColumn::Id, TaskColumn::Worker, TaskColumn::Due];
    check(expect_file!["./screens/tasks-columns.txt"], Fits::No, |width| {
        chosen_table(&tasks(), &CHOSEN, NOW_MS).lines(width)
    });
}

#[test]
fn dead_tasks_fit_the_terminal() {
    check(expect_file!["./screens/dead-list.txt"], Fits::Yes, |width| {
        table(&dead_tasks(), &DEAD, NOW_MS).lines(width)
    });
}

#[test]
fn the_status_of_several_tasks_fits_the_terminal() {
    let mut tasks = tasks();
    let unknown = wire::TaskInfo { id: "nobody".to_owned(), ..Default::default() };
    tasks.truncate(1);
    tasks.push(unknown.into());
    check(expect_file!["./screens/status.txt"], Fits::Yes, |width| {
        table(&tasks, &USUAL, NOW_MS).lines(width)
    });
}

#[test]
fn a_task_is_shown_with_its_whole_history() {
    let task = wire::TaskInfo {
        tags: vec!["x".to_owned(), HOSTILE.to_owned()],
        leased_at_ms: Some(NOW_MS - 731_000),
        started_at_ms: Some(NOW_MS - 730_000),
        finished_at_ms: Some(NOW_MS - 720_000),
        errors: vec![lost_with_worker(), error(2, HOSTILE)],
        attempts: 2,
        deliveries: 1,
        deliveries_max: 20,
        payload: "[[\"\u{9b}2J다\"],{\"limit\":3}]".into(),
        ..task("019f3a1c-7b3c-7def-8a10-0242ac120001", TaskState::Failure)
    };
    check(expect_file!["./screens/show.txt"], Fits::No, |width| {
        let history = TaskHistory::new(task.clone().into(), tasks());
        task_history::lines(&history, NOW_MS, width)
    });
}

#[test]
fn the_lines_of_several_watched_tasks_are_aligned() {
    let tasks = tasks();
    let ids: Vec<&String> = tasks.iter().take(3).map(|task| &task.id).collect();
    check(expect_file!["./screens/watch.txt"], Fits::No, |width| {
        let together = task_view::id_width(&ids);
        let line = |task, id_width| task_view::transition(task, id_width, NOW_MS, width);
        let lines = tasks.iter().take(3).flat_map(|task| line(task, together));
        let alone = task_view::id_width(&ids[..1]);
        lines.chain(line(&tasks[0], alone)).collect()
    });
}

#[test]
fn queues_fit_the_terminal() {
    check(expect_file!["./screens/queues.txt"], Fits::Yes, |width| {
        queue_view::table(&queues(1)).lines(width)
    });
}

#[test]
fn queues_whose_names_are_cut_look_different() {
    let name = |part: &str| format!("songs.of.the.year.{part}.analyse.and.cluster.again");
    let names = ["1969", "1970", "1970.b"].map(name);
    let queues: Vec<QueueInfo> = names
        .iter()
        .map(|name| wire::QueueInfo { name: name.clone(), ready: 7, ..Default::default() }.into())
        .collect();
    check(expect_file!["./screens/queues-alike.txt"], Fits::Yes, |width| {
        queue_view::table(&queues).lines(width)
    });
}

#[test]
fn a_queue_is_shown_with_its_settings() {
    let settings = celeriac_client::QueueSettings {
        tasks_max: Some(10),
        expires_in: Some(std::time::Duration::from_secs(3_600)),
        ..Default::default()
    };
    let mut queue = queues(1).remove(2);
    queue.settings = settings;
    check(expect_file!["./screens/queue.txt"], Fits::Yes, |width| {
        details_lines(&queue_view::details(&queue), width)
    });
}

#[test]
fn a_task_that_ended_well_or_was_revoked_does_not_contradict_itself() {
    let ended = |id, state| wire::TaskInfo {
        deliveries: 1,
        deliveries_max: 20,
        cancel_requested: state == TaskState::Revoked,
        cancel_requested_at_ms: (state == TaskState::Revoked).then_some(NOW_MS - 601_000),
        revoked_reason: if state == TaskState::Revoked { "cancelled" } else { "" }.to_owned(),
        leased_at_ms: Some(NOW_MS - 720_000),
        started_at_ms: Some(NOW_MS - 720_000),
        finished_at_ms: Some(NOW_MS - 600_000),
        attempts: 2,
        errors: vec![error(1, "no song")],
        ..task(id, state)
    };
    let waiting = wire::TaskInfo { finished_at_ms: None, ..ended("again", TaskState::Queued) };
    let tasks =
        [ended("well", TaskState::Success), ended("called-off", TaskState::Revoked), waiting];
    check(expect_file!["./screens/ended.txt"], Fits::No, |width| {
        let mut lines = Vec::new();
        for task in tasks.iter().cloned().map(TaskInfo::from) {
            let history = TaskHistory::new(task.clone(), Vec::new());
            lines.extend(task_history::lines(&history, NOW_MS, width));
            lines.extend(details_lines(&task_view::details(&task, NOW_MS), width));
            lines.extend(task_view::transition(&task, None, NOW_MS, width));
        }
        lines
    });
}

#[test]
fn a_task_that_runs_again_or_lost_too_many_workers_says_so() {
    let lost = wire::TaskError {
        kind: "worker_lost".to_owned(),
        message: "workers were lost with this task too often".to_owned(),
        ..error(3, "")
    };
    let dead = |deliveries, deliveries_max| wire::TaskInfo {
        deliveries,
        deliveries_max,
        errors: vec![lost.clone()],
        ..task("lost", TaskState::Failure)
    };
    let tasks = [
        wire::TaskInfo {
            eta_at_ms: Some(NOW_MS + 4_000),
            errors: vec![error(1, "no song")],
            ..task("again", TaskState::Retry)
        },
        wire::TaskInfo {
            eta_at_ms: Some(NOW_MS - 10),
            errors: vec![error(1, "no song")],
            ..task("soon", TaskState::Retry)
        },
        dead(20, 0),
        dead(20, 20),
        dead(3, 4),
    ];
    check(expect_file!["./screens/again.txt"], Fits::Yes, |width| {
        let details = |task: &wire::TaskInfo| {
            details_lines(&task_view::details(&task.clone().into(), NOW_MS), width)
        };
        tasks.iter().flat_map(details).collect()
    });
}

#[test]
fn workers_fit_the_terminal() {
    check(expect_file!["./screens/workers.txt"], Fits::Yes, |width| {
        worker_view::table(&workers(), NOW_MS).lines(width)
    });
}

#[test]
fn a_worker_is_shown_with_its_tasks() {
    check(expect_file!["./screens/worker.txt"], Fits::No, |width| {
        worker_view::details(&workers()[1], NOW_MS, width)
    });
}

#[test]
fn top_fits_the_terminal() {
    check(expect_file!["./screens/top.txt"], Fits::Yes, |width| {
        let size = Size { width, height: Some(16) };
        top::tests::frame_of((queues(0), workers()), (queues(1), workers()), NOW_MS, size)
    });
}

/// The broker of a large machine. `used` is the part of the disk, in percent, that is not free.
fn broker(used: u64) -> BrokerInfo {
    const DISK_BYTES: u64 = 1_900 << 30;
    let room = DISK_BYTES / 100 * (100 - used);
    wire::BrokerInfo {
        server_version: "0.1.0".to_owned(),
        protocol: 1,
        started_at_ms: NOW_MS - 90_000_000,
        uptime_ms: 90_000_000,
        memory_bytes: Some(979 << 20),
        connections: 9_123,
        connections_max: 10_000,
        workers: 400,
        workers_lost: 2,
        queues: 100_000,
        mailboxes: 12,
        tasks: Some(wire::TaskCounts {
            ready: 10_000_000,
            scheduled: 12,
            leased: 800,
            dead: 7,
            ended: 86_400_000,
        }),
        draining: false,
        data: Some(wire::DataUsage {
            live_bytes: 700 << 30,
            log_bytes: 1_380 << 30,
            file_bytes: 1_500 << 30,
            reusable_bytes: 120 << 20,
            disk_free_bytes: room,
            disk_bytes: DISK_BYTES,
            disk_low_bytes: 20 << 30,
            disk_is_low: room < 20 << 30,
            usable_bytes: Some(room + (100 << 20)),
        }),
        limits: Some(wire::Limits {
            frame_bytes_max: 16 << 20,
            payload_bytes_max: 8 << 20,
            result_bytes_max: 1_500_000,
            batch_items_max: 10_000,
            requests_in_flight_max: 1_024,
            credit_max: 10_000,
        }),
        heartbeat_ms: 5_000,
        lease_ms: 15_000,
        result_ttl_ms: 86_400_000,
    }
    .into()
}

#[test]
fn the_broker_fits_the_terminal() {
    check(expect_file!["./screens/info.txt"], Fits::Yes, |width| {
        broker_view::lines(&broker(60), "127.0.0.1:23537", width)
    });
}

#[test]
fn a_broker_whose_disk_is_low_says_so() {
    check(expect_file!["./screens/info-low-disk.txt"], Fits::Yes, |width| {
        let mut lines = broker_view::lines(&broker(99), "127.0.0.1:23537", width);
        lines.extend(broker_view::lines(&broker(98), HOSTILE, width));
        lines
    });
}

#[test]
fn a_broker_that_knows_neither_memory_nor_disk_is_shown_without_them() {
    check(expect_file!["./screens/info-without-disk.txt"], Fits::Yes, |width| {
        let broker = wire::BrokerInfo { server_version: "0.1.0".to_owned(), ..Default::default() };
        broker_view::lines(&broker.into(), "[::1]:23537", width)
    });
}

#[test]
fn the_log_fits_the_terminal() {
    check(expect_file!["./screens/log.txt"], Fits::Yes, |width| {
        let line = |level, text: &str| logging::event_lines(level, NOW_MS, text, width);
        let ready =
            "the broker is ready version=\"0.1.0\" address=127.0.0.1:23537 data=data tasks=0";
        let lost = "a worker is lost worker=\"host-4711\" silent_ms=15000 lost_tasks=2 failed=0";
        [
            line(Level::INFO, ready),
            line(Level::WARN, lost),
            line(Level::ERROR, &HOSTILE.replace("2J", " 2J ")),
            line(Level::DEBUG, "a client connects"),
        ]
        .concat()
    });
}
