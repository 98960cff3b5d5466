//! An export is verified by the packages that verify Go's checksum database (Debian: golang-go golang-golang-x-mod-dev).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use tidegate_audit::export::Form;
use tidegate_audit::{Entry, Item, Keys, MasterKey, Options, Signer, Store};

/// More than 256 tiles would be 65,536 records; these fill some of the lowest level and open the one above.
const RECORDS: u64 = 1_300;
/// Records of the older checkpoint.
const OLD: u64 = 700;

fn item(sequence: u64) -> Item {
    let payload =
        format!("{{\"labels\":{{\"sensitivity\":\"public\"}},\"input\":{{\"texts\":[\"{sequence}\"]}}}}");
    Item::Message(Entry {
        stream: "TASKS_acme".to_owned(),
        sequence,
        subject: "task.acme.bot.embed".to_owned(),
        time: Timestamp::from_second(1_800_000_000).unwrap(),
        headers: Vec::new(),
        payload: payload.into(),
    })
}

/// Builds the program once. Where Go or its packages are missing the test says so.
fn program(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/go/sumdb/main.go");
    let program = dir.join("sumdb");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(source)
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOFLAGS", "")
        .env("GOCACHE", dir.join("cache"))
        .output();
    let built = built.expect("no `go`: ./tests/run says how to get it");
    let why = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "install golang-go and golang-golang-x-mod-dev: {why}");
    program
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn sumdb_packages_of_go_verify_an_export_and_its_proofs() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::from_bytes(&[4; 32], "tidegate/test");
    let key = signer.public();
    let keys = Keys { master: MasterKey::from_bytes([3; 32]), signer };
    let mut store = Store::open(&dir.path().join("record"), keys, &Options::default()).unwrap();
    let append = |store: &mut Store, from, to| {
        let items: Vec<Item> = (from..=to).map(item).collect();
        store.append(&items).unwrap();
        store.checkpoint().unwrap()
    };
    let old = append(&mut store, 1, OLD);
    append(&mut store, OLD + 1, RECORDS);

    let (log, proofs, reader) = (dir.path().join("log"), dir.path().join("proofs"), store.reader());
    reader.export(&log, Form::Tiles, &key, &mut |_, _| {}).unwrap();
    std::fs::create_dir(&proofs).unwrap();
    for index in [0, 1, 255, 256, 700, 1_023, 1_024, 1_298, 1_299] {
        let proof = reader.prove_inclusion(&key, index).unwrap();
        std::fs::write(proofs.join(format!("{index}.tlog-proof")), proof.to_string()).unwrap();
    }
    let proof = reader.prove_consistency(&key, &key.open(&old).unwrap()).unwrap();
    std::fs::write(proofs.join("consistency"), proof.to_string()).unwrap();
    std::fs::write(proofs.join("old"), &old).unwrap();

    let program = program(dir.path());
    let verify = || -> Output { Command::new(&program).arg(&log).arg(&proofs).output().unwrap() };
    let sound = verify();
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stderr));
    assert_eq!(String::from_utf8_lossy(&sound.stdout), "verified 1300 records, 9 proofs, from 700 on\n");
    let files = [
        (log.join("tile/entries/002"), 40),
        (log.join("tile/0/003"), 77),
        (log.join("tile/1/000.p/5"), 33),
        (log.join("checkpoint"), 20),
        (proofs.join("1024.tlog-proof"), 50),
        (proofs.join("consistency"), 20),
    ];
    for (file, at) in files {
        flip(&file, at);
        assert!(!verify().status.success(), "negative control: {} changed", file.display());
        flip(&file, at);
    }
    assert!(verify().status.success());
}
