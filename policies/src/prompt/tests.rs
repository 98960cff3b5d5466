//! What a prompt makes of its variables, what is refused, and that what was put into it is looked at.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Decision, Facts, Outcome};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::task::{Input, Kind, Task};

use crate::bundle::tests::Variant;
use crate::bundle::{Bundle, BundleError};
use crate::cases::ExpectedAnswer;
use crate::diff::diff;
use crate::judge::Judge;
use crate::release::may_be_wider;
use crate::trial;

const ANSWER: &str = "prompts/answer.toml";

fn judge(variant: &Variant) -> Judge {
    Judge::new(Arc::new(variant.read().unwrap_or_else(|error| panic!("{error}")))).unwrap()
}

/// A public task of this input.
fn task(judge: &Judge, kind: &str, input: Value) -> (Task, Directory, Facts) {
    let cases = judge.bundle().cases();
    let mut case = cases.rows.iter().find(|case| case.name == "public question leaves").unwrap().clone();
    case.kind = Kind::parse(kind).unwrap();
    case.input = Some(input);
    let (task, facts) = case.request(&cases.directory).unwrap();
    (task, cases.directory.clone(), facts)
}

fn by_prompt(name: &str, variables: Value) -> Value {
    json!({ "prompt": { "name": name, "variables": variables } })
}

fn decided(judge: &Judge, kind: &str, input: Value) -> Decision {
    let (task, directory, facts) = task(judge, kind, input);
    judge.decide(&task, &directory, &facts)
}

fn said(judge: &Judge, variables: Value) -> Vec<String> {
    let (task, ..) = task(judge, "chat", by_prompt("answer", variables));
    let rendered = judge.rendered(&task).unwrap_or_else(|refused| panic!("{refused}"));
    let Input::Chat(chat) = &rendered.input else { panic!("a conversation") };
    chat.messages.iter().map(|message| message.content.expose().clone()).collect()
}

#[test]
fn what_stands_in_a_variable_is_never_rendered() {
    let judge = judge(&Variant::new());
    for text in ["{{ notes }}", "{% if true %}x{% endif %}", "{# gone #}", "{{ 7 * 7 }}", "<b>&amp;"] {
        let messages = said(&judge, json!({ "question": text, "notes": text }));
        assert_eq!(messages[1], text);
        assert!(messages[0].contains(text), "{messages:?}");
    }
    let template = Variant::new().replace(ANSWER, "{{ question | trim }}", "{{ 7 * 7 }} {{ question }}");
    assert_eq!(
        said(&self::judge(&template), json!({ "question": "{{ 7 * 7 }}" }))[1],
        "49 {{ 7 * 7 }}",
        "control"
    );
}

#[test]
fn what_does_not_fit_a_prompt_is_rejected_by_a_code_and_in_our_words() {
    let judge = judge(&Variant::new());
    let secret = "hunter2";
    let long = "ü".repeat(4_001);
    let rows = [
        (
            "chat",
            by_prompt(secret, json!({})),
            Code::UnknownPrompt,
            "no such prompt for this kind of work; it has `answer`; ask its owner, governance@example.com,",
        ),
        (
            "classify",
            by_prompt("answer", json!({ "question": "x" })),
            Code::UnknownPrompt,
            "kind of work; it has `triage`;",
        ),
        ("chat", by_prompt("answer", json!({})), Code::InvalidVariables, "needs the variable `question`"),
        (
            "chat",
            by_prompt("answer", json!({ "question": "x", secret: "y" })),
            Code::InvalidVariables,
            "does not have",
        ),
        (
            "chat",
            by_prompt("answer", json!({ "question": long })),
            Code::InvalidVariables,
            "`question` may have at most 4000 characters",
        ),
    ];
    for (kind, input, code, words) in rows {
        let decision = decided(&judge, kind, input);
        assert_eq!((decision.outcome, decision.code), (Outcome::Reject, Some(code)), "{}", decision.sentence);
        assert!(decision.sentence.contains(words), "{}", decision.sentence);
        assert!(!serde_json::to_string(&decision).unwrap().contains(secret), "{}", decision.sentence);
        assert_eq!(decision.prompt, None);
    }
    // As many characters as may be, of two bytes each.
    let fits = decided(&judge, "chat", by_prompt("answer", json!({ "question": "ü".repeat(4_000) })));
    assert_eq!(fits.outcome, Outcome::Cloud, "negative control: {}", fits.sentence);
}

