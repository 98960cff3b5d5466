//! What is to be done, by kind.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::code::{Code, Refused};
use crate::ids::Name;
use crate::limits::{
    CHAT_MESSAGES_MAX, CLASSES_MAX, EMBED_TEXTS_MAX, PROMPT_VARIABLES_MAX, STOP_SEQUENCES_MAX,
    VARIABLE_NAME_BYTES_MAX,
};
use crate::sensitive::Sensitive;

mod rewrite;

/// Longest text that is told with its name, bytes: longer ones are prose.
const NAMED_BYTES_MAX: usize = 512;

/// Kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A conversation's next message.
    Chat,
    /// JSON by schema, out of a text.
    Extract,
    /// One of some labels, for a text.
    Classify,
    /// Vectors for texts.
    Embed,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Chat, Self::Extract, Self::Classify, Self::Embed];

    /// Reads the kind token of a subject.
    ///
    /// # Errors
    /// [`Code::UnknownKind`] with the kinds there are.
    pub fn parse(token: &str) -> Result<Self, Refused> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == token).ok_or_else(|| {
            Refused::new(Code::UnknownKind, "the kind must be one of chat, extract, classify, embed")
        })
    }

    /// The kind as a subject token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Extract => "extract",
            Self::Classify => "classify",
            Self::Embed => "embed",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The input of a task, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Input {
    /// A conversation.
    Chat(Chat),
    /// An extraction.
    Extract(Extract),
    /// A classification.
    Classify(Classify),
    /// Texts to embed.
    Embed(Embed),
    /// A prompt of the bundle, not rendered yet: the bundle that decides makes one of the others of it.
    Prompt(Prompted),
}

/// Work that is asked for by a prompt of the bundle, for the kinds chat, extract and classify.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prompted {
    /// Which prompt, and what is put into it.
    pub prompt: PromptCall,
    /// Most tokens to generate; what the prompt says where not given. A classification takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Whether tokens of a chat are wanted on `delta.…` while they come.
    #[serde(default)]
    pub stream: bool,
    /// The kind of work, from the subject.
    #[serde(skip, default = "chat")]
    #[schemars(skip)]
    pub kind: Kind,
}

/// A prompt and its variables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptCall {
    /// The prompt's name in the bundle.
    pub name: Name,
    /// Its variables, at most 32, by names of a-z, 0-9 and `_`. They are data: nothing in them is rendered.
    #[serde(default)]
    pub variables: BTreeMap<String, Sensitive<String>>,
}

const fn chat() -> Kind {
    Kind::Chat
}

/// Whether a text can name a variable: a-z, 0-9 and `_`, a letter first, at most 64 bytes.
#[must_use]
pub fn names_variable(text: &str) -> bool {
    text.len() <= VARIABLE_NAME_BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A conversation whose next message is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// The messages so far, 1 to 256.
    pub messages: Vec<ChatMessage>,
    /// Tool definitions in OpenAI's form, passed through to the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Sensitive<Value>>,
    /// How to choose tokens.
    #[serde(default)]
    pub sampling: Sampling,
    /// Whether tokens are wanted on `delta.…` while they come.
    #[serde(default)]
    pub stream: bool,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// Who says it.
    pub role: Role,
    /// What is said. `null`, as an assistant's message with tool calls has it, is nothing.
    #[serde(default, deserialize_with = "or_nothing")]
    #[schemars(with = "Option<Sensitive<String>>")]
    pub content: Sensitive<String>,
    /// Tool calls of an assistant's message in OpenAI's form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Sensitive<Value>>,
    /// The call that a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<Sensitive<String>>,
}

/// A text, or nothing where it is `null`.
fn or_nothing<'de, D: Deserializer<'de>>(reader: D) -> Result<Sensitive<String>, D::Error> {
    Ok(Option::<Sensitive<String>>::deserialize(reader)?.unwrap_or_default())
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator of the conversation.
    System,
    /// The person or agent who asks.
    User,
    /// The model.
    Assistant,
    /// A tool's answer.
    Tool,
}

impl Role {
    /// The role as chat templates and provider APIs name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Most tokens to generate; 256 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// 0 (always the likeliest) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Share of probability to choose from, above 0, at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Makes local sampling repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Texts that end the answer, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<Sensitive<String>>,
}

/// JSON wanted out of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extract {
    /// The text.
    pub text: Sensitive<String>,
    /// JSON Schema of the answer.
    pub schema: Sensitive<Value>,
    /// What to look for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Sensitive<String>>,
    /// Most tokens to generate; 256 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

