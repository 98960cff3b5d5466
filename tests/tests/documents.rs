//! What README and ARCHITECTURE name is there: tests that hold a promise, and files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tidegate_tests::cell::root;

const THREATS: &str = "deploy/threat-model.md";
const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", THREATS];
/// Where our code is.
const CODE: [&str; 6] = ["src", "schemas", "policies", "router", "workers", "tests"];
/// A name of so many words is a test's.
const WORDS_MIN: usize = 4;

/// The text between backticks, of everything but blocks.
fn quoted(text: &str) -> Vec<String> {
    let lines = text.split("```").step_by(2);
    lines.flat_map(|part| part.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

fn is_test_name(text: &str) -> bool {
    text.split('_').count() >= WORDS_MIN && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn code(dir: &Path, into: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            code(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "py") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn what_the_documents_name_exists() {
    let mut all = String::new();
    CODE.iter().for_each(|dir| code(&root().join(dir), &mut all));
    let has = |name: &str| all.contains(&format!("fn {name}(")) || all.contains(&format!("def {name}("));
    assert!(
        has("what_the_documents_name_exists") && !has("what_no_document_names_exists"),
        "negative control"
    );
    let mut seen = 0;
    for document in DOCUMENTS {
        for text in quoted(&std::fs::read_to_string(root().join(document)).unwrap()) {
            let top = text.split('/').next().unwrap_or_default();
            if is_test_name(&text) {
                assert!(has(&text), "{document}: no test `{text}`");
                seen += 1;
            } else if text.contains('/') && CODE.contains(&top) && !text.contains(['{', '<', '*', ' ']) {
                assert!(root().join(&text).exists(), "{document}: no file `{text}`");
            }
        }
    }
    assert!(seen > 20, "the documents name their tests: {seen}");
}

#[test]
fn each_limitation_has_a_test_behind_it() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("\n## Limitations\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let limitations: Vec<&str> = section.split("\n- ").skip(1).collect();
    assert!(limitations.len() > 5, "{}", limitations.len());
    let has_test = |text: &str| quoted(text).iter().any(|name| is_test_name(name));
    assert!(!has_test("It does not fly (`schemas/bus/tests`)."), "negative control");
    for limitation in limitations {
        assert!(has_test(limitation), "no test is named: {limitation}");
    }
}

#[test]
fn each_guarantee_has_a_test_behind_it_and_says_what_it_is_not() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section =
        readme.split("\n## Guarantees, and what is none\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let guarantees: Vec<&str> = section.split("\n- **").skip(1).collect();
    assert!(guarantees.len() > 10, "{}", guarantees.len());
    let is_whole = |text: &str| quoted(text).iter().any(|name| is_test_name(name)) && text.contains("*Not*");
    assert!(!is_whole("It flies (`nothing_that_flies_ever_falls`)."), "negative control");
    for guarantee in guarantees {
        assert!(is_whole(guarantee), "no test, or not what it is not: {guarantee}");
    }
}

/// Whether the last cell of a row says by what it is shown, or that it is not.
fn is_answered(row: &str) -> bool {
    let cell = row.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default().trim();
    let open = cell.to_lowercase().starts_with("open") || cell == "not here";
    open || quoted(cell).iter().any(|name| is_test_name(name))
}

#[test]
fn each_row_of_the_threat_model_names_a_test_or_says_open() {
    let text = std::fs::read_to_string(root().join(THREATS)).unwrap();
    assert!(
        !is_answered("| 9.9 | all | nobody | by magic | faith | |") && !is_answered("| x | `life.rs` |"),
        "negative control"
    );
    let mut rows = 0;
    for table in text.split("\n|---").skip(1) {
        let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        for row in lines {
            assert!(is_answered(row), "neither a test nor `open`: {row}");
            rows += 1;
        }
    }
    assert!(rows > 100, "the tables are there: {rows}");
}
