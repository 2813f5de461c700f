//! File systems that are mounted for a fault and unmounted at its end, whatever happens: a small
//! one in memory, or an ext4 or XFS in a file. They need the right to mount. Without it the error
//! is a sentence that says so.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The file systems that an image may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

/// A mounted file system. It is unmounted when this value is dropped.
#[derive(Debug)]
pub(crate) struct MountedFileSystem(PathBuf);

impl MountedFileSystem {
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

    /// A file system in this file. `mkfs.ext4` or `mkfs.xfs` makes it.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub(crate) fn in_an_image(kind: Kind, image: &Path, at: &Path) -> Result<Self, String> {
        needs_root()?;
        match kind {
            Kind::Ext4 => {
                let flags = ["-q", "-m", "0", "-E", "lazy_itable_init=0,nodiscard"];
                command("mkfs.ext4", &flags, &[image])?;
            }
            Kind::Xfs => command("mkfs.xfs", &["-q", "-K"], &[image])?,
        }
        let mounted = Self(at.to_owned());
        mounted.mount_image(kind, image)?;
        Ok(mounted)
    }

    /// Mounts the image again after [`unmount`](Self::unmount).
    pub(crate) fn mount_image(&self, kind: Kind, image: &Path) -> Result<(), String> {
        let kind = match kind {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
        };
        command("mount", &["-t", kind, "-o", "loop"], &[image, &self.0])
    }

    /// Unmounts it, if no process uses it any more. The loop device goes with it.
    pub(crate) fn unmount(&self) -> Result<(), String> {
        command("umount", &[], &[&self.0])
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MountedFileSystem {
    fn drop(&mut self) {
        // The unmount is lazy, because a broker may still be ending. It is no error if the file
        // system was unmounted before.
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
