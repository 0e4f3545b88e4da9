//! The arrows between rooms: base ← brains ← services ← node, and no other.
//!
//! A service never leans on another service, and `testkit` is for tests, `xtask` and `evaluation` alone.

use super::{Finding, Tree, numbered};
use crate::workspace::{Package, Workspace};

/// What the crates of base and brains may lean on; a new crate there needs its line.
const INSIDE: [(&str, &[&str]); 12] = [
    ("base/types", &[]),
    ("base/ledger", &[]),
    ("base/sandbox", &[]),
    ("base/access", &["base/types"]),
    ("base/store", &["base/types"]),
    ("base/webhook", &["base/types"]),
    ("base/rpc", &["base/types", "base/access", "base/store"]),
    ("brains/online", &[]),
    ("brains/streaming", &["base/types", "brains/online"]),
    ("brains/balance", &["base/types", "brains/online"]),
    ("brains/defend", &["base/types", "brains/online"]),
    ("brains/plan", &["base/types", "brains/online"]),
];

/// A package of ours: its folder from the root, and what it leans on.
struct Crate<'a> {
    name: &'a str,
    folder: String,
    package: &'a Package,
}

/// Checks what `cargo metadata` says about our own packages.
pub(super) fn check(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let crates: Vec<_> = workspace.packages.iter().map(|package| ours(workspace, package)).collect();
    let mut findings = Vec::new();
    for from in &crates {
        if let Some(what) = misplaced(from) {
            findings.push(Finding::new(&format!("{}/Cargo.toml", from.folder), 1, what));
        }
        for dependency in &from.package.dependencies {
            let Some(to) = crates.iter().find(|to| to.name == dependency.name) else { continue };
            if let Err(rule) = allowed(&from.folder, &to.folder, dependency.kind.as_deref()) {
                let manifest = format!("{}/Cargo.toml", from.folder);
                let line = tree.text(&manifest).map_or(1, |text| line_of(text, to.name));
                let what = format!("{} may not lean on {}: {rule}; drop the dependency", from.folder, to.folder);
                findings.push(Finding::new(&manifest, line, what));
            }
        }
    }
    findings
}

fn ours<'a>(workspace: &Workspace, package: &'a Package) -> Crate<'a> {
    let folder = package.manifest_path.parent().unwrap_or(&package.manifest_path);
    Crate { name: &package.name, folder: workspace.shown(folder).replace('\\', "/"), package }
}

/// What is wrong with a crate's place or name.
fn misplaced(this: &Crate<'_>) -> Option<String> {
    let (room, last) = this.folder.split_once('/').unwrap_or(("", &this.folder));
    let expected = match last {
        "node" => "mantlet".to_owned(),
        "xtask" => "xtask".to_owned(),
        _ => format!("mantlet-{last}"),
    };
    if this.name != expected {
        return Some(format!("the package is called `{}`: name it `{expected}`, after its folder", this.name));
    }
    let known = INSIDE.iter().any(|(folder, _)| *folder == this.folder);
    (matches!(room, "base" | "brains") && !known)
        .then(|| format!("{} is new: say in xtask/src/tidy/arrows.rs what it may lean on", this.folder))
}

/// Whether one crate may lean on another, else the rule against it.
fn allowed(from: &str, to: &str, kind: Option<&str>) -> Result<(), &'static str> {
    let tests_only = kind == Some("dev");
    if tests_only && (to == "testkit" || to == from) {
        return Ok(());
    }
    match (room(from), room(to)) {
        ("xtask" | "evaluation", _) => Ok(()),
        (_, "testkit") => Err("testkit is a dev-dependency everywhere but in xtask and evaluation"),
        (_, "xtask" | "evaluation") => Err("nothing leans on xtask or evaluation"),
        ("testkit", _) => Ok(()),
        ("node", _) => Ok(()),
        (_, "node") => Err("node is the top"),
        ("services", "services") => Err("services meet only through the traits in base/rpc"),
        ("services", _) => Ok(()),
        _ => inside(from, to),
    }
}

