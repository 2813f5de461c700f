//! Cursors of clients with a scope. A cursor says where a page begins, in numbers that count what
//! all clients do: slots, serials, sessions, looks. So a client with a scope gets its cursors
//! encrypted, and can give them back within its scope alone.
//!
//! The key is drawn at each start of the broker, so these cursors end with a restart.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use bytes::Bytes;
use celeriac_machine::command::Scope;

/// The key of a broker for all cursors that it encrypts.
#[derive(Clone)]
pub(crate) struct CursorKey(Arc<RandomizedNonceKey>);

/// The cursors of one client with a scope.
#[derive(Debug)]
pub(crate) struct Cursors {
    key: CursorKey,
    scope: Box<str>,
}

/// The listings whose cursors have numbers. The other listings have names of what they showed.
///
/// If you add a listing whose cursor has something that the client is not shown, add it here, in
/// `encode/listings.rs` and in `session/requests.rs`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Listing {
    Tasks,
    Workers,
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey(..)")
    }
}

impl CursorKey {
    /// # Panics
    /// When the system gives no random bytes.
    pub(crate) fn draw() -> Self {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("the system has random bytes");
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).expect("a key has 32 bytes");
        Self(Arc::new(key))
    }

    /// The cursors of clients with this scope.
    pub(crate) fn within(&self, scope: &Scope) -> Cursors {
        // The same patterns have the same text, and other ones another.
        Cursors { key: self.clone(), scope: format!("{scope:?}").into() }
    }
}

impl Cursors {
    /// Encrypts a cursor. The empty one, which is the end of a listing, stays as it is.
    pub(crate) fn seal(&self, listing: Listing, cursor: &[u8]) -> Bytes {
        if cursor.is_empty() {
            return Bytes::new();
        }
        let mut sealed = cursor.to_vec();
        let nonce = self.key.0.seal_in_place_append_tag(self.bound_to(listing), &mut sealed);
        sealed.extend_from_slice(nonce.expect("a cursor is short").as_ref());
        sealed.into()
    }

    /// Decrypts a cursor. `None`: it was not given to a client with this scope since the start of
    /// the broker. The empty one, which is the beginning of a listing, stays as it is.
    pub(crate) fn open(&self, listing: Listing, sealed: &[u8]) -> Option<Bytes> {
        if sealed.is_empty() {
            return Some(Bytes::new());
        }
        let (rest, nonce) = sealed.split_last_chunk::<NONCE_LEN>()?;
        let mut opened = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let cursor = self.key.0.open_in_place(nonce, self.bound_to(listing), &mut opened).ok()?;
        Some(Bytes::copy_from_slice(cursor))
    }

    /// What a cursor can be used with, and with nothing else.
    fn bound_to(&self, listing: Listing) -> Aad<Vec<u8>> {
        Aad::from(format!("{listing:?} {}", self.scope).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use celeriac_machine::command::Patterns;

    use super::*;

    fn scope(queues: &[&str]) -> Scope {
        Scope { queues: Patterns::of(queues.iter().copied()), names: Patterns::All }
    }

    #[test]
    fn o9_a_cursor_shows_nothing_and_is_for_its_scope_and_its_listing_alone() {
        let key = CursorKey::draw();
        let (mine, same) = (key.within(&scope(&["a", "b*"])), key.within(&scope(&["b*", "a"])));
        let cursor = 7_u32.to_be_bytes();
        let sealed = mine.seal(Listing::Tasks, &cursor);
        assert!(!sealed.windows(4).any(|part| part == cursor));
        assert_ne!(sealed, mine.seal(Listing::Tasks, &cursor), "it does not tell what is equal");
        assert_eq!(same.open(Listing::Tasks, &sealed).as_deref(), Some(&cursor[..]));
        let (other, later) = (key.within(&scope(&["a", "b"])), CursorKey::draw());
        let later = later.within(&scope(&["a", "b*"]));
        assert_eq!(other.open(Listing::Tasks, &sealed), None);
        assert_eq!(later.open(Listing::Tasks, &sealed), None);
        assert_eq!(mine.open(Listing::Workers, &sealed), None);
        for end in 1..sealed.len() {
            assert_eq!(mine.open(Listing::Tasks, &sealed[..end]), None);
        }
        assert!(mine.seal(Listing::Tasks, &[]).is_empty());
        assert_eq!(mine.open(Listing::Tasks, &cursor), None);
    }
}
