//! The cost of a frame, found before the frame is decoded: a walk over its bytes that allocates
//! nothing.
//!
//! Two bytes on the wire may become 500 bytes in memory. So this module counts every field at every
//! depth, unknown fields too, and refuses a frame with too many fields of one kind before it is
//! decoded. It does not look at the meaning of the fields, nor does it check that the bytes are a
//! right message: where they are not, the walk ends, as the decoder will.

use bytes::Bytes;
use prost::DecodeError;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::limits::{CLIENT_FRAME_FIELDS_MAX, MESSAGE_FIELDS_MAX, SERVER_FRAME_FIELDS_MAX};
use crate::shapes;
use crate::wire::{ClientFrame, ServerFrame};

/// The fields of a message that are counted one by one: the fields that hold messages, and the
/// fields that may be repeated.
#[derive(Debug)]
pub struct Shape {
    /// The message's name, without its package.
    pub name: &'static str,
    /// The counted fields. Every other field of the message holds one text or number.
    pub fields: &'static [Field],
}

/// A field that is counted one by one.
#[derive(Debug)]
pub struct Field {
    /// The number of the field on the wire.
    pub number: u32,
    /// The name of the field.
    pub name: &'static str,
    /// How often the field may occur in one message.
    pub max: u32,
    /// The content of the field.
    pub holds: Holds,
}

/// The content of a field.
#[derive(Debug)]
pub enum Holds {
    /// A message of this shape. A map has a message for each of its entries.
    Message(&'static Shape),
    /// Text or bytes.
    Text,
    /// Numbers, one by one or packed. Packed numbers count one by one too.
    Number,
}

/// A message that is sent as a frame: [`ClientFrame`] or [`ServerFrame`].
pub trait Frame: prost::Message + Default {
    /// The fields that are counted one by one, in this message and in the messages inside it.
    const SHAPE: &'static Shape;
    /// The most fields that the frame may have in all, at every depth.
    const FIELDS_MAX: u32;

    /// A blank frame whose body has this name in the frame, with room for so many items. `None`:
    /// such a body is no batch.
    fn with_room(body: &str, items: usize) -> Option<Self>;
}

impl Frame for ClientFrame {
    const SHAPE: &'static Shape = &shapes::CLIENT_FRAME;
    const FIELDS_MAX: u32 = CLIENT_FRAME_FIELDS_MAX;

    fn with_room(body: &str, items: usize) -> Option<Self> {
        use crate::wire::{Report, Submit, client_frame::Body};
        let body = match body {
            "submit" => Body::Submit(Submit { tasks: Vec::with_capacity(items) }),
            "report" => Body::Report(Report { reports: Vec::with_capacity(items) }),
            _ => return None,
        };
        Some(Self { body: Some(body), ..Self::default() })
    }
}

impl Frame for ServerFrame {
    const SHAPE: &'static Shape = &shapes::SERVER_FRAME;
    const FIELDS_MAX: u32 = SERVER_FRAME_FIELDS_MAX;

