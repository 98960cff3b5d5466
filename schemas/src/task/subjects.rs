//! Whose data a body says that it holds, of one that is no task too.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ids::Identifier;
use crate::limits::DATA_SUBJECTS_MAX;

/// The data subjects that a body names, as far as they can be read, at most 8. What is refused as a task holds somebody's data
/// all the same, and whoever asks that it be erased names these.
#[must_use]
pub fn named_subjects(payload: &[u8]) -> Vec<Identifier> {
    #[derive(Default, Deserialize)]
    struct Lenient<'a> {
        #[serde(borrow, default)]
        data_subjects: Vec<&'a RawValue>,
    }
    let said: Lenient<'_> = serde_json::from_slice(payload).unwrap_or_default();
    let read = |value: &RawValue| serde_json::from_str::<Identifier>(value.get()).ok();
    let mut named: Vec<Identifier> = Vec::new();
    for subject in said.data_subjects.into_iter().filter_map(read) {
        if !named.contains(&subject) && named.len() < DATA_SUBJECTS_MAX {
            named.push(subject);
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_no_task_says_whose_data_it_holds() {
        let nine: Vec<String> = (1..=9).map(|n| format!("c-{n}")).collect();
        let eight: Vec<&str> = nine[..8].iter().map(String::as_str).collect();
        let rows: [(String, &[&str]); 7] = [
            (r#"{"data_subjects":["c-1","c-2"],"input":7,"unknown":{}}"#.to_owned(), &["c-1", "c-2"]),
            (r#"{"data_subjects":["c-1",7,"","c-1",["c-3"]]}"#.to_owned(), &["c-1"]),
            (format!(r#"{{"data_subjects":{nine:?}}}"#), &eight),
            (r#"{"data_subjects":"c-1"}"#.to_owned(), &[]),
            (r#"{"input":{"data_subjects":["c-1"]}}"#.to_owned(), &[]),
            (r#"["c-1"]"#.to_owned(), &[]),
            ("no JSON".to_owned(), &[]),
        ];
        for (body, expected) in rows {
            let named = named_subjects(body.as_bytes());
            assert_eq!(named.iter().map(Identifier::as_str).collect::<Vec<_>>(), expected, "{body}");
        }
    }
}
