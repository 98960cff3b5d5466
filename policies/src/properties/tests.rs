//! What is a property and what is none.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::bundle::Bundle;
use crate::bundle::tests::Variant;

const FILE: &str = "properties.toml";
const HEAD: &str = "[[property]]\nid = \"p\"\ntitle = \"t\"\nowner = \"o\"\n";

#[test]
fn properties_are_part_of_the_bundle_and_their_layout_is_not() {
    let property = |text: &str| Variant::new().write(FILE, &format!("{HEAD}{text}")).read().unwrap();
    let plain = property("action = \"RouteCloud\"\nnever = 'context.hop > 3 && context.tools'");
    let laid_out =
        property("action = 'RouteCloud'\nnever = '''\n  // why\n  context.hop>3\n  && context.tools'''");
    assert_eq!(plain.hash(), laid_out.hash());
    let other = property("action = \"RouteCloud\"\nnever = 'context.hop > 4 && context.tools'");
    assert_ne!(plain.hash(), other.hash());
    let again = Bundle::from_archive(plain.archive()).unwrap();
    assert_eq!((again.hash(), again.properties()), (plain.hash(), plain.properties()));
}

#[test]
fn a_bundle_without_properties_is_the_archive_that_it_was() {
    let none = Variant::new().remove(FILE).read().unwrap();
    assert!(!none.archive().contains("\"properties\""));
    assert!(Bundle::from_archive(none.archive()).unwrap().properties().is_empty());
    // An empty file is no part either.
    assert_eq!(Variant::new().write(FILE, "").read().unwrap().hash(), none.hash());
    assert_ne!(Variant::new().read().unwrap().hash(), none.hash(), "the default bundle has some");
}

#[test]
fn what_is_no_property_is_refused() {
    let table = [
        ("no form", "action = \"RouteCloud\"", "needs `action` with"),
        (
            "two forms",
            "action = \"RouteCloud\"\nnever = 'context.tools'\nonly_if = 'context.tools'",
            "needs `action`",
        ),
        ("no action", "never = 'context.tools'", "needs `action`"),
        ("an unknown action", "action = \"RouteMoon\"\nnever = 'context.tools'", "RouteMoon"),
        ("bad syntax", "action = \"RouteCloud\"\nnever = 'context.tools &&'", "no condition"),
        (
            "two conditions",
            "action = \"RouteCloud\"\nnever = 'context.tools } unless { context.tools'",
            "not one",
        ),
        (
            "two policies",
            "action = \"RouteCloud\"\nnever = 'true }; forbid (principal, action, resource) when { true'",
            "no condition",
        ),
        ("an unknown fact", "action = \"RouteCloud\"\nnever = 'context.mood'", "mood"),
        ("a misspelt word", "action = \"RouteCloud\"\nnever = 'context.kind == Kind::\"chatt\"'", "chatt"),
        (
            "a condition that never holds",
            "action = \"RouteCloud\"\nnever = 'context.tools && false'",
            "property `p`",
        ),
        ("an unknown key", "action = \"RouteCloud\"\nnever = 'context.tools'\nmood = 1", "mood"),
        ("reachable by the destination", "reachable = 'resource.zero_retention'", "resource"),
        (
            "one twice",
            "reachable = 'context.tools'\n[[property]]\nid = \"p\"\ntitle = \"t\"\nowner = \"o\"\nreachable = 'context.tools'",
            "twice",
        ),
    ];
    for (what, text, wanted) in table {
        let error = Variant::new().write(FILE, &format!("{HEAD}{text}")).read().map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(wanted), "{what}: {error}");
    }
    let unnamed = HEAD.replace("\"t\"", "\"\"");
    let error =
        Variant::new().write(FILE, &format!("{unnamed}reachable = 'context.tools'")).read().map(|_| ());
    assert!(error.unwrap_err().to_string().contains("`title`"));
}
