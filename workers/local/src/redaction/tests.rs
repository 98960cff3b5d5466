#![expect(clippy::unwrap_used, reason = "tests")]

use tidegate_schemas::live::Delta;
use tidegate_schemas::sensitive::Sensitive;

use super::follow::Pieces;
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
