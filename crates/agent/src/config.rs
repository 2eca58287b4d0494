//! Settings: the file, then the environment, then flags.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Where things are, and who the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The agent's own keys and certificates; a directory of its user, 0700.
    pub(crate) state_dir: PathBuf,
    /// Where the elevator listens for the agent.
    pub(crate) elevator_socket: PathBuf,
    /// The elevator's state; only enrolling uses it, as root.
    pub(crate) elevator_state_dir: PathBuf,
    /// The user the agent runs as.
    pub(crate) user: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/elevon-agent".into(),
            elevator_socket: "/run/elevon/agent.sock".into(),
            elevator_state_dir: "/var/lib/elevon".into(),
            user: "elevon".into(),
        }
    }
}

/// What environment or flags say; it goes over what the file says.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    config: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    elevator_socket: Option<PathBuf>,
    elevator_state_dir: Option<PathBuf>,
    user: Option<String>,
}

const DEFAULT_FILE: &str = "/etc/elevon/agent.toml";

/// Settings by their flags.
pub(crate) const FLAGS: [&str; 5] = ["config", "state-dir", "elevator-socket", "elevator-state-dir", "user"];

impl Overrides {
    /// From `ELEVON_…` variables.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let mut overrides = Self::default();
        for flag in FLAGS {
            let name = format!("ELEVON_{}", flag.replace('-', "_").to_uppercase());
            if let Some(value) = variable(&name) {
                overrides.set(flag, value).with_context(|| format!("read {name}"))?;
            }
        }
        Ok(overrides)
    }

    /// One setting; `false` when there is none of this name.
    pub(crate) fn set(&mut self, flag: &str, value: OsString) -> Result<bool> {
        match flag {
            "config" => self.config = Some(value.into()),
            "state-dir" => self.state_dir = Some(value.into()),
            "elevator-socket" => self.elevator_socket = Some(value.into()),
            "elevator-state-dir" => self.elevator_state_dir = Some(value.into()),
            "user" => match value.into_string() {
                Ok(user) => self.user = Some(user),
                Err(_) => bail!("expected a user's name"),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The settings that hold. A default file that is missing is fine; a named one is an error.
    pub(crate) fn over_file(self) -> Result<Config> {
        let named = self.config.is_some();
        let path = self.config.unwrap_or_else(|| DEFAULT_FILE.into());
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text, &path)?,
            Err(error) if error.kind() == ErrorKind::NotFound && !named => Config::default(),
            Err(error) => return Err(error).with_context(|| format!("read the settings {}", path.display())),
        };
        Ok(Config {
            state_dir: self.state_dir.unwrap_or(file.state_dir),
            elevator_socket: self.elevator_socket.unwrap_or(file.elevator_socket),
            elevator_state_dir: self.elevator_state_dir.unwrap_or(file.elevator_state_dir),
            user: self.user.unwrap_or(file.user),
        })
    }
}

fn parse(text: &str, path: &Path) -> Result<Config> {
    toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
        anyhow::anyhow!("read the settings {}, line {line}: {}", path.display(), error.message())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, "user = 'a'\nstate_dir = '/a'\nelevator_socket = '/a.sock'\n")
            .expect("written");
        let environment = |name: &str| match name {
            "ELEVON_CONFIG" => Some(file.clone().into_os_string()),
            "ELEVON_STATE_DIR" => Some("/b".into()),
            "ELEVON_USER" => Some("b".into()),
            _ => None,
        };
        let mut overrides = Overrides::from_environment(environment).expect("read");
        assert!(overrides.set("user", "c".into()).expect("set"));
        assert!(!overrides.set("nope", "c".into()).expect("not set"));
        let expected = Config {
            state_dir: "/b".into(),
            elevator_socket: "/a.sock".into(),
            elevator_state_dir: "/var/lib/elevon".into(),
            user: "c".into(),
        };
        assert_eq!(overrides.over_file().expect("read"), expected);
    }

    #[test]
    fn an_unknown_key_and_a_missing_named_file_are_errors() {
        let told = parse("user = 'a'\nnope = 1\n", Path::new("/f")).expect_err("refused").to_string();
        assert!(told.starts_with("read the settings /f, line 2: unknown field `nope`"), "{told}");
        let named = Overrides { config: Some("/nonexistent".into()), ..Overrides::default() };
        assert!(named.over_file().is_err());
    }
}
