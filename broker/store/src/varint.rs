//! Numbers, texts and tagged fields as bytes: the small pieces that `codec.rs` puts together. This
//! file knows no records.
//!
//! A field is a tag byte (field number times two, plus one if bytes follow), then a varint, or a
//! varint length and that many bytes. So a reader can skip a field that it does not know.

use bytes::Bytes;

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record is malformed: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Appends directly to a chunk's buffer, so that encoding allocates nothing.
pub(super) struct Put<'a>(pub(super) &'a mut Vec<u8>);

impl Put<'_> {
    pub(super) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.unsigned(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// A zero is not written: an absent field means zero.
    pub(super) fn unsigned_field(&mut self, field: u8, value: u64) {
        if value != 0 {
            self.present_field(field, value);
        }
    }

    /// A number whose zero differs from an absent field.
    pub(super) fn present_field(&mut self, field: u8, value: u64) {
        self.byte(field << 1);
        self.unsigned(value);
    }

    pub(super) fn signed_field(&mut self, field: u8, value: Option<i64>) {
        if let Some(value) = value {
            self.byte(field << 1);
            self.signed(value);
        }
    }

    /// An empty text is not written: an absent field means empty.
    pub(super) fn bytes_field(&mut self, field: u8, value: &[u8]) {
        if !value.is_empty() {
            self.byte(field << 1 | 1);
            self.bytes(value);
        }
    }

    /// A field that contains other values. Its length is known only after `write`.
    pub(super) fn nested_field(&mut self, field: u8, write: impl FnOnce(&mut Put<'_>)) {
        self.byte(field << 1 | 1);
        let start = self.0.len();
        self.byte(0);
        write(self);
        let length = self.0.len() - start - 1;
        if length < 0x80 {
            self.0[start] = length as u8;
            return;
        }
        let mut prefix = Vec::with_capacity(5);
        Put(&mut prefix).unsigned(length as u64);
        self.0.splice(start..=start, prefix);
    }
}

/// Reads the bytes that [`Put`] wrote. Byte strings are slices of the buffer, not copies.
#[derive(Clone)]
pub(super) struct Take {
    rest: Bytes,
    /// The field before which the bytes may have been cut.
    last: Option<u8>,
}

/// One tagged field.
pub(super) enum Field {
    Number(u8, u64),
    Bytes(u8, Bytes),
}

impl Take {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, last: None }
    }

    /// Reads the fields before this field, which is the last. The bytes of the last field may be
    /// missing.
    pub(super) fn before(bytes: Bytes, last: u8) -> Self {
        Self { rest: bytes, last: Some(last) }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let first = *self.rest.first().ok_or(Malformed("it ends too early"))?;
        bytes::Buf::advance(&mut self.rest, 1);
        Ok(first)
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, Malformed> {
        let (value, length) = peek_unsigned(&self.rest)?;
        bytes::Buf::advance(&mut self.rest, length);
        Ok(value)
    }

    pub(super) fn signed(&mut self) -> Result<i64, Malformed> {
        self.unsigned().map(unzigzag)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.unsigned()?;
        if length > self.rest.len() as u64 {
            return Err(Malformed("a length reaches past its end"));
        }
        Ok(self.rest.split_to(length as usize))
    }

    pub(super) fn text(&mut self) -> Result<Box<str>, Malformed> {
        text(&self.bytes()?)
    }

    pub(super) fn rest(self) -> Bytes {
        self.rest
    }

    pub(super) fn field(&mut self) -> Result<Option<Field>, Malformed> {
        if self.rest.is_empty() {
            return if self.last.is_none() {
                Ok(None)
            } else {
                Err(Malformed("its last field is missing"))
            };
        }
        let tag = self.byte()?;
        if tag & 1 == 1 && self.last == Some(tag >> 1) {
            return Ok(None);
        }
        Ok(Some(match tag & 1 {
            0 => Field::Number(tag >> 1, self.unsigned()?),
            _ => Field::Bytes(tag >> 1, self.bytes()?),
        }))
    }
}

/// A varint at the start of `bytes`, and its length.
pub(super) fn peek_unsigned(bytes: &[u8]) -> Result<(u64, usize), Malformed> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7F);
        if index == 9 && bits > 1 {
            return Err(Malformed("a number is too large"));
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    Err(Malformed("a number has no end"))
}

/// Reads the text at the front of these bytes. Returns it with the bytes behind it.
pub(super) fn peek_text(bytes: &[u8]) -> Result<(Box<str>, &[u8]), Malformed> {
    let (number, length) = peek_unsigned(bytes)?;
    let end = usize::try_from(number).ok().and_then(|number| number.checked_add(length));
    let parts = end.and_then(|end| Some((bytes.get(length..end)?, bytes.get(end..)?)));
    let (front, rest) = parts.ok_or(Malformed("a text reaches past its end"))?;
    Ok((text(front)?, rest))
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(super) fn text(bytes: &[u8]) -> Result<Box<str>, Malformed> {
    std::str::from_utf8(bytes).map(Into::into).map_err(|_| Malformed("a text is not UTF-8"))
}

pub(super) fn narrow(value: u64) -> Result<u32, Malformed> {
    u32::try_from(value).map_err(|_| Malformed("a number is too large"))
}
