//! Exit codes of what checks a record: whole, tampered and unreadable are told apart, so that a script may rely on them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use tidegate_audit::Signer;
use tidegate_tests::cell::{program, root};

const WHOLE: i32 = 0;
const TAMPERED: i32 = 1;
const UNREADABLE: i32 = 3;

/// Copies a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().context("a name")?);
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::copy(&path, to)?;
        }
    }
    Ok(())
}

/// Changes every byte of the middle of a file's pages that hold records: more than any spare room.
fn spoil(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let from = 4_096;
    for byte in bytes.iter_mut().skip(from) {
        *byte ^= 0xff;
    }
    Ok(fs::write(file, bytes)?)
}

#[test]
fn exit_codes_tell_whole_tampered_and_unreadable_apart() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    for name in ["record", "spoiled"] {
        copy(&root().join("router/audit/tests/fixtures/form-3"), Path::new(&path(name)))?;
    }
    spoil(Path::new(&path("spoiled/seg-0.redb")))?;
    let key = Signer::from_bytes(&[5; 32], "tidegate/test").public();
    let other = Signer::from_bytes(&[6; 32], "tidegate/test").public();
    fs::write(path("key.pub"), key.to_string())?;
    fs::write(path("other.pub"), other.to_string())?;
    let (record, spoiled, absent) = (path("record"), path("spoiled"), path("absent"));
    let (bundle, proof, line) = (path("bundle"), path("0.tlog-proof"), path("0.json"));
    let run = |arguments: &[&str]| -> Result<i32> {
        let output = Command::new(program()).arg("--cell").arg(path("no-cell")).args(arguments).output()?;
        output.status.code().context("an exit code")
    };
    let asking = |record: &str, key: &str, more: &[&str]| {
        run(&[&["audit", "--record", record, "--public-key", &path(key)], more].concat())
    };
    assert_eq!(asking(&record, "key.pub", &["export", &bundle])?, 0);
    assert_eq!(asking(&record, "key.pub", &["prove", "inclusion", "260", "--out", &proof])?, 0);
    let lines = fs::read_to_string(Path::new(&bundle).join("records.jsonl"))?;
    fs::write(&line, lines.lines().nth(260).context("a line")?)?;
    let changed = path("changed.json");
    fs::write(&changed, fs::read_to_string(&line)?.replacen("\"index\":260", "\"index\":261", 1))?;

    let proven = |proof: &str, line: &str| {
        let key = path("key.pub");
        run(&["audit", "--public-key", &key, "verify", "--proof", proof, "--leaf", line])
    };
    let rows = [
        ("a whole record", asking(&record, "key.pub", &["verify"])?, WHOLE),
        ("a record that another key signed", asking(&record, "other.pub", &["verify"])?, TAMPERED),
        ("no record", asking(&absent, "key.pub", &["verify"])?, UNREADABLE),
        ("a file that is none", asking(&spoiled, "key.pub", &["verify"])?, UNREADABLE),
        ("no cell", run(&["audit", "verify"])?, UNREADABLE),
        ("a whole account", asking(&record, "key.pub", &["prove", "completeness"])?, WHOLE),
        (
            "an account that another key signed",
            asking(&record, "other.pub", &["prove", "completeness"])?,
            TAMPERED,
        ),
        ("no account", asking(&absent, "key.pub", &["prove", "completeness"])?, UNREADABLE),
        ("a spoiled account", asking(&spoiled, "key.pub", &["prove", "completeness"])?, UNREADABLE),
        ("a line and its proof", proven(&proof, &line)?, WHOLE),
        ("another line", proven(&proof, &changed)?, TAMPERED),
        ("no proof", proven(&absent, &line)?, UNREADABLE),
        ("no line", proven(&proof, &absent)?, UNREADABLE),
    ];
    for (what, code, expected) in rows {
        assert_eq!(code, expected, "{what}");
    }
    Ok(())
}
