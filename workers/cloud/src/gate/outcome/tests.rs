#![expect(clippy::panic, reason = "tests")]

use super::*;

#[test]
fn breaker_counts_what_is_the_place_s_own_fault_and_budget_what_may_have_been_used() {
    let asked = Used::Counted(Amounts { requests: 1, ..Amounts::default() });
    let rows = [
        // Nothing left.
        (Failure::Connect, Used::Nothing, Health::Down),
        (Failure::Timeout(Wait::Connect), Used::Nothing, Health::Down),
        (Failure::Address, Used::Nothing, Health::Unknown),
        (Failure::Halted, Used::Nothing, Health::Unknown),
        // Nobody knows what was generated, and perhaps charged for.
        (Failure::Timeout(Wait::Header), Used::All, Health::Down),
        (Failure::Timeout(Wait::Idle), Used::All, Health::Down),
        (Failure::Silent, Used::All, Health::Down),
        // A gateway that gave up on what it had passed on.
        (Failure::Status(408), Used::All, Health::Down),
        (Failure::Status(502), Used::All, Health::Down),
        (Failure::Status(504), Used::All, Health::Down),
        (Failure::Broken, Used::All, Health::Down),
        (Failure::Truncated, Used::All, Health::Down),
        (Failure::InStream, Used::All, Health::Down),
        (Failure::Malformed, Used::All, Health::Down),
        (Failure::Canceled, Used::All, Health::Unknown),
        (Failure::Deadline, Used::All, Health::Unknown),
        // An error instead of an answer.
        (Failure::Status(500), asked, Health::Down),
        (Failure::Status(503), asked, Health::Down),
        (Failure::Quota, asked, Health::Down),
        (Failure::Status(429), asked, Health::Unknown),
        // The caller's own fault: the place answers.
        (Failure::Status(400), asked, Health::Up),
        (Failure::Status(401), asked, Health::Up),
        (Failure::ContextTooLong, asked, Health::Up),
        (Failure::Refused, Used::All, Health::Up),
    ];
    for (failure, used, health) in rows {
        assert_eq!(Outcome::of_failure(failure), Outcome { used, health }, "{failure:?}");
    }
}

#[test]
fn budget_counts_what_the_provider_told_and_else_what_was_reserved() {
    let most = Amounts { requests: 1, tokens: 100, usd_micros: 50 };
    let error = |usage, cost_usd_micros| ProviderError {
        failure: Failure::Refused,
        attempts: 1,
        published: false,
        request_id: None,
        usage,
        cost_usd_micros,
    };
    let usage = Usage { input_tokens: 5, output_tokens: 2, cached_tokens: 1 };
    let used = |error: &ProviderError| Outcome::of_error(error, most).used;
    let counted = |tokens, usd_micros| Used::Counted(Amounts { requests: 1, tokens, usd_micros });
    assert_eq!(used(&error(Some(usage), Some(17))), counted(7, 17));
    assert_eq!(used(&error(Some(usage), None)), counted(7, 50), "a price that nobody knows");
    assert_eq!(used(&error(None, None)), Used::All);
}

#[test]
fn budget_believes_a_provider_up_to_a_multiple_of_what_its_request_can_use() {
    let most = Amounts { requests: 1, tokens: 100, usd_micros: 50 };
    let told = |tokens, cost| {
        let usage = Usage { input_tokens: tokens, output_tokens: tokens, cached_tokens: 0 };
        match counted(Some(usage), Some(cost), most) {
            Used::Counted(used) => (used.tokens, used.usd_micros),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told(u64::MAX, u64::MAX), (800, 400), "one answer fills no window by itself");
    assert_eq!(told(400, 400), (800, 400));
    assert_eq!(told(399, 399), (798, 399), "negative control: more than was reserved, and believed");
}
