//! Releases on a real cell: a bundle is judged beside, decides for a share, is promoted and taken back, each in under a second and
//! without losing a task; what cannot be used is refused, and the running one stays; a guard takes back what does worse.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate_bus::{Identity, Outbound, Role};
use tidegate_schemas::control::{Act, BUNDLES_BUCKET, Control, RELEASE_BUCKET};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::subject::EVENTS;
use tidegate_tests::client::connect;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, TestCell};

const SOON: Duration = Duration::from_secs(30);
/// How long a router may go on by what was released before.
const SWAP: SignedDuration = SignedDuration::from_secs(1);
/// How long tasks are asked after an act.
const ASK: Duration = Duration::from_millis(2_500);

const BLOCKED: &str = "\n[[link]]\nid = \"helpdesk-blocked\"\ntemplate = \"agent-blocked\"\n\
    principal = 'Agent::\"acme/helpdesk\"'\nowner = \"security@example.com\"\n";
const WIDER: &str = "@id(\"wider\") @owner(\"o\") @title(\"t\") permit (principal == Agent::\"acme/nobody\", \
    action == Action::\"RouteCloud\", resource is Destination) when { context.findings < 5 && \
    context.declared == Sensitivity::\"public\" && context.sensitivity == Sensitivity::\"public\" };\n";
/// It permits nothing that is not permitted anyway: texts differ, and the prover shows that no more may leave.
const HARMLESS: &str = "@id(\"harmless\") @owner(\"o\") @title(\"t\") permit (principal == Agent::\"acme/nobody\", \
    action == Action::\"RouteCloud\", resource is Destination) when { context.findings == 0 && \
    context.declared == Sensitivity::\"public\" && context.sensitivity == Sensitivity::\"public\" };\n";

fn embed() -> Value {
    json!({ "labels": { "sensitivity": "internal" }, "input": { "texts": ["a tide"] } })
}

/// A copy of the cell's bundle with more text in one of its files, in a directory of this name.
async fn variant(
    cell: &TestCell,
    dir: &std::path::Path,
    name: &str,
    file: &str,
    more: &str,
) -> Result<String> {
    let path = dir.join(name);
    let bundle = path.display().to_string();
    cell.tidegate(&["policy", "new", &bundle]).await?;
    let text = std::fs::read_to_string(path.join(file)).unwrap_or_default();
    std::fs::write(path.join(file), text + more)?;
    Ok(bundle)
}

async fn pushed(cell: &TestCell, bundle: &str) -> Result<String> {
    let told = cell.json(&["bundle", "push", bundle, "--reason", "to be tried"]).await?;
    Ok(told["bundle"].as_str().context("a hash")?.to_owned())
}

