//! Access: who may do what. An access file has an entry for each token and each certificate, and an
//! entry has roles and a scope.
//!
//! `file` reads the file, `token` knows the form of tokens, `roles` has the table of requests,
//! `rights` decides about one request, `audit` writes down what operators did and what was refused,
//! with `line`, `object` and `pace`.
//! A broker without an access file has no [`Access`], and no request pays for it.

mod audit;
mod file;
mod line;
mod object;
mod pace;
mod rights;
mod roles;
#[cfg(test)]
mod tests;
mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use celeriac_machine::command::{Ask, Code, Connect, Forbidden, Produce, Refusal, Scope};
use celeriac_record::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::clock::{Clock, moment};
use crate::config::{AuditWhat, Config};
use crate::cursors::{CursorKey, Cursors};
use crate::lobby::Remote;
use audit::{Audit, Paced};
pub use file::AccessError;
use file::{Entries, Entry, Key};
use line::Who;
use object::Object;
pub use roles::Role;
use roles::{Audited, Rule, rule};
pub use token::NewToken;

/// How often the broker looks whether an entry has expired.
const LOOK: Duration = Duration::from_millis(500);

/// The access list of a running broker. A clone is another handle on the same one.
#[derive(Debug, Clone)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    clock: Clock,
    /// Every change wakes the sessions, which look at their entries again.
    entries: watch::Sender<Arc<Entries>>,
    backup_folder: Option<PathBuf>,
    audit: Audit,
    audited: AuditWhat,
    cursors: CursorKey,
}

/// An access file that was read and is right.
#[derive(Debug)]
pub(crate) struct Prepared(file::Contents);

/// What an access file says, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessReport {
    /// The entries in the order of the file.
    pub entries: Vec<AccessEntry>,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
}

/// An entry of an access file, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessEntry {
    /// The name in logs.
    pub name: String,
    /// The id of a token, or the name in a certificate.
    pub key: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// When it ends, as RFC 3339.
    pub expires: Option<String>,
    /// Whether it has expired.
    pub is_expired: bool,
    /// The line of the file where it begins.
    pub line: usize,
}

impl Access {
    /// Reads the file that this configuration names, and changes nothing. Returns the warnings
    /// about it.
    ///
    /// # Errors
    /// The first mistake in the file.
    pub fn check(config: &Config) -> Result<Vec<String>, AccessError> {
        match &config.access_file {
            Some(file) => Ok(file::read(file)?.warnings),
            None => Ok(Vec::new()),
        }
    }

