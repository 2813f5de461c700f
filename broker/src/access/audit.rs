//! The audit log: one JSON line for each action of an operator, each refused request and each
//! failed login. No line has a payload, a header or a secret.
//!
//! A thread of its own writes the file, so that a slow disk delays no session. Lines that find no
//! room are counted, and the next line says how many are missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use celeriac_machine::command::{
    Ask, CancelTarget, Dead, Mail, Monotonic, Observe, Operate, Produce, Route, Work,
};
use celeriac_record::Timestamp;
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::clock::moment;

/// The lines that wait for the thread.
const WAITING_MAX: usize = 8_192;

/// The ids that a line names. It has the number of all of them.
const IDS_MAX: usize = 10;

/// The failed logins of one address that have a line in one second, and the addresses that are
/// counted one by one. All others share a count.
const LOGINS_PER_SECOND: u64 = 10;
const ADDRESSES_MAX: usize = 64;

/// Where the lines go.
#[derive(Debug)]
pub(super) struct Audit {
    /// `None`: to the log.
    file: Option<SyncSender<Note>>,
    /// The thread opens the file again before the next line: somebody may have moved it away.
    is_to_reopen: Arc<AtomicBool>,
    /// Lines that found no room since the last one that did.
    missing: AtomicU64,
    logins: Mutex<BTreeMap<Option<IpAddr>, Logins>>,
}

#[derive(Debug)]
enum Note {
    Line(String),
    /// Looks whether the file is to be opened again.
    Look,
    /// Told when every line before it is written.
    Written(oneshot::Sender<()>),
}

/// The failed logins of an address.
#[derive(Debug, Default)]
struct Logins {
    second: u64,
    in_second: u64,
    /// Those without a line.
    unsaid: u64,
}

/// Who did something, for a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    /// `None`: nobody that the broker knows.
    pub entry: Option<&'a str>,
    pub peer: SocketAddr,
    pub at: Timestamp,
}

/// What a request is about.
#[derive(Debug, Default)]
pub(super) struct Object {
    queues: Vec<Box<str>>,
    ids: Vec<Box<str>>,
    count: usize,
}

impl Audit {
    /// Opens the file, or takes the log.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let (is_to_reopen, missing, logins) = <(Arc<AtomicBool>, _, _)>::default();
        let Some(path) = path else {
            return Ok(Self { file: None, is_to_reopen, missing, logins });
        };
        let file = open(path)?;
        let (sender, notes) = sync_channel(WAITING_MAX);
        let (path, reopen) = (path.to_owned(), is_to_reopen.clone());
        std::thread::Builder::new()
            .name("celeriac-audit".to_owned())
            .spawn(move || write_all(file, &path, &reopen, &notes))?;
        Ok(Self { file: Some(sender), is_to_reopen, missing, logins })
    }

    /// Opens the file again, so that it can be rotated.
    pub(super) fn reopen(&self) {
        if let Some(file) = &self.file {
            self.is_to_reopen.store(true, Ordering::Release);
            // A full channel has lines, and before the next of them the thread looks too.
            let _ = file.try_send(Note::Look);
        }
    }

    /// Returns when every line is written.
    pub(super) async fn written(&self) {
        let Some(file) = self.file.clone() else { return };
        let (told, written) = oneshot::channel();
        // A full channel has room again when the disk has taken some lines.
        let sent = tokio::task::spawn_blocking(move || file.send(Note::Written(told)));
        if sent.await.is_ok_and(|sent| sent.is_ok()) {
            let _ = written.await;
        }
    }

    /// Writes a line about a request.
    pub(super) fn request(&self, who: Who<'_>, action: &str, object: &Object, outcome: &str) {
        let mut line = begin(who, action, outcome);
        if !object.queues.is_empty() {
            add_list(&mut line, "queues", &object.queues);
        }
        if object.count > 0 {
            add_list(&mut line, "ids", &object.ids);
            let _ = write!(line, ",\"count\":{}", object.count);
        }
        self.write(line);
    }

    /// Writes a line about a login that failed, unless there are too many of this address.
    pub(super) fn failed_login(&self, who: Who<'_>, now: Monotonic) {
        let Some(unsaid) = self.count_login(who.peer.ip(), now) else { return };
        let mut line = begin(who, "login", "unauthenticated");
        if unsaid > 0 {
            let _ = write!(line, ",\"without_line\":{unsaid}");
        }
        self.write(line);
    }

    /// Counts a failed login. Returns how many before it have no line, or `None` when this one gets
    /// none either.
    fn count_login(&self, address: IpAddr, now: Monotonic) -> Option<u64> {
        let mut logins = self.logins.lock().expect("no thread panics while it holds the lock");
        let second = now / 1_000;
        let mut key = Some(address);
        if !logins.contains_key(&key) && logins.len() >= ADDRESSES_MAX {
            logins.retain(|_, login| login.second == second);
            if logins.len() >= ADDRESSES_MAX {
                key = None;
            }
        }
        let login = logins.entry(key).or_default();
        if login.second != second {
            (login.second, login.in_second) = (second, 0);
        }
        login.in_second += 1;
        if login.in_second > LOGINS_PER_SECOND {
            login.unsaid += 1;
            return None;
        }
        Some(std::mem::take(&mut login.unsaid))
    }

    fn write(&self, mut line: String) {
        let Some(file) = &self.file else {
            line.push('}');
            info!(target: "celeriac_broker::audit", "{line}");
            return;
        };
        let missing = self.missing.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = write!(line, ",\"missing_lines\":{missing}");
        }
        line.push_str("}\n");
        if file.try_send(Note::Line(line)).is_err() {
            self.missing.fetch_add(missing + 1, Ordering::Relaxed);
        }
    }
}

