//! `tidegate audit rotate-key`: an operator's act, on record before it is done. The new key is laid beside the old one; the
//! recorder goes over to it and puts it in place.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidegate_audit::MasterKey;
use tidegate_recorder::rotate::next_key_file;
use tidegate_schemas::control::Act;

use crate::cell::{Cell, MASTER_KEY, replace};
use crate::cli::{Global, RotateArgs};
use crate::command::act;
use crate::output;

/// Between two looks at the key.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the recorder is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(global: &Global, args: RotateArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let path = cell.master_key();
    if path != cell.key(MASTER_KEY) {
        bail!(
            "the master key is a credential of systemd: give the new one as `{MASTER_KEY}.next`, start the recorder again, then \
             give it as `{MASTER_KEY}`"
        );
    }
    let old = MasterKey::load(&path)?;
    let next = next_key_file(&path);
    if next.exists() {
        bail!("`{}` waits for the recorder already; start the recorder, or remove it", next.display());
    }
    let given = args.new_key.as_deref().map(MasterKey::load).transpose()?;
    if given.as_ref().is_some_and(|given| given.is_same(&old)) {
        bail!("that is the master key that the record has; make another one");
    }
    act::publish(&cell, Act::KeyRotate {}, &args.reason).await?;
    let new = match (&args.new_key, given) {
        (Some(from), Some(given)) => {
            let text = std::fs::read(from).with_context(|| format!("reading `{}`", from.display()))?;
            replace(&next, &text, 0o600)?;
            given
        }
        _ => MasterKey::create(&next)?,
    };
    let begun = Instant::now();
    let rotated = loop {
        if MasterKey::load(&path).is_ok_and(|key| key.is_same(&new)) {
            break true;
        }
        if begun.elapsed() > PATIENCE {
            break false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if global.json {
        output::json(&json!({ "rotated": rotated, "key_file": path }))?;
    } else if rotated {
        output::line(format!(
            "the record has the new master key, in `{}`; the old one opens nothing of it any more",
            path.display()
        ));
        output::line("copies made before still open with the old key: keep both safe, or destroy both");
    } else {
        output::line(format!(
            "the recorder did not answer; it goes over to the key in `{}` when it starts",
            next.display()
        ));
    }
    Ok(if rotated { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
