//! What happens in a run: the tasks, what is true of each, and the faults, all from the seed.

use serde_json::{Value, json};
use tidegate_schemas::breaker::Place;
use tidegate_schemas::budget::Scope;
use tidegate_schemas::decision::Switch;
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;
use uuid::Uuid;

use crate::broker::at;
use crate::cell::{AGENTS, Cell, TENANT};
use crate::dice::Dice;

/// Within this the tasks are submitted, milliseconds.
const SUBMITTING_MS: i64 = 40_000;
/// From then on nothing fails any more, milliseconds.
pub(crate) const CALM_MS: i64 = 60_000;
/// Processes, count.
pub(crate) const PROCESSES: usize = 6;

/// A task, and what is true of it whatever anybody decides.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) at: i64,
    pub(crate) subject: String,
    pub(crate) msg_id: String,
    pub(crate) payload: Vec<u8>,
    /// Whether any byte of it may ever leave.
    pub(crate) leaves: bool,
    /// Whether that needs a person's word first.
    pub(crate) reviewed: bool,
    /// When it is withdrawn, and by which name.
    pub(crate) canceled: Option<(i64, String)>,
}

/// How often what goes wrong, of a thousand times.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) drop: u32,
    pub(crate) duplicate: u32,
    pub(crate) delay: u32,
    pub(crate) refuse: u32,
    pub(crate) provider: u32,
    pub(crate) engine: u32,
}

/// What goes wrong once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// A process is killed, and starts again after so long.
    Kill(usize, i64),
    /// A process is stopped for so long.
    Stop(usize, i64),
    /// A process' clock jumps, and is set right after so long.
    Clock(usize, i64, i64),
    /// The broker is killed, and starts again after so long.
    Broker(i64),
    /// A stream has no room for so long.
    Full(&'static str, i64),
    /// The recorder does not answer for so long.
    Recorder(i64),
    /// Something is switched off for so long.
    Switch(Switch, i64),
    /// A budget leaves no room for so long.
    Spent(Scope, i64),
    /// A place keeps failing, and is not tried for so long.
    Broken(Place, i64),
    /// What was delivered is delivered again.
    Redeliver,
    /// Somebody else writes cloud work.
    Forge,
}

/// A run's plan.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<Planned>,
    pub(crate) rates: Rates,
    pub(crate) faults: Vec<(i64, Fault)>,
    /// Whether reviewers decide at all.
    pub(crate) reviews: bool,
}

impl Plan {
    pub(crate) fn new(dice: &mut Dice, count: usize, cell: &Cell) -> Self {
        let mut tasks: Vec<Planned> = Vec::with_capacity(count);
        let mut ids: Vec<(Uuid, bool, bool)> = Vec::new();
        while tasks.len() < count {
            let task = match dice.below(20) {
                // The same message again, or the same id with another body.
                0 if !tasks.is_empty() => again(dice, &tasks),
                _ => task(dice, &mut ids),
            };
            tasks.push(task);
        }
        // Each run has only some kinds of fault: what hides behind another shows alone.
        let mut some = |most: usize| {
            let on = dice.chance(500);
            if on { u32::try_from(dice.below(most)).unwrap_or(0) + 1 } else { 0 }
        };
        let rates = Rates {
            drop: some(80),
            duplicate: some(80),
            delay: some(150),
            refuse: some(40),
            provider: some(600),
            engine: some(300),
        };
        let faults = faults(dice, cell);
        Self { tasks, rates, faults, reviews: dice.chance(900) }
    }
}

fn task(dice: &mut Dice, ids: &mut Vec<(Uuid, bool, bool)>) -> Planned {
    let at = dice.between(0, SUBMITTING_MS);
    let agent = AGENTS[dice.below(AGENTS.len())];
    let id = id(dice, at);
    let chat = |text: &str| json!({ "messages": [{ "role": "user", "content": text }] });
    let text = format!("What is tide number {}?", dice.below(50));
    let public = json!({ "sensitivity": "public" });
    let (kind, labels, input, leaves, reviewed) = match dice.below(20) {
        0..=7 => ("chat", public, chat(&text), true, false),
        8 | 9 => ("chat", json!({ "sensitivity": "internal" }), chat(&text), false, false),
        10 => ("chat", json!({ "sensitivity": "restricted" }), chat(&text), false, false),
        11 => ("chat", public, chat("my card is 4111 1111 1111 1111"), false, false),
        12 | 13 => ("chat", json!({ "sensitivity": "public", "stakes": "high" }), chat(&text), true, true),
        14 => ("chat", json!({ "sensitivity": "no such word" }), chat(&text), false, false),
        15 => ("unknown", public, chat(&text), false, false),
        16 => ("chat", public, json!({ "messages": [] }), false, false),
        17 => ("classify", public, json!({ "text": text, "classes": ["a", "b"] }), true, false),
        _ => ("embed", json!({ "sensitivity": "internal" }), json!({ "texts": [text] }), false, false),
    };
    let mut body = json!({ "labels": labels, "input": input, "reply": "r1" });
    let (mut leaves, mut reviewed) = (leaves, reviewed);
    let named = match dice.below(12) {
        // The server gives it its id.
        0 => None,
        1 => Some(format!("order-{}", dice.below(1_000_000))),
        _ => Some(id.to_string()),
    };
    if let Some(named) = &named {
        body["id"] = json!(named);
    }
    if !ids.is_empty() && dice.chance(80) {
        let (parent, parent_leaves, parent_reviewed) = ids[dice.below(ids.len())];
        body["parent_task"] = json!(parent);
        leaves &= parent_leaves;
        reviewed |= parent_reviewed;
    }
    match dice.below(10) {
        0 => body["limits"] = json!({ "deadline_ms": dice.between(1, 15_000) }),
        1 => body["limits"] = json!({ "cost_usd_micros_max": dice.between(1, 2_000) }),
        _ => {}
    }
    if named.as_deref() == Some(id.to_string().as_str()) {
        ids.push((id, leaves, reviewed));
    }
    let canceled = named
        .filter(|_| dice.chance(60))
        .map(|name| (at + dice.between(0, 6_000), format!("cancel.{TENANT}.{agent}.{name}")));
    let mut payload = serde_json::to_vec(&body).unwrap_or_default();
    if dice.chance(10) {
        payload.truncate(payload.len() / 2);
        leaves = false;
    }
    let subject = format!("task.{TENANT}.{agent}.{kind}");
    Planned { at, subject, msg_id: id.to_string(), payload, leaves, reviewed, canceled }
}

