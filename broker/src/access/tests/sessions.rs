//! Sessions and their entries: logins, scopes of lists and streams, changes while the broker
//! serves, backups and the audit log.

use super::*;
use crate::lobby::{Remote, Via};

/// Waits until the broker closes the connection, and returns why.
async fn closing(caller: &mut Caller) -> wire::Error {
    let mut why = None;
    while let Some(frame) = caller.next().await {
        if let Some(Answer::Closing(closing)) = frame.body {
            why = closing.error;
        }
    }
    why.expect("the broker says why it closes the connection")
}

fn scoped(name: &str, roles: &str, queues: &str) -> Pass {
    pass(name, &format!("roles = {roles}\nqueues = {queues}\nnames = [\"*\"]"))
}

const ALL_ROLES: &str = "[\"producer\", \"worker\", \"reader\", \"operator\"]";

#[tokio::test]
async fn o2_with_an_access_file_each_client_names_an_entry_of_it() {
    let all = pass("all", EVERYTHING);
    let host = "[[certificate]]\nname = \"gpu\"\nsan = \"dns:gpu.example\"\n";
    let certificate = Pass {
        token: String::new(),
        entry: format!("{host}roles = [\"reader\"]\nqueues = [\"*\"]\nnames = [\"*\"]\n"),
    };
    let served = Served::with(&[&all, &certificate]).await;
    served.call(&all).await;
    let other = pass("other", EVERYTHING);
    let same_id = format!("{}_{}", &all.token[..12], "x".repeat(43));
    for token in [other.token.as_str(), "", "s3cret", &same_id, &all.token[..55]] {
        let answer = served.open_connection(&[]).await.hello(token, None).await;
        assert_eq!(code_of(&answer), ErrorCode::Unauthenticated, "{token}");
    }
    // A certificate that no entry names has no rights; a token counts before a certificate.
    for (identities, token, is_known) in [
        (&["sha256:00", "dns:gpu.example"][..], "", true),
        (&["sha256:00", "dns:other.example"], "", false),
        (&["dns:other.example"], all.token.as_str(), true),
        (&["dns:gpu.example"], "s3cret", false),
    ] {
        let answer = served.open_connection(identities).await.hello(token, None).await;
        let code = if is_known { ErrorCode::Unspecified } else { ErrorCode::Unauthenticated };
        assert_eq!(code_of(&answer), code, "{identities:?}");
    }
    let mut reader = served.open_connection(&["dns:gpu.example"]).await;
    reader.hello("", None).await;
    assert_eq!(reader.submit(&[("a", "q", "t")]).await, [ErrorCode::Forbidden]);
}

#[tokio::test]
async fn o2_a_worker_needs_its_role_its_queues_and_its_names() {
    let limited =
        pass("worker", "roles = [\"worker\"]\nqueues = [\"songs\"]\nnames = [\"songs.*\"]");
    let reader = pass("reader", "roles = [\"reader\"]\nqueues = [\"*\"]\nnames = [\"*\"]");
    let served = Served::with(&[&limited, &reader]).await;
    let code = |outcome: Result<Caller, wire::Error>| {
        outcome.map_or_else(|error| error.code(), |_| ErrorCode::Unspecified)
    };
    assert_eq!(code(served.work(&limited, &["songs"], "songs.play").await), ErrorCode::Unspecified);
    assert_eq!(code(served.work(&limited, &["mail"], "songs.play").await), ErrorCode::Forbidden);
    assert_eq!(code(served.work(&limited, &["songs"], "mail.send").await), ErrorCode::Forbidden);
    assert_eq!(code(served.work(&reader, &["songs"], "songs.play").await), ErrorCode::Forbidden);
    let any = wire::WorkerInfo { any_name: true, ..worker(&["songs"], "songs.play") };
    assert_eq!(code(served.connect(&limited, Some(any)).await), ErrorCode::Forbidden);
}

