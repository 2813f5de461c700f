//! The matrix: every request of the protocol, with every role, within every scope, about what is
//! the client's own, what is of others, what does not exist, and both together.

use std::collections::BTreeMap;

use super::*;
use crate::access::Role;

/// What a request is about.
#[derive(Clone)]
struct About {
    queues: Vec<String>,
    ids: Vec<String>,
}

/// How a scope changes the answer.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    /// The request names nothing of others.
    Free,
    /// It names queues, mailboxes or exchanges, and all of them have to be allowed.
    Named,
    /// Its items name queues, and each is answered by itself.
    Items,
    /// It names ids: those of others answer like ids that do not exist.
    Ids,
    /// It is about the whole broker, or about the reserved queue.
    Whole,
}

use Within::{Free, Ids, Items, Named, Whole};

struct Row {
    kind: &'static str,
    /// Empty: every role.
    roles: &'static [Role],
    within: Within,
    make: fn(&About) -> Ask,
}

/// The list of the requests. The match is over all kinds of the protocol: a new request does not
/// compile here until it has a row.
macro_rules! requests {
    ($($kind:ident [$($role:ident)*] $within:ident $make:expr;)*) => {
        const ROWS: &[Row] = &[$(Row {
            kind: stringify!($kind),
            roles: &[$(Role::$role),*],
            within: $within,
            make: $make,
        }),*];

        fn kind_of(ask: &Ask) -> &'static str {
            match ask {
                $(Ask::$kind(_) => stringify!($kind),)*
            }
        }
    };
}

fn last(names: &[String]) -> String {
    names.last().cloned().unwrap_or_default()
}

fn binding(about: &About) -> (String, Option<wire::Destination>) {
    let queue = last(&about.queues);
    let to = wire::Destination { queue: about.queues[0].clone(), ..Default::default() };
    (format!("{queue}.exchange"), Some(to))
}

