//! `tidegate-prove`: what `tidegate policy prove` runs. Thin: arguments in, a report and an exit status out.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use tidegate_policies::Bundle;
use tidegate_prove::{Finding, Report, Solver, Verdict};

/// Largest archive of a bundle, bytes.
const ARCHIVE_BYTES_MAX: u64 = tidegate_policies::bundle::ARCHIVE_BYTES_MAX as u64;
/// Something could not be asked.
const COULD_NOT: u8 = 3;

/// Prove a bundle's properties for every possible request.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate-prove",
    version,
    about,
    after_help = "Examples:
  tidegate-prove policies/bundles/default                       every property of the bundle
  tidegate-prove my-bundle --against policies/bundles/default   and whether cloud access got wider

Exit status: 0 all proven and nothing wider; 1 refuted; 2 wrong usage, or cloud access got wider; 3 not proven, or unreadable."
)]
struct Arguments {
    /// The bundle's directory, or a file with its archive.
    dir: PathBuf,
    /// A second bundle's directory, or - for a bundle's archive on standard input: has access to the cloud become wider than there?
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Seconds that the solver may take for one answer.
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
    /// Only this property, or `never-fails:<policy>` or `applies:<policy>`; may be given again.
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Only whether access to the cloud got wider; the bundle's own properties are not asked about.
    #[arg(long, requires = "against", conflicts_with = "only")]
    access: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Where standard error is gone there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "tidegate-prove: {error:#}");
            ExitCode::from(COULD_NOT)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let started = Instant::now();
    let read = |dir: &PathBuf| {
        let bundle = if dir.is_file() { filed(dir) } else { Ok(tidegate_prove::bundle(dir)?) };
        bundle.with_context(|| format!("loading the bundle in `{}`", dir.display()))
    };
    let bundle = read(&arguments.dir)?;
    let against = match &arguments.against {
        Some(dash) if dash.as_os_str() == "-" => Some(piped()?),
        other => other.as_ref().map(read).transpose()?,
    };
    let solver = Solver::find(Duration::from_secs(arguments.limit));
    let findings = if arguments.access {
        Vec::new()
    } else {
        tidegate_prove::prove(&bundle, &solver, &arguments.only, &tell)?
    };
    let comparison = against.map(|old| tidegate_prove::compare(&bundle, &old, &solver)).transpose()?;
    let report = Report { bundle, findings, comparison, took: started.elapsed() };
    let text = if arguments.json { format!("{}\n", report.json()) } else { report.text() };
    std::io::stdout().write_all(text.as_bytes()).context("writing the report")?;
    Ok(report.exit_code())
}

/// A bundle's archive from standard input.
fn piped() -> anyhow::Result<Arc<Bundle>> {
    archived(std::io::stdin()).context("loading the other bundle's archive")
}

/// A bundle's archive from a file.
fn filed(path: &Path) -> anyhow::Result<Arc<Bundle>> {
    archived(std::fs::File::open(path)?)
}

fn archived(from: impl Read) -> anyhow::Result<Arc<Bundle>> {
    let mut archive = String::new();
    // What is longer was cut, and is no bundle.
    from.take(ARCHIVE_BYTES_MAX + 1).read_to_string(&mut archive).context("reading the archive")?;
    Ok(tidegate_prove::archived(&archive)?)
}

/// Tells of progress on standard error.
fn tell(finding: &Finding, done: usize, all: usize) {
    let word = match finding.verdict {
        Verdict::Proven => "proven",
        Verdict::Refuted { .. } => "REFUTED",
        Verdict::NotProven(_) => "NOT PROVEN",
    };
    let _ = writeln!(
        std::io::stderr(),
        "{done:>4}/{all} {word} {} ({} ms)",
        finding.id,
        finding.took.as_millis()
    );
}
