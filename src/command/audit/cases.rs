//! `tidegate audit export --form cedar-tests`: recorded decisions as test cases for Cedar's own command line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidegate_policies::{CedarTest, Judge};
use tidegate_recorder::rejudge as recorded;
use tidegate_schemas::digest::Digest;

use super::{filter, judged, prove, rejudge};
use crate::cli::{AuditArgs, ExportArgs, Global};
use crate::output;

/// Test cases of one bundle.
const TESTS: &str = "tests.json";
/// Its policies, templates and links.
const POLICIES: &str = "policies.json";
/// Its schema.
const SCHEMA: &str = "schema.json";

/// A directory with one directory a bundle.
struct Out {
    dir: PathBuf,
    tests: BTreeMap<Digest, BufWriter<File>>,
}

pub(super) async fn run(global: &Global, args: &AuditArgs, asked: &ExportArgs) -> Result<ExitCode> {
    let (record, bus) = rejudge::opened(global, args).await?;
    let filter = filter::of(judged::whole(&record, asked.filter.clone()).await?)?;
    let (reader, limit) = (Arc::clone(record.file()?), asked.limit);
    let dir = asked.dir.clone();
    fs::create_dir(&dir)
        .with_context(|| format!("making `{}`; name a directory that is not there yet", dir.display()))?;
    let mut out = Out { dir, tests: BTreeMap::new() };
    let bar = prove::bar(global, "judging")?;
    let fetch = rejudge::fetching(bus);
    let making = move || -> Result<_, recorded::CasesError> {
        let mut fetch = fetch;
        let mut take = |judge: &Judge, tests: &[CedarTest]| out.take(judge, tests);
        let written = recorded::cases(&reader, &filter, limit, &mut fetch, &mut take, &mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        Ok((written, out.finish()?))
    };
    let (written, bundles) = tokio::task::spawn_blocking(making).await.context("making test cases")??;
    if written.decisions == 0 && written.unjudged > 0 {
        bail!("none of {} decisions can be judged: their messages are sealed or erased", written.unjudged);
    }
    show(global, &asked.dir, &written, &bundles)?;
    Ok(ExitCode::SUCCESS)
}

fn show(global: &Global, dir: &Path, written: &recorded::Written, bundles: &[Digest]) -> Result<()> {
    if global.json {
        return output::json(&json!({ "directory": dir, "bundles": bundles, "written": written }));
    }
    output::line(format!(
        "exported: {} test cases of {} decisions in `{}`; {} asked nothing, {} cannot be judged",
        written.cases,
        written.decisions,
        dir.display(),
        written.unasked,
        written.unjudged
    ));
    if written.cut {
        output::note("there are more decisions: narrow the question, or raise --limit");
    }
    for bundle in bundles {
        let at = dir.join(bundle.to_string());
        output::note(format!(
            "cd '{}' && cedar run-tests --policy-format json --policies {POLICIES} --schema-format json --schema {SCHEMA} --tests {TESTS}",
            at.display()
        ));
    }
    Ok(())
}

// === impl Out ===

impl Out {
    fn take(&mut self, judge: &Judge, tests: &[CedarTest]) -> io::Result<()> {
        let hash = judge.bundle().hash();
        let begun = self.tests.contains_key(&hash);
        if !begun {
            let dir = self.dir.join(hash.to_string());
            fs::create_dir(&dir)?;
            let asked = judge.bundle().for_cedar().map_err(io::Error::other)?;
            fs::write(dir.join(POLICIES), asked.policies.to_string())?;
            fs::write(dir.join(SCHEMA), asked.schema.to_string())?;
            self.tests.insert(hash, BufWriter::new(File::create(dir.join(TESTS))?));
        }
        let Some(file) = self.tests.get_mut(&hash) else { return Ok(()) };
        for (at, test) in tests.iter().enumerate() {
            file.write_all(if begun || at > 0 { b",\n" } else { b"[\n" })?;
            serde_json::to_writer(&mut *file, test)?;
        }
        Ok(())
    }

    /// Ends every list. Gives the bundles.
    fn finish(self) -> io::Result<Vec<Digest>> {
        let mut bundles = Vec::new();
        for (bundle, mut file) in self.tests {
            file.write_all(b"\n]\n")?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            bundles.push(bundle);
        }
        Ok(bundles)
    }
}
