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

use std::path::Path;

use anyhow::Result;
use tidegate_bus::Role;

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
    /// Processor time of client and server for a message, microseconds.
    cpu_us: f64,
}

pub(crate) async fn run(table: &mut Table, server: &Path, messages: u64, directory: &Path) -> Result<()> {
    for sync in [Sync::Default, Sync::Durable] {
        for (size, bytes, messages) in [("512B", 512, messages), ("4KiB", 4_096, messages * 2 / 5)] {
            let name = format!("{size} {}", sync.as_str());
            say(&format!("road {name}: {messages} messages"));
            let cell = Cell::start(server, directory, sync).await?;
            if sync == Sync::Default && bytes == 512 {
                table.note(format!("nats-server {}, encrypted at rest in every row", cell.version().await?));
            }
            cell.fill(bytes, messages).await?;
            let raw = drain_bus(table, &cell, &name, sync).await?;
            let quick = if bytes == 512 { Some(latency::raw(&cell, bytes).await?) } else { None };
            let parts = Parts::measure(bytes)?;
            road(table, &cell, &name, raw, &parts).await?;
            if let Some(raw) = quick {
                let ours = latency::road(&cell, bytes).await?;
                for (percentile, ours, raw) in
                    [("p50", ours.p50_ms, raw.p50_ms), ("p99", ours.p99_ms, raw.p99_ms)]
                {
                    let name = format!("latency {percentile} 1k/s {}", sync.as_str());
                    let row = Row::new(name, ours, "ms", raw, "raw shape");
                    let target = Target::Over(sync.added_ms_max());
                    table.add(if percentile == "p99" { row.target(target) } else { row })?;
                }
            }
            let recorded = route::drain(&cell, true).await?;
            table.add(Row::new(
                format!("road drain {name}, recorder on"),
                recorded.rate,
                "messages/s",
                parts.ceiling(raw.cpu_us),
                "cores / parts, no recorder",
            ))?;
            cell.stop().await;
        }
        across(table, server, messages, directory, sync).await?;
    }
    Ok(())
}

/// Raw shape and bus in turn; returns the raw shape's median.
async fn drain_bus(table: &mut Table, cell: &Cell, name: &str, sync: Sync) -> Result<Drain> {
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        cell.rewind().await?;
        let raw = raw::drain(cell, sync, &format!("raw-{round}")).await?;
        cell.rewind().await?;
        let bus = bus::drain(cell, &format!("bus-{round}")).await?;
        rates.push((bus.rate, raw.rate));
        costs.push((bus.cpu_us, raw.cpu_us));
    }
    let (value, ceiling) = median(rates.clone());
    let row = Row::new(format!("bus drain {name}"), value, "messages/s", ceiling, "raw shape");
    table.add(row.target(Target::Ratio(BUS_RATIO)))?;
    let (value, ceiling) = median(costs.clone());
    table.add(Row::new(format!("bus cpu {name}"), value, "us", ceiling, "raw shape, a message"))?;
    let middle = |mut of: Vec<f64>| {
        of.sort_by(f64::total_cmp);
        of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Ok(Drain {
        rate: middle(rates.iter().map(|pair| pair.1).collect()),
        cpu_us: middle(costs.iter().map(|pair| pair.1).collect()),
    })
}

async fn road(table: &mut Table, cell: &Cell, name: &str, raw: Drain, parts: &Parts) -> Result<()> {
    say(&format!(
        "  parts of a message, us: raw {:.1}, decide {:.1}, render {:.1}, sign {:.1}; and not in the ceiling: read {:.1}",
        raw.cpu_us, parts.decide_us, parts.render_us, parts.sign_us, parts.read_us
    ));
    let drained = route::drain(cell, false).await?;
    let ceiling = parts.ceiling(raw.cpu_us);
    let row = Row::new(format!("road drain {name}"), drained.rate, "messages/s", ceiling, "cores / parts");
    table.add(row.target(Target::Ratio(ROAD_RATIO)))?;
    let parts = raw.cpu_us + parts.sum_us();
    table.add(Row::new(format!("road cpu {name}"), drained.cpu_us, "us", parts, "parts, a message"))
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
    cell.stop().await;
    let (value, ceiling) = median(rounds);
    let name = format!("bus drain 512B across accounts {}", sync.as_str());
    table.add(Row::new(name, value, "messages/s", ceiling, "inside one account"))
}

/// Messages a second that the parts leave room for.
fn per_second(us: f64) -> f64 {
    machine::cores() as f64 * 1e6 / us
}
