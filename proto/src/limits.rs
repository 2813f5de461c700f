//! The bounds that both sides know, each with its reason. What a broker may configure is named
//! in `Welcome.limits`; these are the defaults and the hard edges.

/// The protocol version that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The default port: CELER on a phone's keypad.
pub const DEFAULT_PORT: u16 = 23537;

/// The longest frame before the handshake: a `Hello` with a few hundred task names fits, an attack does not.
pub const FRAME_BYTES_MAX_BEFORE_HELLO: usize = 64 * 1024;

/// The longest frame after the handshake, by default. One task's payload has to fit.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest id or name, in bytes: enough for a URL or a token, short enough to keep in memory by the million.
pub const NAME_BYTES_MAX: usize = 255;

/// Payload of one task, by default. Larger inputs belong in a file store, with their address in the payload.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Result of one task, by default.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// Items in one batch: what the broker handles without another connection noticing.
pub const BATCH_ITEMS_MAX: usize = 10_000;

/// Items in one frame; a listing of all queues is the longest. Beyond it a frame is refused undecoded: two bytes of it
/// may become 500 in memory.
pub const FRAME_ITEMS_MAX: usize = 131_072;

/// Items in one frame before the handshake, where only a `Hello` is expected.
pub const FRAME_ITEMS_MAX_BEFORE_HELLO: usize = 1_024;

/// Unanswered requests of one connection; beyond it the broker reads no further.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;

/// Leases that one session may hold.
pub const CREDIT_MAX: u32 = 10_000;

/// Highest priority; 0 is the lowest.
pub const PRIORITY_MAX: u32 = 9;

/// Priority of a task that names none.
pub const PRIORITY_DEFAULT: u32 = 4;

/// Headers of one task, keys and values together, in bytes.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// Tags of one task.
pub const TAGS_MAX: usize = 32;

/// Progress meta of one report, in bytes: it is rewritten with every report.
pub const PROGRESS_BYTES_MAX: usize = 64 * 1024;

/// Message and traceback of one error, each; longer ones are cut.
pub const ERROR_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Errors kept of one task; then the oldest goes.
pub const ERRORS_KEPT: usize = 5;

/// Spans longer than this are refused as mistakes: 100 years.
pub const SPAN_MS_MAX: u64 = 100 * 365 * 24 * 3_600 * 1_000;