/// Most ids carry their time, as producers are told to make them; some do not.
fn id(dice: &mut Dice, ms: i64) -> Uuid {
    if dice.chance(150) {
        return uuid::Builder::from_random_bytes(dice.wide().to_be_bytes()).into_uuid();
    }
    let millis = u64::try_from(at(ms).as_millisecond()).unwrap_or(0);
    let bits = dice.wide().to_be_bytes();
    let mut random = [0; 10];
    random.copy_from_slice(&bits[..10]);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// A message that comes once more: the very same, or the same id with another body.
fn again(dice: &mut Dice, tasks: &[Planned]) -> Planned {
    let mut task = tasks[dice.below(tasks.len())].clone();
    task.at += dice.between(0, 8_000);
    task.msg_id = format!("again-{}", dice.bits());
    task.canceled = None;
    if dice.chance(500)
        && let Ok(mut body) = serde_json::from_slice::<Value>(&task.payload)
        && body.get("labels").is_some()
    {
        // Stricter, so that one that leaves is no longer the task that may.
        body["labels"] = json!({ "sensitivity": "restricted" });
        task.payload = serde_json::to_vec(&body).unwrap_or_default();
        task.leaves = false;
    }
    task
}

fn faults(dice: &mut Dice, cell: &Cell) -> Vec<(i64, Fault)> {
    let mut faults = Vec::new();
    let mut some = |dice: &mut Dice, most: usize, make: &mut dyn FnMut(&mut Dice) -> Fault| {
        let count = if dice.chance(500) { dice.below(most) + 1 } else { 0 };
        for _ in 0..count {
            let fault = make(dice);
            faults.push((dice.between(500, CALM_MS - 1_000), fault));
        }
    };
    some(dice, 12, &mut |dice| Fault::Kill(dice.below(PROCESSES), dice.between(100, 6_000)));
    some(dice, 4, &mut |dice| Fault::Stop(dice.below(PROCESSES), dice.between(1_000, 45_000)));
    some(dice, 4, &mut |dice| {
        let jump = [-3_600_000, -60_000, -4_000, 3_000, 30_000, 200_000][dice.below(6)];
        Fault::Clock(dice.below(PROCESSES), jump, dice.between(500, 20_000))
    });
    some(dice, 3, &mut |dice| Fault::Broker(dice.between(200, 8_000)));
    some(dice, 3, &mut |dice| {
        let streams = ["RESULTS", "EVENTS", "WORK_LOCAL", "WORK_CLOUD", "STEPS"];
        Fault::Full(streams[dice.below(streams.len())], dice.between(500, 15_000))
    });
    some(dice, 3, &mut |dice| Fault::Recorder(dice.between(1_000, 20_000)));
    some(dice, 3, &mut |dice| Fault::Switch(switch(dice, cell), dice.between(1_000, 15_000)));
    some(dice, 20, &mut |_| Fault::Redeliver);
    some(dice, 12, &mut |_| Fault::Forge);
    faults
}

/// Budgets without room and open breakers, by dice of their own: the other faults of a seed stay what they were.
pub(crate) fn gates(dice: &mut Dice, cell: &Cell) -> Vec<(i64, Fault)> {
    let count = if dice.chance(500) { dice.below(4) + 1 } else { 0 };
    let clouds: Vec<_> =
        cell.judge.bundle().destinations().iter().filter(|spec| spec.lane == Lane::Cloud).collect();
    let mut faults = Vec::new();
    for _ in 0..count {
        let (at, lasts) = (dice.between(500, CALM_MS - 1_000), dice.between(1_000, 20_000));
        let Some(spec) = clouds.get(dice.below(clouds.len())) else { break };
        let (tenant, agent) = (Name::new(TENANT), Name::new(AGENTS[dice.below(AGENTS.len())]));
        let (Ok(tenant), Ok(agent), Some(endpoint)) = (tenant, agent, spec.base_url.clone()) else { break };
        let provider = spec.target.clone();
        faults.push((
            at,
            match dice.below(4) {
                0 => Fault::Spent(Scope::Tenant { tenant }, lasts),
                1 => Fault::Spent(Scope::Agent { tenant, agent }, lasts),
                2 => Fault::Spent(Scope::Provider { provider }, lasts),
                _ => Fault::Broken(Place { provider, endpoint, model: spec.model.clone() }, lasts),
            },
        ));
    }
    faults
}

fn switch(dice: &mut Dice, cell: &Cell) -> Switch {
    let clouds: Vec<&Name> =
        cell.targets.iter().filter(|(lane, _)| *lane == Lane::Cloud).map(|(_, target)| target).collect();
    match dice.below(3) {
        0 => Switch { lane: Some(Lane::Cloud), ..Switch::default() },
        1 => Switch { lane: Some(Lane::Local), ..Switch::default() },
        _ => Switch {
            target: clouds.get(dice.below(clouds.len())).map(|name| (*name).clone()),
            ..Switch::default()
        },
    }
}