#[tokio::test]
async fn o2_a_reader_gets_payloads_and_results_only_with_bodies() {
    let names = "queues = [\"*\"]\nnames = [\"*\"]";
    let reader = pass("reader", &format!("roles = [\"reader\"]\n{names}"));
    let bodies = pass("bodies", &format!("roles = [\"reader\"]\n{names}\nbodies = true"));
    let producer = pass("producer", &format!("roles = [\"producer\"]\n{names}"));
    let served = Served::with(&[&reader, &bodies, &producer]).await;
    let get = |with_results, with_payloads| {
        Ask::Get(wire::Get { ids: vec!["a".to_owned()], with_results, with_payloads })
    };
    for (pass, code) in [
        (&reader, ErrorCode::Forbidden),
        (&bodies, ErrorCode::Unspecified),
        (&producer, ErrorCode::Unspecified),
    ] {
        let mut caller = served.call(pass).await;
        assert_eq!(code_of(&caller.ask(get(false, false)).await), ErrorCode::Unspecified);
        assert_eq!(code_of(&caller.ask(get(true, false)).await), code);
        assert_eq!(code_of(&caller.ask(get(false, true)).await), code);
    }
}

#[tokio::test]
async fn o8_an_id_of_others_is_a_conflict_without_a_state() {
    let all = pass("all", EVERYTHING);
    let own = scoped("own", ALL_ROLES, "[\"own\"]");
    let served = Served::with(&[&all, &own]).await;
    served.call(&all).await.submit(&[("a", "foreign", "t")]).await;
    let mut caller = served.call(&own).await;
    for on_conflict in 0..6 {
        let task = wire::Task {
            id: "a".to_owned(),
            queue: "own".to_owned(),
            name: "t".to_owned(),
            submit_key: "k".to_owned(),
            on_conflict,
            ..Default::default()
        };
        let answer = caller.ask(Ask::Submit(wire::Submit { tasks: vec![task] })).await;
        let Answer::SubmitReply(reply) = answer else { panic!("{answer:?}") };
        let outcome = &reply.outcomes[0];
        let code = outcome.error.as_ref().map(wire::Error::code);
        assert_eq!((code, outcome.state, outcome.generation), (Some(ErrorCode::TaskExists), 0, 0));
    }
}

#[tokio::test]
async fn o8_a_request_without_an_answer_that_is_forbidden_has_none_and_does_nothing() {
    let reader = pass("reader", "roles = [\"reader\"]\nqueues = [\"*\"]\nnames = [\"*\"]");
    let all = pass("all", EVERYTHING);
    let served = Served::with(&[&all, &reader]).await;
    let declare = wire::DeclareMailbox { mailbox: "m".to_owned(), ..Default::default() };
    served.call(&all).await.ask(Ask::DeclareMailbox(declare)).await;
    let mut caller = served.call(&reader).await;
    let publish = wire::Publish { routing_key: "m".to_owned(), ..Default::default() };
    caller.send(0, Ask::Publish(publish)).await;
    let mailboxes = caller.ask(Ask::ListMailboxes(wire::ListMailboxes::default())).await;
    let Answer::MailboxList(list) = mailboxes else { panic!("{mailboxes:?}") };
    assert_eq!(list.mailboxes[0].ready, 0);
    assert!(caller.pushed.is_empty(), "{:?}", caller.pushed);
}

#[tokio::test]
async fn o9_lists_and_streams_have_what_is_in_the_scope_alone() {
    let all = pass("all", EVERYTHING);
    let own = scoped("own", ALL_ROLES, "[\"own\", \"own.*\"]");
    let served = Served::with(&[&all, &own]).await;
    let mut admin = served.call(&all).await;
    admin.submit(&[("f", "foreign", "t"), ("o", "own", "t")]).await;
    for queue in ["own.mail", "foreign.mail"] {
        let declare = wire::DeclareMailbox { mailbox: queue.to_owned(), ..Default::default() };
        admin.ask(Ask::DeclareMailbox(declare)).await;
        let exchange = wire::DeclareExchange {
            exchange: queue.to_owned(),
            r#type: wire::ExchangeType::Direct.into(),
            ..Default::default()
        };
        admin.ask(Ask::DeclareExchange(exchange)).await;
    }
    let _both = served.work(&all, &["own", "foreign"], "t").await.expect("it may work");
    let _foreign = served.work(&all, &["foreign"], "t").await.expect("it may work");
    let mut caller = served.call(&own).await;
    let listed = [
        caller.ask(Ask::ListTasks(wire::ListTasks::default())).await,
        caller
            .ask(Ask::ListTasks(wire::ListTasks { newest_first: true, ..Default::default() }))
            .await,
        caller.ask(Ask::ListQueues(wire::ListQueues::default())).await,
        caller.ask(Ask::ListWorkers(wire::ListWorkers::default())).await,
        caller.ask(Ask::ListMailboxes(wire::ListMailboxes::default())).await,
        caller.ask(Ask::ListBindings(wire::ListBindings::default())).await,
    ];
    for list in &listed {
        let text = format!("{list:?}");
        assert!(!text.contains("foreign") && !text.contains("\"f\""), "{text}");
        assert!(text.contains("own") || text.contains("\"o\""), "{text}");
    }
    let Answer::WorkerList(workers) = &listed[3] else { panic!("a list of workers") };
    assert_eq!(workers.workers.len(), 1);
    // A watch of ids of others, and of ids that others take later, is silent.
    let ids = ["f", "o", "later"].map(str::to_owned).to_vec();
    caller.ask(Ask::Watch(wire::Watch { ids, ..Default::default() })).await;
    admin.submit(&[("later", "foreign", "t")]).await;
    for id in ["f", "later", "o"] {
        let cancel = wire::Cancel { ids: vec![id.to_owned()], ..Default::default() };
        admin.ask(Ask::Cancel(cancel)).await;
    }
    caller.ask(Ask::Heartbeat(wire::Heartbeat::default())).await;
    let seen = format!("{:?}", caller.pushed);
    assert!(seen.contains("\"o\"") && !seen.contains("\"f\"") && !seen.contains("later"), "{seen}");
}