#[test]
fn what_a_template_leaves_out_is_looked_at_all_the_same() {
    let hides = Variant::new().replace(ANSWER, "{{ notes | trim }}", "They are on file.").replace(
        "cases/85-prompts.toml",
        "Use these notes only:\\nThe boat is green.",
        "Use these notes only:\\nThey are on file.",
    );
    let judge = judge(&hides);
    let card = "4111 1111 1111 1111";
    assert!(said(&judge, json!({ "question": "x", "notes": card })).iter().all(|text| !text.contains(card)));
    let variables =
        |notes: &str| by_prompt("answer", json!({ "question": "What is a tide?", "notes": notes }));
    let hidden = decided(&judge, "chat", variables(card));
    assert_eq!(hidden.outcome, Outcome::Local, "{}", hidden.sentence);
    let plain = decided(&judge, "chat", variables("none"));
    assert_eq!((plain.outcome, plain.findings.len()), (Outcome::Cloud, 0), "negative control");
    // What stands in the messages and in a variable is one finding.
    let both = decided(&judge, "chat", by_prompt("answer", json!({ "question": card })));
    assert_eq!(both.findings.values().sum::<u32>(), 1, "{:?}", both.findings);
}

#[test]
fn each_bundle_decides_by_its_own_version_and_names_it() {
    let ours = judge(&Variant::new());
    let changed = Variant::new().replace(ANSWER, "temperature_milli = 0", "temperature_milli = 1");
    let (theirs, without) = (judge(&changed), judge(&without_prompts()));
    let (task, directory, facts) = task(&ours, "chat", by_prompt("answer", json!({ "question": "What?" })));
    let (first, second) = (ours.decide(&task, &directory, &facts), theirs.decide(&task, &directory, &facts));
    let named = |judge: &Judge| judge.bundle().prompt(&"answer".parse().unwrap()).unwrap().hash();
    assert_eq!(first.prompt.as_ref().unwrap().hash, named(&ours));
    assert_eq!(second.prompt.as_ref().unwrap().hash, named(&theirs));
    assert_ne!(first.prompt, second.prompt);
    assert_eq!(first.owners().prompt.as_deref(), Some("assistants@example.com"));
    // Judged again by a bundle that has no such prompt it is a rejection with a name, not a gap.
    let gone = without.decide_as_found(&task, &directory, &first);
    assert_eq!((gone.outcome, gone.code), (Outcome::Reject, Some(Code::UnknownPrompt)));
    assert_eq!(ours.decide_as_found(&task, &directory, &first), first);
    // A task that was rendered is judged as it is, by whomever.
    let rendered = ours.rendered(&task).unwrap();
    assert_eq!(ours.decide(&rendered, &directory, &facts), first);
}

fn without_prompts() -> Variant {
    let variant = Variant::new().remove("cases/85-prompts.toml");
    std::fs::remove_dir_all(variant.path().join("prompts")).unwrap();
    variant
}

#[test]
fn a_bundle_without_prompts_keeps_its_form_and_comments_keep_a_hash() {
    assert!(!without_prompts().read().unwrap().archive().contains("prompts"));
    let plain = Variant::new().read().unwrap();
    let commented = Variant::new()
        .replace(ANSWER, "[variables.question]", "# what is asked\n[variables.question]")
        .replace(ANSWER, "max_tokens = 96\ntemperature_milli = 0", "temperature_milli = 0\nmax_tokens = 96");
    assert_eq!(commented.read().unwrap().hash(), plain.hash());
    let other = Variant::new().replace(ANSWER, "max_tokens = 96", "max_tokens = 97").read().unwrap();
    assert_ne!(other.hash(), plain.hash(), "negative control");
    let again = Bundle::from_archive(plain.archive()).unwrap();
    assert_eq!((again.hash(), again.prompts()), (plain.hash(), plain.prompts()));
}

