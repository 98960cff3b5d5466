//! The chat template of the model file, rendered as Hugging Face's tools render it.
//!
//! Names in scope: `messages`, `tools`, `add_generation_prompt`, `bos_token`, `eos_token`, `enable_thinking` (false:
//! answers only), the functions `raise_exception` and `strftime_now`, and Python's methods on texts, lists and maps.

#[cfg(test)]
mod tests;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;

use crate::error::EngineError;
use crate::job::ChatMessage;
use crate::tokenizer::Tokenizer;

const NAME: &str = "chat";
/// Tool definitions may nest this deep.
const MAX_TOOL_DEPTH: usize = 32;

/// A compiled chat template.
pub(crate) struct Template {
    environment: Environment<'static>,
}

/// A message as the template sees it.
#[derive(Serialize)]
struct Shielded<'a> {
    role: &'a str,
    content: std::borrow::Cow<'a, str>,
}

impl Template {
    /// Compiles `source`. The error never holds more than the kind and the line.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| place(&error))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |_message: String| -> Result<Value, Error> {
            // The template's message may quote the conversation: it stays here.
            Err(Error::new(ErrorKind::InvalidOperation, "refused by the template"))
        });
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| place(&error))?;
        Ok(Self { environment })
    }

    /// Renders the conversation up to where the model speaks, with look-alikes of control tokens shielded.
    pub(crate) fn render(
        &self,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        tools: Option<&serde_json::Value>,
    ) -> Result<String, EngineError> {
        let shielded: Vec<_> = messages
            .iter()
            .map(|message| Shielded { role: &message.role, content: tokenizer.shield(&message.content) })
            .collect();
        let tools = tools.map(|tools| shield_tools(tokenizer, tools, 0)).transpose()?;
        let (bos_token, eos_token) = tokenizer.names();
        let scope = context! {
            messages => Value::from(Serde(shielded)),
            tools => tools.map(|tools| Value::from(Serde(tools))),
            add_generation_prompt => true,
            enable_thinking => false,
            bos_token,
            eos_token,
        };
        let refused = |error: &Error| EngineError::Template { reason: place(error) };
        let template = self.environment.get_template(NAME).map_err(|error| refused(&error))?;
        template.render(scope).map_err(|error| refused(&error))
    }
}

/// The kind of an error and its line; its text may quote content.
fn place(error: &Error) -> String {
    match error.line() {
        Some(line) => format!("{:?} in line {line} of the template", error.kind()),
        None => format!("{:?}", error.kind()),
    }
}

fn shield_tools(
    tokenizer: &Tokenizer,
    value: &serde_json::Value,
    depth: usize,
) -> Result<serde_json::Value, EngineError> {
    use serde_json::Value as Json;
    if depth > MAX_TOOL_DEPTH {
        return Err(EngineError::InvalidInput { reason: "tool definitions nest deeper than 32" });
    }
    Ok(match value {
        Json::String(text) => Json::String(tokenizer.shield(text).into_owned()),
        Json::Array(items) => Json::Array(
            items.iter().map(|item| shield_tools(tokenizer, item, depth + 1)).collect::<Result<_, _>>()?,
        ),
        Json::Object(fields) => {
            let mut shielded = serde_json::Map::new();
            for (name, field) in fields {
                let field = shield_tools(tokenizer, field, depth + 1)?;
                shielded.insert(tokenizer.shield(name).into_owned(), field);
            }
            Json::Object(shielded)
        }
        plain => plain.clone(),
    })
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "the time format is not known"))
}

/// JSON as Python's `json.dumps(…, ensure_ascii=False)` writes it: templates were made with that spacing.
fn to_json(value: &Value) -> Result<Value, Error> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, PythonSpacing);
    value
        .serialize(&mut serializer)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "a value has no JSON form"))?;
    Ok(Value::from_safe_string(String::from_utf8_lossy(&text).into_owned()))
}

struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