requests! {
    Hello [] Free |_| Ask::Hello(Hello::default());
    Goodbye [] Free |_| Ask::Goodbye(wire::Goodbye {});
    Heartbeat [] Free |_| Ask::Heartbeat(wire::Heartbeat::default());
    Submit [Producer] Items |about| Ask::Submit(wire::Submit {
        tasks: about.queues.iter().enumerate().map(|(index, queue)| wire::Task {
            id: format!("new-{index}-{}", about.ids.join("-")),
            queue: queue.clone(),
            name: "own.t".to_owned(),
            ..Default::default()
        }).collect(),
    });
    Cancel [Producer Operator] Ids |about| {
        Ask::Cancel(wire::Cancel { ids: about.ids.clone(), ..Default::default() })
    };
    Forget [Producer Operator] Ids |about| Ask::Forget(wire::Forget { ids: about.ids.clone() });
    Get [Producer Reader Operator] Ids |about| {
        Ask::Get(wire::Get { ids: about.ids.clone(), ..Default::default() })
    };
    Wait [Producer Reader Operator] Ids |about| {
        Ask::Wait(wire::Wait { ids: about.ids.clone(), ..Default::default() })
    };
    Watch [Producer Reader Operator] Ids |about| {
        Ask::Watch(wire::Watch { ids: about.ids.clone(), ..Default::default() })
    };
    Unwatch [] Free |_| Ask::Unwatch(wire::Unwatch { watch_id: 99 });
    Unwait [] Free |_| Ask::Unwait(wire::Unwait { request_ids: vec![99] });
    Credit [Worker] Free |_| Ask::Credit(wire::Credit { credit: 0 });
    Report [Worker] Ids |about| Ask::Report(wire::Report {
        reports: about.ids.iter().flat_map(|id| (0..9).map(|lease| wire::TaskReport {
            id: id.clone(),
            lease,
            report: Some(wire::task_report::Report::Started(wire::Started {})),
        })).collect(),
    });
    Serve [Worker] Named |about| Ask::Serve(wire::Serve {
        add_queues: about.queues.iter().map(|queue| wire::QueueSubscription {
            queue: queue.clone(),
            weight: 1,
        }).collect(),
        ..Default::default()
    });
    Take [Worker] Named |about| {
        Ask::Take(wire::Take { queue: last(&about.queues), count: 0 })
    };
    PutOutcome [Producer Worker] Ids |about| Ask::PutOutcome(wire::PutOutcome {
        outcomes: about.ids.iter().map(|id| wire::TaskOutcome {
            id: id.clone(),
            state: "SUCCESS".to_owned(),
            ..Default::default()
        }).collect(),
    });
    ChordPart [Producer Worker] Whole |about| Ask::ChordPart(wire::ChordPart {
        group: last(&about.ids),
        member: "member".to_owned(),
        ..Default::default()
    });
    ChordExtend [Producer Worker] Whole |about| Ask::ChordExtend(wire::ChordExtend {
        group: last(&about.ids),
        size: Some(9),
        ..Default::default()
    });
    ChordDone [Producer Worker] Whole |about| {
        Ask::ChordDone(wire::ChordDone { group: last(&about.ids), ..Default::default() })
    };
    ListQueues [Reader Operator] Named |about| {
        Ask::ListQueues(wire::ListQueues { queues: about.queues.clone(), ..Default::default() })
    };
    ConfigureQueue [Operator] Named |about| {
        Ask::ConfigureQueue(wire::ConfigureQueue { queue: last(&about.queues), settings: None })
    };
    PauseQueues [Operator] Named |about| {
        Ask::PauseQueues(wire::PauseQueues { queues: about.queues.clone(), paused: false })
    };
    PurgeQueue [Operator] Named |about| {
        Ask::PurgeQueue(wire::PurgeQueue { queue: last(&about.queues) })
    };
    DeleteQueue [Operator] Named |about| {
        Ask::DeleteQueue(wire::DeleteQueue { queue: last(&about.queues) })
    };
    ListTasks [Reader Operator] Named |about| Ask::ListTasks(wire::ListTasks {
        filter: Some(wire::TaskFilter { queue: last(&about.queues), ..Default::default() }),
        ..Default::default()
    });
    ReplayDead [Operator] Ids |about| {
        Ask::ReplayDead(wire::ReplayDead { ids: about.ids.clone(), ..Default::default() })
    };
    DiscardDead [Operator] Ids |about| {
        Ask::DiscardDead(wire::DiscardDead { ids: about.ids.clone(), ..Default::default() })
    };
    ListWorkers [Reader Operator] Free |_| Ask::ListWorkers(wire::ListWorkers::default());
    OrderWorkers [Operator] Free |_| Ask::OrderWorkers(wire::OrderWorkers {
        order: wire::order::Kind::Resume.into(),
        ..Default::default()
    });
    Backup [Operator] Whole |about| {
        Ask::Backup(wire::Backup { folder: format!("backup-{}", about.ids.join("-")) })
    };
    DeclareQueue [Producer Worker Operator] Named |about| {
        Ask::DeclareQueue(wire::DeclareQueue { queue: last(&about.queues), ..Default::default() })
    };
    Drain [Operator] Whole |_| Ask::Drain(wire::Drain { draining: false });
    LogFilter [Reader Operator] Whole |_| Ask::LogFilter(wire::LogFilter::default());
    Info [Reader Operator] Whole |_| Ask::Info(wire::Info {});
    Stats [Reader Operator] Named |about| Ask::Stats(wire::Stats {
        queues: about.queues.clone(), ..Default::default()
    });
    DeclareMailbox [Producer Worker Operator] Named |about| {
        let mailbox = format!("{}.mail", last(&about.queues));
        Ask::DeclareMailbox(wire::DeclareMailbox { mailbox, ..Default::default() })
    };
    DeleteMailbox [Producer Worker Operator] Named |about| {
        let mailbox = format!("{}.none", last(&about.queues));
        Ask::DeleteMailbox(wire::DeleteMailbox { mailbox, ..Default::default() })
    };
    PurgeMailbox [Producer Worker Operator] Named |about| {
        Ask::PurgeMailbox(wire::PurgeMailbox { mailbox: format!("{}.mail", last(&about.queues)) })
    };
    Consume [Producer Worker Operator] Named |about| {
        Ask::Consume(wire::Consume { mailbox: format!("{}.mail", last(&about.queues)) })
    };
    Unconsume [] Free |_| Ask::Unconsume(wire::Unconsume { consumer_id: 99 });
    FetchMail [Producer Worker Operator] Named |about| {
        Ask::FetchMail(wire::FetchMail { mailbox: format!("{}.mail", last(&about.queues)) })
    };
    AckMail [] Free |_| Ask::AckMail(wire::AckMail { tags: vec![99] });
    PutBackMail [] Free |_| Ask::PutBackMail(wire::PutBackMail { tags: vec![99] });
    Publish [Producer Worker Operator] Named |about| {
        let routing_key = format!("{}.mail", last(&about.queues));
        Ask::Publish(wire::Publish { routing_key, ..Default::default() })
    };
    DeclareExchange [Producer Worker Operator] Named |about| {
        let exchange = format!("{}.exchange", last(&about.queues));
        let kind = wire::ExchangeType::Direct.into();
        Ask::DeclareExchange(wire::DeclareExchange { exchange, r#type: kind, ..Default::default() })
    };
    DeleteExchange [Producer Worker Operator] Named |about| {
        let exchange = format!("{}.none", last(&about.queues));
        Ask::DeleteExchange(wire::DeleteExchange { exchange, ..Default::default() })
    };
    Bind [Producer Worker Operator] Named |about| {
        let (exchange, destination) = binding(about);
        Ask::Bind(wire::Bind { exchange, routing_key: "k".to_owned(), destination })
    };
    Unbind [Producer Worker Operator] Named |about| {
        let (exchange, destination) = binding(about);
        Ask::Unbind(wire::Unbind { exchange, routing_key: "x".to_owned(), destination })
    };
    ListMailboxes [Producer Worker Reader Operator] Free |_| {
        Ask::ListMailboxes(wire::ListMailboxes::default())
    };
    ListBindings [Producer Worker Reader Operator] Free |_| {
        Ask::ListBindings(wire::ListBindings::default())
    };
}

fn about(queues: &[&str], ids: &[&str]) -> About {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    About { queues: texts(queues), ids: texts(ids) }
}

const FOREIGN: [&str; 3] = ["foreign-waits", "foreign-dead", "foreign-held"];
const MISSING: [&str; 3] = ["missing-waits", "missing-dead", "missing-held"];

/// Fills the broker with tasks of others: one that waits, one that is dead and one that a worker
/// holds. Returns the worker's connection.
async fn fill(served: &Served, all: &Pass) -> Caller {
    let mut admin = served.call(all).await;
    let tasks = [
        (FOREIGN[1], "foreign", "foreign.t"),
        (FOREIGN[2], "foreign", "foreign.t"),
        (FOREIGN[0], "foreign", "foreign.t"),
    ];
    assert_eq!(admin.submit(&tasks).await, [ErrorCode::Unspecified; 3]);
    for queue in ["own", "foreign"] {
        let mailbox = format!("{queue}.mail");
        let declare = wire::DeclareMailbox { mailbox, ..Default::default() };
        admin.ask(Ask::DeclareMailbox(declare)).await;
        let (exchange, kind) = (format!("{queue}.exchange"), wire::ExchangeType::Direct.into());
        let declare = wire::DeclareExchange { exchange, r#type: kind, ..Default::default() };
        admin.ask(Ask::DeclareExchange(declare)).await;
    }
    let mut worker = served.work(all, &["foreign"], "foreign.t").await.expect("it may work");
    let take = wire::Take { queue: "foreign".to_owned(), count: 2 };
    let taken = worker.ask(Ask::Take(take)).await;
    assert!(matches!(taken, Answer::CountReply(wire::CountReply { count: 2 })), "{taken:?}");
    let fail = wire::task_report::Report::Fail(wire::Fail { r#final: true, ..Default::default() });
    let report = wire::TaskReport { id: FOREIGN[1].to_owned(), lease: 1, report: Some(fail) };
    worker.ask(Ask::Report(wire::Report { reports: vec![report] })).await;
    worker
}

/// Everything of others that a client with every right sees.
async fn foreign_world(admin: &mut Caller) -> String {
    let filter = wire::TaskFilter { queue: "foreign".to_owned(), ..Default::default() };
    let list = wire::ListTasks { filter: Some(filter), ..Default::default() };
    let Answer::TaskPage(tasks) = admin.ask(Ask::ListTasks(list)).await else {
        panic!("a page of tasks")
    };
    let queues = vec!["foreign".to_owned()];
    let queues = admin.ask(Ask::ListQueues(wire::ListQueues { queues, ..Default::default() }));
    let Answer::QueueList(queues) = queues.await else { panic!("a list of queues") };
    let bindings = admin.ask(Ask::ListBindings(wire::ListBindings::default())).await;
    let Answer::BindingList(bindings) = bindings else { panic!("a list of bindings") };
    let of_others = bindings.bindings.iter().filter(|it| it.exchange.starts_with("foreign"));
    let settings = queues.queues.iter().map(|queue| (&queue.settings, queue.paused));
    let tasks = tasks.tasks;
    format!("{tasks:?} {:?} {:?}", settings.collect::<Vec<_>>(), of_others.collect::<Vec<_>>())
}

/// A connection with this pass. A worker says so in its Hello.
async fn enter(served: &Served, pass: &Pass, role: Role) -> Caller {
    match role {
        Role::Worker => served.work(pass, &[], "own.t").await.expect("it may work"),
        _ => served.call(pass).await,
    }
}

fn pass_of(role: Role, queues: &str) -> Pass {
    let name = role.name();
    pass(name, &format!("roles = [\"{name}\"]\nqueues = {queues}\nnames = [\"*\"]"))
}

/// An own task that waits, for the next request.
async fn fresh(admin: &mut Caller, count: &mut usize) -> String {
    *count += 1;
    let id = format!("own-{count}");
    assert_eq!(admin.submit(&[(&id, "own", "own.t")]).await, [ErrorCode::Unspecified]);
    id
}

/// The requests of each role that were refused, whole or in part.
#[derive(Default)]
struct Refused(BTreeMap<&'static str, u64>);

impl Refused {
    fn note(&mut self, role: Role, answer: &Answer) {
        let is_forbidden =
            |error: &Option<wire::Error>| error.as_ref().is_some_and(|it| it.code() == FORBIDDEN);
        let is_refused = match answer {
            Answer::Error(error) => error.code() == FORBIDDEN,
            Answer::SubmitReply(reply) => reply.outcomes.iter().any(|it| is_forbidden(&it.error)),
            Answer::PutOutcomeReply(reply) => {
                reply.outcomes.iter().any(|it| is_forbidden(&it.error))
            }
            _ => false,
        };
        *self.0.entry(role.name()).or_default() += u64::from(is_refused);
    }

    /// Compares with the audit log: each refused request has a line, or is counted in one.
    async fn compare(mut self, served: &Served, passes: &[(Role, Pass)]) {
        // A client has ten lines a second. In the next second a line has the number of the others.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        for (role, pass) in passes {
            let ask = match role {
                Role::Producer => Ask::Info(wire::Info {}),
                _ => Ask::Submit(wire::Submit { tasks: vec![wire::Task::default()] }),
            };
            let answer = served.call(pass).await.ask(ask).await;
            assert_eq!(code_of(&answer), FORBIDDEN, "{answer:?}");
            self.note(*role, &answer);
        }
        let mut found = BTreeMap::new();
        for line in served.all_audit_lines().await {
            let number = |key: &str| {
                let (_, rest) = line.split_once(&format!("\"{key}\":"))?;
                rest.split([',', '}']).next()?.parse::<u64>().ok()
            };
            let of = |role: &&Role| line.contains(&format!("\"entry\":\"{}\"", role.name()));
            if let Some(role) = Role::ALL.iter().find(of)
                && line.contains("\"outcome\":\"forbidden\"")
            {
                *found.entry(role.name()).or_default() += 1 + number("without_line").unwrap_or(0);
            }
        }
        assert_eq!(found, self.0);
    }
}

const FORBIDDEN: ErrorCode = ErrorCode::Forbidden;

#[tokio::test]
async fn o2_each_role_may_send_its_requests_and_no_other() {
    let all = pass("all", EVERYTHING);
    let passes = Role::ALL.map(|role| (role, pass_of(role, "[\"*\"]")));
    let mut known = vec![&all];
    known.extend(passes.iter().map(|(_, pass)| pass));
    let served = Served::with(&known).await;
    let _worker = fill(&served, &all).await;
    let (mut admin, mut count) = (served.call(&all).await, 0);
    let mut refused = Refused::default();
    for row in ROWS {
        for (role, pass) in &passes {
            let id = fresh(&mut admin, &mut count).await;
            let ask = (row.make)(&about(&["own"], &[&id]));
            assert_eq!(kind_of(&ask), row.kind);
            let answer = enter(&served, pass, *role).await.ask(ask).await;
            let may = row.roles.is_empty() || row.roles.contains(role);
            refused.note(*role, &answer);
            let is_refused = code_of(&answer) == FORBIDDEN;
            let (kind, role) = (row.kind, role.name());
            assert_eq!(is_refused, !may, "{kind} as {role}: {answer:?}");
            // A refused request has done nothing.
            if !may {
                assert_eq!(admin.states(&[&id]).await, [wire::TaskState::Queued], "{kind}, {role}");
            }
        }
    }
    refused.compare(&served, &passes).await;
}

#[tokio::test]
async fn o8_what_is_of_others_is_forbidden_by_name_and_does_not_exist_by_id() {
    let all = pass("all", EVERYTHING);
    let passes = Role::ALL.map(|role| (role, pass_of(role, "[\"own\", \"own.*\"]")));
    let mut known = vec![&all];
    known.extend(passes.iter().map(|(_, pass)| pass));
    let served = Served::with(&known).await;
    let _worker = fill(&served, &all).await;
    let (mut admin, mut count) = (served.call(&all).await, 0);
    let before = foreign_world(&mut admin).await;
    let mut refused = Refused::default();
    for row in ROWS {
        for (role, pass) in passes.iter().filter(|(role, _)| row.roles.contains(role)) {
            let what = format!("{} as {}", row.kind, role.name());
            let (id, second) =
                (fresh(&mut admin, &mut count).await, fresh(&mut admin, &mut count).await);
            let third = fresh(&mut admin, &mut count).await;
            let mut asked = Vec::new();
            for about in [
                about(&["own"], &[&id]),
                about(&["foreign"], &FOREIGN),
                about(&["own"], &MISSING),
                about(&["own", "foreign"], &[&second, FOREIGN[0], FOREIGN[1], FOREIGN[2]]),
                about(&["own", "own"], &[&third, MISSING[0], MISSING[1], MISSING[2]]),
            ] {
                let answer = enter(&served, pass, *role).await.ask((row.make)(&about)).await;
                refused.note(*role, &answer);
                asked.push(answer);
            }
            let [own, foreign, missing, mixed, mixed_missing]: [Answer; 5] =
                asked.try_into().expect("five answers");
            judge(row, &what, [&own, &foreign, &missing, &mixed, &mixed_missing]);
            assert_eq!(foreign_world(&mut admin).await, before, "{what}");
        }
    }
    refused.compare(&served, &passes).await;
}

fn judge(row: &Row, what: &str, answers: [&Answer; 5]) {
    let [own, foreign, missing, mixed, mixed_missing] = answers;
    let is_forbidden = |answer: &Answer| code_of(answer) == ErrorCode::Forbidden;
    match row.within {
        Free => assert!(!is_forbidden(own) && !is_forbidden(foreign), "{what}: {own:?}"),
        Whole => assert!(is_forbidden(own) && is_forbidden(foreign), "{what}: {own:?}"),
        Named => {
            assert!(!is_forbidden(own), "{what}: {own:?}");
            assert!(is_forbidden(foreign) && is_forbidden(mixed), "{what}: {foreign:?} {mixed:?}");
        }
        Items => {
            let codes = |answer: &Answer| match answer {
                Answer::SubmitReply(reply) => {
                    let code = |outcome: &wire::SubmitOutcome| {
                        outcome.error.as_ref().map_or(ErrorCode::Unspecified, wire::Error::code)
                    };
                    reply.outcomes.iter().map(code).collect::<Vec<_>>()
                }
                other => panic!("{what}: {other:?}"),
            };
            assert_eq!(codes(own), [ErrorCode::Unspecified], "{what}");
            assert_eq!(codes(foreign), [ErrorCode::Forbidden], "{what}");
            assert_eq!(codes(mixed), [ErrorCode::Unspecified, ErrorCode::Forbidden], "{what}");
        }
        Ids => {
            assert!(!is_forbidden(own), "{what}: {own:?}");
            assert_eq!(without_numbers(foreign), without_numbers(missing), "{what}");
            assert_eq!(without_numbers(mixed), without_numbers(mixed_missing), "{what}");
        }
    }
}

/// An answer without the number of a watch, and without the own task in front of the others.
fn without_numbers(answer: &Answer) -> String {
    let text = format!("{answer:?}").replace("foreign", "missing");
    let from = text.find("missing").unwrap_or_default();
    text[from..].to_owned()
}

#[tokio::test]
async fn o2_a_connection_for_the_figures_of_everybody_asks_for_figures_and_for_nothing_else() {
    let all = pass("all", EVERYTHING);
    let served = Served::with(&[&all]).await;
    let _worker = fill(&served, &all).await;
    let (mut admin, mut count) = (served.call(&all).await, 0);
    let before = foreign_world(&mut admin).await;
    let mut kinds = 0;
    for row in ROWS {
        let id = fresh(&mut admin, &mut count).await;
        let ask = (row.make)(&about(&["foreign"], &[&id]));
        let mut caller = served.open_via(Via::Figures, &[]).await;
        assert!(matches!(caller.hello("", None).await, Answer::Welcome(_)));
        let answer = caller.ask(ask).await;
        let may = row.kind == "Stats" || row.roles.is_empty();
        assert_eq!(code_of(&answer) == FORBIDDEN, !may, "{}: {answer:?}", row.kind);
        assert_eq!(admin.states(&[&id]).await, [wire::TaskState::Queued], "{}", row.kind);
        kinds += usize::from(row.kind == "Stats");
    }
    assert_eq!((kinds, foreign_world(&mut admin).await), (1, before));
    // It is no worker either, and a file that is read again does not end it.
    let mut worker = served.open_via(Via::Figures, &[]).await;
    let refused = worker.hello("", Some(super::worker(&["foreign"], "foreign.t"))).await;
    assert_eq!(code_of(&refused), FORBIDDEN, "{refused:?}");
    let mut caller = served.open_via(Via::Figures, &[]).await;
    assert!(matches!(caller.hello("", None).await, Answer::Welcome(_)));
    served.change(&[&all]).await;
    let answer = caller.ask(Ask::Stats(wire::Stats::default())).await;
    assert!(matches!(answer, Answer::StatsReply(_)), "{answer:?}");
    // Without that purpose nobody comes in without an entry.
    for via in [Via::Protocol, Via::Http] {
        let refused = served.open_via(via, &[]).await.hello("", None).await;
        assert_eq!(code_of(&refused), ErrorCode::Unauthenticated, "{via:?}");
    }
}
