//! The shells themselves complete lines with what was written, and formatters read the manual pages.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::PROGRAMS;
use crate::program::{output, program, target_directory};

/// A line with the cursor at its end, what must be offered, and what must not.
struct Case {
    line: &'static str,
    offered: &'static [&'static str],
    not_offered: &'static [&'static str],
}

const CASES: [Case; 12] = [
    Case {
        line: "elevon ",
        offered: &["run", "explain", "status", "cancel", "end"],
        not_offered: &["create"],
    },
    Case {
        line: "elevon run --",
        offered: &["--for", "--justification", "--wait", "--no-wait", "--as", "--socket", "--help"],
        not_offered: &["--json", "--version"],
    },
    Case { line: "elevon run --for ", offered: &["30m", "1h"], not_offered: &["run", "--as"] },
    Case { line: "elevon --socket /x run --as ", offered: &["root", "self"], not_offered: &["30m"] },
    Case { line: "elevon run --for 30m -- mkdi", offered: &["mkdir"], not_offered: &["--for"] },
    Case { line: "elevon run mkdi", offered: &["mkdir"], not_offered: &["--for"] },
    Case { line: "elevon run -- cat --", offered: &[], not_offered: &["--for", "--json"] },
    Case {
        line: "elevon-server account ",
        offered: &["create", "password", "disable", "enable"],
        not_offered: &["serve", "verify"],
    },
    Case {
        line: "elevon-server account create --role ",
        offered: &["owner", "administrator", "approver", "auditor"],
        not_offered: &["or", "create"],
    },
    Case { line: "elevon-server --state-dir /us", offered: &["usr"], not_offered: &["serve"] },
    Case { line: "elevon-agent enroll --", offered: &["--again", "--state-dir"], not_offered: &["--json"] },
    Case { line: "elevon-elevator run --agent-user roo", offered: &["root"], not_offered: &["run"] },
];

/// Makes them anew and has them read.
pub(crate) fn check() -> Result<()> {
    let folder = target_directory()?.join("manual");
    super::write(&folder)?;
    for (name, shell) in [("bash", bash as fn(&Path, &str) -> Result<String>), ("zsh", zsh), ("fish", fish)] {
        for case in &CASES {
            let told =
                shell(&folder, case.line).with_context(|| format!("complete `{}` in {name}", case.line))?;
            case.hold_against(&told).with_context(|| format!("`{}` in {name}", case.line))?;
        }
        println!("{name}: {} lines are completed as they should be", CASES.len());
    }
    for name in PROGRAMS {
        let section = if name == "elevon" { 1 } else { 8 };
        formatted(&folder.join(format!("man/man{section}/{name}.{section}")))?;
    }
    println!("man: groff and mandoc format {} pages without a warning", PROGRAMS.len());
    Ok(())
}

impl Case {
    fn hold_against(&self, told: &str) -> Result<()> {
        // fish adds a description after a tab, zsh leaves out the folder that was typed, and folders end with a slash.
        let words = told.lines().filter_map(|line| line.split('\t').next());
        let words: BTreeSet<&str> =
            words.map(|word| word.trim().trim_matches('/').trim_end_matches('=')).collect();
        for word in self.offered {
            ensure!(words.contains(word), "expected {word} to be offered, among: {words:?}");
        }
        for word in self.not_offered {
            ensure!(!words.contains(word), "expected {word} not to be offered, among: {words:?}");
        }
        Ok(())
    }
}

fn name_of(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// As in a terminal without bash-completion, and in one with it; both offer the same of ours.
fn bash(folder: &Path, line: &str) -> Result<String> {
    let script = r#"
        source "$1"
        read -ra COMP_WORDS <<<"$3x"
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        COMP_WORDS[COMP_CWORD]=${COMP_WORDS[COMP_CWORD]%x}
        COMP_LINE=$3 COMP_POINT=${#3}
        $(complete -p "$2" | sed 's/.*-F \([^ ]*\).*/\1/')
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let told = |before: &str| {
        let mut bash = quiet("bash");
        bash.args(["--norc", "--noprofile", "-c", &format!("{before}{script}"), "bash"]);
        let file = folder.join("bash-completion/completions").join(name_of(line));
        output(bash.arg(file).args([name_of(line), line]))
    };
    let alone = told("")?;
    let among_others = told("source /usr/share/bash-completion/bash_completion\n")?;
    Ok(format!("{alone}{among_others}"))
}

fn fish(folder: &Path, line: &str) -> Result<String> {
    let mut fish = quiet("fish");
    fish.args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"]);
    fish.arg(folder.join("fish/vendor_completions.d").join(format!("{}.fish", name_of(line))));
    // What fish learns of its user goes nowhere.
    output(
        fish.arg(line)
            .env("HOME", "/nonexistent")
            .env("XDG_CONFIG_HOME", folder)
            .env("XDG_DATA_HOME", folder),
    )
}

/// zsh completes only in a terminal, so one zsh types into another; what is offered is caught where it is added.
fn zsh(folder: &Path, line: &str) -> Result<String> {
    const OUTER: &str = r#"
        zmodload zsh/zpty
        zpty inner zsh -f -i
        zpty -w inner "source $1"
        zpty -r inner told '*READY*'
        zpty -w -n inner "$2"$'\t'
        zpty -r inner told '*DONE*'
        print -r -- "${told//$'\r'/}"
        zpty -d inner
    "#;
    const INNER: &str = r#"
        PROMPT= RPROMPT=
        fpath=(FOLDER $fpath)
        autoload -Uz compinit
        compinit -u -D
        compadd() {
          if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
            builtin compadd "$@"
            return $?
          fi
          local -a hits
          builtin compadd -A hits "$@"
          print -l -- '' "${(@)${(@)hits}/#/$IPREFIX}"
          builtin compadd "$@"
        }
        tell() { zle complete-word; print -- ''; print -- DO''NE; exit }
        zle -N tell
        bindkey '^I' tell
        zstyle ':completion:*' completer _complete
        print REA''DY
    "#;
    let inner = folder.join("inner.zsh");
    let functions = folder.join("zsh/vendor-completions");
    std::fs::write(&inner, INNER.replace("FOLDER", &functions.to_string_lossy()))?;
    let mut zsh = quiet("zsh");
    output(zsh.args(["-f", "-c", OUTER, "zsh"]).arg(&inner).arg(line))
}

/// A shell whose answer does not depend on who runs it.
fn quiet(name: &str) -> Command {
    let mut shell = program(name);
    shell
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("TERM", "dumb")
        .env("LC_ALL", "C.UTF-8");
    shell
}

/// groff warns of everything, mandoc of what makes a page hard to search or read.
fn formatted(page: &Path) -> Result<()> {
    let mut groff = program("groff");
    let groff = groff.args(["-man", "-Tutf8", "-K", "utf8", "-ww", "-z"]).arg(page).output()?;
    let told = String::from_utf8_lossy(&groff.stderr);
    ensure!(groff.status.success() && told.is_empty(), "groff says of {}: {told}", page.display());
    let mut mandoc = program("mandoc");
    let mandoc = mandoc.args(["-Tlint", "-Wwarning"]).arg(page).output()?;
    // They carry no date, so that the same programs always make the same pages.
    let told = String::from_utf8_lossy(&mandoc.stdout);
    let told: Vec<_> = told.lines().filter(|line| !line.contains("missing date")).collect();
    ensure!(told.is_empty(), "mandoc says of {}: {}", page.display(), told.join("; "));
    Ok(())
}
