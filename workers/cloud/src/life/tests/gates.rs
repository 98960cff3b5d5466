//! What breaker and budgets keep back.

use tidegate_schemas::budget::{Amounts, Spent};

use super::*;

fn spent() -> Spent {
    let of = json!({ "scope": "tenant", "tenant": "acme" });
    let spent = json!({ "of": of, "window": "day", "unit": "tokens", "until": "2026-11-24T00:00:00Z" });
    serde_json::from_value(spent).unwrap()
}

#[test]
fn budget_an_attempt_asks_for_the_most_that_it_can_use_before_it_is_claimed() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let budgets =
        json!([{ "of": { "scope": "tenant", "tenant": "acme" }, "caps": { "day": { "tokens": 9 } } }]);
    let message = arrived(&work);
    let headers = message.headers.clone().with(header::BUDGETS, budgets.to_string());
    let (mut life, _) = Life::begin(&Arrived { headers, ..message.clone() }, &known.context());
    life.next(Event::Looked(false), &known.context());
    let Action::Admit(asked) = life.next(attempting(), &known.context()).action else { panic!("not asked") };
    let claims = &work.claims;
    assert_eq!(asked.reservation, format!("{}/1", claims.id), "the same in each delivery");
    assert_eq!((asked.by, asked.budgets.len()), (0xd3, 1));
    assert_eq!(asked.place.key(), {
        let place = (claims.provider.clone(), claims.base_url.clone(), claims.model.clone());
        tidegate_schemas::breaker::Place { provider: place.0, endpoint: place.1, model: place.2 }.key()
    });
    // A token is a byte at least; and what no cap and no price says may cost anything.
    let tokens = claims.content_bytes + u64::from(claims.output_tokens_max);
    assert_eq!(asked.most, Amounts { requests: 1, tokens, usd_micros: u64::MAX });
    // Limits that cannot be read are none that could be held.
    let headers = message.headers.clone().with(header::BUDGETS, "[{}]");
    let (_, step) = Life::begin(&Arrived { headers, ..message }, &known.context());
    assert!(matches!(done(step), Disposition::Dead(refused) if refused.code == Code::InvalidHeaders));
}

#[test]
fn budget_without_room_sends_the_work_back_before_a_claim() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let mut life = calling(&work, &known);
    life.next(attempting(), &known.context());
    let step = life.next(Event::Admitted(Admitted::Spent(spent())), &known.context());
    assert!(matches!(step.action, Action::Shut), "{step:?}");
    let (message, step) = sent(life.next(called(Err(error(Failure::Halted))), &known.context()));
    assert_eq!(message.subject, "step.cloud.acme");
    assert_eq!((&step["reason"]["reason"], &step["attempts"]), (&json!("spent"), &json!(0)));
    assert_eq!(step["reason"]["budget"]["of"]["tenant"], "acme", "which");
    assert_eq!(done(life.next(Event::Sent(Sent::Stored), &known.context())), Disposition::Ack);
    // After a first attempt that failed: its end is on record with the reason.
    let mut life = opened(&work, &known);
    life.next(Event::Retrying(Failure::Status(500)), &known.context());
    life.next(attempting(), &known.context());
    life.next(Event::Admitted(Admitted::Spent(spent())), &known.context());
    let (_, record) = sent(life.next(called(Err(error(Failure::Halted))), &known.context()));
    assert_eq!(record["phase"], json!({ "phase": "returned", "code": "budget_spent" }));
    let (_, step) = sent(life.next(Event::Sent(Sent::Stored), &known.context()));
    assert_eq!((&step["reason"]["reason"], &step["attempts"]), (&json!("spent"), &json!(1)));
}

#[test]
fn breaker_that_is_open_sends_the_work_back_for_another_place() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let mut life = calling(&work, &known);
    life.next(attempting(), &known.context());
    let step = life.next(Event::Admitted(Admitted::Broken), &known.context());
    assert!(matches!(step.action, Action::Shut), "{step:?}");
    let (_, step) = sent(life.next(called(Err(error(Failure::Halted))), &known.context()));
    assert_eq!(step["reason"], json!({ "reason": "fallback", "code": "provider_unavailable" }));
    opened(&work, &known); // negative control: through, it is claimed and opened
}