#[tokio::test]
async fn o9_what_is_done_to_many_tasks_leaves_those_of_others() {
    let all = pass("all", EVERYTHING);
    let own = scoped("own", ALL_ROLES, "[\"own\"]");
    let served = Served::with(&[&all, &own]).await;
    let mut admin = served.call(&all).await;
    let task = |id: &str, queue: &str| wire::Task {
        id: id.to_owned(),
        queue: queue.to_owned(),
        name: "t".to_owned(),
        tags: vec!["night".to_owned()],
        root_id: "f".to_owned(),
        ..Default::default()
    };
    let tasks = vec![task("f", "foreign"), task("o", "own"), task("p", "own")];
    admin.ask(Ask::Submit(wire::Submit { tasks })).await;
    let mut caller = served.call(&own).await;
    for cancel in [
        wire::Cancel { tag: "night".to_owned(), ..Default::default() },
        wire::Cancel { root_id: "f".to_owned(), ..Default::default() },
    ] {
        let answer = caller.ask(Ask::Cancel(cancel)).await;
        assert!(!format!("{answer:?}").contains("\"f\""), "{answer:?}");
    }
    let (queued, revoked) = (wire::TaskState::Queued, wire::TaskState::Revoked);
    assert_eq!(admin.states(&["f", "o", "p"]).await, [queued, revoked, revoked]);
}

