//! A task's message that makes the router fail again and again: what is published and told when it is given up. Only its
//! subject and headers are looked at, because reading its payload may be what fails.

use jiff::Timestamp;
use tidegate_bus::{Dead, Inbound, Outbound, Telling};
use tidegate_schemas::code::Code;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Identifier, Name, ReplyToken, TaskId};
use tidegate_schemas::live::Transition;
use tidegate_schemas::result::{ResultError, State, TaskResult};
use tidegate_schemas::subject::{self, Subject};

/// The dead letter; for a task its failed result too, and what tells those who wait.
pub(crate) fn dead(message: &Inbound, now: Timestamp) -> Dead {
    let dead = Dead::new(Code::Poison, "the message made the router fail again and again; it was given up");
    let Ok(Subject::Task { tenant, agent, .. }) = Subject::parse(&message.subject) else { return dead };
    let (id, external_id) = named(message, &tenant, &agent);
    let error = ResultError {
        code: Code::Poison,
        message: "the task made the router fail again and again; it was given up".into(),
        retry_after_ms: None,
    };
    let result = TaskResult {
        external_id,
        ..TaskResult::ended(tenant.clone(), agent.clone(), id, State::Failed, error)
    }
    .timed(message.published, now);
    let cause = message.position().to_string();
    let base = Headers::new()
        .with(header::CAUSE, cause.clone())
        .with(header::TASK, cause)
        .with(header::TASK_ID, id.to_string())
        .with(header::AGENT, agent.as_str())
        .with("content-type", "application/json");
    let headers = result.headers(base, None);
    let payload = serde_json::to_vec(&result).unwrap_or_default();
    let told = Telling {
        subject: subject::state(&tenant, &agent, id),
        headers: Headers::new(),
        payload: serde_json::to_vec(&Transition::new(id, State::Failed, None)).unwrap_or_default().into(),
    };
    let token = message.header(header::REPLY).and_then(|text| ReplyToken::new(text).ok());
    let reply = token.map(|token| Telling {
        subject: subject::reply(&tenant, &agent, &token),
        headers: headers.clone(),
        payload: payload.clone().into(),
    });
    let tell = std::iter::once(told).chain(reply).collect();
    let subject = Subject::Result { tenant: tenant.clone(), agent: agent.clone(), task: id }.to_string();
    let outbound = Outbound::new(subject, payload)
        .with_id(format!("{tenant}/{agent}/{id}/poison/0"))
        .with_headers(headers);
    Dead { tell, ..dead.with_result(id, outbound) }
}

/// The id that the headers name, else one from where the message stands.
fn named(message: &Inbound, tenant: &Name, agent: &Name) -> (TaskId, Option<Identifier>) {
    let headers = message.read_headers().unwrap_or_default();
    let named = headers.get(header::ID).and_then(|text| TaskId::named(tenant, agent, text).ok());
    named.unwrap_or_else(|| (TaskId::from_position(&message.position()), None))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    const UUID: &str = "019a4000-0000-7000-8000-000000000001";

    fn message(subject: &str, headers: &[(&str, &str)]) -> Inbound {
        Inbound {
            stream: "TASKS_acme".into(),
            consumer: "router".into(),
            sequence: 7,
            consumer_sequence: 9,
            subject: subject.into(),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            // Reading this is not tried: it would say another id, and where to answer.
            payload: br#"{"id":"019a4000-0000-7000-8000-000000000002","reply":"body"}"#.as_slice().into(),
            delivered: 6,
            published: "2026-11-23T12:00:00Z".parse().unwrap(),
            pending: 0,
        }
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:01Z".parse().unwrap()
    }

    #[test]
    fn who_waits_for_a_task_that_is_poison_is_told_by_its_headers() {
        let position = TaskId::from_position(&message("x", &[]).position()).to_string();
        let derived = TaskId::named(&Name::new("acme").unwrap(), &Name::new("helpdesk").unwrap(), "order-9");
        let derived = derived.unwrap().0.to_string();
        let table: [(Pairs<'_>, &str, bool); 4] = [
            (&[("Ce-Id", UUID), ("Tidegate-Reply", "r1")], UUID, true),
            (&[("ce-id", "order-9"), ("tidegate-reply", "r1")], &derived, true),
            (&[("tidegate-reply", "no token!")], &position, false),
            (&[("ce-id", UUID), ("CE-ID", UUID), ("tidegate-reply", "r1")], &position, true),
        ];
        for (headers, id, replies) in table {
            let dead = dead(&message("task.acme.helpdesk.chat", headers), now());
            assert_eq!(
                (dead.code, dead.task.unwrap().to_string().as_str()),
                (Code::Poison, id),
                "{headers:?}"
            );
            let [sent] = dead.results.as_slice() else { panic!("one result: {:?}", dead.results) };
            assert_eq!(sent.subject, format!("result.acme.helpdesk.{id}"));
            assert_eq!(sent.headers.get(header::CAUSE), Some("TASKS_acme:7"));
            let result: TaskResult = serde_json::from_slice(&sent.payload).unwrap();
            assert_eq!((result.state, result.error.unwrap().code), (State::Failed, Code::Poison));
            assert_eq!(result.timings.total_ms, 1_000);
            assert_eq!(dead.tell[0].subject, format!("state.acme.helpdesk.{id}"));
            let reply = dead.tell.get(1);
            assert_eq!(reply.map(|told| told.subject.as_str()), replies.then_some("reply.acme.helpdesk.r1"));
            assert!(reply.is_none_or(|told| told.payload == sent.payload), "the result itself");
        }
    }

    #[test]
    fn what_is_no_task_has_a_dead_letter_only() {
        for subject in ["step.cloud.acme", "cancel.acme.helpdesk.order-9", "verdict.default.acme.alice"] {
            let dead = dead(&message(subject, &[("ce-id", UUID), ("tidegate-reply", "r1")]), now());
            assert!(dead.task.is_none() && dead.results.is_empty() && dead.tell.is_empty(), "{subject}");
        }
    }
}