    fn with_room(body: &str, items: usize) -> Option<Self> {
        use crate::wire::{Deliver, ReportReply, SubmitReply, server_frame::Body};
        let body = match body {
            "deliver" => Body::Deliver(Deliver { deliveries: Vec::with_capacity(items) }),
            "submit_reply" => {
                Body::SubmitReply(SubmitReply { outcomes: Vec::with_capacity(items) })
            }
            "report_reply" => {
                Body::ReportReply(ReportReply { outcomes: Vec::with_capacity(items) })
            }
            _ => return None,
        };
        Some(Self { body: Some(body), ..Self::default() })
    }
}

/// The result of the walk over a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measure {
    /// The number of fields at every depth, packed numbers included.
    pub fields: u32,
    /// The number of steps of the walk, never more than the frame has bytes.
    pub steps: usize,
    /// The name of the frame's body in the frame, and the number of its most frequent field. Empty
    /// if the frame has no body, or is short.
    batch: (&'static str, u32),
}

impl Measure {
    /// Decodes the frame that was measured. A long batch is decoded into memory of its size: memory
    /// that grows item by item would be copied several times.
    ///
    /// # Errors
    /// As the decoder finds them.
    pub fn decode<F: Frame>(&self, frame: Bytes) -> Result<F, DecodeError> {
        let (body, items) = self.batch;
        let is_long = items >= LONG_BATCH_ITEMS;
        // Every item has at least two bytes, so a frame cannot ask for more memory than it fills.
        let blank = is_long.then(|| F::with_room(body, items as usize)).flatten();
        let mut decoded = blank.unwrap_or_default();
        decoded.merge(frame)?;
        Ok(decoded)
    }
}

/// A frame has too many fields of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {max} {what} in a {message}")]
pub struct TooMany {
    /// The name of the field, or a description of the fields that were counted together.
    pub what: &'static str,
    /// The name of the message that has these fields.
    pub message: &'static str,
    /// How many fields of this kind are allowed.
    pub max: u32,
}

/// The most fields of one message that are counted one by one. [`shapes`] has no longer message.
const COUNTED_FIELDS_MAX: usize = 64;

// The frames have the most fields of all messages.
const _: () = assert!(
    ClientFrame::SHAPE.fields.len() <= COUNTED_FIELDS_MAX
        && ServerFrame::SHAPE.fields.len() <= COUNTED_FIELDS_MAX
);

/// A frame of up to this length costs almost nothing, whatever it holds, and is not counted.
const SHORT_BYTES: usize = 256;

/// A shorter batch is decoded into memory that grows.
const LONG_BATCH_ITEMS: u32 = 8;

/// Counts the fields of a frame, given the bytes of its message without the length in front.
///
/// The function walks over the bytes once and allocates nothing. It does not walk over a frame of
/// up to 256 bytes. Bytes that are not a message are no error here: the decoder finds them.
///
/// # Errors
/// [`TooMany`] for the first bound that the frame breaks.
///
/// ```
/// use celeriac_proto::measure::measure;
/// use celeriac_proto::wire::{ClientFrame, Submit, Task, client_frame::Body};
/// use prost::Message;
///
/// let bytes_of = |tasks| {
///     let submit = Submit { tasks: vec![Task::default(); tasks] };
///     let body = Some(Body::Submit(submit));
///     ClientFrame { request_id: 1, timeout_ms: 0, body }.encode_to_vec()
/// };
/// // The frame's id and body, and one field for each task.
/// assert_eq!(measure::<ClientFrame>(&bytes_of(10_000))?.fields, 10_002);
/// let refused = measure::<ClientFrame>(&bytes_of(30_000)).expect_err("no batch is so long");
/// assert_eq!(refused.to_string(), "more than 16384 tasks in a Submit");
/// # Ok::<(), celeriac_proto::measure::TooMany>(())
/// ```
pub fn measure<F: Frame>(frame: &[u8]) -> Result<Measure, TooMany> {
    if frame.len() <= SHORT_BYTES {
        return Ok(Measure { fields: frame.len() as u32 / 2, ..Measure::default() });
    }
    measure_as(F::SHAPE, F::FIELDS_MAX, frame)
}

fn measure_as(shape: &'static Shape, fields_max: u32, frame: &[u8]) -> Result<Measure, TooMany> {
    let mut walk = Walk { found: Measure::default(), fields_max, frame: shape.name };
    match walk.message(shape, frame, 0) {
        Err(Stop::TooMany(error)) => Err(error),
        Ok(()) | Err(Stop::Malformed) => Ok(walk.found),
    }
}

/// The state of a walk over one frame.
struct Walk {
    found: Measure,
    fields_max: u32,
    frame: &'static str,
}

/// Why a walk ends before the frame does.
enum Stop {
    /// A bound is broken.
    TooMany(TooMany),
    /// The bytes are not a message. The decoder will find the mistake and name it.
    Malformed,
}

impl Walk {
    /// The shapes bound the depth of the recursion: no message holds a message of its own kind.
    fn message(
        &mut self,
        shape: &'static Shape,
        mut bytes: &[u8],
        depth: usize,
    ) -> Result<(), Stop> {
        let mut counts = [0_u32; COUNTED_FIELDS_MAX];
        let mut others = 0;
        while !bytes.is_empty() {
            let (number, content) = next_field(&mut bytes).ok_or(Stop::Malformed)?;
            self.count(1)?;
            let Some(index) = shape.fields.iter().position(|field| field.number == number) else {
                others += 1;
                bounded(
                    others,
                    MESSAGE_FIELDS_MAX,
                    "fields that are unknown or not repeated",
                    shape,
                )?;
                continue;
            };
            let field = &shape.fields[index];
            let (items, inside) = match (content, &field.holds) {
                (Some(content), Holds::Message(shape)) => (1, Some((shape, content))),
                (Some(content), Holds::Number) => (self.packed(content)?, None),
                _ => (1, None),
            };
            counts[index] = counts[index].saturating_add(items);
            bounded(counts[index], field.max, field.name, shape)?;
            match depth {
                0 => self.found.batch = (field.name, 0),
                1 => self.found.batch.1 = self.found.batch.1.max(counts[index]),
                _ => {}
            }
            if let Some((inner, content)) = inside {
                self.message(inner, content, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Counts packed numbers: each number ends with a byte below 128.
    fn packed(&mut self, numbers: &[u8]) -> Result<u32, Stop> {
        let count = numbers.iter().filter(|byte| **byte < 0x80).count();
        self.found.steps += numbers.len();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.count(count)?;
        Ok(count)
    }

    /// Counts fields of the whole frame.
    fn count(&mut self, fields: u32) -> Result<(), Stop> {
        self.found.fields = self.found.fields.saturating_add(fields);
        self.found.steps += 1;
        if self.found.fields > self.fields_max {
            return Err(Stop::TooMany(TooMany {
                what: "fields",
                message: self.frame,
                max: self.fields_max,
            }));
        }
        Ok(())
    }
}

/// Refuses a count of fields over its bound.
fn bounded(count: u32, max: u32, what: &'static str, shape: &Shape) -> Result<(), Stop> {
    if count > max {
        Err(Stop::TooMany(TooMany { what, message: shape.name, max }))
    } else {
        Ok(())
    }
}

/// Removes one field from the front of a message. Returns its number, and its content if the
/// content has a length. Returns `None` when the bytes are not a whole field.
pub(crate) fn next_field<'a>(message: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let (number, wire_type) = key(message)?;
    let length = match wire_type {
        WireType::Varint => {
            varint(message)?;
            return Some((number, None));
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(varint(message)?).ok()?,
        // No message of this protocol has groups. The fields in a group count as if they stood
        // beside it, and the decoder bounds how deep it follows groups.
        WireType::StartGroup | WireType::EndGroup => 0,
    };
    let (content, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some((number, (wire_type == WireType::LengthDelimited).then_some(content)))
}

/// Removes the number and the wire type of a field. Nearly all of them have one byte.
#[inline]
fn key(message: &mut &[u8]) -> Option<(u32, WireType)> {
    let (number, wire_type) = match **message {
        [first @ 8..0x80, ..] => {
            *message = &message[1..];
            (first >> 3, first & 7)
        }
        _ => return decode_key(message).ok(),
    };
    Some((number.into(), WireType::try_from(u64::from(wire_type)).ok()?))
}

/// Removes a number. Nearly all of them have one byte.
#[inline]
fn varint(message: &mut &[u8]) -> Option<u64> {
    match **message {
        [first @ ..0x80, ..] => {
            *message = &message[1..];
            Some(first.into())
        }
        _ => decode_varint(message).ok(),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::limits::{BATCH_FIELD_ITEMS_MAX, TAGS_FIELD_MAX};
    use crate::wire::{Hello, ListTasks, Submit, Task, TaskFilter, client_frame::Body};

    fn measured(body: Body) -> Result<Measure, TooMany> {
        let frame = ClientFrame { request_id: 1, timeout_ms: 0, body: Some(body) }.encode_to_vec();
        let measure = measure::<ClientFrame>(&frame);
        assert!(measure.is_err() || measure.is_ok_and(|measure| measure.steps <= frame.len()));
        measure
    }

    fn tagged(tags: u32) -> Task {
        Task { tags: vec![String::new(); tags as usize], ..Task::default() }
    }

    #[test]
    fn a_field_is_counted_at_every_depth() {
        let tasks = vec![tagged(TAGS_FIELD_MAX); 10];
        // The frame's id and body, ten tasks, and the tags of each.
        assert_eq!(
            measured(Body::Submit(Submit { tasks })).map(|m| m.fields),
            Ok(2 + 10 + 10 * TAGS_FIELD_MAX)
        );
        let tasks =
            vec![tagged(1), Task { shadow: "x".repeat(SHORT_BYTES), ..tagged(TAGS_FIELD_MAX + 1) }];
        let refused = measured(Body::Submit(Submit { tasks })).expect_err("one tag too many");
        assert_eq!(refused.to_string(), format!("more than {TAGS_FIELD_MAX} tags in a Task"));
    }

    #[test]
    fn a_batch_is_bounded_and_the_error_says_so() {
        let submit = |tasks| measured(Body::Submit(Submit { tasks: vec![Task::default(); tasks] }));
        assert!(submit(BATCH_FIELD_ITEMS_MAX as usize).is_ok());
        let refused = submit(BATCH_FIELD_ITEMS_MAX as usize + 1).expect_err("one task too many");
        assert_eq!(
            (refused.what, refused.message, refused.max),
            ("tasks", "Submit", BATCH_FIELD_ITEMS_MAX)
        );
    }

    #[test]
    fn a_body_that_comes_twice_is_counted_once_and_refused() {
        let submit = ClientFrame {
            body: Some(Body::Submit(Submit { tasks: vec![tagged(60); 3] })),
            ..Default::default()
        };
        let twice = [submit.encode_to_vec(), submit.encode_to_vec()].concat();
        let refused =
            measure::<ClientFrame>(&twice).expect_err("the decoder would put the two together");
        assert_eq!((refused.what, refused.max), ("submit", 1));
    }

    #[test]
    fn a_batch_is_decoded_into_memory_of_its_size() {
        let tasks: Vec<Task> =
            (0..100).map(|id| Task { id: format!("task-{id}"), ..Task::default() }).collect();
        let submit = ClientFrame {
            request_id: 7,
            timeout_ms: 0,
            body: Some(Body::Submit(Submit { tasks })),
        };
        let frame = Bytes::from(submit.encode_to_vec());
        let decoded: ClientFrame =
            measure::<ClientFrame>(&frame).expect("few fields").decode(frame).expect("a frame");
        assert_eq!(decoded, submit);
        let Some(Body::Submit(Submit { tasks })) = decoded.body else { panic!("a submit") };
        assert_eq!(tasks.capacity(), 100);
    }

    /// The measure of one frame decodes no other frame wrongly, so that a mistake costs time alone.
    #[test]
    fn a_frame_is_decoded_as_it_is_whatever_was_measured() {
        let submit = |tasks| ClientFrame {
            request_id: 1,
            timeout_ms: 0,
            body: Some(Body::Submit(Submit { tasks: vec![tagged(60); tasks] })),
        };
        let heartbeat = ClientFrame { request_id: 2, ..ClientFrame::default() };
        let measured = measure::<ClientFrame>(&submit(9).encode_to_vec()).expect("few fields");
        for frame in [submit(1), submit(9), submit(30)] {
            assert_eq!(measured.decode(frame.encode_to_vec().into()), Ok(frame));
        }
        // This frame has no body, so the room for one must not be one.
        let measured = measure::<ClientFrame>(&heartbeat.encode_to_vec()).expect("few fields");
        assert_eq!(measured.decode(heartbeat.encode_to_vec().into()), Ok(heartbeat));
    }

    #[test]
    fn packed_numbers_are_counted_one_by_one() {
        let listing = |states| {
            let filter = TaskFilter {
                states: vec![1; states],
                id_prefix: "x".repeat(300),
                ..Default::default()
            };
            measured(Body::ListTasks(ListTasks { filter: Some(filter), ..Default::default() }))
        };
        assert!(listing(10).is_ok());
        assert_eq!(listing(1_000).map_err(|refused| refused.what), Err("states"));
    }

    #[test]
    fn unknown_fields_and_fields_that_come_again_are_counted() {
        for number in [15_u8, 1] {
            let frame = [number << 3, 1].repeat(1_000);
            assert_eq!(
                measure::<ClientFrame>(&frame).expect_err("far too many").max,
                MESSAGE_FIELDS_MAX
            );
        }
        // Groups in groups.
        assert!(measure::<ClientFrame>(&[0x0b; 60_000]).is_err());
    }

    #[test]
    fn all_fields_together_are_bounded() {
        let task = Task {
            headers: (0..400).map(|key| (key.to_string(), "x".into())).collect(),
            ..Task::default()
        };
        let refused = measured(Body::Submit(Submit { tasks: vec![task; 1_000] }))
            .expect_err("over a million");
        assert_eq!((refused.what, refused.max), ("fields", CLIENT_FRAME_FIELDS_MAX));
    }

    #[test]
    fn a_full_batch_with_all_its_tags_passes() {
        let task = Task { id: "x".into(), tags: vec!["tag".into(); 32], ..Task::default() };
        assert!(measured(Body::Submit(Submit { tasks: vec![task; 10_000] })).is_ok());
    }

    #[test]
    fn bytes_that_are_no_message_end_the_walk() {
        let mut frame =
            ClientFrame { body: Some(Body::Hello(Hello::default())), ..Default::default() }
                .encode_to_vec();
        frame.extend([0xff; 300]);
        assert!(measure::<ClientFrame>(&frame).is_ok());
    }
}
