//! A record of decisions, judged again without a cell: by the bundle that made them, of the form before, and by another.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_audit::{Entry, Filter, Item, Keys, MasterKey, Options, Reader, Signer, Store};
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::decision::{Facts, Outcome};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::task::{Message, Task};
use tidegate_schemas::work::Hop;
use uuid::Uuid;

use super::backtest::{self, Labels};
use super::{Unjudged, Version};

/// A bundle as it was written before the present form: its `forbid` computes what work costs.
const FORMER: &str = include_str!("../../../../policies/src/bundle/kept/format-1.json");
/// When the first task was submitted.
const BEGUN: &str = "2026-11-23T08:30:00Z";
const TASKS: u64 = 60;

/// A record, and what its decisions name.
struct World {
    judge: Judge,
    directory: Directory,
    /// Feature flags that are on for every task.
    flags: BTreeSet<Name>,
    dir: TempDir,
    reader: Option<Reader>,
}

impl World {
    /// Of so many tasks; every third may cost nothing, so it stays.
    fn of(tasks: u64) -> Self {
        Self::flagged(tasks, [].into())
    }

    /// The same, with flags that are on.
    fn flagged(tasks: u64, flags: BTreeSet<Name>) -> Self {
        let judge = Judge::new(Arc::new(Bundle::from_kept(FORMER).unwrap())).unwrap();
        let directory = judge.bundle().cases().directory.clone();
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self { judge, directory, flags, dir, reader: None };
        let signer = Signer::from_bytes(&[2; 32], "tidegate/test");
        let keys = Keys { master: MasterKey::from_bytes([1; 32]), signer };
        let mut store = Store::open(world.dir.path(), keys, &Options::default()).unwrap();
        let all: Vec<u64> = (1..=tasks).collect();
        for some in all.chunks(500) {
            let items: Vec<Item> = some.iter().flat_map(|n| world.task(*n)).collect();
            store.append(&items).unwrap();
        }
        while store.index().unwrap() {}
        world.reader = Some(store.reader());
        world
    }

    fn reader(&self) -> &Reader {
        self.reader.as_ref().unwrap()
    }

    /// The message of a task, and of the work that its decision made of it.
    fn task(&self, n: u64) -> [Item; 2] {
        let time = BEGUN.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(i64::try_from(n).unwrap());
        let id = Uuid::from_u128(0x0193_5000_0000_7000_8000_0000_0000_0000 + u128::from(n));
        let limits = if n.is_multiple_of(3) { json!({ "cost_usd_micros_max": 0 }) } else { json!({}) };
        let payload = json!({ "id": id, "labels": { "sensitivity": "public" }, "limits": limits,
            "input": { "messages": [{ "role": "user", "content": "What is a tide?" }] } })
        .to_string();
        let position = Position::new("TASKS_demo", n);
        let (tenant, agent) = (Name::new("demo").unwrap(), Name::new("assistant").unwrap());
        let message = Message {
            tenant: &tenant,
            agent: &agent,
            kind: "chat",
            headers: &Headers::new(),
            payload: payload.as_bytes(),
            position: &position,
            submitted: time,
        };
        let task = Task::read(&message).unwrap_or_else(|refused| unreachable!("{:?}", refused.refused));
        let decision = self.judge.decide(&task, &self.directory, &self.facts(time));
        let (stream, subject, sequence) = match decision.outcome {
            Outcome::Cloud => ("WORK_CLOUD", "work.cloud.openai.interactive.demo", n - n / 3),
            _ => ("WORK_LOCAL", "work.local.default.interactive.demo", n / 3),
        };
        let headers = Hop::of(&task, 0)
            .headers(&position)
            .with(header::DECISION, serde_json::to_string(&decision).unwrap());
        let headers = headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let entry = |stream: &str, sequence, subject: &str, headers, payload: String| {
            let (stream, subject, payload) = (stream.to_owned(), subject.to_owned(), payload.into());
            Item::Message(Entry { stream, sequence, subject, time, headers, payload })
        };
        let sent = json!({ "schema_version": 1, "input": "What is a tide?" }).to_string();
        [
            entry("TASKS_demo", n, "task.demo.assistant.chat", Vec::new(), payload),
            entry(stream, sequence, subject, headers, sent),
        ]
    }

