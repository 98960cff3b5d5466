//! The labels of a token classifier, from its `config.json`: `O`, `B-…` where something begins, `I-…` inside of it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Most labels that a model may have.
const LABELS_MAX: usize = 512;

/// Labels by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Option<Label>>);

/// A label that is not `O`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// What it is, in lower case.
    pub(crate) entity: String,
    /// Whether something new begins.
    pub(crate) begins: bool,
}

#[derive(Deserialize)]
struct Shape {
    id2label: BTreeMap<String, String>,
}

impl Labels {
    pub(crate) fn read(config: &[u8]) -> Result<Self, String> {
        let shape: Shape = serde_json::from_slice(config)
            .map_err(|error| format!("config.json beside it names no labels: {error}"))?;
        let count = shape.id2label.len();
        let at = |index: usize| shape.id2label.get(&index.to_string());
        let labels: Option<Vec<_>> = (0..count).map(|index| at(index).map(|text| label(text))).collect();
        match labels {
            Some(labels) if (2..=LABELS_MAX).contains(&count) => Ok(Self(labels)),
            _ => Err("config.json beside it does not number its labels from 0".to_owned()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The label at an index; `None`: nothing.
    pub(crate) fn get(&self, index: usize) -> Option<&Label> {
        self.0.get(index)?.as_ref()
    }
}

fn label(text: &str) -> Option<Label> {
    let (prefix, entity) = text.split_once('-')?;
    let entity = entity.to_ascii_lowercase();
    Some(Label { entity, begins: prefix.eq_ignore_ascii_case("b") })
}
