//! The bounds that both sides know, each with its reason. What a broker may configure is named
//! in `Welcome.limits`; these are the defaults and the hard edges.

/// The protocol version that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The default port: CELER on a phone's keypad.
pub const DEFAULT_PORT: u16 = 23537;

/// The longest frame before the handshake: a `Hello` with 10,000 queues and 10,000 task names of
/// 255 bytes fits. Where the broker asks for a token, no more than [`HELLO_PREFIX_BYTES`] of it are
/// read before the token was found to be right.
pub const FRAME_BYTES_MAX_BEFORE_HELLO: usize = 6 * 1024 * 1024;

/// The token of a `Hello` ends within so many bytes of the frame, the length in front of it not
/// counted: the longest token fits there with the fields before it.
pub const HELLO_PREFIX_BYTES: usize = 4 * 1024;

/// The longest frame after the handshake, by default. One task's payload has to fit.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest id or name, in bytes: enough for a URL or a token, short enough to keep in memory by
/// the million.
pub const NAME_BYTES_MAX: usize = 255;

/// Payload of one task, by default. Larger inputs belong in a file store, with their address in the
/// payload.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Result of one task, by default.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// Items in one batch: what the broker handles without another connection noticing.
pub const BATCH_ITEMS_MAX: usize = 10_000;

/// Items of one batch that are decoded: some more than a batch may have, so that the answer can say
/// so.
pub const BATCH_FIELD_ITEMS_MAX: u32 = 16_384;

/// Items of one list in an answer; a listing of all queues is the longest.
pub const ANSWER_ITEMS_MAX: u32 = 131_072;

/// Fields of one frame of a client, at every depth: about a hundred for each task of a full batch.
/// Beyond it a frame is refused undecoded, because two bytes of it may become 200 in memory.
pub const CLIENT_FRAME_FIELDS_MAX: u32 = 1 << 20;

/// The same for a frame of the broker, whom a client has reason to trust.
pub const SERVER_FRAME_FIELDS_MAX: u32 = 1 << 24;

/// Fields of one message that are not counted by themselves: those that are there once, and those
/// that nobody knows.
pub const MESSAGE_FIELDS_MAX: u32 = 128;

/// Unanswered requests of one connection; beyond it the broker reads no further.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;

/// Ids that one connection may wait for, in all its `Wait`s together: each is remembered. A `Wait`
/// is no unanswered request.
pub const WAITED_IDS_MAX: usize = 200_000;

/// Ids that one connection may watch: each transition of each is a message to it.
pub const WATCHED_IDS_MAX: usize = 100_000;

/// Leases that one session may hold.
pub const CREDIT_MAX: u32 = 10_000;

/// Highest priority; 0 is the lowest.
pub const PRIORITY_MAX: u32 = 9;

/// Priority of a task that names none.
pub const PRIORITY_DEFAULT: u32 = 4;

/// Headers of one task, keys and values together, in bytes.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// How many headers one task may have.
pub const HEADERS_MAX: usize = 256;

/// Headers of one task that are decoded: with a few too many the task is refused, with more the
/// frame.
pub const HEADERS_FIELD_MAX: u32 = 1_024;

/// Tags of one task.
pub const TAGS_MAX: usize = 32;

/// Tags of one task that are decoded, as for headers.
pub const TAGS_FIELD_MAX: u32 = 64;

/// States in one filter that are decoded; there are eight.
pub const STATES_FIELD_MAX: u32 = 64;

/// Errors of one task that are decoded; the broker keeps five.
pub const ERRORS_FIELD_MAX: u32 = 64;

/// Optional abilities that one side may name.
pub const FEATURES_MAX: u32 = 64;

/// Queues, and task names, that one worker may announce.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Progress meta of one report, in bytes: it is rewritten with every report.
pub const PROGRESS_BYTES_MAX: usize = 64 * 1024;

/// Message and traceback of one error, each; longer ones are cut.
pub const ERROR_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Errors kept of one task; then the oldest goes.
pub const ERRORS_KEPT: usize = 5;

/// Times in milliseconds since 1970 end with the year 9999: later is a mistake, and so is anything
/// before 1970.
pub const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// Spans longer than this are refused as mistakes: 100 years.
pub const SPAN_MS_MAX: u64 = 100 * 365 * 24 * 3_600 * 1_000;
