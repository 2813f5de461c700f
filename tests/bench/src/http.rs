//! The HTTP side: what open pages of the dashboard cost the broker beside none, and how long a
//! scrape of very many queues takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use celeriac_proto::wire;
use celeriac_tests::raw;
use celeriac_tests::{BrokerProcess, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::broker::processor_ticks;
use crate::latency::percentiles;
use crate::load::{self, NAME};
use crate::table::Table;

/// The pages that are open, in turn.
const PAGES: [&str; 4] = ["/", "/queues", "/queue?name=queue-0", "/workers"];
/// A page is open for this long before its cost is measured.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Pages of the dashboard that are open at once, 100 at most: they are of one caller.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100))]
    pages: u64,
    /// How long the pages are open, and how long none is before that, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Queues of the scrape, with a task in each of them.
    #[arg(long, default_value_t = 10_000)]
    queues: u64,
    /// Scrapes of all queues, and of the busiest ones.
    #[arg(long, default_value_t = 50)]
    scrapes: usize,
}

pub(crate) async fn run(options: Options) -> Result<Table> {
    let http = free_address()?;
    let broker = Setup::new().set(format!("http_listen = \"{http}\"")).start().await;
    let mut table = Table::default();
    load::submit(&broker, options.queues, |number| wire::Task {
        queue: format!("queue-{number}"),
        ..raw::task(&format!("task-{number:08}"), NAME)
    })
    .await?;
    table.row("queues", options.queues, "");
    pages(&broker, http, &options, &mut table).await?;
    for (what, path) in [("all queues", "/metrics?queue=*"), ("the busiest queues", "/metrics")] {
        scrape(what, http, path, options.scrapes, &mut table).await?;
    }
    Ok(table)
}

/// An address of this machine that is free at the moment.
fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The processor time of the broker for each second, without and with open pages.
async fn pages(
    broker: &BrokerProcess,
    http: SocketAddr,
    options: &Options,
    table: &mut Table,
) -> Result<()> {
    let span = Duration::from_secs(options.seconds);
    table.row("broker processor time, no page open", used(broker, span).await?, "ms/s");
    let mut open = JoinSet::new();
    for number in 0..options.pages {
        let page = PAGES[number as usize % PAGES.len()];
        open.spawn(follow(http, page.replace('?', "%3F").replace('=', "%3D")));
    }
    tokio::time::sleep(SETTLE).await;
    table.row("open pages", options.pages, "");
    table.row("broker processor time, these open", used(broker, span).await?, "ms/s");
    if let Some(ended) = open.try_join_next() {
        ended??;
    }
    Ok(())
}

/// Milliseconds of processor time that the broker uses in a second.
async fn used(broker: &BrokerProcess, span: Duration) -> Result<f64> {
    let ticks = || processor_ticks(broker.pid()).context("the system tells no processor time");
    let (before, begun) = (ticks()?, Instant::now());
    tokio::time::sleep(span).await;
    // The kernel counts in hundredths of a second.
    Ok((ticks()? - before) as f64 * 10.0 / begun.elapsed().as_secs_f64())
}

/// Reads the stream of an open page, which does not end by itself.
async fn follow(http: SocketAddr, page: String) -> Result<()> {
    let mut stream = ask(http, &format!("/events?of={page}"), "keep-alive").await?;
    let (mut buffer, mut first) = (vec![0; 64 * 1024], true);
    loop {
        let length = stream.read(&mut buffer).await?;
        ensure!(length > 0, "the stream of {page} has ended");
        if std::mem::take(&mut first) {
            ensure!(buffer.starts_with(b"HTTP/1.1 200 "), "the page {page} has no stream");
        }
    }
}

async fn scrape(
    what: &str,
    http: SocketAddr,
    path: &str,
    times: usize,
    table: &mut Table,
) -> Result<()> {
    let mut took = Vec::with_capacity(times);
    let mut bytes = 0;
    for _ in 0..times.max(1) {
        let begun = Instant::now();
        let mut answer = Vec::new();
        ask(http, path, "close").await?.read_to_end(&mut answer).await?;
        took.push(begun.elapsed());
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{path} is refused");
        ensure!(answer.ends_with(b"# EOF\n"), "{path} is not whole");
        bytes = answer.len();
    }
    table.row(format!("scrape of {what}"), bytes / 1024, "KiB");
    percentiles(&format!("scrape of {what}"), took, table);
    Ok(())
}

async fn ask(http: SocketAddr, path: &str, connection: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(http).await?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}
