//! The shapes of all messages: which of their fields hold messages or may be repeated, and how
//! often each field may occur.
//!
//! `tests/shapes.rs` compares the shapes with the .proto files. The bounds here for a client's
//! frames are higher than the bounds that the broker applies to each item of a request. So the
//! broker refuses an item with a few tags too many alone, and the other items of its batch go on.
//!
//! If you add a message or a field that holds a message or may be repeated, add it here.

use crate::limits::{
    ANSWER_ITEMS_MAX, BATCH_FIELD_ITEMS_MAX, BUCKETS_FIELD_MAX, ERRORS_FIELD_MAX, FEATURES_MAX,
    HEADERS_FIELD_MAX, STATES_FIELD_MAX, TAGS_FIELD_MAX,
};
use crate::measure::{Field, Holds, Shape};

/// A field that holds one message, or none.
const fn one(number: u32, name: &'static str, shape: &'static Shape) -> Field {
    Field { number, name, max: 1, holds: Holds::Message(shape) }
}

/// A field that holds up to `max` messages.
const fn many(number: u32, name: &'static str, max: u32, shape: &'static Shape) -> Field {
    Field { number, name, max, holds: Holds::Message(shape) }
}

/// A field that holds up to `max` texts.
const fn texts(number: u32, name: &'static str, max: u32) -> Field {
    Field { number, name, max, holds: Holds::Text }
}

/// A field that holds up to `max` numbers.
const fn numbers(number: u32, name: &'static str, max: u32) -> Field {
    Field { number, name, max, holds: Holds::Number }
}

/// An entry of the map of headers: a name and a value.
const HEADER: Shape = Shape { name: "HeadersEntry", fields: &[] };

const QUEUE_SUBSCRIPTION: Shape = Shape { name: "QueueSubscription", fields: &[] };
const WORKER_INFO: Shape = Shape {
    name: "WorkerInfo",
    fields: &[
        many(1, "queues", BATCH_FIELD_ITEMS_MAX, &QUEUE_SUBSCRIPTION),
        texts(2, "task_names", BATCH_FIELD_ITEMS_MAX),
    ],
};
const SERVE: Shape = Shape {
    name: "Serve",
    fields: &[
        many(1, "add_queues", BATCH_FIELD_ITEMS_MAX, &QUEUE_SUBSCRIPTION),
        texts(2, "remove_queues", BATCH_FIELD_ITEMS_MAX),
        texts(3, "add_task_names", BATCH_FIELD_ITEMS_MAX),
        texts(4, "remove_task_names", BATCH_FIELD_ITEMS_MAX),
    ],
};
const TAKE: Shape = Shape { name: "Take", fields: &[] };
const HELLO: Shape = Shape {
    name: "Hello",
    fields: &[texts(9, "features", FEATURES_MAX), one(10, "worker", &WORKER_INFO)],
};
const GOODBYE: Shape = Shape { name: "Goodbye", fields: &[] };
const HEARTBEAT: Shape = Shape { name: "Heartbeat", fields: &[] };
const RETRY_POLICY: Shape = Shape { name: "RetryPolicy", fields: &[] };
const TASK: Shape = Shape {
    name: "Task",
    fields: &[
        many(6, "headers", HEADERS_FIELD_MAX, &HEADER),
        one(14, "retry", &RETRY_POLICY),
        texts(21, "tags", TAGS_FIELD_MAX),
    ],
};
const SUBMIT: Shape =
    Shape { name: "Submit", fields: &[many(1, "tasks", BATCH_FIELD_ITEMS_MAX, &TASK)] };
const CANCEL: Shape = Shape { name: "Cancel", fields: &[texts(1, "ids", BATCH_FIELD_ITEMS_MAX)] };
const FORGET: Shape = Shape { name: "Forget", fields: &[texts(1, "ids", BATCH_FIELD_ITEMS_MAX)] };
const GET: Shape = Shape { name: "Get", fields: &[texts(1, "ids", BATCH_FIELD_ITEMS_MAX)] };
const WAIT: Shape = Shape { name: "Wait", fields: &[texts(1, "ids", BATCH_FIELD_ITEMS_MAX)] };
const WATCH: Shape = Shape { name: "Watch", fields: &[texts(1, "ids", BATCH_FIELD_ITEMS_MAX)] };
const UNWATCH: Shape = Shape { name: "Unwatch", fields: &[] };
const UNWAIT: Shape =
    Shape { name: "Unwait", fields: &[numbers(1, "request_ids", BATCH_FIELD_ITEMS_MAX)] };
