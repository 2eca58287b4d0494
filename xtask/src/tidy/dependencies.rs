//! All that is linked into the part that runs as root, as a committed list: it changes only where a person sees it.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use super::{File, Finding};
use crate::program::{cargo, output, root};

const LIST: &str = "crates/elevator/deps.txt";

/// What has no place in a root process that neither talks to the network nor runs an async runtime.
const BANNED: [&str; 12] = [
    "tokio",
    "async-std",
    "smol",
    "hyper",
    "axum",
    "reqwest",
    "ureq",
    "rustls",
    "openssl",
    "native-tls",
    "sqlx",
    "clap",
];

pub(super) fn check(_files: &[File]) -> Result<Vec<Finding>> {
    let found = list()?;
    let committed = fs::read_to_string(root().join(LIST)).unwrap_or_default();
    let mut findings = Vec::new();
    for line in found.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        if BANNED.contains(&name) {
            findings.push(Finding::of(
                "elevon-elevator",
                format!("links {name}, which has no place in a root process"),
            ));
        }
    }
    let (new, old): (BTreeSet<_>, BTreeSet<_>) = (found.lines().collect(), committed.lines().collect());
    let changes = new.difference(&old).map(|line| format!("+ {line}"));
    for change in changes.chain(old.difference(&new).map(|line| format!("- {line}"))) {
        findings.push(Finding::of(
            LIST,
            format!("{change}; if the root process should link that: cargo xtask bless"),
        ));
    }
    Ok(findings)
}

/// Writes the list as it is now.
pub(crate) fn write() -> Result<()> {
    let path = root().join(LIST);
    fs::write(&path, list()?).with_context(|| format!("write {}", path.display()))
}

/// Crates and versions, one a line, without those of this workspace and those that only run while it is compiled.
fn list() -> Result<String> {
    // One fixed target, so that the list does not depend on where it is made.
    let mut tree = cargo([
        "tree",
        "--package=elevon-elevator",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--locked",
    ]);
    let tree = output(tree.arg("--target=x86_64-unknown-linux-gnu"))?;
    let lines: BTreeSet<String> = tree.lines().filter_map(normalised).collect();
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

/// `name version`, from `name vVERSION (where) (*)`.
fn normalised(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    let is_ours = name.starts_with("elevon");
    (!is_ours).then(|| format!("{name} {}", version.trim_start_matches('v')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_is_a_name_and_a_version() {
        assert_eq!(normalised("serde v1.0.229 (*)").as_deref(), Some("serde 1.0.229"));
        assert_eq!(normalised("serde_derive v1.0.229 (proc-macro)").as_deref(), Some("serde_derive 1.0.229"));
        assert_eq!(normalised("elevon-policy v0.1.0 (/somewhere/crates/policy)"), None);
        assert_eq!(normalised(""), None);
    }
}
