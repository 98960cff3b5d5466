//! Exit codes of what checks a record: whole, tampered and unreadable are told apart, so that a script may rely on them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tidegate_audit::{Entry, Item, Keys, MasterKey, Options, Signer, Store};
use tidegate_tests::cell::{program, root};

const WHOLE: i32 = 0;
const TAMPERED: i32 = 1;
const UNVOUCHED: i32 = 2;
const UNEXPLAINED: i32 = 2;
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
fn a_bundle_that_cannot_be_used_is_told_with_file_and_line_and_by_a_code_of_its_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bundle = dir.path().join("mine");
    copy(&root().join("policies/bundles/default"), &bundle)?;
    let run = |arguments: &[&str]| -> Result<(i32, Value)> {
        let output = Command::new(program()).arg("--json").args(arguments).arg(&bundle).output()?;
        let told = String::from_utf8(output.stdout)?;
        Ok((output.status.code().context("an exit code")?, serde_json::from_str(&told).context(told)?))
    };
    let (code, told) = run(&["policy", "check"])?;
    assert_eq!((code, &told["failed"]), (0, &serde_json::json!([])), "the control");
    let write = |file: &str, from: &str, to: &str| -> Result<()> {
        let path = bundle.join(file);
        let text = fs::read_to_string(root().join("policies/bundles/default").join(file))?;
        anyhow::ensure!(text.contains(from), "{file} has no `{from}`");
        Ok(fs::write(path, text.replacen(from, to, 1))?)
    };
    for (file, from, to, what) in [
        ("schema.cedarschema", "  hop: Long,", "  dlp_blocked?: Bool,\n  hop: Long,", "dlp_blocked"),
        ("schema.cedarschema", "action Route;", "action Route in [RouteCloud];", "cycle"),
        ("links.toml", "id = \"bank-not-us\"", "id = \"bank-not-anthropic\"", "two links"),
        ("taxonomy.toml", "pattern = '''", "pattern = '''(", "regex"),
        ("properties.toml", "context.sensitivity == ", "context.mood == ", "mood"),
        ("policies/20-sensitivity.cedar", "context.sensitivity", "context.mood", "mood"),
    ] {
        write(file, from, to)?;
        for command in ["check", "test"] {
            let (code, told) = run(&["policy", command])?;
            assert_eq!((code, &told["verdict"]), (3, &Value::from("refused")), "{file}: {told}");
            let fault = &told["faults"][0];
            let name = file.rsplit('/').next().unwrap_or(file);
            assert_eq!(fault["file"], Value::from(name), "{told}");
            assert!(fault["line"].as_u64().is_some_and(|line| line > 0), "{told}");
            assert!(fault["reason"].as_str().is_some_and(|reason| reason.contains(what)), "{told}");
        }
        write(file, from, from)?;
    }
    Ok(())
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
    let again = Command::new(program())
        .args(["audit", "--record", &record, "--public-key", &path("key.pub"), "export", &bundle])
        .output()?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("not there yet") && said.matches("File exists").count() == 1, "{said}");
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
        // The bytes are whole, and anybody could have signed them.
        ("a record without a key", run(&["audit", "--record", &record, "verify"])?, UNVOUCHED),
        ("an export without a key", run(&["audit", "verify", "--bundle", &bundle])?, UNVOUCHED),
        (
            "an export and its key",
            run(&["audit", "--public-key", &path("key.pub"), "verify", "--bundle", &bundle])?,
            WHOLE,
        ),
        ("no record", asking(&absent, "key.pub", &["verify"])?, UNREADABLE),
        ("a file that is none", asking(&spoiled, "key.pub", &["verify"])?, UNREADABLE),
        ("no cell", run(&["audit", "verify"])?, UNREADABLE),
        // Its first gap is one that recorders before took for trimmed.
        ("an account with a gap", asking(&record, "key.pub", &["prove", "completeness"])?, UNEXPLAINED),
        (
            "an account that another key signed",
            asking(&record, "other.pub", &["prove", "completeness"])?,
            TAMPERED,
        ),
        ("no account", asking(&absent, "key.pub", &["prove", "completeness"])?, UNREADABLE),
        ("a spoiled account", asking(&spoiled, "key.pub", &["prove", "completeness"])?, UNREADABLE),
        (
            "a proof of a spoiled record",
            asking(&spoiled, "key.pub", &["prove", "inclusion", "1"])?,
            UNREADABLE,
        ),
        ("a proof of no record", asking(&absent, "key.pub", &["prove", "inclusion", "1"])?, UNREADABLE),
        (
            "a proof that another key signed",
            asking(&record, "other.pub", &["prove", "inclusion", "1"])?,
            TAMPERED,
        ),
        (
            "a proof of what is not there",
            asking(&record, "key.pub", &["prove", "inclusion", "9999"])?,
            UNREADABLE,
        ),
        (
            "a proof that goes on from no checkpoint",
            asking(&record, "key.pub", &["prove", "consistency", &absent])?,
            UNREADABLE,
        ),
        ("a line and its proof", proven(&proof, &line)?, WHOLE),
        ("another line", proven(&proof, &changed)?, TAMPERED),
        ("no proof", proven(&absent, &line)?, UNREADABLE),
        // What was not asked so that anything could be checked is not tampered.
        ("two at once", asking(&record, "key.pub", &["verify", "--bundle", &bundle])?, UNREADABLE),
        ("a record and a proof", asking(&record, "key.pub", &["verify", "--proof", &proof])?, UNREADABLE),
        ("a proof of nothing", run(&["audit", "verify", "--proof", &proof])?, UNREADABLE),
        (
            "a checkpoint without a key",
            run(&["audit", "--record", &record, "verify", "--checkpoint", &line])?,
            UNREADABLE,
        ),
        ("a segment without a key", run(&["audit", "verify", "--segment", &record])?, UNREADABLE),
        ("no line", proven(&proof, &absent)?, UNREADABLE),
    ];
    for (what, code, expected) in rows {
        assert_eq!(code, expected, "{what}");
    }
    Ok(())
}

