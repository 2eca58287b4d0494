//! Completions for bash. They need nothing but bash; where bash-completion is loaded, what follows a program is completed as
//! the program's own.

use std::fmt::Write as _;

use super::page::{Kind, Page};

/// The file for a program.
pub(super) fn file(program: &Page) -> String {
    let (mut places, mut steps) = (String::new(), String::new());
    for page in program.all() {
        places.push_str(&place(page, program));
        for command in &page.commands {
            let _ =
                writeln!(steps, "      '{}|{}') at='{}' ;;", page.title(), command.name(), command.title());
        }
        for option in page.options_with(program) {
            let Some(kind) = option.kind() else { continue };
            let spellings: Vec<_> =
                option.spellings().iter().map(|spelling| format!("'{}|{spelling}'", page.title())).collect();
            let _ = writeln!(steps, "      {}) value=({}) ;;", spellings.join(" | "), generator(&kind));
        }
    }
    SCRIPT
        .replace("FUNCTION", &program.function())
        .replace("NAME", program.name())
        .replace("    PLACES\n", &places)
        .replace("      STEPS\n", &steps)
}

/// What can stand at a page.
fn place(page: &Page, program: &Page) -> String {
    let options: Vec<_> = page.options_with(program).iter().flat_map(|option| option.spellings()).collect();
    let commands: Vec<_> = page.commands.iter().map(Page::name).collect();
    let words = match page.arguments.first() {
        Some(argument) => generator(&argument.kind()),
        None => format!("-W '{}'", commands.join(" ")),
    };
    let takes = if page.takes_program() { "yes" } else { "" };
    format!("    '{}') options='{}' words=({words}) program={takes} ;;\n", page.title(), options.join(" "))
}

/// What `compgen` is asked for.
fn generator(kind: &Kind<'_>) -> String {
    match kind {
        Kind::File => "-f".to_owned(),
        Kind::Folder => "-d".to_owned(),
        Kind::User => "-u".to_owned(),
        Kind::Program => "-c".to_owned(),
        Kind::OneOf(words) => format!("-W '{}'", words.join(" ")),
        Kind::Free => "-W ''".to_owned(),
    }
}

const SCRIPT: &str = r#"# bash completion for NAME

FUNCTION_place() {
  case $at in
    PLACES
  esac
}

FUNCTION() {
  local cur=${COMP_WORDS[COMP_CWORD]} at='NAME' value=() words=() options='' program='' over='' i word
  COMPREPLY=()
  FUNCTION_place
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((${#value[@]})); then
      # bash makes a word of its own of the = in --option=value.
      [[ $word == = ]] || value=()
      continue
    fi
    if [[ $word == -- ]]; then
      over=yes
      ((i++))
      break
    fi
    [[ $program && $word != -* ]] && break
    case "$at|$word" in
      STEPS
    esac
    FUNCTION_place
  done
  [[ $cur == = ]] && cur=''
  if ((${#value[@]})); then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "${value[@]}" -- "$cur")
  elif [[ $program ]] && ((i < COMP_CWORD)); then
    if declare -F _command_offset >/dev/null; then
      _command_offset "$i"
    else
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
  elif [[ $cur == -* && ! $over ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
  else
    mapfile -t COMPREPLY < <(compgen "${words[@]}" -- "$cur")
  fi
}

complete -F FUNCTION NAME
"#;
