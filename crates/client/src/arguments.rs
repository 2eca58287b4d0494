//! What was typed.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use elevon_policy::lists::RunsAs;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_wire::conversation::Wait;
use lexopt::prelude::{Long, Short, Value, ValueExt};

/// The command line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Where the elevator listens.
    pub(crate) socket: PathBuf,
    /// What to do.
    pub(crate) act: Act,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Run(Run),
    Explain { command: OsString, arguments: Vec<OsString>, component: bool, json: bool },
    Status { json: bool },
    Cancel { request: String },
    End { grant: String },
    Authorize { user: Text, component: Text, process: Option<u32> },
    Help(&'static str),
    Version,
}

/// `elevon run`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) command: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// The command is the name of a component.
    pub(crate) component: bool,
    pub(crate) duration: Option<Span>,
    pub(crate) justification: Option<Text>,
    /// So, or not at all.
    pub(crate) runs_as: Option<RunsAs>,
    pub(crate) wait: Wait,
}

/// The command line cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    told: String,
    /// The command that it is about, whose own page says how it is used.
    command: Option<&'static str>,
}

impl Usage {
    fn new(told: impl Into<String>) -> Self {
        Self { told: told.into(), command: None }
    }

    /// The same, of this command, if there is one of this name.
    fn about(self, word: &OsString) -> Self {
        Self { command: COMMANDS.into_iter().find(|command| word == command), ..self }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = &self.told;
        match self.command {
            Some(command) => write!(f, "{told}; `elevon {command} --help` shows how it is used"),
            None => write!(f, "{told}; `elevon --help` shows how it is used"),
        }
    }
}

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        Self::new(match error {
            lexopt::Error::MissingValue { option: Some(option) } => format!("{option} needs a value"),
            lexopt::Error::UnexpectedOption(option) => {
                format!("there is no option {}", Text::new(option).visible())
            }
            lexopt::Error::UnexpectedArgument(argument) => {
                format!("did not expect “{}”", Text::new(argument.to_string_lossy()).visible())
            }
            lexopt::Error::ParsingFailed { value, error } => {
                format!("“{}” does not do: {error}", Text::new(value).visible())
            }
            lexopt::Error::NonUnicodeValue(value) => {
                format!("“{}” is not text", Text::new(value.to_string_lossy()).visible())
            }
            other => other.to_string(),
        })
    }
}

impl Arguments {
    /// Understands a command line; `arguments` is without the program's own name, `socket` is what holds unless
    /// `--socket` says otherwise.
    pub(crate) fn parse(
        arguments: impl Iterator<Item = OsString>,
        mut socket: PathBuf,
    ) -> Result<Self, Usage> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let act = loop {
            match parser.next()? {
                Some(Long("socket")) => socket = parser.value()?.into(),
                Some(Long("help") | Short('h')) => break Act::Help(HELP),
                Some(Long("version") | Short('V')) => break Act::Version,
                Some(Value(word)) => {
                    break act(&word, &mut parser, &mut socket).map_err(|usage| usage.about(&word))?;
                }
                Some(other) => return Err(other.unexpected().into()),
                None => {
                    return Err(Usage::new(
                        "expected a command: run, explain, status, cancel, end or authorize",
                    ));
                }
            }
        };
        Ok(Self { socket, act })
    }
}

/// Each has a page of its own.
const COMMANDS: [&str; 6] = ["run", "explain", "status", "cancel", "end", "authorize"];

fn act(word: &OsString, parser: &mut lexopt::Parser, socket: &mut PathBuf) -> Result<Act, Usage> {
    match word.to_str() {
        Some("run") => run(parser, socket),
        Some("explain") => explain(parser, socket),
        Some("status") => status(parser, socket),
        Some("cancel") => one_id(parser, socket, "REQUEST", CANCEL, |request| Act::Cancel { request }),
        Some("authorize") => authorize(parser, socket),
        Some("end") => one_id(parser, socket, "GRANT", END, |grant| Act::End { grant }),
        Some("help") => Ok(Act::Help(HELP)),
        _ => {
            let word = Text::new(word.to_string_lossy());
            Err(Usage::new(format!(
                "there is no command “{}”; to run a program elevated, type `elevon run -- PROGRAM`",
                word.visible()
            )))
        }
    }
}

