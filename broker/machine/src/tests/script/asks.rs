//! Makes a client's request from the words of a script's line.

use bytes::Bytes;
use celeriac_proto::{TaskId, TaskName};
use celeriac_record::{
    Backoff, Body, Jitter, MAX_DELIVERIES_DEFAULT, QueueRecord, RetryPolicy, State, TaskSpec,
};

use super::{Scene, id, queue};
use crate::command::{
    Ask, CancelMode, CancelTarget, ChordAsk, ChordExtend, ChordPart, Cursor, Dead, Failure, Filter,
    List, ListPlace, Observe, OnConflict, Operate, Order, OutcomeKind, Produce, Release,
    ReportKind, Serving, Submission, TaskOutcome, TaskReport, When, Work,
};
use crate::queue::Queue;
use crate::tests::words::Words;

impl Scene {
    pub(super) fn ask(&self, verb: &str, words: &Words<'_>) -> (u64, Ask) {
        let first = words.plain.get(1).copied().unwrap_or("");
        let ids = || plain_ids(words);
        let client = || self.number(words.option("by").unwrap_or("c"));
        let ask = match verb {
            "credit" => {
                return (
                    self.number(first),
                    Ask::Work(Work::Credit(words.plain[2].parse().expect("a number"))),
                );
            }
            "serve" => return (self.number(first), Ask::Work(Work::Serve(serving(words)))),
            "take" => {
                let (queue, count) = (queue(words.plain[2]), words.number("count").unwrap_or(1));
                let take = Work::Take { queue, count: count as u32 };
                return (self.number(first), Ask::Work(take));
            }
            "beat" => return (self.number(first), Ask::Heartbeat { memory_bytes: 0 }),
            "bye" => return (self.number(first), Ask::Goodbye),
            "submit" => Ask::Produce(Produce::Submit(
                ids_of(words)
                    .into_iter()
                    .map(|id| Ok(submission(id, words, self.now.wall)))
                    .collect(),
            )),
            "get" => {
                Ask::Observe(Observe::Get { ids: ids(), with_results: true, with_payloads: false })
            }
            "put" => Ask::Produce(Produce::PutOutcome(
                ids_of(words).into_iter().map(|id| Ok(self.outcome(id, words))).collect(),
            )),
            "part" | "extend" | "sent" => {
                let ask = chord_ask(verb, words);
                Ask::Produce(Produce::Chord { group: id(first), ask })
            }
            "forget" => Ask::Produce(Produce::Forget(ids())),
            "wait" => Ask::Observe(Observe::Wait {
                ids: ids(),
                any: words.has("any"),
                until: words.has("started").then_some(State::Started),
                with_results: true,
                timeout_ms: words.span("for").unwrap_or(30_000),
            }),
            // The line has the request ids that `wait` has shown.
            "unwait" => Ask::Observe(Observe::Unwait(
                ids().iter().map(|id| id.as_str().parse().expect("the id of a request")).collect(),
            )),
            "watch" => Ask::Observe(Observe::Watch { ids: ids(), with_results: true }),
            "cancel" => Ask::Produce(Produce::Cancel {
                target: match (words.option("root"), words.option("tag")) {
                    (Some(root), _) => CancelTarget::Root(root.into()),
                    (_, Some(tag)) => CancelTarget::Tag(tag.into()),
                    _ => CancelTarget::Ids(ids()),
                },
                mode: match (words.has("force"), words.has("waiting")) {
                    (true, _) => CancelMode::Force,
                    (_, true) => CancelMode::Waiting,
                    _ => CancelMode::Cooperative,
                },
                grace_ms: words.span("grace").unwrap_or(10_000),
                reason: words.option("reason").unwrap_or("").into(),
            }),
            verb => match self.operate(verb, words) {
                Some(operate) => Ask::Operate(operate),
                None => return self.report(verb, first, words),
            },
        };
        (client(), ask)
    }

