//! A page of a program's `--help`, understood. The page is the definition: it is what people are shown, each program's own
//! tests hold it against what the program takes, and whatever this cannot make sense of is an error.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::program::{output, program};

/// A program, or one of its commands.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The words that lead here, the program's name first.
    pub(super) words: Vec<String>,
    pub(super) about: String,
    /// How it is called, without `Usage:`.
    pub(super) usage: String,
    pub(super) options: Vec<Choice>,
    /// What it takes beside options, in order.
    pub(super) arguments: Vec<Argument>,
    /// What holds for all options, such as where else they can be set.
    pub(super) note: String,
    /// Paragraphs after the options.
    pub(super) more: Vec<String>,
    pub(super) commands: Vec<Page>,
}

/// An option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) short: Option<char>,
    /// Without its dashes.
    pub(super) long: String,
    pub(super) value: Option<String>,
    pub(super) what: String,
}

/// Something that is typed in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) name: String,
    /// Where the page says more than its name.
    pub(super) what: String,
}

/// What a value or an argument may be, as far as its name tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    File,
    Folder,
    User,
    /// A program, and after it all that is the program's own.
    Program,
    /// One of these words, or with what suggests itself among others.
    OneOf(Vec<&'a str>),
    /// Anything.
    Free,
}

/// What words that stand below are indented by, more than what they are about.
const BELOW: &str = "        ";

impl Page {
    /// Asks a program, and each of its commands, for their pages.
    pub(super) fn of(executable: &Path, words: &[String]) -> Result<Self> {
        let mut asked = program(executable);
        // Pages may not depend on who asks.
        asked.env_clear().args(words.iter().skip(1)).arg("--help");
        let text = output(&mut asked)?;
        let (mut page, rows) =
            Self::read(words, &text).with_context(|| format!("understand `{} --help`", words.join(" ")))?;
        for (left, what) in rows {
            let name = left.split(' ').next().unwrap_or_default();
            let words: Vec<String> = words.iter().cloned().chain([name.to_owned()]).collect();
            let mut asked = program(executable);
            let own = output(asked.env_clear().args(words.iter().skip(1)).arg("--help"))?;
            // Where a command has no page of its own, its line on the program's page says all.
            let command =
                if own == text { Self::of_row(&words, &left, &what)? } else { Self::of(executable, &words)? };
            page.commands.push(command);
        }
        Ok(page)
    }

    /// A page, and what it says of its commands.
    fn read(words: &[String], text: &str) -> Result<(Self, Vec<(String, String)>)> {
        let mut page = Self { words: words.to_vec(), ..Self::default() };
        let mut commands = Vec::new();
        let (mut heading, mut paragraph, mut alone) = ("", String::new(), None);
        for line in text.lines().chain([""]) {
            if line.is_empty() {
                page.keep(&mut paragraph);
            } else if let Some(usage) = line.strip_prefix("Usage: ") {
                page.usage = usage.to_owned();
            } else if let Some(row) = line.strip_prefix("  ") {
                // Where some words do not fit beside, all stand below what they are about.
                let row = match alone.take() {
                    None => row.trim().to_owned(),
                    Some(left) if row.starts_with(BELOW) => format!("{left}  {}", row.trim()),
                    Some(left) => bail!("no word about {left}"),
                };
                let Some((left, what)) = row.split_once("  ") else {
                    alone = Some(row);
                    continue;
                };
                let (left, what) = (left.to_owned(), what.trim().to_owned());
                match heading {
                    "Commands" if left == "help" => {}
                    "Commands" => commands.push((left, what)),
                    "Arguments" => page.arguments.push(Argument { name: bare(&left), what }),
                    "Options" => page.options.push(Choice::read(&left, what)?),
                    _ => bail!("did not expect `{row}` under `{heading}`"),
                }
            } else if let Some(title) =
                line.strip_suffix(':').filter(|title| title.starts_with(['C', 'A', 'O']))
            {
                let (name, note) = title.split_once(" (").unwrap_or((title, ""));
                heading = name;
                page.note.push_str(note.trim_end_matches(')'));
            } else {
                paragraph.push_str(line);
                paragraph.push('\n');
            }
        }
        if let Some(left) = alone {
            bail!("no word about {left}");
        }
        ensure!(!page.about.is_empty() && !page.usage.is_empty(), "expected what it is for, and `Usage:`");
        let (arguments, _) = synopsis(&page.usage, words.len())?;
        let told = std::mem::take(&mut page.arguments);
        page.arguments = arguments;
        for argument in &mut page.arguments {
            if let Some(told) = told.iter().find(|told| told.name == argument.name) {
                argument.what.clone_from(&told.what);
            }
        }
        page.arguments.retain(|argument| argument.name != "COMMAND");
        Ok((page, commands))
    }