    /// Checks the text of an access file.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check_text(text: &str) -> Result<(), AccessError> {
        file::parse(Path::new("access.toml"), text).map(drop)
    }

    /// Reads a file as a broker would.
    ///
    /// # Errors
    /// The first mistake in the file.
    pub fn report(file: &Path) -> Result<AccessReport, AccessError> {
        let now = Clock::new().now().wall;
        let contents = file::read(file)?;
        let shown = |entry: &Entry| AccessEntry {
            name: entry.name.to_string(),
            key: match &entry.key {
                Key::Token { id, .. } => id.to_string(),
                Key::Certificate(name) => name.to_string(),
                Key::Inside => String::new(),
            },
            roles: entry.rights.roles.clone(),
            expires: entry.expires.map(moment),
            is_expired: has_expired(entry, now),
            line: entry.line,
        };
        let entries = contents.entries.all().into_iter().map(shown).collect();
        Ok(AccessReport { entries, warnings: contents.warnings })
    }

    /// Reads the file that this configuration names. `None` for a broker without one.
    pub(crate) fn load(config: &Config, clock: Clock) -> Result<Option<Self>, AccessError> {
        let Some(file) = config.access_file.clone() else { return Ok(None) };
        let contents = file::read(&file)?;
        let audit = Audit::open(config.audit_file.as_deref()).map_err(|error| {
            let path = config.audit_file.as_deref().unwrap_or(Path::new(""));
            AccessError::audit(path, &error)
        })?;
        log(&contents.warnings, contents.entries.all().len(), "the access file was read");
        let (entries, _) = watch::channel(Arc::new(contents.entries));
        let (backup_folder, audited) = (config.backup_folder.clone(), config.audit);
        let cursors = CursorKey::draw();
        let inner = Inner { file, clock, entries, backup_folder, audit, audited, cursors };
        Ok(Some(Self(Arc::new(inner))))
    }

    /// Reads the file, and changes nothing.
    pub(crate) async fn prepare(&self) -> Result<Prepared, AccessError> {
        let path = self.0.file.clone();
        let read = tokio::task::spawn_blocking(move || file::read(&path)).await;
        read.expect("reading the access file does not panic").map(Prepared)
    }

    /// Takes the entries that were read, and opens the audit file again. Within a second every
    /// session is judged by these entries: one whose entry is gone, or has changed, is closed.
    pub(crate) fn take(&self, Prepared(contents): Prepared) {
        self.0.audit.reopen();
        log(&contents.warnings, contents.entries.all().len(), "the access file was read again");
        self.0.entries.send_replace(Arc::new(contents.entries));
    }

    /// Wakes the sessions when an entry has expired. Never returns.
    pub(crate) async fn keep_fresh(&self) {
        let mut looked_at = self.0.clock.now().wall;
        loop {
            sleep(LOOK).await;
            let now = self.0.clock.now().wall;
            let entries = self.0.entries.borrow().clone();
            let ends = |entry: &&Entry| {
                entry.expires.is_some_and(|at| (looked_at + 1..=now).contains(&at))
            };
            if entries.each().any(|entry| ends(&entry)) {
                self.0.entries.send_replace(entries);
            }
            looked_at = now;
        }
    }

    /// The client that this token, or one of these names of its certificate, belongs to. The token
    /// counts first. `None`: nobody knows the client.
    pub(crate) fn admit(
        &self,
        token: &[u8],
        identities: &[String],
        peer: Remote,
    ) -> Option<Visitor> {
        let entries = self.0.entries.borrow().clone();
        let now = self.0.clock.now().wall;
        let entry = match token {
            [] => identities.iter().find_map(|name| entries.certificates.get(name.as_str())),
            token => entries.tokens.get(token::id_of(token)?).filter(|entry| match &entry.key {
                Key::Token { hash, .. } => hash.is(&token::Hash::of(token)),
                Key::Certificate(_) | Key::Inside => false,
            }),
        };
        let entry = entry.filter(|entry| !has_expired(entry, now))?.clone();
        Some(Visitor { access: self.clone(), entry, peer })
    }

    /// The process around the broker, which may ask for figures and for nothing else. No entry of
    /// the file says so, and none takes it away.
    pub(crate) fn admit_for_figures(&self, peer: Remote) -> Visitor {
        let entry = Entry {
            name: "metrics".into(),
            key: Key::Inside,
            rights: rights::Rights::for_figures(),
            expires: None,
            line: 0,
        };
        Visitor { access: self.clone(), entry: Arc::new(entry), peer }
    }

    /// Returns when every line of the audit file is written.
    pub(crate) async fn written(&self) {
        self.0.audit.written().await;
    }

    /// Writes down that nobody knows a client.
    pub(crate) fn note_failed_login(&self, peer: Remote) {
        self.0.audit.failed_login(Who { entry: None, peer, at: self.0.clock.now() });
    }
}

/// A client that the access list knows.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    access: Access,
    entry: Arc<Entry>,
    peer: Remote,
}

