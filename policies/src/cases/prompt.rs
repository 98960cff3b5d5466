//! Cases of prompts: rows of variables → messages, and what an answer to them must have.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_schemas::code::Refused;
use tidegate_schemas::ids::Name;
use tidegate_schemas::render;
use tidegate_schemas::task::{ChatMessage, Input, Kind, PromptCall, Prompted, Role};

use super::Ran;
use crate::judge::Judge;
use crate::prompt::{Message, Prompts};

/// Largest expression that an answer is held against, bytes compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// One case of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptCase {
    /// What it shows, in words.
    pub name: String,
    /// The prompt.
    pub prompt: Name,
    /// What is put into it.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The messages that must come out, exactly.
    pub renders: Vec<Message>,
    /// What an answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ExpectedAnswer>,
}

/// What an answer must have. What is not given is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedAnswer {
    /// Texts that must be in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Texts that must not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// A regular expression that must match somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// It must be one of these; of a classification, its class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// It must be JSON, with each field that the prompt's schema requires.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub schema: bool,
}

impl PromptCase {
    /// What a task would ask for.
    fn asked(&self, kind: Kind) -> Prompted {
        let variables = self.variables.iter().map(|(name, text)| (name.clone(), text.clone().into()));
        let call = PromptCall { name: self.prompt.clone(), variables: variables.collect() };
        Prompted { prompt: call, max_tokens: None, stream: false, kind }
    }

    /// The input that its prompt makes.
    ///
    /// # Errors
    /// Why it does not render.
    pub fn input(&self, judge: &Judge) -> Result<Input, Refused> {
        self.rendered(judge.bundle().prompt(&self.prompt).map(|prompt| prompt.kind), judge.prompts())
    }

    pub(crate) fn rendered(&self, kind: Option<Kind>, prompts: &Prompts) -> Result<Input, Refused> {
        Ok(prompts.render(&self.asked(kind.unwrap_or(Kind::Chat)))?.0)
    }

    /// Renders it, and holds that against what must come out.
    #[must_use]
    pub fn run(&self, judge: &Judge) -> Ran {
        let differences = match self.input(judge) {
            Err(refused) => vec![format!("it does not render: {}", refused.sentence)],
            Ok(input) => differences(&self.renders, &messages(&input)),
        };
        Ran { differences, ..Ran::unasked(self.name.clone(), String::new()) }
    }

    /// What of its expectations cannot be used.
    pub(crate) fn fault(&self) -> Option<String> {
        let pattern = self.answer.as_ref().and_then(|answer| answer.matches.as_deref())?;
        compiled(pattern).err()
    }

    /// What of an answer is not as it must be, in words that quote nothing of it.
    #[must_use]
    pub fn differs(&self, answer: &str, schema: Option<&Value>) -> Vec<String> {
        let Some(expected) = &self.answer else { return Vec::new() };
        let class: Option<String> = serde_json::from_str::<Value>(answer)
            .ok()
            .and_then(|value| value.get("class")?.as_str().map(str::to_owned));
        let said = class.as_deref().unwrap_or(answer).trim();
        let mut found = Vec::new();
        found.extend(
            expected
                .contains
                .iter()
                .filter(|text| !answer.contains(*text))
                .map(|text| format!("the answer has no {text:?}")),
        );
        found.extend(
            expected
                .lacks
                .iter()
                .filter(|text| answer.contains(*text))
                .map(|text| format!("the answer has {text:?}")),
        );
        if let Some(pattern) = &expected.matches
            && !compiled(pattern).is_ok_and(|pattern| pattern.is_match(answer))
        {
            found.push(format!("the answer does not match {pattern:?}"));
        }
        if !expected.one_of.is_empty() && !expected.one_of.iter().any(|one| one == said) {
            found.push(format!("the answer is none of {:?}", expected.one_of));
        }
        if expected.schema {
            found.extend(lacking(answer, schema));
        }
        found
    }
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| format!("`matches` is no usable expression: {error}"))
}

/// What an answer lacks of a schema.
fn lacking(answer: &str, schema: Option<&Value>) -> Option<String> {
    let Ok(value) = serde_json::from_str::<Value>(answer) else {
        return Some("the answer is no JSON".to_owned());
    };
    let required = schema.and_then(|schema| schema.get("required")).and_then(Value::as_array);
    let mut names = required.into_iter().flatten().filter_map(Value::as_str);
    names.find(|name| value.get(name).is_none()).map(|name| format!("the answer lacks the field `{name}`"))
}

/// The messages that a prompt made, as its case writes them.
fn messages(input: &Input) -> Vec<Message> {
    let message = |role, text: &str| Message { role, content: text.to_owned() };
    let asked = |instructions: Option<&String>, text: &str| {
        let wanted = instructions.map(|wanted| message(Role::System, wanted));
        wanted.into_iter().chain([message(Role::User, text)]).collect()
    };
    match input {
        Input::Chat(chat) => {
            let of = |said: &ChatMessage| message(said.role, said.content.expose());
            chat.messages.iter().map(of).collect()
        }
        Input::Extract(extract) => {
            asked(extract.instructions.as_ref().map(|text| text.expose()), extract.text.expose())
        }
        Input::Classify(classify) => {
            asked(classify.instructions.as_ref().map(|text| text.expose()), classify.text.expose())
        }
        Input::Embed(_) | Input::Prompt(_) => Vec::new(),
    }
}

fn differences(wanted: &[Message], got: &[Message]) -> Vec<String> {
    if wanted.len() != got.len() {
        return vec![format!("messages: expected {}, got {}", wanted.len(), got.len())];
    }
    let pairs = wanted.iter().zip(got).enumerate().filter(|(_, (wanted, got))| wanted != got);
    let told = |(at, (wanted, got)): (usize, (&Message, &Message))| {
        let said = |m: &Message| format!("{} {:?}", m.role.as_str(), m.content);
        format!("message {}: expected {}, got {}", at + 1, said(wanted), said(got))
    };
    pairs.map(told).collect()
}

/// The conversation that a case asks a model, and the schema that holds its answer.
///
/// # Errors
/// Why it does not render.
pub fn conversation(
    case: &PromptCase,
    judge: &Judge,
) -> Result<(tidegate_schemas::task::Chat, Option<Value>), Refused> {
    let input = case.input(judge)?;
    Ok((render::as_chat(&input)?, render::schema(&input)))
}
