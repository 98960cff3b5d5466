//! A bundle's archive, as a cell or a record keeps it.

use std::path::Path;

use tidegate_policies::Bundle;

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "bundle",
    run,
    made,
    words: &[
        "\"manifest\"",
        "\"policies\"",
        "\"destinations\"",
        "\"taxonomy\"",
        "\"prompts\"",
        "\"cases\"",
        "\"format\"",
        "{}",
        "[]",
        "null",
        "1e999",
    ],
    rounds: 150,
};

fn made() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/bundles/demo");
    vec![Bundle::from_dir(&dir).unwrap().archive().as_bytes().to_vec()]
}

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (new, kept) = (Bundle::from_archive(text), Bundle::from_kept(text));
    assert!(new.is_err() || kept.is_ok(), "what may be made active can be read again");
    let Ok(bundle) = kept else { return };
    let again = Bundle::from_kept(bundle.archive())
        .unwrap_or_else(|error| panic!("its own archive is refused: {error}"));
    assert_eq!(again.hash(), bundle.hash(), "its own archive is another bundle");
}