impl Object {
    /// The queues and ids that a request names. A request that names neither is about itself.
    pub(super) fn of(ask: &Ask) -> Self {
        let mut object = Self::default();
        match ask {
            Ask::Produce(Produce::Submit(tasks)) => {
                for submission in tasks.iter().flatten() {
                    object.add_queue(&submission.spec.queue);
                    object.add_id(&submission.spec.id);
                }
            }
            Ask::Produce(
                Produce::Forget(ids) | Produce::Cancel { target: CancelTarget::Ids(ids), .. },
            )
            | Ask::Observe(
                Observe::Get { ids, .. } | Observe::Wait { ids, .. } | Observe::Watch { ids, .. },
            )
            | Ask::Operate(
                Operate::ReplayDead(Dead::Ids(ids)) | Operate::DiscardDead(Dead::Ids(ids)),
            ) => ids.iter().for_each(|id| object.add_id(id)),
            Ask::Produce(Produce::PutOutcome(outcomes)) => {
                outcomes.iter().flatten().for_each(|outcome| object.add_id(&outcome.id));
            }
            Ask::Produce(Produce::Chord { group, .. }) => object.add_id(group),
            Ask::Work(Work::Take { queue, .. })
            | Ask::Operate(Operate::PurgeQueue { queue, .. }) => object.add_queue(queue),
            Ask::Work(Work::Serve(serving)) => {
                serving.add_queues.iter().for_each(|(queue, _)| object.add_queue(queue));
            }
            Ask::Operate(Operate::ConfigureQueue(record))
            | Ask::Operate(Operate::DeclareQueue { record, .. }) => object.add_queue(&record.name),
            Ask::Operate(
                Operate::PauseQueues { queues, .. }
                | Operate::ListQueues { names: queues, .. }
                | Operate::Stats { names: queues, .. },
            ) => queues.iter().for_each(|queue| object.add_queue(queue)),
            Ask::Operate(
                Operate::ReplayDead(Dead::Matching(filter))
                | Operate::DiscardDead(Dead::Matching(filter))
                | Operate::ListTasks { filter, .. },
            ) => filter.queue.iter().for_each(|queue| object.add_queue(queue)),
            Ask::Operate(Operate::OrderWorkers { instances, .. }) => {
                instances.iter().for_each(|instance| object.add_id(instance));
            }
            Ask::Operate(Operate::Backup(folder)) => object.add_id(&folder.to_string_lossy()),
            Ask::Mail(mail) => object.add_mail(mail),
            Ask::Route(route) => object.add_route(route),
            Ask::Produce(Produce::Cancel { .. })
            | Ask::Observe(Observe::Unwait(_) | Observe::Unwatch { .. })
            | Ask::Work(Work::Credit(_) | Work::Report(_))
            | Ask::Operate(
                Operate::ListWorkers { .. }
                | Operate::Info
                | Operate::Drain(_)
                | Operate::LogFilter(_),
            )
            | Ask::Refuse(_)
            | Ask::Goodbye
            | Ask::Heartbeat { .. } => {}
        }
        object
    }

    /// The names of mailboxes and exchanges count as names of queues.
    fn add_mail(&mut self, mail: &Mail) {
        match mail {
            Mail::DeclareMailbox(name, _)
            | Mail::FindMailbox(name)
            | Mail::DeleteMailbox { mailbox: name, .. }
            | Mail::PurgeMailbox(name)
            | Mail::Consume(name)
            | Mail::Fetch(name) => self.add_queue(name),
            Mail::Publish(publish) => {
                let message = &publish.message;
                self.add_queue(message.exchange.as_deref().unwrap_or(&message.routing_key));
            }
            Mail::Unconsume(_) | Mail::Ack(_) | Mail::PutBack(_) | Mail::ListMailboxes { .. } => {}
        }
    }

    fn add_route(&mut self, route: &Route) {
        match route {
            Route::DeclareExchange(record) => self.add_queue(&record.name),
            Route::FindExchange(exchange) | Route::DeleteExchange { exchange, .. } => {
                self.add_queue(exchange);
            }
            Route::Bind(binding) | Route::Unbind(binding) => {
                self.add_queue(&binding.exchange);
                self.add_queue(binding.to.as_str());
            }
            Route::ListBindings { .. } => {}
        }
    }