    fn operate(&self, verb: &str, words: &Words<'_>) -> Option<Operate> {
        let first = words.plain.get(1).copied().unwrap_or("");
        let ids = || plain_ids(words);
        Some(match verb {
            "queues" => Operate::ListQueues { names: Vec::new(), after: None },
            "configure" => Operate::ConfigureQueue(QueueRecord {
                name: queue(first),
                paused: false,
                tasks_max: words.number("tasks"),
                bytes_max: words.number("bytes"),
                expires_in_ms: words.span("expires"),
                result_ttl_ms: words.span("ttl"),
                declared: false,
                idle_ms: None,
            }),
            "declare" => Operate::DeclareQueue {
                record: QueueRecord {
                    tasks_max: words.number("tasks"),
                    idle_ms: words.span("idle"),
                    ..Queue::unconfigured(queue(first))
                },
                passive: words.has("passive"),
                may_configure: !words.has("strange"),
            },
            "pause" => Operate::PauseQueues { queues: vec![queue(first)], paused: true },
            "resume" => Operate::PauseQueues { queues: vec![queue(first)], paused: false },
            "drain" => Operate::Drain(!words.has("off")),
            "purge" => Operate::PurgeQueue { queue: queue(first), delete: false },
            "delete" => Operate::PurgeQueue { queue: queue(first), delete: true },
            "replay" if words.has("all") => Operate::ReplayDead(Dead::Matching(self.filter(words))),
            "replay" => Operate::ReplayDead(Dead::Ids(ids())),
            "discard" if words.has("all") => {
                Operate::DiscardDead(Dead::Matching(self.filter(words)))
            }
            "discard" => Operate::DiscardDead(Dead::Ids(ids())),
            "list" => Operate::ListTasks {
                filter: self.filter(words),
                limit: words.number("limit").unwrap_or(100) as usize,
                newest_first: words.has("newest"),
                just_ended: words.has("ended"),
                after: words.option("cursor").map(|text| cursor(text, words.has("newest"))),
                with_tracebacks: false,
            },
            "info" => Operate::Info,
            "stats" => Operate::Stats {
                names: words.plain[1..].iter().map(|name| queue(name)).collect(),
                after: words.option("after").map(queue),
            },
            "workers" => Operate::ListWorkers { after: None, with_tracebacks: false },
            "quiet" => Operate::OrderWorkers { instances: vec![first.into()], order: Order::Quiet },
            "wake" => Operate::OrderWorkers { instances: vec![first.into()], order: Order::Resume },
            "shutdown" => Operate::OrderWorkers { instances: Vec::new(), order: Order::Shutdown },
            _ => return None,
        })
    }

    fn filter(&self, words: &Words<'_>) -> Filter {
        let ago = |key| words.span(key).map(|span_ms| self.now.wall - span_ms as i64);
        Filter {
            queue: words.option("queue").map(queue),
            states: words.list("state").into_iter().map(state).collect(),
            name: words.option("name").map(|name| TaskName::parse(name).expect("a name")),
            tag: words.option("tag").map(Box::from),
            root: words.option("root").map(Box::from),
            id_prefix: words.option("prefix").unwrap_or("").into(),
            submitted_before: ago("older"),
            submitted_after: ago("younger"),
            scope: None,
        }
    }

    /// `state` is the state; `leased` names the latest lease of the task.
    fn outcome(&self, id: TaskId, words: &Words<'_>) -> TaskOutcome {
        let error = words.option("error").map(|message| Failure {
            kind: "Oops".into(),
            message: message.into(),
            ..Failure::default()
        });
        let latest = self.leases.get(id.as_str()).map_or(0, |(lease, _)| *lease);
        let lease = if words.option("leased").is_some() { latest } else { 0 };
        TaskOutcome {
            lease: words.number("lease").unwrap_or(lease),
            kind: match words.option("state").expect("an outcome has a state") {
                "SUCCESS" => OutcomeKind::Success,
                "FAILURE" => OutcomeKind::Failure(error.unwrap_or_default()),
                "REVOKED" => OutcomeKind::Revoked(error),
                state => OutcomeKind::Progress { state: state.into(), error },
            },
            body: Body {
                bytes: vec![b'x'; words.number("bytes").unwrap_or(2) as usize].into(),
                content_type: "".into(),
            },
            result_ttl_ms: words.span("ttl"),
            id,
        }
    }

