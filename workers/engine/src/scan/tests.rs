#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;

use serde::Deserialize;

use super::*;

/// Most by which a token's largest logit may differ from onnxruntime's; logits are around 10.
const LOGIT_DIFFERENCE_MAX: f32 = 2e-3;

#[derive(Deserialize)]
struct Row {
    text: String,
    labels: Vec<usize>,
    /// Thousandths.
    best: Vec<i32>,
}

fn directory() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.models");
    let models = std::env::var_os("TIDEGATE_MODELS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = models.join("rampart");
    assert!(
        path.exists(),
        "`{}` is missing: run deploy/fetch models, or set TIDEGATE_MODELS",
        path.display()
    );
    path
}

fn model() -> ScanModel {
    ScanModel::load(&directory(), &EngineConfig::default()).unwrap()
}

fn scan(model: &ScanModel, text: &str) -> TextScan {
    let mut scanning = model.begin(vec![text.to_owned()]);
    while !model.step(&mut scanning).unwrap() {}
    scanning.into_scans().remove(0)
}

/// Entities with the text that they cover.
fn found(model: &ScanModel, text: &str) -> Vec<(String, String)> {
    match scan(model, text) {
        TextScan::Read(spans) => {
            spans.into_iter().map(|span| (span.entity, text[span.start..span.end].to_owned())).collect()
        }
        TextScan::UnknownScript => panic!("not read: {text}"),
    }
}

fn is(found: &[(String, String)], entity: &str, text: &str) -> bool {
    found.iter().any(|(of, covers)| of == entity && covers == text)
}

#[test]
fn labels_are_those_of_onnxruntime_on_every_token_of_the_golden() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../../fixtures/labels.json")).unwrap();
    assert!(rows.len() >= 200);
    let model = model();
    let (mut tokens, mut furthest) = (0, 0.0f32);
    for row in &rows {
        let labelled = model.label(&row.text).unwrap().unwrap();
        let labels: Vec<usize> = labelled.best.iter().map(|best| best.0).collect();
        assert_eq!(labels, row.labels, "{}", row.text);
        for ((_, logit), golden) in labelled.best.iter().zip(&row.best) {
            furthest = furthest.max((logit - *golden as f32 / 1e3).abs());
            tokens += 1;
        }
    }
    assert!(tokens > 3_000 && furthest < LOGIT_DIFFERENCE_MAX, "{furthest}");
    // Negative control: the labels tell texts apart.
    assert!(rows.iter().any(|row| row.labels.iter().any(|label| *label != 0)));
}

#[test]
fn names_and_addresses_are_one_span_of_their_parts() {
    let model = model();
    let text = "Please send it to Maria Fernandez, 12 Harbour Street, Dublin, before Monday.";
    let found_there = found(&model, text);
    assert!(is(&found_there, "person", "Maria Fernandez"), "{found_there:?}");
    assert!(is(&found_there, "address", "12 Harbour Street, Dublin"), "{found_there:?}");
    let jurgen = found(&model, "Mein Name ist Jürgen Müller und ich wohne in München.");
    assert!(is(&jurgen, "person", "Jürgen Müller"), "byte offsets of what is not ASCII: {jurgen:?}");
    // Negative control.
    for plain in ["Summarise the release notes in three bullets.", "", "  ", "What is the capital of France?"]
    {
        let found = found(&model, plain);
        assert!(found.iter().all(|(entity, _)| entity == "place"), "{plain}: {found:?}");
    }
}

#[test]
fn what_stands_at_a_windows_edge_is_found_whole() {
    let model = model();
    for before in (windows::WINDOW_CHARS - 40..windows::WINDOW_CHARS + 8).step_by(4) {
        let filler: String = "the release notes are long and dull, ".chars().cycle().take(before).collect();
        let text = format!("{filler}. My name is Maria Fernandez and I live in Dublin. {filler}");
        let found = found(&model, &text);
        assert!(is(&found, "person", "Maria Fernandez"), "{before}: {found:?}");
    }
}

#[test]
fn windows_cover_every_character_and_share_some() {
    for length in [1, 63, 479, 480, 481, 896, 897, 5_000] {
        let text: String = "añb".chars().cycle().take(length).collect();
        let windows = windows::of(&text);
        assert_eq!((windows[0].start, windows[windows.len() - 1].end), (0, text.len()), "{length}");
        for pair in windows.windows(2) {
            let shared = text[pair[1].start..pair[0].end].chars().count();
            assert_eq!(shared, windows::OVERLAP_CHARS, "{length}");
        }
        assert!(windows.iter().all(|w| text[w.clone()].chars().count() <= windows::WINDOW_CHARS));
    }
}

