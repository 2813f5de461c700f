//! The access file: reads it whole, or says in one sentence what is wrong, with the file and the
//! line. No sentence repeats a secret.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use celeriac_machine::command::{Patterns, Scope};
use celeriac_proto::limits::NAME_BYTES_MAX;
use celeriac_record::Timestamp;
use serde::Deserialize;
use toml::Spanned;
use toml::value::{Datetime, Offset};

use super::line::is_plain;
use super::rights::Rights;
use super::roles::Role;
use super::token::{Hash, PREFIX, is_id};
use crate::regular_file;

/// More than the longest list that a person keeps.
const BYTES_MAX: u64 = 1024 * 1024;
const ENTRIES_MAX: usize = 10_000;
const PATTERNS_MAX: usize = 1_000;

/// Why an access file cannot be used, in one sentence that names the file and the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct AccessError {
    key: &'static str,
    sentence: String,
}

impl AccessError {
    /// The audit file cannot be used.
    pub(super) fn audit(path: &Path, error: &std::io::Error) -> Self {
        let sentence = format!("the audit file {} cannot be opened: {error}", path.display());
        Self { key: "audit_file", sentence }
    }

    /// The setting that names the file.
    pub fn key(&self) -> &'static str {
        self.key
    }
}

/// One entry: who it is for, and what they may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: Arc<str>,
    pub key: Key,
    pub rights: Rights,
    /// From this time on the entry counts no more.
    pub expires: Option<Timestamp>,
    /// The line of the file where it begins.
    pub line: usize,
}

/// How a client shows that an entry is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Token {
        id: Box<str>,
        hash: Hash,
    },
    /// One of the names of its certificate, such as `dns:host`, or `sha256:` and its fingerprint.
    Certificate(Box<str>),
    /// The process around the broker itself. No file has such an entry.
    Inside,
}

/// All entries of a file.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub tokens: BTreeMap<Box<str>, Arc<Entry>>,
    pub certificates: BTreeMap<Box<str>, Arc<Entry>>,
}

impl Entries {
    /// Every entry.
    pub(super) fn each(&self) -> impl Iterator<Item = &Entry> {
        self.tokens.values().chain(self.certificates.values()).map(|entry| &**entry)
    }

    /// Every entry, in the order of the file.
    pub(super) fn all(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self.each().collect();
        all.sort_by_key(|entry| entry.line);
        all
    }

    /// The entry with the key of another one, which may have come from an earlier file.
    pub(super) fn like(&self, other: &Entry) -> Option<&Arc<Entry>> {
        match &other.key {
            Key::Token { id, hash } => {
                let is_same = |entry: &&Arc<Entry>| match &entry.key {
                    Key::Token { hash: of, .. } => of.is(hash),
                    Key::Certificate(_) | Key::Inside => false,
                };
                self.tokens.get(id).filter(is_same)
            }
            Key::Certificate(name) => self.certificates.get(name),
            Key::Inside => None,
        }
    }
}

/// What a file says, and the warnings about it.
#[derive(Debug)]
pub(super) struct Contents {
    pub entries: Entries,
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    token: Vec<Spanned<RawToken>>,
    #[serde(default)]
    certificate: Vec<Spanned<RawCertificate>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    name: Spanned<String>,
    id: Spanned<String>,
    sha256: Spanned<String>,
    roles: Vec<Spanned<String>>,
    #[serde(default)]
    queues: Vec<Spanned<String>>,
    #[serde(default)]
    names: Vec<Spanned<String>>,
    #[serde(default)]
    bodies: bool,
    expires: Option<Spanned<Datetime>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    name: Spanned<String>,
    san: Option<Spanned<String>>,
    fingerprint: Option<Spanned<String>>,
    roles: Vec<Spanned<String>>,
    #[serde(default)]
    queues: Vec<Spanned<String>>,
    #[serde(default)]
    names: Vec<Spanned<String>>,
    #[serde(default)]
    bodies: bool,
    expires: Option<Spanned<Datetime>>,
}

/// The parts that both kinds of entries have.
struct Common {
    name: Spanned<String>,
    roles: Vec<Spanned<String>>,
    queues: Vec<Spanned<String>>,
    names: Vec<Spanned<String>>,
    bodies: bool,
    expires: Option<Spanned<Datetime>>,
}

/// Reads and checks a file.
pub(super) fn read(path: &Path) -> Result<Contents, AccessError> {
    let text = text_of(path)?;
    let mut contents = parse(path, &text)?;
    contents.warnings.extend(open_to_all(path));
    Ok(contents)
}

