//! Schemas that ask for what no task ever comes with.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::Bundle;
use crate::bundle::tests::Variant;

const SCHEMA: &str = "schema.cedarschema";

#[test]
fn what_nobody_gives_is_refused_by_name_and_line() {
    let table = [
        (
            "  hop: Long,",
            "  dlp_blocked?: Bool,\n  hop: Long,",
            "`dlp_blocked` is a fact that the judge never gives",
        ),
        (
            "= { tenant: Tenant };",
            "= {\n  tenant: Tenant,\n  vetted?: Bool\n};",
            "`vetted` is an attribute of `Agent`",
        ),
        (
            "  lane: Lane,\n  target",
            "  lane: Lane,\n  owner?: String,\n  target",
            "`owner` is an attribute of `Destination`",
        ),
        ("entity Tenant;", "entity Tenant tags String;", "`Tenant` has tags"),
        (
            "entity Tenant;",
            "entity Division;\nentity Tenant;",
            "`Division` is an entity that the judge never gives",
        ),
        ("entity Team in [Tenant];", "entity Team in [Tenant, Region];", "`Team` is never in a `Region`"),
        (
            "entity Cell;",
            "entity Cell;\nentity Mood enum [\"good\"];",
            "`Mood` is a vocabulary that no fact is of",
        ),
        (
            "\"medium\", \"high\"]",
            "\"medium\", \"high\", \"extreme\"]",
            "`extreme` is a `Stakes` that no fact ever is",
        ),
        (
            "action Route;",
            "action Export appliesTo { principal: [Agent], resource: [Destination], context: Work };\naction Route;",
            "`Export` is an action that nobody asks about",
        ),
        (
            "action RouteLocal, RouteCloud in [Route] appliesTo {",
            "action RouteCloud appliesTo { principal: [Agent], resource: [Destination], context: Work };\n\
             action RouteLocal in [Route] appliesTo {",
            "`RouteCloud` must be in `Route`",
        ),
        (
            "  principal: [Operator],",
            "  principal: [Operator, Reviewer],",
            "`Reviewer` is no principal that `Replay` is asked with",
        ),
    ];
    for (from, to, what) in table {
        let copy = Variant::new().replace(SCHEMA, from, to);
        let error = copy.read().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`schema.cedarschema` line ") && error.contains(what), "{what}: {error}");
    }
}

#[test]
fn a_forbid_that_could_never_act_stands_in_no_new_bundle_and_where_it_stood_it_is_read() {
    let hollow = Variant::new().replace(SCHEMA, "  hop: Long,", "  dlp_blocked?: Bool,\n  hop: Long,").write(
        "policies/99-more.cedar",
        "@id(\"dlp-blocks\") @owner(\"o\") @title(\"what is blocked stays\")\n\
             forbid (principal, action == Action::\"RouteCloud\", resource)\n\
             when { context has dlp_blocked && context.dlp_blocked };\n",
    );
    assert!(hollow.read().is_err());
    // The control: without the rule it passes all others, which is why the rule is there.
    let archive = hollow.unruled().archive().to_owned();
    assert!(Bundle::from_archive(&archive).is_err(), "nor as an archive");
    assert!(Bundle::from_kept(&archive).is_ok(), "what was active once is read");
}

#[test]
fn a_type_by_another_name_is_looked_through() {
    let aliased = Variant::new().replace(
        SCHEMA,
        "type Work = {",
        "type Work = Facts;\ntype Facts = {\n  dlp_blocked?: Bool,",
    );
    let error = aliased.read().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`dlp_blocked` is a fact that the judge never gives"), "{error}");
    // The control: by another name alone nothing is wrong.
    let alias = Variant::new().replace(SCHEMA, "type Work = {", "type Work = Facts;\ntype Facts = {");
    assert!(alias.read().is_ok());
}

#[test]
fn whom_no_directory_can_hold_is_refused_where_it_is_new_and_read_where_it_was() {
    let forbid = |scope: &str| {
        let text = format!(
            "@id(\"x\") @owner(\"o\") @title(\"t\")\nforbid ({scope}, action == Action::\"RouteCloud\", resource);\n"
        );
        Variant::new().write("policies/99-more.cedar", &text)
    };
    for scope in [
        "principal in Team::\"support\"",
        "principal == Agent::\"crawler\"",
        "principal in Role::\"Data Steward\"",
    ] {
        let copy = forbid(scope);
        let error = copy.read().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`99-more.cedar` line 1") && error.contains("which nobody can be"), "{error}");
        assert!(Bundle::from_kept(copy.unruled().archive()).is_ok(), "what was active once is read: {scope}");
    }
    assert!(forbid("principal in Team::\"acme/support\"").read().is_ok(), "negative control");
    let link = Variant::new().replace("links.toml", "Tenant::\"clinic\"", "Tenant::\"The Clinic\"");
    assert!(link.read().map(|_| ()).unwrap_err().to_string().contains("which nobody can be"));
}