    fn report(&self, verb: &str, task: &str, words: &Words<'_>) -> (u64, Ask) {
        let failure = || Failure { kind: "Oops".into(), ..Failure::default() };
        let kind = match verb {
            "start" => ReportKind::Started,
            "settle" => ReportKind::Settle,
            "progress" => ReportKind::Progress {
                state: "HALF".into(),
                meta: Bytes::copy_from_slice(words.option("meta").unwrap_or("0.5").as_bytes()),
            },
            "complete" => {
                let bytes = vec![b'x'; words.number("bytes").unwrap_or(2) as usize];
                ReportKind::Complete {
                    result: Body { bytes: bytes.into(), content_type: "".into() },
                    result_ttl_ms: words.span("ttl"),
                }
            }
            "fail" => ReportKind::Fail {
                error: failure(),
                last: words.has("last"),
                result: words.number("bytes").map(|bytes| Body {
                    bytes: vec![b'x'; bytes as usize].into(),
                    content_type: "".into(),
                }),
                result_ttl_ms: words.span("ttl"),
            },
            "again" => ReportKind::RetryLater { after_ms: words.span("in"), error: failure() },
            "release" => ReportKind::Release(match (words.has("not_begun"), words.has("lost")) {
                (true, _) => Release::NotBegun,
                (_, true) => Release::Lost,
                _ => Release::Unfinished,
            }),
            "reject" => ReportKind::Reject(failure()),
            verb => panic!("unknown command: {verb}"),
        };
        let (lease, holder) = self.leases.get(task).cloned().unwrap_or((0, "c".into()));
        let connection = self.number(words.option("by").unwrap_or(&holder));
        let lease = words.number("lease").unwrap_or(lease);
        (connection, Ask::Work(Work::Report(vec![Ok(TaskReport { id: id(task), lease, kind })])))
    }
}

/// `queues` and `names` are added, `without` and `forgets` are removed.
fn serving(words: &Words<'_>) -> Serving {
    let name = |name: &str| TaskName::parse(name).expect("a name");
    Serving {
        add_queues: words.list("queues").into_iter().map(|text| (queue(text), 1)).collect(),
        remove_queues: words.list("without").into_iter().map(queue).collect(),
        add_names: words.list("names").into_iter().map(name).collect(),
        remove_names: words.list("forgets").into_iter().map(name).collect(),
    }
}

/// `part G MEMBER`, `extend G`, and `sent G`: the body was sent.
fn chord_ask(verb: &str, words: &Words<'_>) -> ChordAsk {
    let number = |key| words.number(key).map(|number| number as u32);
    let (size, result_ttl_ms) = (number("size"), words.span("ttl"));
    let lease = words.number("lease").unwrap_or(0);
    let lease_ms = words.span("within").unwrap_or(30_000);
    match verb {
        "part" => ChordAsk::Part(ChordPart {
            member: id(words.plain[2]),
            index: number("index"),
            size,
            body: Body {
                bytes: vec![b'x'; words.number("bytes").unwrap_or(2) as usize].into(),
                content_type: "".into(),
            },
            result_ttl_ms,
            lease_ms,
        }),
        "extend" => ChordAsk::Extend(ChordExtend {
            size,
            added: words.list("added").into_iter().map(id).collect(),
            lease,
            claim: words.has("claim"),
            parts_from: number("from").unwrap_or(0),
            result_ttl_ms,
            lease_ms,
        }),
        _ => ChordAsk::Done { lease, result_ttl_ms },
    }
}

/// The ids in the words of a line.
fn plain_ids<T: FromIterator<TaskId>>(words: &Words<'_>) -> T {
    words.plain[1..].iter().filter(|word| !KEYWORDS.contains(word)).map(|word| id(word)).collect()
}

/// The words of a line that are not ids.
const KEYWORDS: [&str; 5] = ["any", "force", "started", "all", "waiting"];

/// `a1..a3` stands for three ids.
fn ids_of(words: &Words<'_>) -> Vec<TaskId> {
    let range = |word: &str| {
        let Some((first, last)) = word.split_once("..") else { return vec![id(word)] };
        let stem = first.trim_end_matches(char::is_numeric);
        let number = |text: &str| text[stem.len()..].parse::<u32>().expect("a number");
        (number(first)..=number(last)).map(|each| id(&format!("{stem}{each}"))).collect()
    };
    words.plain[1..].iter().flat_map(|word| range(word)).collect()
}

