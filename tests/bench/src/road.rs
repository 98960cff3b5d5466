//! The road: drains and latencies on a real nats-server of its own, with the default sync interval and with `always`.
//!
//! Ceilings, as they are defined for this project: of the bus alone the **raw shape** (pull, a trivial decision, publish
//! acknowledged, ack) with the bare client on the same messages; of the full road what its parts must cost, cores ÷ (raw
//! processor time a message + decide + render + sign).

mod bus;
mod cell;
mod latency;
mod parts;
mod raw;
mod route;

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use tidegate_bus::Role;
use tidegate_schemas::subject::WORK_CLOUD;

use self::cell::Cell;
use self::parts::Parts;
use crate::row::{Row, Table, Target, median};
use crate::{machine, say};

/// Rounds of raw shape and bus in turn; an odd number has a median.
const ROUNDS: usize = 3;
/// What the bus must reach of the raw shape now.
const BUS_RATIO: f64 = 0.5;
/// What the full road must reach of what its parts cost now.
const ROAD_RATIO: f64 = 0.6;

/// The row of a recorder that is behind.
const CATCH_UP: &str = "record catching up 512B durable";
/// Messages that it is behind.
const BEHIND: u64 = 1_000_000;

/// When an acknowledged message is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// Within the server's default of two minutes.
    Default,
    /// Before it is acknowledged, as deployed.
    Durable,
}

impl Sync {
    fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Durable => "durable",
        }
    }

    fn interval(self) -> &'static str {
        match self {
            Self::Default => "2m",
            Self::Durable => "always",
        }
    }

    /// Milliseconds that the road may add to the raw shape's p99 at 1,000 a second.
    fn added_ms_max(self) -> f64 {
        match self {
            Self::Default => 2.0,
            Self::Durable => 5.0,
        }
    }
}

/// One drain.
#[derive(Debug, Clone, Copy)]
struct Drain {
    /// Messages a second.
    rate: f64,
    /// Processor time of clients for a message, microseconds.
    client_us: f64,
    /// The same of the server.
    server_us: f64,
}

impl Drain {
    /// So many messages in so many seconds, with this processor time of clients and server.
    fn of(messages: u64, seconds: f64, us: [f64; 2]) -> Self {
        let count = messages as f64;
        Self { rate: count / seconds, client_us: us[0] / count, server_us: us[1] / count }
    }

    /// Processor time of all together.
    fn us(&self) -> f64 {
        self.client_us + self.server_us
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, client_us, server_us } = self;
        write!(f, "{rate:.0}/s, {client_us:.1} + {server_us:.1} us")
    }
}

/// One setting of the server, and one size of tasks.
struct Setting {
    sync: Sync,
    bytes: usize,
    messages: u64,
    /// Both, in the names of rows.
    name: String,
}

/// Measures each setting whose name `only` is part of.
pub(crate) async fn run(
    table: &mut Table,
    server: &Path,
    messages: u64,
    directory: &Path,
    only: &str,
) -> Result<()> {
    for sync in [Sync::Default, Sync::Durable] {
        for (size, bytes, messages) in [("512B", 512, messages), ("4KiB", 4_096, messages * 2 / 5)] {
            let setting = Setting { sync, bytes, messages, name: format!("{size} {}", sync.as_str()) };
            if !setting.name.contains(only) {
                continue;
            }
            setting.run(table, &Cell::start(server, directory, sync).await?).await?;
        }
        if format!("across accounts {}", sync.as_str()).contains(only) {
            across(table, server, messages, directory, sync).await?;
        }
    }
    if CATCH_UP.contains(only) { catch_up(table, server, directory).await } else { Ok(()) }
}

impl Setting {
    async fn run(&self, table: &mut Table, cell: &Cell) -> Result<()> {
        let Self { sync, bytes, messages, name } = self;
        say(&format!("road {name}: {messages} messages, nats-server {}", cell.version()));
        cell.fill(*bytes, *messages).await?;
        let raw = self.bus(table, cell).await?;
        let bare = cell.bytes_each(WORK_CLOUD).await?;
        let quick = latency::raw(cell, *bytes, *sync).await?;
        let parts = Parts::measure(*bytes)?;
        let road = self.road(table, cell, raw, &parts).await?;
        let more = cell.bytes_each(WORK_CLOUD).await?.saturating_sub(bare);
        let ours = latency::road(cell, *bytes).await?;
        // The usual size has the usual name.
        let size = if *bytes == 512 { "" } else { "4KiB " };
        let latency = |percentile| format!("latency {percentile} 1k/s {size}{}", sync.as_str());
        table.add(Row::new(latency("p50"), ours.p50_ms, "ms", quick.p50_ms, "raw shape"))?;
        let p99 = Row::new(latency("p99"), ours.p99_ms, "ms", quick.p99_ms, "raw shape");
        table.add(p99.target(Target::Over(sync.added_ms_max())))?;
        self.as_heavy(table, cell, &road, usize::try_from(more)?, &parts).await?;
        let recorded = route::drain(cell, true).await?;
        let (name, ceiling) = (format!("road drain {name}, recorder on"), parts.ceiling(raw.us()));
        table.add(Row::new(name, recorded.rate, "messages/s", ceiling, "cores / parts, no recorder"))
    }

