//! A counterexample as a task: labels, limits and facts from the model's context, and the judge's own decision about it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidegate_policies::Judge;
use tidegate_policies::cases::{Case, CaseFacts, Expect};
use tidegate_schemas::decision::{Decision, Outcome, Switch};
use tidegate_schemas::directory::{Agent, Directory, Tenant};
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::{Labels, Sensitivity};
use tidegate_schemas::subject::Class;
use tidegate_schemas::task::{Kind, LimitsWire};

use crate::witness::{self, Found, Runnable};

/// Who asks, where the model does not care.
const NOBODY: (&str, &str) = ("demo", "assistant");
/// What a task says in which nothing is to be found.
const PLAIN_TEXT: &str = "What is the capital of France?";
/// Texts in which recognisers find something, a kind of data each: made up, or set aside for examples.
const SAMPLES: [&str; 12] = [
    "Write to jane.doe@example.org.",
    "The host at 203.0.113.7 is slow.",
    "My card is 4111 1111 1111 1111.",
    "Pay to GB82 WEST 1234 5698 7654 32.",
    "The SSN 123-45-6789.",
    "An attorney-client memo.",
    "Her salary and the severance.",
    "The patient was diagnosed with asthma.",
    "The unreleased earnings.",
    "For internal use only.",
    "The pupils of class 4b and their grades.",
    "#include <stdio.h> int main() { const char *s = 0; return null }",
];

/// The counterexample as a task; else why it is none.
pub(crate) fn task(judge: &Judge, found: &Found) -> Result<Runnable, String> {
    let context = witness::context(found);
    let (tenant, agent, directory) = who(found, &context)?;
    let finds = count(&context, "findings") != Some(0);
    let mut case = Case {
        name: format!("counterexample: {}", place(found)),
        agent: agent.clone(),
        tenant: tenant.clone(),
        kind: parsed::<Kind>(word(&context, "kind"))?,
        text: None,
        input: input(&context, PLAIN_TEXT)?,
        labels: labels(judge, &context, finds)?,
        limits: LimitsWire {
            deadline_ms: None,
            cost_usd_micros_max: count(&context, "cost_usd_micros_max"),
            latency_ms_max: count(&context, "latency_ms_max"),
        },
        class: parsed::<Class>(word(&context, "class"))?,
        facts: facts(judge, &context)?,
        expect: expect(Outcome::Reject),
    };
    if finds {
        say_something(judge, &context, &directory, &mut case)?;
    }
    let (task, facts) = case.request(&directory)?;
    let decision = judge.decide(&task, &directory, &facts);
    case.expect = Expect {
        destination: decision.destination.as_ref().map(|place| place.name.clone()),
        code: decision.code,
        ..expect(decision.outcome)
    };
    let written = |error: toml::ser::Error| error.to_string();
    let rows = BTreeMap::from([("case", [&case])]);
    Ok(Runnable {
        tenant: tenant.to_string(),
        agent: agent.to_string(),
        kind: case.kind.as_str().to_owned(),
        envelope: case.envelope(),
        case: toml::to_string(&rows).map_err(written)?,
        directory: known(&directory).map_err(written)?,
        decided: decided(&decision),
    })
}

fn expect(outcome: Outcome) -> Expect {
    Expect {
        outcome,
        destination: None,
        policies: None,
        code: None,
        considered: BTreeMap::new(),
        by: BTreeMap::new(),
        queue: None,
        quorum: None,
        findings: None,
    }
}

fn decided(decision: &Decision) -> String {
    let at = decision.destination.as_ref().map(|place| format!(" at `{}`", place.name)).unwrap_or_default();
    let by = if decision.determining.is_empty() {
        String::new()
    } else {
        format!(" (by {})", decision.determining.join(", "))
    };
    format!("{}{at}{by}", decision.outcome.as_str())
}

/// The directory's part that a case needs: tenant, agent, team and roles.
fn known(directory: &Directory) -> Result<String, toml::ser::Error> {
    let mut value = json!({ "tenants": {} });
    for (name, tenant) in &directory.tenants {
        let mut entry = json!({ "owner": tenant.owner, "agents": {} });
        if !tenant.residency.is_empty() {
            entry["residency"] = json!(tenant.residency);
        }
        if let Some(providers) = &tenant.providers {
            entry["providers"] = json!(providers);
        }
        for (agent, as_known) in &tenant.agents {
            let mut about = json!({});
            if let Some(team) = &as_known.team {
                about["team"] = json!(team);
            }
            if !as_known.roles.is_empty() {
                about["roles"] = json!(as_known.roles);
            }
            entry["agents"][agent.as_str()] = about;
        }
        value["tenants"][name.as_str()] = entry;
    }
    toml::to_string(&value)
}

fn place(found: &Found) -> String {
    found.request.resource().map(|uid| uid.id().unescaped().to_owned()).unwrap_or_default()
}

