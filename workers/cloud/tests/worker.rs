//! The cloud worker on a real nats-server: what the record holds when the first byte leaves, and what never leaves.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cell;
mod gates;

use std::time::Instant;

use cell::refusals::Refusals;
use cell::work::{CloudWork, name};
use cell::{Answer, Cell, PATIENCE, good, heard, http, json_of, streamed, until};
use serde_json::{Value, json};
use tidegate_bus::{Identity, Outbound, PublishError, Role};
use tidegate_cloud::CloudConfig;
use tidegate_schemas::control::{FLAGS_BUCKET, FLAGS_KEY};
use tidegate_schemas::header::Headers;
use tidegate_schemas::subject::{EVENTS, RESULTS, WORK_CLOUD, notice_cancel};

fn strings(phases: &[(u64, &str)]) -> Vec<(u64, String)> {
    phases.iter().map(|(number, phase)| (*number, (*phase).to_owned())).collect()
}

#[tokio::test]
async fn an_attempt_is_on_record_before_the_first_byte() {
    let cell = Cell::start(vec![Answer::Say(good())]).await;
    let worker = cell.worker().await;
    let work = CloudWork::new(1, false);
    let agent = Identity::Agent { tenant: name("acme"), agent: name("helpdesk") };
    let agent = cell.bus(agent).await;
    let mut reply = agent.subscribe_core("reply.helpdesk.token-1").await.unwrap();
    agent.flush().await.unwrap();
    cell.send(&work).await;
    cell.drained().await;
    let captured = cell.captured();
    assert_eq!(captured.len(), 1);
    assert_eq!(captured[0].body, work.bytes, "the exact bytes");
    let evidence = captured[0].evidence.as_ref().unwrap();
    assert_eq!(evidence["phase"]["phase"], "started");
    assert_eq!(evidence["ticket"], json!(work.claims.id));
    assert_eq!(evidence["content"], json!(work.salt.digest(&captured[0].body)), "of the bytes that arrived");
    assert_eq!((&evidence["target"], &evidence["model"]), (&json!("double"), &json!("m-1")));
    let result = cell.result(&work).await.unwrap();
    assert_eq!((&result["state"], &result["output"]["text"]), (&json!("completed"), &json!("hello")));
    // A million tokens of gpt-4o-mini, as it answered, at 0.15 US dollars.
    assert_eq!((&result["cost_usd_micros"], &result["attempts"]), (&json!(150_000), &json!(1)));
    assert_eq!(heard(&mut reply).await, result);
    let stored = cell.all(RESULTS).await.remove(0);
    let headers = stored.trusted_headers();
    assert_eq!(
        (headers.get("tidegate-state"), headers.get("tidegate-cause")),
        (Some("completed"), Some("WORK_CLOUD:1"))
    );
    assert_eq!(headers.get("tidegate-sensitivity"), Some("public"));
    assert_eq!(cell.attempts().await, strings(&[(1, "started")]));
    worker.stop().await;
}

#[tokio::test]
async fn text_is_streamed_to_its_agent_while_it_comes() {
    let cell = Cell::start(vec![Answer::Say(streamed())]).await;
    let worker = cell.worker().await;
    let work = CloudWork::new(1, true);
    let agent = Identity::Agent { tenant: name("acme"), agent: name("helpdesk") };
    let agent = cell.bus(agent).await;
    let mut deltas = agent.subscribe_core(&format!("delta.helpdesk.{}", work.hop.id)).await.unwrap();
    agent.flush().await.unwrap();
    cell.send(&work).await;
    let expected = [("hel", false), ("lo", false), ("", true)];
    for (index, (text, last)) in expected.into_iter().enumerate() {
        let delta = heard(&mut deltas).await;
        assert_eq!(delta, json!({ "attempt": 1, "index": index, "text": text, "last": last }));
    }
    cell.drained().await;
    assert_eq!(cell.result(&work).await.unwrap()["output"]["text"], "hello");
    worker.stop().await;
}