    /// Raw shape and bus in turn; returns the raw shape's median.
    async fn bus(&self, table: &mut Table, cell: &Cell) -> Result<Drain> {
        let (mut raws, mut rates, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            cell.rewind().await?;
            let raw = raw::drain(cell, self.sync, &format!("raw-{round}"), 0).await?;
            cell.rewind().await?;
            let bus = bus::drain(cell, &format!("bus-{round}")).await?;
            say(&format!("  raw {raw}; bus {bus}"));
            raws.push(raw);
            rates.push((bus.rate, raw.rate));
            costs.push((bus.us(), raw.us()));
        }
        let (value, ceiling) = median(rates);
        let row = Row::new(format!("bus drain {}", self.name), value, "messages/s", ceiling, "raw shape");
        table.add(row.target(Target::Ratio(BUS_RATIO)))?;
        let (value, ceiling) = median(costs);
        table.add(Row::new(
            format!("bus cpu {}", self.name),
            value,
            "us",
            ceiling,
            "raw shape, a message",
        ))?;
        raws.sort_by(|a, b| a.us().total_cmp(&b.us()));
        let raw = raws.get(ROUNDS / 2).copied().context("no rounds")?;
        // A ceiling of processor time alone knows no disk: this is how much of one a shape reaches that does nothing but wait for it.
        let (name, ceiling) = (format!("raw drain {}", self.name), per_second(raw.us()));
        table.add(Row::new(name, raw.rate, "messages/s", ceiling, "cores / raw cpu"))?;
        Ok(raw)
    }

    /// The road beside a raw shape whose messages weigh what the road's work does: `more` than what came, for decision and ticket.
    async fn as_heavy(
        &self,
        table: &mut Table,
        cell: &Cell,
        road: &Drain,
        more: usize,
        parts: &Parts,
    ) -> Result<()> {
        cell.rewind().await?;
        let heavy = raw::drain(cell, self.sync, "raw-heavy", more).await?;
        say(&format!("  raw with {more} bytes more {heavy}"));
        let (name, ceiling) =
            (format!("road drain {}, of as many bytes", self.name), parts.ceiling(heavy.us()));
        table.add(Row::new(name, road.rate, "messages/s", ceiling, "cores / parts, as heavy"))
    }

    /// The full road; returns what it did.
    async fn road(&self, table: &mut Table, cell: &Cell, raw: Drain, parts: &Parts) -> Result<Drain> {
        say(&format!(
            "  parts of a message, us: raw {:.1}, decide {:.1}, render {:.1}, sign {:.1}; not in the ceiling: read {:.1}",
            raw.us(),
            parts.decide_us,
            parts.render_us,
            parts.sign_us,
            parts.read_us
        ));
        let road = route::drain(cell, false).await?;
        say(&format!("  road {road}"));
        let (name, ceiling) = (format!("road drain {}", self.name), parts.ceiling(raw.us()));
        let row = Row::new(name, road.rate, "messages/s", ceiling, "cores / parts");
        table.add(row.target(Target::Ratio(ROAD_RATIO)))?;
        let (name, parts) = (format!("road cpu {}", self.name), raw.us() + parts.sum_us());
        table.add(Row::new(name, road.us(), "us", parts, "parts, a message"))?;
        Ok(road)
    }
}

/// What crossing an account costs: the same pulls, publishes and acks from a zone and from the inside.
async fn across(table: &mut Table, server: &Path, messages: u64, directory: &Path, sync: Sync) -> Result<()> {
    say(&format!("road across accounts {}", sync.as_str()));
    let cell = Cell::start(server, directory, sync).await?;
    cell.fill_work(512, messages).await?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        cell.rewind_work().await?;
        let inside = bus::across(&cell, Role::Router, messages, round).await?;
        let across = bus::across(&cell, Role::Local, messages, round).await?;
        rounds.push((across, inside));
    }

    let (value, ceiling) = median(rounds);
    let name = format!("bus drain 512B across accounts {}", sync.as_str());
    table.add(Row::new(name, value, "messages/s", ceiling, "inside one account"))
}

/// A recorder that comes to a million tasks, which wait on a server as deployed.
async fn catch_up(table: &mut Table, server: &Path, directory: &Path) -> Result<()> {
    say(&format!("{CATCH_UP}: {BEHIND} messages"));
    let cell = Cell::start(server, directory, Sync::Durable).await?;
    cell.fill(512, BEHIND).await?;
    let pull = raw::pull(&cell, "behind").await?;
    say(&format!("  pull and ack {pull}"));
    let recorded = route::catch_up(&cell).await?;
    say(&format!("  recorder {recorded}"));
    table.add(Row::new(CATCH_UP, recorded.rate, "messages/s", pull.rate, "pull + ack"))
}

/// Messages a second that the parts leave room for.
fn per_second(us: f64) -> f64 {
    machine::cores() as f64 * 1e6 / us
}
