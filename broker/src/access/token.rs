//! Tokens: `clr_<id>_<secret>`. The id finds the entry of the access file, which has the SHA-256 of
//! the whole token. A token is random, 256 bits of it, so that no slow hash is needed.

use std::fmt;

use aws_lc_rs::{constant_time, digest, rand};

/// What every token begins with.
pub(super) const PREFIX: &str = "clr_";

/// The characters of an id, and of a secret: as many as 256 bits need.
pub(super) const ID_CHARACTERS: usize = 8;
const SECRET_CHARACTERS: usize = 43;

const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The number of digits that an id may have: small letters alone, so that a person can read it out.
const ID_DIGITS: u8 = 36;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash([u8; 32]);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(..)")
    }
}

impl Hash {
    pub(super) fn of(token: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, token);
        Self(digest.as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// Reads 64 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digit = |at: usize| char::from(text.as_bytes()[at]).to_digit(16);
        if text.len() != 64 {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (digit(2 * at)? << 4 | digit(2 * at + 1)?) as u8;
        }
        Some(Self(bytes))
    }

    /// Compares in a time that does not depend on the place of the first difference.
    pub(super) fn is(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    fn hexadecimal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A new token. The access file gets the id and the hash, and one client the token.
pub struct NewToken {
    /// The secret. Nobody else has it.
    pub token: String,
    /// The part of the token that the file names.
    pub id: String,
    /// The SHA-256 of the token in hexadecimal.
    pub sha256: String,
}

impl NewToken {
    /// Draws a token.
    ///
    /// # Panics
    /// When the system gives no random bytes.
    pub fn draw() -> Self {
        let id: String = std::iter::repeat_with(random_id_digit).take(ID_CHARACTERS).collect();
        let token = format!("{PREFIX}{id}_{}", secret(random()));
        let sha256 = Hash::of(token.as_bytes()).hexadecimal();
        Self { token, id, sha256 }
    }
}

/// The secret is not shown.
impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The id in a token, if it has the form of one.
pub(super) fn id_of(token: &[u8]) -> Option<&str> {
    let (id, secret) = std::str::from_utf8(token).ok()?.strip_prefix(PREFIX)?.split_once('_')?;
    (is_id(id) && secret.len() == SECRET_CHARACTERS).then_some(id)
}

/// Whether a text has the form of an id.
pub(super) fn is_id(text: &str) -> bool {
    let digits = &DIGITS[..usize::from(ID_DIGITS)];
    text.len() == ID_CHARACTERS && text.bytes().all(|byte| digits.contains(&byte))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// One digit. A byte beyond the last whole round of digits is drawn again, so that all digits are
/// equally frequent.
fn random_id_digit() -> char {
    loop {
        let [byte] = random::<1>();
        if byte < u8::MAX - u8::MAX % ID_DIGITS {
            return char::from(DIGITS[usize::from(byte % ID_DIGITS)]);
        }
    }
}

/// The number of these bytes in base 62.
fn secret(mut number: [u8; 32]) -> String {
    let mut digits = [b'0'; SECRET_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in &mut number {
            rest = rest << 8 | u32::from(*byte);
            *byte = (rest / 62) as u8;
            rest %= 62;
        }
        *digit = DIGITS[rest as usize];
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o3_a_token_has_an_id_and_a_secret_of_256_random_bits() {
        let (one, two) = (NewToken::draw(), NewToken::draw());
        assert!(one.token != two.token && one.id != two.id && one.sha256 != two.sha256);
        assert_eq!(id_of(one.token.as_bytes()), Some(&*one.id));
        assert_eq!(one.token.len(), 4 + 8 + 1 + 43);
        let hash = Hash::parse(&one.sha256).expect("64 digits");
        assert!(hash.is(&Hash::of(one.token.as_bytes())) && !hash.is(&Hash::of(b"clr_")));
        // 62^43 is the least power of 62 that has 256 bits, so the greatest number fits.
        assert_eq!(secret([0; 32]), "0".repeat(43));
        assert!(secret([255; 32]) > secret([127; 32]) || secret([255; 32]).len() == 43);
        assert_ne!(secret([255; 32]).as_bytes()[0], b'0', "the first digit counts too");
    }

    #[test]
    fn o3_the_hash_is_the_sha_256_that_other_programs_compute() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Hash::of(b"abc").hexadecimal(), known);
        assert!(Hash::parse(&known.to_uppercase()).is_some_and(|hash| hash.is(&Hash::of(b"abc"))));
        for wrong in ["", "ab", &known[1..], &known.replace('b', "g"), &"ä".repeat(32)] {
            assert!(Hash::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn o3_a_text_that_is_no_token_has_no_id() {
        let secret = "s".repeat(43);
        assert_eq!(id_of(format!("clr_k3f9x2ab_{secret}").as_bytes()), Some("k3f9x2ab"));
        let wrong = [
            format!("clr_k3f9x2a_{secret}"),
            format!("clr_K3F9X2AB_{secret}"),
            format!("CLR_k3f9x2ab_{secret}"),
            format!("clr_k3f9x2ab_{secret}s"),
            "clr_k3f9x2ab".to_owned(),
            String::new(),
        ];
        for wrong in wrong {
            assert_eq!(id_of(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(id_of(b"clr_\xff\xff"), None);
    }

    #[test]
    fn o3_a_new_token_is_not_printed_with_its_secret() {
        let new = NewToken::draw();
        assert!(!format!("{new:?}").contains(&new.token[13..]));
    }
}
