//! The scene about the record: it is whole, and a copy of it in which one byte is another is not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use tidegate_audit::verify::{Level, Report};
use tidegate_audit::{Options, Reader, Record, Store};
use tidegate_bus::Role;

use super::cast::{Cast, LOOK_EVERY, RESULT, say};
use super::stage::Stage;
use crate::cell::Cell;

/// Where the copy is, beside the record.
const COPY: &str = "record-copy";

pub(super) async fn scene(cast: &Cast, stage: &Stage) -> Result<()> {
    settled(cast, &stage.cell).await?;
    let (cell, copy) = (stage.cell.clone(), stage.cell.dir.join(COPY));
    let checked = tokio::task::spawn_blocking(move || {
        let outcome = check(&cell, &copy);
        // What was copied is as secret as the record.
        let _ = fs::remove_dir_all(&copy);
        outcome
    });
    checked.await.context("reading the record")?
}

/// Waits until everything is recorded, so that a copy is of one moment.
async fn settled(cast: &Cast, cell: &Cell) -> Result<()> {
    let bus = cell.connect(Role::Provisioner).await?;
    let deadline = Instant::now() + RESULT;
    let mut before = None;
    loop {
        let status = cast.record.status().await?;
        let mut behind = 0;
        for (stream, at) in &status.streams {
            behind += bus.stream_info(stream).await?.last.saturating_sub(*at);
        }
        if behind == 0 && before == Some(status.records) {
            return Ok(());
        }
        before = Some(status.records);
        if Instant::now() > deadline {
            bail!("the record is {behind} messages behind after {} s", RESULT.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY * 4).await;
    }
}

fn check(cell: &Cell, copy: &Path) -> Result<()> {
    let report = verified(&Reader::open(&cell.record(), None)?)?;
    ensure!(report.is_ok(), "the record does not verify: {} problems", report.problems.len());
    say(
        "whole",
        &format!("{} records and {} bodies have the bytes that were recorded", report.records, report.bodies),
    );
    duplicate(&cell.record(), copy)?;
    // The copy is of an open file; its writer closes it in order once.
    drop(Store::open(copy, cell.record_keys()?, &Options::default())?);
    let report = verified(&Reader::open(copy, None)?)?;
    ensure!(report.is_ok(), "the copy does not verify: {} problems", report.problems.len());
    let index = report.records / 2;
    let (file, offset) = flip(copy, index)?;
    say("flipped", &format!("one bit of byte {offset} of {file}, in record {index} of a copy"));
    let report = verified(&Reader::open(copy, None)?)?;
    let problem = report.problems.first().context("the flipped byte was not found")?;
    ensure!(problem.index == Some(index), "another record was found bad than the one that was changed");
    say("found", &format!("record {index}: {}", problem.fault));
    Ok(())
}

fn verified(reader: &Reader) -> Result<Report> {
    Ok(reader.verify(Level::Full, &mut |_, _| {})?)
}

fn duplicate(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    for path in files(from).context("reading the record's directory")? {
        let copy = to.join(path.strip_prefix(from).context("a file of the record")?);
        let parent = copy.parent().context("a file in a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("creating `{}`", parent.display()))?;
        fs::copy(&path, &copy).context("copying the record")?;
    }
    Ok(())
}

/// The files of a record: those in its directory, and its segments.
fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Changes one bit of a record where the file holds it. Pages that are no longer used may hold an older copy of the same
/// bytes, so it looks for the place at which the record itself reads otherwise.
fn flip(dir: &Path, index: u64) -> Result<(String, usize)> {
    let record = Reader::open(dir, None)?.get(index)?.context("the record to change is not there")?;
    let needle = format!("\"id\":\"{}\"", record.leaf.id);
    for path in files(dir).context("reading the copy")? {
        let bytes = fs::read(&path).context("reading the copy")?;
        let file = OpenOptions::new().write(true).open(&path).context("changing the copy")?;
        for start in places(&bytes, needle.as_bytes()) {
            let at = start + needle.len() - 2;
            let byte = bytes.get(at).copied().unwrap_or_default();
            file.write_all_at(&[byte ^ 1], at as u64).context("changing the copy")?;
            if !reads_as(dir, index, &record) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok((name, at));
            }
            file.write_all_at(&[byte], at as u64).context("changing the copy")?;
        }
    }
    bail!("the record's bytes were not found in its file")
}

fn reads_as(dir: &Path, index: u64, record: &Record) -> bool {
    let read = Reader::open(dir, None).ok().and_then(|reader| reader.get(index).ok().flatten());
    read.as_ref() == Some(record)
}

fn places(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| *window == needle)
        .map(|(at, _)| at)
        .collect()
}