/// Checks the text of a file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Contents, AccessError> {
    let mut warnings = Vec::new();
    let reading = Reading::of(path, text);
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        // The sentence of the parser may have several lines.
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        reading.wrong(error.span().map_or(0, |span| span.start), &message)
    })?;
    if raw.token.is_empty() && raw.certificate.is_empty() {
        return Err(reading
            .wrong(0, "it has no [[token]] and no [[certificate]], so that nobody could connect"));
    }
    if raw.token.len() + raw.certificate.len() > ENTRIES_MAX {
        return Err(reading.wrong(0, &format!("it has more than {ENTRIES_MAX} entries")));
    }
    let mut entries = Entries::default();
    for token in raw.token {
        reading.add_token(token, &mut entries, &mut warnings)?;
    }
    for certificate in raw.certificate {
        reading.add_certificate(certificate, &mut entries, &mut warnings)?;
    }
    Ok(Contents { entries, warnings })
}

/// A file whose text was read.
struct Reading<'a> {
    path: &'a Path,
    /// Where its lines end, in order.
    ends: Vec<usize>,
}

impl<'a> Reading<'a> {
    fn of(path: &'a Path, text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { path, ends: ends.map(|(offset, _)| offset).collect() }
    }

    fn line(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }

    fn wrong(&self, offset: usize, problem: &str) -> AccessError {
        wrong(self.path, Some(self.line(offset)), problem)
    }

    fn at<T>(&self, place: &Spanned<T>, problem: &str) -> AccessError {
        self.wrong(place.span().start, problem)
    }

    fn add_token(
        &self,
        raw: Spanned<RawToken>,
        entries: &mut Entries,
        warnings: &mut Vec<String>,
    ) -> Result<(), AccessError> {
        let line = self.line(raw.span().start);
        let RawToken { name, id, sha256, roles, queues, names, bodies, expires } = raw.into_inner();
        if !is_id(id.get_ref()) {
            let problem = "the id of a token has 8 small letters and digits: \
                           `celeriac token new` prints it";
            return Err(self.at(&id, problem));
        }
        let Some(hash) = Hash::parse(sha256.get_ref()) else {
            let problem = "sha256 is no SHA-256 of a token: it has 64 hexadecimal digits";
            return Err(self.at(&sha256, problem));
        };
        let key = Key::Token { id: id.get_ref().as_str().into(), hash };
        let common = Common { name, roles, queues, names, bodies, expires };
        let entry = self.entry(line, key, common, warnings)?;
        if let Some(other) = entries.tokens.insert(id.get_ref().as_str().into(), Arc::new(entry)) {
            let problem = format!("the id `{}` stands in line {} too", id.get_ref(), other.line);
            return Err(self.at(&id, &problem));
        }
        Ok(())
    }

    fn add_certificate(
        &self,
        raw: Spanned<RawCertificate>,
        entries: &mut Entries,
        warnings: &mut Vec<String>,
    ) -> Result<(), AccessError> {
        let place = raw.span().start;
        let line = self.line(place);
        let RawCertificate { name, san, fingerprint, roles, queues, names, bodies, expires } =
            raw.into_inner();
        let shown = match (san, fingerprint) {
            (Some(san), None) => self.san(&san)?,
            (None, Some(fingerprint)) => self.fingerprint(&fingerprint)?,
            _ => {
                let problem = "a certificate is named by san or by fingerprint: one of the two";
                return Err(self.wrong(place, problem));
            }
        };
        let common = Common { name, roles, queues, names, bodies, expires };
        let key = Key::Certificate(shown.clone());
        let entry = self.entry(line, key, common, warnings)?;
        if let Some(other) = entries.certificates.insert(shown.clone(), Arc::new(entry)) {
            let problem = format!("the certificate `{shown}` stands in line {} too", other.line);
            return Err(self.wrong(place, &problem));
        }
        Ok(())
    }

    fn san(&self, san: &Spanned<String>) -> Result<Box<str>, AccessError> {
        let known = ["dns:", "uri:", "email:", "ip:"];
        let is_known =
            |kind: &&str| san.get_ref().strip_prefix(*kind).is_some_and(|name| !name.is_empty());
        if !known.iter().any(is_known) {
            let problem = "san is dns:, uri:, email: or ip: and a name, such as \
                           dns:worker.example";
            return Err(self.at(san, problem));
        }
        // Names of hosts are the same in small and in capital letters.
        Ok(match san.get_ref().strip_prefix("dns:") {
            Some(host) => format!("dns:{}", host.to_ascii_lowercase()).into(),
            None => san.get_ref().as_str().into(),
        })
    }

    /// `openssl x509 -fingerprint -sha256` prints colons and capital letters.
    fn fingerprint(&self, given: &Spanned<String>) -> Result<Box<str>, AccessError> {
        let digits = given.get_ref().strip_prefix("sha256:").map(|digits| {
            digits.chars().filter(|digit| *digit != ':').collect::<String>().to_ascii_lowercase()
        });
        match digits.filter(|digits| Hash::parse(digits).is_some()) {
            Some(digits) => Ok(format!("sha256:{digits}").into()),
            None => {
                let problem = "fingerprint is sha256: and 64 hexadecimal digits";
                Err(self.at(given, problem))
            }
        }
    }

