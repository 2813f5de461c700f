//! No answer of the broker is longer than its limit, and every accepted task can still be read.
//! Answers end where they are full, and clients ask for the rest. The connections of these tests
//! refuse any frame over the limit.

use std::collections::BTreeMap;

use celeriac_client::{State, TaskFilter, WaitMode};
use celeriac_proto::limits::{
    ERROR_TEXT_BYTES_MAX, HEADERS_BYTES_MAX, PROGRESS_BYTES_MAX, RESULT_BYTES_MAX, TAGS_MAX,
};
use celeriac_proto::wire::{self, TaskState, task_report};
use celeriac_tests::raw::{self, Answer, Request};
use celeriac_tests::{BrokerProcess, PATIENCE, RawConnection, Setup, within};

const MIB: usize = 1024 * 1024;

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// A task that is tried six times, at once.
fn stubborn(id: &str) -> wire::Task {
    let retry =
        wire::RetryPolicy { max_attempts: Some(6), delay_ms: Some(0), ..Default::default() };
    wire::Task { retry: Some(retry), ..raw::task(id, "n") }
}

/// A failure with the longest allowed text.
fn long_failure() -> task_report::Report {
    let text = "x".repeat(ERROR_TEXT_BYTES_MAX);
    let error = wire::TaskError {
        kind: "k".repeat(255),
        message: text.clone(),
        traceback: text,
        ..Default::default()
    };
    task_report::Report::Fail(wire::Fail {
        error: Some(error),
        r#final: false,
        ..Default::default()
    })
}

/// Fails every one of these tasks so often, and ends each with `last`.
async fn fail_all(
    worker: &mut RawConnection,
    tasks: usize,
    failures: usize,
    last: impl Fn() -> task_report::Report,
) {
    let mut seen = BTreeMap::new();
    let mut ended = 0;
    while ended < tasks {
        for delivery in worker.some_deliveries().await {
            let times = seen.entry(delivery.id.clone()).or_insert(0);
            *times += 1;
            let is_last = *times > failures;
            let report = if is_last { last() } else { long_failure() };
            worker.report_one(raw::report(&delivery, report)).await;
            ended += usize::from(is_last);
        }
    }
}

fn fatal() -> task_report::Report {
    let task_report::Report::Fail(fail) = long_failure() else { unreachable!("it is a failure") };
    task_report::Report::Fail(wire::Fail { r#final: true, ..fail })
}

#[tokio::test]
async fn tasks_with_long_errors_are_read_by_every_call() {
    const TASKS: usize = 110;
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 8).await;
    let ids = ids("dead", TASKS);
    worker.submit(ids.iter().map(|id| stubborn(id)).collect()).await;
    fail_all(&mut worker, TASKS, 4, fatal).await;

    let client = broker.client().await;
    let is_whole = |task: &celeriac_client::TaskInfo| {
        task.state == State::Failure
            && task.errors.len() == 5
            && task.errors[4].traceback.len() == ERROR_TEXT_BYTES_MAX
    };
    let named = |tasks: &[celeriac_client::TaskInfo]| {
        tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>()
    };
    let info = client.info(&ids).await.expect("answered");
    assert!(named(&info) == ids && info.iter().all(is_whole), "info");
    let waited = client.wait(&ids, WaitMode::All, PATIENCE).await.expect("answered");
    assert!(
        waited.satisfied && named(&waited.tasks) == ids && waited.tasks.iter().all(is_whole),
        "wait"
    );
    let mut watch = client.watch(&ids).await.expect("answered");
    let mut watched = Vec::new();
    while watched.len() < TASKS {
        watched.push(within("a state", watch.next()).await.expect("the watch goes on"));
    }
    watched.sort_by_key(|task| ids.iter().position(|id| *id == task.id));
    assert!(named(&watched) == ids && watched.iter().all(is_whole), "watch");

    let page = client.tasks(TaskFilter::new(), 1_000, None).await.expect("answered");
    assert!(
        page.cursor.is_none() && page.tasks.len() == TASKS,
        "one page is enough without tracebacks"
    );
    assert!(
        page.tasks.iter().all(|task| task.errors.len() == 5 && task.errors[0].traceback.is_empty())
    );
    let (mut listed, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page =
            client.tasks_with_tracebacks(TaskFilter::new(), 1_000, cursor).await.expect("answered");
        listed.extend(page.tasks);
        (cursor, pages) = (page.cursor, pages + 1);
        if cursor.is_none() {
            break;
        }
    }
    assert!(pages > 1 && listed.len() == TASKS && listed.iter().all(is_whole), "{pages} pages");
}

#[tokio::test]
async fn many_large_results_are_had_by_one_get_and_by_one_wait() {
    const TASKS: usize = 20;
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 8).await;
    let ids = ids("large", TASKS);
    worker.submit(ids.iter().map(|id| raw::task(id, "n")).collect()).await;
    fail_all(&mut worker, TASKS, 0, || raw::complete(&vec![b'1'; RESULT_BYTES_MAX])).await;

    let get = wire::Get { ids: ids.clone(), with_results: true, ..Default::default() };
    let Ok(Answer::GetReply(reply)) = worker.request(Request::Get(get)).await else {
        panic!("no GetReply")
    };
    assert!(reply.tasks.len() >= 14, "{} fit", reply.tasks.len());
    let places: Vec<u32> = (reply.tasks.len() as u32..TASKS as u32).collect();
    let answered: Vec<_> = reply.tasks.iter().map(|task| task.id.as_str()).collect();
    let is_out = |place: u32| reply.left_out.contains(&place);
    let kept: Vec<_> = (0..TASKS as u32)
        .filter(|place| !is_out(*place))
        .map(|place| &*ids[place as usize])
        .collect();
    assert_eq!((answered, reply.left_out.len()), (kept, places.len()));
    let wait = wire::Wait { ids: ids.clone(), mode: 0, until: 0, with_results: true };
    let Ok(Answer::WaitReply(reply)) = worker.request(Request::Wait(wait)).await else {
        panic!("no WaitReply")
    };
    assert!(
        reply.satisfied
            && reply.tasks.len() >= 14
            && reply.tasks.len() + reply.left_out.len() == TASKS
    );

    let client = broker.client().await;
    let tasks = client.info_with_results(&ids).await.expect("answered");
    assert!(tasks.iter().map(|task| &task.id).eq(&ids));
    assert!(tasks.iter().all(|task| task.result.len() == RESULT_BYTES_MAX));
    let mut watch = client.watch_with_results(&ids).await.expect("answered");
    for _ in 0..TASKS {
        let task = within("a state", watch.next()).await.expect("the watch goes on");
        assert!(task.result.len() == RESULT_BYTES_MAX);
    }
}