const CREDIT: Shape = Shape { name: "Credit", fields: &[] };
const STARTED: Shape = Shape { name: "Started", fields: &[] };
const PROGRESS_REPORT: Shape = Shape { name: "ProgressReport", fields: &[] };
const COMPLETE: Shape = Shape { name: "Complete", fields: &[] };
const TASK_ERROR: Shape = Shape { name: "TaskError", fields: &[] };
const FAIL: Shape = Shape { name: "Fail", fields: &[one(1, "error", &TASK_ERROR)] };
const RETRY_LATER: Shape = Shape { name: "RetryLater", fields: &[one(2, "error", &TASK_ERROR)] };
const RELEASE: Shape = Shape { name: "Release", fields: &[] };
const SETTLE: Shape = Shape { name: "Settle", fields: &[] };
const REJECT: Shape = Shape { name: "Reject", fields: &[one(1, "error", &TASK_ERROR)] };
const TASK_REPORT: Shape = Shape {
    name: "TaskReport",
    fields: &[
        one(3, "started", &STARTED),
        one(4, "progress", &PROGRESS_REPORT),
        one(5, "complete", &COMPLETE),
        one(6, "fail", &FAIL),
        one(7, "retry", &RETRY_LATER),
        one(8, "release", &RELEASE),
        one(9, "reject", &REJECT),
        one(10, "settle", &SETTLE),
    ],
};
const REPORT: Shape =
    Shape { name: "Report", fields: &[many(1, "reports", BATCH_FIELD_ITEMS_MAX, &TASK_REPORT)] };
const TASK_OUTCOME: Shape = Shape { name: "TaskOutcome", fields: &[one(7, "error", &TASK_ERROR)] };
const PUT_OUTCOME: Shape = Shape {
    name: "PutOutcome",
    fields: &[many(1, "outcomes", BATCH_FIELD_ITEMS_MAX, &TASK_OUTCOME)],
};
const CHORD_PART: Shape = Shape { name: "ChordPart", fields: &[] };
const CHORD_EXTEND: Shape =
    Shape { name: "ChordExtend", fields: &[texts(3, "added", BATCH_FIELD_ITEMS_MAX)] };
const CHORD_DONE: Shape = Shape { name: "ChordDone", fields: &[] };
const LIST_QUEUES: Shape =
    Shape { name: "ListQueues", fields: &[texts(1, "queues", BATCH_FIELD_ITEMS_MAX)] };
const QUEUE_SETTINGS: Shape = Shape { name: "QueueSettings", fields: &[] };
const CONFIGURE_QUEUE: Shape =
    Shape { name: "ConfigureQueue", fields: &[one(2, "settings", &QUEUE_SETTINGS)] };
const DECLARE_QUEUE: Shape =
    Shape { name: "DeclareQueue", fields: &[one(3, "settings", &QUEUE_SETTINGS)] };
const PAUSE_QUEUES: Shape =
    Shape { name: "PauseQueues", fields: &[texts(1, "queues", BATCH_FIELD_ITEMS_MAX)] };
const PURGE_QUEUE: Shape = Shape { name: "PurgeQueue", fields: &[] };
const DELETE_QUEUE: Shape = Shape { name: "DeleteQueue", fields: &[] };
const TASK_FILTER: Shape =
    Shape { name: "TaskFilter", fields: &[numbers(2, "states", STATES_FIELD_MAX)] };
const LIST_TASKS: Shape = Shape { name: "ListTasks", fields: &[one(1, "filter", &TASK_FILTER)] };
const REPLAY_DEAD: Shape = Shape {
    name: "ReplayDead",
    fields: &[texts(1, "ids", BATCH_FIELD_ITEMS_MAX), one(2, "filter", &TASK_FILTER)],
};
const DISCARD_DEAD: Shape = Shape {
    name: "DiscardDead",
    fields: &[texts(1, "ids", BATCH_FIELD_ITEMS_MAX), one(2, "filter", &TASK_FILTER)],
};
const LIST_WORKERS: Shape = Shape { name: "ListWorkers", fields: &[] };
const ORDER_WORKERS: Shape =
    Shape { name: "OrderWorkers", fields: &[texts(1, "instance_ids", BATCH_FIELD_ITEMS_MAX)] };
