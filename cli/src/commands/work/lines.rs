//! Cuts what a command writes into lines: its stderr, and its progress.

/// The line that has not ended yet.
pub(super) struct Lines {
    line: Vec<u8>,
    /// What is longer is cut off, so that a line without an end takes no memory.
    bytes_max: usize,
}

impl Lines {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { line: Vec::new(), bytes_max }
    }

    /// Takes more bytes, and calls `each` for every line that ends in them.
    pub(super) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = self.bytes_max.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..room.min(text.len())]);
            if text.len() < part.len() {
                self.end(&mut each);
            }
        }
    }

    /// Calls `each` for the last line, which may have no line break. An empty line says nothing.
    pub(super) fn end(&mut self, mut each: impl FnMut(&str)) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            each(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_the_bytes_come() {
        let mut lines = Lines::new(8);
        let mut seen = Vec::new();
        for bytes in ["on", "e\ntwo\r\n\n", " \nthe third one", " is long\nla", "st"] {
            lines.take(bytes.as_bytes(), |line| seen.push(line.to_owned()));
        }
        lines.end(|line| seen.push(line.to_owned()));
        lines.end(|line| panic!("{line}"));
        assert_eq!(seen, ["one", "two", "the thir", "last"]);
    }
}