#[test]
fn a_prompt_that_cannot_be_used_is_refused_with_its_place_and_what_to_do() {
    let question = "content = \"{{ question | trim }}\"";
    let notes = "{{ notes | trim }}\n";
    let rows: [(&str, &str, &str, &[&str]); 15] = [
        (ANSWER, notes, "{{ notes | trim }\n", &["`prompts/answer.toml` line 21", "malformed", "correct it"]),
        (ANSWER, notes, "{{ notes }}{{ more }}\n", &["line 21", "`more`", "add `[variables.more]`"]),
        (
            ANSWER,
            notes,
            "{% include 'x' %}{{ notes }}\n",
            &["line 21", "cannot `include`", "write the text out"],
        ),
        (
            ANSWER,
            question,
            "content = \"x\"",
            &["`prompts/answer.toml`", "`question`", "use it or remove it"],
        ),
        (
            ANSWER,
            "[variables.question]",
            "[variables.questions]",
            &["`prompts/answer.toml`", "`question`", "add"],
        ),
        (ANSWER, "owner = \"assistants@example.com\"", "", &["`prompts/answer.toml`", "`owner`"]),
        (ANSWER, "owner = \"assistants@example.com\"", "owner = \"\"", &["needs an `owner`"]),
        (ANSWER, "chars_max = 4000", "chars_max = 0", &["`question`", "`chars_max` of 1"]),
        (ANSWER, "chars_max = 4000", "charsmax = 4000", &["`prompts/answer.toml` line 9", "charsmax"]),
        (ANSWER, "default = \"\"", "", &["`cases/85-prompts.toml` line 3", "needs the variable `notes`"]),
        (
            ANSWER,
            notes,
            "{% for a in notes %}{% for b in notes %}{{ a }}{% endfor %}{% endfor %}\n",
            &["longest variables", "make it simpler"],
        ),
        (ANSWER, notes, "{{ notes | shout }}\n", &["`prompts/answer.toml`"]),
        // It would make as many blanks as it is told to, before any is counted.
        (ANSWER, notes, "{{ notes | indent(1) }}\n", &["`prompts/answer.toml`"]),
        (
            "prompts/triage.toml",
            "classes = [\"billing\", \"technical\", \"other\"]",
            "",
            &["needs `classes`"],
        ),
        (
            "cases/85-prompts.toml",
            "prompt = \"triage\"",
            "prompt = \"nothing\"",
            &["line 32", "no prompt `nothing`"],
        ),
    ];
    for (file, from, to, words) in rows {
        let said = Variant::new().replace(file, from, to).read().unwrap_err().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{to}: {said}");
    }
    assert!(Variant::new().read().is_ok(), "negative control");
    // An archive has no lines; the same rules hold it.
    let archive =
        Variant::new().read().unwrap().archive().replace("{{ question | trim }}", "{{ question }}{{ x }}");
    let refused = Bundle::from_archive(&archive).unwrap_err();
    assert!(matches!(&refused, BundleError::Policy(fault) if fault.reason.contains("`x`")), "{refused}");
}

#[test]
fn models_are_pinned_on_the_local_lane_alone() {
    let file = "destinations.toml";
    let cloud = format!("model = \"gpt-4o-mini\"\nmodel_sha256 = \"{}\"", "0".repeat(64));
    let said =
        Variant::new().replace(file, "model = \"gpt-4o-mini\"", &cloud).read().unwrap_err().to_string();
    assert!(said.contains("only a local model"), "{said}");
    let bundle = Variant::new().read().unwrap();
    let local = bundle.destination(&"local-chat".parse().unwrap()).unwrap();
    assert!(local.model_sha256.is_some() && local.chosen().model_sha256 == local.model_sha256, "control");
    let pin = local.model_sha256.unwrap().to_string();
    let other = Variant::new().replace(file, &pin, &"0".repeat(64)).read().unwrap();
    assert_ne!(other.hash(), bundle.hash(), "a pin is part of the bundle");
}

#[test]
fn a_prompt_without_a_case_is_told_and_a_wrong_message_is_a_failed_case() {
    let untold =
        Variant::new().replace("cases/85-prompts.toml", "prompt = \"triage\"", "prompt = \"answer\"");
    let untold = untold.replace("cases/85-prompts.toml", "variables = { message", "variables = { question");
    let trial = trial::run(&judge(&untold), &[], &mut |_, _| {});
    assert_eq!(trial.silent, ["prompt triage"]);
    let failed: Vec<&str> = trial.failed().iter().map(|ran| ran.name.as_str()).collect();
    assert_eq!(failed, ["a customer's message has a desk"]);
    let trial = trial::run(&judge(&Variant::new()), &[], &mut |_, _| {});
    assert!(trial.passed(), "negative control: {:?}", trial.failed());
}

#[test]
fn an_answer_is_held_against_what_its_case_expects() {
    let bundle = Variant::new().read().unwrap();
    let mut case = bundle.cases().prompts[0].clone();
    let schema = json!({ "required": ["class"] });
    let expected = |text: &str| -> ExpectedAnswer { toml::from_str(text).unwrap() };
    let rows = [
        ("contains = [\"Paris\"]", "It is Paris.", true),
        ("contains = [\"Paris\"]", "It is Rome.", false),
        ("lacks = [\"Rome\"]", "It is Rome.", false),
        ("matches = '^\\d+$'", "42", true),
        ("matches = '^\\d+$'", "x42", false),
        ("one_of = [\"yes\", \"no\"]", " yes\n", true),
        ("one_of = [\"yes\", \"no\"]", "perhaps", false),
        ("one_of = [\"a\"]\nschema = true", "{\"class\": \"a\"}", true),
        ("schema = true", "{\"kind\": \"a\"}", false),
        ("schema = true", "{", false),
    ];
    for (text, answer, fits) in rows {
        case.answer = Some(expected(text));
        let differs = case.differs(answer, Some(&schema));
        assert_eq!(differs.is_empty(), fits, "{text} {answer}: {differs:?}");
    }
    let bad = Variant::new().replace("cases/85-prompts.toml", "contains = [\"Paris\"]", "matches = \"(\"");
    let said = bad.read().unwrap_err().to_string();
    assert!(said.contains("`cases/85-prompts.toml` line 3") && said.contains("`matches`"), "{said}");
}

