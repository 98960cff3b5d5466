//! The judge's traps, each beside the control in which Cedar alone falls into it, and its properties.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cedar_policy::{Authorizer, Context, Decision as Cedar, Entities, EntityUid, PolicySet, Request};
use proptest::prelude::*;
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Considering, Decision, Facts, Obligation, Outcome};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::task::{Input, Task};

use super::Judge;
use crate::bundle::Bundle;
use crate::bundle::tests::Variant;
use crate::cases::Case;
use crate::engine::{Answers, Principal, Question, Seat};

mod gates;
mod injection;

static JUDGE: LazyLock<Judge> = LazyLock::new(|| judge(&Variant::new()));
const MORE: &str = "policies/99-more.cedar";

fn judge(copy: &Variant) -> Judge {
    Judge::new(Arc::new(copy.read().unwrap_or_else(|error| panic!("{error}")))).unwrap()
}

/// By policies that loading refuses.
fn unruled(copy: &Variant) -> Judge {
    Judge::new(Arc::new(copy.unruled())).unwrap()
}

/// The case of this name in the default bundle.
fn case(name: &str) -> (Case, Directory) {
    let cases = JUDGE.bundle().cases();
    let found = cases.rows.iter().find(|case| case.name == name);
    (found.unwrap_or_else(|| panic!("no case `{name}`")).clone(), cases.directory.clone())
}

fn request(name: &str) -> (Task, Directory, Facts) {
    let (case, directory) = case(name);
    let (task, facts) = case.request(&directory).unwrap();
    (task, directory, facts)
}

fn decide(judge: &Judge, name: &str) -> Decision {
    let (task, directory, facts) = request(name);
    judge.decide(&task, &directory, &facts)
}

fn verdict(decision: &Decision, destination: &str) -> Considering {
    decision.considered.iter().find(|c| c.destination.as_str() == destination).unwrap().verdict
}

#[test]
fn a_place_that_is_too_slow_even_when_idle_is_not_told_as_full() {
    let rule = "resource.latency_ms > context.latency_ms_max";
    let judge =
        judge(&Variant::new().replace("policies/40-limits.cedar", rule, "context.latency_ms_max < 0"));
    let (mut task, directory, facts) = request("public question leaves");
    task.limits.latency_ms_max = Some(1);
    let rejected = judge.decide(&task, &directory, &facts);
    assert_eq!((rejected.outcome, rejected.code), (Outcome::Reject, Some(Code::PolicyDenied)));
    assert!(rejected.considered.iter().all(|seen| seen.verdict != Considering::Overloaded), "{rejected:?}");
    // Negative control: where each would be fast enough, and many wait there, it is full.
    task.limits.latency_ms_max = Some(60_000);
    let mut waiting = facts;
    waiting.wait_ms =
        judge.bundle().destinations().iter().map(|spec| (spec.target.clone(), 70_000)).collect();
    let full = judge.decide(&task, &directory, &waiting);
    assert_eq!((full.outcome, full.code), (Outcome::Reject, Some(Code::Overloaded)), "{full:?}");
}

/// What Cedar alone says.
fn cedar(policies: &str, principal: &str, entities: Entities, hop: i64) -> (Cedar, usize) {
    let set: PolicySet = policies.parse().unwrap();
    let uid = |text: &str| text.parse::<EntityUid>().unwrap();
    let context = Context::from_pairs([("hop".to_owned(), hop.to_string().parse().unwrap())]).unwrap();
    let action = uid("Action::\"RouteCloud\"");
    let request =
        Request::new(uid(principal), action, uid("Destination::\"openai\""), context, None).unwrap();
    let response = Authorizer::new().is_authorized(&request, &set, &entities);
    (response.decision(), response.diagnostics().errors().count())
}