#[tokio::test]
async fn a_wait_answers_the_task_that_is_kept_for_no_time_before_the_others() {
    const TASKS: usize = 20;
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let ids = ids("large", TASKS);
    worker.submit(ids[..TASKS - 1].iter().map(|id| raw::task(id, "n")).collect()).await;
    let large = || raw::complete(&vec![b'1'; RESULT_BYTES_MAX]);
    fail_all(&mut worker, TASKS - 1, 0, large).await;
    worker
        .submit_one(wire::Task { result_ttl_ms: Some(0), ..raw::task(&ids[TASKS - 1], "n") })
        .await;
    let delivery = worker.delivery().await;
    let wait = wire::Wait { ids: ids.clone(), mode: 0, until: 0, with_results: true };
    let waiting = worker.send(Request::Wait(wait), 15_000).await.expect("it is read");
    worker.report_one(raw::report(&delivery, large())).await;
    let Ok(Answer::WaitReply(reply)) = within("the answer", worker.answer(waiting)).await else {
        panic!("no reply")
    };
    let last = reply.tasks.last().expect("some fit");
    assert!(reply.satisfied && !reply.left_out.is_empty());
    assert_eq!(
        (&last.id, last.state(), last.result.len()),
        (&ids[TASKS - 1], TaskState::Success, RESULT_BYTES_MAX)
    );
    assert_eq!(worker.info(&ids[TASKS - 1]).await.state(), TaskState::Unknown);
}

#[tokio::test]
async fn a_wait_for_all_shows_the_ends_of_tasks_that_are_gone_when_the_last_one_ends() {
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 9).await;
    let ids: Vec<String> = ["kept", "gone", "short", "last"].map(String::from).into();
    let ttl = |id: &str, ms| wire::Task { result_ttl_ms: Some(ms), ..raw::task(id, "n") };
    worker
        .submit(vec![
            raw::task("kept", "n"),
            ttl("gone", 0),
            ttl("short", 50),
            raw::task("last", "n"),
        ])
        .await;
    let deliveries = worker.deliveries(4).await;
    let wait = wire::Wait { ids: ids.clone(), mode: 0, until: 0, with_results: true };
    let waiting = worker.send(Request::Wait(wait), 15_000).await.expect("it is read");
    for (place, delivery) in deliveries.iter().enumerate().take(3) {
        worker.report_one(raw::report(delivery, raw::complete(place.to_string().as_bytes()))).await;
    }
    let mut reader = RawConnection::open(broker.address()).await;
    while reader.info("short").await.state() != TaskState::Unknown {}
    worker.report_one(raw::report(&deliveries[3], raw::complete(b"3"))).await;
    let Ok(Answer::WaitReply(reply)) = within("the answer", worker.answer(waiting)).await else {
        panic!("no reply")
    };
    assert!(reply.satisfied);
    for (place, task) in reply.tasks.iter().enumerate() {
        let shown = (&task.id, task.state(), &task.result[..]);
        assert_eq!(shown, (&ids[place], TaskState::Success, place.to_string().as_bytes()));
    }
    assert_eq!(worker.info("gone").await.state(), TaskState::Unknown);
}