fn run(parser: &mut lexopt::Parser, socket: &mut PathBuf) -> Result<Act, Usage> {
    let (mut duration, mut justification, mut wait, mut component) = (None, None, None, None);
    let mut runs_as = None;
    loop {
        let next = match parser.next()? {
            Some(Long("help") | Short('h')) => return Ok(Act::Help(RUN)),
            Some(Long("socket")) => {
                *socket = parser.value()?.into();
                continue;
            }
            Some(Long("for")) => {
                duration = Some(parser.value()?.parse::<Span>()?);
                continue;
            }
            Some(Long("justification")) => {
                justification = Some(Text::new(parser.value()?.string()?));
                continue;
            }
            Some(Long("component")) => {
                component = Some(parser.value()?);
                continue;
            }
            Some(Long("as")) => {
                runs_as = Some(as_whom(&parser.value()?)?);
                continue;
            }
            Some(Long("wait")) => Some(Wait::AtMost { span: parser.value()?.parse()? }),
            Some(Long("no-wait")) => Some(Wait::No),
            Some(Value(_)) if component.is_some() => return Err(Usage::new(NO_PROGRAM)),
            Some(Value(command)) => {
                let arguments = parser.raw_args()?.collect();
                let (wait, component) = (wait.unwrap_or(Wait::UntilDecided), false);
                return Ok(Act::Run(Run {
                    command,
                    arguments,
                    component,
                    duration,
                    justification,
                    runs_as,
                    wait,
                }));
            }
            Some(other) => return Err(other.unexpected().into()),
            None => {
                let expected = "expected a program to run, as in `elevon run -- PROGRAM`";
                let command = component.ok_or_else(|| Usage::new(expected))?;
                let (wait, arguments) = (wait.unwrap_or(Wait::UntilDecided), Vec::new());
                return Ok(Act::Run(Run {
                    command,
                    arguments,
                    component: true,
                    duration,
                    justification,
                    runs_as,
                    wait,
                }));
            }
        };
        if wait.is_some() {
            return Err(Usage::new("expected at most one of --wait and --no-wait"));
        }
        wait = next;
    }
}

fn as_whom(word: &OsString) -> Result<RunsAs, Usage> {
    match word.to_str() {
        Some("root") => Ok(RunsAs::Root),
        Some("self") => Ok(RunsAs::SameUser),
        _ => Err(Usage::new("--as takes root or self")),
    }
}

fn explain(parser: &mut lexopt::Parser, socket: &mut PathBuf) -> Result<Act, Usage> {
    let (mut json, mut component) = (false, None);
    loop {
        match parser.next()? {
            Some(Long("help") | Short('h')) => return Ok(Act::Help(EXPLAIN)),
            Some(Long("component")) => component = Some(parser.value()?),
            Some(Value(_)) if component.is_some() => return Err(Usage::new(NO_PROGRAM)),
            Some(Long("socket")) => *socket = parser.value()?.into(),
            Some(Long("json")) => json = true,
            Some(Value(command)) => {
                let arguments = parser.raw_args()?.collect();
                return Ok(Act::Explain { command, arguments, component: false, json });
            }
            Some(other) => return Err(other.unexpected().into()),
            None => {
                let expected = "expected a program, as in `elevon explain -- PROGRAM`";
                let command = component.ok_or_else(|| Usage::new(expected))?;
                return Ok(Act::Explain { command, arguments: Vec::new(), component: true, json });
            }
        }
    }
}

/// Why there is no program beside a component.
const NO_PROGRAM: &str = "a component is no program: leave out one of the two";

fn authorize(parser: &mut lexopt::Parser, socket: &mut PathBuf) -> Result<Act, Usage> {
    let (mut words, mut process) = (Vec::new(), None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Act::Help(AUTHORIZE)),
            Long("socket") => *socket = parser.value()?.into(),
            Long("process") => process = Some(parser.value()?.parse()?),
            Value(word) if words.len() < 2 => words.push(Text::new(word.string()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    match <[Text; 2]>::try_from(words) {
        Ok([user, component]) => Ok(Act::Authorize { user, component, process }),
        Err(_) => Err(Usage::new("expected a user and a polkit action")),
    }
}

fn status(parser: &mut lexopt::Parser, socket: &mut PathBuf) -> Result<Act, Usage> {
    let mut json = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Act::Help(STATUS)),
            Long("socket") => *socket = parser.value()?.into(),
            Long("json") => json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Act::Status { json })
}

fn one_id(
    parser: &mut lexopt::Parser,
    socket: &mut PathBuf,
    what: &str,
    help: &'static str,
    act: impl FnOnce(String) -> Act,
) -> Result<Act, Usage> {
    let mut id = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Act::Help(help)),
            Long("socket") => *socket = parser.value()?.into(),
            Value(value) if id.is_none() => id = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    id.map(act).ok_or_else(|| Usage::new(format!("expected a {what}, as `elevon status` shows it")))
}

const HELP: &str = "\
elevon runs one application with administrator rights, for a while, when policy or a person agrees.

Usage: elevon [--socket PATH] COMMAND