#[tokio::test]
async fn nothing_leaves_on_a_ticket_that_does_not_permit() {
    let cell = Cell::start(vec![Answer::Say(good())]).await;
    let worker = cell.worker().await;
    let forged = [
        CloudWork::new(1, false).with(|w| w.signed_by = 4),
        CloudWork::new(2, false).with(|w| w.bytes.push(b' ')),
        CloudWork::new(3, false).with(|w| w.claims.audience = "cell-b".into()),
        CloudWork::new(4, false).with(|w| w.claims.tenant = name("beta")),
        CloudWork::new(5, false).with(|w| w.hop.agent = name("billing")),
    ];
    for work in &forged {
        cell.send(work).await;
    }
    let expired = CloudWork::new(6, false).expired();
    cell.send(&expired).await;
    cell.drained().await;
    assert!(cell.captured().is_empty(), "zero bytes");
    assert!(cell.attempts().await.is_empty());
    assert!(cell.all(RESULTS).await.is_empty(), "who cannot show a ticket may not end a task");
    let letters: Vec<Value> = cell.all(EVENTS).await.iter().map(json_of).collect();
    assert_eq!(letters.len(), forged.len());
    for letter in &letters {
        assert_eq!((&letter["code"], &letter["role"]), (&json!("ticket_invalid"), &json!("cloud")));
        assert!(!letter.to_string().contains("CANARY"));
    }
    // The one that had only expired goes back to be decided anew.
    let steps = cell.all("STEPS").await;
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].subject, "step.cloud.acme");
    assert_eq!(json_of(&steps[0])["reason"], json!({ "reason": "expired" }));
    assert_eq!(steps[0].trusted_headers().get("tidegate-cause"), Some("WORK_CLOUD:6"));
    // Negative control: with the right ticket the same server is reached.
    let good = CloudWork::new(7, false);
    cell.send(&good).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), 1);
    assert!(cell.result(&good).await.is_some());
    worker.stop().await;
}

#[tokio::test]
async fn a_claimed_attempt_is_never_used_again() {
    let cell = Cell::start(vec![Answer::Say(good())]).await;
    let cloud = cell.bus(Identity::Role(Role::Cloud)).await;
    let claim = async |work: &CloudWork, number: u32| {
        let id = format!("acme/helpdesk/{}/attempt-{}/{number}", work.hop.id, work.claims.id);
        let record = json!({ "attempt": number, "phase": { "phase": "started" } }).to_string();
        let claimed = cloud.publish(Outbound::new("attempt.cloud.acme", record).with_id(id)).await.unwrap();
        assert!(!claimed.duplicate);
    };
    // As a worker leaves it that was killed after its first byte.
    let (once, thrice) = (CloudWork::new(1, false), CloudWork::new(2, false));
    claim(&once, 1).await;
    for number in 1..=3 {
        claim(&thrice, number).await;
    }
    let worker = cell.worker().await;
    cell.send(&once).await;
    cell.drained().await;
    assert_eq!(cell.captured()[0].evidence.as_ref().unwrap()["attempt"], 2);
    assert_eq!(cell.result(&once).await.unwrap()["attempts"], 2);
    cell.send(&thrice).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), 1, "zero bytes of the one whose attempts are used up");
    let steps = cell.steps().await;
    assert_eq!(steps[0]["reason"], json!({ "reason": "fallback", "code": "provider_unavailable" }));
    assert_eq!((&steps[0]["attempts"], cell.result(&thrice).await), (&json!(3), None));
    worker.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_late_is_recorded_and_a_known_result_is_not_paid_again() {
    let cell = Cell::start(Vec::new()).await;
    let worker = cell.worker().await;
    let work = CloudWork::new(1, false);
    let theirs = Outbound::new(format!("result.acme.helpdesk.{}", work.hop.id), "{\"state\":\"canceled\"}");
    cell.answer_next(Answer::AfterPublishing(theirs, good()));
    cell.send(&work).await;
    cell.drained().await;
    assert_eq!(cell.result(&work).await.unwrap()["state"], "canceled", "the first result stands");
    assert_eq!(cell.attempts().await, strings(&[(1, "started"), (1, "late")]));
    let late = json_of(cell.all(EVENTS).await.last().unwrap());
    assert_eq!(late["phase"]["cost_usd_micros"], 150_000);
    assert_eq!(late["phase"]["output"], json!(work.salt.digest(b"hello")));
    // The same task again, by another decision: nothing is bought twice.
    let again = CloudWork::new(1, false).with(|w| w.hop.hop = 1);
    cell.send(&again).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_provider_that_keeps_failing_sends_the_work_back() {
    let cell = Cell::start(vec![Answer::Say(http(503, "retry-after-ms: 1\r\n", "{}")); 3]).await;
    let worker = cell.worker().await;
    let work = CloudWork::new(1, false);
    cell.send(&work).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), 3);
    let phases =
        [(1, "started"), (1, "retried"), (2, "started"), (2, "retried"), (3, "started"), (3, "returned")];
    assert_eq!(cell.attempts().await, strings(&phases));
    assert_eq!(
        cell.steps().await,
        [json!({ "schema_version": 1, "destination": "double-eu", "attempts": 3,
                 "reason": { "reason": "fallback", "code": "provider_unavailable" } })]
    );
    assert!(cell.result(&work).await.is_none());
    worker.stop().await;
}

