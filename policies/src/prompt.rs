//! Prompts: message templates of the bundle, and what a task puts into them (`prompts/<name>.toml`).
//!
//! Rendering is a pure function of prompt and variables. Variables are data: what stands in them is never rendered. Templates
//! know no file, no other template, no clock and no chance; what they may take is bounded by fuel.

use std::borrow::Cow;
use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, filters};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::PromptUsed;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::limits::RENDERED_BYTES_MAX;
use tidegate_schemas::task::{
    ByPrompt, Chat, ChatMessage, Classify, Extract, Input, Kind, Prompted, Role, Sampling, Task,
};

pub(crate) use check::{check, key};

mod check;
#[cfg(test)]
mod tests;

/// What rendering one message may take: an instruction costs 1, 64 bytes that are read or made cost 1.
const FUEL: u64 = 200_000;
/// Most prompts of a bundle, count.
pub const PROMPTS_MAX: usize = 256;
/// Most messages of a prompt, count.
pub const MESSAGES_MAX: usize = 16;
/// Prompts that are named where there is none of a name; the rest is counted.
const TOLD_MAX: usize = 8;
/// Longest template, bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;

/// A prompt, as the bundle describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// One plain phrase that says what it is for.
    pub title: String,
    /// Whom to ask about it.
    pub owner: String,
    /// Kind of work that it asks for: chat, extract or classify.
    #[serde(default = "chat")]
    pub kind: Kind,
    /// What a task puts into it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// The messages; of an extraction or a classification the text, and before it what is wanted.
    #[serde(rename = "message", default)]
    pub messages: Vec<Message>,
    /// JSON Schema of an extraction's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// The labels that a classification chooses from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Most tokens to generate, where the task does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// How a chat's tokens are chosen, thousandths: 0 (always the likeliest) to 2,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_milli: Option<u16>,
}

/// What a task puts into a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// The most characters that it may have.
    pub chars_max: usize,
    /// What stands there where the task does not say; without one the task must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it: system, user or assistant.
    pub role: Role,
    /// What is said: a template.
    pub content: String,
}

const fn chat() -> Kind {
    Kind::Chat
}

/// A bundle's prompts, compiled.
pub(crate) struct Prompts {
    environment: Environment<'static>,
    all: BTreeMap<Name, (Prompt, Digest)>,
    /// The bundle's owner, whom to ask for another.
    owner: String,
}

// === impl Prompt ===

impl Prompt {
    /// SHA-256 of its canonical form: comments, the order of entries and layout do not change it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let text = serde_json::to_value(self).map(|value| crate::bundle::canonical_text(&value));
        Digest::plain(text.unwrap_or_default().as_bytes())
    }

    /// Its templates as one text, for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for Message { role, content } in &self.messages {
            text.push_str(&format!("[{}]\n{content}\n", role.as_str()));
        }
        text
    }
}

// === impl Prompts ===

impl Prompts {
    /// Compiles them. What cannot be compiled is refused by [`check`] with its place before.
    pub(crate) fn new(prompts: &BTreeMap<Name, Prompt>, owner: &str) -> Result<Self, minijinja::Error> {
        let mut environment = environment();
        for (name, prompt) in prompts {
            for (at, message) in prompt.messages.iter().enumerate() {
                environment.add_template_owned(key(name, at), message.content.clone())?;
            }
        }
        let all = prompts.iter().map(|(name, prompt)| (name.clone(), (prompt.clone(), prompt.hash())));
        Ok(Self { environment, all: all.collect(), owner: owner.to_owned() })
    }

