//! The way between processes, broker and providers: messages are late, lost, doubled and overtaken while faults last.

use std::rc::Rc;

use tidegate_router::life::Place;
use tidegate_schemas::ids::Position;

use crate::broker::{Ack, Delivery, Kept, Parcel, Said};
use crate::call::Leaving;
use crate::process::{Reply, To};
use crate::provider;
use crate::world::{Event, World};

/// How long anybody waits for an answer of the broker, milliseconds.
const SILENCE_MS: i64 = 5_000;
/// How long the client waits for a provider, milliseconds.
const PROVIDER_MS: i64 = 20_000;
/// Longest extra delay of a message, milliseconds.
const LATE_MS: i64 = 9_000;

/// Something on its way to the broker or a provider.
pub(crate) struct Flight {
    pub(crate) request: Request,
    pub(crate) to: Option<To>,
}

#[derive(Clone)]
pub(crate) enum Request {
    /// With the number of the planned task that it is.
    Publish(Parcel, Option<usize>),
    Load(Vec<Place>),
    Claim {
        key: String,
        value: String,
    },
    Look(String),
    Acknowledge {
        consumer: usize,
        sequence: u64,
        ack: Ack,
    },
    Leave(Box<Leaving>),
}

impl World<'_> {
    /// Sends a request on its way; silence wakes who waits for an answer.
    pub(crate) fn send(&mut self, request: Request, to: Option<To>) {
        if let Some(to) = to {
            let patience = if matches!(request, Request::Leave(_)) { PROVIDER_MS } else { SILENCE_MS };
            self.after(patience, Event::Back(to, Reply::Silence));
        }
        // A connection carries bytes once, or not at all.
        let most = if matches!(request, Request::Leave(_)) { 1 } else { 2 };
        let copies = self.copies().min(most);
        for _ in 0..copies {
            let delay = self.latency();
            self.after(delay, Event::Land(Box::new(Flight { request: request.clone(), to })));
        }
    }

    /// How many of a message arrive.
    fn copies(&mut self) -> usize {
        let rates = self.rates();
        if self.dice.chance(rates.drop) {
            return 0;
        }
        if self.dice.chance(rates.duplicate) { 2 } else { 1 }
    }

    pub(crate) fn latency(&mut self) -> i64 {
        let late = self.rates().delay;
        let base = self.dice.between(1, 12);
        if self.dice.chance(late) { base + self.dice.between(10, LATE_MS) } else { base }
    }

    fn back(&mut self, to: Option<To>, reply: Reply) {
        let Some(to) = to else { return };
        let lost = self.rates().drop;
        if !self.dice.chance(lost) {
            let delay = self.latency();
            self.after(delay, Event::Back(to, reply));
        }
    }

    /// A delivery on its way to a process.
    pub(crate) fn deliver(&mut self, process: usize, delivery: Delivery) {
        let epoch = self.processes[process].epoch;
        let lost = self.rates().drop;
        if !self.dice.chance(lost) {
            let delay = self.latency();
            self.after(delay, Event::Deliver { process, epoch, delivery });
        }
    }

    /// A request has arrived.
    pub(crate) fn land(&mut self, flight: Flight) {
        let Flight { request, to } = flight;
        if let Request::Leave(leaving) = request {
            return self.arrive(&leaving, to);
        }
        if self.broker_down {
            return;
        }
        let refuses = self.rates().refuse;
        if to.is_some() && self.dice.chance(refuses) {
            return self.back(to, Reply::Failed);
        }
        match request {
            Request::Publish(parcel, planned) => {
                let (subject, msg_id) = (parcel.subject.clone(), parcel.msg_id.clone());
                let said = self.broker.publish(parcel, self.now);
                self.note(|| format!("{subject} [{msg_id}] is {}", word(&said)));
                if let Said::Stored(kept) = &said {
                    let kept = Rc::clone(kept);
                    self.stored(&kept, planned);
                }
                self.back(to, Reply::Said(said));
            }
            Request::Load(places) => {
                let found = places.iter().map(|place| self.look_up(place)).collect();
                self.back(to, Reply::Loaded(found));
            }
            Request::Claim { key, value } => {
                let holder = self.broker.claim(&key, &value);
                self.back(to, Reply::Claimed(holder));
            }
            Request::Look(subject) => {
                let found = self.broker.result(&subject).is_some();
                self.back(to, Reply::Looked(found));
            }
            Request::Acknowledge { consumer, sequence, ack } => {
                self.broker.acknowledge(consumer, sequence, ack, self.now);
            }
            Request::Leave(_) => {}
        }
    }

    fn look_up(&self, place: &Place) -> Option<Rc<Kept>> {
        let found = match place {
            Place::At(position) => self.broker.get(position),
            Place::Parent { tenant, task } => self.broker.result_of_any(tenant.as_str(), &task.to_string()),
            Place::Result { agent, task, .. } => {
                self.broker.result(&crate::broker::result_subject(agent, *task))
            }
        };
        found.map(Rc::clone)
    }

    /// Bytes have reached a provider: what permits them is looked for before anything else.
    fn arrive(&mut self, leaving: &Leaving, to: Option<To>) {
        self.checker.arrived(&self.broker, self.cell, leaving, self.now);
        let faults = self.rates().provider;
        let outcome = provider::outcome(&mut self.dice, faults);
        self.note(|| format!("{} received {} bytes: {outcome:?}", leaving.provider, leaving.bytes.len()));
        let took = self.dice.between(50, 2_500);
        if let Some(to) = to {
            self.after(took, Event::Back(to, Reply::Provider(Box::new(outcome))));
        }
    }

    /// Publishes what nobody waits for: a producer's task, a reviewer's word, the recorder's result.
    pub(crate) fn publish_alone(&mut self, parcel: Parcel, planned: Option<usize>) {
        self.send(Request::Publish(parcel, planned), None);
    }
}

fn word(said: &Said) -> String {
    match said {
        Said::Stored(kept) => format!("stored at {}", kept.position),
        Said::Duplicate(position) => duplicate(position),
        Said::Taken => "refused: there is one already".to_owned(),
        Said::Full => "refused: no room".to_owned(),
    }
}

fn duplicate(position: &Position) -> String {
    format!("a duplicate of {position}")
}
