//! Any bytes as one frame of a client: what it takes of steps and of memory is bounded by its
//! bytes.

use bytes::Bytes;
use celeriac_proto::limits::BATCH_FIELD_ITEMS_MAX;
use celeriac_proto::measure::{Measure, measure};
use celeriac_proto::wire::{self, ClientFrame};
use prost::Message;

use crate::counting::taken;
use celeriac_broker::Config;
use celeriac_broker::internals::{Bounds, client_command};

/// What a field may take beside its bytes: a header is a place in a map, a name and a value of its
/// own.
const BYTES_PER_FIELD: u64 = 256;

/// What the items of one batch take as they are decoded and checked, however short they are: their
/// lists grow by doubling.
const BATCH_BYTES: u64 = 4 * BATCH_FIELD_ITEMS_MAX as u64 * size_of::<wire::Task>() as u64;

/// A list of nothing has room for a few.
const BASE_BYTES: u64 = 64 * 1024;

/// An error of the decoder.
const ERROR_BYTES: u64 = 128;

/// Measures, decodes and checks the bytes as the broker does, and holds what it costs against them.
pub fn cost(bytes: &[u8]) {
    let before = taken();
    let measured = measure::<ClientFrame>(bytes);
    // Bytes that are no message end the walk with one error of the decoder's, which it has to
    // allocate.
    assert!(taken() - before <= ERROR_BYTES, "to measure a frame allocates nothing");
    let Ok(Measure { fields, steps, .. }) = measured else { return };
    assert!(
        steps <= bytes.len() && fields as usize <= bytes.len(),
        "{steps} steps for {} bytes",
        bytes.len()
    );
    let frame = Bytes::copy_from_slice(bytes);
    let before = taken();
    let bounds = Bounds::of(&Config::new("data"));
    let command = ClientFrame::decode(frame).map(|frame| client_command(frame, 1, &bounds));
    let took = taken() - before;
    drop(command);
    let items = u64::from(fields.min(BATCH_FIELD_ITEMS_MAX));
    let batch = BATCH_BYTES * items / u64::from(BATCH_FIELD_ITEMS_MAX);
    let most = BASE_BYTES + 4 * bytes.len() as u64 + BYTES_PER_FIELD * u64::from(fields) + batch;
    assert!(
        took <= most,
        "{took} bytes of memory for {} bytes with {fields} fields, at most {most}",
        bytes.len()
    );
}