#[test]
fn a_changed_prompt_is_told_as_its_text() {
    let before = Variant::new().read().unwrap();
    let after = Variant::new()
        .replace(ANSWER, "one or two short sentences.", "one sentence.")
        .replace(ANSWER, "max_tokens = 96", "max_tokens = 48")
        .replace("cases/85-prompts.toml", "one or two short sentences.", "one sentence.");
    let found = diff(&before, &after.read().unwrap()).unwrap();
    let of = |what: &str| found.changes.iter().find(|change| change.part == "prompt" && change.what == what);
    let text = of("answer").unwrap();
    assert!(text.before.as_ref().unwrap().contains("[system]\nYou answer questions in one or two"));
    assert!(text.after.as_ref().unwrap().contains("one sentence."));
    assert_eq!(of("answer.max_tokens").unwrap().after.as_deref(), Some("48"));
    assert!(of("triage").is_none(), "negative control");
}

/// A destination's line with adapters of these hashes after it.
fn with_adapters(line: &str, hashes: &[char]) -> String {
    let adapter =
        |hash: &char| format!("{{ name = \"tone\", sha256 = \"{}\" }}", hash.to_string().repeat(64));
    format!("{line}\nadapters = [{}]", hashes.iter().map(adapter).collect::<Vec<_>>().join(", "))
}

#[test]
fn one_adapter_is_pinned_with_its_local_chat_model_and_released_as_it_is() {
    let (file, chat, embed) =
        ("destinations.toml", "model = \"SmolLM2-135M-Instruct\"", "model = \"all-MiniLM-L6-v2\"");
    let bare = Variant::new().read().unwrap();
    let place = bare.destination(&"local-chat".parse().unwrap()).unwrap();
    let pin = format!("model_sha256 = \"{}\"", place.model_sha256.unwrap());
    let cloud = "model = \"gpt-4o-mini\"";
    let rows = [
        (cloud, with_adapters(cloud, &['1']), "only a local model"),
        (chat, with_adapters(chat, &['1', '2']), "more than one of `adapters`"),
        (embed, with_adapters(embed, &['1']), "only a chat model has one"),
        (pin.as_str(), with_adapters("", &['1']), "pin that by `model_sha256`, too"),
    ];
    for (from, to, words) in rows {
        let said = Variant::new().replace(file, from, &to).read().unwrap_err().to_string();
        assert!(said.contains(words) && said.contains("`destinations.toml` line"), "{words}: {said}");
    }
    // In the bundle's hash, in the difference, in what a decision names, and in the terms that an agreement is bound to.
    let with = |hash| Variant::new().replace(file, chat, &with_adapters(chat, &[hash])).read().unwrap();
    let (one, other) = (with('1'), with('2'));
    assert!(one.hash() != bare.hash() && one.hash() != other.hash());
    for (from, to) in [(&bare, &one), (&one, &other), (&one, &bare)] {
        let changes = diff(from, to).unwrap().changes;
        let told = serde_json::to_string(&changes).unwrap();
        assert!(
            !changes.is_empty() && changes.iter().all(|change| change.what.contains("adapters")),
            "{told}"
        );
        assert!(told.contains(&"1".repeat(64)), "{told}");
        // Which model runs inside keeps nothing there: no agreement is asked for.
        assert!(may_be_wider(from, to).is_empty());
    }
    let name = "local-chat".parse().unwrap();
    let place = |bundle: &Bundle| bundle.destination(&name).unwrap().clone();
    assert_eq!(place(&one).chosen().adapter_sha256, Some("1".repeat(64).parse().unwrap()));
    assert_eq!(place(&bare).chosen().adapter_sha256, None, "negative control");
    assert_ne!(place(&one).terms_hash(), place(&bare).terms_hash());
    // From its archive, as routers read it, it is the same.
    assert_eq!(Bundle::from_archive(one.archive()).unwrap().hash(), one.hash());
}
