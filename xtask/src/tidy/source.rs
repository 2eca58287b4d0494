//! The files of the repository, their code without comments and literals, and what the pure crates may not say.

use std::fs;

use anyhow::{Context, Result};

use super::{File, Finding};
use crate::program::{output, program, root};

/// Every text file that is, or is about to be, part of the repository.
pub(super) fn files() -> Result<Vec<File>> {
    let listed =
        output(program("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))
            .context("list the files of the repository")?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A file may be listed and deleted, or be no text.
        if let Ok(text) = fs::read_to_string(root().join(path)) {
            files.push(File { path: path.into(), text });
        }
    }
    Ok(files)
}

/// The lines of Rust code with comments and the insides of literals blanked out, numbered from 1.
pub(super) fn code(text: &str) -> Vec<(usize, String)> {
    blank(text).lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect()
}

/// What stands before the unit tests: those may open files, and look into a database.
pub(super) fn before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests").map_or(text, |end| &text[..end])
}

/// Whether a word stands there by itself.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn blank(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hidden = comment(rest).or_else(|| literal(rest));
        match hidden {
            Some(length) => {
                let (inside, after) = rest.split_at(length);
                blanked.extend(inside.chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
                rest = after;
            }
            None => {
                // A raw identifier or a word that ends in r must not start a raw string.
                let length = word(rest).unwrap_or(first.len_utf8());
                let (as_is, after) = rest.split_at(length);
                blanked.push_str(as_is);
                rest = after;
            }
        }
    }
    blanked
}

fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*").then(|| text.find("*/").map_or(text.len(), |end| end + 2))
}

fn literal(text: &str) -> Option<usize> {
    let raw = text.strip_prefix("br").or_else(|| text.strip_prefix('r'));
    if let Some(after) = raw {
        let hashes = after.chars().take_while(|character| *character == '#').count();
        if after[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = text.len() - after.len() + hashes + 1;
            return Some(text[start..].find(&close).map_or(text.len(), |end| start + end + close.len()));
        }
    }
    match text.chars().next()? {
        '"' => Some(closed_by(text, '"')),
        // A lifetime has no closing quote; a character literal has it after one character or an escape.
        '\'' => {
            let mut after = text.chars().skip(1);
            let (first, second) = (after.next()?, after.next()?);
            (first == '\\' || second == '\'').then(|| closed_by(text, '\''))
        }
        _ => None,
    }
}

fn closed_by(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn word(text: &str) -> Option<usize> {
    if ["r\"", "r#\"", "br\"", "br#\"", "b\"", "b'"].iter().any(|start| text.starts_with(start)) {
        return None;
    }
    let end =
        text.find(|character: char| !(character.is_alphanumeric() || character == '_')).unwrap_or(text.len());
    (end > 0).then_some(end)
}

/// What a crate that opens nothing and asks nothing has no use for.
const IMPURE: [&str; 13] = [
    "tokio",
    "sqlx",
    "axum",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "SystemTime",
    "Instant",
    "getrandom",
    "println",
];

const PURE: [&str; 3] = ["crates/policy/src", "crates/wire/src", "crates/identify/src"];

pub(super) fn check_pure(files: &[File]) -> Result<Vec<Finding>> {
    let pure = files.iter().filter(|file| {
        file.is_rust()
            && !file.path.ends_with("tests.rs")
            && PURE.iter().any(|pure| file.path.starts_with(pure))
    });
    let mut findings = Vec::new();
    for file in pure {
        for (number, line) in code(before_tests(&file.text)) {
            for word in IMPURE.iter().filter(|word| has_word(&line, word)) {
                let told = format!("`{word}` in a pure crate; time, chance and files are arguments here");
                findings.push(Finding::at(&file.path, number, told));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let blanked = |text| blank(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(blanked("let a = 1; // unsafe\nb"), "let a = 1; b");
        assert_eq!(blanked("f(\"unsafe \\\" {\", 'x', '\\'', b)"), "f( , , , b)");
        assert_eq!(blanked("r#\"unsafe \" \"# end"), "end");
        assert_eq!(blanked("fn f<'a>(x: &'a str) {} /* unsafe */ g"), "fn f<'a>(x: &'a str) {} g");
        assert_eq!(blanked("for r in var\"x\""), "for r in var");
    }

    #[test]
    fn a_word_stands_by_itself() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(has_word("use std::fs::File;", "std::fs"));
        assert!(!has_word("use mystd::fs;", "std::fs"));
    }
}
