//! Takes the written JSON, up to a length. Other modules check its content.

use std::io;

use serde::Serialize;

/// The output of serde_json, of bounded length.
pub(super) struct Text {
    /// The JSON so far.
    bytes: Vec<u8>,
    /// The most bytes.
    bytes_max: usize,
}

impl Text {
    /// An empty text of at most so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        // serde_json begins with the same capacity.
        Self { bytes: Vec::with_capacity(bytes_max.min(128)), bytes_max }
    }

    /// The JSON of one value.
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

    /// Makes room. Only this function checks the bound: for nearly all writes there is room
    /// already.
    #[cold]
    fn grow(&mut self, additional: usize) -> io::Result<()> {
        if additional > self.bytes_max - self.bytes.len() {
            let reason = format!(
                "the JSON is longer than {} bytes, and no broker takes more",
                self.bytes_max
            );
            return Err(io::Error::other(reason));
        }
        // Twice the size, so that a long text is not copied often, and never more than the bound.
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