#[tokio::test]
async fn o5_two_entries_of_one_name_count_at_once_and_o6_one_that_is_gone_ends_its_sessions() {
    let (old, new) = (pass("web", EVERYTHING), pass("web", EVERYTHING));
    let served = Served::with(&[&old]).await;
    let mut before = served.call(&old).await;
    served.change(&[&old, &new]).await;
    let mut after = served.call(&new).await;
    assert_eq!(before.submit(&[("a", "q", "t")]).await, [ErrorCode::Unspecified]);
    served.change(&[&new]).await;
    assert_eq!(closing(&mut before).await.code(), ErrorCode::Unauthenticated);
    assert_eq!(after.submit(&[("b", "q", "t")]).await, [ErrorCode::Unspecified]);
    let answer = served.open_connection(&[]).await.hello(&old.token, None).await;
    assert_eq!(code_of(&answer), ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn o6_an_entry_with_other_rights_ends_its_sessions_and_the_next_one_has_them() {
    let all = pass("web", EVERYTHING);
    let served = Served::with(&[&all]).await;
    let mut before = served.call(&all).await;
    let less = all.entry.replace("queues = [\"*\"]", "queues = [\"songs\"]");
    let smaller = Pass { token: all.token.clone(), entry: less };
    served.change(&[&smaller]).await;
    let why = closing(&mut before).await;
    assert_eq!(why.code(), ErrorCode::Unauthenticated);
    assert!(why.message.contains("`web` has other rights now"), "{}", why.message);
    let mut next = served.call(&all).await;
    let codes = next.submit(&[("a", "songs", "t"), ("b", "mail", "t")]).await;
    assert_eq!(codes, [ErrorCode::Unspecified, ErrorCode::Forbidden]);
    // A file that says the same in other words changes nothing.
    served
        .change(&[&Pass { token: String::new(), entry: format!("# new\n\n{}", smaller.entry) }])
        .await;
    assert_eq!(next.submit(&[("c", "songs", "t")]).await, [ErrorCode::Unspecified]);
}

#[tokio::test]
async fn o6_a_worker_that_is_closed_keeps_its_leases_by_the_usual_rule() {
    let all = pass("web", EVERYTHING);
    let served = Served::with(&[&all]).await;
    let mut admin = served.call(&all).await;
    admin.submit(&[("a", "q", "t")]).await;
    let mut worker = served.work(&all, &["q"], "t").await.expect("it may work");
    let take = wire::Take { queue: "q".to_owned(), count: 1 };
    worker.ask(Ask::Take(take)).await;
    let other = pass("other", EVERYTHING);
    served.change(&[&other]).await;
    closing(&mut worker).await;
    assert_eq!(served.call(&other).await.states(&["a"]).await, [wire::TaskState::Leased]);
}

#[tokio::test]
async fn o6_a_client_that_does_not_read_is_closed_soon_after_its_access_ended() {
    let (all, other) = (pass("web", EVERYTHING), pass("other", EVERYTHING));
    let served = Served::with(&[&all, &other]).await;
    let mut deaf = served.call(&all).await;
    let payload = vec![b'x'; 1 << 20];
    let ids = ["a", "b", "c"].map(str::to_owned).to_vec();
    for id in &ids {
        let task = wire::Task {
            id: id.clone(),
            queue: "q".to_owned(),
            name: "t".to_owned(),
            payload: payload.clone().into(),
            ..Default::default()
        };
        deaf.ask(Ask::Submit(wire::Submit { tasks: vec![task] })).await;
    }
    // The answer has no room in the stream, and nobody reads it.
    deaf.send(99, Ask::Get(wire::Get { ids, with_payloads: true, ..Default::default() })).await;
    deaf.stream.read_exact(&mut [0]).await.expect("the answer begins");
    served.change(&[&other]).await;
    let closed = async {
        while deaf.stream.write_all(&[0]).await.is_ok() {
            // A write shows whether the other end is there, and nothing else does.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("long before a slow client is closed");
}

#[tokio::test]
async fn o8_a_session_is_resumed_by_clients_of_its_entry_alone() {
    let (old, new) = (pass("web", EVERYTHING), pass("web", EVERYTHING));
    let thief = pass("thief", EVERYTHING);
    let served = Served::with(&[&old, &new, &thief]).await;
    let mut first = served.open_connection(&[]).await;
    let Answer::Welcome(welcome) = first.hello(&old.token, Some(worker(&["q"], "t"))).await else {
        panic!("it may work")
    };
    for (pass, is_resumed) in [(&thief, false), (&new, true), (&old, true), (&thief, false)] {
        let mut caller = served.open_connection(&[]).await;
        let hello = caller.resume(&pass.token, Some(worker(&["q"], "t")), &welcome.session_id);
        let Answer::Welcome(again) = hello.await else { panic!("it may work") };
        assert_eq!(again.resumed, is_resumed);
        assert_eq!(again.session_id == welcome.session_id, is_resumed);
    }
}

#[tokio::test]
async fn o6_an_entry_ends_at_its_time_without_a_new_file() {
    let now = Clock::new().now().wall;
    let expires = |after_ms: i64| format!("{EVERYTHING}\nexpires = {}", moment(now + after_ms));
    let (soon, later) = (pass("soon", &expires(1_500)), pass("later", &expires(3_600_000)));
    let over = pass("over", &expires(-1));
    let served = Served::with(&[&soon, &later, &over]).await;
    let answer = served.open_connection(&[]).await.hello(&over.token, None).await;
    assert_eq!(code_of(&answer), ErrorCode::Unauthenticated);
    let (mut ends, mut stays) = (served.call(&soon).await, served.call(&later).await);
    let why = closing(&mut ends).await;
    assert!(why.message.contains("`soon` has expired"), "{}", why.message);
    assert_eq!(stays.submit(&[("a", "q", "t")]).await, [ErrorCode::Unspecified]);
}

#[tokio::test]
async fn o10_a_client_without_a_scope_has_none_in_the_machine() {
    let all = pass("all", EVERYTHING);
    let served = Served::with(&[&all]).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7));
    let peer = Remote { address, via: Via::Protocol };
    let visitor = served.access().admit(all.token.as_bytes(), &[], peer).expect("it is known");
    assert!(visitor.scope().is_none());
}

#[tokio::test]
async fn o11_a_backup_has_a_name_below_the_folder_of_backups() {
    let all = pass("all", EVERYTHING);
    let served = Served::with(&[&all]).await;
    let mut caller = served.call(&all).await;
    let outside = served.folder.path().join("outside");
    let outside = outside.to_str().expect("it is text");
    for folder in [outside, "", ".", "..", "../outside", "a/b", "/", "a/", "./a"] {
        let answer = caller.ask(Ask::Backup(wire::Backup { folder: folder.to_owned() })).await;
        assert_eq!(code_of(&answer), ErrorCode::InvalidArgument, "{folder}: {answer:?}");
    }
    let answer = caller.ask(Ask::Backup(wire::Backup { folder: "monday".to_owned() })).await;
    assert!(matches!(answer, Answer::BackupReply(_)), "{answer:?}");
    assert!(served.folder.path().join("backups/monday").is_dir());
    assert!(!served.folder.path().join("outside").exists());
    let without = Served::with_config(&[&all], |config| config.backup_folder = None).await;
    let backup = Ask::Backup(wire::Backup { folder: "monday".to_owned() });
    let answer = without.call(&all).await.ask(backup).await;
    assert_eq!(code_of(&answer), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn o12_the_audit_log_has_what_operators_did_and_what_was_refused() {
    let all = pass("all", EVERYTHING);
    let own = scoped("own", "[\"producer\"]", "[\"own\"]");
    let served = Served::with(&[&all, &own]).await;
    served.open_connection(&[]).await.hello("s3cret", None).await;
    let mut producer = served.call(&own).await;
    producer.submit(&[("a", "own", "t")]).await;
    producer.submit(&[("b", "foreign", "t"), ("c", "own", "t")]).await;
    producer.ask(Ask::PurgeQueue(wire::PurgeQueue { queue: "own".to_owned() })).await;
    let mut operator = served.call(&all).await;
    operator.ask(Ask::PurgeQueue(wire::PurgeQueue { queue: "own".to_owned() })).await;
    let ids = (0..12).map(|number| format!("id-{number}")).collect();
    operator.ask(Ask::DiscardDead(wire::DiscardDead { ids, ..Default::default() })).await;
    let lines = served.audit_lines(5).await;
    let expected = [
        ("null", "login", "unauthenticated", ""),
        ("\"own\"", "submit", "forbidden", ",\"queues\":[\"foreign\"],\"ids\":[\"b\"],\"count\":1"),
        ("\"own\"", "purge_queue", "forbidden", ",\"queues\":[\"own\"]"),
        ("\"all\"", "purge_queue", "allowed", ",\"queues\":[\"own\"]"),
        ("\"all\"", "discard_dead", "allowed", ",\"ids\":[\"id-0\",\"id-1\","),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, (entry, action, outcome, object)) in lines.iter().zip(expected) {
        let begin = format!("\"entry\":{entry},\"peer\":\"127.0.0.1:7\",\"via\":\"protocol\"");
        let end = format!(",\"action\":\"{action}\",\"outcome\":\"{outcome}\"{object}");
        assert!(line.contains(&begin) && line.contains(&end), "{line}: {begin} {end}");
        assert!(line.starts_with("{\"time\":\"20") && line.ends_with('}'), "{line}");
        assert!(!line.contains("s3cret") && !line.contains("clr_"), "{line}");
    }
    assert!(lines[4].contains("\"count\":12"), "{}", lines[4]);
}

#[tokio::test]
async fn o12_submits_are_in_the_audit_log_on_wish_and_a_file_that_moved_away_is_made_again() {
    let all = pass("all", EVERYTHING);
    let served = Served::with_config(&[&all], |config| config.audit = AuditWhat::All).await;
    let mut caller = served.call(&all).await;
    caller.submit(&[("a", "q", "t")]).await;
    let lines = served.audit_lines(1).await;
    assert!(lines[0].contains("\"action\":\"submit\",\"outcome\":\"allowed\""), "{lines:?}");
    let moved = served.folder.path().join("audit.1");
    std::fs::rename(served.audit_file(), &moved).expect("it is ours");
    served.change(&[&all]).await;
    caller.submit(&[("b", "q", "t")]).await;
    let made = async {
        while !served.audit_file().exists() {
            // The thread that writes the file has no other sign of its progress.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, made).await.expect("the file is made again");
    let lines = served.audit_lines(1).await;
    assert!(lines[0].contains("\"ids\":[\"b\"]"), "{lines:?}");
}
