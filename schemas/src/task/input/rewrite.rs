//! Writing an input anew, text by text, in the order in which [`Input::texts`] tells them.

use serde_json::{Map, Value};

use super::{Chat, ChatMessage, Classify, Embed, Extract, Input, PromptCall, Prompted, Sampling};
use crate::sensitive::Sensitive;

type With<'a> = &'a mut dyn FnMut(&str) -> String;

pub(super) fn input(input: &Input, with: With<'_>) -> Input {
    match input {
        Input::Chat(chat) => Input::Chat(self::chat(chat, with)),
        Input::Extract(extract) => Input::Extract(Extract {
            text: text(&extract.text, with),
            instructions: extract.instructions.as_ref().map(|of| text(of, with)),
            schema: value(extract.schema.expose(), with).into(),
            max_tokens: extract.max_tokens,
        }),
        Input::Classify(classify) => Input::Classify(Classify {
            text: text(&classify.text, with),
            classes: texts(&classify.classes, with),
            instructions: classify.instructions.as_ref().map(|of| text(of, with)),
        }),
        Input::Embed(embed) => Input::Embed(Embed { texts: texts(&embed.texts, with) }),
        Input::Prompt(prompted) => {
            let variables = prompted.prompt.variables.iter();
            let variables = variables.map(|(name, of)| (name.clone(), text(of, with))).collect();
            let prompt = PromptCall { name: prompted.prompt.name.clone(), variables };
            Input::Prompt(Prompted { prompt, ..prompted.clone() })
        }
    }
}

fn chat(chat: &Chat, with: With<'_>) -> Chat {
    let mut messages = Vec::with_capacity(chat.messages.len());
    for message in &chat.messages {
        messages.push(ChatMessage {
            role: message.role,
            content: text(&message.content, with),
            tool_call_id: message.tool_call_id.as_ref().map(|id| text(id, with)),
            tool_calls: values(&message.tool_calls, with),
        });
    }
    let tools = values(&chat.tools, with);
    let stop = texts(&chat.sampling.stop, with);
    Chat { messages, tools, sampling: Sampling { stop, ..chat.sampling.clone() }, stream: chat.stream }
}

fn text(of: &Sensitive<String>, with: With<'_>) -> Sensitive<String> {
    with(of.expose()).into()
}

fn texts(of: &[Sensitive<String>], with: With<'_>) -> Vec<Sensitive<String>> {
    of.iter().map(|of| text(of, with)).collect()
}

fn values(of: &[Sensitive<Value>], with: With<'_>) -> Vec<Sensitive<Value>> {
    of.iter().map(|of| value(of.expose(), with).into()).collect()
}

fn value(of: &Value, with: With<'_>) -> Value {
    match of {
        Value::String(text) => Value::String(with(text)),
        Value::Array(items) => Value::Array(items.iter().map(|item| value(item, with)).collect()),
        Value::Object(entries) => {
            let mut written = Map::with_capacity(entries.len());
            for (key, item) in entries {
                let key = with(key);
                written.insert(key, value(item, with));
            }
            Value::Object(written)
        }
        other => other.clone(),
    }
}
