//! What a prompt must be before anybody can name it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use tidegate_schemas::ids::Name;
use tidegate_schemas::limits::{CLASSES_MAX, OUTPUT_TOKENS_MAX, PROMPT_VARIABLES_MAX, TASK_BYTES_MAX};
use tidegate_schemas::task::{Kind, PromptCall, Prompted, Role, names_variable};

use super::{MESSAGES_MAX, PROMPTS_MAX, Prompt, Prompts, TEMPLATE_BYTES_MAX, Variable, environment};
use crate::bundle::{BundleError, Fault, line_at};

/// Statements that would bring in what stands in no hash, or runs another template.
#[expect(clippy::expect_used, reason = "a constant pattern")]
static REACHES_OUT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{%[-+]?\s*(include|import|from|extends|block|macro|call)\b").expect("a pattern")
});

/// What a template is called, and what a fault in it is located by.
pub(crate) fn key(name: &Name, message: usize) -> String {
    format!("prompt {name}/{message}")
}

/// Checks all prompts of a bundle.
pub(crate) fn check(prompts: &BTreeMap<Name, Prompt>) -> Result<(), BundleError> {
    if prompts.len() > PROMPTS_MAX {
        return Err(BundleError::Content(format!("there are more than {PROMPTS_MAX} prompts")));
    }
    for (name, prompt) in prompts {
        let file = format!("prompts/{name}.toml");
        if let Some(reason) = described(prompt) {
            return Err(BundleError::file(&file, None, reason));
        }
        templates(name, prompt)?;
        tried(name, prompt, prompts).map_err(|reason| BundleError::file(&file, None, reason))?;
    }
    Ok(())
}

/// What is wrong with what it says of itself.
fn described(prompt: &Prompt) -> Option<String> {
    let tokens = prompt.max_tokens.is_none_or(|most| (1..=OUTPUT_TOKENS_MAX).contains(&most));
    let (chat, extract) = (prompt.kind == Kind::Chat, prompt.kind == Kind::Extract);
    let classify = prompt.kind == Kind::Classify;
    let classes: BTreeSet<&String> = prompt.classes.iter().collect();
    let rules = [
        (prompt.title.trim().is_empty(), "needs a `title`: one plain phrase"),
        (prompt.owner.trim().is_empty(), "needs an `owner`: whom to ask about it"),
        (prompt.kind == Kind::Embed, "is of `kind` embed; a prompt is for chat, extract or classify"),
        (extract != prompt.schema.is_some(), "needs a `schema` exactly when its kind is extract"),
        (
            prompt.schema.as_ref().is_some_and(|schema| !schema.is_object()),
            "has a `schema` that is no table; write a JSON Schema",
        ),
        (classify == prompt.classes.is_empty(), "needs `classes` exactly when its kind is classify"),
        (
            classify && !(2..=CLASSES_MAX).contains(&classes.len()),
            "needs 2 to 64 different `classes` to choose from",
        ),
        (classes.len() != prompt.classes.len(), "names one of its `classes` twice"),
        (!tokens, "has `max_tokens` that cannot be asked for; give 1 to 32768"),
        (classify && prompt.max_tokens.is_some(), "has `max_tokens`, which a classification does not take"),
        (!chat && prompt.temperature_milli.is_some(), "has `temperature_milli`, which is for kind chat"),
        (prompt.temperature_milli.is_some_and(|milli| milli > 2_000), "has `temperature_milli` above 2000"),
        (prompt.variables.len() > PROMPT_VARIABLES_MAX, "has more than 32 `variables`"),
    ];
    let broken = rules.into_iter().find_map(|(broken, rule)| broken.then(|| format!("the prompt {rule}")));
    broken.or_else(|| formed(prompt)).or_else(|| prompt.variables.iter().find_map(variable))
}

