//! The codec: every record is read back as it was written, common records are small, and a reader
//! skips the extra fields of a newer record.

use celeriac_record::{Body, State, TaskSpec};
use proptest::prelude::*;

use super::*;
use crate::tests::records::{any_record, changed, submitted};

fn encoded(record: &Record) -> Vec<u8> {
    let mut buffer = Vec::new();
    encode(record, &mut buffer);
    buffer
}

proptest! {
    #[test]
    fn every_record_comes_back_as_it_went_in(record in any_record()) {
        let bytes = encoded(&record);
        prop_assert!(bytes.len() <= bulk(&record) + OVERHEAD_BYTES_MAX);
        prop_assert_eq!(decode(bytes.into()), Ok(record));
    }

    #[test]
    fn glance_agrees_with_the_whole_record(record in any_record()) {
        let expected = match &record {
            Record::Submitted(task) => Glance::Submitted(task.key.slot),
            Record::Changed(change) => Glance::Changed(change.key.slot),
            Record::Forgotten(key) => Glance::Forgotten(key.slot),
            Record::Named(named) => Glance::Named(named.name()),
            Record::Removed(name) => Glance::Removed(name.clone()),
        };
        prop_assert_eq!(glance(&encoded(&record)), Ok(expected));
    }

    #[test]
    fn a_head_is_read_from_any_bytes_that_reach_to_the_last_field(record in any_record(), cut in any::<usize>()) {
        let whole = encoded(&record);
        let bytes = Bytes::from(whole[..cut % (whole.len() + 1)].to_vec());
        match record {
            Record::Submitted(task) => {
                let head = Submitted { spec: TaskSpec { payload: Bytes::new(), ..(*task).clone().spec }, ..(*task).clone() };
                let has_last = !task.spec.payload.is_empty() && bytes.len() > encoded(&Record::Submitted(Box::new(head.clone()))).len();
                prop_assert_eq!(decode_submitted_head(bytes), has_last.then_some(head));
            }
            Record::Changed(change) => {
                let head = Changed { result: None, ..(*change).clone() };
                let has_last = change.result.is_some() && bytes.len() > encoded(&Record::Changed(Box::new(head.clone()))).len();
                prop_assert_eq!(decode_changed_head(bytes), has_last.then_some(head));
            }
            _ => {
                prop_assert_eq!(decode_submitted_head(bytes.clone()), None);
                prop_assert_eq!(decode_changed_head(bytes), None);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _outcome = glance(&bytes);
        let _outcome = decode(bytes.into());
    }

    #[test]
    fn any_changed_byte_is_a_record_or_malformed(record in any_record(), at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = encoded(&record);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _outcome = decode(bytes.clone().into());
        bytes.truncate(at);
        let _outcome = decode(bytes.into());
    }
}

#[test]
fn unknown_fields_are_stepped_over() {
    for record in [
        Record::Submitted(Box::new(submitted(3, 9, 20))),
        Record::Changed(Box::new(changed(3, 9, 2))),
    ] {
        let mut bytes = encoded(&record);
        let mut put = Put(&mut bytes);
        put.present_field(120, 12_345);
        put.bytes_field(121, b"from a newer broker");
        assert_eq!(decode(bytes.into()), Ok(record));
    }
}

#[test]
fn common_changes_take_a_few_dozen_bytes() {
    let mut leased = changed(1_000_000, 50_000_000, 3);
    leased.state = State::Leased;
    leased.session = Some([7; 16]);
    leased.lease = 60_000_000;
    assert!(encoded(&Record::Changed(Box::new(leased.clone()))).len() <= 64);

    let mut success = leased;
    success.state = State::Success;
    success.session = None;
    success.result =
        Some(Body { bytes: bytes::Bytes::from_static(b"true"), content_type: "".into() });
    assert!(encoded(&Record::Changed(Box::new(success))).len() <= 56);
}

#[test]
fn submit_with_defaults_stores_little_more_than_its_names_and_payload() {
    let task = submitted(1_000_000, 50_000_000, 100);
    let texts = task.spec.id.len() + task.spec.name.len() + task.spec.payload.len();
    assert!(encoded(&Record::Submitted(Box::new(task))).len() <= texts + 28);
}

/// The bytes of the first format. If this test fails, this version can no longer read older
/// folders: add a new field instead.
#[test]
fn first_format_is_still_read() {
    let bytes = [
        &[SUBMITTED, 5, 7, 1][..],
        &[2, b'i', b'd', 1, b'n'],
        &[0xC8, 0x01],
        &[17 << 1 | 1, 3, b'a', b'b', b'c'],
    ]
    .concat();
    let Ok(Record::Submitted(task)) = decode(bytes.into()) else { panic!("it is a submit") };
    assert_eq!(
        (task.key.slot, task.key.serial, task.generation, task.submitted_at),
        (5, 7, 1, 100)
    );
    assert_eq!(
        (&task.spec.id[..], &task.spec.name[..], &task.spec.queue[..]),
        ("id", "n", "default")
    );
    assert_eq!(
        (task.spec.priority, task.result_ttl_ms, task.spec.retry.attempts_max),
        (4, 86_400_000, 4)
    );
    assert_eq!(&task.spec.payload[..], b"abc");
}