    fn keep(&mut self, paragraph: &mut String) {
        let paragraph = std::mem::take(paragraph).trim_end().to_owned();
        match (paragraph.is_empty(), self.about.is_empty()) {
            (true, _) => {}
            (false, true) => self.about = paragraph,
            (false, false) => self.more.push(paragraph),
        }
    }

    fn of_row(words: &[String], left: &str, what: &str) -> Result<Self> {
        let usage =
            words[..words.len() - 1].iter().map(String::as_str).chain([left]).collect::<Vec<_>>().join(" ");
        let (arguments, flags) = synopsis(&usage, words.len())?;
        let options =
            flags.into_iter().map(|long| Choice { short: None, long, value: None, what: String::new() });
        Ok(Self {
            words: words.to_vec(),
            about: what.to_owned(),
            options: options.collect(),
            arguments,
            usage,
            ..Self::default()
        })
    }

    /// This page and those of its commands, each after the one it belongs to.
    pub(super) fn all(&self) -> Vec<&Page> {
        let mut all = vec![self];
        all.extend(self.commands.iter().flat_map(Page::all));
        all
    }

    /// The last of the words that lead here.
    pub(super) fn name(&self) -> &str {
        self.words.last().map_or("", String::as_str)
    }

    /// What a person calls it, such as `elevon run`.
    pub(super) fn title(&self) -> String {
        self.words.join(" ")
    }

    /// The name of its function in a shell.
    pub(super) fn function(&self) -> String {
        format!("_{}", self.words.join("_").replace('-', "_"))
    }

    /// The options of this page, and those of the program that hold for each command.
    pub(super) fn options_with<'a>(&'a self, program: &'a Page) -> Vec<&'a Choice> {
        let own = |long: &str| self.options.iter().any(|option| option.long == long);
        let inherited =
            program.options.iter().filter(|option| option.long != "version" && !own(&option.long));
        self.options.iter().chain(inherited).collect()
    }

    /// Whether what follows is a program and all that is the program's own.
    pub(super) fn takes_program(&self) -> bool {
        self.arguments.first().is_some_and(|argument| argument.kind() == Kind::Program)
    }
}

impl Choice {
    /// From `-h, --help`, `--for DURATION` or `--config <FILE>`.
    fn read(left: &str, what: String) -> Result<Self> {
        let (mut short, mut long, mut value) = (None, None, None);
        for word in left.split([',', ' ']).filter(|word| !word.is_empty()) {
            if let Some(name) = word.strip_prefix("--") {
                long = Some(name.to_owned());
            } else if let Some(name) = word.strip_prefix('-') {
                short = name.chars().next();
            } else {
                value = Some(bare(word));
            }
        }
        let long = long.with_context(|| format!("expected a long name for {left}"))?;
        Ok(Self { short, long, value, what })
    }

    /// What its value may be.
    pub(super) fn kind(&self) -> Option<Kind<'_>> {
        self.value.as_deref().map(|name| kind(name, &self.what))
    }

    /// As it is typed: `--for`, `-h`.
    pub(super) fn spellings(&self) -> Vec<String> {
        let short = self.short.map(|short| format!("-{short}"));
        short.into_iter().chain([format!("--{}", self.long)]).collect()
    }
}

impl Argument {
    /// What it may be.
    pub(super) fn kind(&self) -> Kind<'_> {
        kind(&self.name, &self.what)
    }
}