/// What is wrong by itself is told apart from what did not work, without a cell.
#[test]
fn exit_codes_of_wrong_usage_are_those_of_the_parser() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows: [(&[&str], &str); 10] = [
        (&["submit", "chat"], "give the text"),
        (&["submit", "extract", "x"], "--schema"),
        (&["submit", "classify", "x"], "--class"),
        (&["audit", "query", "--outcome", "clod"], "--outcome"),
        (&["audit", "query", "--state", "fail"], "--state"),
        (&["audit", "query", "--kind", "foo"], "--kind"),
        (&["audit", "query", "--judged-by", "latest"], "--judged-by"),
        (&["audit", "query", "--from", "yesterday"], "--from"),
        (&["audit", "task", "nonsense"], "is no UUID"),
        (&["bundle", "promote", "4f1c…", "--reason", "x"], "hexadecimal"),
    ];
    for (arguments, says) in rows {
        let output = tidegate(dir.path(), arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{arguments:?}: {said}");
    }
    for fine in [&["submit", "chat", "x"][..], &["audit", "query", "--outcome", "cloud"]] {
        assert_eq!(tidegate(dir.path(), fine)?.status.code(), Some(1), "negative control: no cell is there");
    }
    let proof = dir.path().join("p.tlog");
    let output = tidegate(dir.path(), &["audit", "verify", "--proof", &proof.display().to_string()])?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("p.tlog") && said.contains("--leaf"), "{said}");
    Ok(())
}

/// A record in `<dir>/record` whose checkpoints stand beside it.
fn store(dir: &Path) -> Result<Store> {
    let keys = Keys {
        master: MasterKey::from_bytes([7; 32]),
        signer: Signer::from_bytes(&[5; 32], "tidegate/test"),
    };
    let options = Options { checkpoint_file: Some(dir.join("checkpoints")), ..Options::default() };
    Ok(Store::open(&dir.join("record"), keys, &options)?)
}

/// Records a task that nobody takes up, and signs that.
fn record(store: &mut Store, sequence: u64) -> Result<()> {
    let task = Entry {
        stream: "TASKS_acme".to_owned(),
        sequence,
        subject: "task.acme.bot.embed".to_owned(),
        time: "2026-11-23T08:30:00Z".parse()?,
        headers: Vec::new(),
        payload: r#"{"labels":{"sensitivity":"internal"},"input":{"texts":["x"]},"data_subjects":["anna"],"workflow":"flow"}"#.into(),
    };
    store.append(&[Item::Message(task)])?;
    store.checkpoint()?;
    Ok(())
}

/// A cell without a server: what is read of one that has stopped. Its file of checkpoints is where `checkpoints` says.
fn cell(dir: &Path, checkpoints: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("keys"))?;
    let public = Signer::from_bytes(&[5; 32], "tidegate/test").public();
    fs::write(dir.join("keys/checkpoint.pub"), public.to_string())?;
    let outside = format!("[record]\ncheckpoint_file = '{}'\n", checkpoints.display());
    Ok(fs::write(dir.join("cell.toml"), format!("name = 'test'\nurl = 'nats://127.0.0.1:1'\n{outside}"))?)
}

fn tidegate(cell: &Path, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(program()).arg("--cell").arg(cell).args(arguments).output()?)
}

