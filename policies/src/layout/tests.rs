//! Layout changes nothing but layout.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Laid, schema_text, wanted};
use crate::bundle::tests::Variant;

fn laid_out(copy: &Variant) -> Vec<Laid> {
    let laid = wanted(&copy.path()).unwrap();
    for Laid { path, text } in &laid {
        std::fs::write(path, text).unwrap();
    }
    laid
}

#[test]
fn a_layout_keeps_hash_and_comments_and_needs_no_second() {
    let ugly = "// why; and how\n@id(\"x\")   @owner(\"o\")\n@title(\"t\") forbid(principal,action in[Action::\"Route\"],resource)\n // here\nwhen{context.hop>99};";
    let copy = Variant::new().write("policies/99-more.cedar", ugly).replace(
        "schema.cedarschema",
        "  kind: Kind,",
        "kind: Kind,   \n\n\n\n",
    );
    let before = copy.read().unwrap().hash();
    let laid: BTreeMap<String, String> = laid_out(&copy)
        .into_iter()
        .map(|laid| (laid.path.file_name().unwrap().to_string_lossy().into_owned(), laid.text))
        .collect();
    let policy = &laid["99-more.cedar"];
    assert!(policy.contains("// why; and how") && policy.contains("// here"), "{policy}");
    assert!(
        policy.contains("@title(\"t\")\nforbid (") && policy.contains("when { context.hop > 99 };"),
        "{policy}"
    );
    assert!(laid["schema.cedarschema"].contains("\n  kind: Kind,\n\n"), "{}", laid["schema.cedarschema"]);
    assert_eq!(copy.read().unwrap().hash(), before);
    assert_eq!(wanted(&copy.path()).unwrap(), []);
    // Negative control: what breaks a bundle is not laid out.
    assert!(wanted(&copy.write("policies/99-more.cedar", "forbid").path()).is_err());
}

#[test]
fn what_ships_is_laid_out() {
    for name in ["default", "demo"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles").join(name);
        let otherwise: Vec<_> = wanted(&dir).unwrap().into_iter().map(|laid| laid.path).collect();
        assert_eq!(otherwise, Vec::<PathBuf>::new(), "lay it out with `tidegate policy fmt`");
    }
}

#[test]
fn a_schemas_lines_are_indented_by_brackets() {
    let text = "// {\nentity A = {\nx: String, // [\n      y: Set<A>\n};\n\n\nentity B enum [\n\"{\", \"b\\\"[\"\n];\n\n";
    let wanted = "// {\nentity A = {\n  x: String, // [\n  y: Set<A>\n};\n\nentity B enum [\n  \"{\", \"b\\\"[\"\n];\n";
    assert_eq!(schema_text(text), wanted);
    assert_eq!(schema_text(wanted), wanted);
}
