//! The broker under measurement: a process of this program, or a broker that runs already. The
//! kernel says what a process of this program used.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::{Context, Result};
use celeriac_tests::authority::{Authority, Wish, write};
use celeriac_tests::{BrokerProcess, Setup};
use tempfile::TempDir;

use crate::crates::Target;
use crate::table::Table;

/// Which broker to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Choice {
    /// A broker that runs already, as host:port or celeriac://host:port; without it one is
    /// started.
    #[arg(long)]
    url: Option<String>,
    /// The data folder of the broker that is started; without it a temporary one. Its disk is
    /// measured too.
    #[arg(long, conflicts_with = "url")]
    data: Option<PathBuf>,
    /// The broker that is started speaks TLS, with the crates alone.
    #[arg(long, conflicts_with = "url")]
    tls: bool,
}

/// A CA, and a certificate for the broker under measurement. Dropping it removes the files.
#[derive(Debug)]
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let ca = Authority::new("the bench");
        write(&folder.path().join("ca.pem"), &ca.pem());
        let names = ["localhost", "127.0.0.1", "127.0.0.2"];
        ca.sign(&Wish::server(&names)).write(folder.path(), "broker");
        Ok(Self(folder))
    }

    /// The setup of a broker that shows the certificate.
    pub(crate) fn of(&self, setup: Setup) -> Setup {
        let file = |name| self.0.path().join(name);
        setup
            .set(format!("tls_certificate = {:?}", file("broker.pem")))
            .set(format!("tls_key = {:?}", file("broker.key")))
    }

    /// The broker for the crates.
    pub(crate) fn target(&self, address: SocketAddr) -> Target {
        Target { url: format!("celeriacs://{address}"), ca: Some(self.0.path().join("ca.pem")) }
    }
}

impl Choice {
    pub(crate) fn has_tls(&self) -> bool {
        self.tls
    }

    /// A folder on the same disk as the broker's data folder.
    pub(crate) fn disk(&self) -> PathBuf {
        let folder = self.data.as_deref().filter(|folder| folder.is_dir());
        folder.map_or_else(std::env::temp_dir, PathBuf::from)
    }
}

/// The broker to drive.
#[derive(Debug)]
pub(crate) enum Broker {
    Ours(Box<BrokerProcess>, Option<Certificates>),
    Running(SocketAddr),
}

impl Broker {
    pub(crate) async fn start(choice: &Choice) -> Result<Self> {
        if let Some(url) = &choice.url {
            let host = url.trim_start_matches("celeriac://").trim_end_matches('/');
            let address =
                host.to_socket_addrs().context("the URL is not a host and a port")?.next();
            return Ok(Self::Running(address.context("the host has no address")?));
        }
        let setup = choice.data.iter().fold(Setup::new(), Setup::data);
        let certificates = choice.tls.then(Certificates::new).transpose()?;
        let setup = certificates.iter().fold(setup, |setup, certificates| certificates.of(setup));
        Ok(Self::Ours(Box::new(setup.start().await), certificates))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(process, _) => process.address(),
            Self::Running(address) => *address,
        }
    }

    /// The broker for the crates.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Ours(process, Some(certificates)) => certificates.target(process.address()),
            _ => Target { url: format!("celeriac://{}", self.address()), ca: None },
        }
    }

    /// Memory, processor time and disk of our own broker process, and processor time for each of
    /// `tasks`.
    pub(crate) fn describe(&self, tasks: u64, table: &mut Table) {
        let Self::Ours(process, _) = self else { return };
        if let Some(kib) = status_kib(process.pid(), "VmHWM:") {
            table.row("broker memory, at most", kib / 1024, "MiB");
        }
        if let (Some(ticks), true) = (processor_ticks(process.pid()), tasks > 0) {
            // The kernel counts in hundredths of a second.
            table.row(
                "broker processor time per task",
                ticks as f64 * 10_000.0 / tasks as f64,
                "us",
            );
        }
        if let (Some(ticks), true) = (processor_ticks(std::process::id()), tasks > 0) {
            table.row(
                "bench processor time per task",
                ticks as f64 * 10_000.0 / tasks as f64,
                "us",
            );
        }
        table.row("data folder", folder_bytes(process.data()) >> 20, "MiB");
    }
}

/// One line of /proc/PID/status, in KiB.
pub(crate) fn status_kib(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find(|line| line.starts_with(name))?.split_whitespace().nth(1)?.parse().ok()
}

/// Processor time so far, in hundredths of a second.
pub(crate) fn processor_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything, so the fields are counted after its bracket: utime and stime.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The size of the folder on the disk.
pub(crate) fn folder_bytes(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes_of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(bytes_of).sum()
}