/// Whether its messages have the form that its kind needs.
fn formed(prompt: &Prompt) -> Option<String> {
    let roles: Vec<Role> = prompt.messages.iter().map(|message| message.role).collect();
    if roles.is_empty() || roles.len() > MESSAGES_MAX {
        return Some(format!("the prompt needs 1 to {MESSAGES_MAX} of `message`"));
    }
    if roles.contains(&Role::Tool) {
        return Some("the prompt has a `message` of role tool; use system, user or assistant".to_owned());
    }
    let asks = matches!(roles.as_slice(), [Role::User] | [Role::System, Role::User]);
    if prompt.kind != Kind::Chat && !asks {
        let kind = prompt.kind;
        return Some(format!(
            "the prompt is of kind {kind}, so each `message` but one of role user (the text), and before it one of \
             role system (what is wanted), is too many"
        ));
    }
    None
}

fn variable((name, variable): (&String, &Variable)) -> Option<String> {
    if !names_variable(name) {
        return Some(format!("the variable `{name}` must be named by a-z, 0-9 and `_`, a letter first"));
    }
    if !(1..=TASK_BYTES_MAX).contains(&variable.chars_max) {
        return Some(format!("the variable `{name}` needs `chars_max` of 1 to {TASK_BYTES_MAX}"));
    }
    let default = variable.default.as_ref().map_or(0, |text| text.chars().count());
    (default > variable.chars_max)
        .then(|| format!("the variable `{name}` has a default that is longer than its `chars_max`"))
}

/// Each template compiles, reaches out to nothing, and uses what is declared; all of that is used.
fn templates(name: &Name, prompt: &Prompt) -> Result<(), BundleError> {
    let mut used = BTreeSet::new();
    for (at, message) in prompt.messages.iter().enumerate() {
        let fault = |line: Option<usize>, reason: String| {
            let below = line.unwrap_or(1).saturating_sub(1);
            BundleError::Policy(Fault::new(key(name, at), reason).below(below))
        };
        let text = message.content.as_str();
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(fault(None, format!("the template has more than {TEMPLATE_BYTES_MAX} bytes")));
        }
        if let Some(found) = REACHES_OUT.captures(text) {
            let line = found.get(0).and_then(|whole| line_at(text, whole.start()));
            let word = found.get(1).map_or("", |word| word.as_str());
            let reason = format!("a template cannot `{word}`; write the text out, a prompt stands alone");
            return Err(fault(line, reason));
        }
        let mut environment = environment();
        if let Err(error) = environment.add_template_owned("it".to_owned(), text.to_owned()) {
            let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            return Err(fault(error.line(), format!("the template is malformed: {what}; correct it")));
        }
        let named = environment.get_template("it").map(|it| it.undeclared_variables(false));
        let named: BTreeSet<String> = named.unwrap_or_default().into_iter().collect();
        if let Some(unknown) = named.iter().find(|name| !prompt.variables.contains_key(*name)) {
            let line = text.lines().position(|line| line.contains(unknown.as_str())).map(|at| at + 1);
            let reason = format!(
                "the template uses `{unknown}`, which the prompt does not declare; add `[variables.{unknown}]`"
            );
            return Err(fault(line, reason));
        }
        used.extend(named);
    }
    match prompt.variables.keys().find(|name| !used.contains(*name)) {
        None => Ok(()),
        Some(idle) => {
            let reason = format!("the variable `{idle}` is used by no message; use it or remove it");
            Err(BundleError::file(&format!("prompts/{name}.toml"), None, reason))
        }
    }
}

/// Renders it once with a word in each variable, and once with the longest texts: what fails then fails for anybody.
fn tried(name: &Name, prompt: &Prompt, prompts: &BTreeMap<Name, Prompt>) -> Result<(), String> {
    let one = prompts.iter().filter(|(other, _)| *other == name).map(|(name, p)| (name.clone(), p.clone()));
    let compiled = Prompts::new(&one.collect(), "").map_err(|error| error.kind().to_string())?;
    for longest in [false, true] {
        let text = |variable: &Variable| "x".repeat(if longest { variable.chars_max } else { 1 });
        let said = prompt.variables.iter().map(|(name, variable)| (name.clone(), text(variable).into()));
        let call = PromptCall { name: name.clone(), variables: said.collect() };
        let asked = Prompted { prompt: call, max_tokens: None, stream: false, kind: prompt.kind };
        compiled.render(&asked).map_err(|refused| {
            let with = if longest { "the longest variables" } else { "a letter in each variable" };
            format!("with {with}: {}; make it simpler, or `chars_max` smaller", refused.sentence)
        })?;
    }
    Ok(())
}