/// One label wanted for a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// The text.
    pub text: Sensitive<String>,
    /// The labels to choose from, 2 to 64.
    pub classes: Vec<Sensitive<String>>,
    /// What decides between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Sensitive<String>>,
}

/// Vectors wanted for texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embed {
    /// The texts, 1 to 256.
    pub texts: Vec<Sensitive<String>>,
}

impl Input {
    /// Reads the input of a kind.
    ///
    /// # Errors
    /// [`Refused`] with where it stops being one, or the limit that was passed. Never quotes the input.
    pub fn read(kind: Kind, json: &str) -> Result<Self, Refused> {
        let input = match kind {
            kind if is_prompted(json) => serde_json::from_str(json)
                .map(|prompted: Prompted| Self::Prompt(Prompted { kind, ..prompted })),
            Kind::Chat => serde_json::from_str(json).map(Self::Chat),
            Kind::Extract => serde_json::from_str(json).map(Self::Extract),
            Kind::Classify => serde_json::from_str(json).map(Self::Classify),
            Kind::Embed => serde_json::from_str(json).map(Self::Embed),
        }
        .map_err(|error| {
            super::field(format!(
                "`input` of kind {kind}, by its own lines: {}",
                crate::json::sentence(&error)
            ))
        })?;
        input.check()?;
        Ok(input)
    }

    fn check(&self) -> Result<(), Refused> {
        let within = |count: usize, least: usize, most: usize, what: &str| {
            if (least..=most).contains(&count) {
                Ok(())
            } else {
                Err(super::field(format!("`{what}` must have {least} to {most} entries")))
            }
        };
        match self {
            Self::Chat(chat) => {
                within(chat.messages.len(), 1, CHAT_MESSAGES_MAX, "messages")?;
                chat.sampling.check()
            }
            Self::Extract(extract) => {
                super::output_tokens(extract.max_tokens)?;
                match extract.schema.expose().is_object() {
                    true => Ok(()),
                    false => Err(Refused::new(Code::InvalidSchema, "`schema` must be a JSON object")),
                }
            }
            Self::Classify(classify) => {
                within(classify.classes.len(), 2, CLASSES_MAX, "classes")?;
                let distinct: HashSet<&str> =
                    classify.classes.iter().map(|class| class.expose().trim()).collect();
                match distinct.len() == classify.classes.len() && !distinct.contains("") {
                    true => Ok(()),
                    false => Err(super::field("`classes` must differ, and none may be empty".to_owned())),
                }
            }
            Self::Embed(embed) => within(embed.texts.len(), 1, EMBED_TEXTS_MAX, "texts"),
            Self::Prompt(prompted) => prompted.check(),
        }
    }

    /// What kind of work it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Chat(_) => Kind::Chat,
            Self::Extract(_) => Kind::Extract,
            Self::Classify(_) => Kind::Classify,
            Self::Embed(_) => Kind::Embed,
            Self::Prompt(prompted) => prompted.kind,
        }
    }

    /// Every text in it, keys of nested JSON included: what a recogniser must see. Nothing is left out.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        match self {
            Self::Chat(chat) => {
                for message in &chat.messages {
                    texts.push(message.content.expose().as_str());
                    texts.extend(message.tool_call_id.as_ref().map(|id| id.expose().as_str()));
                    message.tool_calls.iter().for_each(|call| leaves(call.expose(), &mut texts));
                }
                chat.tools.iter().for_each(|tool| leaves(tool.expose(), &mut texts));
                texts.extend(chat.sampling.stop.iter().map(|stop| stop.expose().as_str()));
            }
            Self::Extract(extract) => {
                texts.push(extract.text.expose());
                texts.extend(extract.instructions.as_ref().map(|text| text.expose().as_str()));
                leaves(extract.schema.expose(), &mut texts);
            }
            Self::Classify(classify) => {
                texts.push(classify.text.expose());
                texts.extend(classify.classes.iter().map(|class| class.expose().as_str()));
                texts.extend(classify.instructions.as_ref().map(|text| text.expose().as_str()));
            }
            Self::Embed(embed) => texts.extend(embed.texts.iter().map(|text| text.expose().as_str())),
            Self::Prompt(prompted) => {
                texts.extend(prompted.prompt.variables.values().map(|text| text.expose().as_str()));
            }
        }
        texts
    }

    /// What stands under a name, with its name: `{"ssn": 123456789}` says by its key what neither part says alone, and a
    /// number is no text. For a recogniser, beside [`Self::texts`].
    #[must_use]
    pub fn named(&self) -> Vec<String> {
        let mut named = Vec::new();
        match self {
            Self::Chat(chat) => {
                let calls = chat.messages.iter().flat_map(|message| &message.tool_calls);
                calls.chain(&chat.tools).for_each(|value| entries("", value.expose(), &mut named));
            }
            Self::Extract(extract) => entries("", extract.schema.expose(), &mut named),
            Self::Prompt(prompted) => {
                for (name, value) in &prompted.prompt.variables {
                    named.push(entry(name, value.expose()));
                }
            }
            Self::Classify(_) | Self::Embed(_) => {}
        }
        named
    }

    /// The same with each of its texts replaced by what `with` makes of it, in the order of [`Input::texts`].
    #[must_use]
    pub fn map_texts(&self, with: &mut dyn FnMut(&str) -> String) -> Self {
        rewrite::input(self, with)
    }

    /// Whether tools are offered or used.
    #[must_use]
    pub fn uses_tools(&self) -> bool {
        matches!(self, Self::Chat(chat) if !chat.tools.is_empty()
            || chat.messages.iter().any(|m| m.role == Role::Tool || !m.tool_calls.is_empty()))
    }

    /// Whether the answer must follow a schema.
    #[must_use]
    pub fn wants_schema(&self) -> bool {
        match self {
            Self::Extract(_) | Self::Classify(_) => true,
            Self::Prompt(prompted) => prompted.kind != Kind::Chat,
            Self::Chat(_) | Self::Embed(_) => false,
        }
    }

    /// Whether tokens are wanted while they come.
    #[must_use]
    pub fn wants_stream(&self) -> bool {
        match self {
            Self::Chat(chat) => chat.stream,
            Self::Prompt(prompted) => prompted.stream,
            Self::Extract(_) | Self::Classify(_) | Self::Embed(_) => false,
        }
    }

    /// Bytes of all texts; four of them are about one token.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.texts().iter().map(|text| text.len()).sum()
    }
}