fn state(text: &str) -> State {
    use State::{Failure, Leased, Queued, Retry, Revoked, Scheduled, Started, Success};
    let all = [Scheduled, Queued, Leased, Started, Retry, Success, Failure, Revoked];
    all.into_iter()
        .find(|state| format!("{state:?}") == text)
        .unwrap_or_else(|| panic!("unknown state: {text}"))
}

/// `in` and `expires` are spans, `at` and `until` are times of day.
fn submission(id: TaskId, words: &Words<'_>, wall: i64) -> Submission {
    let usual = RetryPolicy::default();
    let when = |span: &str, time: &str| {
        let at = words.span(time).map(|span_ms| When::At(wall + span_ms as i64));
        at.or(words.span(span).map(When::In))
    };
    Submission {
        eta: when("in", "at"),
        expires: when("expires", "until"),
        result_ttl_ms: words.span("ttl"),
        on_conflict: match words.option("conflict") {
            Some("reject") => OnConflict::Reject,
            Some("replace") => OnConflict::Replace,
            Some("after") => OnConflict::RunAgainAfter,
            Some("supersede") => {
                OnConflict::Supersede { lease: words.number("lease").unwrap_or(0) }
            }
            Some("beside") => OnConflict::Beside,
            _ => OnConflict::RunAgainIfFinished,
        },
        spec: TaskSpec {
            id,
            name: TaskName::parse(words.option("name").unwrap_or("job")).expect("a name"),
            queue: words.option("queue").map(queue).unwrap_or_default(),
            payload: vec![0; words.number("bytes").unwrap_or(10) as usize].into(),
            content_type: "".into(),
            headers: Vec::new(),
            shadow: "".into(),
            priority: words.number("priority").unwrap_or(4) as u8,
            retry: RetryPolicy {
                attempts_max: words
                    .number("attempts")
                    .map_or(usual.attempts_max, |attempts| attempts as u32),
                backoff: match words.option("backoff") {
                    Some("fixed") => Backoff::Fixed,
                    Some("polynomial") => Backoff::Polynomial,
                    _ => usual.backoff,
                },
                delay_ms: words.span("delay").unwrap_or(usual.delay_ms),
                factor: words.number("factor").map_or(usual.factor, |factor| factor as f64),
                delay_max_ms: words.span("cap").unwrap_or(usual.delay_max_ms),
                jitter: match words.option("jitter") {
                    Some("full") => Jitter::Full,
                    Some("equal") => Jitter::Equal,
                    _ => usual.jitter,
                },
            },
            soft_time_limit_ms: words.span("soft"),
            time_limit_ms: words.span("limit"),
            max_deliveries: words
                .number("deliveries")
                .map_or(MAX_DELIVERIES_DEFAULT, |count| count as u32),
            early_ack: words.option("early_ack").is_some(),
            root_id: words.option("root").unwrap_or("").into(),
            parent_id: words.option("parent").unwrap_or("").into(),
            tags: words.list("tag").into_iter().map(Box::from).collect(),
            submit_key: words.option("key").unwrap_or("").into(),
            lead_ms: words.span("lead").unwrap_or(0),
            forget_at_end: words.option("forget_at_end").is_some(),
            announce_end: words.option("announce").is_some(),
        },
    }
}

/// A cursor as the script shows it: a slot, a serial, or a place in a list.
fn cursor(text: &str, newest: bool) -> Cursor {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match text.split('/').collect::<Vec<_>>()[..] {
        [list, group, order, slot, looked] => {
            let list = match list {
                "Dead" => List::Dead,
                "Leases" => List::Leases,
                "Line" => List::Line,
                "Ended" => List::Ended,
                other => panic!("there is no list `{other}`"),
            };
            let (slot, looked) = (number(slot) as u32, number(looked));
            Cursor::In(ListPlace { list, group: number(group), order: number(order), slot, looked })
        }
        _ if newest => Cursor::Serial(number(text)),
        _ => Cursor::Slot(number(text) as u32),
    }
}