    pub(super) fn add_queue(&mut self, queue: &str) {
        if self.queues.len() < IDS_MAX && !self.queues.iter().any(|known| **known == *queue) {
            self.queues.push(queue.into());
        }
    }

    /// Whether it has no id.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add_id(&mut self, id: &str) {
        if self.ids.len() < IDS_MAX {
            self.ids.push(id.into());
        }
        self.count += 1;
    }
}

/// The beginning of a line: what every line has.
fn begin(who: Who<'_>, action: &str, outcome: &str) -> String {
    let mut line = format!("{{\"time\":\"{}\",\"entry\":", moment(who.at));
    match who.entry {
        Some(entry) => add_text(&mut line, entry),
        None => line.push_str("null"),
    }
    let _ = write!(
        line,
        ",\"peer\":\"{}\",\"via\":\"protocol\",\"action\":\"{action}\",\"outcome\":\"{outcome}\"",
        who.peer
    );
    line
}

fn add_list(line: &mut String, key: &str, texts: &[Box<str>]) {
    let _ = write!(line, ",\"{key}\":[");
    for (index, text) in texts.iter().enumerate() {
        line.push_str(if index == 0 { "" } else { "," });
        add_text(line, text);
    }
    line.push(']');
}

/// Adds a text of JSON. Names may have any character.
fn add_text(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                line.push('\\');
                line.push(character);
            }
            character if character.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            character => line.push(character),
        }
    }
    line.push('"');
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Writes lines until there is no more sender.
fn write_all(mut file: File, path: &Path, reopen: &AtomicBool, notes: &Receiver<Note>) {
    let mut has_failed = false;
    for note in notes {
        let opened = match reopen.swap(false, Ordering::Acquire) {
            true => open(path).map(|opened| file = opened).inspect_err(|_| {
                // The lines go on into the file before, and each of them tries again.
                reopen.store(true, Ordering::Release);
            }),
            false => Ok(()),
        };
        let written = match note {
            Note::Line(line) => file.write_all(line.as_bytes()).and(opened),
            Note::Look => opened,
            Note::Written(told) => {
                let _ = told.send(());
                opened
            }
        };
        match written {
            Ok(()) => has_failed = false,
            // One line per series of failures.
            Err(error) if !std::mem::replace(&mut has_failed, true) => {
                error!(%error, file = %path.display(), "the audit file cannot be written");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn o12_every_line_is_written_at_the_end_and_a_file_that_was_moved_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let audit = Audit::open(Some(&path)).expect("it can be made");
        let who = Who { entry: Some("a"), peer: SocketAddr::from(([10, 0, 0, 1], 7)), at: 0 };
        let write =
            |count| (0..count).for_each(|_| audit.request(who, "x", &Object::default(), "y"));
        let lines = |path| std::fs::read_to_string(path).expect("it is there").lines().count();
        write(1_000);
        audit.written().await;
        assert_eq!(lines(&path), 1_000);
        std::fs::rename(&path, &moved).expect("it is ours");
        // A folder in its place cannot be opened: the lines go on into the file before.
        std::fs::create_dir(&path).expect("its name is free");
        audit.reopen();
        write(10);
        audit.written().await;
        assert_eq!(lines(&moved), 1_010);
        std::fs::remove_dir(&path).expect("it is empty");
        write(5);
        audit.written().await;
        assert_eq!((lines(&moved), lines(&path)), (1_010, 5));
    }

    #[test]
    fn o12_an_address_has_ten_lines_of_failed_logins_a_second_and_then_a_count() {
        let audit = Audit::open(None).expect("it needs no file");
        let address = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..10 {
            assert_eq!(audit.count_login(address, 500), Some(0));
        }
        for _ in 0..25 {
            assert_eq!(audit.count_login(address, 999), None);
        }
        assert_eq!(audit.count_login(IpAddr::from([10, 0, 0, 2]), 999), Some(0));
        assert_eq!(audit.count_login(address, 1_000), Some(25));
        assert_eq!(audit.count_login(address, 1_001), Some(0));
        for last in 0..=255 {
            audit.count_login(IpAddr::from([10, 1, 0, last]), 1_001);
        }
        assert!(audit.logins.lock().expect("free").len() <= ADDRESSES_MAX + 1);
    }

    #[test]
    fn o12_a_line_is_json_whatever_the_names_are() {
        let mut object = Object::default();
        object.add_queue("a\"b\\c\n");
        (0..12).for_each(|number| object.add_id(&format!("id-{number}")));
        let peer = SocketAddr::from(([127, 0, 0, 1], 7));
        let line = begin(Who { entry: Some("w"), peer, at: 0 }, "purge_queue", "allowed");
        assert_eq!(
            line,
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"entry\":\"w\",\"peer\":\"127.0.0.1:7\",\
             \"via\":\"protocol\",\"action\":\"purge_queue\",\"outcome\":\"allowed\""
        );
        let mut list = String::new();
        add_list(&mut list, "queues", &object.queues);
        assert_eq!(list, ",\"queues\":[\"a\\\"b\\\\c\\u000a\"]");
        assert_eq!((object.ids.len(), object.count), (10, 12));
    }
}