/// Tenant, agent and a directory that knows them, with the teams and roles of the model.
fn who(found: &Found, context: &Value) -> Result<(Name, Name, Directory), String> {
    let principal = found.request.principal().ok_or("nobody asks")?;
    if principal.type_name().to_string() != "Agent" {
        return Err("it is no task: nobody but agents publishes tasks".to_owned());
    }
    let (named_tenant, named_agent) = principal.id().unescaped().split_once('/').unwrap_or(NOBODY);
    let groups = witness::groups(found);
    let of = |kind: &str| -> Vec<String> {
        let own = groups.iter().filter(|uid| uid.type_name().to_string() == kind);
        own.map(|uid| uid.id().unescaped().to_owned()).collect()
    };
    let name = |text: &str| Name::new(text).ok();
    let tenants: BTreeSet<Name> = of("Tenant").iter().filter_map(|text| name(text)).collect();
    let tenant = match tenants.into_iter().collect::<Vec<_>>().as_slice() {
        [] => name(named_tenant).or_else(|| name(NOBODY.0)),
        [one] => Some(one.clone()),
        _ => return Err("its agent belongs to several tenants at once".to_owned()),
    };
    let (Some(tenant), Some(agent)) = (tenant, name(named_agent).or_else(|| name(NOBODY.1))) else {
        return Err("its agent has no name".to_owned());
    };
    let team = of("Team").iter().find_map(|team| name(team.rsplit('/').next()?));
    let roles = of("Role").iter().filter_map(|role| name(role)).collect();
    let providers = context.get("providers").map(|_| words(context, "providers")).transpose()?;
    let as_known = Tenant {
        owner: format!("{tenant}@example.com"),
        residency: words(context, "tenant_residency")?,
        providers,
        agents: [(agent.clone(), Agent { team, roles, ..Agent::default() })].into(),
        ..Tenant::default()
    };
    let mut directory = Directory::empty();
    directory.tenants.insert(tenant.clone(), as_known);
    Ok((tenant, agent, directory))
}

/// Puts a text into the case in which something is found, of a kind that the model's labels name.
fn say_something(
    judge: &Judge,
    context: &Value,
    directory: &Directory,
    case: &mut Case,
) -> Result<(), String> {
    let wanted: Sensitivity = parsed(word(context, "sensitivity"))?;
    let by_text = case.input.is_none();
    for sample in SAMPLES {
        if by_text {
            case.text = Some(sample.to_owned());
        } else {
            case.input = input(context, sample)?;
        }
        let (labels, found) = judge.labels(&case.request(directory)?.0);
        // What is found adds nothing to what is labelled.
        if !found.is_empty() && labels.categories == case.labels.categories && labels.sensitivity == wanted {
            return Ok(());
        }
    }
    Err("it is a task in whose text something is found; no text is known here that has data of its kinds alone"
        .to_owned())
}

fn labels(judge: &Judge, context: &Value, finds: bool) -> Result<Labels, String> {
    let scans = judge.bundle().taxonomy().model_scan.is_some();
    if word(context, "scan") != "recognisers" && !(scans && word(context, "scan") == "model") {
        return Err(format!(
            "it is no task: texts are scanned by recognisers, not by `{}`",
            word(context, "scan")
        ));
    }
    if finds && words(context, "categories")?.is_empty() {
        return Err(
            "it is no task: what is found in a text is of some kind, and the labels name none".to_owned()
        );
    }
    let purpose = Some(word(context, "purpose")).filter(|word| *word != "none");
    let labels = Labels {
        sensitivity: parsed(word(context, "declared"))?,
        categories: words(context, "categories")?,
        regulations: words(context, "regulations")?,
        residency: words(context, "residency")?,
        consent: words(context, "consent")?,
        purpose: purpose.map(|word| Name::new(word).map_err(|error| error.to_string())).transpose()?,
        stakes: parsed(word(context, "stakes"))?,
    };
    let counts = judge.bundle().taxonomy().raise(&labels, &BTreeSet::new()).sensitivity;
    let wanted: Sensitivity = parsed(word(context, "sensitivity"))?;
    if counts != wanted {
        return Err(format!(
            "it is no task: with these labels the judge takes a text for {}, not for {}",
            counts.as_str(),
            wanted.as_str()
        ));
    }
    Ok(labels)
}

fn facts(judge: &Judge, context: &Value) -> Result<CaseFacts, String> {
    let off = words(context, "off")?;
    let switches = judge.bundle().destinations().iter().filter(|spec| off.contains(&spec.name));
    let switch = |spec: &tidegate_policies::DestinationSpec| Switch {
        lane: Some(spec.lane),
        target: Some(spec.target.clone()),
        model: Some(spec.model.clone()),
        ..Switch::default()
    };
    Ok(CaseFacts {
        off: switches.map(switch).collect(),
        egress_ready: flag(context, "egress_ready"),
        session: None,
        redaction: None,
        approved: flag(context, "approved"),
        hop: count(context, "hop").and_then(|hop| u32::try_from(hop).ok()).unwrap_or(0),
        flags: words(context, "flags")?,
        scanned: (word(context, "scan") == "model").then(BTreeMap::new),
        ..CaseFacts::default()
    })
}

/// The input, where the usual one of its kind is not enough.
fn input(context: &Value, text: &str) -> Result<Option<Value>, String> {
    match (flag(context, "tools"), word(context, "kind")) {
        (false, _) => Ok(None),
        (true, "chat") => Ok(Some(json!({
            "messages": [{ "role": "user", "content": text }],
            "tools": [{ "type": "function", "function": { "name": "look_up", "parameters": { "type": "object" } } }],
        }))),
        (true, kind) => Err(format!("it is no task: `{kind}` knows no tools")),
    }
}

/// The word of an enumeration's entity.
fn word<'a>(context: &'a Value, name: &str) -> &'a str {
    context.get(name).and_then(id).unwrap_or_default()
}

fn id(value: &Value) -> Option<&str> {
    value.pointer("/__entity/id").or_else(|| value.get("id")).unwrap_or(value).as_str()
}

fn words(context: &Value, name: &str) -> Result<BTreeSet<Name>, String> {
    let all = context.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(id);
    all.map(|word| Name::new(word).map_err(|_| format!("it is no task: `{word}` is no name ({name})")))
        .collect()
}

fn count(context: &Value, name: &str) -> Option<u64> {
    context.get(name)?.as_u64()
}

fn flag(context: &Value, name: &str) -> bool {
    context.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn parsed<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(word)).map_err(|error| error.to_string())
}
