//! `unsafe` stands in one file, so that one file can be read for it.

use std::path::Path;

use anyhow::Result;

use super::source::{code, has_word};
use super::{File, Finding};

const THE_ONE: &str = "crates/elevator/src/syscall.rs";

pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && file.path != Path::new(THE_ONE)) {
        for (number, line) in code(&file.text) {
            if has_word(&line, "unsafe") {
                let told =
                    format!("`unsafe` stands in {THE_ONE} and nowhere else; add a safe function there");
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