#[tokio::test]
async fn ends_that_find_no_room_in_the_answer_of_their_wait_are_shown_without_their_results() {
    const TASKS: usize = 20;
    let broker = BrokerProcess::start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    let ids = ids("gone", TASKS);
    let forgotten = |id: &String| wire::Task { result_ttl_ms: Some(0), ..raw::task(id, "n") };
    worker.submit(ids.iter().map(forgotten).collect()).await;
    // Each id twice: that takes no room from the other ids.
    let asked = [ids.clone(), ids.clone()].concat();
    let wait = wire::Wait { ids: asked, mode: 0, until: 0, with_results: true };
    let waiting = worker.send(Request::Wait(wait), 60_000).await.expect("it is read");
    fail_all(&mut worker, TASKS, 0, || raw::complete(&vec![b'1'; RESULT_BYTES_MAX])).await;
    let Ok(Answer::WaitReply(reply)) = within("the answer", worker.answer(waiting)).await else {
        panic!("no reply")
    };
    // Only the second occurrence of an id may be left out.
    assert!(
        reply.satisfied && reply.left_out.iter().all(|place| *place as usize >= TASKS),
        "{:?}",
        reply.left_out
    );
    assert_eq!(reply.tasks.iter().take(TASKS).map(|task| task.id.clone()).collect::<Vec<_>>(), ids);
    assert!(reply.tasks.iter().all(|task| task.state() == TaskState::Success));
    let whole = reply.tasks.iter().filter(|task| task.result.len() == RESULT_BYTES_MAX).count();
    assert!((TASKS / 2..TASKS).contains(&whole), "{whole} results came");
}

/// A task with every field as large as allowed.
fn largest(id: &str) -> wire::Task {
    let headers = [("h".to_owned(), vec![b'h'; HEADERS_BYTES_MAX - 1].into())];
    let tags = (0..TAGS_MAX).map(|_| "t".repeat(255)).collect();
    wire::Task { headers: headers.into(), tags, shadow: "s".repeat(255), ..stubborn(id) }
}

#[tokio::test]
async fn the_largest_result_is_read_where_everything_else_is_as_large_as_it_may_be() {
    // The largest value with which the broker starts.
    let most = 16 * MIB - 520 * 1024;
    let setup =
        Setup::new().set(format!("result_bytes_max = {most}")).set("payload_bytes_max = 1024");
    let broker = setup.start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(largest("task")).await;
    for _ in 0..5 {
        let delivery = worker.delivery().await;
        let meta = vec![b'p'; PROGRESS_BYTES_MAX].into();
        let progress =
            task_report::Report::Progress(wire::ProgressReport { state: "p".repeat(255), meta });
        worker.report_one(raw::report(&delivery, progress)).await;
        worker.report_one(raw::report(&delivery, long_failure())).await;
    }
    let delivery = worker.delivery().await;
    // The report must fit into a frame too, and it does.
    let outcome = worker.report_one(raw::report(&delivery, raw::complete(&vec![b'1'; most]))).await;
    assert_eq!(outcome.state(), TaskState::Success);
    let info = worker.info("task").await;
    assert_eq!((info.result.len(), info.errors.len()), (most, 5));
    let handle = broker.client().await.result::<serde::de::IgnoredAny>("task");
    assert_eq!(handle.wait(PATIENCE).await.expect("answered").result.len(), most);
}

#[tokio::test]
async fn what_was_accepted_under_larger_limits_is_delivered_and_read_under_smaller_ones() {
    let data = tempfile::tempdir().expect("a folder");
    let mut broker = Setup::new().data(data.path()).set("result_bytes_max = 8000000").start().await;
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 1).await;
    worker.submit_one(raw::task("result", "n")).await;
    let delivery = worker.delivery().await;
    worker.report_one(raw::report(&delivery, raw::complete(&vec![b'1'; 8_000_000]))).await;
    worker.credit(0).await;
    worker
        .submit_one(wire::Task { payload: vec![b'1'; 7 * MIB].into(), ..raw::task("payload", "n") })
        .await;
    broker.stop().await;

    let small =
        ["frame_bytes_max = 1048576", "payload_bytes_max = 1000", "result_bytes_max = 1000"];
    let broker = small.into_iter().fold(Setup::new().data(data.path()), Setup::set).start().await;
    let (mut worker, welcome) =
        RawConnection::greeted(broker.address(), raw::worker_hello(&["default"], &["n"])).await;
    let limits = welcome.limits.expect("it names its limits");
    assert!(limits.frame_bytes_max > 8_000_000 && limits.payload_bytes_max == 1_000, "{limits:?}");
    assert!(broker.stderr().contains("larger than the limits of today"), "{}", broker.stderr());
    assert_eq!(worker.info("result").await.result.len(), 8_000_000);
    worker.credit(1).await;
    assert_eq!(worker.delivery().await.payload.len(), 7 * MIB);
    let tasks = broker.client().await.info_with_results(&["result"]).await.expect("answered");
    assert_eq!(tasks[0].result.len(), 8_000_000);
    // New tasks follow the present limits.
    let refused = worker
        .submit_one(wire::Task { payload: vec![b'1'; 1_001].into(), ..raw::task("new", "n") })
        .await;
    assert_eq!(refused.error.expect("it is refused").code(), wire::ErrorCode::PayloadTooLarge);
}