Commands:
  run [OPTIONS] [--] PROGRAM [ARGUMENT]...   run a program elevated; asks where someone has to agree
  explain [--] PROGRAM [ARGUMENT]...         say what `run` would do, and why
  status                                     my requests, grants and running applications
  cancel REQUEST                             take a request back
  end GRANT                                  give a grant back; what runs under it ends
  authorize USER ACTION                      say whether a grant lets a user do a polkit action; for polkit

Options:
  --socket PATH   where elevon-elevator listens [ELEVON_SOCKET] [/run/elevon/elevator.sock]
  -h, --help      this page; `elevon COMMAND --help` says more about a command
  -V, --version   the version
";

const RUN: &str = "\
Run a program elevated. Where policy wants it, you are asked for how long and why, and someone decides.

Usage: elevon run [OPTIONS] [--] PROGRAM [ARGUMENT]...

Options:
  --component ACTION     no program, but a polkit action: nothing starts, and polkit says yes to you for a while
  --for DURATION         for how long, such as 30m or 1h30m; without it you are asked
  --justification TEXT   why; without it you are asked
  --wait DURATION        wait at most this long for a decision (default: until the request lapses)
  --no-wait              make the request and leave
  --as root|self         so, or not at all: policy says whether it runs as root or as you with a few rights
  --socket PATH          where elevon-elevator listens [ELEVON_SOCKET]

Ctrl-C while waiting leaves the request pending; `elevon status` and `elevon cancel` know it. Running the same
command again joins it.

Exit status: the program's own; 128+N when signal N ended it, or ended the waiting (130 for Ctrl-C); 0 for a
component that is granted.
124: nobody decided, in the time of `--wait` or before the request lapsed; or `--no-wait` made the request and left.
125: nothing was decided. Elevon is not running, failed, or has no policy here yet; or the command line does not fit:
an unknown option, more time than policy lets be asked for, `--as` against policy, no terminal to ask on.
126: refused, declined, cancelled, withdrawn, not confirmed, changed meanwhile, or not executable.
127: no such program or component.
";

const EXPLAIN: &str = "\
Say what `elevon run` would do with a program, and why. Nothing runs and nothing is asked for.

Usage: elevon explain [OPTIONS] [--] PROGRAM [ARGUMENT]...

Options:
  --component ACTION   no program, but a polkit action
  --json               the same facts for machines
  --socket PATH        where elevon-elevator listens [ELEVON_SOCKET]

Exit status: 0 when there is an answer, whatever it is; else 125, 126 or 127 as `elevon run` has them.
";

const STATUS: &str = "\
Show my requests, grants and running applications on this computer.

Usage: elevon status [OPTIONS]

Options:
  --json          the same facts for machines
  --socket PATH   where elevon-elevator listens [ELEVON_SOCKET]
";

const AUTHORIZE: &str = "\
Say whether a grant lets a user do what a polkit action stands for. A yes is recorded, and uses up a grant that is good once.

Usage: elevon authorize [--process PID] USER ACTION

Options:
  --process PID   the process that wants to, for the record
  --socket PATH   where elevon-elevator listens [ELEVON_SOCKET]

This is for polkit's rule, 49-elevon.rules. Only polkit's own user and root may ask.

Exit status: 0 yes; 1 no; 125 Elevon itself failed.
";

const CANCEL: &str = "\
Take a request back before someone decides.

Usage: elevon cancel [OPTIONS] REQUEST

Options:
  --socket PATH   where elevon-elevator listens [ELEVON_SOCKET]

REQUEST is an id as `elevon status` shows it, or as much of its beginning as no other one has.
";

const END: &str = "\
Give a grant back. What runs under it ends.

Usage: elevon end [OPTIONS] GRANT

Options:
  --socket PATH   where elevon-elevator listens [ELEVON_SOCKET]