const BACKUP: Shape = Shape { name: "Backup", fields: &[] };
const INFO: Shape = Shape { name: "Info", fields: &[] };
const DRAIN: Shape = Shape { name: "Drain", fields: &[] };
const LOG_FILTER: Shape = Shape { name: "LogFilter", fields: &[] };
const STATS: Shape = Shape { name: "Stats", fields: &[texts(1, "queues", BATCH_FIELD_ITEMS_MAX)] };
const DECLARE_MAILBOX: Shape = Shape { name: "DeclareMailbox", fields: &[] };
const DELETE_MAILBOX: Shape = Shape { name: "DeleteMailbox", fields: &[] };
const PURGE_MAILBOX: Shape = Shape { name: "PurgeMailbox", fields: &[] };
const CONSUME: Shape = Shape { name: "Consume", fields: &[] };
const UNCONSUME: Shape = Shape { name: "Unconsume", fields: &[] };
const FETCH_MAIL: Shape = Shape { name: "FetchMail", fields: &[] };
const ACK_MAIL: Shape =
    Shape { name: "AckMail", fields: &[numbers(1, "tags", BATCH_FIELD_ITEMS_MAX)] };
const PUT_BACK_MAIL: Shape =
    Shape { name: "PutBackMail", fields: &[numbers(1, "tags", BATCH_FIELD_ITEMS_MAX)] };
const PUBLISH: Shape = Shape { name: "Publish", fields: &[] };
const DECLARE_EXCHANGE: Shape = Shape { name: "DeclareExchange", fields: &[] };
const DELETE_EXCHANGE: Shape = Shape { name: "DeleteExchange", fields: &[] };
const DESTINATION: Shape = Shape { name: "Destination", fields: &[] };
const BIND: Shape = Shape { name: "Bind", fields: &[one(3, "destination", &DESTINATION)] };
const UNBIND: Shape = Shape { name: "Unbind", fields: &[one(3, "destination", &DESTINATION)] };
const LIST_MAILBOXES: Shape = Shape { name: "ListMailboxes", fields: &[] };
const LIST_BINDINGS: Shape = Shape { name: "ListBindings", fields: &[] };

