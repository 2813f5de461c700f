//! File systems that are mounted for a fault and gone at its end, whatever happens: a small one in
//! memory, or an ext4 in a file. They need the right to mount; without it there is a sentence that
//! says so.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system; unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// A file system in memory of this size.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub(crate) fn in_memory(at: &Path, mebibytes: u64) -> Result<Self, String> {
        needs_root()?;
        command(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "celeriac-test"],
            &[at],
        )?;
        Ok(Self(at.to_owned()))
    }

    /// An ext4 in this file, which is made by `mkfs.ext4`.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub(crate) fn ext4(image: &Path, at: &Path) -> Result<Self, String> {
        needs_root()?;
        command("mkfs.ext4", &["-q", "-m", "0", "-E", "lazy_itable_init=0,nodiscard"], &[image])?;
        let mounted = Self(at.to_owned());
        mounted.mount_ext4(image)?;
        Ok(mounted)
    }

    /// Mounts the image again after [`unmount`](Self::unmount).
    pub(crate) fn mount_ext4(&self, image: &Path) -> Result<(), String> {
        command("mount", &["-t", "ext4", "-o", "loop"], &[image, &self.0])
    }

    /// Unmounts it, if nobody uses it any more; the loop device goes with it.
    pub(crate) fn unmount(&self) -> Result<(), String> {
        command("umount", &[], &[&self.0])
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a broker may still be on its way out. It is no error that it was unmounted
        // before.
        let _gone = command("umount", &["-l"], &[&self.0]);
    }
}

fn needs_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err("mounting a file system for it needs root".into())
    }
}

fn command(program: &str, flags: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(flags).args(paths).output();
    let output = output.map_err(|error| format!("{program} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} does not work here: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