GRANT is an id as `elevon status` shows it, or as much of its beginning as no other one has.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Act, Usage> {
        Arguments::parse(line.iter().map(OsString::from), "/s".into()).map(|arguments| arguments.act)
    }

    fn run_of(line: &[&str]) -> Run {
        match parse(line) {
            Ok(Act::Run(run)) => run,
            other => panic!("expected a run, got {other:?}"),
        }
    }

    #[test]
    fn what_follows_the_program_is_the_programs() {
        for line in [&["run", "ls", "--wait", "--", "-h"][..], &["run", "--", "ls", "--wait", "--", "-h"]] {
            let run = run_of(line);
            assert_eq!(run.command, "ls");
            assert_eq!(run.arguments, ["--wait", "--", "-h"]);
            assert_eq!(run.wait, Wait::UntilDecided);
        }
        assert_eq!(run_of(&["run", "--", "--odd"]).command, "--odd");
    }

    #[test]
    fn options_of_a_run() {
        let run = run_of(&[
            "run",
            "--for",
            "1h30m",
            "--justification=because",
            "--wait",
            "5s",
            "--as",
            "root",
            "id",
        ]);
        assert_eq!(run.duration, Some(Span::from_mins(90)));
        assert_eq!(run.justification, Some(Text::new("because")));
        assert_eq!(run.wait, Wait::AtMost { span: Span::from_secs(5) });
    }

    #[test]
    fn a_component_stands_for_a_program() {
        let run = run_of(&["run", "--component", "org.example.act", "--for", "5m"]);
        assert!(run.component);
        assert_eq!(run.command, "org.example.act");
        assert!(!run_of(&["run", "org.example.act"]).component);
        let (user, component) = (Text::new("alice"), Text::new("org.example.act"));
        assert_eq!(
            parse(&["authorize", "--process", "7", "alice", "org.example.act"]),
            Ok(Act::Authorize { user, component, process: Some(7) })
        );
    }

    #[test]
    fn the_socket_may_stand_before_or_after_the_command() {
        for line in [["--socket", "/x", "status"], ["status", "--socket", "/x"]] {
            let arguments =
                Arguments::parse(line.iter().map(OsString::from), "/s".into()).expect("understood");
            assert_eq!(arguments, Arguments { socket: "/x".into(), act: Act::Status { json: false } });
        }
    }

    /// Manual pages and completions are made from these pages.
    #[test]
    fn the_pages_name_every_option_and_no_other() {
        let pages = [
            ("run", RUN),
            ("explain", EXPLAIN),
            ("status", STATUS),
            ("cancel", CANCEL),
            ("end", END),
            ("authorize", AUTHORIZE),
        ];
        for (command, page) in pages {
            for option in
                page.split([' ', '[', ']', '\n']).filter(|word| word.len() > 2 && word.starts_with("--"))
            {
                let refused = parse(&[command, option]).err().map(|usage| usage.told).unwrap_or_default();
                assert!(!refused.contains("no option"), "elevon {command} {option}: {refused}");
            }
        }
        let taken = include_str!("arguments.rs").split("Long(\"").skip(1);
        for option in taken.filter_map(|rest| rest.split('"').next()).filter(|option| option.len() > 1) {
            let told =
                HELP.contains(option) || pages.iter().any(|(_, page)| page.contains(&format!("--{option}")));
            assert!(told, "no page tells of --{option}");
        }
    }

    #[test]
    fn usage_errors_say_what_was_expected_and_where_more_is_said() {
        for (line, told, page) in [
            (&[][..], "expected a command: run, explain, status, cancel, end or authorize", "elevon"),
            (&["--nope"], "there is no option --nope", "elevon"),
            (
                &["ls"],
                "there is no command “ls”; to run a program elevated, type `elevon run -- PROGRAM`",
                "elevon",
            ),
            (
                &["run", "--component", "a.b", "ls"],
                "a component is no program: leave out one of the two",
                "elevon run",
            ),
            (&["run"], "expected a program to run, as in `elevon run -- PROGRAM`", "elevon run"),
            (
                &["run", "--for", "30", "ls"],
                "“30” does not do: expected a duration such as 30m, 8h or 1h30m",
                "elevon run",
            ),
            (&["run", "--for"], "--for needs a value", "elevon run"),
            (
                &["run", "--wait", "1s", "--no-wait", "ls"],
                "expected at most one of --wait and --no-wait",
                "elevon run",
            ),
            (&["run", "--nope", "ls"], "there is no option --nope", "elevon run"),
            (&["run", "--as", "me", "ls"], "--as takes root or self", "elevon run"),
            (&["explain"], "expected a program, as in `elevon explain -- PROGRAM`", "elevon explain"),
            (&["status", "x"], "did not expect “x”", "elevon status"),
            (&["cancel"], "expected a REQUEST, as `elevon status` shows it", "elevon cancel"),
            (&["end", "a", "b"], "did not expect “b”", "elevon end"),
            (&["authorize", "alice"], "expected a user and a polkit action", "elevon authorize"),
        ] {
            let expected = format!("{told}; `{page} --help` shows how it is used");
            assert_eq!(parse(line).map_err(|usage| usage.to_string()), Err(expected), "{line:?}");
        }
    }

    /// Each command that is understood is told of by its own page.
    #[test]
    fn each_command_has_a_page() {
        for command in COMMANDS {
            let Ok(Act::Help(page)) = parse(&[command, "--help"]) else { panic!("no page for {command}") };
            assert!(page.contains(&format!("Usage: elevon {command} ")), "{page}");
            assert!(HELP.contains(&format!("\n  {command} ")), "{command}");
        }
    }
}
