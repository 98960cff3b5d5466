//! Random SIGKILLs, and in the long run SIGSTOPs, while tasks flow: nothing is lost, nothing is doubled, the record is whole.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that tells its seed")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tidegate_bus::{Outbound, PublishError};
use tidegate_schemas::subject::RESULTS;
use tidegate_tests::conservation::Ledger;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, TestCell};
use uuid::Uuid;

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
struct Storm {
    tasks: usize,
    /// Signals, one a round, count.
    rounds: usize,
    /// Whether some processes are stopped for a while, and not killed.
    stops: bool,
}

/// Tasks that may be open when the next fault comes: faults fall among work that goes on, not all before it.
const OPEN_MAX: usize = 600;
/// Liveness: the backlog drains this soon after the last fault.
const DRAIN: Duration = Duration::from_secs(60);
/// How long a role that was killed may take to run again.
const AGAIN: Duration = Duration::from_secs(60);
const ROLES: [&str; 6] = ["router", "router-2", "local", "recorder", "nats", "cloud"];

/// A small generator with a printed seed, so that a failing run can be told from another (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

/// Publishes a task until the stream has it: the same id each time, so a repeat changes nothing.
async fn submit(agent: &Agent, number: usize) -> Result<()> {
    let id = Uuid::now_v7().to_string();
    let (kind, body) = match number % 100 {
        0 => (
            "chat",
            json!({ "messages": [{ "role": "user", "content": "hi" }], "sampling": { "max_tokens": 2 } }),
        ),
        _ => ("embed", json!({ "texts": [format!("text {number}")] })),
    };
    let sensitivity = if number.is_multiple_of(200) { "public" } else { "internal" };
    let labels = json!({ "sensitivity": sensitivity });
    let body = json!({ "id": id, "labels": labels, "input": body, "limits": { "deadline_ms": 600_000 } });
    let payload = serde_json::to_vec(&body)?;
    until("the stream to take a task", DRAIN, || async {
        let message = Outbound::new(format!("task.helpdesk.{kind}"), payload.clone()).with_id(id.clone());
        match agent.bus().publish(message).await {
            Ok(_) => Ok(Some(())),
            Err(PublishError::Denied { subject }) => anyhow::bail!("denied {subject}"),
            Err(_) => Ok(None),
        }
    })
    .await
}

/// The process of a role that runs, where it is another than the one that was killed before.
fn live(cell: &TestCell, role: &str, before: Option<Pid>) -> Option<Pid> {
    let pid = i32::try_from(cell.pid(role).ok()?).ok().map(Pid::from_raw)?;
    (Some(pid) != before && kill(pid, None).is_ok()).then_some(pid)
}

/// Longer than a delivery may take, now and then: what it had in hand is somebody else's when it comes to itself again.
const STOPPED: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(8), Duration::from_secs(35)];

#[tokio::test]
async fn crash_twenty_random_kills_lose_and_double_nothing() -> Result<()> {
    weather(Storm { tasks: 2_000, rounds: 20, stops: false }).await
}

#[tokio::test]
async fn long_crash_forty_random_kills_and_stops_lose_and_double_nothing_of_ten_thousand_tasks() -> Result<()>
{
    weather(Storm { tasks: 10_000, rounds: 40, stops: true }).await
}

/// Strikes a process after a pause: kills it, or stops it for a while. Whether it was there to be struck.
async fn strike(pid: Pid, stopped: Option<Duration>) -> bool {
    let Some(stopped) = stopped else { return kill(pid, Signal::SIGKILL).is_ok() };
    let struck = kill(pid, Signal::SIGSTOP).is_ok();
    tokio::time::timeout(stopped, std::future::pending::<()>()).await.unwrap_err();
    struck && kill(pid, Signal::SIGCONT).is_ok()
}

async fn weather(storm: Storm) -> Result<()> {
    let Storm { tasks, rounds, stops } = storm;
    let seed = std::env::var("TIDEGATE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) ^ 0x5eed);
    eprintln!("TIDEGATE_SEED={seed}");
    let mut dice = Dice(seed);
    let mut cell = TestCell::start(&["--routers", "2"]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let mut killed: BTreeMap<&str, Pid> = BTreeMap::new();
    let mut hit = 0;
    let operator = Operator::connect(&cell).await?;
    let ended = async |least: usize| {
        until("tasks to end", DRAIN, || async {
            let Ok(state) = operator.bus().stream_info(RESULTS).await else { return Ok(None) };
            Ok((state.messages >= least as u64).then_some(()))
        })
        .await
    };
    for round in 0..rounds {
        ended((round * tasks / rounds).saturating_sub(OPEN_MAX)).await?;
        let produce = async {
            for number in (round * tasks / rounds)..((round + 1) * tasks / rounds) {
                submit(&agent, number).await?;
            }
            anyhow::Ok(())
        };
        let role = ROLES[dice.roll(ROLES.len())];
        let pause = Duration::from_millis(200 + 100 * u64::try_from(dice.roll(8)).unwrap());
        let before = killed.get(role).copied();
        let stopped = (stops && dice.roll(3) == 0).then(|| STOPPED[dice.roll(STOPPED.len())]);
        let kill = async {
            tokio::time::timeout(pause, std::future::pending::<()>()).await.unwrap_err();
            let pid = until("a process to kill", AGAIN, || async { Ok(live(&cell, role, before)) }).await?;
            anyhow::Ok((pid, strike(pid, stopped).await))
        };
        let (produced, done) = tokio::join!(produce, kill);
        produced.context("submitting")?;
        let (pid, struck) = done.with_context(|| format!("striking {role}"))?;
        if stopped.is_none() {
            killed.insert(role, pid);
        }
        hit += usize::from(struck);
    }
    assert_eq!(hit, rounds, "each signal met a process that ran");
    let after = Instant::now();
    ended(tasks).await.context("after the last fault")?;
    until("every role to be ready", DRAIN, || async {
        Ok(cell.output(&["status"]).await?.status.success().then_some(()))
    })
    .await?;
    let ledger = Ledger::read(&operator).await?;
    eprintln!("drained {} ms after the last fault", after.elapsed().as_millis());
    assert_eq!(ledger.accepted.len(), tasks);
    assert_eq!(ledger.breaches(), Vec::<String>::new());
    until("the record to have every result", DRAIN, || async {
        let status = cell.json(&["status"]).await.ok();
        let lag = status.as_ref().and_then(|s| s.pointer("/record/lag")).and_then(serde_json::Value::as_u64);
        Ok((lag == Some(0)).then_some(()))
    })
    .await?;
    let result = operator.messages(RESULTS).await?.pop_first().context("a result")?;
    operator.bus().delete(RESULTS, result.0, false).await?;
    let lossy = Ledger::read(&operator).await?.breaches();
    assert_eq!(lossy.len(), 1, "negative control: one result that was lost is seen, {lossy:?}");
    cell.stop().await?;
    let record = cell.path().join("record").display().to_string();
    let public = cell.path().join("keys/checkpoint.pub").display().to_string();
    let verify = ["audit", "--public-key", &public, "verify", "--record", &record];
    cell.tidegate(&verify).await.context("the record verifies")?;
    // Nothing runs any more: what was decided is judged again from the record alone.
    let key = cell.path().join("keys/master.key").display().to_string();
    let judged = cell.json(&["audit", "rejudge", "--record", &record, "--key", &key]).await?;
    let count = |name: &str| judged["rejudged"][name].as_u64().unwrap_or(0);
    assert!(count("decisions") >= tasks as u64, "{judged}");
    assert_eq!((count("equal"), count("differ")), (count("decisions"), 0), "{judged}");
    Ok(())
}
