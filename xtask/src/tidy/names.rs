//! Names that say nothing are not used: a newcomer should know each room from its name.

use std::path::Path;

use anyhow::Result;

use super::source::code;
use super::{File, Finding};

const EMPTY: [&str; 13] = [
    "util", "utils", "common", "helper", "helpers", "manager", "managers", "service", "services", "type",
    "types", "misc", "stuff",
];

const EMPTY_ENDINGS: [&str; 5] = ["Manager", "Helper", "Helpers", "Utils", "Util"];

pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        // Units of systemd are called services by systemd.
        let parts = file.path.iter().filter_map(|part| Path::new(part).file_stem()?.to_str());
        let is_unit = file.path.extension().is_some_and(|extension| extension == "service");
        for part in parts.filter(|part| !is_unit && EMPTY.contains(part)) {
            let told =
                format!("`{part}` says nothing about what is in there; name it after what it is about");
            findings.push(Finding::of(file.path.display().to_string(), told));
        }
    }
    for file in files.iter().filter(|file| file.is_rust()) {
        for (number, line) in code(&file.text) {
            findings.extend(in_line(&line).map(|told| Finding::at(&file.path, number, told)));
        }
    }
    Ok(findings)
}

fn in_line(line: &str) -> Option<String> {
    if line.contains("fn get_") {
        return Some("no `get_`: a function that gives something is named after what it gives".into());
    }
    let mut words = line.split(|character: char| !(character.is_alphanumeric() || character == '_'));
    let declared =
        words.find(|word| ["mod", "struct", "enum", "trait"].contains(word)).and_then(|_| words.next())?;
    let empty = EMPTY.contains(&declared) || EMPTY_ENDINGS.iter().any(|ending| declared.ends_with(ending));
    empty.then(|| format!("`{declared}` says nothing about what it is; name it after what it is about"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_found() {
        for line in [
            "mod utils;",
            "pub(crate) mod helpers {",
            "pub struct SessionManager {",
            "    fn get_name(&self)",
        ] {
            assert!(in_line(line).is_some(), "{line}");
        }
        for line in [
            "mod utilisation;",
            "struct Session;",
            "fn name(&self)",
            "impl Service for X {}",
            "type Rule = fn();",
        ] {
            assert!(in_line(line).is_none(), "{line}");
        }
    }
}