/// Every message that a client sends.
pub(crate) const CLIENT_FRAME: Shape = Shape {
    name: "ClientFrame",
    fields: &[
        one(16, "hello", &HELLO),
        one(17, "goodbye", &GOODBYE),
        one(18, "heartbeat", &HEARTBEAT),
        one(32, "submit", &SUBMIT),
        one(33, "cancel", &CANCEL),
        one(34, "forget", &FORGET),
        one(35, "get", &GET),
        one(36, "wait", &WAIT),
        one(37, "watch", &WATCH),
        one(38, "unwatch", &UNWATCH),
        one(39, "unwait", &UNWAIT),
        one(48, "credit", &CREDIT),
        one(49, "report", &REPORT),
        one(50, "serve", &SERVE),
        one(51, "take", &TAKE),
        one(60, "put_outcome", &PUT_OUTCOME),
        one(61, "chord_part", &CHORD_PART),
        one(62, "chord_extend", &CHORD_EXTEND),
        one(63, "chord_done", &CHORD_DONE),
        one(64, "list_queues", &LIST_QUEUES),
        one(65, "configure_queue", &CONFIGURE_QUEUE),
        one(66, "pause_queues", &PAUSE_QUEUES),
        one(67, "purge_queue", &PURGE_QUEUE),
        one(68, "delete_queue", &DELETE_QUEUE),
        one(69, "list_tasks", &LIST_TASKS),
        one(70, "replay_dead", &REPLAY_DEAD),
        one(71, "discard_dead", &DISCARD_DEAD),
        one(72, "list_workers", &LIST_WORKERS),
        one(73, "order_workers", &ORDER_WORKERS),
        one(74, "backup", &BACKUP),
        one(75, "declare_queue", &DECLARE_QUEUE),
        one(76, "info", &INFO),
        one(77, "drain", &DRAIN),
        one(78, "log_filter", &LOG_FILTER),
        one(79, "stats", &STATS),
        one(80, "declare_mailbox", &DECLARE_MAILBOX),
        one(81, "delete_mailbox", &DELETE_MAILBOX),
        one(82, "purge_mailbox", &PURGE_MAILBOX),
        one(83, "consume", &CONSUME),
        one(84, "unconsume", &UNCONSUME),
        one(85, "fetch_mail", &FETCH_MAIL),
        one(86, "ack_mail", &ACK_MAIL),
        one(87, "put_back_mail", &PUT_BACK_MAIL),
        one(88, "publish", &PUBLISH),
        one(89, "declare_exchange", &DECLARE_EXCHANGE),
        one(90, "delete_exchange", &DELETE_EXCHANGE),
        one(91, "bind", &BIND),
        one(92, "unbind", &UNBIND),
        one(93, "list_mailboxes", &LIST_MAILBOXES),
        one(94, "list_bindings", &LIST_BINDINGS),
    ],
};
const LIMITS: Shape = Shape { name: "Limits", fields: &[] };
const WELCOME: Shape = Shape {
    name: "Welcome",
    fields: &[
        one(9, "limits", &LIMITS),
        texts(10, "features", FEATURES_MAX),
        numbers(11, "leases", ANSWER_ITEMS_MAX),
    ],
};
const ERROR: Shape = Shape { name: "Error", fields: &[] };
const DONE: Shape = Shape { name: "Done", fields: &[] };
const HEARTBEAT_REPLY: Shape = Shape { name: "HeartbeatReply", fields: &[] };
const SUBMIT_OUTCOME: Shape = Shape { name: "SubmitOutcome", fields: &[one(4, "error", &ERROR)] };
const SUBMIT_REPLY: Shape = Shape {
    name: "SubmitReply",
    fields: &[many(1, "outcomes", ANSWER_ITEMS_MAX, &SUBMIT_OUTCOME)],
};
const CANCEL_OUTCOME: Shape = Shape { name: "CancelOutcome", fields: &[] };
const CANCEL_REPLY: Shape = Shape {
    name: "CancelReply",
    fields: &[many(1, "outcomes", ANSWER_ITEMS_MAX, &CANCEL_OUTCOME)],
};
const FORGET_REPLY: Shape =
    Shape { name: "ForgetReply", fields: &[numbers(1, "outcomes", ANSWER_ITEMS_MAX)] };
const PROGRESS: Shape = Shape { name: "Progress", fields: &[] };
const TASK_INFO: Shape = Shape {
    name: "TaskInfo",
    fields: &[
        many(9, "headers", HEADERS_FIELD_MAX, &HEADER),
        texts(10, "tags", TAGS_FIELD_MAX),
        one(27, "progress", &PROGRESS),
        many(28, "errors", ERRORS_FIELD_MAX, &TASK_ERROR),
    ],
};
const GET_REPLY: Shape = Shape {
    name: "GetReply",
    fields: &[
        many(1, "tasks", ANSWER_ITEMS_MAX, &TASK_INFO),
        numbers(2, "left_out", ANSWER_ITEMS_MAX),
    ],
};
const WAIT_REPLY: Shape = Shape {
    name: "WaitReply",
    fields: &[
        many(2, "tasks", ANSWER_ITEMS_MAX, &TASK_INFO),
        numbers(3, "left_out", ANSWER_ITEMS_MAX),
    ],
};
const WATCH_REPLY: Shape = Shape {
    name: "WatchReply",
    fields: &[
        many(2, "tasks", ANSWER_ITEMS_MAX, &TASK_INFO),
        numbers(3, "left_out", ANSWER_ITEMS_MAX),
    ],
};
const REPORT_OUTCOME: Shape = Shape { name: "ReportOutcome", fields: &[] };
const REPORT_REPLY: Shape = Shape {
    name: "ReportReply",
    fields: &[many(1, "outcomes", ANSWER_ITEMS_MAX, &REPORT_OUTCOME)],
};
const STORED_OUTCOME: Shape = Shape { name: "StoredOutcome", fields: &[one(3, "error", &ERROR)] };
const PUT_OUTCOME_REPLY: Shape = Shape {
    name: "PutOutcomeReply",
    fields: &[many(1, "outcomes", ANSWER_ITEMS_MAX, &STORED_OUTCOME)],
};
const CHORD_REPLY: Shape =
    Shape { name: "ChordReply", fields: &[texts(6, "parts", ANSWER_ITEMS_MAX)] };