/// Whether an input names a prompt. What is no object says so when it is read.
fn is_prompted(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow, default)]
        prompt: Option<&'a RawValue>,
    }
    serde_json::from_str::<Peek<'_>>(json).is_ok_and(|peek| peek.prompt.is_some())
}

impl Prompted {
    fn check(&self) -> Result<(), Refused> {
        if self.kind == Kind::Embed {
            return Err(super::field("`prompt` is for chat, extract and classify; give `texts` to embed"));
        }
        if self.stream && self.kind != Kind::Chat {
            return Err(super::field("`stream` is for chat"));
        }
        if self.max_tokens.is_some() && self.kind == Kind::Classify {
            return Err(super::field("`max_tokens` is for chat and extract"));
        }
        let variables = &self.prompt.variables;
        if variables.len() > PROMPT_VARIABLES_MAX {
            return Err(super::field(format!("`variables` has more than {PROMPT_VARIABLES_MAX} entries")));
        }
        if !variables.keys().all(|name| names_variable(name)) {
            return Err(super::field(
                "`variables` are named by a-z, 0-9 and `_`, a letter first, at most 64 bytes",
            ));
        }
        super::output_tokens(self.max_tokens)
    }
}

/// Collects every key and string of a JSON value.
fn leaves<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, texts)),
        Value::Object(entries) => {
            for (key, item) in entries {
                texts.push(key);
                leaves(item, texts);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Collects every number, and every short string that stands under a key, with that key.
fn entries(key: &str, value: &Value, named: &mut Vec<String>) {
    match value {
        Value::String(text) if !key.is_empty() && text.len() <= NAMED_BYTES_MAX => {
            named.push(entry(key, text))
        }
        Value::Number(number) => named.push(entry(key, &number.to_string())),
        Value::Array(items) => items.iter().for_each(|item| entries(key, item, named)),
        Value::Object(members) => members.iter().for_each(|(key, item)| entries(key, item, named)),
        Value::String(_) | Value::Null | Value::Bool(_) => {}
    }
}

/// `date_of_birth` reads as its words.
fn entry(key: &str, value: &str) -> String {
    format!("{}: {value}", key.replace('_', " "))
}

impl Sampling {
    fn check(&self) -> Result<(), Refused> {
        super::output_tokens(self.max_tokens)?;
        if self.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err(super::field("`temperature` must be 0 to 2"));
        }
        if self.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Err(super::field("`top_p` must be above 0 and at most 1"));
        }
        if self.stop.len() > STOP_SEQUENCES_MAX || self.stop.iter().any(|stop| stop.expose().is_empty()) {
            return Err(super::field(format!(
                "`stop` must have at most {STOP_SEQUENCES_MAX} texts, none empty"
            )));
        }
        Ok(())
    }
}
