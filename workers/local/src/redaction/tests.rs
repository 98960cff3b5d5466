#![expect(clippy::unwrap_used, reason = "tests")]

use tidegate_schemas::ids::Name;
use tidegate_schemas::live::Delta;
use tidegate_schemas::redact::Token;
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::vault::VALUES_MAX;

use super::follow::Pieces;
use super::home::to_ask;
use super::job::Known;

const TOKEN: &str = "<EMAIL_k7f3q2xa>";

fn known() -> Known {
    [(TOKEN.parse().unwrap(), Sensitive::new("jane@example.org".to_owned()))].into()
}

fn delta(attempt: u32, index: u32, text: &str) -> Delta<'_> {
    Delta { attempt, index, text: text.into(), last: text.is_empty() }
}

#[test]
fn redact_streams_values_in_the_place_of_tokens_at_every_split() {
    let known = known();
    let text = format!("Write to {TOKEN} — ü.");
    for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
        let mut pieces = Pieces::new(&known);
        let mut told = Vec::new();
        for (index, part) in [&text[..cut], &text[cut..], ""].into_iter().enumerate() {
            if index < 2 && part.is_empty() {
                continue;
            }
            told.extend(pieces.next(&delta(1, u32::try_from(index).unwrap(), part)));
        }
        let whole: String = told.iter().map(|piece| piece.text.as_ref()).collect();
        assert_eq!(whole, "Write to jane@example.org — ü.", "cut at {cut}");
        let indices: Vec<u32> = told.iter().map(|piece| piece.index).collect();
        assert_eq!(indices, (0..u32::try_from(told.len()).unwrap()).collect::<Vec<_>>(), "none is missing");
        assert_eq!(told.iter().filter(|piece| piece.last).count(), 1);
    }
}

#[test]
fn redact_begins_anew_with_another_attempt() {
    let known = known();
    let mut pieces = Pieces::new(&known);
    assert!(pieces.next(&delta(1, 0, "<EMAIL_k7f3")).is_empty(), "held back");
    let told = pieces.next(&delta(2, 0, "q2xa> hello"));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].attempt, told[0].index, told[0].text.as_ref()), (2, 0, "q2xa> hello"));
}

#[test]
fn restore_asks_first_about_the_tokens_that_came_back() {
    let real: Token = "<EMAIL_zzzzzzzz>".parse().unwrap();
    let entity = Name::new("email").unwrap();
    // A text full of what only looks like a token, all of it before the real one.
    let numbers = 0..u64::try_from(2 * VALUES_MAX).unwrap();
    let mut left: Vec<Token> = numbers.map(|number| Token::new(&entity, number)).collect();
    left.push(real.clone());
    left.sort_unstable();
    let asked = to_ask(&left, r#"{"text":"Write to <EMAIL_zzzzzzzz>."}"#);
    assert_eq!((asked.len(), asked.first()), (VALUES_MAX, Some(&real)));
    assert!(!to_ask(&left, "Nothing.").contains(&real), "negative control: there are too many");
    assert_eq!(to_ask(&left[..3], ""), left[..3], "those that did not come back are asked about too");
}
