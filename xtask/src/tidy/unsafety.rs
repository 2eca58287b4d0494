//! `unsafe` stands in one room, so that one room can be read for it.

use std::path::Path;

use anyhow::Result;

use super::source::{code, has_word};
use super::{File, Finding};

const THE_ONE: &str = "crates/elevator/src/syscall.rs";

/// Below it: a C library is called there, and nothing else.
const BELOW: &str = "crates/elevator/src/syscall/pam.rs";

pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let elsewhere = |file: &&File| ![THE_ONE, BELOW].iter().any(|room| file.path == Path::new(room));
    for file in files.iter().filter(|file| file.is_rust()).filter(elsewhere) {
        for (number, line) in code(&file.text) {
            if has_word(&line, "unsafe") {
                let told = format!(
                    "`unsafe` stands in {THE_ONE} and {BELOW}, and nowhere else; add a safe function there"
                );
                findings.push(Finding::at(&file.path, number, told));
            }
        }
    }
    for file in
        files.iter().filter(|file| file.path.ends_with("Cargo.toml") && file.text.contains("[package]"))
    {
        let own_lints = ["crates/elevator/Cargo.toml", "fuzz/Cargo.toml"];
        let inherits = file.text.contains("[lints]\nworkspace = true");
        if !inherits && !own_lints.iter().any(|own| file.path == Path::new(own)) {
            findings
                .push(Finding::of(file.path.display().to_string(), "add `[lints]` with `workspace = true`"));
        }
    }
    Ok(findings)
}
