//! What documents must say, and what nothing in the repository may say.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::{File, Finding};

pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = unnamed_rooms(files);
    findings.extend(files.iter().flat_map(out_of_place));
    findings.extend(files.iter().flat_map(|file| dead_links(file, files)));
    findings.extend(files.iter().flat_map(|file| cases_that_are_none(file, files)));
    Ok(findings)
}

/// Every crate and every room of it is named in ARCHITECTURE.md, in code type: `` `crates/policy` ``, `` `decide.rs` `` or
/// `` `decide` ``.
fn unnamed_rooms(files: &[File]) -> Vec<Finding> {
    let architecture = files.iter().find(|file| file.path == Path::new("ARCHITECTURE.md"));
    let Some(architecture) = architecture else {
        return vec![Finding::of(
            "ARCHITECTURE.md",
            "is missing; it names every crate and room, and says why",
        )];
    };
    let is_named = |name: &str| architecture.text.contains(&format!("`{name}`"));
    let mut missing = BTreeSet::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let parts: Vec<_> = file.path.iter().filter_map(|part| part.to_str()).collect();
        let ["crates", name, "src", room, ..] = parts.as_slice() else { continue };
        if !is_named(&format!("crates/{name}")) {
            missing.insert(format!("crates/{name}"));
        }
        let stem = room.trim_end_matches(".rs");
        let is_room = !["main", "lib"].contains(&stem);
        if is_room && ![stem, &format!("{stem}.rs"), &format!("{stem}/")].iter().any(|name| is_named(name)) {
            missing.insert(format!("crates/{name}/src/{room}"));
        }
    }
    missing.into_iter().map(|room| Finding::of("ARCHITECTURE.md", format!("does not name {room}"))).collect()
}

/// Hosts of package registries and places on somebody's computer. Written in pieces, so that this file passes its own rule.
const OUT_OF_PLACE: [[&str; 2]; 8] = [
    ["crates", ".io"],
    ["pypi", ".org"],
    ["npmjs", ".org"],
    ["npmjs", ".com"],
    ["deb.debian", ".org"],
    ["/root", "/.cargo"],
    ["/work", "/main"],
    ["/work", "/shared"],
];

fn out_of_place(file: &File) -> Vec<Finding> {
    // Cargo itself writes the registry's address into its lock files.
    if file.path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for words in OUT_OF_PLACE.map(|pieces| pieces.concat()).iter().filter(|words| line.contains(*words)) {
            let told = format!(
                "`{words}` has no place here; say it without naming a registry's host or one computer's paths"
            );
            findings.push(Finding::at(&file.path, at + 1, told));
        }
    }
    findings
}

/// A link from one document to a file that is not there.
fn dead_links(file: &File, files: &[File]) -> Vec<Finding> {
    if file.path.extension().is_none_or(|extension| extension != "md") {
        return Vec::new();
    }
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_inside = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            let path = resolved(&folder.join(target));
            let is_there = files.iter().any(|file| file.path.starts_with(&path))
                || crate::program::root().join(&path).exists();
            if is_inside && !is_there {
                findings.push(Finding::at(
                    &file.path,
                    at + 1,
                    format!("links to {target}, which is not there"),
                ));
            }
        }
    }
    findings
}

/// A case of the attack corpus by which a document says that something is covered, `` `area::case` ``, and which there is not.
fn cases_that_are_none(file: &File, files: &[File]) -> Vec<Finding> {
    if file.path != Path::new("docs/cve.md") {
        return Vec::new();
    }
    let is_there = |area: &str, case: &str| {
        let path = format!("e2e/tests/attacks/{area}.rs");
        let area = files.iter().find(|file| file.path == Path::new(&path));
        area.is_some_and(|area| area.text.contains(&format!("fn {case}(")))
    };
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let named = line.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::"));
        for (area, case) in named.filter(|(area, case)| !is_there(area, case)) {
            let told = format!("{area}::{case} is no case of the attack corpus");
            findings.push(Finding::at(&file.path, at + 1, told));
        }
    }
    findings
}

/// Without `.` and `..`.
fn resolved(path: &Path) -> std::path::PathBuf {
    let mut resolved = std::path::PathBuf::new();
    for part in path {
        match part.to_str() {
            Some(".") => {}
            Some("..") => {
                resolved.pop();
            }
            _ => resolved.push(part),
        }
    }
    resolved
}
