//! The bounds that client and broker both know, each with its reason. An operator may change the
//! bounds that `Welcome.limits` names; the constants here are their defaults. The other bounds are
//! fixed.
//!
//! ```
//! use celeriac_proto::limits;
//!
//! // One payload fits into a frame, with room for names, tags and headers.
//! assert!(limits::PAYLOAD_BYTES_MAX + limits::HEADERS_BYTES_MAX < limits::FRAME_BYTES_MAX);
//! ```

/// The protocol version that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The default port: the keys for CELER on a phone.
pub const DEFAULT_PORT: u16 = 23537;

/// The name of the protocol in the handshake of TLS (ALPN). The number is [`PROTOCOL_VERSION`].
pub const ALPN: &str = "celeriac/1";

/// The longest frame before the handshake, in bytes: a `Hello` with 10,000 queues and 10,000 task
/// names of 255 bytes fits. When the broker asks for a token, it reads at most
/// [`HELLO_PREFIX_BYTES`] of the frame until it has found the right token.
pub const FRAME_BYTES_MAX_BEFORE_HELLO: usize = 6 * 1024 * 1024;

/// The token of a `Hello` ends within this number of bytes of the frame, without the length in
/// front: the longest token fits there with the fields before it.
pub const HELLO_PREFIX_BYTES: usize = 4 * 1024;

/// The longest frame after the handshake, in bytes, by default. The payload of one task must fit.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest id or name, in bytes: enough for a URL or a token, and short enough to keep millions
/// in memory.
pub const NAME_BYTES_MAX: usize = 255;

/// The largest payload of one task, in bytes, by default. Put larger inputs into a file store, and
/// their address into the payload.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The largest result of one task, in bytes, by default.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// The most items in one batch: the broker handles so many without a delay that another connection
/// notices.
pub const BATCH_ITEMS_MAX: usize = 10_000;

/// The most items of one batch that a decoder accepts: somewhat more than a batch may have, so that
/// the broker can answer a batch that is too long.
pub const BATCH_FIELD_ITEMS_MAX: u32 = 16_384;

/// The most items of one list in an answer. A listing of all queues is the longest list.
pub const ANSWER_ITEMS_MAX: u32 = 131_072;

/// The most fields of a client's frame, at every depth: about a hundred for each task of a full
/// batch. The broker refuses a frame with more before it decodes the frame, because two bytes of it
/// may become 200 bytes in memory.
pub const CLIENT_FRAME_FIELDS_MAX: u32 = 1 << 20;

/// The most fields of a broker's frame, at every depth. The bound is higher, because a client has
/// reason to trust its broker.
pub const SERVER_FRAME_FIELDS_MAX: u32 = 1 << 24;

/// The most fields of one message that are not counted one by one: the fields that are not
/// repeated, and unknown fields.
pub const MESSAGE_FIELDS_MAX: u32 = 128;

/// The most unanswered requests of one connection. The broker reads no further while there are so
/// many. A `Wait` does not count.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;

/// The most ids that one connection may wait for, in all its `Wait`s together. The broker keeps an
/// entry for each.
pub const WAITED_IDS_MAX: usize = 200_000;

/// The most ids that one connection may watch. Each transition of each id is a message to it.
pub const WATCHED_IDS_MAX: usize = 100_000;

/// The most leases that one session may hold.
pub const CREDIT_MAX: u32 = 10_000;

/// The highest priority; 0 is the lowest.
pub const PRIORITY_MAX: u32 = 9;

/// The priority of a task that names none.
pub const PRIORITY_DEFAULT: u32 = 4;

/// The most bytes in the headers of one task, names and values together.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// The most headers of one task.
pub const HEADERS_MAX: usize = 256;

/// The most headers of one task that a decoder accepts. The broker refuses a task with a few
/// headers too many alone, and a frame with more than this as a whole.
pub const HEADERS_FIELD_MAX: u32 = 1_024;

/// The most bytes of the key of a submit.
pub const SUBMIT_KEY_BYTES_MAX: usize = 64;

/// The most tags of one task.
pub const TAGS_MAX: usize = 32;

/// The most tags of one task that a decoder accepts, as for [headers](HEADERS_FIELD_MAX).
pub const TAGS_FIELD_MAX: u32 = 64;

/// The most members of one chord, and the most parts and added members that the broker keeps of it.
pub const CHORD_PARTS_MAX: usize = 100_000;

/// The most states in one filter that a decoder accepts; there are eight states.
pub const STATES_FIELD_MAX: u32 = 64;

/// The most errors of one task that a decoder accepts; the broker keeps [`ERRORS_KEPT`].
pub const ERRORS_FIELD_MAX: u32 = 64;

/// The most buckets of one histogram that a decoder accepts; the broker has fewer than 20.
pub const BUCKETS_FIELD_MAX: u32 = 256;

/// The most optional abilities that one side may name in the handshake.
pub const FEATURES_MAX: u32 = 64;

/// The most queues that one worker may announce, and the most task names.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;

/// The most bytes in the meta of one progress report. The broker stores it again with every report.
pub const PROGRESS_BYTES_MAX: usize = 64 * 1024;

/// The most messages that wait in one mailbox, and the default. The broker drops the oldest.
pub const MAILBOX_MESSAGES_MAX: u32 = 10_000;

/// The most bytes of the messages that wait in one mailbox, and the default.
pub const MAILBOX_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The bytes that count for each message of a mailbox beside its own: the memory of the broker's
/// own data about it.
pub const MAIL_OVERHEAD_BYTES: u64 = 256;

/// The most bytes in the properties of one message of a mailbox, as for the
/// [headers](HEADERS_BYTES_MAX) of a task.
pub const MAIL_PROPERTIES_BYTES_MAX: usize = HEADERS_BYTES_MAX;

/// The most messages that one connection may have got and not acknowledged. The broker pushes no
/// more until it acknowledges some.
pub const MAIL_UNACKNOWLEDGED_MAX: usize = 1_000;

/// The same in bytes. The message that reaches the bound may pass it.
pub const MAIL_UNACKNOWLEDGED_BYTES_MAX: u64 = 1024 * 1024;

/// The most bytes in the message of one error, and in its traceback. The broker cuts longer texts.
pub const ERROR_TEXT_BYTES_MAX: usize = 16 * 1024;

/// The number of errors that the broker keeps of one task. It drops the oldest first.
pub const ERRORS_KEPT: usize = 5;

/// The latest time, in milliseconds since 1970: the end of the year 9999. A later time is a
/// mistake, and so is a time before 1970.
pub const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// The longest span, in milliseconds: 100 years. The broker refuses a longer span as a mistake.
pub const SPAN_MS_MAX: u64 = 100 * 365 * 24 * 3_600 * 1_000;
