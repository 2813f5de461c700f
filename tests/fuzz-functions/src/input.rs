//! Decisions read from bytes. What is used up goes on as zeros, so that any input is a whole one.

pub(crate) struct Input<'a>(&'a [u8]);

/// Numbers at which something changes.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    127,
    128,
    255,
    1 << 14,
    (1 << 31) - 1,
    u32::MAX as u64,
    1 << 32,
    253_402_300_799_999,
    100 * 365 * 24 * 3_600 * 1_000,
    i64::MAX as u64 - 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// Up to so many bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    /// True for one byte in so many.
    pub(crate) fn one_in(&mut self, many: u8) -> bool {
        self.below(many) == many - 1
    }

    pub(crate) fn sometimes<T>(
        &mut self,
        many: u8,
        some: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        self.one_in(many).then(|| some(self))
    }

    pub(crate) fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A small number, one at an edge, or any.
    pub(crate) fn any_number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..200 => u64::from(small % 20),
            edge @ 200..250 => EDGES[usize::from(edge) % EDGES.len()],
            _ => self.number(8),
        }
    }
}