/// What the cell says when it does not do something.
async fn refusal(cell: &TestCell, arguments: &[&str]) -> Result<String> {
    let output = cell.output(arguments).await?;
    assert!(!output.status.success(), "{arguments:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Asks one task after the other while an act takes its way, and some time longer.
async fn asked(cell: &TestCell, agent: &Agent, act: &[&str]) -> Result<(Value, Vec<TaskResult>)> {
    let mut results = Vec::new();
    let act = cell.json(act);
    tokio::pin!(act);
    let told = loop {
        tokio::select! {
            told = &mut act => break told?,
            result = agent.ask("embed", embed()) => results.push(result?),
        }
    };
    let begun = Instant::now();
    while begun.elapsed() < ASK {
        results.push(agent.ask("embed", embed()).await?);
    }
    Ok((told, results))
}

/// Decisions on record: when, by which bundle, and the leaf.
async fn decisions(cell: &TestCell) -> Result<Vec<(Timestamp, String, Value)>> {
    cell.recorded(SOON).await?;
    let mut found = Vec::new();
    for narrow in [["--kind", "work"], ["--outcome", "reject"]] {
        let mut after: Vec<String> = Vec::new();
        loop {
            let mut question = vec!["audit", "query", "--limit", "1000", narrow[0], narrow[1]];
            question.extend(after.iter().map(String::as_str));
            let page = cell.json(&question).await?;
            for leaf in page["records"].as_array().context("records")? {
                let bundle = leaf["decision"]["bundle"].as_str().context("a bundle")?.to_owned();
                let time: Timestamp = leaf["time"].as_str().context("a time")?.parse()?;
                found.push((time, bundle, leaf["decision"].clone()));
            }
            let Some(next) = page["next"].as_str() else { break };
            after = vec!["--after".to_owned(), next.to_owned()];
        }
    }
    found.sort_by_key(|(time, ..)| *time);
    Ok(found)
}

/// From the second after an act on, and until the next, all is decided by one bundle; before it by the other.
async fn swapped(cell: &TestCell, told: &Value, before: &str, after: &str) -> Result<()> {
    let past = swapped_from(cell, &told["event"], after).await?;
    assert_eq!(past.last().map(String::as_str), Some(before), "negative control");
    Ok(())
}

/// Each router says that it took an act on what is released over, in time.
async fn everywhere(cell: &TestCell, told: &Value) -> Result<()> {
    let bus = connect(cell, Role::Provisioner.into()).await?;
    let act =
        bus.get(EVENTS, told["event"].as_u64().context("an event")?).await?.context("the act")?.published;
    for role in ["router", "router-2"] {
        let log = cell.path().join("logs").join(format!("{role}.log"));
        let after = until("the router to take it over", SOON, || async {
            let log = std::fs::read_to_string(&log)?;
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let took = lines.filter(|line| {
                let fields = &line["fields"];
                fields["message"] == "Took over the active version." && fields["bucket"] == RELEASE_BUCKET
            });
            let times = took.filter_map(|line| line["timestamp"].as_str()?.parse::<Timestamp>().ok());
            Ok(times.map(|time| time.duration_since(act)).find(|after| !after.is_negative()))
        })
        .await?;
        assert!(after < SWAP, "{role} took it over {after} after the act");
    }
    Ok(())
}

/// The same; by which bundles was decided before the act.
async fn swapped_from(cell: &TestCell, event: &Value, after: &str) -> Result<Vec<String>> {
    let bus = connect(cell, Role::Provisioner.into()).await?;
    let act = bus.get(EVENTS, event.as_u64().context("an event")?).await?.context("the act")?.published;
    let all = decisions(cell).await?;
    let at = all.iter().position(|(time, ..)| *time >= act).context("a decision after the act")?;
    let (past, next) = all.split_at(at);
    let late: Vec<_> = next.iter().filter(|(time, ..)| time.duration_since(act) > SWAP).collect();
    assert!(!late.is_empty(), "there are decisions to look at");
    assert!(late.iter().all(|(_, bundle, _)| bundle == after), "{act}: {late:?}");
    Ok(past.iter().map(|(_, bundle, _)| bundle.clone()).collect())
}

#[tokio::test]
async fn release_story_a_bundle_is_shadowed_tried_on_all_promoted_and_taken_back() -> Result<()> {
    let cell = TestCell::start(&["--routers", "2"]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed, "negative control");
    let dir = tempfile::tempdir()?;
    let stricter =
        pushed(&cell, &variant(&cell, dir.path(), "stricter", "links.toml", BLOCKED).await?).await?;
    let status = cell.json(&["bundle", "status"]).await?;
    let active = status["active"].as_str().context("a hash")?.to_owned();
    let began = status["active_since"].clone();
    assert!(active != stricter && status["shadow"].is_null() && status["canary"].is_null(), "{status}");

    // Judged beside: every task still runs, and the record knows what would have come of it.
    let shadow = ["bundle", "shadow", &stricter[..8], "--reason", "some days beside"];
    let (_, results) = asked(&cell, &agent, &shadow).await?;
    assert!(results.iter().all(|result| result.state == State::Completed), "{results:?}");
    let all = decisions(&cell).await?;
    assert!(all.iter().all(|(_, bundle, _)| *bundle == active), "{all:?}");
    // One that takes long is left out now and then.
    let told: Vec<&Value> = all.iter().map(|row| &row.2["shadow"]).filter(|told| !told.is_null()).collect();
    assert!(told.len() * 4 >= all.len(), "{} of {}", told.len(), all.len());
    let wanted = json!({ "bundle": stricter, "outcome": "reject", "code": "policy_denied" });
    assert!(told.iter().all(|told| **told == wanted), "{told:?}");
    assert!(all[0].2["shadow"].is_null(), "negative control: nothing was judged beside the first");
    let status = cell.json(&["bundle", "status"]).await?;
    // What is kept, what it is, and since when: the shadow's act made nothing active.
    assert_eq!(status["active_since"], began, "{status}");
    assert!(status["event"].as_u64() > began.as_u64(), "negative control: {status}");
    let kept = status["kept"].as_array().context("what is kept")?;
    let is = |hash: &str| kept.iter().find(|kept| kept["hash"] == hash).map(|kept| kept["is"].clone());
    assert_eq!((is(&stricter), is(&active)), (Some(json!(["shadow"])), Some(json!(["active"]))), "{status}");
    assert!(kept.iter().all(|kept| kept["name"] == "demo" && kept["since"].is_u64()), "{status}");
    let shown = cell.tidegate(&["bundle", "status"]).await?;
    assert!(shown.contains(&format!("active   {active} (since EVENTS:{began})")), "{shown}");
    let beside = &status["shadows"][&stricter];
    assert_eq!(beside["differ"], beside["decisions"], "{status}");
    assert!(beside["outcomes"]["local -> reject"].as_u64().is_some_and(|count| count > 0), "{status}");

    // Decides for every tenant, and is taken back.
    let canary = ["bundle", "canary", &stricter, "--share", "100", "--by", "tenant", "--reason", "try it"];
    let (told, results) = asked(&cell, &agent, &canary).await?;
    assert_eq!(results.last().map(|result| result.state), Some(State::Rejected));
    swapped(&cell, &told, &active, &stricter).await?;
    let (told, results) = asked(&cell, &agent, &["bundle", "rollback", "--reason", "too strict"]).await?;
    assert_eq!(results.last().map(|result| result.state), Some(State::Completed));
    swapped(&cell, &told, &stricter, &active).await?;

    // Made the active one, and taken back.
    let promote = ["bundle", "promote", &stricter, "--reason", "the rules of June"];
    let (told, _) = asked(&cell, &agent, &promote).await?;
    swapped(&cell, &told, &active, &stricter).await?;
    everywhere(&cell, &told).await?;
    let bus = connect(&cell, Role::Provisioner.into()).await?;
    let act = bus.get(EVENTS, told["event"].as_u64().context("an event")?).await?.context("the act")?;
    let act: Control = serde_json::from_slice(&act.payload)?;
    let hash: Digest = stricter.parse()?;
    assert_eq!(
        (act.act, act.reason.as_str()),
        (Act::BundlePromote { hash, not_wider: None }, "the rules of June")
    );
    let status = cell.json(&["bundle", "status"]).await?;
    assert_eq!((&status["active"], &status["before"]), (&json!(stricter), &json!(active)), "{status}");
    let (told, _) = asked(&cell, &agent, &["bundle", "rollback", "--reason", "June is over"]).await?;
    swapped(&cell, &told, &stricter, &active).await?;
    let said = refusal(&cell, &["bundle", "rollback", "--reason", "once more"]).await?;
    assert!(said.contains("no bundle before"), "{said}");

    // Judged again, each decision under its own bundle, that of the canary too: nothing differs.
    let own = cell.json(&["audit", "rejudge"]).await?;
    let found = |name: &str| own["rejudged"][name].as_u64();
    assert_eq!((found("differ"), found("equal")), (Some(0), found("decisions")), "{own}");
    assert_eq!(own["rejudged"]["bundles"].as_object().map(serde_json::Map::len), Some(2), "{own}");
    let screen = cell.screen().await?;
    assert_eq!(screen.pointer("/record/open"), Some(&json!(0)), "no task is lost: {screen}");
    Ok(())
}

/// Publishes an act as an operator's command does, and gives the sentence of its refusal.
async fn refused(cell: &TestCell, act: Act) -> Result<String> {
    let admin = connect(cell, Identity::Operator(Name::new("admin")?)).await?;
    let control = Control { schema_version: 1, act, reason: "by hand".to_owned() };
    let act = Outbound::new("control.bundle.admin", serde_json::to_vec(&control)?);
    let event = admin.publish(act).await?.sequence;
    let said = Operator::connect(cell).await?.refusal_of(event).await?;
    let about = format!("EVENTS:{event}");
    // On record it is the router's act about the operator's.
    until("the refusal on record", SOON, || async {
        let all = cell.json(&["audit", "query", "--kind", "control", "--limit", "100"]).await?;
        let all = all["records"].as_array().context("records")?.clone();
        let is_it = |leaf: &Value| leaf["cause"] == about && leaf["detail"]["control"]["act"] == "refused";
        Ok(all.iter().any(is_it).then_some(()))
    })
    .await?;
    Ok(said.reason)
}

/// A promise that the policies do not keep.
const UNTRUE: &str = "[[property]]\nid = \"chats-stay\"\ntitle = \"no chat ever leaves\"\nowner = \"o\"\n\
    action = \"RouteCloud\"\nnever = 'context.kind == Kind::\"chat\"'\n";

#[tokio::test]
async fn release_story_what_cannot_be_used_or_nobody_agreed_to_is_refused_and_the_running_one_stays()
-> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let before = cell.json(&["bundle", "status"]).await?;
    let hash = Digest::plain(b"nothing");
    let said = refused(&cell, Act::BundlePush { hash, archive: "no bundle".to_owned() }).await?;
    assert!(said.contains("does not load"), "{said}");
    // A bundle that would load is none under another's hash.
    let active: Digest = before["active"].as_str().context("a hash")?.parse()?;
    let bus = connect(&cell, Role::Provisioner.into()).await?;
    let kept = bus.kv_get(BUNDLES_BUCKET, &active.to_string()).await?.context("the active bundle")?;
    let archive = String::from_utf8(kept.value.to_vec())?;
    let said = refused(&cell, Act::BundlePush { hash, archive }).await?;
    assert!(said.contains("another hash than the act names"), "{said}");
    assert!(bus.kv_get(BUNDLES_BUCKET, &hash.to_string()).await?.is_none(), "nothing is kept of it");
    // Nobody agrees to what is so already.
    let said = refused(&cell, Act::BundleApprove { hash: active, against: active }).await?;
    assert!(said.contains("nothing to agree to"), "{said}");
    let again = active.to_string();
    let again = ["bundle", "approve", &again, "--reason", "again"];
    assert!(refusal(&cell, &again).await?.contains("nothing to agree to"));
    let said = refusal(&cell, &["bundle", "shadow", &hash.to_string(), "--reason", "try"]).await?;
    assert!(said.contains("keeps no such bundle"), "{said}");
    let said = refused(&cell, Act::BundlePromote { hash, not_wider: None }).await?;
    assert!(said.contains("keeps no such bundle"), "{said}");

    // What a bundle promises must hold.
    let dir = tempfile::tempdir()?;
    let untrue = variant(&cell, dir.path(), "untrue", "properties.toml", UNTRUE).await?;
    for command in [["policy", "apply"], ["bundle", "push"]] {
        let said = refusal(&cell, &[&command[..], &[&untrue, "--reason", "it promises"]].concat()).await?;
        assert!(said.contains("does not hold: chats-stay"), "{said}");
    }

    // More might leave: somebody else has to agree.
    let bundle = variant(&cell, dir.path(), "wider", "policies/99-wider.cedar", WIDER).await?;
    let wider = pushed(&cell, &bundle).await?;
    let promote = ["bundle", "promote", &wider, "--reason", "more leaves"];
    let said = refusal(&cell, &promote).await?;
    assert!(said.contains("permit `wider` is new") && said.contains("bundle approve"), "{said}");
    let canary = ["bundle", "canary", &wider, "--share", "0.01", "--reason", "more leaves"];
    assert!(refusal(&cell, &canary).await?.contains("permit `wider` is new"));
    let said = refusal(&cell, &["policy", "apply", &bundle, "--reason", "more leaves"]).await?;
    assert!(said.contains("permit `wider` is new"), "{said}");
    // Who acts has not agreed with himself.
    let approve = ["bundle", "approve", &wider, "--reason", "the contract is signed"];
    cell.tidegate(&approve).await?;
    assert!(refusal(&cell, &promote).await?.contains("another operator"));
    let status = cell.json(&["bundle", "status"]).await?;
    assert_eq!((&status["agreed"][0]["hash"], &status["agreed"][0]["by"]), (&json!(wider), &json!("admin")));
    let said = refusal(&cell, &["bundle", "approve", "012345", "--reason", "by its first digits"]).await?;
    assert!(said.contains("no such bundle: 012345"), "{said}");
    let now = cell.json(&["bundle", "status"]).await?;
    assert_eq!((&now["active"], &now["event"]), (&before["active"], &before["event"]), "nothing moved");
    assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed, "the running one decides");

    cell.tidegate(&["tool", "operator", "olga"]).await?;
    let agreed = cell.output_as("olga", &approve).await?;
    assert!(agreed.status.success(), "{}", String::from_utf8_lossy(&agreed.stderr));
    cell.tidegate(&promote).await?;
    let now = cell.json(&["bundle", "status"]).await?;
    assert_eq!((&now["active"], &now["before"]), (&json!(wider), &before["active"]), "{now}");

    // Nobody has to agree to what the prover shows to let no more leave.
    let bundle = variant(&cell, dir.path(), "harmless", "policies/99-more.cedar", HARMLESS).await?;
    let harmless = pushed(&cell, &bundle).await?;
    let hash: Digest = harmless.parse()?;
    assert!(refused(&cell, Act::BundlePromote { hash, not_wider: None }).await?.contains("bundle approve"));
    let told = cell.json(&["bundle", "promote", &harmless, "--reason", "as before"]).await?;
    let bus = connect(&cell, Role::Provisioner.into()).await?;
    let act = bus.get(EVENTS, told["event"].as_u64().context("an event")?).await?.context("the act")?;
    let act: Control = serde_json::from_slice(&act.payload)?;
    assert_eq!(act.act, Act::BundlePromote { hash, not_wider: Some(wider.parse()?) });

    // Who was refused has been answered: nothing of it is left to do, and nobody's tenant is there.
    assert_eq!(cell.json(&["dead", "list"]).await?, json!([]));
    assert_eq!(cell.screen().await?.pointer("/record/dead"), Some(&json!(0)));
    // Negative control: what is no act at all is a letter, and of no tenant.
    let admin = connect(&cell, Identity::Operator(Name::new("admin")?)).await?;
    admin.publish(Outbound::new("control.bundle.admin", b"no act".to_vec())).await?;
    let letter =
        until("the dead letter", SOON, || async { Ok(cell.json(&["dead", "list"]).await?.get(0).cloned()) })
            .await?;
    assert_eq!((&letter["tenant"], &letter["handled"]), (&Value::Null, &Value::Null), "{letter}");
    let month = Timestamp::now().strftime("%Y-%m").to_string();
    let report = ["audit", "report", "--tenant", "unknown", "--month", &month];
    let said = refusal(&cell, &report).await?;
    assert!(said.contains("`acme`") && said.matches("`unknown`").count() <= 1, "{said}");
    Ok(())
}

