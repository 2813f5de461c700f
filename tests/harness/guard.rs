//! Ends brokers and other servers when the test or the bench itself was killed, by -9 too: a shell
//! reads from a pipe which processes run, and kills these when the pipe ends. No server takes part.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context as _, Result};

/// A process group is a number below 0.
const SCRIPT: &str = r#"
running=
while read -r what number; do
    rest=
    for each in $running; do [ "$each" = "$number" ] || rest="$rest $each"; done
    running=$rest
    [ "$what" = end ] || running="$running $number"
done
for each in $running; do kill -s KILL -- "$each"; done
"#;

/// The shell of this program.
static GUARD: OnceLock<Guard> = OnceLock::new();

/// A shell that knows what runs.
#[derive(Debug)]
struct Guard(Mutex<ChildStdin>);

impl Guard {
    fn start() -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the test, and not the shell.
            .process_group(0)
            .spawn()
            .context("sh did not start")?;
        Ok(Self(Mutex::new(shell.stdin.context("the shell has an input")?)))
    }

    fn tell(&self, what: &str, number: i64) {
        let mut pipe = self.0.lock().expect("no thread panics while it holds this lock");
        // Without the shell the test still ends its servers itself.
        let _ = writeln!(pipe, "{what} {number}");
    }
}

/// A process, or a process group, that ends with this process. When this value is dropped, it must
/// have ended.
#[derive(Debug)]
pub struct Guarded(i64);

impl Guarded {
    /// The group that this process leads.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn group(pid: u32) -> Result<Self> {
        Self::number(-i64::from(pid))
    }

    /// This process alone.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn process(pid: u32) -> Result<Self> {
        Self::number(i64::from(pid))
    }

    fn number(number: i64) -> Result<Self> {
        if GUARD.get().is_none() {
            // Where two threads begin at once, the shell of one ends at once.
            let _ = GUARD.set(Guard::start()?);
        }
        if let Some(guard) = GUARD.get() {
            guard.tell("begin", number);
        }
        Ok(Self(number))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(guard) = GUARD.get() {
            guard.tell("end", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Child;

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().expect("sleep starts")
    }

    #[test]
    fn what_runs_when_the_pipe_ends_is_killed() {
        let guard = Guard::start().expect("the shell starts");
        let [mut group, mut process, mut ended] = [sleeper(), sleeper(), sleeper()];
        guard.tell("begin", -i64::from(group.id()));
        guard.tell("begin", i64::from(ended.id()));
        guard.tell("begin", i64::from(process.id()));
        guard.tell("end", i64::from(ended.id()));
        drop(guard);
        for child in [&mut group, &mut process] {
            assert_eq!(child.wait().expect("it is our child").signal(), Some(9));
        }
        assert_eq!(ended.try_wait().expect("it is our child"), None, "it is not to be killed");
        ended.kill().and_then(|()| ended.wait()).expect("it is our child");
    }
}
