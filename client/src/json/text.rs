//! The text as it is written, up to a length. What stands in it is decided elsewhere.

use std::io;

use serde::Serialize;

/// Takes what serde_json writes.
pub(super) struct Text {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Text {
    pub(super) fn new(bytes_max: usize) -> Self {
        // As serde_json begins.
        Self { bytes: Vec::with_capacity(bytes_max.min(128)), bytes_max }
    }

    /// A value by itself.
    pub(super) fn of(value: &impl Serialize, bytes_max: usize) -> serde_json::Result<Vec<u8>> {
        let mut text = Self::new(bytes_max);
        serde_json::to_writer(&mut text, value)?;
        Ok(text.bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Makes room. The bound is looked at here alone, because there is room for nearly all that
    /// comes.
    #[cold]
    fn grow(&mut self, additional: usize) -> io::Result<()> {
        if additional > self.bytes_max - self.bytes.len() {
            let reason = format!(
                "the JSON is longer than {} bytes, and no broker takes more",
                self.bytes_max
            );
            return Err(io::Error::other(reason));
        }
        let doubled =
            self.bytes.len().max(self.bytes.capacity()).min(self.bytes_max - self.bytes.len());
        self.bytes.reserve_exact(doubled.max(additional));
        Ok(())
    }
}

impl io::Write for Text {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.bytes.capacity() - self.bytes.len() {
            self.grow(bytes.len())?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