    fn entry(
        &self,
        line: usize,
        key: Key,
        common: Common,
        warnings: &mut Vec<String>,
    ) -> Result<Entry, AccessError> {
        let Common { name, roles, queues, names, bodies, expires } = common;
        let text = name.get_ref().as_str();
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(is_plain) {
            let problem = format!("a name has 1 to {NAME_BYTES_MAX} bytes of visible text");
            return Err(self.at(&name, &problem));
        }
        if roles.is_empty() {
            return Err(wrong(self.path, Some(line), &format!("`{text}` has no roles")));
        }
        let mut roles = roles.iter().map(|role| self.role(role)).collect::<Result<Vec<_>, _>>()?;
        roles.sort_unstable();
        roles.dedup();
        for (what, patterns) in [("queues", &queues), ("names", &names)] {
            if patterns.is_empty() {
                let path = self.path.display();
                warnings.push(format!(
                    "{path}:{line}: the access `{text}` has no {what}, and so it allows none; \
                     {what} = [\"*\"] allows all"
                ));
            }
        }
        let queues = self.patterns("queues", &queues)?;
        let scope = Scope::of(queues, self.patterns("names", &names)?).map(Arc::new);
        let expires = expires.map(|expires| self.moment(&expires)).transpose()?;
        let rights = Rights { roles, bodies, scope, figures: false };
        Ok(Entry { name: text.into(), key, rights, expires, line })
    }

    fn role(&self, role: &Spanned<String>) -> Result<Role, AccessError> {
        Role::parse(role.get_ref()).ok_or_else(|| {
            let problem = format!(
                "`{}` is no role: the roles are producer, worker, reader and operator",
                role.get_ref().escape_debug()
            );
            self.at(role, &problem)
        })
    }

    fn patterns(&self, what: &str, given: &[Spanned<String>]) -> Result<Patterns, AccessError> {
        if let Some(first) = given.first().filter(|_| given.len() > PATTERNS_MAX) {
            return Err(self.at(first, &format!("{what} has more than {PATTERNS_MAX} patterns")));
        }
        for pattern in given {
            let text = pattern.get_ref().as_str();
            let stem = text.strip_suffix('*').unwrap_or(text);
            if text.is_empty() || text.len() > NAME_BYTES_MAX || stem.contains('*') {
                let problem = format!(
                    "`{}` is no pattern of {what}: a pattern is a name, or the beginning of names \
                     with one `*` at its end",
                    text.escape_debug()
                );
                return Err(self.at(pattern, &problem));
            }
        }
        Ok(Patterns::of(given.iter().map(|pattern| pattern.get_ref().as_str())))
    }

    fn moment(&self, given: &Spanned<Datetime>) -> Result<Timestamp, AccessError> {
        milliseconds(given.get_ref()).ok_or_else(|| {
            let problem = "expires is a date, a time and an offset, such as 2027-05-01T00:00:00Z";
            self.at(given, problem)
        })
    }
}

/// The milliseconds since 1970 of a moment that has a date, a time and an offset.
fn milliseconds(at: &Datetime) -> Option<Timestamp> {
    let (date, time) = (at.date?, at.time?);
    let minutes = match at.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    // The days since 1970-01-01, by the way of counting years from March.
    let (year, month, day) = (i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    let (hour, minute) = (i64::from(time.hour), i64::from(time.minute));
    let second = i64::from(time.second.unwrap_or(0));
    let seconds = ((days * 24 + hour) * 60 + minute - minutes) * 60 + second;
    Some(seconds * 1_000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000))
}

/// Reads a file of text.
fn text_of(path: &Path) -> Result<String, AccessError> {
    let read = regular_file::read(path, BYTES_MAX);
    let bytes = read.map_err(|problem| wrong(path, None, &problem))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(path, Some(line), "it is not text in UTF-8")
    })
}

/// The warning for a file that every user of this machine can read or change.
fn open_to_all(path: &Path) -> Option<String> {
    const OTHERS: u32 = 0o006;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let path = path.display();
    (mode & OTHERS != 0).then(|| {
        format!(
            "every user of this machine has access to the access file {path} (mode {:04o}): \
             run `chmod 600 {path}`",
            mode & 0o7777
        )
    })
}

/// The sentence about a mistake. Somebody may have written a token into the file.
fn wrong(path: &Path, line: Option<usize>, problem: &str) -> AccessError {
    let path = path.display();
    let problem = masked(problem);
    let sentence = match line {
        Some(line) => format!("{path}:{line}: {problem}"),
        None => format!("the access file {path} {problem}"),
    };
    AccessError { key: "access_file", sentence }
}

/// A text without the tokens in it.
fn masked(text: &str) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut parts = text.split(PREFIX);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked += PREFIX;
        masked += "***";
        masked += part.trim_start_matches(is_part);
    }
    masked
}
