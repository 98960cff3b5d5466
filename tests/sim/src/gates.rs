//! Budgets without room and open breakers in the simulation: what keeps attempts back while a fault of that kind lasts.

use tidegate_cloud::life::{Admitted, Asked};
use tidegate_router::Gates;
use tidegate_schemas::breaker::Broken;
use tidegate_schemas::budget::{Spent, Unit, Window};
use tidegate_schemas::ids::Name;

use crate::broker::at;
use crate::plan::Fault;
use crate::world::World;

/// So late a router knows: it looks once a second.
const LOOK_MS: i64 = 1_000;

/// What lasts now, and since when.
pub(crate) type Lasting = Vec<(i64, Fault)>;

impl World<'_> {
    /// What a router knows to keep work from providers.
    pub(crate) fn gates(&self) -> Gates {
        let mut gates = Gates::OPEN;
        for (since, fault) in self.kept_back.iter().filter(|(since, _)| since + LOOK_MS <= self.now) {
            match fault {
                Fault::Spent(..) => gates.spent.extend(spent(*since, fault)),
                Fault::Broken(..) => gates.broken.extend(broken(*since, fault)),
                _ => {}
            }
        }
        gates
    }

    /// Whether an attempt may be made, as breakers and ledgers have it now.
    pub(crate) fn admits(&self, asked: &Asked, who: (&Name, &Name)) -> Admitted {
        let provider = &asked.place.provider;
        for (since, fault) in &self.kept_back {
            if broken(*since, fault).is_some_and(|broken| broken.place == asked.place) {
                return Admitted::Broken;
            }
            if let Some(spent) = spent(*since, fault).filter(|spent| spent.of.covers(who.0, who.1, provider))
            {
                return Admitted::Spent(spent);
            }
        }
        Admitted::Through
    }
}

fn spent(since: i64, fault: &Fault) -> Option<Spent> {
    let Fault::Spent(of, lasts) = fault else { return None };
    let until = at(since + lasts);
    Some(Spent { of: of.clone(), window: Window::Minute, unit: Unit::Requests, until, never: false })
}

fn broken(since: i64, fault: &Fault) -> Option<Broken> {
    let Fault::Broken(place, lasts) = fault else { return None };
    Some(Broken { place: place.clone(), until: at(since + lasts) })
}
