//! `tidegate demo`: what Tidegate promises, shown on real parts: a cell of its own, started as anybody would start one, and
//! scenes that each say what happened and why. A scene that did not show what it promises has failed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

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

/// What became of all of them.
struct Show {
    scenes: Vec<Played>,
    /// From the start to the first result; none where the first scene failed.
    first_result: Option<Duration>,
}

pub(super) async fn run(global: &Global, args: &DemoArgs) -> Result<ExitCode> {
    let dir = match global.cell == Path::new(cell::DEFAULT_DIR) {
        true => PathBuf::from(DIR),
        false => global.cell.clone(),
    };
    let started = Instant::now();
    let mut stage = Stage::set(&dir, args.keep).await?;
    let played = play(&stage, started).await;
    let cell = stage.cell.clone();
    let addresses = stage.addresses()?;
    if !args.keep {
        output::note("stopping the cell: every role drains first");
        stage.strike().await?;
    }
    let show = played?;
    let failed = show.failed();
    if global.json {
        output::json(&show.json())?;
    } else {
        output::line(format!("\n{} scenes passed, {failed} failed\n", show.scenes.len() - failed));
        if args.keep {
            dev::lines(&cell, &addresses, false);
        } else {
            output::line("the cell is stopped; to go on with it:");
            output::line(format!("start:    {} --cell {} dev", dev::program(), dir.display()));
            dev::commands(&cell, true);
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Show {
    fn failed(&self) -> usize {
        self.scenes.iter().filter(|scene| scene.failed.is_some()).count()
    }

    fn json(&self) -> Value {
        let scene = |scene: &Played| json!({ "scene": scene.title, "passed": scene.failed.is_none(), "why": scene.failed });
        json!({
            "passed": self.scenes.len() - self.failed(),
            "failed": self.failed(),
            "first_result_ms": self.first_result.map(|first| u64::try_from(first.as_millis()).unwrap_or(u64::MAX)),
            "scenes": self.scenes.iter().map(scene).collect::<Vec<_>>(),
        })
    }
}

/// Plays every scene, whatever became of the one before.
async fn play(stage: &Stage, started: Instant) -> Result<Show> {
    let cast = Cast::call(stage).await.context("calling the demo's agent, reviewer and operator")?;
    let mut played: Vec<Played> = Vec::new();
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
    let answered = played.iter().all(|scene| scene.failed.is_none());
    let first_result = answered.then(|| started.elapsed());
    if let Some(first) = first_result {
        output::note(format!("   (first result {:.1} s after the start)", first.as_secs_f64()));
    }
    scene!("The same with a card number stays local", scenes::card(&cast));
    scene!("A residency that no destination satisfies is rejected", scenes::residency(&cast));
    scene!("High stakes wait for a person", scenes::review(&cast));
    scene!("The router is killed mid-way and nothing is lost", scenes::killed(&cast, stage));
    scene!("The record verifies, and one flipped byte is found", tamper::scene(&cast, stage));
    Ok(Show { scenes: played, first_result })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_for_programs_tells_each_scene_and_the_first_result() {
        let passed = Played { title: "one", failed: None };
        let failed = Played { title: "two", failed: Some("why".to_owned()) };
        let first_result = Some(Duration::from_millis(1_234));
        let told = Show { scenes: vec![passed, failed], first_result }.json();
        let scenes = json!([{ "scene": "one", "passed": true, "why": null },
                            { "scene": "two", "passed": false, "why": "why" }]);
        assert_eq!(told, json!({ "passed": 1, "failed": 1, "first_result_ms": 1_234, "scenes": scenes }));
        let nothing = Show { scenes: Vec::new(), first_result: None }.json();
        assert_eq!(nothing["first_result_ms"], Value::Null, "negative control");
    }
}
