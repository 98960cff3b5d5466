//! Budgets in tokens and in dollars, of tenants, agents and providers, with several workers at once.

use serde_json::{Value, json};
use tidegate_schemas::budget::ledger::Ledger;
use tidegate_schemas::budget::{Amounts, BUDGETS_BUCKET, Scope, Window};
use tidegate_schemas::decision::Decision;

use super::super::cell::work::CloudWork;
use super::super::cell::{Answer, Cell, http};
use super::once;

/// A model that the price list knows.
const PRICED: &str = "gpt-4o-mini";

/// Work for a model that has a price.
fn priced(number: u128) -> CloudWork {
    once(number).with(|work| {
        let mut body: Value = serde_json::from_slice(&work.bytes).unwrap();
        body["model"] = PRICED.into();
        work.bytes = body.to_string().into_bytes();
        work.claims.model = PRICED.into();
        work.claims.content = work.salt.digest(&work.bytes);
        work.claims.content_bytes = work.bytes.len() as u64;
        let destination = work.decision.destination.clone().unwrap();
        let destination =
            Some(tidegate_schemas::decision::Destination { model: PRICED.into(), ..destination });
        let content = Some(work.claims.content);
        work.decision = Decision { destination, content, ..work.decision.clone() };
    })
}

/// An answer that tells as much as its request can use at most.
fn all_of(work: &CloudWork) -> Answer {
    let usage =
        json!({ "prompt_tokens": work.bytes.len(), "completion_tokens": work.claims.output_tokens_max });
    let choice = json!({ "index": 0, "message": { "content": "hello" }, "finish_reason": "stop" });
    let body = json!({ "model": PRICED, "choices": [choice], "usage": usage });
    Answer::Say(http(200, "", &body.to_string()))
}

async fn cell(answers: Vec<Answer>) -> (Cell, tidegate_cloud::CloudConfig) {
    let cell = Cell::start(answers).await;
    let mut config = cell.config();
    for endpoint in config.providers[0].endpoints.values_mut() {
        endpoint.models.insert(PRICED.into());
    }
    (cell, config)
}

async fn ledger(cell: &Cell, of: &Value) -> Option<Ledger> {
    let scope: Scope = serde_json::from_value(of.clone()).unwrap();
    let entry = cell.router.kv_get(BUDGETS_BUCKET, &scope.key()).await.unwrap()?;
    Some(serde_json::from_slice(&entry.value).unwrap())
}

async fn counted(cell: &Cell, of: &Value) -> Amounts {
    let ledger = ledger(cell, of).await.unwrap();
    assert!(ledger.open.is_empty(), "all of it is settled");
    ledger.counts(Window::Day, jiff::Timestamp::now())
}

fn limited(work: CloudWork, of: &Value, unit: &str, cap: u64) -> CloudWork {
    work.with(|work| work.budgets = json!([{ "of": of, "caps": { "day": { unit: cap } } }]))
}

#[tokio::test]
async fn budget_in_tokens_and_dollars_of_whomever_is_held_by_several_workers_at_once() {
    const WORK: u128 = 12;
    const ROOM: u64 = 5;
    let rows = [
        (json!({ "scope": "tenant", "tenant": "acme" }), "tokens"),
        (json!({ "scope": "agent", "tenant": "acme", "agent": "helpdesk" }), "usd_micros"),
        (json!({ "scope": "provider", "provider": "double" }), "tokens"),
    ];
    let answer = all_of(&priced(1));
    let (cell, config) = cell(vec![answer; 3 * (WORK as usize + 1)]).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(cell.worker_with(config.clone()).await);
    }
    for (row, (of, unit)) in rows.iter().enumerate() {
        let of_unit = |amounts: Amounts| if *unit == "tokens" { amounts.tokens } else { amounts.usd_micros };
        let (first, before) = (1 + 100 * row as u128, cell.captured().len());
        cell.send(&limited(priced(first), of, unit, 1_000_000)).await;
        cell.drained().await;
        let each = of_unit(counted(&cell, of).await);
        assert!(each > 0, "{unit}");
        for number in 1..=WORK {
            cell.send(&limited(priced(first + number), of, unit, ROOM * each)).await;
        }
        cell.drained().await;
        assert_eq!(of_unit(counted(&cell, of).await), ROOM * each, "{of}: as much as there is room for");
        assert_eq!(cell.captured().len() - before, 5, "{of}: and no more left");
        let steps = cell.steps().await;
        assert_eq!(steps.last().unwrap()["reason"]["budget"]["of"], *of);
    }
    // Negative control: work that counts in none of them leaves.
    let before = cell.captured().len();
    cell.send(&priced(900)).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), before + 1);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn budget_of_cost_lets_nothing_leave_for_a_model_without_a_price() {
    let of = json!({ "scope": "tenant", "tenant": "acme" });
    let (cell, config) = cell(vec![all_of(&priced(1)); 3]).await;
    let worker = cell.worker_with(config).await;
    // Whatever the producer says that it may cost.
    for (number, cap) in [(1, Some(0)), (2, Some(1)), (3, None)] {
        let work = limited(once(number), &of, "usd_micros", 1_000_000);
        cell.send(&work.with(|work| work.claims.cost_usd_micros_max = cap)).await;
    }
    cell.drained().await;
    assert!(cell.captured().is_empty() && cell.attempts().await.is_empty(), "nothing left");
    let steps = cell.steps().await;
    assert_eq!(steps.len(), 3);
    for step in &steps {
        assert_eq!((&step["reason"]["reason"], &step["attempts"]), (&json!("spent"), &json!(0)));
        assert_eq!(step["reason"]["budget"]["never"], json!(true), "no window has room for it: {step}");
    }
    assert!(ledger(&cell, &of).await.is_none(), "and nothing was counted");
    // Negative controls: what has a price leaves within the same limit; and so does what no limit of cost is about, counted
    // without a figure that nobody told.
    cell.send(&limited(priced(4), &of, "usd_micros", 1_000_000)).await;
    cell.drained().await;
    let cost = counted(&cell, &of).await.usd_micros;
    assert!(cost > 0);
    let silent =
        http(200, "", r#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}"#);
    cell.answer_next(Answer::Say(silent.clone()));
    cell.answer_next(Answer::Say(silent));
    for number in [5, 6, 7, 8] {
        cell.send(&limited(once(number), &of, "requests", 9)).await;
    }
    cell.drained().await;
    assert_eq!(cell.captured().len(), 5);
    let counts = counted(&cell, &of).await;
    assert_eq!((counts.requests, counts.usd_micros), (5, cost));
    worker.stop().await;
}
