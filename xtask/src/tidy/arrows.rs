//! Which crate of the workspace may use which.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{File, Finding};
use crate::program::{cargo, output};

/// A crate, and the crates of the workspace it may use.
const ARROWS: [(&str, &[&str]); 11] = [
    ("elevon-policy", &[]),
    ("elevon-wire", &["elevon-policy"]),
    ("elevon-identify", &["elevon-policy"]),
    ("elevon-server", &["elevon-policy", "elevon-wire", "elevon-identify"]),
    ("elevon-agent", &["elevon-policy", "elevon-wire"]),
    ("elevon-elevator", &["elevon-policy", "elevon-wire", "elevon-identify"]),
    ("elevon", &["elevon-policy", "elevon-wire"]),
    ("elevon-prompt", &["elevon", "elevon-policy", "elevon-wire"]),
    ("elevon-e2e", &["elevon-policy", "elevon-wire"]),
    ("elevon-bench", &["elevon-policy", "elevon-wire", "elevon-server", "elevon-e2e"]),
    ("xtask", &[]),
];

/// What a crate may use from outside, where that is limited.
const FROM_OUTSIDE: [(&str, &[&str]); 2] = [
    ("elevon-policy", &["serde", "serde_json", "uuid"]),
    ("elevon-wire", &["base64", "ed25519-dalek", "serde", "serde_json", "sha2"]),
];

pub(super) fn check(_files: &[File]) -> Result<Vec<Finding>> {
    let metadata = output(&mut cargo(["metadata", "--format-version=1", "--no-deps", "--offline"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("read what `cargo metadata` printed")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    Ok(packages.iter().flat_map(wrong_arrows).collect())
}

fn wrong_arrows(package: &Value) -> Vec<Finding> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        return vec![Finding::of(
            name,
            "a new crate; say in xtask/src/tidy/arrows.rs which crates it may use",
        )];
    };
    let outside = FROM_OUTSIDE.iter().find(|(known, _)| *known == name).map(|(_, allowed)| *allowed);
    let mut findings = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let used = dependency["name"].as_str().unwrap_or_default();
        let is_ours = dependency["path"].is_string();
        let for_tests_only = dependency["kind"].as_str() == Some("dev");
        if is_ours && !allowed.contains(&used) {
            findings.push(Finding::of(name, format!("uses {used}; it may use only: {}", allowed.join(", "))));
        }
        if let Some(outside) =
            outside.filter(|outside| !is_ours && !for_tests_only && !outside.contains(&used))
        {
            findings.push(Finding::of(
                name,
                format!("uses {used}; from outside it may use only: {}", outside.join(", ")),
            ));
        }
    }
    findings
}
