//! What a frame would cost, seen before it is decoded: a walk over its bytes that allocates
//! nothing.
//!
//! Two bytes on the wire may become 500 in memory. So every field at every depth is counted here,
//! those that nobody knows included, and a frame with too many of one kind is refused undecoded.
//! What the fields mean is not looked at, nor whether the bytes are a right message: where they are
//! none the walk ends, as the decoder will.

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::limits::{CLIENT_FRAME_FIELDS_MAX, MESSAGE_FIELDS_MAX, SERVER_FRAME_FIELDS_MAX};
use crate::shapes;
use crate::wire::{ClientFrame, ServerFrame};

/// Which fields of a message have to be counted by themselves: those that hold messages, and those
/// that may be repeated.
#[derive(Debug)]
pub struct Shape {
    /// The message's name, without its package.
    pub name: &'static str,
    /// The fields in question; every other one holds one text or number.
    pub fields: &'static [Field],
}

/// One of them.
#[derive(Debug)]
pub struct Field {
    /// Its number on the wire.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// How often it may occur in one message.
    pub max: u32,
    /// What it holds.
    pub holds: Holds,
}

/// What a field holds.
#[derive(Debug)]
pub enum Holds {
    /// A message of this shape. A map holds a message for each of its entries.
    Message(&'static Shape),
    /// Text or bytes.
    Text,
    /// Numbers, one by one or packed.
    Number,
}

/// A message that is sent as a frame.
pub trait Frame: prost::Message + Default {
    /// What is counted in it.
    const SHAPE: &'static Shape;
    /// Fields that it may have in all, at every depth.
    const FIELDS_MAX: u32;
}

impl Frame for ClientFrame {
    const SHAPE: &'static Shape = &shapes::CLIENT_FRAME;
    const FIELDS_MAX: u32 = CLIENT_FRAME_FIELDS_MAX;
}

impl Frame for ServerFrame {
    const SHAPE: &'static Shape = &shapes::SERVER_FRAME;
    const FIELDS_MAX: u32 = SERVER_FRAME_FIELDS_MAX;
}

/// What the walk over a frame found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measure {
    /// Fields at every depth, and packed numbers.
    pub fields: u32,
    /// Steps that the walk took; never more than the frame has bytes.
    pub steps: usize,
}

/// A frame has more of something than it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {max} {what} in a {message}")]
pub struct TooMany {
    /// The name of the field, or "fields".
    pub what: &'static str,
    /// The message that has them.
    pub message: &'static str,
    /// As allowed.
    pub max: u32,
}

/// The most fields that a message has which have to be counted by themselves.
const COUNTED_FIELDS_MAX: usize = 32;

/// A frame so short costs next to nothing, whatever it holds.
const SHORT_BYTES: usize = 256;

/// Counts what a frame of this kind holds.
///
/// # Errors
/// [`TooMany`] for the first bound that it breaks.
pub fn measure<F: Frame>(frame: &[u8]) -> Result<Measure, TooMany> {
    if frame.len() <= SHORT_BYTES {
        return Ok(Measure { fields: frame.len() as u32 / 2, steps: 0 });
    }
    measure_as(F::SHAPE, F::FIELDS_MAX, frame)
}

fn measure_as(shape: &'static Shape, fields_max: u32, frame: &[u8]) -> Result<Measure, TooMany> {
    let mut walk = Walk { found: Measure::default(), fields_max, frame: shape.name };
    match walk.message(shape, frame) {
        Err(Stop::TooMany(error)) => Err(error),
        Ok(()) | Err(Stop::Malformed) => Ok(walk.found),
    }
}

struct Walk {
    found: Measure,
    fields_max: u32,
    frame: &'static str,
}

/// Why a walk ends before the frame does.
enum Stop {
    TooMany(TooMany),
    /// The decoder will say what is wrong.
    Malformed,
}

impl Walk {
    /// How deep this calls itself is bounded by the shapes: no message holds one of its own kind.
    fn message(&mut self, shape: &'static Shape, mut bytes: &[u8]) -> Result<(), Stop> {
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
                    "fields that nobody knows or that are there once",
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
            if let Some((inner, content)) = inside {
                self.message(inner, content)?;
            }
        }
        Ok(())
    }

    /// Packed numbers: each ends with a byte below 128.
    fn packed(&mut self, numbers: &[u8]) -> Result<u32, Stop> {
        let count = numbers.iter().filter(|byte| **byte < 0x80).count();
        self.found.steps += numbers.len();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.count(count)?;
        Ok(count)
    }

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

fn bounded(count: u32, max: u32, what: &'static str, shape: &Shape) -> Result<(), Stop> {
    if count > max {
        Err(Stop::TooMany(TooMany { what, message: shape.name, max }))
    } else {
        Ok(())
    }
}

/// Takes one field off the front of a message: its number, and its content if that has a length.
pub(crate) fn next_field<'a>(message: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let (number, wire_type) = decode_key(message).ok()?;
    let length = match wire_type {
        WireType::Varint => {
            decode_varint(message).ok()?;
            return Some((number, None));
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(message).ok()?).ok()?,
        // No message of ours has groups: what is in one is counted as if it stood beside it, and
        // the decoder bounds how deep it follows them.
        WireType::StartGroup | WireType::EndGroup => 0,
    };
    let (content, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some((number, (wire_type == WireType::LengthDelimited).then_some(content)))
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
    fn fields_that_nobody_knows_are_counted_and_those_that_come_again() {
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
