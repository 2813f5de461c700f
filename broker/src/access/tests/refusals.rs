//! What is refused, what the client hears of it, and the line in the audit log.

use super::*;

fn limited(name: &str, roles: &str, queues: &str) -> Pass {
    pass(name, &format!("roles = {roles}\nqueues = {queues}\nnames = [\"*\"]"))
}

fn queue_settings(tasks_max: u64) -> Option<wire::QueueSettings> {
    Some(wire::QueueSettings { tasks_max: Some(tasks_max), ..Default::default() })
}

fn declare(queue: &str, tasks_max: u64) -> Ask {
    let settings = queue_settings(tasks_max);
    Ask::DeclareQueue(wire::DeclareQueue {
        queue: queue.to_owned(),
        settings,
        ..Default::default()
    })
}

#[tokio::test]
async fn o2_settings_of_a_queue_that_exists_are_taken_from_an_operator_alone() {
    let producer = limited("producer", "[\"producer\", \"worker\"]", "[\"*\"]");
    let operator = limited("operator", "[\"operator\"]", "[\"*\"]");
    let some_names = pass(
        "some-names",
        "roles = [\"operator\", \"producer\"]\nqueues = [\"*\"]\nnames = [\"t*\"]",
    );
    let served = Served::with(&[&producer, &operator, &some_names]).await;
    let (mut asks, mut may) = (served.call(&producer).await, served.call(&operator).await);
    let (created, full) = (ErrorCode::Unspecified, ErrorCode::QueueFull);
    assert_eq!(asks.submit(&[("a", "raw", "t")]).await, [created]);
    assert!(matches!(asks.ask(declare("raw", 1)).await, Answer::DeclareQueueReply(_)));
    served.call(&some_names).await.ask(declare("raw", 1)).await;
    assert_eq!(asks.submit(&[("b", "raw", "t")]).await, [created]);
    // A new queue takes them, and so does one that nobody has configured when an operator asks.
    asks.ask(declare("new", 1)).await;
    assert_eq!(asks.submit(&[("c", "new", "t"), ("d", "new", "t")]).await, [created, full]);
    assert_eq!(asks.submit(&[("e", "plain", "t")]).await, [created]);
    may.ask(declare("plain", 1)).await;
    assert_eq!(asks.submit(&[("f", "plain", "t")]).await, [full]);
    // Each declare with settings has a line, and one without them has none.
    let declare = wire::DeclareQueue { queue: "bare".to_owned(), ..Default::default() };
    asks.ask(Ask::DeclareQueue(declare)).await;
    let lines = served.all_audit_lines().await;
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, (entry, queue)) in lines.iter().zip([
        ("producer", "raw"),
        ("some-names", "raw"),
        ("producer", "new"),
        ("operator", "plain"),
    ]) {
        let begin = format!("\"entry\":\"{entry}\"");
        let end = format!(
            "\"action\":\"declare_queue\",\"outcome\":\"allowed\",\"queues\":[\"{queue}\"],\
             \"detail\":\"tasks_max 1\"}}"
        );
        assert!(line.contains(&begin) && line.ends_with(&end), "{line}");
    }
}

#[tokio::test]
async fn o12_what_a_producer_declares_takes_a_bounded_part_of_the_audit_log() {
    let producer = limited("producer", "[\"producer\"]", "[\"*\"]");
    let served = Served::with(&[&producer]).await;
    let mut caller = served.call(&producer).await;
    for _ in 0..300 {
        caller.ask(declare("q", 1)).await;
    }
    let lines = served.all_audit_lines().await.len();
    assert!((10..200).contains(&lines), "{lines}");
}