    fn facts(&self, now: Timestamp) -> Facts {
        Facts {
            decision_id: Uuid::nil(),
            now,
            directory: self.directory.hash(),
            hop: 0,
            lane_max: None,
            tried: Default::default(),
            off: Vec::new(),
            flags: self.flags.clone(),
            flags_revision: 0,
            release_revision: 0,
            inherited: None,
            approval: None,
            model_scan: Default::default(),
            wait_ms: Default::default(),
            tenant_in_flight: 0,
            egress_ready: true,
            session: None,
            spent: Vec::new(),
            broken: Vec::new(),
            redaction: None,
        }
    }

    /// Versions as a cell keeps them.
    fn kept(&self) -> impl FnMut(Version, Digest) -> Option<Vec<u8>> {
        let (bundle, directory) = (self.judge.bundle().hash(), self.directory.clone());
        move |version, hash| match version {
            Version::Bundle => (hash == bundle).then(|| FORMER.as_bytes().to_vec()),
            Version::Directory => (hash == directory.hash()).then(|| serde_json::to_vec(&directory).unwrap()),
        }
    }
}

/// The default bundle: of the present form.
fn present() -> Arc<Bundle> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/bundles/default");
    Arc::new(Bundle::from_dir(&dir).unwrap())
}

#[test]
fn what_a_bundle_of_the_form_before_decided_is_judged_again_by_it() {
    let world = World::of(TASKS);
    let all = Filter::default();
    let judged = super::run(world.reader(), &all, None, &mut world.kept(), &mut |_, _| {}).unwrap();
    assert_eq!((judged.decisions, judged.equal, judged.unjudged()), (TASKS, TASKS, 0), "{judged:?}");
    let outcomes = [("cloud -> cloud", TASKS * 2 / 3), ("local -> local", TASKS / 3)];
    assert_eq!(judged.outcomes, outcomes.map(|(arrow, count)| (arrow.to_owned(), count)).into());

    // Negative control: without the bundle nothing is judged, and that is said.
    let mut kept = world.kept();
    let mut without = |version, hash| if version == Version::Bundle { None } else { kept(version, hash) };
    let judged = super::run(world.reader(), &all, None, &mut without, &mut |_, _| {}).unwrap();
    assert_eq!((judged.equal, judged.unjudged.get(&Unjudged::BundleUnknown)), (0, Some(&TASKS)));
}

#[test]
fn a_bundle_is_tried_on_what_one_of_the_form_before_decided() {
    let world = World::of(TASKS);
    let backtest = |bundle: Arc<Bundle>| {
        let mut kept = world.kept();
        let filter = Filter::default();
        backtest::run(world.reader(), &filter, bundle, Labels::Recorded, &mut kept, &mut |_, _| {}).unwrap()
    };
    let same = backtest(Arc::clone(world.judge.bundle()));
    assert_eq!((same.judged, same.unchanged.equal, same.flipped()), (TASKS, TASKS, 0));
    let now = backtest(present());
    assert_eq!((now.judged, now.unjudged(), now.flipped()), (TASKS, 0, 0), "both let the same leave");
    assert!(now.unchanged.equal < TASKS, "by other policies");
    // Negative control: what nothing permits no longer leaves.
    let mut archive: Value = serde_json::from_str(present().archive()).unwrap();
    archive["policies"].as_object_mut().unwrap().remove("cloud-public");
    let narrow = backtest(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap()));
    assert_eq!((narrow.judged, narrow.flipped()), (TASKS, TASKS * 2 / 3), "{:?}", narrow.flips);
    assert!(narrow.breaches(&"cloud->local>0".parse().unwrap()));
    assert!(!narrow.breaches(&"local->cloud>0".parse().unwrap()));
}

/// The bundle that decided declares no flag, so what was on changed nothing then; the one that is tried keeps such work local.
#[test]
fn a_backtest_goes_by_the_flags_that_were_on_then() {
    let flipped = |flags: &[&str]| {
        let flags = flags.iter().map(|flag| Name::new(*flag).unwrap()).collect();
        let world = World::flagged(TASKS, flags);
        let (mut kept, filter) = (world.kept(), Filter::default());
        let run = |labels, kept: &mut dyn FnMut(Version, Digest) -> Option<Vec<u8>>| {
            let mut fetch = |version, hash| kept(version, hash);
            backtest::run(world.reader(), &filter, present(), labels, &mut fetch, &mut |_, _| {}).unwrap()
        };
        let both = [Labels::Recorded, Labels::Rescan].map(|labels| {
            let found = run(labels, &mut kept);
            (found.judged, found.counted(&"cloud->local>0".parse().unwrap()))
        });
        assert_eq!(both[0], both[1]);
        both[0]
    };
    assert_eq!(flipped(&["stay-local"]), (TASKS, TASKS * 2 / 3));
    assert_eq!(flipped(&[]), (TASKS, 0), "negative control: nothing was on");
    assert_eq!(flipped(&["another"]), (TASKS, 0), "negative control: what the bundle does not declare");
}

