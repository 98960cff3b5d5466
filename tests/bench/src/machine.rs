//! The machine: cores, load, processor time, memory bandwidth, and the median time of a call.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Memory that is read to measure its bandwidth, words: 256 MiB, more than caches hold.
const WORDS: usize = 32 * 1024 * 1024;

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What a program says of its version, one line.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("running `{}`", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Load of the last minute, five and fifteen: what else ran.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Processor time of this process and of another over a span.
pub(crate) struct Meter {
    before: [(u32, f64); 2],
}

impl Meter {
    pub(crate) fn start(other: u32) -> Self {
        Self { before: [std::process::id(), other].map(|pid| (pid, cpu_us(pid))) }
    }

    /// Microseconds of each since then.
    pub(crate) fn us(&self) -> [f64; 2] {
        self.before.map(|(pid, before)| cpu_us(pid) - before)
    }
}

/// Processor time of a process so far, microseconds (`/proc/<pid>/stat`, hundredths of a second).
fn cpu_us(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program may hold blanks; it ends with the last bracket.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// Bytes a second that one thread reads from memory, the best of three.
pub(crate) fn memory_bandwidth() -> f64 {
    let words = vec![1_u64; WORDS];
    let seconds = (0..3)
        .map(|_| {
            let begun = Instant::now();
            black_box(black_box(&words).iter().copied().fold(0, u64::wrapping_add));
            begun.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    (WORDS * size_of::<u64>()) as f64 / seconds
}

/// Has the system forget how much memory this process had at most (proc(5), `clear_refs`).
pub(crate) fn forget_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("forgetting the peak of memory")
}

/// The most memory that this process had since then, megabytes.
pub(crate) fn peak_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading the peak of memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak of memory")?;
    let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok());
    Ok(kib.context("no peak of memory")? * 1_024.0 / 1e6)
}

/// Median time of a call, microseconds: of calls one by one, for as long as `span`.
pub(crate) fn median_us(span: Duration, mut call: impl FnMut()) -> f64 {
    let begun = Instant::now();
    // The first ones fill caches and choose paths.
    (0..20).for_each(|_| call());
    let mut times = Vec::new();
    while begun.elapsed() < span || times.len() < 50 {
        let begun = Instant::now();
        call();
        times.push(begun.elapsed().as_nanos() as f64 / 1e3);
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
