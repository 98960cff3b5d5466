//! What README and ARCHITECTURE name is there: tests that hold a promise, and files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tidegate_tests::cell::root;

const DOCUMENTS: [&str; 2] = ["README.md", "ARCHITECTURE.md"];
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
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn what_the_documents_name_exists() {
    let mut all = String::new();
    CODE.iter().for_each(|dir| code(&root().join(dir), &mut all));
    let has = |name: &str| all.contains(&format!("fn {name}("));
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
