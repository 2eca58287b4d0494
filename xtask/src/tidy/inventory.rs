//! The code that runs as root, file by file, with why each is there: a table in ARCHITECTURE.md, so that its growing is seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{File, Finding, source};
use crate::program::root;

const DOCUMENT: &str = "ARCHITECTURE.md";
const HEAD: &str = "| lines | file below `crates/elevator/src` | |\n| ---: | --- | --- |\n";

/// How far a file may have grown, or shrunk, before its line is written anew.
const SLACK: usize = 20;

pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let document = files.iter().find(|file| file.path == Path::new(DOCUMENT));
    let told = document.map(|document| told(&document.text)).unwrap_or_default();
    let found = found(files);
    let is_told = |(name, Entry { lines, why }): (&String, &Entry)| {
        told.get(name).is_some_and(|told| told.why == *why && told.lines.abs_diff(*lines) <= SLACK)
    };
    let wrong = found.iter().filter(|entry| !is_told(*entry)).map(|(name, _)| name);
    let gone = told.keys().filter(|name| !found.contains_key(*name));
    let finding = |name| Finding::of(DOCUMENT, format!("tells something else of {name}: cargo xtask bless"));
    Ok(wrong.chain(gone).map(finding).collect())
}

/// Writes the table as it is now.
pub(crate) fn write() -> Result<()> {
    let path = root().join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (before, rest) =
        text.split_once(HEAD).context("ARCHITECTURE.md has no table of the elevator's files")?;
    let rest: String =
        rest.lines().skip_while(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
    let found = found(&source::files()?);
    let mut table = String::new();
    for (name, Entry { lines, why }) in &found {
        writeln!(table, "| {lines} | `{name}` | {why} |")?;
    }
    fs::write(&path, [before, HEAD, &table, &rest].concat())
        .with_context(|| format!("write {}", path.display()))
}

/// What there is to say of a file.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    lines: usize,
    why: String,
}

fn found(files: &[File]) -> BTreeMap<String, Entry> {
    let code = files.iter().filter_map(|file| {
        let name = file.path.strip_prefix("crates/elevator/src").ok()?.to_str()?;
        let is_test = name.split(['/', '.']).any(|part| ["tests", "bench"].contains(&part));
        (file.is_rust() && !is_test).then(|| {
            let entry = Entry { lines: lines_of_code(&file.text), why: first_sentence(&file.text) };
            (name.to_owned(), entry)
        })
    });
    code.collect()
}

fn told(document: &str) -> BTreeMap<String, Entry> {
    let (_, table) = document.split_once(HEAD).unwrap_or_default();
    let rows = table.lines().take_while(|line| line.starts_with('|')).filter_map(|line| {
        let mut cells = line.trim_matches(['|', ' ']).splitn(3, " | ");
        let (lines, name, why) = (cells.next()?, cells.next()?, cells.next()?);
        Some((name.trim_matches('`').to_owned(), Entry { lines: lines.parse().ok()?, why: why.to_owned() }))
    });
    rows.collect()
}

/// Without tests, comments and empty lines.
fn lines_of_code(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Of what the file says about itself.
fn first_sentence(text: &str) -> String {
    let about: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let about = about.join(" ");
    let sentence = about.split_once(". ").map_or(about.as_str(), |(first, _)| first);
    sentence.trim_end_matches('.').replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_code_and_its_first_sentence() {
        let text = "//! Does one thing, and\n//! no other. More of it.\n\nfn it() {}\n// why\n\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!((lines_of_code(text), first_sentence(text).as_str()), (1, "Does one thing, and no other"));
        let table = format!("Before\n\n{HEAD}| 1 | `it.rs` | Does one thing, and no other |\n\nAfter\n");
        let entry = Entry { lines: 1, why: first_sentence(text) };
        assert_eq!(told(&table), BTreeMap::from([("it.rs".to_owned(), entry)]));
    }
}