const QUEUE_INFO: Shape =
    Shape { name: "QueueInfo", fields: &[one(11, "settings", &QUEUE_SETTINGS)] };
const QUEUE_LIST: Shape =
    Shape { name: "QueueList", fields: &[many(1, "queues", ANSWER_ITEMS_MAX, &QUEUE_INFO)] };
const DECLARE_QUEUE_REPLY: Shape = Shape { name: "DeclareQueueReply", fields: &[] };
const COUNT_REPLY: Shape = Shape { name: "CountReply", fields: &[] };
const TASK_PAGE: Shape =
    Shape { name: "TaskPage", fields: &[many(1, "tasks", ANSWER_ITEMS_MAX, &TASK_INFO)] };
const WORKER_STATUS: Shape = Shape {
    name: "WorkerStatus",
    fields: &[
        texts(4, "queues", ANSWER_ITEMS_MAX),
        texts(5, "task_names", ANSWER_ITEMS_MAX),
        many(8, "running", ANSWER_ITEMS_MAX, &TASK_INFO),
    ],
};
const WORKER_LIST: Shape =
    Shape { name: "WorkerList", fields: &[many(1, "workers", ANSWER_ITEMS_MAX, &WORKER_STATUS)] };
const BACKUP_REPLY: Shape = Shape { name: "BackupReply", fields: &[] };
const TASK_COUNTS: Shape = Shape { name: "TaskCounts", fields: &[] };
const DATA_USAGE: Shape = Shape { name: "DataUsage", fields: &[] };
const LOG_FILTER_REPLY: Shape = Shape { name: "LogFilterReply", fields: &[] };
const BROKER_INFO: Shape = Shape {
    name: "BrokerInfo",
    fields: &[
        one(12, "tasks", &TASK_COUNTS),
        one(13, "data", &DATA_USAGE),
        one(14, "limits", &LIMITS),
    ],
};
const HISTOGRAM: Shape =
    Shape { name: "Histogram", fields: &[numbers(1, "counts", BUCKETS_FIELD_MAX)] };
const QUEUE_COUNTERS: Shape = Shape {
    name: "QueueCounters",
    fields: &[one(10, "wait", &HISTOGRAM), one(11, "run", &HISTOGRAM)],
};
const QUEUE_STATS: Shape =
    Shape { name: "QueueStats", fields: &[one(15, "counters", &QUEUE_COUNTERS)] };
const AUTH_FAILURES: Shape = Shape { name: "AuthFailures", fields: &[] };
const REFUSED_COUNT: Shape = Shape { name: "RefusedCount", fields: &[] };
const PROCESS_STATS: Shape = Shape { name: "ProcessStats", fields: &[] };
const BROKER_STATS: Shape = Shape {
    name: "BrokerStats",
    fields: &[
        one(13, "removed_queues", &QUEUE_COUNTERS),
        one(14, "auth_failures", &AUTH_FAILURES),
        many(15, "refused", STATES_FIELD_MAX, &REFUSED_COUNT),
        one(16, "commit", &HISTOGRAM),
        numbers(17, "commit_bounds_us", BUCKETS_FIELD_MAX),
        one(18, "data", &DATA_USAGE),
        one(22, "process", &PROCESS_STATS),
    ],
};
const STATS_REPLY: Shape = Shape {
    name: "StatsReply",
    fields: &[
        one(2, "broker", &BROKER_STATS),
        many(3, "queues", ANSWER_ITEMS_MAX, &QUEUE_STATS),
        numbers(5, "bounds_ms", BUCKETS_FIELD_MAX),
    ],
};
const DELIVERY: Shape = Shape {
    name: "Delivery",
    fields: &[many(7, "headers", HEADERS_FIELD_MAX, &HEADER), texts(21, "tags", TAGS_FIELD_MAX)],
};
const DELIVER: Shape =
    Shape { name: "Deliver", fields: &[many(1, "deliveries", ANSWER_ITEMS_MAX, &DELIVERY)] };