/// A copy of the cell's bundle that decides alike, under another version.
async fn alike(cell: &TestCell, dir: &std::path::Path) -> Result<String> {
    let bundle = variant(cell, dir, "alike", "bundle.toml", "").await?;
    let manifest = dir.join("alike/bundle.toml");
    let text = std::fs::read_to_string(&manifest)?;
    let other = text.replace("version = \"1\"", "version = \"2\"");
    assert_ne!(other, text);
    std::fs::write(manifest, other)?;
    Ok(bundle)
}

#[tokio::test]
async fn release_story_a_guard_takes_a_worse_canary_back_and_leaves_an_equal_one() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let dir = tempfile::tempdir()?;
    let equal = pushed(&cell, &alike(&cell, dir.path()).await?).await?;
    let worse = pushed(&cell, &variant(&cell, dir.path(), "worse", "links.toml", BLOCKED).await?).await?;
    let active = cell.json(&["bundle", "status"]).await?["active"].clone();
    let canary = |hash| ["bundle", "canary", hash, "--share", "50", "--reason", "half of it"];

    // Negative control: one that decides alike is watched, and stays.
    cell.json(&canary(&equal)).await?;
    for _ in 0..60 {
        assert_eq!(agent.ask("embed", embed()).await?.state, State::Completed);
    }
    cell.recorded(SOON).await?;
    let status = until("the guards to have seen them", SOON, || async {
        let status = cell.json(&["bundle", "status"]).await?;
        let [ours, theirs] = ["canary", "active"].map(|arm| rejections(&status)[arm]["tasks"].as_u64());
        Ok((ours.zip(theirs).is_some_and(|(ours, theirs)| ours + theirs >= 55)).then_some(status))
    })
    .await?;
    assert_eq!((&status["canary"]["hash"], &status["taken_back"]), (&json!(equal), &Value::Null), "{status}");
    assert_eq!(rejections(&status)["state"], json!("watching"));
    assert!(rejections(&status)["pairs"].as_u64().is_some_and(|pairs| pairs > 10), "{status}");

    // One that rejects what the active one permits is taken back, by a guard that has a name. A recorder that is killed meanwhile
    // comes to the same by the record.
    cell.json(&canary(&worse)).await?;
    let mut states = Vec::new();
    for _ in 0..10 {
        states.push(agent.ask("embed", embed()).await?.state);
    }
    cell.kill_and_wait("recorder").await?;
    let begun = Instant::now();
    let taken = loop {
        states.push(agent.ask("embed", embed()).await?.state);
        let status = cell.json(&["bundle", "status"]).await?;
        if status["canary"].is_null() {
            break status["taken_back"].clone();
        }
        assert!(begun.elapsed() < 2 * SOON, "{} tasks and no alarm: {status}", states.len());
    };
    let act = taken["event"].clone();
    assert_eq!(taken, json!({ "hash": worse, "guard": "rejections", "event": act }));
    assert_eq!(cell.screen().await?.pointer("/bundle/taken_back/guard"), Some(&json!("rejections")));
    let worked = |state: &State| [State::Completed, State::Rejected].contains(state);
    assert!(states.iter().all(worked) && states.contains(&State::Rejected), "{states:?}");
    let begun = Instant::now();
    while begun.elapsed() < ASK {
        agent.ask("embed", embed()).await?;
    }
    swapped_from(&cell, &act, active.as_str().context("a hash")?).await?;

    // On record: who, what and which guard; and the cell's operators were not needed.
    let acts = cell.json(&["audit", "query", "--kind", "control"]).await?;
    let told = acts["records"].as_array().context("records")?.last().context("an act")?;
    let control = &told["detail"]["control"];
    assert_eq!(
        (&control["operator"], &control["act"], &control["guard"], &control["hash"]),
        (&json!("recorder"), &json!("bundle_rollback"), &json!("rejections"), &json!(worse)),
        "{told}"
    );
    assert_eq!(cell.screen().await?.pointer("/record/open"), Some(&json!(0)), "no task is lost");
    Ok(())
}

fn rejections(status: &Value) -> &Value {
    let guards = status["guarded"]["guards"].as_array();
    let found = guards.and_then(|all| all.iter().find(|line| line["guard"] == "rejections"));
    found.unwrap_or(&Value::Null)
}
