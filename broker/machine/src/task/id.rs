//! Task ids as the table holds them. Most ids are short, or have 8-4-4-4-12 hexadecimal digits as
//! the clients make them. Both kinds fit into 16 bytes.

/// The id of a task. For a long id this type only says that the id is long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PackedId {
    bytes: [u8; 16],
    /// The length of a short text, or one of the forms below.
    form: u8,
}

/// The form of an id of 32 lower-case digits and four hyphens. Such an id takes 16 bytes.
const HYPHENATED: u8 = 17;
const LONG: u8 = 18;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const HYPHENATED_BYTES: usize = 36;

impl PackedId {
    pub fn of(id: &str) -> Self {
        let text = id.as_bytes();
        if text.len() <= 16 {
            let mut bytes = [0; 16];
            bytes[..text.len()].copy_from_slice(text);
            return Self { bytes, form: text.len() as u8 };
        }
        match digits(text) {
            Some(bytes) => Self { bytes, form: HYPHENATED },
            None => Self { bytes: [0; 16], form: LONG },
        }
    }

    /// Whether the id is long. The table keeps the text of a long id elsewhere.
    pub fn is_long(self) -> bool {
        self.form == LONG
    }

    /// Calls `look` with the text of an id that is not long.
    pub fn with_text<R>(self, look: impl FnOnce(&str) -> R) -> R {
        let mut text = [b'-'; HYPHENATED_BYTES];
        let length = match self.form {
            HYPHENATED => {
                write_digits(self.bytes, &mut text);
                HYPHENATED_BYTES
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

fn write_digits(bytes: [u8; 16], text: &mut [u8; HYPHENATED_BYTES]) {
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

    #[test]
    fn an_id_comes_out_as_it_went_in() {
        for id in
            ["a", "sixteen bytes ok", "ä/🎵", "", "0198c3f2-7b1e-7c4d-9a50-00ff00ff00ff", "\0\0"]
        {
            let packed = PackedId::of(id);
            assert!(!packed.is_long());
            packed.with_text(|text| assert_eq!(text, id));
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
        ] {
            assert!(PackedId::of(id).is_long(), "{id}");
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