#[tokio::test]
async fn o1_a_request_with_the_id_0_is_answered_as_without_an_access_file() {
    let all = pass("all", EVERYTHING);
    let served = Served::with(&[&all]).await;
    let mut caller = served.call(&all).await;
    for ask in [
        Ask::Info(wire::Info {}),
        Ask::Submit(wire::Submit { tasks: vec![wire::Task::default()] }),
        Ask::Hello(Hello::default()),
        Ask::Publish(wire::Publish { routing_key: "x".repeat(999), ..Default::default() }),
    ] {
        caller.send(0, ask.clone()).await;
        let mut frame = caller.next().await.expect("the broker answers");
        // A client whose request waits is told that the broker lives.
        while matches!(frame.body, Some(Answer::HeartbeatReply(_))) {
            frame = caller.next().await.expect("the broker answers");
        }
        assert_eq!(frame.request_id, 0);
        assert!(matches!(frame.body, Some(Answer::Error(_))), "{ask:?}: {frame:?}");
    }
    assert!(served.all_audit_lines().await.is_empty(), "none of them is a matter of access");
}

#[tokio::test]
async fn o12_what_the_machine_refuses_has_its_line() {
    let all = pass("all", EVERYTHING);
    let own = limited("own", "[\"producer\"]", "[\"own\", \"own.*\"]");
    let served = Served::with(&[&all, &own]).await;
    let (mut admin, mut caller) = (served.call(&all).await, served.call(&own).await);
    caller.submit(&[("mine", "own", "t")]).await;
    let outcome =
        |id: String| wire::TaskOutcome { id, state: "SUCCESS".to_owned(), ..Default::default() };
    let ids = ["mine".to_owned()].into_iter().chain((0..12).map(|number| format!("id-{number}")));
    let outcomes = ids.map(outcome).collect();
    caller.ask(Ask::PutOutcome(wire::PutOutcome { outcomes })).await;
    let (exchange, kind) = ("own.exchange".to_owned(), wire::ExchangeType::Direct.into());
    let name = exchange.clone();
    let declare = wire::DeclareExchange { exchange: name, r#type: kind, ..Default::default() };
    admin.ask(Ask::DeclareExchange(declare)).await;
    let to = wire::Destination { queue: "foreign".to_owned(), ..Default::default() };
    let (name, routing_key) = (exchange.clone(), "k".to_owned());
    let bind = wire::Bind { exchange: name, routing_key, destination: Some(to) };
    admin.ask(Ask::Bind(bind)).await;
    let delete = wire::DeleteExchange { exchange, ..Default::default() };
    let answer = caller.ask(Ask::DeleteExchange(delete)).await;
    assert_eq!(code_of(&answer), ErrorCode::Forbidden, "{answer:?}");
    let mailbox = "own.mail".to_owned();
    let exclusive =
        wire::DeclareMailbox { mailbox: mailbox.clone(), exclusive: true, ..Default::default() };
    admin.ask(Ask::DeclareMailbox(exclusive)).await;
    let answer = caller.ask(Ask::FetchMail(wire::FetchMail { mailbox })).await;
    assert_eq!(code_of(&answer), ErrorCode::Forbidden, "{answer:?}");
    let lines = served.all_audit_lines().await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, (begin, end)) in lines.iter().zip([
        ("\"put_outcome\",\"outcome\":\"forbidden\",\"ids\":[\"id-0\",", "\"id-9\"],\"count\":12}"),
        ("\"delete_exchange\",\"outcome\":\"forbidden\"", "\"queues\":[\"own.exchange\"]}"),
        ("\"use_mailbox\",\"outcome\":\"forbidden\"", "\"queues\":[\"own.mail\"]}"),
    ]) {
        assert!(line.contains("\"entry\":\"own\",\"peer\":\"127.0.0.1:7\""), "{line}");
        assert!(line.contains(&format!("\"action\":{begin}")) && line.ends_with(end), "{line}");
    }
}

#[tokio::test]
async fn o12_a_submit_that_is_refused_as_a_whole_has_one_line_and_one_in_part_two() {
    let own = limited("own", "[\"producer\"]", "[\"own\"]");
    let served = Served::with_config(&[&own], |config| config.audit = AuditWhat::All).await;
    let mut caller = served.call(&own).await;
    caller.submit(&[("a", "foreign", "t"), ("b", "foreign", "t")]).await;
    caller.submit(&[("c", "foreign", "t"), ("d", "own", "t")]).await;
    let lines = served.all_audit_lines().await;
    let ends = [
        "\"outcome\":\"forbidden\",\"queues\":[\"foreign\"],\"ids\":[\"a\",\"b\"],\"count\":2}",
        "\"outcome\":\"forbidden\",\"queues\":[\"foreign\"],\"ids\":[\"c\"],\"count\":1}",
        "\"outcome\":\"allowed\",\"queues\":[\"own\"],\"ids\":[\"d\"],\"count\":1}",
    ];
    assert_eq!(lines.len(), ends.len(), "{lines:?}");
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
}

