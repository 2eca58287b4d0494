//! `elevon-agent`: carries between the server and the elevator, and believes neither to be more than they can prove. It has
//! the network and no rights.

mod chance;
mod channel;
mod clock;
mod config;
mod credentials;
mod elevator;
mod enroll;
mod files;
mod log;
mod patience;
mod rights;
mod run;
mod spool;
mod status;
mod tls;
mod transport;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lexopt::prelude::{Long, Short, Value, ValueExt};

use crate::config::{Config, Overrides};

fn main() -> ExitCode {
    match act() {
        Ok(code) => code,
        Err(error) => {
            log::line(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    Enroll { token: String, again: bool },
    EnrollOverNetwork,
    Run,
    Status,
    Help,
    Version,
}

fn act() -> Result<ExitCode> {
    let overrides = Overrides::from_environment(|name| std::env::var_os(name))?;
    let (act, overrides) = parse(std::env::args_os().skip(1), overrides)?;
    let config = || -> Result<Config> { overrides.over_file() };
    Ok(match act {
        Act::Enroll { token, again } => enroll::enroll(&config()?, &token, again)?,
        Act::EnrollOverNetwork => enroll::network::enroll().map(|()| ExitCode::SUCCESS)?,
        Act::Run => run::run(&config()?).map(|()| ExitCode::SUCCESS)?,
        Act::Status => ExitCode::from(u8::from(!status::status(&config()?)?)),
        Act::Help => told(HELP),
        Act::Version => told(concat!("elevon-agent ", env!("CARGO_PKG_VERSION"), "\n")),
    })
}

fn told(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

fn parse(arguments: impl Iterator<Item = OsString>, mut overrides: Overrides) -> Result<(Act, Overrides)> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut command, mut token, mut again) = (None, None, false);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Long("help") | Short('h') => return Ok((Act::Help, overrides)),
            Long("version") | Short('V') => return Ok((Act::Version, overrides)),
            Long("again") => again = true,
            Long(flag) => {
                let flag = flag.to_owned();
                let value = parser.value().map_err(usage)?;
                if !overrides.set(&flag, value).with_context(|| format!("read --{flag}"))? {
                    bail!("there is no option --{flag}; {USAGE}");
                }
            }
            Value(word) if command.is_none() => command = Some(word.string().map_err(usage)?),
            Value(word) if token.is_none() && command.as_deref() == Some("enroll") => {
                token = Some(word.string().map_err(usage)?);
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    if again && command.as_deref() != Some("enroll") {
        bail!("--again belongs to enroll; {USAGE}");
    }
    let act = match (command.as_deref(), token) {
        (Some("enroll"), Some(token)) => Act::Enroll { token, again },
        (Some("enroll"), None) => {
            bail!("expected an enrollment token; copy one from Computers in the console")
        }
        (Some(enroll::network::COMMAND), _) => Act::EnrollOverNetwork,
        (Some("run"), _) => Act::Run,
        (Some("status"), _) => Act::Status,
        (Some("help"), _) => Act::Help,
        _ => bail!("expected a command: enroll, run or status; {USAGE}"),
    };
    Ok((act, overrides))
}

fn usage(error: lexopt::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}; {USAGE}")
}

const USAGE: &str = "`elevon-agent --help` shows how it is used";

const HELP: &str = "\
elevon-agent carries between the server and the elevator of this computer. It has the network and no rights.

Usage: elevon-agent [OPTIONS] COMMAND

Commands:
  enroll TOKEN [--again]   make this computer known to the server that handed out the token; as root
  run                      carry, until a signal ends it; as the agent's user (from root it becomes that user)
  status                   say whether elevator and server are there; exit status 0 when all is well, else 1

Options (also as keys of the settings file, and as ELEVON_… in the environment):
  --config FILE                 settings [/etc/elevon/agent.toml]
  --state-dir FOLDER            the agent's keys and certificates [/var/lib/elevon-agent]
  --elevator-socket PATH        where the elevator listens for the agent [/run/elevon/agent.sock]
  --elevator-state-dir FOLDER   the elevator's state; only enroll uses it [/var/lib/elevon]
  --user USER                   the agent's user [elevon]
  -h, --help                    this page
  -V, --version                 the version
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Act> {
        parse(line.iter().map(OsString::from), Overrides::default()).map(|(act, _)| act)
    }

    /// The manual page and completions are made from it.
    #[test]
    fn the_page_names_every_option_and_no_other() {
        let words = HELP.split([' ', '[', ']', ',', '\n']);
        let named: Vec<&str> = words.filter_map(|word| word.strip_prefix("--")).collect();
        for option in &named {
            let known = ["help", "version", "again"].contains(option) || config::FLAGS.contains(option);
            assert!(known, "there is no --{option}");
        }
        for option in config::FLAGS.iter().chain(&["help", "version", "again"]) {
            assert!(named.contains(option), "the page does not tell of --{option}");
        }
    }

    #[test]
    fn commands() {
        let token = || "elevon1.x".to_owned();
        for (line, act) in [
            (&["enroll", "elevon1.x"][..], Act::Enroll { token: token(), again: false }),
            (&["--user", "u", "enroll", "--again", "elevon1.x"], Act::Enroll { token: token(), again: true }),
            (&["run", "--state-dir=/x"], Act::Run),
            (&["status"], Act::Status),
        ] {
            assert_eq!(parsed(line).expect("understood"), act, "{line:?}");
        }
        for line in
            [&[][..], &["nope"], &["run", "x"], &["run", "--nope", "1"], &["enroll"], &["run", "--again"]]
        {
            assert!(parsed(line).is_err(), "{line:?}");
        }
    }
}
