//! Which system call of the test broker goes wrong, and how. The plan comes from the environment as
//! `CELERIAC_TEST_FAULT="CALL PHASE NTH HARM"`, e.g. `fdatasync ready 3 eio`. What it is done to is
//! `interposed.rs`.

use std::ffi::c_int;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Which call, in which phase, how often it has to come, how it goes wrong.
const FAULT: &str = "CELERIAC_TEST_FAULT";
/// The folder that stands for the disk: paths outside do not count.
const DISK: &str = "CELERIAC_TEST_DISK";

static PLAN: OnceLock<Plan> = OnceLock::new();
static ARMED: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Read,
    Pread,
    Write,
    Pwrite,
    Fdatasync,
    Fsync,
    Ftruncate,
    Rename,
    Unlink,
    Mkdir,
}

/// What is to become of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    AsEver,
    Fails(c_int),
    /// Only half of the bytes are written, and no error is told: the caller has to notice.
    Half,
}

#[derive(Debug, Clone, Copy)]
enum Harm {
    /// An input/output error, once or for ever.
    Eio { for_ever: bool },
    /// No space left, once or for ever.
    Enospc { for_ever: bool },
    /// A short write, once.
    Short,
    /// A short write, and from then on errors: what was written is torn.
    Torn,
}

#[derive(Debug)]
struct Plan {
    call: Call,
    from_ready: bool,
    nth: u64,
    harm: Harm,
    disk: PathBuf,
}

/// Reads the plan; from now on calls count, unless they do so only when the broker is ready.
pub(crate) fn arm() -> Result<(), String> {
    let Ok(text) = std::env::var(FAULT) else { return Ok(()) };
    let plan = parse(&text).ok_or_else(|| format!("{FAULT}: `{text}` is no plan"))?;
    let from_start = !plan.from_ready;
    PLAN.get_or_init(|| plan);
    ARMED.store(from_start, Ordering::SeqCst);
    Ok(())
}

/// The broker is ready.
pub(crate) fn ready() {
    if PLAN.get().is_some_and(|plan| plan.from_ready) {
        ARMED.store(true, Ordering::SeqCst);
    }
}

fn parse(text: &str) -> Option<Plan> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [call, phase, nth, harm] = words[..] else { return None };
    let call = match call {
        "open" => Call::Open,
        "read" => Call::Read,
        "pread" => Call::Pread,
        "write" => Call::Write,
        "pwrite" => Call::Pwrite,
        "fdatasync" => Call::Fdatasync,
        "fsync" => Call::Fsync,
        "ftruncate" => Call::Ftruncate,
        "rename" => Call::Rename,
        "unlink" => Call::Unlink,
        "mkdir" => Call::Mkdir,
        _ => return None,
    };
    let harm = match harm {
        "eio" => Harm::Eio { for_ever: false },
        "eio-for-ever" => Harm::Eio { for_ever: true },
        "enospc" => Harm::Enospc { for_ever: false },
        "enospc-for-ever" => Harm::Enospc { for_ever: true },
        "short" => Harm::Short,
        "torn" => Harm::Torn,
        _ => return None,
    };
    let from_ready = match phase {
        "start" => false,
        "ready" => true,
        _ => return None,
    };
    Some(Plan {
        call,
        from_ready,
        nth: nth.parse().ok()?,
        harm,
        disk: std::env::var_os(DISK)?.into(),
    })
}

/// Whether the plan is about such calls. Asked first, so that all others cost nothing.
pub(crate) fn concerns(call: Call) -> bool {
    ARMED.load(Ordering::SeqCst) && PLAN.get().is_some_and(|plan| plan.call == call)
}

pub(crate) fn is_on_disk(path: &Path) -> bool {
    PLAN.get().is_some_and(|plan| path.starts_with(&plan.disk))
}

/// Counts one call and says what becomes of it.
pub(crate) fn fate(call: Call) -> Fate {
    let Some(plan) = PLAN.get().filter(|_| concerns(call)) else { return Fate::AsEver };
    let seen = SEEN.fetch_add(1, Ordering::SeqCst) + 1;
    let first = seen == plan.nth;
    let fate = match plan.harm {
        Harm::Eio { for_ever } if first || (for_ever && seen > plan.nth) => Fate::Fails(libc::EIO),
        Harm::Enospc { for_ever } if first || (for_ever && seen > plan.nth) => {
            Fate::Fails(libc::ENOSPC)
        }
        Harm::Short | Harm::Torn if first => Fate::Half,
        Harm::Torn if seen > plan.nth => Fate::Fails(libc::EIO),
        _ => Fate::AsEver,
    };
    if first {
        // Whoever started this process waits for the line. Nothing can be done when it is gone.
        let _told =
            writeln!(std::io::stderr(), "celeriac-test-broker: call {seen} goes wrong: {plan:?}");
    }
    fate
}