#[tokio::test]
async fn deliveries_are_spread_over_frames_by_all_that_is_in_them() {
    let broker = BrokerProcess::start().await;
    let mut producer = RawConnection::open(broker.address()).await;
    for part in ids("headers", 300).chunks(100) {
        let headers: BTreeMap<_, _> = [("h".to_owned(), vec![b'h'; 65_000].into())].into();
        producer
            .submit(
                part.iter()
                    .map(|id| wire::Task { headers: headers.clone(), ..raw::task(id, "n") })
                    .collect(),
            )
            .await;
    }
    for part in ids("tags", 3_000).chunks(1_000) {
        let tags: Vec<_> = (0..TAGS_MAX).map(|_| "t".repeat(255)).collect();
        producer
            .submit(
                part.iter()
                    .map(|id| wire::Task { tags: tags.clone(), ..raw::task(id, "n") })
                    .collect(),
            )
            .await;
    }
    let mut worker = RawConnection::worker(broker.address(), &["default"], &["n"], 3_300).await;
    assert_eq!(worker.deliveries(3_300).await.len(), 3_300);
}

#[tokio::test]
async fn workers_that_hold_large_tasks_are_listed_page_by_page() {
    const WORKERS: usize = 3;
    let broker = BrokerProcess::start().await;
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let queue = format!("queue-{number}");
        let mut worker = RawConnection::worker(broker.address(), &[&queue], &["n"], 120).await;
        for part in ids(&queue, 120).chunks(60) {
            let task = |id: &String| wire::Task { queue: queue.clone(), ..largest(id) };
            worker.submit(part.iter().map(task).collect()).await;
        }
        worker.deliveries(120).await;
        workers.push(worker);
    }
    let Ok(Answer::WorkerList(page)) =
        workers[0].request(Request::ListWorkers(wire::ListWorkers::default())).await
    else {
        panic!("no WorkerList")
    };
    assert!(
        page.workers.len() < WORKERS && !page.cursor.is_empty(),
        "{} on one page",
        page.workers.len()
    );
    let listed = broker.client().await.workers().await.expect("answered");
    assert_eq!(listed.len(), WORKERS);
    for worker in listed {
        assert_eq!(
            (worker.running.len(), worker.running_left_out),
            (100, 20),
            "{}",
            worker.instance_id
        );
    }
}

#[tokio::test]
async fn queues_with_long_names_are_listed_page_by_page() {
    const QUEUES: usize = 45_000;
    let broker = BrokerProcess::start().await;
    let mut connection = RawConnection::open(broker.address()).await;
    let names: Vec<String> = (0..QUEUES).map(|number| format!("{number:0>255}")).collect();
    for part in names.chunks(9_000) {
        connection
            .request(Request::PauseQueues(wire::PauseQueues {
                queues: part.to_vec(),
                paused: true,
            }))
            .await
            .expect("paused");
    }
    let listed = broker.client().await.queues().await.expect("answered");
    let ours = listed.into_iter().map(|queue| queue.name).filter(|name| name.len() == 255);
    assert!(ours.eq(names), "all of them, in order, once");
}

/// All commits wait while the broker builds an answer. It reads what it shows, and not what was
/// submitted.
#[tokio::test]
async fn very_many_ids_of_tasks_with_large_payloads_are_asked_for_at_once() {
    const TIMES: usize = 3_000;
    let broker = BrokerProcess::start().await;
    let mut producer = RawConnection::open(broker.address()).await;
    let task = wire::Task { payload: vec![b'x'; 7 * MIB].into(), ..raw::task("large", "n") };
    producer.submit_one(task).await;
    let get =
        wire::Get { ids: vec!["large".into(); TIMES], with_results: false, ..Default::default() };
    let Ok(Answer::GetReply(answer)) =
        within("the answer", producer.request(Request::Get(get))).await
    else {
        panic!("a Get is answered with tasks")
    };
    assert_eq!(answer.tasks.len() + answer.left_out.len(), TIMES);
    assert!(answer.tasks.iter().all(|task| task.state() == TaskState::Queued));
}
