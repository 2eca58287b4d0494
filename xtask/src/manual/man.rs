//! Manual pages, in the classic macros, which every `man` reads.

use std::fmt::Write as _;

use super::page::{Choice, Page};

/// The section a program's page belongs in: what users type, or what root runs.
pub(super) fn section(program: &Page) -> u8 {
    if program.name() == "elevon" { 1 } else { 8 }
}

/// A program's page, with its commands.
pub(super) fn file(program: &Page, version: &str, programs: &[Page]) -> String {
    let name = program.name();
    let mut text = format!(
        ".TH {} {} \"\" \"Elevon {version}\" \"Elevon\"\n",
        escaped(&name.to_uppercase()),
        section(program)
    );
    let about = program.about.trim_end_matches('.');
    let about = about.strip_prefix(name).unwrap_or(about).trim_start();
    let _ = writeln!(text, ".SH NAME\n{} \\- {}", escaped(name), escaped(about));
    let _ = writeln!(text, ".SH SYNOPSIS\n{}", usage(&program.usage, name));
    let _ = writeln!(text, ".SH DESCRIPTION\n{}.", escaped(program.about.trim_end_matches('.')));
    paragraphs(&mut text, &program.more);
    text.push_str(".SH COMMANDS\n");
    for page in program.all().into_iter().skip(1) {
        command(&mut text, page, program);
    }
    text.push_str(".SH OPTIONS\n");
    if !program.note.is_empty() {
        let _ = writeln!(text, "{}", sentence(&program.note));
    }
    program.options.iter().for_each(|choice| option(&mut text, choice));
    text.push_str(".SH SEE ALSO\n");
    let others = programs.iter().filter(|other| other.name() != name);
    let others: Vec<_> =
        others.map(|other| format!(".BR {} ({})", escaped(other.name()), section(other))).collect();
    let _ = writeln!(text, "{}", others.join(" ,\n"));
    text
}

fn command(text: &mut String, page: &Page, program: &Page) {
    let _ = writeln!(text, ".SS {}", escaped(&page.title()));
    let _ = writeln!(text, "{}\n.PP\n{}", usage(&page.usage, program.name()), sentence(&page.about));
    for argument in page.arguments.iter().filter(|argument| !argument.what.is_empty()) {
        let _ = writeln!(text, ".TP\n.I {}\n{}", escaped(&argument.name), sentence(&argument.what));
    }
    // What holds for each command stands once, under OPTIONS.
    let own = |choice: &&Choice| !program.options.iter().any(|other| other.long == choice.long);
    page.options.iter().filter(own).for_each(|choice| option(text, choice));
    paragraphs(text, &page.more);
}

fn option(text: &mut String, choice: &Choice) {
    let spellings: Vec<_> =
        choice.spellings().iter().map(|spelling| format!("\\fB{}\\fR", escaped(spelling))).collect();
    let value = choice.value.as_ref().map_or(String::new(), |value| format!(" \\fI{}\\fR", escaped(value)));
    let _ = writeln!(text, ".TP\n{}{value}", spellings.join(", "));
    if !choice.what.is_empty() {
        let _ = writeln!(text, "{}", sentence(&choice.what));
    } else {
        text.push_str("\\&\n");
    }
}

/// The words that are typed as they are in bold, the others as they stand.
fn usage(usage: &str, program: &str) -> String {
    let rest = usage.strip_prefix(program).unwrap_or(usage);
    format!("\\fB{}\\fR{}", escaped(program), escaped(rest))
}

fn paragraphs(text: &mut String, paragraphs: &[String]) {
    for paragraph in paragraphs {
        let _ = writeln!(text, ".PP\n{}", escaped(paragraph));
    }
}

fn sentence(what: &str) -> String {
    // A list of what can be typed, or a name, keeps its small letter.
    let listed = what.split(' ').next().is_some_and(|word| word.ends_with(','));
    let mut letters = what.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let whole = if !listed && letters.clone().all(|letter| letter != ':') {
        first + letters.as_str()
    } else {
        what.to_owned()
    };
    format!("{}.", escaped(whole.trim_end_matches('.')))
}

/// Dashes that can be copied, and nothing that a formatter takes for its own.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text
        .lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}
