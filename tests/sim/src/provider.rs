//! Providers: they answer, fail, refuse, break off or are silent. What they are sent is looked at first.

use tidegate_providers::error::Wait;
use tidegate_providers::{Answer, Failure};
use tidegate_schemas::result::{Finish, Usage};

use crate::dice::Dice;

/// What came of one attempt, as the client sees it.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Answered(Box<Answer>),
    Failed {
        failure: Failure,
        /// Text of the answer was handed on before.
        published: bool,
        /// The pause that was asked for, milliseconds.
        retry_after: Option<i64>,
    },
}

const FAILURES: [Failure; 16] = [
    Failure::Connect,
    Failure::Timeout(Wait::Header),
    Failure::Timeout(Wait::Idle),
    Failure::Broken,
    Failure::Status(429),
    Failure::Status(500),
    Failure::Status(503),
    Failure::Status(400),
    Failure::Status(401),
    Failure::Redirect,
    Failure::Quota,
    Failure::TooLarge,
    Failure::Malformed,
    Failure::Truncated,
    Failure::InStream,
    Failure::ContextTooLong,
];

/// One answer in four that fails is a refusal of the content.
pub(crate) fn outcome(dice: &mut Dice, fault_per_mille: u32) -> Outcome {
    if !dice.chance(fault_per_mille) {
        return Outcome::Answered(Box::new(answer(dice)));
    }
    let failure = if dice.chance(200) { Failure::Refused } else { FAILURES[dice.below(FAILURES.len())] };
    let published = dice.chance(100) && !matches!(failure, Failure::Connect | Failure::Status(_));
    let retry_after = (failure == Failure::Status(429)).then(|| dice.between(100, 20_000));
    Outcome::Failed { failure, published, retry_after }
}

fn answer(dice: &mut Dice) -> Answer {
    let class = dice.chance(300);
    let text = if class { r#"{"class":"a"}"#.to_owned() } else { format!("answer {}", dice.below(1_000)) };
    Answer {
        text: text.into(),
        tool_calls: Vec::new(),
        finish: Finish::Stop,
        usage: Some(Usage { input_tokens: 5, output_tokens: 2, cached_tokens: 0 }),
        cost_usd_micros: Some(7),
        model: "m".to_owned(),
        request_id: None,
        first_text_ms: Some(3),
        run_ms: 9,
        attempts: 1,
    }
}
