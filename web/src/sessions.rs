//! Logins: the token of the broker stays on the server, and the browser gets a random key for it in
//! a cookie. Sessions lie in memory alone, so that a restart ends them.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::problem::Problem;
use crate::site::Site;

/// A session ends this long after its login.
pub(crate) const LIFE: Duration = Duration::from_secs(8 * 3_600);
/// A session that nobody used for this long ends.
const IDLE: Duration = Duration::from_secs(3_600);
/// The most sessions. Beyond them the one that was used longest ago makes room.
const SESSIONS_MAX: usize = 10_000;
/// The most sessions of one token, so that nobody ends the sessions of others by logging in.
const SESSIONS_OF_ONE_MAX: usize = 100;
/// The bytes of a key.
const KEY_BYTES: usize = 32;
/// The name of the cookie begins with this and ends with the port: browsers share the cookies of
/// all ports of a host, and two brokers may serve on one machine.
const COOKIE: &str = "celeriac_session_";

/// The sessions of all visitors, by key.
#[derive(Default)]
pub(crate) struct Sessions {
    all: Mutex<HashMap<String, Session>>,
    port: OnceLock<u16>,
}

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
        let mut all = self.all.lock().expect("no panic while it is locked");
        if all.len() >= SESSIONS_MAX {
            all.retain(|_, session| !session.is_over(now));
        }
        let is_own = |(_, it): &(&String, &Session)| it.token == token;
        let is_full_of_own = all.iter().filter(is_own).count() >= SESSIONS_OF_ONE_MAX;
        if is_full_of_own || all.len() >= SESSIONS_MAX {
            let oldest = all.iter().filter(|it| !is_full_of_own || is_own(it));
            let oldest = oldest.min_by_key(|(_, it)| it.used).map(|(key, _)| key.clone());
            oldest.map(|key| all.remove(&key));
        }
        all.insert(key, Session { token, began: now, used: now });
    }

    /// The token of a session that goes on. To ask for it is to use the session.
    pub(crate) fn token(&self, key: &str) -> Option<String> {
        self.token_at(key, Instant::now())
    }

    fn token_at(&self, key: &str, now: Instant) -> Option<String> {
        let mut all = self.all.lock().expect("no panic while it is locked");
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
        let all = self.all.lock().expect("no panic while it is locked");
        all.get(key).is_some_and(|session| !session.is_over(Instant::now()))
    }

    /// Ends a session.
    pub(crate) fn end(&self, key: &str) {
        self.all.lock().expect("no panic while it is locked").remove(key);
    }

    /// Names the port on which this server listens.
    pub(crate) fn are_of_port(&self, port: u16) {
        // It listens once.
        let _ = self.port.set(port);
    }

    fn cookie_name(&self) -> String {
        format!("{COOKIE}{}", self.port.get().copied().unwrap_or_default())
    }

    /// The key in the header `Cookie`.
    pub(crate) fn key_in<'a>(&self, cookies: &'a str) -> Option<&'a str> {
        let ours = self.cookie_name();
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        let key = pairs.find(|(name, _)| *name == ours)?.1;
        let is_key = key.len() == 2 * KEY_BYTES && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_key.then_some(key)
    }

    /// The header `Set-Cookie` that gives this key to the browser, or takes it away.
    pub(crate) fn cookie(&self, site: &Site, key: Option<&str>) -> String {
        let secure = if site.is_encrypted() { "; Secure" } else { "" };
        let age = if key.is_some() { LIFE.as_secs() } else { 0 };
        let (key, base, name) = (key.unwrap_or_default(), site.base(), self.cookie_name());
        format!("{name}={key}; HttpOnly; SameSite=Strict; Path={base}/; Max-Age={age}{secure}")
    }
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
            let token = (number / SESSIONS_OF_ONE_MAX as u64).to_string();
            sessions.keep(number.to_string(), token, now);
        }
        assert_eq!(sessions.all.lock().expect("no panic").len(), SESSIONS_MAX);
        assert!(!sessions.goes_on("0") && sessions.goes_on("1"));
        sessions.end("1");
        assert!(!sessions.goes_on("1"));
    }

    #[test]
    fn o46_who_logs_in_again_and_again_ends_no_session_of_others() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        sessions.keep("ops".into(), "ops".into(), start);
        for number in 0..1_000 {
            let now = start + Duration::from_millis(number);
            sessions.keep(number.to_string(), "t".into(), now);
        }
        assert_eq!(sessions.all.lock().expect("no panic").len(), 1 + SESSIONS_OF_ONE_MAX);
        assert!(sessions.goes_on("ops") && sessions.goes_on("999") && sessions.goes_on("900"));
        assert!(!sessions.goes_on("899"));
    }

    #[test]
    fn o46_keys_are_random_and_read_back_from_the_cookie() {
        let sessions = Sessions::default();
        let keys = [0, 1].map(|_| sessions.begin("t".into()).expect("a key"));
        assert_ne!(keys[0], keys[1]);
        sessions.are_of_port(23538);
        let sent = format!("a=b; celeriac_session_23538={}; c=d", keys[0]);
        assert_eq!(sessions.key_in(&sent), Some(keys[0].as_str()));
        // Another broker of this machine has cookies of its own.
        let of_other = format!("celeriac_session_1={}", keys[0]);
        for wrong in ["", "celeriac_session_23538=", "celeriac_session_23538=abc", &of_other] {
            assert_eq!(sessions.key_in(wrong), None, "{wrong}");
        }
        let cookie = sessions.cookie(&Site::default(), Some("k"));
        assert!(cookie.starts_with("celeriac_session_23538=k; HttpOnly;"), "{cookie}");
    }
}