    /// The task as it is to be judged and run: as it came, or with the input that its prompt makes.
    pub(crate) fn rendered<'t>(&self, task: &'t Task) -> Result<Cow<'t, Task>, Refused> {
        let Input::Prompt(asked) = &task.input else { return Ok(Cow::Borrowed(task)) };
        let (input, by) = self.render(asked)?;
        let mut task = task.clone();
        (task.input, task.by_prompt) = (input, Some(by));
        Ok(Cow::Owned(task))
    }

    /// Renders a prompt. Refusals are in our words only: they quote neither names nor variables.
    pub(crate) fn render(&self, asked: &Prompted) -> Result<(Input, ByPrompt), Refused> {
        let name = &asked.prompt.name;
        let unknown = || Refused::new(Code::UnknownPrompt, self.unknown(asked.kind));
        let (prompt, hash) = self.all.get(name).ok_or_else(unknown)?;
        if prompt.kind != asked.kind {
            return Err(unknown());
        }
        let said = filled(prompt, asked)?;
        let mut messages = Vec::with_capacity(prompt.messages.len());
        let mut bytes = 0;
        for (at, message) in prompt.messages.iter().enumerate() {
            let text = self.message(&key(name, at), &said)?;
            bytes += text.len();
            if bytes > RENDERED_BYTES_MAX {
                return Err(too_large());
            }
            messages.push((message.role, text));
        }
        let by = ByPrompt {
            prompt: PromptUsed { name: name.clone(), hash: *hash },
            owner: prompt.owner.clone(),
            variables: said.values().map(|text| (*text).to_owned().into()).collect(),
        };
        Ok((input(prompt, asked, messages), by))
    }

    /// What there is instead, in the bundle's words.
    fn unknown(&self, kind: Kind) -> String {
        let of_kind = self.all.iter().filter(|(_, (prompt, _))| prompt.kind == kind);
        let names: Vec<String> = of_kind.map(|(name, _)| format!("`{name}`")).collect();
        let more = names.len().saturating_sub(TOLD_MAX);
        let told = match names.get(..TOLD_MAX).unwrap_or(&names).join(", ") {
            none if none.is_empty() => "none".to_owned(),
            some if more > 0 => format!("{some} and {more} more"),
            some => some,
        };
        let owner = &self.owner;
        format!(
            "the bundle that decides has no such prompt for this kind of work; it has {told}; ask its owner, {owner}, for another"
        )
    }

    fn message(&self, key: &str, said: &BTreeMap<&str, &str>) -> Result<String, Refused> {
        let template = self.environment.get_template(key).map_err(|error| failed(&error))?;
        let scope: BTreeMap<&str, minijinja::Value> =
            said.iter().map(|(name, text)| (*name, minijinja::Value::from(*text))).collect();
        template.render(scope).map_err(|error| failed(&error))
    }
}

/// What templates may use: conditions, loops and a few filters on texts whose work is metered; nothing else.
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("lines", filters::lines);
    environment.add_filter("length", filters::length);
    environment
}

/// Every variable of a prompt, as the task says or by its default.
fn filled<'a>(prompt: &'a Prompt, asked: &'a Prompted) -> Result<BTreeMap<&'a str, &'a str>, Refused> {
    let refused = |sentence: String| Refused::new(Code::InvalidVariables, sentence);
    let given = &asked.prompt.variables;
    if given.keys().any(|name| !prompt.variables.contains_key(name)) {
        return Err(refused("a variable is given that the prompt does not have; leave it out".to_owned()));
    }
    let mut said = BTreeMap::new();
    for (name, variable) in &prompt.variables {
        let text = given.get(name).map(|text| text.expose().as_str()).or(variable.default.as_deref());
        // The name is the bundle's word, not the producer's.
        let text = text.ok_or_else(|| refused(format!("the prompt needs the variable `{name}`")))?;
        if text.len() > variable.chars_max && text.chars().count() > variable.chars_max {
            let most = variable.chars_max;
            return Err(refused(format!("the variable `{name}` may have at most {most} characters")));
        }
        said.insert(name.as_str(), text);
    }
    Ok(said)
}

fn too_large() -> Refused {
    let sentence = format!("the prompt renders to more than {RENDERED_BYTES_MAX} bytes; send less");
    Refused::new(Code::TooLarge, sentence)
}

/// What the template engine says may quote variables: it stays here.
fn failed(error: &minijinja::Error) -> Refused {
    let sentence = match error.kind() {
        ErrorKind::OutOfFuel => "the prompt takes more work with these variables than it may; send less",
        _ => "the prompt could not be rendered with these variables; its owner must look at it",
    };
    Refused::new(Code::PromptFailed, sentence)
}

/// The input of the prompt's kind. [`check`] has seen that its messages have the form of the kind.
fn input(prompt: &Prompt, asked: &Prompted, messages: Vec<(Role, String)>) -> Input {
    let max_tokens = asked.max_tokens.or(prompt.max_tokens);
    if prompt.kind == Kind::Chat {
        let message = |(role, content): (Role, String)| ChatMessage {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        };
        let temperature = prompt.temperature_milli.map(|milli| f64::from(milli) / 1_000.0);
        return Input::Chat(Chat {
            messages: messages.into_iter().map(message).collect(),
            tools: Vec::new(),
            sampling: Sampling { max_tokens, temperature, ..Sampling::default() },
            stream: asked.stream,
        });
    }
    let (mut instructions, mut text) = (None, String::new());
    for (role, content) in messages {
        match role {
            Role::System => instructions = Some(content.into()),
            _ => text = content,
        }
    }
    if prompt.kind == Kind::Classify {
        let classes = prompt.classes.iter().map(|class| class.clone().into()).collect();
        return Input::Classify(Classify { text: text.into(), classes, instructions });
    }
    let schema = prompt.schema.clone().unwrap_or_default().into();
    Input::Extract(Extract { text: text.into(), schema, instructions, max_tokens })
}
