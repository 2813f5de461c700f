//! Task ids as the table holds them. Most ids are short, or have 8-4-4-4-12 hexadecimal digits as
//! the clients make them. Both kinds fit into 16 bytes. Of a longer id these bytes hold the
//! beginning, and the rest is among the table's texts.

use super::texts::Texts;

/// The id of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedId {
    /// A short text, or the digits of a hyphenated one. Of a long id: the number of the rest among
    /// the texts, the length of the id, and its beginning.
    bytes: [u8; 16],
    /// The length of a short text, or one of the forms below.
    form: u8,
}

/// The form of an id of 32 lower-case digits and four hyphens. Such an id takes 16 bytes.
const HYPHENATED: u8 = 17;
const LONG: u8 = 18;

/// Where the length of a long id stands. The number of its rest stands before, and its beginning
/// behind.
const LENGTH: usize = 4;
const BEGINNING_BYTES: usize = 16 - LENGTH - 1;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const HYPHENATED_BYTES: usize = 36;

/// The longest id, see `NAME_BYTES_MAX` of the protocol. Its length fits into one byte.
const ID_BYTES_MAX: usize = celeriac_proto::limits::NAME_BYTES_MAX;
const _: () = assert!(ID_BYTES_MAX <= u8::MAX as usize);

impl PackedId {
    /// Packs an id. The rest of a long id goes to `texts`, until [`release`](Self::release).
    pub fn keep(id: &str, texts: &mut Texts) -> Self {
        let mut packed = Self::of(id);
        if packed.is_long() {
            let number = texts.insert(&id.as_bytes()[BEGINNING_BYTES..]);
            packed.bytes[..LENGTH].copy_from_slice(&number.to_le_bytes());
        }
        packed
    }

    /// Gives back the room of the rest of a long id.
    pub fn release(self, texts: &mut Texts) {
        if self.is_long() {
            texts.take(self.number(), self.length() - BEGINNING_BYTES);
        }
    }

    /// Packs an id to look for it. A long id is here without its rest.
    pub fn of(id: &str) -> Self {
        let text = id.as_bytes();
        let mut bytes = [0; 16];
        if text.len() <= 16 {
            bytes[..text.len()].copy_from_slice(text);
            return Self { bytes, form: text.len() as u8 };
        }
        if let Some(bytes) = digits(text) {
            return Self { bytes, form: HYPHENATED };
        }
        bytes[LENGTH] = text.len() as u8;
        bytes[LENGTH + 1..].copy_from_slice(&text[..BEGINNING_BYTES]);
        Self { bytes, form: LONG }
    }

    /// Whether this is the id that `sought` was packed of.
    pub fn is(self, sought: Self, id: &str, texts: &Texts) -> bool {
        if !self.is_long() {
            return self == sought;
        }
        self.form == sought.form
            && self.bytes[LENGTH..] == sought.bytes[LENGTH..]
            && *self.rest(texts) == id.as_bytes()[BEGINNING_BYTES..]
    }

    /// Whether the id is long.
    pub fn is_long(self) -> bool {
        self.form == LONG
    }

    /// The bytes that tell ids apart that are not long.
    pub fn short_bytes(&self) -> (&[u8; 16], u8) {
        (&self.bytes, self.form)
    }

    fn number(self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|at| self.bytes[at]))
    }

    fn length(self) -> usize {
        usize::from(self.bytes[LENGTH])
    }

    fn rest(self, texts: &Texts) -> &[u8] {
        texts.get(self.number(), self.length() - BEGINNING_BYTES)
    }

    /// Calls `look` with the text of an id that [`keep`](Self::keep) packed.
    pub fn with_text<R>(self, texts: &Texts, look: impl FnOnce(&str) -> R) -> R {
        let mut text = [b'-'; ID_BYTES_MAX];
        let length = match self.form {
            HYPHENATED => {
                write_digits(self.bytes, &mut text);
                HYPHENATED_BYTES
            }
            LONG => {
                let (beginning, rest) = text.split_at_mut(BEGINNING_BYTES);
                beginning.copy_from_slice(&self.bytes[LENGTH + 1..]);
                let kept = self.rest(texts);
                rest[..kept.len()].copy_from_slice(kept);
                self.length()
            }
            length => {
                text[..16].copy_from_slice(&self.bytes);
                usize::from(length)
            }
        };
        look(std::str::from_utf8(&text[..length]).expect("the bytes come from a text"))
    }
}

fn digits(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != HYPHENATED_BYTES || HYPHENS.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let mut at = 0;
    for byte in &mut bytes {
        at += usize::from(HYPHENS.contains(&at));
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(bytes)
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

fn write_digits(bytes: [u8; 16], text: &mut [u8]) {
    let letter = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
    let mut at = 0;
    for byte in bytes {
        at += usize::from(HYPHENS.contains(&at));
        text[at] = letter(byte >> 4);
        text[at + 1] = letter(byte & 15);
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_kept(id: &str, is_long: bool) {
        let mut texts = Texts::default();
        let packed = PackedId::keep(id, &mut texts);
        assert_eq!(packed.is_long(), is_long, "{id}");
        packed.with_text(&texts, |text| assert_eq!(text, id));
        assert!(packed.is(PackedId::of(id), id, &texts), "{id}");
        for other in [format!("{id}x"), id.chars().rev().collect(), id.to_uppercase(), "a".into()] {
            let is_same = packed.is(PackedId::of(&other), &other, &texts);
            assert_eq!(is_same, other == id, "{other}");
        }
        packed.release(&mut texts);
        let again = PackedId::keep(id, &mut texts);
        assert_eq!(again, packed, "its room is used again");
    }

    #[test]
    fn an_id_comes_out_as_it_went_in() {
        for id in
            ["a", "sixteen bytes ok", "ä/🎵", "", "0198c3f2-7b1e-7c4d-9a50-00ff00ff00ff", "\0\0"]
        {
            assert_kept(id, false);
        }
    }

    #[test]
    fn what_is_not_written_like_that_is_long() {
        for id in [
            "seventeen bytes !",
            "0198C3F2-7B1E-7C4D-9A50-00FF00FF00FF",
            "0198c3f2-7b1e-7c4d-9a50-00ff00ff00f",
            "0198c3f2-7b1e-7c4d-9a50000ff00ff00ff",
            "0198c3f2-7b1e-7c4d-9a50-00ff00ff00fg",
            "0198c3f27b1e7c4d9a5000ff00ff00ff",
            "a character 🎵 may stand across the border",
            "0123456789🎵 just there",
            &"x".repeat(ID_BYTES_MAX),
        ] {
            assert_kept(id, true);
        }
    }

    #[test]
    fn different_ids_are_different_packed() {
        assert_ne!(PackedId::of("a"), PackedId::of("a\0"));
        assert_ne!(
            PackedId::of("0198c3f2-7b1e-7c4d-9a50-00ff00ff00ff"),
            PackedId::of("0198c3f2-7b1e-7c")
        );
    }
}
