//! Which system call of the test broker fails, and how. The environment has the plan:
//! `CELERIAC_TEST_FAULT="CALL PHASE NTH HARM"`, e.g. `fdatasync ready 3 eio`. `interposed.rs`
//! carries it out.

use std::ffi::c_int;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The call, its phase, its number, and how it fails.
const FAULT: &str = "CELERIAC_TEST_FAULT";
/// The folder that stands for the disk. Paths outside do not count.
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

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Fails(c_int),
    /// Only half of the bytes are written, without an error. The caller must notice it.
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
    /// A short write, and then errors: the written data is torn.
    Torn,
    /// The call never returns, and none after it.
    Hang,
}

#[derive(Debug)]
struct Plan {
    call: Call,
    from_ready: bool,
    nth: u64,
    harm: Harm,
    disk: PathBuf,
}

/// Reads the plan. From now on calls count, unless they count only after the broker is ready.
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
        "hang" => Harm::Hang,
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

/// Whether the plan is about such calls. It is checked first, so that other calls cost nothing.
pub(crate) fn concerns(call: Call) -> bool {
    ARMED.load(Ordering::SeqCst) && PLAN.get().is_some_and(|plan| plan.call == call)
}

pub(crate) fn is_on_disk(path: &Path) -> bool {
    PLAN.get().is_some_and(|plan| path.starts_with(&plan.disk))
}

/// Counts one call and says what happens to it.
pub(crate) fn effect(call: Call) -> Effect {
    let Some(plan) = PLAN.get().filter(|_| concerns(call)) else { return Effect::None };
    let seen = SEEN.fetch_add(1, Ordering::SeqCst) + 1;
    let first = seen == plan.nth;
    let effect = match plan.harm {
        Harm::Eio { for_ever } if first || (for_ever && seen > plan.nth) => {
            Effect::Fails(libc::EIO)
        }
        Harm::Enospc { for_ever } if first || (for_ever && seen > plan.nth) => {
            Effect::Fails(libc::ENOSPC)
        }
        Harm::Short | Harm::Torn if first => Effect::Half,
        Harm::Torn if seen > plan.nth => Effect::Fails(libc::EIO),
        _ => Effect::None,
    };
    if first {
        // The starter of this process waits for this line. If it is gone, nothing can be done.
        let _told =
            writeln!(std::io::stderr(), "celeriac-test-broker: call {seen} goes wrong: {plan:?}");
    }
    if matches!(plan.harm, Harm::Hang) && seen >= plan.nth {
        loop {
            std::thread::park();
        }
    }
    effect
}