const OVERFLOW: &str = "@id(\"budget\") @owner(\"o\") @title(\"t\")
    forbid (principal, action == Action::\"RouteCloud\", resource)
    when { (context.hop + 1) * 9223372036854775807 > 10 };";

#[test]
fn a_forbid_that_fails_denies() {
    let broken = unruled(&Variant::new().write(MORE, OVERFLOW));
    let (task, directory, mut facts) = request("public question leaves");
    // The control: where it does not overflow, it forbids like any other.
    assert_eq!(verdict(&broken.decide(&task, &directory, &facts), "openai"), Considering::Forbidden);
    facts.hop = 1;
    let decision = broken.decide(&task, &directory, &facts);
    assert_eq!(verdict(&decision, "openai"), Considering::Errored);
    assert_eq!(
        decision.considered.iter().find(|c| c.destination.as_str() == "openai").unwrap().policies,
        ["budget"]
    );
    assert_ne!(decision.outcome, Outcome::Cloud);
    // The trap: Cedar skips the policy and allows.
    let policies = format!("permit (principal, action, resource); {OVERFLOW}");
    assert_eq!(cedar(&policies, "Agent::\"demo/assistant\"", Entities::empty(), 1), (Cedar::Allow, 1));
    assert_eq!(cedar(&policies, "Agent::\"demo/assistant\"", Entities::empty(), 0), (Cedar::Deny, 0));
    // So such a policy does not get as far as this.
    assert!(Variant::new().write(MORE, OVERFLOW).read().is_err());
}

#[test]
fn a_permit_that_fails_denies_where_another_permits() {
    let permit = OVERFLOW.replace("forbid", "permit");
    let broken = judge(&Variant::new().write(MORE, &permit));
    let (task, directory, mut facts) = request("public question leaves");
    // The control: where it does not overflow, what another permits stays permitted.
    assert_eq!(verdict(&broken.decide(&task, &directory, &facts), "openai"), Considering::Chosen);
    facts.hop = 1;
    assert_eq!(verdict(&broken.decide(&task, &directory, &facts), "openai"), Considering::Errored);
}

#[test]
fn a_decision_names_whom_to_ask_about_each_policy_behind_it() {
    let decision = decide(&JUDGE, "public question leaves");
    let owner = |id: &String| JUDGE.bundle().annotation(id, "owner").unwrap().to_owned();
    let owners: BTreeSet<String> = decision.determining.iter().map(owner).collect();
    assert!(!owners.is_empty());
    assert_eq!(decision.policy_owners, owners.into_iter().collect::<Vec<_>>());
    let told = decision.owners().to_string();
    assert!(decision.policy_owners.iter().all(|owner| told.contains(owner.as_str())), "{told}");
    // Negative control: who is not known is refused by no policy.
    let refused = decide(&JUDGE, "an agent that the directory does not know");
    assert!(refused.determining.is_empty() && refused.policy_owners.is_empty());
}

#[test]
fn when_all_fail_the_code_says_so() {
    let everywhere = OVERFLOW
        .replace("action == Action::\"RouteCloud\"", "action in [Action::\"Route\", Action::\"SkipReview\"]");
    let broken = unruled(&Variant::new().write(MORE, &everywhere));
    let (task, directory, mut facts) = request("public question leaves");
    facts.hop = 1;
    let decision = broken.decide(&task, &directory, &facts);
    assert_eq!((decision.outcome, decision.code), (Outcome::Reject, Some(Code::JudgeFailed)));
    assert!(decision.sentence.contains("`budget`"), "{}", decision.sentence);
}

#[test]
fn a_review_policy_that_fails_denies() {
    let broken = unruled(&Variant::new().write(MORE, &OVERFLOW.replace("RouteCloud", "SkipReview")));
    let (task, directory, mut facts) = request("public question leaves");
    facts.hop = 1;
    let decision = broken.decide(&task, &directory, &facts);
    assert_eq!((decision.outcome, decision.code), (Outcome::Reject, Some(Code::JudgeFailed)));
}

#[test]
fn who_is_not_known_is_refused() {
    for name in ["an agent that the directory does not know", "a tenant that the directory does not know"] {
        let decision = decide(&JUDGE, name);
        assert_eq!((decision.outcome, decision.code), (Outcome::Reject, Some(Code::UnknownPrincipal)));
        assert!(decision.considered.is_empty());
    }
    // The traps: of somebody whom the entities do not hold, `in` is silently false, and an attribute skips the `forbid`.
    let by_group =
        "permit (principal, action, resource); forbid (principal in Tenant::\"clinic\", action, resource);";
    assert_eq!(cedar(by_group, "Agent::\"clinic/ghost\"", Entities::empty(), 0), (Cedar::Allow, 0));
    let by_attribute = "permit (principal, action, resource);
        forbid (principal, action, resource) when { principal.tenant == Tenant::\"clinic\" };";
    assert_eq!(cedar(by_attribute, "Agent::\"clinic/ghost\"", Entities::empty(), 0), (Cedar::Allow, 1));
}

#[test]
fn a_changed_directory_counts_at_once() {
    let (task, mut directory, facts) = request("public question leaves");
    let judge = JUDGE.for_thread().unwrap();
    assert_eq!(judge.decide(&task, &directory, &facts).outcome, Outcome::Cloud);
    let tenant = directory.tenants.get_mut(&task.tenant).unwrap();
    tenant.agents.get_mut(&task.agent).unwrap().roles.insert("local-only".parse().unwrap());
    assert_eq!(judge.decide(&task, &directory, &facts).outcome, Outcome::Local);
}

/// Policies of which the answer hangs on what changes from task to task, that fail, or that look at who asks.
const TRICKY: &str = r#"
    @id("late") @owner("o") @title("t") forbid (principal, action in [Action::"Route"], resource)
    when { context.now > datetime("2999-01-01") };
    @id("long") @owner("o") @title("t") forbid (principal, action == Action::"RouteCloud", resource in Region::"eu")
    when { context.tokens_in > 100 && resource.zero_retention };
    @id("own") @owner("o") @title("t") forbid (principal, action == Action::"RouteCloud", resource)
    when { context.hop > 3 && principal.tenant == Tenant::"clinic" };
    @id("budget") @owner("o") @title("t")
    forbid (principal, action in [Action::"Route", Action::"SkipReview"], resource) when { (context.hop + 1) * 9223372036854775807 > 10 && context.tokens_out > 1 };
    @id("named") @owner("o") @title("t") forbid (principal, action == Action::"RouteCloud", resource)
    when { {Value: resource.trains_on_data}.Value && {Var: context.tools, left: resource in Region::"eu"}.left };
"#;

/// Every case, as it is and varied, as residuals, slices and the whole set answer it. The seats are shared, so that what was
/// remembered of one task serves the next.
fn compare(judge: &Judge, vary: impl Fn(usize, &mut Task, &mut Facts)) -> usize {
    let bundle = judge.bundle();
    let (engine, whole) = (&judge.engine, judge.engine.whole().unwrap());
    let mut seats = std::collections::HashMap::new();
    let mut compared = 0;
    for round in 0..12 {
        for case in &bundle.cases().rows {
            let (mut task, mut facts) = case.request(&bundle.cases().directory).unwrap();
            let Some((tenant, agent)) = bundle.cases().directory.agent(&task.tenant, &task.agent) else {
                continue;
            };
            vary(round, &mut task, &mut facts);
            let (labels, findings, _) = judge.look(&task, None);
            let count = findings.counts.values().map(|c| u64::from(*c)).sum::<u64>();
            let circumstances =
                judge.circumstances(&task, &labels, tenant, &facts, (&judge.scanner.fact(), count));
            let context = engine.context(&circumstances).unwrap();
            let seat = seats.entry((task.tenant.clone(), task.agent.clone())).or_insert_with(|| {
                Seat::new(engine, Principal::new(&task.tenant, &task.agent, agent)).unwrap()
            });
            let answers = engine.answers(seat, &circumstances).unwrap();
            compared += usize::from(matches!(answers, Answers::Known(_)));
            for question in Question::ALL {
                for place in 0..bundle.destinations().len() {
                    let wanted = engine.ask_of(seat, question, place, &context, &whole);
                    let answered = engine.answer(&answers, seat, question, place);
                    assert_eq!(answered, wanted, "{}, {question:?} {place}, round {round}", case.name);
                    assert_eq!(engine.ask(seat, question, place, &context), wanted, "{}", case.name);
                }
            }
        }
    }
    compared
}

/// Six kinds of circumstances, then the same at another time and with longer answers.
fn varied(round: usize, task: &mut Task, facts: &mut Facts) {
    let kind = round % 6;
    facts.hop = [0, 1, 4, 9][kind % 4];
    facts.flags = if kind == 5 { [Name::new("stay-local").unwrap()].into() } else { BTreeSet::new() };
    facts.egress_ready = kind != 4;
    task.limits.cost_usd_micros_max = [None, Some(50), Some(100_000)][kind % 3];
    task.limits.latency_ms_max = [None, Some(900)][kind % 2];
    if round >= 6 {
        facts.now = "2999-06-01T00:00:00Z".parse().unwrap();
        if let Input::Chat(chat) = &mut task.input {
            chat.sampling.max_tokens = Some(3_000);
        }
    }
}

#[test]
fn residuals_and_slices_decide_as_the_whole_set() {
    assert!(compare(&JUDGE, varied) > 300);
    assert!(compare(&unruled(&Variant::new().write(MORE, TRICKY)), varied) > 300);
}

/// A residual that looks at the time sees it, however often others were asked before; without one any time serves.
#[test]
fn a_rule_about_the_time_is_asked_at_each_time() {
    let rule = "@id(\"x\") @owner(\"o\") @title(\"t\") forbid (principal, action == Action::\"RouteCloud\", resource) when { context.now > datetime(\"2027-01-01\") };";
    let (timed, plain) = (judge(&Variant::new().write(MORE, rule)), judge(&Variant::new()));
    let (task, directory, facts) = request("public question leaves");
    let at = |judge: &Judge, time: &str| {
        let facts = Facts { now: time.parse().unwrap(), ..facts.clone() };
        judge.decide(&task, &directory, &facts).outcome
    };
    for round in 0..40 {
        for (time, outcome) in
            [("2026-12-31T23:59:59.999Z", Outcome::Cloud), ("2027-01-01T00:00:00.001Z", Outcome::Local)]
        {
            assert_eq!(at(&timed, time), outcome, "{round}: {time}");
            assert_eq!(at(&plain, time), Outcome::Cloud, "negative control");
        }
    }
}

#[test]
fn a_flag_is_remembered_apart_and_one_that_the_bundle_does_not_declare_is_not_given_to_it() {
    let (task, directory, facts) = request("public question leaves");
    let with = |flag: &str| Facts { flags: [Name::new(flag).unwrap()].into(), ..facts.clone() };
    let (set, unknown) = (with("stay-local"), with("go-anywhere"));
    let judge = JUDGE.for_thread().unwrap();
    // Often enough that answers are remembered.
    for round in 0..40 {
        let plain = judge.decide(&task, &directory, &facts);
        let kept = judge.decide(&task, &directory, &set);
        assert_eq!((plain.outcome, kept.outcome), (Outcome::Cloud, Outcome::Local), "round {round}");
        assert_eq!(verdict(&kept, "openai"), Considering::Forbidden);
        assert_eq!(kept.facts.flags, set.flags, "it is a fact of the decision");
        assert_eq!(judge.decide(&task, &directory, &kept.facts), kept, "and gives it again");
        let other = judge.decide(&task, &directory, &unknown);
        assert_eq!(Decision { facts: facts.clone(), ..other }, plain, "round {round}");
    }
    // As one from before there were flags decides.
    let before = super::tests::judge(&crate::bundle::tests::no_flags(Variant::new(), true));
    for facts in [&facts, &set] {
        assert_eq!(before.decide(&task, &directory, facts).outcome, Outcome::Cloud);
    }
}

#[test]
fn no_bundle_can_permit_what_the_floor_forbids() {
    let everything = "@id(\"all\") @owner(\"o\") @title(\"t\") permit (principal, action, resource);";
    let mut copy = Variant::new().write(MORE, everything).write("links.toml", "");
    for file in ["10-route", "20-sensitivity", "30-regulation", "40-limits", "50-people", "60-tenants"] {
        copy = copy.remove(&format!("policies/{file}.cedar"));
    }
    let open = judge(&copy);
    let lane = |name: &str| decide(&open, name).outcome;
    assert_eq!(lane("the cell is not ready to send"), Outcome::Local);
    assert_eq!(lane("restricted text stays local"), Outcome::Local);
    assert_eq!(lane("public question with a card number stays local"), Outcome::Local);
    assert_eq!(lane("an unknown category is restricted"), Outcome::Local);
    assert_eq!(lane("the tenant allows no provider"), Outcome::Local);
    assert_eq!(lane("a task that may cost nothing stays local"), Outcome::Local);
    assert_eq!(lane("the cloud lane off: local"), Outcome::Local);
    // The control: what only policies forbid, this bundle permits.
    assert_eq!(lane("confidential text stays local"), Outcome::Cloud);
    assert_eq!(lane("high stakes wait for a person"), Outcome::Cloud);
}

#[test]
fn without_a_permit_a_person_decides() {
    let strict = judge(&Variant::new().replace(
        "policies/50-people.cedar",
        "permit (\n  principal is Agent,\n  action == Action::\"SkipReview\",\n  resource is Destination\n);",
        "forbid (principal is Agent, action == Action::\"SkipReview\", resource is Destination) when { context.hop > 99 };",
    ));
    let decision = decide(&strict, "public question leaves");
    assert_eq!((decision.outcome, decision.determining.len()), (Outcome::Hold, 0));
    let queue = "default".parse().unwrap();
    assert_eq!(decision.obligations, [Obligation::Review { queue, quorum: 1, terms: decision.terms() }]);
    assert_eq!(decide(&strict, "high stakes, approved: runs").outcome, Outcome::Cloud);
}

#[test]
fn what_is_held_says_for_which_place_and_in_what_form_it_would_leave() {
    let held = |judge: &Judge, name: &str| {
        let (mut case, directory) = case(name);
        case.labels =
            serde_json::from_value(serde_json::json!({ "sensitivity": "public", "stakes": "high" })).unwrap();
        let (task, facts) = case.request(&directory).unwrap();
        let decision = judge.decide(&task, &directory, &facts);
        assert_eq!(decision.outcome, Outcome::Hold, "{}", decision.sentence);
        (decision.terms().unwrap(), decision)
    };
    let (plain, decision) = held(&JUDGE, "public question leaves");
    assert!(!plain.redacted && decision.destination.is_some());
    assert!(crate::explain::text(&decision, None).contains("would leave  as it stands"));
    let (tokens, decision) = held(&JUDGE, "an e-mail address of a public text is replaced first");
    assert!(tokens.redacted && tokens.place != plain.place, "another place");
    assert!(crate::explain::text(&decision, None).contains("would leave  with tokens in place"));
    // What comes back with tokens in it leaves so, and nothing else of it.
    let (back, _) = held(&JUDGE, "once nothing is found any more it leaves");
    assert_eq!(back, tokens);
    let (stays, decision) = held(&JUDGE, "public question with a card number stays local");
    assert!(!stays.redacted && !crate::explain::text(&decision, None).contains("would leave"));
    let moved =
        judge(&Variant::new().replace("destinations.toml", "base_url = \"openai\"", "base_url = \"other\""));
    assert_ne!(held(&moved, "public question leaves").0.place, plain.place);
    let dearer =
        judge(&Variant::new().replace("destinations.toml", "price_in = 150_000", "price_in = 151_000"));
    assert_eq!(
        held(&dearer, "public question leaves").0,
        plain,
        "negative control: what it costs is no part of it"
    );
}

#[test]
fn work_that_nobody_can_do_is_said_to_be() {
    let without =
        judge(&Variant::new().replace("destinations.toml", "kinds = [\"embed\"]", "kinds = [\"classify\"]"));
    let decision = decide(&without, "embedding goes to the embedding pool");
    assert_eq!((decision.outcome, decision.code), (Outcome::Reject, Some(Code::NoCapableDestination)));
    assert!(decision.considered.iter().all(|c| c.verdict == Considering::Incapable));
    // The control.
    assert_eq!(decide(&JUDGE, "embedding goes to the embedding pool").outcome, Outcome::Local);
}

#[test]
fn the_cap_is_the_smallest() {
    let cap = |name: &str| match decide(&JUDGE, name).obligations.as_slice() {
        [Obligation::CostCap { usd_micros_max }] => *usd_micros_max,
        other => panic!("{other:?}"),
    };
    assert_eq!(cap("public question leaves"), 200_000);
    assert_eq!(cap("a small limit leaves the cheap destination"), 200);
}

#[test]
fn reasons_are_sorted_and_sentences_name_them() {
    for ran in crate::cases::run(&JUDGE) {
        let Some(decision) = ran.decision else { continue };
        let lists = decision.considered.iter().map(|c| &c.policies).chain([&decision.determining]);
        for list in lists {
            assert!(list.is_sorted() && list.windows(2).all(|pair| pair[0] != pair[1]), "{list:?}");
        }
        assert!(decision.considered.is_sorted_by_key(|c| c.destination.clone()));
        let named = decision.determining.iter().any(|id| decision.sentence.contains(id));
        let plain = [
            Some(Code::UnknownPrincipal),
            Some(Code::Overloaded),
            Some(Code::ProviderUnavailable),
            Some(Code::BudgetSpent),
        ];
        assert!(named || plain.contains(&decision.code), "{}: {}", ran.name, decision.sentence);
    }
}

#[test]
fn no_text_of_a_task_stands_in_a_decision() {
    let (task, directory, facts) = request("public question with a password stays local");
    let decision = JUDGE.decide(&task, &directory, &facts);
    let written =
        serde_json::to_string(&decision).unwrap() + &crate::explain::text(&decision, Some(JUDGE.bundle()));
    assert!(!written.contains("hunter2"));
}

#[test]
fn a_decision_tells_its_labels_in_the_bundle_s_words_too() {
    let (mut task, directory, facts) = request("internal text stays local");
    assert!(JUDGE.decide(&task, &directory, &facts).known.is_empty(), "negative control");
    let names = |words: [&str; 2]| words.map(|word| Name::new(word).unwrap()).into_iter().collect();
    task.labels.categories = names(["card", "anna-schmidt"]);
    let decision = JUDGE.decide(&task, &directory, &facts);
    assert_eq!(decision.labels.categories, names(["card", "anna-schmidt"]), "they are judged as declared");
    assert_eq!(decision.known.categories, names(["card", "unknown"]));
    let raised = ["pci"].map(|word| Name::new(word).unwrap());
    assert_eq!(decision.known.regulations, BTreeSet::from(raised), "what a category brings along");
}

#[test]
fn what_was_found_then_is_taken_and_means_what_this_bundle_says() {
    let cases = JUDGE.bundle().cases();
    for case in &cases.rows {
        let (task, facts) = case.request(&cases.directory).unwrap();
        let recorded = JUDGE.decide(&task, &cases.directory, &facts);
        let again = JUDGE.decide_as_found(&task, &cases.directory, &recorded);
        assert_eq!(again, recorded, "{}", case.name);
    }
    let (task, directory, facts) = request("public question with a card number stays local");
    let recorded = JUDGE.decide(&task, &directory, &facts);
    // Numbers of cards have fewer digits.
    let blind = judge(&Variant::new().replace("taxonomy.toml", "{12,30}", "{28,30}"));
    assert_eq!(blind.decide(&task, &directory, &facts).outcome, Outcome::Cloud, "negative control");
    let again = blind.decide_as_found(&task, &directory, &recorded);
    assert_eq!((again.outcome, &again.findings), (Outcome::Local, &recorded.findings));
    assert_eq!(again.labels, recorded.labels);
    let card = "card = { sensitivity = \"restricted\", regulations = [\"pci\"] }";
    let mild = judge(&Variant::new().replace("taxonomy.toml", card, "card = { sensitivity = \"internal\" }"));
    let again = mild.decide_as_found(&task, &directory, &recorded);
    assert_eq!(again.labels.sensitivity, Sensitivity::Internal, "what a card means is the bundle's own");
    assert_eq!(again.labels.categories, recorded.labels.categories);
}

#[test]
fn a_near_miss_names_the_condition_and_what_it_saw() {
    let (mut task, directory, facts) = request("internal text stays local");
    if let Input::Chat(chat) = &mut task.input {
        chat.sampling.max_tokens = Some(77);
    }
    let misses = crate::explain::near_misses(&JUDGE, &task, &directory, &facts);
    let near = |destination: &str, policy: &str| {
        misses.iter().find(|miss| miss.destination.as_str() == destination && miss.policy == policy)
    };
    let told = |destination: &str, policy: &str| -> Vec<(&str, Vec<(&str, &str)>)> {
        let conditions = near(destination, policy).map_or(&[][..], |miss| &miss.conditions);
        conditions
            .iter()
            .map(|unmet| {
                let saw = unmet.saw.iter().map(|(what, value)| (what.as_str(), value.as_str())).collect();
                (unmet.condition.as_str(), saw)
            })
            .collect()
    };
    let scan = ("context.scan == Scan::\"model\"", vec![("context.scan", "Scan::\"recognisers\"")]);
    assert_eq!(told("openai-eu", "cloud-internal-scanned"), std::slice::from_ref(&scan));
    let kept = ("resource.zero_retention", vec![("resource.zero_retention", "false")]);
    assert_eq!(told("openai", "cloud-internal-scanned"), [scan, kept]);
    let public = |name| vec![(name, "Sensitivity::\"internal\"")];
    assert_eq!(
        told("openai", "cloud-public"),
        [
            ("context.declared == Sensitivity::\"public\"", public("context.declared")),
            ("context.sensitivity == Sensitivity::\"public\"", public("context.sensitivity")),
        ]
    );
    // Where it is permitted nothing is near, and permits of other actions are not.
    assert!(misses.iter().all(|miss| miss.destination.as_str() != "local-chat"));
    assert!(misses.iter().all(|miss| !["review-default", "local-any-agent"].contains(&miss.policy.as_str())));
    let text = crate::explain::near_text(&misses);
    let wanted = "  nearly       openai-eu: cloud-internal-scanned, but not context.scan == Scan::\"model\" (context.scan is Scan::\"recognisers\")\n";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn a_near_miss_names_the_role_that_is_lacking_and_nothing_of_the_text() {
    let (mut case, directory) = case("cleared agents do not send confidential text below a model scan");
    case.text = Some("hunter2 is the word".to_owned());
    let role = "principal in Role::\"confidential-cloud\"";
    for (agent, lacks) in [("counsel", false), ("assistant", true)] {
        case.agent = agent.parse().unwrap();
        let (task, facts) = case.request(&directory).unwrap();
        let misses = crate::explain::near_misses(&JUDGE, &task, &directory, &facts);
        let cleared = misses.iter().find(|miss| {
            (miss.destination.as_str(), miss.policy.as_str()) == ("openai-eu", "cloud-confidential-cleared")
        });
        let conditions = &cleared.unwrap().conditions;
        let named = conditions.iter().find(|unmet| unmet.condition == role);
        assert_eq!(named.is_some(), lacks, "{conditions:?}");
        assert!(named.is_none_or(|unmet| unmet.saw["principal"] == "Agent::\"demo/assistant\""));
        assert!(!crate::explain::near_text(&misses).contains("hunter2"));
    }
    // Who is let through misses nothing.
    let (task, directory, facts) = request("public question leaves");
    let misses = crate::explain::near_misses(&JUDGE, &task, &directory, &facts);
    assert!(misses.iter().all(|miss| miss.destination.as_str() != "openai"), "{misses:?}");
}

#[test]
fn a_near_miss_names_the_permit_to_replace_what_was_found() {
    let misses = |name: &str| {
        let (task, directory, facts) = request(name);
        crate::explain::near_misses(&JUDGE, &task, &directory, &facts)
    };
    let of_redaction = |misses: &[crate::explain::NearMiss]| -> Vec<(String, Vec<String>)> {
        let all = misses.iter().filter(|miss| miss.policy == "redact-contacts");
        let conditions = |miss: &crate::explain::NearMiss| {
            miss.conditions.iter().map(|unmet| unmet.condition.clone()).collect()
        };
        all.map(|miss| (miss.destination.to_string(), conditions(miss))).collect()
    };
    let (role, kept) = ("principal in Role::\"redacted-cloud\"", "resource.zero_retention");
    let found = of_redaction(&misses("agents without the role have nothing replaced"));
    assert!(found.contains(&("openai-eu".to_owned(), vec![role.to_owned()])), "{found:?}");
    assert!(found.contains(&("openai".to_owned(), vec![role.to_owned(), kept.to_owned()])), "{found:?}");
    assert!(found.iter().all(|(place, _)| !place.starts_with("local")), "{found:?}");
    // Negative control: where nothing was found, or what was may not be replaced, no such permit helps.
    for name in ["internal text stays local", "a card number is never replaced, so that the rest could leave"]
    {
        assert_eq!(of_redaction(&misses(name)), [], "{name}");
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let other = JUDGE.for_thread().unwrap();
    let again = Judge::new(Arc::new(Bundle::from_archive(JUDGE.bundle().archive()).unwrap())).unwrap();
    for case in &JUDGE.bundle().cases().rows {
        let bytes = |judge: &Judge| serde_json::to_vec(&decide(judge, &case.name)).unwrap();
        let first = bytes(&JUDGE);
        for judge in [&*JUDGE, &other, &again] {
            assert_eq!(bytes(judge), first, "{}", case.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn words_alone_change_nothing(words in "[a-z ]{40}") {
        let (mut case, directory) = case("public question leaves");
        case.text = Some("please count the words of this little text ".chars().take(40).collect());
        let (task, facts) = case.request(&directory).unwrap();
        let plain = JUDGE.decide(&task, &directory, &facts);
        case.text = Some(words);
        let (task, facts) = case.request(&directory).unwrap();
        let decision = JUDGE.decide(&task, &directory, &facts);
        prop_assume!(decision.findings.is_empty());
        prop_assert_eq!(serde_json::to_vec(&plain).unwrap(), serde_json::to_vec(&decision).unwrap());
    }

    #[test]
    fn stricter_labels_never_open_the_cloud(index in 0_usize..200, level in 0_usize..4) {
        let cases = &JUDGE.bundle().cases().rows;
        let case = &cases[index % cases.len()];
        let (mut task, facts) = case.request(&JUDGE.bundle().cases().directory).unwrap();
        let before = JUDGE.decide(&task, &JUDGE.bundle().cases().directory, &facts);
        let levels = [Sensitivity::Public, Sensitivity::Internal, Sensitivity::Confidential, Sensitivity::Restricted];
        task.labels.sensitivity = task.labels.sensitivity.max(levels[level]);
        let after = JUDGE.decide(&task, &JUDGE.bundle().cases().directory, &facts);
        prop_assert!(after.outcome != Outcome::Cloud || before.outcome == Outcome::Cloud, "{}", case.name);
    }
}

#[test]
fn where_two_policies_ask_two_queues_the_first_by_name_is_asked_for_the_larger_number() {
    let rule = |id: &str| {
        Variant::new().write(
            MORE,
            &format!(
                "@id(\"{id}\") @owner(\"o\") @title(\"t\") @queue(\"privacy\") @quorum(\"2\")
                 forbid (principal, action == Action::\"SkipReview\", resource) when {{ context.stakes == Stakes::\"high\" }};"
            ),
        )
    };
    let asked = |judge: &Judge| {
        let decision = decide(judge, "high stakes wait for a person");
        match decision.obligations.as_slice() {
            [Obligation::Review { queue, quorum, .. }] => (queue.to_string(), *quorum),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(&JUDGE), ("default".to_owned(), 1), "negative control: one policy asks");
    assert_eq!(asked(&judge(&rule("asks-first"))), ("privacy".to_owned(), 2));
    assert_eq!(asked(&judge(&rule("then-asks"))), ("default".to_owned(), 2), "after `review-high-stakes`");
}