impl Visitor {
    /// The name of its entry.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.entry.name
    }

    /// Its cursors, if it has a scope.
    pub(crate) fn cursors(&self) -> Option<Cursors> {
        let scope = self.entry.rights.scope.as_deref();
        scope.map(|scope| self.access.0.cursors.within(scope))
    }

    /// What it may see.
    pub(crate) fn scope(&self) -> Option<Arc<Scope>> {
        self.entry.rights.scope.clone()
    }

    /// Decides about the first frame of the connection.
    pub(crate) fn check_connect(&self, connect: &Connect) -> Result<(), Refusal> {
        let checked = self.entry.rights.check_connect(&self.entry.name, connect);
        if checked.is_err() {
            let object = Object::of_worker(connect);
            self.access.0.audit.forbidden(self.who(), "connect_worker", &object);
        }
        checked
    }

    /// Decides about a request: what is not allowed becomes a refusal, which the machine answers in
    /// its turn.
    pub(crate) fn judge(&self, ask: Ask) -> Ask {
        let mut ask = ask;
        let rule = rule(&ask);
        let checked = self.entry.rights.check(&self.entry.name, &mut ask);
        let checked = checked.and_then(|refused| {
            rights::place_backup(&mut ask, self.access.0.backup_folder.as_deref())?;
            Ok(refused)
        });
        match checked {
            Err(refusal) => {
                self.access.0.audit.forbidden(self.who(), rule.action, &Object::of(&ask));
                Ask::Refuse(refusal)
            }
            Ok(refused) => {
                // The items that are refused, and not the others.
                if !refused.is_without_tasks() {
                    self.access.0.audit.forbidden(self.who(), rule.action, &refused);
                }
                self.note_allowed(rule, &ask, !refused.is_without_tasks());
                ask
            }
        }
    }

    fn note_allowed(&self, rule: Rule, ask: &Ask, is_refused_in_part: bool) {
        let is_written = match rule.audited {
            Audited::Always => true,
            Audited::OnWish => self.access.0.audited == AuditWhat::All,
            Audited::Never => false,
        };
        if !is_written {
            return;
        }
        let object = Object::of(ask);
        let is_submit = matches!(ask, Ask::Produce(Produce::Submit(_)));
        if is_submit && is_refused_in_part && object.is_without_tasks() {
            return;
        }
        let is_trusted = self.access.0.audited == AuditWhat::All
            || self.entry.rights.roles.contains(&Role::Operator);
        let paced = if is_trusted { Paced::No } else { Paced::Yes };
        self.access.0.audit.allowed(self.who(), rule.action, &object, paced);
    }

    /// Writes down what the machine refused.
    pub(crate) fn note_forbidden(&self, forbidden: &Forbidden) {
        let action = match forbidden {
            Forbidden::Outcomes { .. } => "put_outcome",
            Forbidden::Exchange(_) => "delete_exchange",
            Forbidden::Mailbox(_) => "use_mailbox",
        };
        let object = Object::of_forbidden(forbidden);
        self.access.0.audit.forbidden(self.who(), action, &object);
    }

    fn who(&self) -> Who<'_> {
        let at = self.access.0.clock.now();
        Who { entry: Some(&self.entry.name), peer: self.peer, at }
    }

    /// Waits until the entry counts no more, and returns what the client is told. The entry may be
    /// gone, have expired, or have other rights.
    pub(crate) async fn ended(&self) -> Refusal {
        let mut changes = self.access.0.entries.subscribe();
        loop {
            if let Some(why) = self.why_ended(&changes.borrow_and_update()) {
                return Refusal::new(
                    Code::Unauthenticated,
                    format!("the access `{}` {why}", self.entry.name),
                );
            }
            if changes.changed().await.is_err() {
                // The broker ends.
                std::future::pending::<()>().await;
            }
        }
    }

    fn why_ended(&self, entries: &Entries) -> Option<&'static str> {
        if self.entry.key == Key::Inside {
            return None;
        }
        match entries.like(&self.entry) {
            None => Some("is no longer in the access file"),
            Some(present) if has_expired(present, self.access.0.clock.now().wall) => {
                Some("has expired")
            }
            Some(present) if present.rights != self.entry.rights => {
                Some("has other rights now: connect again")
            }
            Some(_) => None,
        }
    }
}

fn has_expired(entry: &Entry, now: Timestamp) -> bool {
    entry.expires.is_some_and(|at| at <= now)
}

/// Logs what was read, and the warnings about it.
fn log(warnings: &[String], entries: usize, message: &str) {
    info!(entries, "{message}");
    for warning in warnings {
        warn!("{warning}");
    }
}