#[test]
fn a_place_that_is_something_else_now_is_another_place() {
    let world = World::of(TASKS);
    let backtest = |change: &dyn Fn(&mut Value)| {
        let mut archive: Value = serde_json::from_str(world.judge.bundle().archive()).unwrap();
        change(&mut archive);
        let bundle = Arc::new(Bundle::from_kept(&archive.to_string()).unwrap());
        let (mut kept, filter) = (world.kept(), Filter::default());
        backtest::run(world.reader(), &filter, bundle, Labels::Recorded, &mut kept, &mut |_, _| {}).unwrap()
    };
    let place = |name: &'static str, key: &'static str, value: Value| {
        move |archive: &mut Value| {
            let places = archive["destinations"].as_array_mut().unwrap();
            places.iter_mut().find(|place| place["name"] == name).unwrap()[key] = value.clone();
        }
    };
    let chosen = "openai";
    for (key, value) in [
        ("base_url", json!("elsewhere")),
        ("protocol", json!("anthropic_messages")),
        ("certifications", json!([])),
        ("zero_retention", json!(true)),
    ] {
        let found = backtest(&place(chosen, key, value));
        assert_eq!((found.flipped(), found.moved()), (0, TASKS * 2 / 3), "{key}: {:?}", found.moved);
        assert!(found.breaches(&"cloud->cloud>0".parse().unwrap()), "{key}");
        assert!(found.breaches(&"any->any>0".parse().unwrap()), "{key}");
        assert!(!found.breaches(&"local->local>0".parse().unwrap()), "{key}");
    }
    // Negative control: whom to ask about it, and what it costs, make it no other place.
    for (key, value) in [("owner", json!("another")), ("price_in", json!(1)), ("latency_ms", json!(901))] {
        let found = backtest(&place(chosen, key, value));
        assert_eq!((found.flipped(), found.moved(), found.unchanged.equal), (0, 0, TASKS), "{key}");
    }
}

#[test]
fn a_bundle_that_looks_for_other_data_is_not_said_to_change_nothing() {
    let world = World::of(TASKS);
    let backtest = |labels, change: &dyn Fn(&mut Value)| {
        let mut archive: Value = serde_json::from_str(world.judge.bundle().archive()).unwrap();
        change(&mut archive["taxonomy"]);
        let bundle = Arc::new(Bundle::from_kept(&archive.to_string()).unwrap());
        let (mut kept, filter) = (world.kept(), Filter::default());
        backtest::run(world.reader(), &filter, bundle, labels, &mut kept, &mut |_, _| {}).unwrap()
    };
    let blind = |taxonomy: &mut Value| drop(taxonomy["recogniser"].as_array_mut().unwrap().remove(0));
    let found = backtest(Labels::Recorded, &blind);
    assert_eq!((found.other_recognisers, found.flipped(), found.is_blind()), (TASKS, 0, true));
    assert!(!backtest(Labels::Rescan, &blind).is_blind(), "it was looked at");
    // Negative control: another word of the taxonomy is not looked for in any text.
    let worded = |taxonomy: &mut Value| taxonomy["purposes"].as_array_mut().unwrap().push(json!("weather"));
    let found = backtest(Labels::Recorded, &worded);
    assert_eq!((found.other_recognisers, found.is_blind()), (0, false));
    // By none at all nothing is looked at, but what had looked at these texts did.
    let none = |taxonomy: &mut Value| {
        taxonomy["recogniser"] = json!([]);
        taxonomy["class"] = json!([]);
    };
    assert_eq!(backtest(Labels::Recorded, &none).flipped(), 0, "as it was found");
    let now = backtest(Labels::Rescan, &none);
    assert_eq!(
        now.counted(&"cloud->local>0".parse().unwrap()),
        TASKS * 2 / 3,
        "the control: nothing scans, nothing leaves"
    );
}