const CANCEL_SIGNAL: Shape =
    Shape { name: "CancelSignal", fields: &[numbers(1, "leases", ANSWER_ITEMS_MAX)] };
const ORDER: Shape = Shape { name: "Order", fields: &[] };
const TRANSITION: Shape = Shape { name: "Transition", fields: &[one(2, "task", &TASK_INFO)] };
const MAILBOX_REPLY: Shape = Shape { name: "MailboxReply", fields: &[] };
const CONSUME_REPLY: Shape = Shape { name: "ConsumeReply", fields: &[] };
const MAIL_MESSAGE: Shape = Shape { name: "MailMessage", fields: &[] };
const FETCH_MAIL_REPLY: Shape =
    Shape { name: "FetchMailReply", fields: &[one(1, "message", &MAIL_MESSAGE)] };
const MAILBOX_INFO: Shape = Shape { name: "MailboxInfo", fields: &[] };
const MAILBOX_LIST: Shape =
    Shape { name: "MailboxList", fields: &[many(1, "mailboxes", ANSWER_ITEMS_MAX, &MAILBOX_INFO)] };
const BINDING_INFO: Shape =
    Shape { name: "BindingInfo", fields: &[one(4, "destination", &DESTINATION)] };
const BINDING_LIST: Shape =
    Shape { name: "BindingList", fields: &[many(1, "bindings", ANSWER_ITEMS_MAX, &BINDING_INFO)] };
const MAIL: Shape =
    Shape { name: "Mail", fields: &[many(2, "messages", ANSWER_ITEMS_MAX, &MAIL_MESSAGE)] };
const CONSUMER_ENDED: Shape = Shape { name: "ConsumerEnded", fields: &[] };
const CLOSING: Shape = Shape { name: "Closing", fields: &[one(1, "error", &ERROR)] };

/// Every message that the broker sends.
pub(crate) const SERVER_FRAME: Shape = Shape {
    name: "ServerFrame",
    fields: &[
        one(16, "welcome", &WELCOME),
        one(17, "error", &ERROR),
        one(18, "done", &DONE),
        one(19, "heartbeat_reply", &HEARTBEAT_REPLY),
        one(32, "submit_reply", &SUBMIT_REPLY),
        one(33, "cancel_reply", &CANCEL_REPLY),
        one(34, "forget_reply", &FORGET_REPLY),
        one(35, "get_reply", &GET_REPLY),
        one(36, "wait_reply", &WAIT_REPLY),
        one(37, "watch_reply", &WATCH_REPLY),
        one(49, "report_reply", &REPORT_REPLY),
        one(60, "put_outcome_reply", &PUT_OUTCOME_REPLY),
        one(61, "chord_reply", &CHORD_REPLY),
        one(64, "queue_list", &QUEUE_LIST),
        one(67, "count_reply", &COUNT_REPLY),
        one(69, "task_page", &TASK_PAGE),
        one(72, "worker_list", &WORKER_LIST),
        one(74, "backup_reply", &BACKUP_REPLY),
        one(75, "declare_queue_reply", &DECLARE_QUEUE_REPLY),
        one(76, "broker_info", &BROKER_INFO),
        one(78, "log_filter_reply", &LOG_FILTER_REPLY),
        one(79, "stats_reply", &STATS_REPLY),
        one(80, "mailbox_reply", &MAILBOX_REPLY),
        one(83, "consume_reply", &CONSUME_REPLY),
        one(85, "fetch_mail_reply", &FETCH_MAIL_REPLY),
        one(93, "mailbox_list", &MAILBOX_LIST),
        one(94, "binding_list", &BINDING_LIST),
        one(128, "deliver", &DELIVER),
        one(129, "cancel_signal", &CANCEL_SIGNAL),
        one(130, "order", &ORDER),
        one(131, "transition", &TRANSITION),
        one(133, "closing", &CLOSING),
        one(134, "mail", &MAIL),
        one(135, "consumer_ended", &CONSUMER_ENDED),
    ],
};
