//! The records of named things, family by family. A new family is a file beside this one and a line
//! in the table at the end.

use celeriac_record::{Name, Named, Record};

use super::Glance;
use crate::varint::{Malformed, Put, Take};

/// What is done with a record, for each family of the table: `Family: module`. A module has the
/// numbers `KIND` and `REMOVED`, and `put`, `take`, `put_name`, `take_name` and `peek_name`.
macro_rules! families {
    ($($family:ident: $module:ident),+ $(,)?) => {
        pub(super) fn put(named: &Named, put: &mut Put<'_>) {
            match named {
                $(Named::$family(record) => {
                    put.byte(super::$module::KIND);
                    super::$module::put(record, put);
                })+
            }
        }

        pub(super) fn put_removed(name: &Name, put: &mut Put<'_>) {
            match name {
                $(Name::$family(name) => {
                    put.byte(super::$module::REMOVED);
                    super::$module::put_name(name, put);
                })+
            }
        }

        pub(super) fn take(kind: u8, mut take: Take) -> Result<Record, Malformed> {
            Ok(match kind {
                $(super::$module::KIND => {
                    Record::Named(Named::$family(super::$module::take(take)?))
                }
                super::$module::REMOVED => {
                    Record::Removed(Name::$family(super::$module::take_name(&mut take)?))
                })+
                _ => return Err(Malformed("its kind is unknown")),
            })
        }

        pub(super) fn glance(kind: u8, rest: &[u8]) -> Result<Glance, Malformed> {
            Ok(match kind {
                $(super::$module::KIND => {
                    Glance::Named(Name::$family(super::$module::peek_name(rest)?))
                }
                super::$module::REMOVED => {
                    Glance::Removed(Name::$family(super::$module::peek_name(rest)?))
                })+
                _ => return Err(Malformed("its kind is unknown")),
            })
        }
    };
}

families! {
    Queue: queue,
    Session: session,
    Exchange: exchange,
    Binding: binding,
    Chord: chord,
}
