//! Proofs with the real solver, each with its negative control.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_policies::{Bundle, Judge, cases};
use tidegate_prove::{Counterexample, Finding, NotProven, Outcome, Report, Solver, Verdict, compare, prove};

const LIMIT: Duration = Duration::from_secs(60);
const PERMIT: &str = "@id(\"leak\") @owner(\"o\") @title(\"t\") permit (principal is Agent, action == Action::\"RouteCloud\", resource is Destination);";

/// A copy of the default bundle, to be changed.
struct Variant(tempfile::TempDir);

impl Variant {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundles/default"), &temp.path().join("default"));
        Self(temp)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("default")
    }

    fn write(self, file: &str, text: &str) -> Self {
        fs::write(self.path().join(file), text).unwrap();
        self
    }

    fn append(self, file: &str, text: &str) -> Self {
        let there = fs::read_to_string(self.path().join(file)).unwrap();
        self.write(file, &format!("{there}\n{text}"))
    }

    fn replace(self, file: &str, from: &str, to: &str) -> Self {
        let text = fs::read_to_string(self.path().join(file)).unwrap();
        assert!(text.contains(from), "{file} has no `{from}`");
        self.write(file, &text.replacen(from, to, 1))
    }

    fn more(self, policy: &str) -> Self {
        self.write("policies/99-more.cedar", &format!("@id(\"more\") @owner(\"o\") @title(\"t\") {policy}"))
    }

    /// Everything may leave, but for what a `forbid` keeps.
    fn leaking(self) -> Self {
        self.write("policies/98-leak.cedar", PERMIT)
    }

    fn without(self, policy: &str) -> Self {
        let marker = format!("@id(\"{policy}\")");
        for entry in fs::read_dir(self.path().join("policies")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let Some(from) = text.find(&marker) else { continue };
            let to = from + text[from..].find(";\n").unwrap() + 1;
            fs::write(&path, format!("{}{}", &text[..from], &text[to..])).unwrap();
            return self;
        }
        panic!("no policy `{policy}`");
    }

    fn bundle(&self) -> Arc<Bundle> {
        Arc::new(Bundle::from_dir(&self.path()).unwrap())
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

fn solver() -> Solver {
    let solver = Solver::find(LIMIT);
    assert!(
        solver.program().is_some(),
        "these tests need cvc5: `apt-get install cvc5`, or name it with CVC5"
    );
    solver
}

fn asked(variant: &Variant, only: &str) -> Finding {
    let only = [only.to_owned()];
    prove(&variant.bundle(), &solver(), &only, &|_, _, _| {}).unwrap().pop().unwrap()
}

/// As it is found; making it plain takes the solver long.
fn refuted_somehow(variant: &Variant, only: &str) -> Counterexample {
    let (solver, only) = (solver().plain_within(Duration::ZERO), [only.to_owned()]);
    match prove(&variant.bundle(), &solver, &only, &|_, _, _| {}).unwrap().pop().unwrap().verdict {
        Verdict::Refuted { counterexample: Some(example), .. } => *example,
        other => panic!("{only:?}: {other:?}"),
    }
}

fn refuted(variant: &Variant, only: &str) -> Counterexample {
    match asked(variant, only).verdict {
        Verdict::Refuted { counterexample: Some(example), .. } => *example,
        other => panic!("{only}: {other:?}"),
    }
}

/// A program in place of the solver.
fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("solver");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn program(arguments: &[&str], cvc5: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-prove"));
    if let Some(cvc5) = cvc5 {
        command.env("CVC5", cvc5);
    }
    command.args(arguments).output().unwrap()
}

#[test]
fn the_bundles_that_ship_are_proven() {
    for name in ["default", "demo"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundles").join(name);
        let bundle = Arc::new(Bundle::from_dir(&dir).unwrap());
        let findings = prove(&bundle, &solver(), &[], &|_, _, _| {}).unwrap();
        let open: Vec<&Finding> =
            findings.iter().filter(|finding| !matches!(finding.verdict, Verdict::Proven)).collect();
        assert!(open.is_empty(), "{name}: {open:?}");
        assert_eq!(findings.len(), bundle.properties().len() + 2 * bundle.policy_ids().len());
        let report = Report { bundle, findings, comparison: None, took: Duration::ZERO };
        assert_eq!(report.exit_code(), 0);
    }
}

/// Each property, and the policies that keep it.
const GUARDS: [(&str, &[&str]); 19] = [
    ("restricted-never-leaves", &["restricted-stays"]),
    ("undeclared-never-leaves-unscanned", &["unscanned-stays"]),
    ("credentials-never-leave", &["secrets-stay"]),
    ("unknown-never-leaves", &["unknown-category-stays"]),
    ("hipaa-only-with-agreement", &["hipaa-certified"]),
    ("pci-never-leaves", &["pci-stays"]),
    ("export-control-never-leaves", &["export-control-stays"]),
    ("sox-only-with-soc2", &["sox-certified"]),
    ("gdpr-only-adequate", &["gdpr-region"]),
    ("gdpr-only-adequate", &["gdpr-consent"]),
    ("gdpr-only-with-agreement", &["gdpr-certified"]),
    ("residency-declared-holds", &["residency-declared"]),
    ("residency-tenant-holds", &["residency-tenant"]),
    ("training-public-only", &["training-public-only"]),
    ("off-is-off", &["switched-off"]),
    ("egress-only-when-ready", &["egress-not-ready"]),
    ("flagged-stays-local", &["flag-stay-local"]),
    ("providers-only-allowed", &["provider-allow-list"]),
    ("cost-within-limit", &["cost-limit"]),
];

#[test]
fn each_property_holds_by_its_guard_alone_and_without_it_cedar_confirms_a_counterexample() {
    let leaking = Variant::new().leaking();
    let only: Vec<String> = GUARDS.iter().map(|(property, _)| (*property).to_owned()).collect();
    // With everything permitted the guards alone keep what the properties say.
    for finding in prove(&leaking.bundle(), &solver(), &only, &|_, _, _| {}).unwrap() {
        assert!(matches!(finding.verdict, Verdict::Proven), "{finding:?}");
    }
    for (property, guards) in GUARDS {
        let without = guards.iter().fold(Variant::new().leaking(), |variant, guard| variant.without(guard));
        let example = refuted_somehow(&without, property);
        assert!(example.confirmed.contains("authorizer permits it"), "{property}: {}", example.confirmed);
        assert!(example.task.is_some() || example.no_task.is_some(), "{property}");
    }
    let example = refuted_somehow(&Variant::new().without("review-high-stakes"), "high-stakes-are-reviewed");
    assert!(example.action.contains("SkipReview"));
}

#[test]
fn a_dead_end_is_found_and_the_task_that_is_in_it_runs_as_a_case() {
    let local = "forbid (principal, action == Action::\"RouteLocal\", resource) when { context.kind == Kind::\"chat\" && context.stakes == Stakes::\"high\" };";
    let closed = Variant::new().more(local);
    let example = refuted(&closed, "tasks-have-a-place");
    assert!(example.confirmed.contains("denies `local-chat` (by more)"), "{}", example.confirmed);
    let task = example.task.unwrap();
    assert_eq!(task.envelope["labels"]["stakes"], "high");
    // The judge turns it away once the cloud is not open either.
    let run = Variant::new()
        .more(local)
        .write("cases/99-found.toml", &task.case)
        .write("cases/directory.toml", &format!("schema_version = 1\n{}", task.directory));
    let ran = cases::run(&Judge::new(run.bundle()).unwrap());
    let own = ran.iter().find(|case| case.name.starts_with("counterexample")).unwrap();
    assert_eq!(own.differences, Vec::<String>::new());
    let elsewhere = Variant::new().replace("destinations.toml", "region = \"eu\"", "region = \"us\"");
    refuted_somehow(&elsewhere, "europeans-have-a-place");
    // Negative control: what closes another lane closes nothing here.
    let other = Variant::new()
        .more("forbid (principal, action == Action::\"RouteCloud\", resource) when { context.hop > 2 };");
    assert!(matches!(asked(&other, "tasks-have-a-place").verdict, Verdict::Proven));
}

#[test]
fn a_counterexample_is_a_task_that_the_judge_really_lets_out() {
    let without = Variant::new().leaking().without("pci-stays");
    // Only the plainest example is sure to need no review; on a busy machine that takes its time.
    let (patient, only) = (solver().plain_within(Duration::from_secs(150)), ["pci-never-leaves".to_owned()]);
    let finding = prove(&without.bundle(), &patient, &only, &|_, _, _| {}).unwrap().pop().unwrap();
    let Verdict::Refuted { counterexample: Some(example), .. } = finding.verdict else {
        panic!("{finding:?}")
    };
    let task = example.task.unwrap();
    assert_eq!(task.envelope["labels"]["regulations"][0], "pci");
    assert!(task.decided.starts_with("cloud at "), "{}", task.decided);
    let place = task.decided.split('`').nth(1).unwrap();
    assert!(without.bundle().destinations().iter().any(|spec| spec.name.as_str() == place), "{place}");
}

#[test]
fn a_counterexample_that_needs_a_finding_has_a_text_in_which_it_is_found() {
    let promise = "\n[[property]]\nid = \"found-stays\"\ntitle = \"t\"\nowner = \"o\"\naction = \"RouteCloud\"\nnever = 'context.findings > 0 && context.scan != Scan::\"model\" && context.categories == [Category::\"personal\"] && context.sensitivity == Sensitivity::\"confidential\"'\n";
    let keeps = || Variant::new().leaking().append("properties.toml", promise);
    assert!(matches!(asked(&keeps(), "found-stays").verdict, Verdict::Proven), "negative control");
    // Only the plainest example is sure to be a task; on a busy machine that takes its time.
    let (patient, only) = (solver().plain_within(Duration::from_secs(150)), ["found-stays".to_owned()]);
    let without = keeps().without("findings-stay").bundle();
    let finding = prove(&without, &patient, &only, &|_, _, _| {}).unwrap().pop().unwrap();
    let Verdict::Refuted { counterexample: Some(example), .. } = finding.verdict else {
        panic!("{finding:?}")
    };
    let task = example.task.unwrap_or_else(|| panic!("{:?} {}", example.no_task, example.context));
    assert!(
        task.decided.starts_with("cloud at ") || task.decided.starts_with("hold at "),
        "{}",
        task.decided
    );
    let said = task.envelope.to_string();
    assert!(!said.contains("the capital of France"), "{said}");
    assert!(example.context["findings"].as_u64().is_some_and(|count| count == 1), "{}", example.context);
}

#[test]
fn a_template_link_that_leaks_is_found() {
    let template = "permit (principal in ?principal, action == Action::\"RouteCloud\", resource);";
    let link = "[[link]]\nid = \"clinic-leaks\"\ntemplate = \"more\"\nprincipal = 'Tenant::\"clinic-two\"'\nowner = \"o\"\n";
    let leaks = Variant::new().more(template).without("restricted-stays").append("links.toml", link);
    let example = refuted(&leaks, "restricted-never-leaves");
    assert_eq!(example.confirmed, "Cedar's own authorizer permits it (by clinic-leaks)");
    assert!(example.groups.iter().any(|group| group == "Tenant::\"clinic-two\""), "{:?}", example.groups);
    // Negative control: the template alone permits nothing.
    let unlinked = Variant::new().more(template).without("restricted-stays");
    assert!(matches!(asked(&unlinked, "restricted-never-leaves").verdict, Verdict::Proven));
}

#[test]
fn arithmetic_that_overflows_is_found() {
    // A `forbid` may not compute at all.
    let permit = |factor: &str| {
        Variant::new().more(&format!(
            "permit (principal, action == Action::\"RouteCloud\", resource) when {{ context.tokens_in * resource.price_in * {factor} > 5 }};"
        ))
    };
    let example = refuted_somehow(&permit("1000000"), "never-fails:more");
    assert!(example.confirmed.contains("overflow"), "{}", example.confirmed);
    // Negative control: within the judge's limits this one cannot.
    assert!(matches!(asked(&permit("100"), "never-fails:more").verdict, Verdict::Proven));
}

#[test]
fn a_policy_that_can_never_apply_is_found() {
    let forbid = |rule: &str| {
        Variant::new().more(&format!(
            "forbid (principal, action == Action::\"RouteCloud\", resource) when {{ {rule} }};"
        ))
    };
    let dead = forbid("context.hop > 5 && context.hop < 3");
    assert!(matches!(asked(&dead, "applies:more").verdict, Verdict::Refuted { counterexample: None, .. }));
    // Labels are only raised: the judge knows no such task.
    let dead = forbid(
        "context.declared == Sensitivity::\"restricted\" && context.sensitivity == Sensitivity::\"public\"",
    );
    assert!(matches!(asked(&dead, "applies:more").verdict, Verdict::Refuted { .. }));
    assert!(matches!(
        asked(&forbid("context.hop > 3 && context.hop < 5"), "applies:more").verdict,
        Verdict::Proven
    ));
}

#[test]
fn a_property_that_says_nothing_is_not_proven() {
    let head = "[[property]]\nid = \"p\"\ntitle = \"t\"\nowner = \"o\"\naction = \"RouteCloud\"\n";
    let property = |never: &str| Variant::new().write("properties.toml", &format!("{head}never = '{never}'"));
    let vacuous = asked(&property("context.hop > 5 && context.hop < 3"), "p").verdict;
    assert!(matches!(vacuous, Verdict::NotProven(NotProven::Vacuous)), "{vacuous:?}");
    let fails = asked(&property("context.findings * 9223372036854775807 > 0"), "p").verdict;
    assert!(matches!(fails, Verdict::NotProven(NotProven::Failed(_))), "{fails:?}");
    assert!(matches!(asked(&property("context.hop > 8"), "p").verdict, Verdict::Proven));
}

#[test]
fn wider_narrower_and_equal_are_told_apart() {
    let default = Variant::new().bundle();
    let outcome = |new: &Variant| {
        let comparison = compare(&new.bundle(), &default, &solver().plain_within(Duration::ZERO)).unwrap();
        // Whatever is wider is so by an example, or by a number.
        for change in &comparison.changes {
            if let Verdict::Refuted { why, counterexample } = &change.not_wider {
                let by_words = ["rose", "caps the cost no more", "another one", "than before"];
                assert!(
                    counterexample.is_some() || by_words.iter().any(|words| why.contains(words)),
                    "{why}"
                );
            }
        }
        comparison
    };
    let file = "destinations.toml";
    let rows = [
        ("the same", Variant::new(), Outcome::Equal),
        ("another comment", Variant::new().append("policies/10-route.cedar", "// more"), Outcome::Equal),
        ("a local rule", Variant::new().more("forbid (principal, action == Action::\"RouteLocal\", resource) when { context.hop > 3 };"), Outcome::Equal),
        ("a permit", Variant::new().leaking(), Outcome::Wider),
        ("a review less", Variant::new().without("review-high-stakes"), Outcome::Wider),
        ("a certification", Variant::new().replace(file, "\"iso27001\", \"gdpr_dpa\"]", "\"iso27001\", \"gdpr_dpa\", \"hipaa_baa\"]"), Outcome::Wider),
        ("a cost", Variant::new().replace("bundle.toml", "= 500_000", "= 600_000"), Outcome::Wider),
        ("a forbid", Variant::new().more("forbid (principal, action == Action::\"RouteCloud\", resource) when { context.hop > 3 };"), Outcome::Narrower),
        ("a region", Variant::new().replace(file, "name = \"anthropic\"\nlane = \"cloud\"\ntarget = \"anthropic\"\nmodel = \"claude-haiku-4-5\"\nregion = \"us\"", "name = \"anthropic\"\nlane = \"cloud\"\ntarget = \"anthropic\"\nmodel = \"claude-haiku-4-5\"\nregion = \"eu\""), Outcome::Wider),
        ("what a flag gives, whoever it is on for", Variant::new().more("permit (principal is Agent, action == Action::\"RouteCloud\", resource is Destination) when { context.flags.contains(Flag::\"stay-local\") };").without("flag-stay-local"), Outcome::Wider),
        ("what a flag takes that another rule took", Variant::new().more("forbid (principal, action == Action::\"RouteCloud\", resource) when { !context.flags.isEmpty() && context.hop > 3 };"), Outcome::Equal),
        ("key words", Variant::new().replace("taxonomy.toml", "\"symptoms\", ", ""), Outcome::NotProven),
    ];
    for (what, new, wanted) in rows {
        let comparison = outcome(&new);
        assert_eq!(comparison.outcome(), wanted, "{what}: {:?}", comparison.changes);
    }
    let text = fs::read_to_string(Variant::new().path().join(file)).unwrap();
    let (head, community) = text.rsplit_once("[[destination]]").unwrap();
    let more = format!("{text}\n[[destination]]{}", community.replace("\"community\"", "\"commune\""));
    let more = outcome(&Variant::new().write(file, &more));
    assert_eq!(more.outcome(), Outcome::Wider, "a destination");
    let fewer = outcome(&Variant::new().write(file, head));
    assert_eq!(fewer.outcome(), Outcome::Narrower, "a destination less");
}

/// Each is a way in which more may leave though no permit says so.
#[test]
fn what_no_policy_sees_counts_as_wider_or_is_not_proven() {
    let named =
        "forbid (principal, action == Action::\"RouteCloud\", resource == Destination::\"openai-eu\");";
    let fails = "permit (principal, action == Action::\"RouteCloud\", resource) when { context.tokens_in * resource.price_in * 1000000 > 5 };";
    let (new, places) = (Variant::new, "destinations.toml");
    let asks = |note: &str| {
        let rule = format!(
            "@id(\"asks\") @owner(\"o\") @title(\"t\") {note} forbid (principal, action == Action::\"SkipReview\", resource) when {{ context.hop > 3 }};"
        );
        new().write("policies/98-asks.cedar", &rule)
    };
    let latency = || {
        new().replace(
            places,
            "latency_ms = 1000\nrank = 10\ncertifications",
            "latency_ms = 1001\nrank = 10\ncertifications",
        )
    };
    let cap = |cap: &str| {
        new().replace("policies/10-route.cedar", "micros(\"200000\")", &format!("micros(\"{cap}\")"))
    };
    let two = || {
        let (file, queue) = ("policies/50-people.cedar", "@queue(\"privacy\")");
        new().replace(file, queue, &format!("{queue}\n@quorum(\"2\")"))
    };
    let rows = [
        ("negative control: a higher latency", new(), latency(), Outcome::Narrower),
        ("a rule for a place that changed", new().more(named), latency(), Outcome::Wider),
        ("another address", new(), new().replace(places, "base_url = \"openai-eu\"", "base_url = \"openai\""), Outcome::Wider),
        ("more kinds", new(), new().replace(places, "kinds = [\"chat\"]\ntools = true\nstreams = true\ncontext_tokens = 200000\nprice_in = 15", "kinds = [\"chat\", \"extract\"]\ntools = true\nstreams = true\ncontext_tokens = 200000\nprice_in = 15"), Outcome::Wider),
        ("a lower price", new(), new().replace(places, "price_in = 165_000", "price_in = 164_000"), Outcome::Wider),
        ("a higher cap", new(), cap("300000"), Outcome::Wider),
        ("a lower cap", new(), cap("100000"), Outcome::Narrower),
        ("a group of actions", new(), new().replace("schema.cedarschema", "action SkipReview appliesTo", "action SkipReview in [Route] appliesTo"), Outcome::NotProven),
        ("a region that was not known", new(), new().replace("taxonomy.toml", "jp = [\"adequate\"]", "jp = [\"adequate\"]\nca = [\"world\"]"), Outcome::NotProven),
        ("no guarantees", new(), new().write("properties.toml", ""), Outcome::NotProven),
        ("another queue", new(), new().replace("policies/50-people.cedar", "@queue(\"default\")", "@queue(\"other\")"), Outcome::NotProven),
        ("a rule more that names a queue", new(), asks("@queue(\"stakes\")"), Outcome::NotProven),
        ("negative control: one that names none", new(), asks(""), Outcome::Narrower),
        ("a rule less that named a queue", asks("@queue(\"stakes\")"), new(), Outcome::Wider),
        ("a policy less that failed", new().more(fails), new(), Outcome::NotProven),
        ("all agents' work redacted", new(), new().replace("policies/25-redaction.cedar", "principal in Role::\"redacted-cloud\"", "principal is Agent"), Outcome::NotProven),
        ("fewer who must agree", two(), new(), Outcome::NotProven),
        ("negative control: as many who must agree", two(), two(), Outcome::Equal),
        ("an edit that leaves by the editor's own word", new(), new().without("review-edited-egress"), Outcome::NotProven),
    ];
    for (what, old, new, wanted) in rows {
        let solver = solver().plain_within(Duration::ZERO);
        let found = compare(&new.bundle(), &old.bundle(), &solver).unwrap();
        assert_eq!(found.outcome(), wanted, "{what}: {:?} {:?}", found.changes, found.doubt);
    }
}

#[test]
fn without_a_solver_nothing_is_proven() {
    let bundle = Variant::new().bundle();
    let findings = prove(&bundle, &Solver::none(LIMIT), &[], &|_, _, _| {}).unwrap();
    let unproven = |finding: &Finding| matches!(finding.verdict, Verdict::NotProven(NotProven::NoSolver));
    assert!(!findings.is_empty() && findings.iter().all(unproven));
    let comparison = compare(&bundle, &bundle, &Solver::none(LIMIT)).unwrap();
    assert_eq!(comparison.outcome(), Outcome::NotProven);
    let report = Report { bundle, findings, comparison: Some(comparison), took: Duration::ZERO };
    assert_eq!(report.exit_code(), 3);
}

#[test]
fn a_solver_that_hangs_is_cut_off_and_one_that_lies_is_none() {
    let temp = tempfile::tempdir().unwrap();
    let only = ["restricted-never-leaves".to_owned()];
    let ask = |text: &str, limit: Duration| {
        let solver = Solver::at(&script(temp.path(), text), limit);
        prove(&Variant::new().bundle(), &solver, &only, &|_, _, _| {}).unwrap().pop().unwrap().verdict
    };
    let (limit, started) = (Duration::from_millis(500), Instant::now());
    let hangs = ask("echo sat; echo unsat; exec sleep 600", limit);
    assert!(matches!(&hangs, Verdict::NotProven(NotProven::TimedOut(after)) if *after == limit), "{hangs:?}");
    assert!(started.elapsed() < Duration::from_secs(60));
    let lies = ask("while read line; do case $line in *check-sat*) echo unsat;; esac; done", LIMIT);
    assert!(matches!(lies, Verdict::NotProven(NotProven::NotASolver(_))), "{lies:?}");
    let dies = ask("exit 1", LIMIT);
    assert!(matches!(dies, Verdict::NotProven(NotProven::NotASolver(_))), "{dies:?}");
    // It says "unknown" of all but the trial.
    let shrugs = ask("echo sat; echo unsat; yes unknown", LIMIT);
    assert!(matches!(shrugs, Verdict::NotProven(NotProven::Unknown)), "{shrugs:?}");
}

#[test]
fn the_program_tells_by_its_exit_status() {
    let leaks = Variant::new().leaking().without("pci-stays");
    let leaks_at = leaks.path().display().to_string();
    let default = Variant::new();
    let against = default.path().display().to_string();
    let only = ["--only", "pci-never-leaves"];
    let run = |arguments: &[&str], cvc5| {
        let out = program(&[arguments, &only].concat(), cvc5);
        let text = String::from_utf8(out.stdout).unwrap();
        (out.status.code().unwrap(), text, String::from_utf8(out.stderr).unwrap())
    };
    let (code, _, error) = run(&["nowhere"], None);
    assert_eq!(code, 3, "a bundle that is not there: {error}");
    let (code, text, told) = run(&[&against], None);
    assert!(
        code == 0 && text.contains("1 proven") && told.contains("1/1 proven pci-never-leaves"),
        "{text}{told}"
    );
    let (code, text, _) = run(&[&leaks_at], None);
    assert!(
        code == 1 && text.contains("REFUTED") && text.contains("[[case]]") && text.contains("policy explain"),
        "{text}"
    );
    let wider = Variant::new().leaking();
    let (code, text, _) = run(&[&wider.path().display().to_string(), "--against", &against], None);
    assert!(code == 2 && text.contains("cloud access: wider"), "{text}");
    let (code, text, _) = run(&[&against, "--json"], Some("/nowhere/cvc5"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["not_proven"], &json["proven"]), (3, &1.into(), &0.into()));
    assert!(json["findings"][0]["why"].as_str().unwrap().contains("install cvc5"));
    let unknown = program(&[&against, "--only", "no-such-thing"], None);
    assert_eq!(unknown.status.code(), Some(3));
}
