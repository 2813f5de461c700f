//! The machine of all figures, and the time. Its disk is measured together with the servers.

use std::fs::read_to_string;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::figures::median;

/// What a reader must know of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    /// The median time that the disk of the servers needs for an fdatasync of 4 KiB, for each time
    /// that it was measured.
    pub fdatasync_ms: Vec<f64>,
    /// In UTC.
    pub date: String,
}

impl Machine {
    pub(crate) fn here() -> Result<Self> {
        let date = Command::new("date").args(["-u", "+%F %R"]).output()?.stdout;
        let memory_kib = field("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            kernel: read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            fdatasync_ms: Vec::new(),
            date: String::from_utf8_lossy(&date).trim().to_owned(),
        })
    }

    /// Over the whole run.
    pub(crate) fn fdatasync_p50_ms(&self) -> Option<f64> {
        median(self.fdatasync_ms.clone())
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_mib": self.memory_mib,
            "kernel": self.kernel,
            "fdatasync_p50_ms": self.fdatasync_p50_ms(),
            "date": self.date,
        })
    }

    /// In one sentence.
    pub(crate) fn sentence(&self) -> String {
        let Self { cpu, cores, memory_mib, kernel, date, .. } = self;
        let disk = self
            .fdatasync_p50_ms()
            .map_or_else(String::new, |ms| format!(", fdatasync of 4 KiB {ms:.2} ms"));
        format!(
            "{cpu}, {cores} cores, {} GiB, Linux {kernel}{disk}; {date} UTC",
            memory_mib.div_ceil(1024)
        )
    }
}

/// The text behind `name:` in such a file.
fn field(file: &str, name: &str) -> Option<String> {
    let text = read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
