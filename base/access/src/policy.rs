//! Policies as text: the ones shipped, the schema they are validated against, and the reading of anybody's.

use std::str::FromStr as _;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};

/// The default policies, as shipped.
pub const POLICIES: &str = include_str!("policies.cedar");
/// The schema that policies are validated against.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The most text a namespace's policies may have, in bytes.
const TEXT: usize = 64 << 10;
/// The most text of one policy, in bytes, comments and spaces included: bounds how deep it can be nested, and so
/// the stack it is read and evaluated on.
const ONE: usize = 4 << 10;
/// The most brackets open at a time.
const DEPTH: usize = 32;
/// The most policies of a namespace.
const POLICIES_OF_ONE: usize = 200;
/// The stack on which strangers' text is parsed: deep nesting ends in an error, not in the process's end.
const STACK: usize = 256 << 20;

/// Policies that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the policies can't be used: {0}")]
pub struct PolicyError(pub(crate) String);

/// Checks a namespace's policies: they parse, fit the schema, and keep the limits.
///
/// # Errors
/// When they can't be used, with the place.
pub fn check(text: &str) -> Result<(), PolicyError> {
    parse(text, "check").map(drop)
}

/// The policies in a text, each named by its `@id`, or by its place, behind `prefix/`.
pub(crate) fn parse(text: &str, prefix: &str) -> Result<PolicySet, PolicyError> {
    if text.len() > TEXT {
        return Err(PolicyError(format!("they have {} bytes, more than {TEXT}", text.len())));
    }
    measure(text)?;
    let parse = || read(text, prefix);
    // A thread of its own for its stack.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, parse);
        let thread = thread.map_err(|error| PolicyError(error.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(PolicyError("reading them failed".into())))
    })
}

/// Refuses what is nested too deep for any stack, before anybody tries to read it.
fn measure(text: &str) -> Result<(), PolicyError> {
    let (mut depth, mut size, mut rest) = (0_usize, 0_usize, text.bytes().peekable());
    while let Some(byte) = rest.next() {
        size += 1;
        match byte {
            b'"' => {
                while let Some(inner) = rest.next_if(|inner| *inner != b'"') {
                    size += 1;
                    if inner == b'\\' {
                        rest.next();
                        size += 1;
                    }
                }
                rest.next();
            }
            b'/' if rest.peek() == Some(&b'/') => while rest.next_if(|inner| *inner != b'\n').is_some() {},
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => size = 0,
            _ => {}
        }
        if depth > DEPTH {
            return Err(PolicyError(format!("more than {DEPTH} brackets are open at a time")));
        }
        if size > ONE {
            return Err(PolicyError(format!("one policy has more than {ONE} bytes")));
        }
    }
    Ok(())
}

fn read(text: &str, prefix: &str) -> Result<PolicySet, PolicyError> {
    let wrong = |error: &dyn std::fmt::Display| PolicyError(error.to_string());
    let parsed = PolicySet::from_str(text).map_err(|error| wrong(&error))?;
    if parsed.templates().next().is_some() {
        return Err(PolicyError("templates (?principal, ?resource) are not supported".into()));
    }
    let policies: Vec<&Policy> = parsed.policies().collect();
    if policies.len() > POLICIES_OF_ONE {
        return Err(PolicyError(format!("there are {} of them, more than {POLICIES_OF_ONE}", policies.len())));
    }
    let mut named = PolicySet::new();
    for policy in policies {
        let name = policy.annotation("id").map_or_else(|| policy.id().to_string(), ToOwned::to_owned);
        let id = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        named.add(policy.new_id(PolicyId::new(id))).map_err(|error| wrong(&error))?;
    }
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| wrong(&error))?;
    let checked = Validator::new(schema).validate(&named, ValidationMode::Strict);
    match checked.validation_errors().next() {
        Some(error) => Err(wrong(error)),
        None => Ok(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_do_not_parse_or_fit_are_refused() {
        check(POLICIES).unwrap();
        let message = |text: &str| check(text).unwrap_err().to_string();
        message("permit(");
        assert!(message("permit(principal, action == Mantlet::Action::\"fly\", resource);").contains("fly"));
        message("permit(principal, action, resource) when { principal.nothing };");
        assert!(message("permit(principal == ?principal, action, resource);").contains("templates"));
        let twice = "@id(\"a\") permit(principal, action, resource); @id(\"a\") permit(principal, action, resource);";
        message(twice);
    }

    #[test]
    fn bombs_are_refused_and_cost_no_more_than_an_error() {
        let when = |condition: String| format!("permit(principal, action, resource) when {{ {condition} }};");
        for bomb in [
            when("(".repeat(30_000) + "true" + &")".repeat(30_000)),
            when("[".repeat(30_000) + &"]".repeat(30_000)),
            when("true".to_owned() + &" && true".repeat(7_000)),
            when("principal".to_owned() + &".a".repeat(30_000)),
            when("if true then true else ".repeat(2_500) + "true"),
            when("!".repeat(60_000) + "true"),
            when("-".repeat(60_000) + "1 == 1"),
            "permit(principal, action, resource);".repeat(1_800),
            " ".repeat(65_537),
        ] {
            assert!(check(&bomb).is_err(), "{}…", &bomb[..60.min(bomb.len())]);
        }
        // The deepest that the limits let through is read, whatever comes of it.
        for deep in [
            when("true".to_owned() + &" && true".repeat(480)),
            when("principal".to_owned() + &".a".repeat(1_900)),
            when("if true then true else ".repeat(170) + "true"),
            when("(".repeat(30) + "true" + &")".repeat(30)),
        ] {
            let _ = check(&deep);
        }
    }
}
