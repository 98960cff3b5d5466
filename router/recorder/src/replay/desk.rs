//! Operators' questions, and the replays that run.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tidegate_audit::{PlanHead, Replay, ReplayState};
use tidegate_bus::{CancellationToken, Endpoint, Outbound, PublishError, Query};
use tidegate_schemas::control::{Act, Control};
use tidegate_schemas::ids::Name;
use tidegate_schemas::json;
use tidegate_schemas::limits::{MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use tidegate_schemas::replay::{Pace, ReplayOutcome, ReplayTo};
use tidegate_schemas::subject::EVENTS;
use tokio::task::JoinSet;
use tracing::{info, warn};
use uuid::Uuid;

use super::run::{Ended, Parts, Run};
use super::{ReplayAnswer, ReplayQuestion, permit};
use crate::service::{Refusal, encode, question, read};

/// How often replays that wait, or were running when a recorder ended, are taken up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Replays that run at once.
const RUNNING_MAX: usize = 8;
/// Under this name the recorder says what came of a replay.
const END: &str = "control.replay.recorder";

/// The desk: one question at a time, several replays beside it.
pub(super) struct Desk {
    parts: Parts,
    shutdown: CancellationToken,
    stops: HashMap<Uuid, CancellationToken>,
    runs: JoinSet<(Replay, Ended)>,
}

impl Desk {
    pub(super) fn new(parts: Parts, shutdown: CancellationToken) -> Self {
        Self { parts, shutdown, stops: HashMap::new(), runs: JoinSet::new() }
    }

    pub(super) async fn run(mut self, mut endpoint: Endpoint) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                query = endpoint.next() => match query {
                    Some(query) => self.answer(query).await,
                    None => break,
                },
                Some(ended) = self.runs.join_next() => self.ended(ended.ok()).await,
                _ = look.tick() => self.look().await,
            }
        }
        // Each stops where it is, notes that, and goes on with the next recorder.
        self.stops.values().for_each(CancellationToken::cancel);
        while self.runs.join_next().await.is_some() {}
    }

    /// Takes up what should run and does not.
    async fn look(&mut self) {
        let Some(Ok(replays)) = self.parts.shared.read(tidegate_audit::Reader::replays).await else { return };
        for replay in replays {
            let id = replay.plan.id;
            if replay.state == ReplayState::Running
                && !self.stops.contains_key(&id)
                && self.stops.len() < RUNNING_MAX
            {
                if replay.done > 0 && replay.waits.is_none() {
                    info!(replay = %id, done = replay.done, of = replay.plan.records, "A replay goes on.");
                }
                self.spawn(replay);
            }
        }
    }

    fn spawn(&mut self, replay: Replay) {
        let stop = self.shutdown.child_token();
        self.stops.insert(replay.plan.id, stop.clone());
        self.runs.spawn(Run::new(self.parts.clone(), replay, stop).run());
    }

    /// A run ended: says so on record, or keeps why it waits.
    async fn ended(&mut self, ended: Option<(Replay, Ended)>) {
        let Some((mut replay, ended)) = ended else { return };
        self.stops.remove(&replay.plan.id);
        let outcome = match ended {
            Ended::Stopped => return,
            Ended::Waits(why) => {
                if replay.waits.as_ref() != Some(&why) {
                    warn!(replay = %replay.plan.id, why, "A replay waits.");
                    replay.waits = Some(why);
                    self.keep(&replay).await;
                }
                return;
            }
            Ended::Finished => (ReplayState::Done, ReplayOutcome::Done),
            Ended::Stale => (ReplayState::Stale, ReplayOutcome::Refused),
        };
        self.close(replay, outcome).await;
    }

    /// Ends a replay: on record first, then in the file. What fails is done again at the next look.
    async fn close(&self, replay: Replay, (state, outcome): (ReplayState, ReplayOutcome)) -> Option<Replay> {
        let id = replay.plan.id;
        if let Err(error) = self.say(id, replay.event, replay.published, outcome).await {
            warn!(replay = %id, %error, "The end of a replay is not on record yet; trying again.");
            return None;
        }
        let replay = Replay { state, waits: None, ..replay };
        info!(replay = %id, published = replay.published, ?outcome, "A replay ended.");
        self.keep(&replay).await.then_some(replay)
    }

    async fn keep(&self, replay: &Replay) -> bool {
        let kept = self.parts.keeper.keep(replay).await;
        if let Err(why) = &kept {
            warn!(replay = %replay.plan.id, why, "Where a replay stands could not be kept.");
        }
        kept.is_ok()
    }

    async fn say(
        &self,
        id: Uuid,
        event: u64,
        published: u64,
        outcome: ReplayOutcome,
    ) -> Result<(), PublishError> {
        let reason = match outcome {
            ReplayOutcome::Done => "everything in the plan is done",
            ReplayOutcome::Cancelled => "an operator cancelled it",
            ReplayOutcome::Refused => "it was not permitted, or the record does not hold what was planned",
        };
        let act = Act::ReplayEnd { replay: id.to_string(), published, outcome };
        let control = Control { schema_version: 1, act, reason: reason.to_owned() };
        let message = Outbound::new(END, serde_json::to_vec(&control).unwrap_or_default())
            .with_id(format!("replay-end:{id}:{event}"));
        self.parts.bus.publish(message).await.map(drop)
    }

    async fn answer(&mut self, query: Query) {
        match self.answered(&query).await {
            Ok(payload) => query.respond(payload.into()).await,
            Err(Refusal(code, sentence)) => query.refuse(code, &sentence).await,
        }
    }

    async fn answered(&mut self, query: &Query) -> Result<Vec<u8>, Refusal> {
        let asked: ReplayQuestion = question(query)?;
        let operator = query.subject().rsplit('.').next().and_then(|token| Name::new(token).ok());
        let operator = operator.ok_or_else(|| Refusal(403, "the subject names no operator".to_owned()))?;
        let replays = match asked {
            ReplayQuestion::Run { event, plan, pace } => {
                vec![self.begin(&operator, event, *plan, pace).await?]
            }
            ReplayQuestion::Cancel { event } => vec![self.cancel(&operator, event).await?],
            ReplayQuestion::Status { replay } => {
                let mut all = read(&self.parts.shared, tidegate_audit::Reader::replays).await?;
                all.retain(|one| replay.is_none_or(|id| one.plan.id == id));
                all
            }
        };
        encode(&ReplayAnswer { replays })
    }

    /// Begins a replay, once.
    async fn begin(
        &mut self,
        operator: &Name,
        event: u64,
        plan: PlanHead,
        pace: Pace,
    ) -> Result<Replay, Refusal> {
        let id = plan.id;
        let Act::ReplayStart { replay, plan: hash, records, target } = self.act(operator, event).await?
        else {
            return Err(Refusal(400, "the act begins no replay".to_owned()));
        };
        if (replay, hash, records) != (id.to_string(), plan.hash, plan.records) || !pace.is_valid() {
            return Err(Refusal(400, "the act names another plan, or the pace is out of range".to_owned()));
        }
        if let Some(known) = read(&self.parts.shared, move |reader| reader.replay(id)).await? {
            return if known.event == event { Ok(known) } else { Err(taken()) };
        }
        if self.stops.len() >= RUNNING_MAX {
            return Err(Refusal(
                429,
                format!("{RUNNING_MAX} replays run already; wait for one, or cancel one"),
            ));
        }
        let Parts { bus, shared, .. } = &self.parts;
        if let Err(refusal) = permit::check(bus, shared, operator, &plan, &target).await {
            // What cannot be told now may be asked again; what was refused is on record.
            if refusal.0 < 500
                && let Err(error) = self.say(id, event, 0, ReplayOutcome::Refused).await
            {
                warn!(replay = %id, %error, "A refusal could not be put on record.");
            }
            return Err(refusal);
        }
        let replay = self.first(operator, event, plan, pace, target);
        self.parts.keeper.keep(&replay).await.map_err(|why| Refusal(503, why))?;
        info!(replay = %id, %operator, records, "A replay begins.");
        self.spawn(replay.clone());
        Ok(replay)
    }

    fn first(&self, operator: &Name, event: u64, plan: PlanHead, pace: Pace, target: ReplayTo) -> Replay {
        Replay {
            plan,
            operator: operator.clone(),
            event,
            target,
            pace,
            begun: Timestamp::now(),
            done: 0,
            published: 0,
            skipped: 0,
            erased: 0,
            pruned: 0,
            last: 0,
            state: ReplayState::Running,
            waits: None,
        }
    }

    async fn cancel(&mut self, operator: &Name, event: u64) -> Result<Replay, Refusal> {
        let Act::ReplayCancel { replay } = self.act(operator, event).await? else {
            return Err(Refusal(400, "the act cancels no replay".to_owned()));
        };
        let unknown = || Refusal(404, "no such replay is known".to_owned());
        let id: Uuid = replay.parse().map_err(|_| unknown())?;
        if let Some(stop) = self.stops.get(&id) {
            stop.cancel();
        }
        while self.stops.contains_key(&id) {
            let Some(ended) = self.runs.join_next().await else { break };
            self.ended(ended.ok()).await;
        }
        let known = read(&self.parts.shared, move |reader| reader.replay(id)).await?.ok_or_else(unknown)?;
        if known.state != ReplayState::Running {
            return Ok(known);
        }
        let cancelled = self.close(known, (ReplayState::Cancelled, ReplayOutcome::Cancelled)).await;
        cancelled
            .ok_or_else(|| Refusal(503, "it stands still, but not on record yet; cancel again".to_owned()))
    }

    /// The act of this operator at a place in EVENTS.
    async fn act(&self, operator: &Name, event: u64) -> Result<Act, Refusal> {
        let unread = |_| Refusal(503, "the act cannot be read now; ask again later".to_owned());
        let stored = self.parts.bus.get(EVENTS, event).await.map_err(unread)?;
        let own = stored.filter(|stored| stored.subject == format!("control.replay.{operator}"));
        let own = own.ok_or_else(|| Refusal(403, "there is no such act of this operator".to_owned()))?;
        let control: Control = json::read(&own.payload, MESSAGE_BYTES_MAX)
            .map_err(|_| Refusal(400, "the act is malformed".to_owned()))?;
        if control.reason.trim().is_empty() || control.reason.len() > REASON_BYTES_MAX {
            return Err(Refusal(400, "an act needs a reason of 1 to 2,000 bytes".to_owned()));
        }
        Ok(control.act)
    }
}

fn taken() -> Refusal {
    Refusal(409, "another act began this plan before; make a new plan".to_owned())
}
