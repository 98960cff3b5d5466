#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

/// `TIDEGATE_WRITE_SCHEMAS=1 cargo test -p tidegate-schemas schema` writes them anew.
#[test]
fn the_schemas_on_disk_are_those_of_the_types() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
    let write = std::env::var_os("TIDEGATE_WRITE_SCHEMAS").is_some();
    let mut stale = Vec::new();
    for (name, schema) in super::all() {
        let fresh = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        let path = dir.join(name);
        if write {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &fresh).unwrap();
        }
        // As values: the order of keys is that of another crate's feature, `serde_json/preserve_order`.
        let held = std::fs::read(&path)
            .ok()
            .and_then(|held| serde_json::from_slice::<serde_json::Value>(&held).ok());
        if held.as_ref() != Some(&schema) {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "stale: {stale:?}; run with TIDEGATE_WRITE_SCHEMAS=1");
}
