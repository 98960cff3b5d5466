//! `tidegate demo`: what Tidegate promises, shown on real parts: a cell of its own, started as anybody would start one, and
//! scenes that each say what happened and why. A scene that did not show what it promises has failed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::dev;
use crate::cell;
use crate::cli::{DemoArgs, Global};
use crate::output;
use cast::Cast;
use stage::Stage;

mod cast;
mod scenes;
mod stage;
mod tamper;

/// Directory of the demo's cell, where no other is named.
const DIR: &str = ".cell-demo";

/// What became of a scene.
struct Played {
    title: &'static str,
    failed: Option<String>,
}

pub(super) async fn run(global: &Global, args: &DemoArgs) -> Result<ExitCode> {
    let dir = match global.cell == Path::new(cell::DEFAULT_DIR) {
        true => PathBuf::from(DIR),
        false => global.cell.clone(),
    };
    let started = Instant::now();
    let mut stage = Stage::set(&dir, args.keep).await?;
    let played = play(&stage, started).await;
    let failed =
        played.as_ref().map_or(1, |played| played.iter().filter(|scene| scene.failed.is_some()).count());
    let cell = stage.cell.clone();
    let addresses = stage.addresses()?;
    if !args.keep {
        output::note("stopping the cell: every role drains first");
        stage.strike().await?;
    }
    let played = played?;
    if global.json {
        let scenes: Vec<_> =
            played.iter().map(|scene| json!({ "scene": scene.title, "passed": scene.failed.is_none(), "why": scene.failed })).collect();
        output::json(&json!({ "passed": played.len() - failed, "failed": failed, "scenes": scenes }))?;
    } else {
        output::line(format!("\n{} scenes passed, {failed} failed\n", played.len() - failed));
        if args.keep {
            dev::lines(&cell, &addresses);
        } else {
            output::line("the cell is stopped; to go on with it:");
            output::line(format!("start:    {} --cell {} dev", dev::program(), dir.display()));
            dev::commands(&cell);
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays every scene, whatever became of the one before.
async fn play(stage: &Stage, started: Instant) -> Result<Vec<Played>> {
    let cast = Cast::call(stage).await.context("calling the demo's agent, reviewer and operator")?;
    let mut played = Vec::new();
    macro_rules! scene {
        ($title:literal, $scene:expr) => {{
            output::note(format!("\n{}. {}", played.len() + 1, $title));
            let failed = $scene.await.err().map(|error| output::sentence(&error));
            match &failed {
                None => output::note("   passed"),
                Some(why) => output::note(format!("   FAILED: {why}")),
            }
            played.push(Played { title: $title, failed });
        }};
    }
    scene!("A public question goes to the cloud lane", scenes::public(&cast));
    output::note(format!("   (first result {:.1} s after the start)", started.elapsed().as_secs_f64()));
    scene!("The same with a card number stays local", scenes::card(&cast));
    scene!("A residency that no destination satisfies is rejected", scenes::residency(&cast));
    scene!("High stakes wait for a person", scenes::review(&cast));
    scene!("The router is killed mid-way and nothing is lost", scenes::killed(&cast, stage));
    scene!("The record verifies, and one flipped byte is found", tamper::scene(&cast, stage));
    Ok(played)
}
