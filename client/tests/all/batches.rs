//! Submits: batches, an outcome for each item, and each task once over a broken connection.

use std::time::{Duration, SystemTime};

use celeriac_client::{
    Client, Error, ErrorCode, OnConflict, State, Submission, SubmitKind, Task, TaskOptions,
};
use celeriac_proto::wire::{self, TaskState, submit_outcome};
use serde_json::{Value, json};

use crate::broker::{FakeBroker, SOON, error, info, submit_reply};

const ADD: Task<(u32, u32), u32> = Task::new("sums.add").queue("sums");

fn refused(code: ErrorCode) -> wire::SubmitOutcome {
    wire::SubmitOutcome {
        kind: submit_outcome::Kind::Refused.into(),
        error: Some(error(code)),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_call_becomes_a_task_with_the_definitions_defaults_and_the_callers_options() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let call = client.apply_async(&ADD, (1, 2)).task_id("sum").shadow("1 + 2").priority(9);
    let (handle, task) = tokio::join!(call.send(), async {
        let (id, mut tasks) = peer.receive_submit().await;
        peer.accept_submit(id, 1).await;
        tasks.remove(0)
    });
    let handle = handle.expect("accepted");
    assert_eq!(
        (handle.id(), handle.outcome(), handle.generation()),
        ("sum", Some(SubmitKind::Created), Some(1))
    );
    assert_eq!(
        (task.name.as_str(), task.queue.as_str(), task.shadow.as_str()),
        ("sums.add", "sums", "1 + 2")
    );
    assert_eq!((task.priority, &task.payload[..]), (Some(9), &b"[[1,2],{}]"[..]));
}

#[tokio::test]
async fn one_argument_that_is_no_tuple_is_an_encode_error() {
    let broker = FakeBroker::bind().await;
    let (client, _peer) = broker.client().await;
    let error =
        client.delay(&Task::<String, ()>::new("a"), "x".to_owned()).await.expect_err("not a tuple");
    assert!(matches!(error, Error::Encode(_)), "{error}");
}

/// Borrowed texts and numbers without a type are accepted as the arguments of the task.
#[tokio::test]
async fn values_become_the_arguments_that_the_task_takes() {
    type Args = (String, u32, Option<f64>, Vec<String>, String);
    const TASK: Task<Args, ()> = Task::new("a");
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let (title, tags) = ("Dynamite".to_owned(), ["a", "b"]);
    let tags: Vec<_> = tags.into_iter().map(str::to_owned).collect();
    let calls = [
        (
            client.apply_async(&TASK, (&title, 1, Some(0.5), tags, "x")),
            r#"["Dynamite",1,0.5,["a","b"],"x"]"#,
        ),
        (
            client.apply_async(&TASK, (&*title, 0, None, vec![], title.clone())),
            r#"["Dynamite",0,null,[],"Dynamite"]"#,
        ),
        (client.apply_async(&Task::new("a"), ()), "[]"),
        (client.apply_async(&Task::<Vec<u8>, ()>::new("a"), vec![1, 2]), "[1,2]"),
        (client.apply_async(&Task::<[u8; 2], ()>::new("a"), [1, 2]), "[1,2]"),
        (client.apply_async(&Task::<Value, ()>::new("a"), json!([1, "x"])), r#"[1,"x"]"#),
    ];
    for (call, written) in calls {
        let (handle, task) = tokio::join!(call.send(), async {
            let (id, mut tasks) = peer.receive_submit().await;
            peer.accept_submit(id, 1).await;
            tasks.remove(0)
        });
        handle.expect("accepted");
        assert_eq!(String::from_utf8_lossy(&task.payload), format!("[{written},{{}}]"));
    }
}

#[tokio::test]
async fn the_expiry_of_a_definition_begins_when_the_task_is_due() {
    const SPAN: Duration = Duration::from_secs(10);
    let mut options = TaskOptions::new();
    options.expires_in = Some(SPAN);
    let soon = Task::<(), ()>::new("a").options(options);
    let (broker, later) =
        (FakeBroker::bind().await, SystemTime::now() + Duration::from_secs(3_600));
    let (client, mut peer) = broker.client().await;
    let call = || client.apply_async(&soon, ());
    let in_ms = |span: u64| (None, Some(span));
    let at_ms = later.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis()
        as i64
        + 10_000;
    for (call, expected) in [
        (call(), in_ms(10_000)),
        (call().countdown(Duration::from_secs(20)), in_ms(30_000)),
        (
            call().countdown(Duration::from_secs(20)).expires_in(Duration::from_secs(1)),
            in_ms(1_000),
        ),
        (call().countdown(Duration::MAX), in_ms(celeriac_proto::limits::SPAN_MS_MAX)),
        (call().eta(later), (Some(at_ms), None)),
    ] {
        let (_, tasks) = tokio::join!(call.send(), async {
            let (id, tasks) = peer.receive_submit().await;
            peer.accept_submit(id, 1).await;
            tasks
        });
        assert_eq!((tasks[0].expires_at_ms, tasks[0].expires_in_ms), expected);
    }
}

#[tokio::test]
async fn one_bad_item_does_not_spoil_the_others() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let list =
        [Submission::new("a").task_id("1"), Submission::new(""), Submission::new("a").task_id("3")];
    let (outcomes, ()) = tokio::join!(client.submit_many(list), async {
        let (id, tasks) = peer.receive_submit().await;
        assert_eq!(tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["1", "3"]);
        let joined = wire::SubmitOutcome {
            kind: submit_outcome::Kind::Joined.into(),
            generation: 2,
            state: TaskState::Started.into(),
            ..wire::SubmitOutcome::default()
        };
        peer.answer(id, submit_reply(vec![refused(ErrorCode::QueueFull), joined])).await;
    });
    let outcomes = outcomes.expect("answered");
    assert_eq!(outcomes[0].as_ref().expect_err("full").code, ErrorCode::QueueFull);
    assert_eq!(outcomes[1].as_ref().expect_err("no name").code, ErrorCode::InvalidArgument);
    let third = outcomes[2].as_ref().expect("joined");
    assert_eq!(
        (third.kind, third.generation, third.state),
        (SubmitKind::Joined, 2, State::Started)
    );
}

#[tokio::test]
async fn a_list_over_the_limit_is_sent_in_several_requests_at_once_and_in_order() {
    let mut broker = FakeBroker::bind().await;
    broker.limits.batch_items_max = 3;
    let (client, mut peer) = broker.client().await;
    let list = (0..7).map(|n| Submission::new("a").task_id(n.to_string()));
    let (outcomes, ()) = tokio::join!(client.submit_many(list), async {
        let mut requests = Vec::new();
        for _ in 0..3 {
            requests.push(peer.receive_submit().await);
        }
        let order: Vec<_> = requests
            .iter()
            .flat_map(|(_, tasks)| tasks.iter().map(|task| task.id.clone()))
            .collect();
        assert_eq!(order, ["0", "1", "2", "3", "4", "5", "6"]);
        for (id, tasks) in requests.into_iter().rev() {
            peer.accept_submit(id, tasks.len()).await;
        }
    });
    let ids: Vec<_> = outcomes
        .expect("answered")
        .into_iter()
        .map(|outcome| outcome.expect("accepted").id)
        .collect();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn a_payload_over_the_brokers_limit_is_not_sent() {
    let mut broker = FakeBroker::bind().await;
    broker.limits.payload_bytes_max = 10;
    let (client, _peer) = broker.client().await;
    let large = Submission::new("a").payload(vec![0; 11], "application/octet-stream");
    let error = client.submit::<()>(large).await.expect_err("too large");
    assert!(matches!(error, Error::Refused { code: ErrorCode::PayloadTooLarge, .. }), "{error}");
}

#[tokio::test]
async fn a_request_over_the_brokers_frame_is_not_sent() {
    let mut broker = FakeBroker::bind().await;
    broker.limits.frame_bytes_max = 1_000;
    let (client, _peer) = broker.client().await;
    let ids = vec!["i".repeat(200); 10];
    let error = client.info(&ids).await.expect_err("too large");
    assert!(matches!(error, Error::Refused { code: ErrorCode::FrameTooLarge, .. }), "{error}");
}

#[tokio::test]
async fn a_submit_that_was_accepted_before_the_connection_broke_is_not_run_again() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let (handle, ()) = tokio::join!(client.submit::<()>(Submission::new("a")), async {
        let (_, first) = peer.receive_submit().await;
        assert_eq!(first[0].on_conflict(), wire::OnConflict::RunAgainIfFinished);
        drop(peer);
        let mut again = broker.welcome().await;
        let (id, second) = again.receive_submit().await;
        assert_eq!(second[0].id, first[0].id);
        assert_eq!(second[0].on_conflict(), wire::OnConflict::Reject);
        again.answer(id, submit_reply(vec![refused(ErrorCode::TaskExists)])).await;
        again.answer_get(vec![info(&first[0].id, TaskState::Success, 4)]).await;
    });
    let handle = handle.expect("the first copy counts");
    assert_eq!((handle.outcome(), handle.generation()), (Some(SubmitKind::Created), Some(1)));
}

#[tokio::test]
async fn of_a_chosen_id_the_broker_is_asked_before_the_submit_is_repeated() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let list = ["ended", "waiting", "earlier"].map(|id| Submission::new("a").task_id(id));
    let (outcomes, ()) = tokio::join!(client.submit_many(list), async {
        peer.receive_submit().await;
        drop(peer);
        let mut again = broker.welcome().await;
        // The broker's clock stands at 1,000,000 in its Welcome.
        let at = |id, state, submitted_at_ms, finished_at_ms| wire::TaskInfo {
            submitted_at_ms,
            finished_at_ms,
            ..info(id, state, 4)
        };
        let present = vec![
            at("ended", TaskState::Success, 2_000_000, Some(2_000_001)),
            at("waiting", TaskState::Queued, 900_000, None),
            at("earlier", TaskState::Success, 900_000, Some(950_000)),
        ];
        assert_eq!(again.answer_get(present).await, ["ended", "waiting", "earlier"]);
        let (id, tasks) = again.receive_submit().await;
        assert_eq!(
            tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(),
            ["waiting", "earlier"]
        );
        let outcome = |kind: submit_outcome::Kind, generation| wire::SubmitOutcome {
            kind: kind.into(),
            generation,
            state: TaskState::Queued.into(),
            ..wire::SubmitOutcome::default()
        };
        let outcomes = vec![
            outcome(submit_outcome::Kind::Joined, 1),
            outcome(submit_outcome::Kind::NewGeneration, 2),
        ];
        again.answer(id, submit_reply(outcomes)).await;
    });
    let outcomes =
        outcomes.expect("answered").into_iter().map(|outcome| outcome.expect("accepted"));
    let kinds: Vec<_> = outcomes.map(|outcome| (outcome.id, outcome.kind)).collect();
    let expected = [SubmitKind::Created, SubmitKind::Joined, SubmitKind::NewGeneration];
    assert_eq!(
        kinds,
        ["ended", "waiting", "earlier"]
            .map(str::to_owned)
            .into_iter()
            .zip(expected)
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_refusal_by_policy_is_passed_on() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let once = Submission::new("a").task_id("x").on_conflict(OnConflict::Reject);
    let (handle, ()) = tokio::join!(client.submit::<()>(once), async {
        let (id, _) = peer.receive_submit().await;
        peer.answer(id, submit_reply(vec![refused(ErrorCode::TaskExists)])).await;
    });
    assert!(matches!(handle, Err(Error::Refused { code: ErrorCode::TaskExists, .. })));
}

#[tokio::test]
async fn a_broker_that_answers_fewer_outcomes_than_tasks_breaks_the_protocol() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let (outcomes, ()) =
        tokio::join!(client.submit_many([Submission::new("a"), Submission::new("a")]), async {
            let (id, _) = peer.receive_submit().await;
            peer.accept_submit(id, 1).await;
        });
    assert!(matches!(outcomes, Err(Error::Protocol(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_submits_at_once_are_all_answered() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client_of(Client::builder(broker.url()).timeout(SOON)).await;
    let answering = tokio::spawn(async move {
        while let Some((id, body)) = peer.next().await {
            let celeriac_proto::wire::client_frame::Body::Submit(submit) = body else { break };
            peer.accept_submit(id, submit.tasks.len()).await;
        }
    });
    let mut submits = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let client = client.clone();
        submits.spawn(async move { client.submit::<()>(Submission::new("a")).await });
    }
    while let Some(handle) = submits.join_next().await {
        handle.expect("no panic").expect("accepted");
    }
    client.close().await;
    answering.await.expect("no panic");
}