fn kind<'a>(name: &'a str, what: &'a str) -> Kind<'a> {
    match name {
        "FILE" | "PATH" => Kind::File,
        "FOLDER" => Kind::Folder,
        "USER" => Kind::User,
        "PROGRAM" => Kind::Program,
        "DURATION" => Kind::OneOf(vec!["15m", "30m", "1h", "4h", "8h"]),
        // `owner, administrator, approver or auditor`: the words themselves are what can be typed.
        "ROLE" => Kind::OneOf(what.split([',', ' ']).filter(|word| !["", "or"].contains(word)).collect()),
        // `root|self`, or a single word.
        word if word.chars().all(|letter| letter.is_lowercase() || letter == '|') => {
            Kind::OneOf(word.split('|').collect())
        }
        _ => Kind::Free,
    }
}

/// What stands after `known` words: arguments by name, and flags.
fn synopsis(usage: &str, known: usize) -> Result<(Vec<Argument>, Vec<String>)> {
    let (mut arguments, mut flags) = (Vec::new(), Vec::new());
    let mut words = usage.split(' ').skip(known).peekable();
    while let Some(word) = words.next() {
        let name = bare(word);
        if let Some(flag) = name.strip_prefix("--") {
            // What follows a flag that takes one is its value.
            let takes = !word.ends_with(']')
                && words.peek().is_some_and(|next| {
                    next.starts_with('<') || next.ends_with(']') && !next.starts_with('[')
                });
            if takes {
                words.next();
            } else if !flag.is_empty() {
                flags.push(flag.to_owned());
            }
        } else if !["OPTIONS", "OPTION", ""].contains(&name.as_str()) && !word.ends_with("PATH]") {
            ensure!(
                name.chars().all(|letter| letter.is_ascii_uppercase()),
                "did not expect `{word}` in `{usage}`"
            );
            arguments.push(Argument { name, what: String::new() });
        }
    }
    Ok((arguments, flags))
}

/// `<FILE>`, `[ARGUMENT]...` and `FILE` name the same.
fn bare(word: &str) -> String {
    word.trim_end_matches("...").trim_matches(['<', '>', '[', ']']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_page_is_understood() {
        let text = "Do it.\n\nUsage: p run [OPTIONS] --role <ROLE> [--] PROGRAM [ARGUMENT]...\n\nOptions:\n  \
                    -q, --quiet  less\n      --role <ROLE>  owner, administrator or auditor\n\nExit status: 0.\n";
        let (page, commands) = Page::read(&words("p run"), text).expect("understood");
        assert!(commands.is_empty());
        assert_eq!(page.about, "Do it.");
        assert_eq!(page.more, ["Exit status: 0."]);
        assert!(page.takes_program());
        assert_eq!(page.options[0].spellings(), ["-q", "--quiet"]);
        assert_eq!(page.options[1].kind(), Some(Kind::OneOf(vec!["owner", "administrator", "auditor"])));
    }

    #[test]
    fn words_may_stand_below_what_they_are_about() {
        let text = "Do it.\n\nUsage: p\n\nOptions:\n      --role <ROLE>\n          owner or auditor\n  \
                    -q, --quiet\n          less\n";
        let (page, _) = Page::read(&words("p"), text).expect("understood");
        assert_eq!(page.options[0].kind(), Some(Kind::OneOf(vec!["owner", "auditor"])));
        assert_eq!(page.options[1].spellings(), ["-q", "--quiet"]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "Do it.\n",
            "Do it.\n\nUsage: p\n\nOptions:\n      --bare\n      --role <ROLE>  owner\n",
            "Do it.\n\nUsage: p\n\nOptions:\n  --bare\n",
            "Do it.\n\nUsage: p\n\nOptions:\n  -x  no long name\n",
            "Do it.\n\nUsage: p\n\nOther things:\n  a  b\n",
            "Do it.\n\nUsage: p odd\n",
        ] {
            assert!(Page::read(&words("p"), text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_command_may_be_a_row() {
        let page =
            Page::of_row(&words("p enroll"), "enroll TOKEN [--again]", "make it known").expect("understood");
        assert_eq!(page.arguments, [Argument { name: "TOKEN".into(), what: String::new() }]);
        assert_eq!(page.options[0].long, "again");
        assert_eq!(page.usage, "p enroll TOKEN [--again]");
    }
}
