//! `tidegate ticket`: the keys that tickets are signed with.
//!
//! A rotation is on record before it is done. First workers are told to trust the new key, then routers sign with it, then the
//! one before gets its end: when the last ticket that it may have signed has run out.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tidegate_schemas::control::Act;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::limits::{CLOCK_SKEW_MS_MAX, TICKET_LIFE_MS_MAX};
use tidegate_schemas::ticket::{KEY_FILE_BYTES_MAX, Signer, TrustedKey};

use crate::cell::{Cell, TICKET_KEY, TICKET_PUBLIC, replace};
use crate::cli::{Global, TicketCommand};
use crate::command::act;
use crate::output;

/// Longest time in which a role takes over what its key file says: it looks every second.
const TAKEN_OVER: Duration = Duration::from_secs(3);

pub(super) async fn run(global: &Global, command: TicketCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    match command {
        TicketCommand::Keys => keys(global, &cell),
        TicketCommand::Rotate { reason, at_once } => rotate(global, &cell, &reason, at_once).await,
    }
}

/// A new key under this id.
pub(super) fn new_signer(id: &str) -> Result<Signer> {
    let seed: [u8; 32] = rand::random();
    Signer::read(&format!("{id} {}", hex::encode(seed))).context("making a ticket key")
}

fn trusted(cell: &Cell) -> Result<Vec<TrustedKey>> {
    let file = cell.key(TICKET_PUBLIC);
    let reading = || format!("reading `{}`", file.display());
    let text = std::fs::read_to_string(&file).with_context(reading)?;
    TrustedKey::read_all(&text).with_context(reading)
}

/// Id of the key that signs now.
fn signs(cell: &Cell) -> Result<String> {
    let file = cell.ticket_key();
    let reading = || format!("reading `{}`", file.display());
    let text = std::fs::read_to_string(&file).with_context(reading)?;
    if text.len() > KEY_FILE_BYTES_MAX {
        bail!("`{}` is longer than a key", file.display());
    }
    Ok(Signer::read(&text).with_context(reading)?.key_id().to_owned())
}

fn keys(global: &Global, cell: &Cell) -> Result<ExitCode> {
    let (keys, signs, now) = (trusted(cell)?, signs(cell)?, Timestamp::now());
    if global.json {
        let row = |key: &TrustedKey| {
            let public = hex::encode(key.key.as_bytes());
            json!({ "key": key.id, "public": public, "until": key.until, "signs": key.id == signs, "counts": key.counts(now) })
        };
        output::json(&json!({ "keys": keys.iter().map(row).collect::<Vec<_>>() }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for key in &keys {
        let what = match key.until {
            None if key.id == signs => "signs".to_owned(),
            None => "counts".to_owned(),
            Some(until) if key.counts(now) => format!("counts until {until:.0}"),
            Some(until) => format!("retired since {until:.0}"),
        };
        output::line(format!("{:<12}  {}  {what}", key.id, hex::encode(key.key.as_bytes())));
    }
    Ok(ExitCode::SUCCESS)
}

async fn rotate(global: &Global, cell: &Cell, reason: &str, at_once: bool) -> Result<ExitCode> {
    if cell.ticket_key() != cell.key(TICKET_KEY) {
        bail!(
            "the ticket key is a credential of systemd: add the new key's public half to `{TICKET_PUBLIC}`, then give the new \
             `{TICKET_KEY}` and start the routers again"
        );
    }
    let known = trusted(cell)?;
    let before = signs(cell)?;
    let id = TrustedKey::next_id(&known);
    let signer = new_signer(&id)?;
    let new = signer.trusted();
    let act = Act::TicketKeyRotate {
        key: Name::new(id.clone()).context("the key's id")?,
        public: hex::encode(new.key.as_bytes()),
        hash: Digest::plain(new.key.as_bytes()),
        at_once,
    };
    let published = act::publish(cell, act, reason).await?;
    let all = TrustedKey::with_new(&known, new).context(
        "no key of the file has an end: give those that are no longer needed one with `until <time>`",
    )?;
    let write = |keys: &[TrustedKey]| {
        replace(&cell.key(TICKET_PUBLIC), TrustedKey::write_all(keys).as_bytes(), 0o644)
    };
    if at_once {
        // What a lost key signs must not leave while anybody waits.
        write(&TrustedKey::retired(&all, &id, Timestamp::now()))?;
    } else {
        write(&all)?;
    }
    // A ticket that comes before its key is known would be refused for good.
    tokio::time::sleep(TAKEN_OVER).await;
    replace(&cell.key(TICKET_KEY), signer.secret().as_bytes(), 0o600)?;
    let life = SignedDuration::from_millis(TICKET_LIFE_MS_MAX + CLOCK_SKEW_MS_MAX);
    let until = Timestamp::now() + life + SignedDuration::try_from(TAKEN_OVER)?;
    let left = TrustedKey::retired(&trusted(cell)?, &id, until);
    write(&left)?;
    let ends = left.iter().find(|key| key.id == before).and_then(|key| key.until);
    if global.json {
        output::json(
            &json!({ "key": id, "before": before, "before_until": ends, "event": published.sequence }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format!("tickets are signed with `{id}` (on record as EVENTS:{})", published.sequence));
    let ends = ends.map(|until| format!(" until {until:.0}")).unwrap_or_default();
    match at_once {
        true => output::line(format!(
            "`{before}` counts no longer; what it signed and did not leave goes back and is decided anew"
        )),
        false => output::line(format!(
            "`{before}` counts{ends}; workers on other hosts need the new `{TICKET_PUBLIC}` now"
        )),
    }
    Ok(ExitCode::SUCCESS)
}
