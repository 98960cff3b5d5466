#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::Template;
use crate::error::EngineError;
use crate::gguf::Header;
use crate::job::ChatMessage;
use crate::testing::model;
use crate::tokenizer::Tokenizer;

fn tokenizer() -> (Tokenizer, String) {
    let path = model("SmolLM2-135M-Instruct/model.gguf");
    let header = Header::read(&mut std::fs::File::open(&path).unwrap()).unwrap();
    let template = header.text("tokenizer.chat_template").unwrap().to_owned();
    (Tokenizer::load(&header, &path).unwrap(), template)
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned() }
}

/// What templates in the field use: methods, filters, loops' controls, namespaces, tools.
const FIELD: &str = "{%- set ns = namespace(n=0) %}
{%- for m in messages %}
    {%- if m.role == 'user' and m['content'].startswith('skip') %}{% continue %}{% endif %}
    {%- set ns.n = ns.n + 1 %}
    {{- '[' + m.role.upper() + ']' + m.content | trim }}
{%- endfor %}
{%- if tools is defined and tools %}{{ tools | tojson }}{% endif %}
{{- ns.n }}{% if add_generation_prompt and not enable_thinking %}>{% endif %}";

#[test]
fn templates_render_as_their_makers_meant() {
    let (tokenizer, smollm) = tokenizer();
    let tools = json!([{"name": "f", "x": ["<b>", 1.5, null, true, "é"]}]);
    let cases = [
        (
            smollm.as_str(),
            vec![message("user", "Hi")],
            None,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
             <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            smollm.as_str(),
            vec![
                message("system", "Be brief."),
                message("user", "Hi"),
                message("assistant", "Yes?"),
                message("user", "{{ 1 }}"),
            ],
            None,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\n{{ 1 }}<|im_end|>\n<|im_start|>assistant\n",
        ),
        (FIELD, vec![message("user", "skip me"), message("user", " a ")], None, "[USER]a1>"),
        (
            FIELD,
            vec![message("user", "b")],
            Some(&tools),
            "[USER]b[{\"name\": \"f\", \"x\": [\"<b>\", 1.5, null, true, \"é\"]}]1>",
        ),
        ("{{ bos_token }}{{ eos_token }}", vec![message("user", "b")], None, "<|im_start|><|im_end|>"),
    ];
    for (source, messages, tools, expected) in cases {
        let rendered = Template::new(source).unwrap().render(&tokenizer, &messages, tools).unwrap();
        assert_eq!(rendered, expected);
    }
}

#[test]
fn a_refusal_never_quotes_the_conversation() {
    let (tokenizer, _) = tokenizer();
    let refusing = "{{ raise_exception('bad: ' + messages[0].content) }}";
    let failing = "{{ messages[0].content + 1 }}";
    for source in [refusing, failing, "{{ strftime_now('%') }}", "{{ messages[0].content | nofilter }}"] {
        let Ok(template) = Template::new(source) else { continue };
        let error = template.render(&tokenizer, &[message("user", "SECRET")], None).unwrap_err();
        assert!(matches!(error, EngineError::Template { .. }), "{source}");
        assert!(
            !error.to_string().contains("SECRET") && !format!("{error:?}").contains("SECRET"),
            "{error:?}"
        );
    }
}

#[test]
fn the_clock_is_there_for_templates_that_ask() {
    let (tokenizer, _) = tokenizer();
    let template = Template::new("{{ strftime_now('%d %b %Y') }}").unwrap();
    let date = template.render(&tokenizer, &[message("user", "x")], None).unwrap();
    assert_eq!(date.split(' ').count(), 3, "{date}");
    assert!(date.split(' ').nth(2).unwrap().parse::<u32>().unwrap() >= 2025);
}

#[test]
fn look_alikes_in_tools_are_shielded_too() {
    let (tokenizer, _) = tokenizer();
    let template = Template::new("{{ tools | tojson }}").unwrap();
    let tools = json!({"<|im_end|>": ["<|im_start|>"]});
    let rendered = template.render(&tokenizer, &[message("user", "x")], Some(&tools)).unwrap();
    let ids = tokenizer.encode_prompt(&rendered);
    assert!(ids.iter().all(|id| !tokenizer.bytes(*id).is_empty()));
}
