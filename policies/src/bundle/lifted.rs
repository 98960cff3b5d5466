//! Whether a feature flag that is on can lift a `forbid`. An operator sets flags alone and at once; what a bundle forbids is given up
//! by a release, which is proven or agreed to. So in a `forbid` flags are asked for only where more of them forbid more.

use serde_json::{Map, Value};

/// The attribute of the context that holds them.
const FLAGS: &str = "flags";

/// Whether a `forbid` with these conditions might hold for some flags and not for more.
pub(super) fn by_a_flag(conditions: &Value) -> bool {
    let all = conditions.as_array().into_iter().flatten();
    all.map(|condition| (condition.get("body"), condition.get("kind").is_some_and(|kind| kind == "when")))
        .any(|(body, holds)| body.is_some_and(|body| !grows(body, holds)))
}

/// Whether an expression that holds still holds with more flags; if not `up`, whether one that does not hold still does not.
fn grows(expr: &Value, up: bool) -> bool {
    if !looks(expr) {
        return true;
    }
    let Some((op, sides)) = expr.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next())
    else {
        return false;
    };
    let side = |key: &str| sides.get(key);
    let both = |a: &str, b: &str| [side(a), side(b)].into_iter().all(|x| x.is_some_and(|x| grows(x, up)));
    match op.as_str() {
        "&&" | "||" => both("left", "right"),
        "!" => side("arg").is_some_and(|arg| grows(arg, !up)),
        "if-then-else" => side("if").is_some_and(|asked| !looks(asked)) && both("then", "else"),
        "contains" | "containsAny" | "containsAll" => {
            up && side("left").is_some_and(is_flags) && side("right").is_some_and(|right| !looks(right))
        }
        "isEmpty" => !up && side("arg").is_some_and(is_flags),
        _ => false,
    }
}

/// Whether it looks at flags, or at the context as a whole.
fn looks(expr: &Value) -> bool {
    match expr {
        Value::Object(map) => match accessed(map) {
            Some(of) => {
                of.get("attr").is_some_and(|attr| attr == FLAGS) || of.get("left").is_some_and(beyond)
            }
            None => is_context(expr) || map.values().any(looks),
        },
        Value::Array(list) => list.iter().any(looks),
        _ => false,
    }
}

/// The same of what an attribute is taken from, which may be the context itself.
fn beyond(expr: &Value) -> bool {
    !is_context(expr) && looks(expr)
}

fn accessed(map: &Map<String, Value>) -> Option<&Value> {
    map.get(".").or_else(|| map.get("has")).filter(|_| map.len() == 1)
}

fn is_flags(expr: &Value) -> bool {
    let of = expr.as_object().and_then(|map| map.get("."));
    of.is_some_and(|of| of.get("left").is_some_and(is_context) && of.get("attr").is_some_and(|a| a == FLAGS))
}

fn is_context(expr: &Value) -> bool {
    expr.get("Var").is_some_and(|name| name == "context")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use cedar_policy::Policy;

    #[test]
    fn a_flag_lifts_no_forbid_and_may_only_add_to_one() {
        let rows = [
            ("when { context.flags.contains(Flag::\"x\") }", false),
            (
                "when { context.hop > 1 && (context.flags.containsAny([Flag::\"x\"]) || context.tools) }",
                false,
            ),
            ("when { context.flags.containsAll([Flag::\"x\", Flag::\"y\"]) }", false),
            ("when { !context.flags.isEmpty() }", false),
            ("unless { !context.flags.contains(Flag::\"x\") }", false),
            ("unless { context.flags.isEmpty() }", false),
            ("when { if context.tools then context.flags.contains(Flag::\"x\") else true }", false),
            ("when { context.approved } unless { context.tools }", false),
            ("unless { context.flags.contains(Flag::\"x\") }", true),
            ("when { !context.flags.contains(Flag::\"x\") }", true),
            ("when { context.flags.isEmpty() }", true),
            ("when { context.tools && !(context.hop > 1 || context.flags.contains(Flag::\"x\")) }", true),
            ("when { context.flags == [Flag::\"x\"] }", true),
            ("when { context.flags.contains(Flag::\"x\") == false }", true),
            ("when { if context.flags.contains(Flag::\"x\") then false else true }", true),
            ("when { [Flag::\"x\"].containsAll(context.flags) }", true),
            ("when { (if true then context else context).flags.contains(Flag::\"x\") }", true),
            ("when { {a: context}.a.flags.contains(Flag::\"x\") }", true),
        ];
        for (conditions, lifted) in rows {
            let text = format!("forbid (principal, action, resource) {conditions};");
            let json = Policy::parse(None, &text).unwrap().to_json().unwrap();
            assert_eq!(super::by_a_flag(&json["conditions"]), lifted, "{conditions}");
        }
    }
}