fn room(folder: &str) -> &str {
    folder.split('/').next().unwrap_or(folder)
}

fn inside(from: &str, to: &str) -> Result<(), &'static str> {
    match INSIDE.iter().find(|(folder, _)| *folder == from) {
        Some((_, may)) if may.contains(&to) => Ok(()),
        _ => Err("arrows point down, and only where xtask/src/tidy/arrows.rs says so"),
    }
}

/// The line of a manifest that names the dependency; the first where none does.
fn line_of(manifest: &str, name: &str) -> usize {
    let names = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    numbered(manifest).find(|(_, line)| names(line)).map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_down() {
        for (from, to) in [
            ("base/rpc", "base/store"),
            ("brains/plan", "base/types"),
            ("brains/balance", "brains/online"),
            ("services/gateway", "base/rpc"),
            ("services/gateway", "brains/balance"),
            ("node", "services/registry"),
            ("node", "node/settings"),
            ("xtask", "testkit"),
            ("testkit", "base/access"),
        ] {
            assert_eq!(allowed(from, to, None), Ok(()), "{from} -> {to}");
        }
    }

    #[test]
    fn every_other_arrow_is_refused() {
        for (from, to) in [
            ("base/types", "base/ledger"),
            ("base/ledger", "base/types"),
            ("base/store", "base/access"),
            ("brains/online", "base/types"),
            ("brains/plan", "base/store"),
            ("brains/plan", "brains/balance"),
            ("base/rpc", "brains/plan"),
            ("brains/plan", "services/gateway"),
            ("services/gateway", "services/registry"),
            ("services/gateway", "node"),
            ("node", "testkit"),
            ("node", "xtask"),
            ("testkit", "xtask"),
        ] {
            assert!(allowed(from, to, None).is_err(), "{from} -> {to}");
            assert!(allowed(from, to, Some("build")).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn tests_may_use_testkit_and_their_own_crate_but_no_other_service() {
        assert_eq!(allowed("node", "testkit", Some("dev")), Ok(()));
        assert_eq!(allowed("base/store", "base/store", Some("dev")), Ok(()));
        assert!(allowed("services/gateway", "services/registry", Some("dev")).is_err());
    }

    #[test]
    fn a_finding_points_at_the_dependency() {
        let manifest = "[package]\nname = \"mantlet-gateway\"\n[dependencies]\nmantlet-registry.workspace = true\n";
        let json = r#"{"workspace_root": "/w", "target_directory": "/w/target", "packages": [
            {"name": "mantlet-gateway", "manifest_path": "/w/services/gateway/Cargo.toml",
             "dependencies": [{"name": "mantlet-registry", "kind": null}, {"name": "serde", "kind": null}]},
            {"name": "mantlet-registry", "manifest_path": "/w/services/registry/Cargo.toml", "dependencies": []}]}"#;
        let workspace = serde_json::from_str(json).unwrap();
        let findings = check(&Tree::of(&[("services/gateway/Cargo.toml", manifest)]), &workspace);
        let places: Vec<_> = findings.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
        assert_eq!(places, [("services/gateway/Cargo.toml", 4)]);
    }

    #[test]
    fn a_crate_in_an_unknown_place_or_under_another_name_is_found() {
        let json = r#"{"name": "mantlet-cache", "manifest_path": "/w/base/cache/Cargo.toml", "dependencies": []}"#;
        let package: Package = serde_json::from_str(json).unwrap();
        let place = |name, folder: &str| misplaced(&Crate { name, folder: folder.into(), package: &package });
        assert!(place("mantlet-cache", "base/cache").unwrap().contains("is new"));
        assert!(place("cache", "services/cache").unwrap().contains("name it `mantlet-cache`"));
        assert_eq!(place("mantlet", "node"), None);
        assert_eq!(place("mantlet-settings", "node/settings"), None);
        assert_eq!(place("mantlet-types", "base/types"), None);
    }
}
