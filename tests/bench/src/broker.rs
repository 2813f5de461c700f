//! The broker under measurement: a process of this program, or a broker that runs already. The
//! kernel says what a process of this program used.

use std::fs::DirEntry;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use celeriac_proto::wire;
use celeriac_tests::authority::{Authority, Wish, write};
use celeriac_tests::raw::{Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection, Setup};
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

/// The data folder of a broker, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskUse {
    pub folder: u64,
    pub journal: u64,
    /// The records that matter, as the broker counts them.
    pub live: u64,
}

impl DiskUse {
    /// The log may be this much larger than a multiple of what matters.
    const SLACK: u64 = 64 << 20;

    /// Asks the broker, and looks at its folder.
    pub(crate) async fn of(broker: &BrokerProcess) -> Result<Self> {
        let mut connection = RawConnection::open(broker.address()).await;
        let answer = connection.request(Request::Info(wire::Info::default())).await;
        let Ok(Answer::BrokerInfo(info)) = answer else { bail!("no BrokerInfo but {answer:?}") };
        let data = info.data.context("the broker does not know its disk")?;
        let files = std::fs::read_dir(broker.data())?.flatten();
        let is_journal =
            |file: &DirEntry| file.file_name().to_string_lossy().starts_with("journal.");
        let bytes = |file: DirEntry| file.metadata().map_or(0, |found| found.blocks() * 512);
        let journal = files.filter(is_journal).map(bytes).sum();
        Ok(Self { folder: folder_bytes(broker.data()), journal, live: data.live_bytes })
    }

    /// The folder without the journal and [`SLACK`](Self::SLACK), to what matters.
    pub(crate) fn times(self) -> f64 {
        let rest = self.folder.saturating_sub(self.journal + Self::SLACK);
        rest as f64 / self.live.max(1) as f64
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
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes_of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(bytes_of).sum()
}
