//! Settings: the TOML file, then the environment, then flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

const DEFAULT_FILE: &str = "/etc/elevon/elevator.toml";

/// Where the elevator keeps and finds things.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Its state: root only.
    pub(crate) state_dir: PathBuf,
    /// The folder of its sockets.
    pub(crate) run_dir: PathBuf,
    /// The account the agent runs under; nobody else may use the agent's socket.
    pub(crate) agent_user: String,
    /// The folder with the PAM service; PAM's own folders where none is named.
    pub(crate) pam_dir: Option<PathBuf>,
}

/// Each setting, where it was given.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(skip)]
    config: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    agent_user: Option<String>,
    pam_dir: Option<PathBuf>,
}

impl Given {
    /// What `first` says, and where it says nothing, what this says.
    fn under(self, first: Self) -> Self {
        Self {
            config: first.config.or(self.config),
            state_dir: first.state_dir.or(self.state_dir),
            run_dir: first.run_dir.or(self.run_dir),
            agent_user: first.agent_user.or(self.agent_user),
            pam_dir: first.pam_dir.or(self.pam_dir),
        }
    }
}

impl Config {
    /// Reads the settings; `arguments` are what follows the subcommand.
    pub(crate) fn load(arguments: lexopt::Parser) -> Result<Self> {
        let given = from_environment().under(from_flags(arguments)?);
        let file = from_file(given.config.as_deref())?;
        let Given { state_dir, run_dir, agent_user, pam_dir, .. } = file.under(given);
        Ok(Self {
            state_dir: state_dir.unwrap_or_else(|| "/var/lib/elevon".into()),
            run_dir: run_dir.unwrap_or_else(|| "/run/elevon".into()),
            agent_user: agent_user.unwrap_or_else(|| "elevon".into()),
            pam_dir,
        })
    }
}

fn from_flags(mut arguments: lexopt::Parser) -> Result<Given> {
    use lexopt::prelude::*;
    let mut given = Given::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => given.config = Some(arguments.value()?.into()),
            Long("state-dir") => given.state_dir = Some(arguments.value()?.into()),
            Long("run-dir") => given.run_dir = Some(arguments.value()?.into()),
            Long("pam-dir") => given.pam_dir = Some(arguments.value()?.into()),
            Long("agent-user") => given.agent_user = Some(arguments.value()?.string()?),
            other => bail!("{}; `elevon-elevator --help` lists what there is", other.unexpected()),
        }
    }
    Ok(given)
}

fn from_environment() -> Given {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let path = |name: &str| variable(name).map(PathBuf::from);
    Given {
        config: path("ELEVON_CONFIG"),
        state_dir: path("ELEVON_STATE_DIR"),
        run_dir: path("ELEVON_RUN_DIR"),
        pam_dir: path("ELEVON_PAM_DIR"),
        agent_user: variable("ELEVON_AGENT_USER").and_then(|name: OsString| name.into_string().ok()),
    }
}

fn from_file(named: Option<&Path>) -> Result<Given> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Given::default());
        }
        read => read.with_context(|| format!("could not read settings from {}", path.display()))?,
    };
    toml::from_str(&text).with_context(|| format!("could not understand settings in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual page and completions are made from it.
    #[test]
    fn the_page_names_every_option_and_no_other() {
        let words = crate::HELP.split([' ', ',', '\n']);
        let named: Vec<&str> = words.filter_map(|word| word.strip_prefix("--")).collect();
        for option in named.iter().filter(|option| !["help", "version"].contains(option)) {
            let flag = format!("--{option}");
            assert!(
                from_flags(lexopt::Parser::from_args([flag.as_str(), "x"])).is_ok(),
                "there is no {flag}"
            );
        }
        for taken in
            include_str!("config.rs").split("Long(\"").skip(1).filter_map(|rest| rest.split('"').next())
        {
            assert!(taken.len() < 2 || named.contains(&taken), "the page does not tell of --{taken}");
        }
    }
}