#[test]
fn a_script_that_the_model_does_not_know_is_said_and_never_called_clean() {
    let model = model();
    let unknown = [
        "Меня зовут Анна Иванова",
        "我叫王小明",
        "اسمي محمد",
        "שמי דוד",
        "मेरा नाम राम है",
        "Ｍａｒｉａ Ｆｅｒｎａｎｄｅｚ",
        "Call Мaria",
        "phone ٠١٢٣٤٥٦٧",
        &"x".repeat(150),
    ];
    for text in unknown {
        assert_eq!(scan(&model, text), TextScan::UnknownScript, "{text}");
    }
    // What follows a long known text counts as well.
    let late = format!("{}Анна", "the release notes are long. ".repeat(60));
    assert_eq!(scan(&model, &late), TextScan::UnknownScript);
    // Negative control.
    for text in ["naïve façade déjà-vu", "25°C — nice 😀", "½ cup", "Grüße aus Łódź", ""] {
        assert!(matches!(scan(&model, text), TextScan::Read(_)), "{text}");
    }
}

#[test]
fn a_converted_file_that_was_changed_is_made_anew() {
    let copy = tempfile::tempdir().unwrap();
    for name in [convert::SOURCE, "config.json", "tokenizer.json"] {
        std::fs::copy(directory().join(name), copy.path().join(name)).unwrap();
    }
    let made = convert_classifier(copy.path(), None, u64::MAX).unwrap();
    let again = convert_classifier(copy.path(), Some(&made.sha256), u64::MAX).unwrap();
    assert_eq!(made, again, "the same bytes each time");
    let mut bytes = std::fs::read(&made.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&made.path, &bytes).unwrap();
    let config = EngineConfig { scan_sha256: Some(made.sha256.clone()), ..EngineConfig::default() };
    assert_eq!(ScanModel::load(copy.path(), &config).unwrap().info.sha256, made.sha256);
    assert_eq!(std::fs::read(&made.path).unwrap().len(), made.bytes);
    // A source that is cut is refused, and so is one that gives something else than is pinned.
    std::fs::remove_file(&made.path).unwrap();
    let other = EngineConfig { scan_sha256: Some("00".repeat(32)), ..EngineConfig::default() };
    assert!(ScanModel::load(copy.path(), &other).is_err());
    let onnx = std::fs::read(copy.path().join(convert::SOURCE)).unwrap();
    for cut in [0, 1, 100, onnx.len() / 2, onnx.len() - 1] {
        std::fs::write(copy.path().join(convert::SOURCE), &onnx[..cut]).unwrap();
        assert!(convert_classifier(copy.path(), None, u64::MAX).is_err(), "{cut}");
    }
}

/// What is made of two places in a text that the model would have found.
fn whole(text: &str, found: &[(&str, &str)]) -> Vec<String> {
    let labels = Labels::read(
        br#"{"id2label":{"0":"O","1":"B-GIVEN_NAME","2":"B-STREET_NAME","3":"B-CITY","4":"B-BUILDING_NUMBER"}}"#,
    )
    .unwrap();
    let label = |entity: &str| (1..5).find(|at| labels.get(*at).unwrap().entity == entity).unwrap();
    let mut tokens = Labelled { offsets: Vec::new(), best: Vec::new(), scores: Vec::new() };
    for (entity, value) in found {
        let start = text.find(value).unwrap();
        tokens.offsets.push((start, start + value.len()));
        tokens.best.push((label(entity), 9.0));
        tokens.scores.push(0.9);
    }
    let spans = spans::whole(text, spans::decode(text, &tokens, &labels, 0));
    spans.iter().map(|span| text[span.start..span.end].to_owned()).collect()
}

#[test]
fn what_belongs_to_a_name_or_an_address_is_one_with_it() {
    let name = |value| ("given_name", value);
    /// Text, what the model found, what is one with it.
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let rows: [Row<'_>; 12] = [
        ("Ask Janka M. Szász.", &[name("Janka")], &["Janka M. Szász"]),
        ("Ask Clara R. Dickson", &[name("Clara"), name("Dickson")], &["Clara R. Dickson"]),
        ("my friend Dr. Jennifer Holst MD", &[name("Jennifer"), name("Holst")], &["Dr. Jennifer Holst MD"]),
        ("benjamin a seiler", &[name("benjamin"), name("seiler")], &["benjamin a seiler"]),
        ("Enrico shouted at Gary: no", &[name("Enrico"), name("Gary")], &["Enrico", "Gary"]),
        ("Maria. The rest", &[name("Maria")], &["Maria"]),
        ("Jane Doe Then left", &[name("Jane"), name("Doe")], &["Jane Doe"]),
        (
            "in 233 Tar Way\n Suite 282\n Domo now",
            &[("street_name", "Tar Way"), ("city", "Domo")],
            &["233 Tar Way\n Suite 282\n Domo"],
        ),
        ("> 5 Tar Way\n> Apt. 805\n> x", &[("street_name", "Tar Way")], &["5 Tar Way\n> Apt. 805"]),
        (
            "at the corner of Tar Way and Kings, then",
            &[("street_name", "Tar Way"), ("street_name", "Kings")],
            &["the corner of Tar Way and Kings"],
        ),
        ("Tar Way and Kings", &[("street_name", "Tar Way"), ("street_name", "Kings")], &["Tar Way", "Kings"]),
        ("in Domo. Box 5 is full", &[("city", "Domo")], &["Domo"]),
    ];
    for (text, found, expected) in rows {
        assert_eq!(whole(text, found), expected, "{text}");
    }
}
