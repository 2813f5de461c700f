//! Logins: the token of the broker stays on the server, and the browser gets a random key for it in
//! a cookie. Sessions lie in memory alone, so that a restart ends them.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::problem::Problem;
use crate::site::Site;

/// A session ends this long after its login.
pub(crate) const LIFE: Duration = Duration::from_secs(8 * 3_600);
/// A session that nobody used for this long ends.
const IDLE: Duration = Duration::from_secs(3_600);
/// The most sessions. Beyond them the one that was used longest ago makes room.
const SESSIONS_MAX: usize = 10_000;
/// The bytes of a key.
const KEY_BYTES: usize = 32;
/// The name of the cookie.
const COOKIE: &str = "celeriac_session";

/// The sessions of all visitors, by key.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

struct Session {
    token: String,
    began: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= LIFE || now.duration_since(self.used) >= IDLE
    }
}

impl Sessions {
    /// Begins a session for this token, which the broker has accepted, and gives its key.
    pub(crate) fn begin(&self, token: String) -> Result<String, Problem> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|_| Problem::overloaded("the system gives no random bytes for a login"))?;
        let key = bytes.iter().fold(String::new(), |mut key, byte| {
            write!(key, "{byte:02x}").expect("writing to a string does not fail");
            key
        });
        self.keep(key.clone(), token, Instant::now());
        Ok(key)
    }

    fn keep(&self, key: String, token: String, now: Instant) {
        let mut all = self.0.lock().expect("no panic while it is locked");
        if all.len() >= SESSIONS_MAX {
            all.retain(|_, session| !session.is_over(now));
        }
        if all.len() >= SESSIONS_MAX
            && let Some(oldest) = all.iter().min_by_key(|(_, it)| it.used).map(|(key, _)| key)
        {
            let oldest = oldest.clone();
            all.remove(&oldest);
        }
        all.insert(key, Session { token, began: now, used: now });
    }

    /// The token of a session that goes on. To ask for it is to use the session.
    pub(crate) fn token(&self, key: &str) -> Option<String> {
        self.token_at(key, Instant::now())
    }

    fn token_at(&self, key: &str, now: Instant) -> Option<String> {
        let mut all = self.0.lock().expect("no panic while it is locked");
        let session = all.get_mut(key)?;
        if session.is_over(now) {
            all.remove(key);
            return None;
        }
        session.used = now;
        Some(session.token.clone())
    }

    /// Whether a session goes on. An open page asks this, and does not use the session.
    pub(crate) fn goes_on(&self, key: &str) -> bool {
        let all = self.0.lock().expect("no panic while it is locked");
        all.get(key).is_some_and(|session| !session.is_over(Instant::now()))
    }

    /// Ends a session.
    pub(crate) fn end(&self, key: &str) {
        self.0.lock().expect("no panic while it is locked").remove(key);
    }
}

/// The key in the header `Cookie`.
pub(crate) fn key_in(cookies: &str) -> Option<&str> {
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    let key = pairs.find(|(name, _)| *name == COOKIE)?.1;
    let is_key = key.len() == 2 * KEY_BYTES && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key.then_some(key)
}

/// The header `Set-Cookie` that gives this key to the browser, or takes it away.
pub(crate) fn cookie(site: &Site, key: Option<&str>) -> String {
    let secure = if site.is_encrypted() { "; Secure" } else { "" };
    let age = if key.is_some() { LIFE.as_secs() } else { 0 };
    let (key, base) = (key.unwrap_or_default(), site.base());
    format!("{COOKIE}={key}; HttpOnly; SameSite=Strict; Path={base}/; Max-Age={age}{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o46_a_session_ends_when_nobody_uses_it_and_in_any_case_after_its_life() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let minutes = |count: u64| start + Duration::from_secs(60 * count);
        sessions.keep("idle".into(), "t".into(), start);
        assert_eq!(sessions.token_at("idle", minutes(59)).as_deref(), Some("t"));
        assert_eq!(sessions.token_at("idle", minutes(118)).as_deref(), Some("t"));
        assert_eq!(sessions.token_at("idle", minutes(178)), None);
        sessions.keep("busy".into(), "t".into(), start);
        for minute in (30..480).step_by(30) {
            assert!(sessions.token_at("busy", minutes(minute)).is_some(), "{minute}");
        }
        assert_eq!(sessions.token_at("busy", minutes(480)), None);
    }

    #[test]
    fn o46_there_is_a_bound_of_sessions_and_the_longest_unused_one_goes() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        for number in 0..=SESSIONS_MAX as u64 {
            let now = start + Duration::from_millis(number);
            sessions.keep(number.to_string(), "t".into(), now);
        }
        assert_eq!(sessions.0.lock().expect("no panic").len(), SESSIONS_MAX);
        assert!(!sessions.goes_on("0") && sessions.goes_on("1"));
        sessions.end("1");
        assert!(!sessions.goes_on("1"));
    }

    #[test]
    fn o46_keys_are_random_and_read_back_from_the_cookie() {
        let sessions = Sessions::default();
        let keys = [0, 1].map(|_| sessions.begin("t".into()).expect("a key"));
        assert_ne!(keys[0], keys[1]);
        let sent = format!("a=b; celeriac_session={}; c=d", keys[0]);
        assert_eq!(key_in(&sent), Some(keys[0].as_str()));
        for wrong in ["", "celeriac_session=", "celeriac_session=abc", "other=1"] {
            assert_eq!(key_in(wrong), None, "{wrong}");
        }
    }
}