/// Who rolls a record back holds the key, the file and all that is in it; what was signed since stands elsewhere.
#[test]
fn report_an_older_copy_proves_no_claim() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut first = store(dir.path())?;
    record(&mut first, 1)?;
    drop(first);
    copy(&dir.path().join("record"), &dir.path().join("older"))?;
    fs::copy(path("checkpoints"), path("first"))?;
    let mut second = store(dir.path())?;
    record(&mut second, 2)?;
    drop(second);
    // An outsider's own copy of the file of checkpoints, which is elsewhere than the cell.
    let outside = dir.path().join("elsewhere");
    fs::create_dir(&outside)?;
    fs::copy(path("checkpoints"), outside.join("kept"))?;
    cell(dir.path(), &outside.join("kept"))?;
    fs::remove_file(path("checkpoints"))?;

    let claim = ["audit", "report", "--tenant", "all", "--month", "2026-11", "--within", "internal=eu"];
    let (export, key, kept) = (path("export"), path("keys/checkpoint.pub"), path("elsewhere/kept"));
    let commands: [&[&str]; 4] =
        [&claim, &["audit", "prove", "completeness"], &["audit", "export", &export], &["audit", "verify"]];
    let codes = |more: &[&str]| -> Result<Vec<Option<i32>>> {
        let _ = fs::remove_dir_all(&export);
        commands.iter().map(|one| Ok(tidegate(dir.path(), &[one, more].concat())?.status.code())).collect()
    };
    let all = |code: i32| vec![Some(code); commands.len()];
    assert_eq!(codes(&[])?, all(WHOLE), "negative control: the record as it is");
    assert_eq!(codes(&["--checkpoint", &path("first")])?, all(WHOLE), "and from what was signed first");
    let consistency = tidegate(dir.path(), &["audit", "prove", "consistency", &kept])?;
    assert_eq!(consistency.status.code(), Some(WHOLE), "a copy of the file is as good as its newest note");

    fs::rename(path("record"), path("current"))?;
    fs::rename(path("older"), path("record"))?;
    assert_eq!(codes(&[])?, all(TAMPERED), "an older copy in its place");
    assert!(!Path::new(&export).exists(), "nothing is exported of it");
    let consistency = tidegate(dir.path(), &["audit", "prove", "consistency", &kept])?;
    assert_eq!(consistency.status.code(), Some(TAMPERED), "what is shorter than a checkpoint was cut");
    assert!(String::from_utf8_lossy(&consistency.stderr).contains("older copy"), "{consistency:?}");
    let told = tidegate(dir.path(), &[&claim[..], &["--json"]].concat())?;
    let said: Value = serde_json::from_slice(&told.stdout)?;
    assert_eq!(
        (
            &said["residency"][1]["verdict"],
            &said["record"]["signed"]["proven"],
            &said["record"]["kept"]["proven"]
        ),
        (&"unproven".into(), &true.into(), &false.into()),
        "{said}"
    );
    assert!(String::from_utf8_lossy(&told.stderr).contains("is an older copy"), "{told:?}");
    let page = String::from_utf8(tidegate(dir.path(), &claim)?.stdout)?;
    assert!(page.contains("Do not rely on this report") && !page.contains("claim holds"));

    // The same of a directory without its cell: nobody finds it by the record alone, and who kept a checkpoint does.
    let record = path("record");
    let alone = ["--record", record.as_str(), "--public-key", key.as_str()];
    assert_eq!(codes(&alone)?, all(WHOLE), "negative control: without what stands outside it looks whole");
    let with = [&alone[..], &["--checkpoint", &kept]].concat();
    assert_eq!(codes(&with)?, all(TAMPERED));
    Ok(())
}

#[test]
fn crash_every_command_that_reads_a_crashed_record_does() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut open = store(dir.path())?;
    record(&mut open, 1)?;
    // The files as they are while it is open are what a crash leaves.
    copy(&dir.path().join("record"), &dir.path().join("crashed"))?;
    drop(open);
    cell(dir.path(), &dir.path().join("checkpoints"))?;
    fs::write(path("master.key"), "07".repeat(32))?;
    fs::set_permissions(path("master.key"), fs::Permissions::from_mode(0o600))?;
    let (record, key, master) = (path("crashed"), path("keys/checkpoint.pub"), path("master.key"));
    let before = fs::read(dir.path().join("crashed/seg-0.redb"))?;
    let (export, backup, access) = (path("export"), path("backup"), path("access"));
    let commands: [&[&str]; 15] = [
        &["tail", "--once"],
        &["task", "019350c1-0000-7000-8000-000000000001"],
        &["workflow", "flow"],
        &["query"],
        &["verify"],
        &["prove", "inclusion", "0"],
        &["prove", "completeness"],
        &["export", &export],
        &["export", &export, "--form", "cedar-tests"],
        &["backup", &backup],
        &["prune", "--plan"],
        &["hold", "list"],
        &["rejudge"],
        &["access", "--subject", "anna", "--tenant", "acme", "--open", &access],
        &["report", "--tenant", "all", "--month", "2026-11"],
    ];
    for command in commands {
        let _ = fs::remove_dir_all(&export);
        let of = ["audit", "--record", &record, "--public-key", &key, "--key", &master];
        let with = tidegate(dir.path(), &[&of[..], &["--crashed"], command].concat())?;
        // No task of that id is recorded, which is 2.
        let expected = if command[0] == "task" { 2 } else { 0 };
        assert_eq!(with.status.code(), Some(expected), "{command:?}: {with:?}");
        assert_eq!(fs::read(dir.path().join("crashed/seg-0.redb"))?, before, "{command:?} changes nothing");
        let without = tidegate(dir.path(), &[&of[..], command].concat())?;
        let said = [without.stdout, without.stderr].concat();
        assert!(
            String::from_utf8_lossy(&said).contains("was not closed cleanly"),
            "{command:?}, negative control: {}",
            String::from_utf8_lossy(&said)
        );
    }
    Ok(())
}
