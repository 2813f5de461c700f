//! Short texts by number. The memory of a text follows its length, in few steps.

use std::fmt;

use super::pages::Pages;

/// The longest text that has a place.
pub(super) const TEXT_BYTES_MAX: usize = 256;

/// Texts of up to [`TEXT_BYTES_MAX`] bytes. A text is found by its number and its length.
pub(crate) struct Texts([Box<dyn Cells>; 10]);

/// Cells of one size.
trait Cells: Send + Sync {
    fn bytes(&self) -> usize;
    fn insert(&mut self, text: &[u8]) -> u32;
    fn get(&self, number: u32) -> Option<&[u8]>;
    fn take(&mut self, number: u32);
}

impl<const BYTES: usize> Cells for Pages<[u8; BYTES]> {
    fn bytes(&self) -> usize {
        BYTES
    }

    fn insert(&mut self, text: &[u8]) -> u32 {
        let mut cell = [0; BYTES];
        cell[..text.len()].copy_from_slice(text);
        Pages::insert(self, cell)
    }

    fn get(&self, number: u32) -> Option<&[u8]> {
        Pages::get(self, number).map(|cell| &cell[..])
    }

    fn take(&mut self, number: u32) {
        Pages::take(self, number);
    }
}

fn cells<const BYTES: usize>() -> Box<dyn Cells> {
    Box::new(Pages::<[u8; BYTES]>::default())
}

impl Default for Texts {
    fn default() -> Self {
        Self([
            cells::<8>(),
            cells::<16>(),
            cells::<24>(),
            cells::<32>(),
            cells::<48>(),
            cells::<64>(),
            cells::<96>(),
            cells::<128>(),
            cells::<192>(),
            cells::<TEXT_BYTES_MAX>(),
        ])
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Texts").finish_non_exhaustive()
    }
}

impl Texts {
    /// The cells for a text of this length.
    fn place(&self, length: usize) -> usize {
        let place = self.0.iter().position(|cells| length <= cells.bytes());
        place.expect("the caller keeps no longer text")
    }

    pub fn insert(&mut self, text: &[u8]) -> u32 {
        let place = self.place(text.len());
        self.0[place].insert(text)
    }

    /// The text of this number and length, which must be there.
    pub fn get(&self, number: u32, length: usize) -> &[u8] {
        let cell = self.0[self.place(length)].get(number).expect("the text was put there");
        &cell[..length]
    }

    pub fn take(&mut self, number: u32, length: usize) {
        let place = self.place(length);
        self.0[place].take(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_every_length_comes_out_as_it_went_in() {
        let mut texts = Texts::default();
        let text = |length: usize| vec![length as u8; length];
        let numbers: Vec<u32> =
            (1..=TEXT_BYTES_MAX).map(|length| texts.insert(&text(length))).collect();
        for (place, number) in numbers.iter().enumerate() {
            assert_eq!(texts.get(*number, place + 1), text(place + 1));
        }
        texts.take(numbers[9], 10);
        assert_eq!(texts.insert(b"another"), 8, "other cells are not touched");
        assert_eq!(texts.insert(&text(16)), numbers[9], "a free cell is used again");
    }
}
