//! Completions for zsh, by its own `_arguments`.

use std::fmt::Write as _;

use super::page::{Choice, Kind, Page};

/// The file for a program; zsh finds it under the name `_PROGRAM`.
pub(super) fn file(program: &Page) -> String {
    let mut text = format!("#compdef {}\n", program.name());
    for page in program.all() {
        text.push_str(&function(page, program));
    }
    // The first time, zsh runs the file itself as the function.
    let _ = write!(text, "\n{} \"$@\"\n", program.function());
    text
}

fn function(page: &Page, program: &Page) -> String {
    let mut text = format!("\n{}() {{\n", page.function());
    let options = page.options_with(program).into_iter().map(option);
    let mut lines: Vec<String> = options.collect();
    if page.commands.is_empty() {
        if page.takes_program() {
            lines.push("'(-)1:program:_command_names -e'".to_owned());
            lines.push("'*::argument:_normal'".to_owned());
        } else {
            lines.extend(page.arguments.iter().enumerate().map(|(at, argument)| {
                format!("'{}:{}:{}'", at + 1, argument.name.to_lowercase(), action(&argument.kind()))
            }));
        }
        let _ = writeln!(text, "  _arguments -S \\\n    {}", lines.join(" \\\n    "));
    } else {
        lines.push("'1:command:->command'".to_owned());
        lines.push("'*::argument:->argument'".to_owned());
        text.push_str("  local context curcontext=\"$curcontext\" state line\n  local -A opt_args\n");
        let _ = writeln!(text, "  _arguments -C -S \\\n    {}", lines.join(" \\\n    "));
        text.push_str("  case $state in\n  command)\n    local -a commands=(\n");
        for command in &page.commands {
            let _ = writeln!(text, "      '{}:{}'", command.name(), quoted(&command.about));
        }
        text.push_str("    )\n    _describe command commands\n    ;;\n  argument)\n    case $words[1] in\n");
        for command in &page.commands {
            let _ = writeln!(text, "    {}) {} ;;", command.name(), command.function());
        }
        text.push_str("    esac\n    ;;\n  esac\n");
    }
    text.push_str("}\n");
    text
}

fn option(option: &Choice) -> String {
    let what = quoted(&option.what).replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    let value = option.kind().map_or(String::new(), |kind| {
        let name = option.value.as_deref().unwrap_or_default().to_lowercase();
        format!(":{name}:{}", action(&kind))
    });
    let equals = if value.is_empty() { "" } else { "=" };
    match option.short {
        Some(short) => format!("'(-{short} --{0})'{{-{short},--{0}{equals}}}'[{what}]{value}'", option.long),
        None => format!("'--{}{equals}[{what}]{value}'", option.long),
    }
}

fn action(kind: &Kind<'_>) -> String {
    match kind {
        Kind::File => "_files".to_owned(),
        Kind::Folder => "_files -/".to_owned(),
        Kind::User => "_users".to_owned(),
        Kind::Program => "_command_names -e".to_owned(),
        Kind::OneOf(words) => format!("({})", words.join(" ")),
        Kind::Free => String::new(),
    }
}

/// Inside single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}
