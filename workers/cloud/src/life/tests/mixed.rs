//! Messages whose parts are well, each by itself, and belong to different messages; and messages that come again.

use std::collections::BTreeSet;

use super::*;

/// What a stream does with claims: the same id is stored once.
#[derive(Default)]
struct Claims(BTreeSet<String>);

impl Claims {
    fn store(&mut self, message: &Message) -> Sent {
        if self.0.insert(message.msg_id.clone()) { Sent::Stored } else { Sent::Duplicate }
    }
}

/// How many attempts a message is let begin, where each fails and is tried again.
fn opened_by(message: &Arrived, known: &Known, claims: &mut Claims, has_result: bool) -> u32 {
    let (mut life, mut step) = Life::begin(message, &known.context());
    let mut opened = 0;
    loop {
        step = match step.action {
            Action::Look(_) => life.next(Event::Looked(has_result), &known.context()),
            Action::Call(_) => life.next(attempting(), &known.context()),
            Action::Admit(_) => life.next(admitted(), &known.context()),
            Action::Claim(claim) => {
                let sent = claims.store(&claim);
                life.next(Event::Claimed(sent), &known.context())
            }
            Action::Open => {
                opened += 1;
                let _ = life.next(Event::Retrying(Failure::Status(503)), &known.context());
                life.next(attempting(), &known.context())
            }
            Action::Shut => life.next(called(Err(error(Failure::Halted))), &known.context()),
            Action::Send(_) => life.next(Event::Sent(Sent::Stored), &known.context()),
            Action::Note(_) | Action::Done(_) => return opened,
        };
    }
}

/// A message with one header of another.
fn with_header(message: Arrived, name: &'static str, from: &Arrived) -> Arrived {
    let headers = message.headers.clone().with(name, from.headers.get(name).unwrap());
    Arrived { headers, ..message }
}

/// Two pieces of work that are well; the second differs in what the number says.
fn pair(number: u128) -> [Arrived; 2] {
    let one = CloudWork::new(number * 2, false);
    let other = CloudWork::new(number * 2 + 1, false).with(|work| {
        work.bytes = format!("{{\"model\":\"m-1\",\"n\":{number}}}").into_bytes();
        work.claims.content = work.salt.digest(&work.bytes);
        work.claims.content_bytes = work.bytes.len() as u64;
        work.decision.content = Some(work.claims.content);
    });
    [arrived(&one), arrived(&other)]
}

#[test]
fn ticket_of_one_message_opens_no_other() {
    let known = Known::new();
    for number in 1..200 {
        let [one, other] = pair(number);
        let mixed = [
            ("ticket", with_header(one.clone(), header::TICKET, &other)),
            ("decision", with_header(one.clone(), header::DECISION, &other)),
            ("task", with_header(one.clone(), header::TASK_ID, &other)),
            ("payload", Arrived { payload: other.payload.clone(), ..one.clone() }),
            (
                "payload and decision",
                Arrived {
                    payload: other.payload.clone(),
                    ..with_header(one.clone(), header::DECISION, &other)
                },
            ),
            ("all but the task", with_header(other.clone(), header::TASK_ID, &one)),
            ("subject", Arrived { subject: "work.cloud.double.interactive.beta".into(), ..one.clone() }),
            ("provider", Arrived { subject: "work.cloud.other.interactive.acme".into(), ..one.clone() }),
        ];
        for (what, message) in mixed {
            assert_eq!(opened_by(&message, &known, &mut Claims::default(), false), 0, "{what} of {number}");
        }
        // Negative control: both are well.
        for message in [one, other] {
            assert_eq!(opened_by(&message, &known, &mut Claims::default(), false), 3);
        }
    }
}

#[test]
fn ticket_that_is_used_up_opens_nothing_however_often_it_comes_again() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let message = arrived(&work);
    let again = Arrived { position: Position::new("WORK_CLOUD", 8), ..message.clone() };
    let mut claims = Claims::default();
    assert_eq!(opened_by(&message, &known, &mut claims, false), work.claims.attempts_max);
    for _ in 0..50 {
        assert_eq!(opened_by(&message, &known, &mut claims, false), 0, "delivered again");
        assert_eq!(opened_by(&again, &known, &mut claims, false), 0, "stored again at another place");
    }
    assert_eq!(opened_by(&again, &known, &mut Claims::default(), true), 0, "the task has a result");
    // Negative control: without the memory of claims each copy would be sent.
    assert_eq!(opened_by(&again, &known, &mut Claims::default(), false), work.claims.attempts_max);
}

#[test]
fn ticket_whose_key_was_retired_opens_nothing() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let ended: Vec<_> = known.verifier.trusted().to_vec();
    let now = Timestamp::now();
    known.verifier.trust(tidegate_schemas::ticket::TrustedKey::retired(&ended, "none", now));
    let (life, step) = Life::begin(&arrived(&work), &Known::new().context());
    assert!(matches!(step.action, Action::Look(_)), "negative control: another verifier, whose key counts");
    drop(life);
    let late = Context { now: now + jiff::SignedDuration::from_secs(1), ..known.context() };
    let (life, step) = Life::begin(&arrived(&work), &late);
    // Its work goes back: who asked waits for a ticket of the next key, and not for nothing.
    assert!(matches!(&step.action, Action::Send(message) if message.subject == "step.cloud.acme"));
    assert_eq!(life.refusal(), Some("retired"));
}