#[tokio::test]
async fn refused_content_and_bad_requests_fail_and_go_nowhere_else() {
    let refusal = r#"{"choices":[{"index":0,"message":{"refusal":"CANARY"},"finish_reason":"stop"}]}"#;
    let bad = r#"{"error":{"message":"CANARY"}}"#;
    let cell = Cell::start(vec![Answer::Say(http(200, "", refusal)), Answer::Say(http(400, "", bad))]).await;
    let worker = cell.worker().await;
    for (number, code) in [(1, "provider_refused"), (2, "provider_failed")] {
        let work = CloudWork::new(number, false);
        cell.send(&work).await;
        cell.drained().await;
        let result = cell.result(&work).await.unwrap();
        assert_eq!((&result["state"], &result["error"]["code"]), (&json!("failed"), &json!(code)));
        assert!(!result.to_string().contains("CANARY"));
    }
    assert!(cell.steps().await.is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn a_lane_that_is_off_sends_the_work_back() {
    let cell = Cell::start(vec![Answer::Say(good())]).await;
    let worker = cell.worker().await;
    let flags = json!({ "event": 1, "switches": [{ "lane": "cloud" }] }).to_string();
    cell.router.kv_put(FLAGS_BUCKET, FLAGS_KEY, flags).await.unwrap();
    let mut number = 0;
    // The notice is on its way while work comes.
    until("work goes back", async || {
        number += 1;
        cell.answer_next(Answer::Say(good()));
        cell.send(&CloudWork::new(number, false)).await;
        cell.drained().await;
        !cell.steps().await.is_empty()
    })
    .await;
    assert_eq!(cell.steps().await[0]["reason"], json!({ "reason": "off" }));
    let sent = cell.captured().len();
    cell.send(&CloudWork::new(100, false)).await;
    cell.drained().await;
    assert_eq!(cell.captured().len(), sent, "zero bytes");
    // Negative control: on again, it leaves.
    cell.answer_next(Answer::Say(good()));
    cell.router
        .kv_put(FLAGS_BUCKET, FLAGS_KEY, json!({ "event": 2, "switches": [] }).to_string())
        .await
        .unwrap();
    until("work leaves again", async || {
        number += 1;
        cell.answer_next(Answer::Say(good()));
        cell.send(&CloudWork::new(number + 1_000, false)).await;
        cell.drained().await;
        cell.captured().len() > sent
    })
    .await;
    // The switches are gone: nobody knows what they would say, so nothing leaves.
    cell.router.kv_delete(FLAGS_BUCKET, FLAGS_KEY).await.unwrap();
    let back = cell.steps().await.len();
    until("work goes back again", async || {
        number += 1;
        cell.answer_next(Answer::Say(good()));
        cell.send(&CloudWork::new(number + 2_000, false)).await;
        cell.drained().await;
        cell.steps().await.len() > back
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn work_that_waits_goes_back_when_its_provider_its_model_or_its_tenant_is_switched_off() {
    let rows = [
        (json!({ "target": "double" }), true),
        (json!({ "model": "m-1" }), true),
        (json!({ "tenant": "acme", "target": "double", "model": "m-1" }), true),
        // Negative controls: another one's.
        (json!({ "target": "another" }), false),
        (json!({ "model": "m-2" }), false),
        (json!({ "tenant": "beta", "target": "double" }), false),
    ];
    let cell = Cell::start(vec![]).await;
    for (row, (switch, is_off)) in (1_u32..).zip(rows) {
        let (sent, back) = (cell.captured().len(), cell.steps().await.len());
        if !is_off {
            cell.answer_next(Answer::Say(good()));
        }
        // It lies in the queue, decided and signed, before the switch and before anybody takes it.
        let work = CloudWork::new(u128::from(row), false);
        cell.send(&work).await;
        let flags = json!({ "event": row, "switches": [switch] }).to_string();
        cell.router.kv_put(FLAGS_BUCKET, FLAGS_KEY, flags).await.unwrap();
        let worker = cell.worker().await;
        cell.drained().await;
        let (sent, steps) = (cell.captured().len() - sent, cell.steps().await.split_off(back));
        if is_off {
            assert_eq!((sent, steps.len()), (0, 1), "{switch}");
            assert_eq!(steps[0]["reason"], json!({ "reason": "off" }), "{switch}");
            assert!(cell.result(&work).await.is_none(), "the router decides anew");
        } else {
            assert_eq!((sent, steps.len()), (1, 0), "{switch}");
        }
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_paid_answer_waits_for_room_and_is_not_paid_for_again() {
    let cell = Cell::start_with(vec![Answer::Say(good()), Answer::Say(good())], 1 << 20).await;
    let mut number = 0;
    for bytes in [100_000, 10_000, 1_000, 100] {
        loop {
            number += 1;
            let subject = format!("result.acme.helpdesk.filler-{number}");
            match cell.router.publish(Outbound::new(subject, vec![b'x'; bytes])).await {
                Ok(_) => {}
                Err(PublishError::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let refusals = Refusals::default();
    let _counting = metrics::set_default_local_recorder(&refusals);
    let worker = cell.worker_with(CloudConfig { patience_ms: 300, ..cell.config() }).await;
    let work = CloudWork::new(1, false);
    cell.send(&work).await;
    until("the provider is asked", async || {
        cell.tick().await;
        cell.captured().len() == 1
    })
    .await;
    // The pauses before the sixth try add up to 4.6 s: far longer than the patience with anything else, and than the pause after
    // which put off work is taken up again.
    until("the result is refused six times", async || {
        cell.tick().await;
        refusals.count() >= 6
    })
    .await;
    assert!(cell.result(&work).await.is_none());
    let last = cell.router.stream_info(RESULTS).await.unwrap().last;
    let recorder = cell.bus(Identity::Role(Role::Recorder)).await;
    assert!(recorder.purge_before(RESULTS, last + 1).await.unwrap() > 0);
    cell.drained().await;
    assert_eq!(cell.result(&work).await.unwrap()["output"]["text"], "hello");
    assert_eq!(cell.captured().len(), 1, "asked once");
    assert_eq!(cell.attempts().await, strings(&[(1, "started")]));
    worker.stop().await;
}

#[tokio::test]
async fn a_withdrawal_stops_the_call() {
    let cell = Cell::start(vec![Answer::Hang]).await;
    let worker = cell.worker().await;
    let work = CloudWork::new(1, false);
    cell.send(&work).await;
    until("the provider was called", async || {
        cell.tick().await;
        cell.captured().len() == 1
    })
    .await;
    let subject = notice_cancel(&name("acme"), work.hop.id);
    cell.router.publish_core(&subject, &Headers::new(), "".into()).await.unwrap();
    cell.drained().await;
    assert_eq!(cell.attempts().await, strings(&[(1, "started"), (1, "late")]));
    assert!(cell.result(&work).await.is_none(), "the router ends what was withdrawn");
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_ends_its_call_first() {
    let cell = Cell::start(Vec::new()).await;
    let worker = cell.worker().await;
    let work = CloudWork::new(1, false);
    // The answer comes only after this note, which is published before the stop.
    let note = Outbound::new("review.default.acme", "{}");
    cell.answer_next(Answer::AfterPublishing(note, good()));
    cell.send(&work).await;
    until("the provider was called", async || {
        cell.tick().await;
        cell.captured().len() == 1
    })
    .await;
    let begun = Instant::now();
    assert!(worker.health.report().ready);
    worker.stop().await;
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(cell.result(&work).await.unwrap()["state"], "completed");
    let state = cell.router.consumer_info(WORK_CLOUD, "double").await.unwrap();
    assert_eq!((state.ack_pending, state.pending), (0, 0));
}