#[tokio::test]
async fn o12_a_line_says_what_was_asked_for() {
    let all = pass("all", EVERYTHING);
    let worker = pass("worker", "roles = [\"worker\"]\nqueues = [\"own\"]\nnames = [\"a\"]");
    let served =
        Served::with_config(&[&all, &worker], |config| config.audit = AuditWhat::All).await;
    let mut caller = served.call(&all).await;
    let (order, settings) = (wire::order::Kind::Quiet.into(), queue_settings(7));
    let filter = wire::TaskFilter { tag: "night".to_owned(), ..Default::default() };
    for ask in [
        Ask::OrderWorkers(wire::OrderWorkers { order, ..Default::default() }),
        Ask::Cancel(wire::Cancel { tag: "night".to_owned(), ..Default::default() }),
        Ask::Cancel(wire::Cancel { root_id: "r".to_owned(), ..Default::default() }),
        Ask::DiscardDead(wire::DiscardDead { filter: Some(filter), ..Default::default() }),
        Ask::LogFilter(wire::LogFilter { filter: Some("debug".to_owned()) }),
        Ask::ConfigureQueue(wire::ConfigureQueue { queue: "q".to_owned(), settings }),
    ] {
        caller.ask(ask).await;
    }
    served.work(&worker, &["own", "other"], "a").await.err().expect("it may not");
    let lines = served.all_audit_lines().await;
    let expected = [
        "\"order_workers\",\"outcome\":\"allowed\",\"detail\":\"quiet\"}",
        "\"cancel\",\"outcome\":\"allowed\",\"detail\":\"tag night\"}",
        "\"cancel\",\"outcome\":\"allowed\",\"detail\":\"root r\"}",
        "\"discard_dead\",\"outcome\":\"allowed\",\"detail\":\"tag night\"}",
        "\"change_log_filter\",\"outcome\":\"allowed\",\"detail\":\"debug\"}",
        "\"configure_queue\",\"outcome\":\"allowed\",\"queues\":[\"q\"],\"detail\":\"tasks_max 7\"}",
        "\"connect_worker\",\"outcome\":\"forbidden\",\"queues\":[\"own\",\"other\"],\
         \"detail\":\"name a\"}",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, end) in lines.iter().zip(expected) {
        assert!(line.ends_with(end), "{line}");
    }
}

#[tokio::test]
async fn o8_a_producer_may_look_for_the_tasks_of_a_tree_and_sees_those_of_its_scope() {
    let all = pass("all", EVERYTHING);
    let own = limited("own", "[\"producer\"]", "[\"own\"]");
    let served = Served::with(&[&all, &own]).await;
    let task = |id: &str, queue: &str| wire::Task {
        id: id.to_owned(),
        queue: queue.to_owned(),
        name: "t".to_owned(),
        root_id: "r".to_owned(),
        ..Default::default()
    };
    let tasks = vec![task("f", "foreign"), task("o", "own")];
    served.call(&all).await.ask(Ask::Submit(wire::Submit { tasks })).await;
    let mut caller = served.call(&own).await;
    let list = |root_id: &str| {
        let filter = wire::TaskFilter { root_id: root_id.to_owned(), ..Default::default() };
        Ask::ListTasks(wire::ListTasks { filter: Some(filter), ..Default::default() })
    };
    let Answer::TaskPage(page) = caller.ask(list("r")).await else { panic!("a page of tasks") };
    assert_eq!(page.tasks.iter().map(|task| &*task.id).collect::<Vec<_>>(), ["o"]);
    assert_eq!(code_of(&caller.ask(list("")).await), ErrorCode::Forbidden);
}
