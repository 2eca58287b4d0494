//! Completions for fish. One function finds out at which command the cursor is; each line says for which it holds.

use std::fmt::Write as _;

use super::page::{Kind, Page};

/// The file for a program.
pub(super) fn file(program: &Page) -> String {
    let (mut steps, mut values, mut programs) = (String::new(), Vec::new(), Vec::new());
    for page in program.all() {
        for command in &page.commands {
            let _ = writeln!(
                steps,
                "            case '{}|{}'\n                set at '{}'",
                page.title(),
                command.name(),
                command.title()
            );
        }
        let options = page.options_with(program);
        let valued = options.iter().filter(|option| option.value.is_some());
        values.extend(
            valued.flat_map(|option| option.spellings()).map(|name| format!("'{}|{name}'", page.title())),
        );
        if page.takes_program() {
            programs.push(format!("'{}|*'", page.title()));
        }
    }
    let mut text = FUNCTIONS
        .replace("FUNCTION", &format!("_{}", program.function()))
        .replace("NAME", program.name())
        .replace("            STEPS\n", &steps)
        .replace("VALUES", &values.join(" "))
        .replace("PROGRAMS", &if programs.is_empty() { "''".to_owned() } else { programs.join(" ") });
    for page in program.all() {
        text.push_str(&lines(page, program));
    }
    text
}

/// What can stand at a page.
fn lines(page: &Page, program: &Page) -> String {
    let mut text = String::new();
    let function = format!("_{}", program.function());
    let name = program.name();
    let here = format!("complete -c {name} -n \"{function}_at '{}'\"", page.title());
    for command in &page.commands {
        let _ = writeln!(text, "{here} -a '{}' -d '{}'", command.name(), quoted(&command.about));
    }
    for option in page.options_with(program) {
        let short = option.short.map_or(String::new(), |short| format!(" -s {short}"));
        let value = option.kind().map_or(String::new(), |kind| format!(" {}", offered(&kind)));
        let _ = writeln!(text, "{here}{short} -l {}{value} -d '{}'", option.long, quoted(&option.what));
    }
    if page.takes_program() {
        let _ = writeln!(text, "{here} -a '(__fish_complete_command)'");
        let _ = writeln!(
            text,
            "complete -c {name} -n \"{function}_at '{} PROGRAM'\" -a '({function}_rest)'",
            page.title()
        );
    } else if let Some(argument) = page.arguments.first().filter(|argument| argument.kind() != Kind::Free) {
        let _ = writeln!(text, "{here} {}", offered(&argument.kind()).replacen("-r ", "", 1));
    }
    text
}

fn offered(kind: &Kind<'_>) -> String {
    match kind {
        Kind::File => "-r -F".to_owned(),
        Kind::Folder => "-r -a '(__fish_complete_directories)'".to_owned(),
        Kind::User => "-r -a '(__fish_complete_users)'".to_owned(),
        Kind::Program => "-r -a '(__fish_complete_command)'".to_owned(),
        Kind::OneOf(words) => format!("-r -a '{}'", words.join(" ")),
        Kind::Free => "-r".to_owned(),
    }
}

/// Inside single quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

const FUNCTIONS: &str = r#"# fish completion for NAME

# Prints at which command the cursor is, and after `PROGRAM` the words of the program that was named.
function FUNCTION_place
    set -l at NAME
    set -l words (commandline -opc)
    set -e words[1]
    set -l value ''
    while set -q words[1]
        set -l word $words[1]
        if test -n "$value"
            set value ''
            set -e words[1]
            continue
        end
        switch "$at|$word"
            STEPS
            case '*|--'
                set -e words[1]
                break
            case VALUES
                set value yes
            case '*|-*'
            case PROGRAMS
                break
        end
        set -e words[1]
    end
    if set -q words[1]
        printf '%s\n' "$at PROGRAM" $words
    else
        printf '%s\n' $at
    end
end

function FUNCTION_at
    set -l place (FUNCTION_place)
    test "$place[1]" = "$argv[1]"
end

# What the program that was named would be completed with.
function FUNCTION_rest
    set -l place (FUNCTION_place)
    complete -C (string join ' ' -- (string escape -- $place[2..-1]) (commandline -ct))
end

complete -c NAME -f
"#;
