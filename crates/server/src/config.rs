//! Settings: the file, then the environment, then the flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use elevon_policy::time::Span;
use serde::Deserialize;

use crate::db::Db;

/// Where settings are read from when nothing is said.
const DEFAULT_FILE: &str = "/etc/elevon/server.toml";

/// Settings as flags; each stands above the environment, which stands above the file.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// The settings file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where keys and the embedded database live
    #[arg(long, global = true, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Where console and API listen, such as 0.0.0.0:8443
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where agents are listened to, such as 0.0.0.0:8444
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub agents_listen: Option<String>,
    /// How people reach the console, such as `https://elevon.example:8443`
    #[arg(long, global = true, value_name = "URL")]
    pub public_url: Option<String>,
    /// How agents reach the server, host:port; enrollment tokens carry it
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub agents_address: Option<String>,
    /// sqlite:PATH or postgres://…
    #[arg(long, global = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Whose word counts for who signed a program of Windows: certificates in PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub windows_authorities: Option<PathBuf>,
    /// How long agents' certificates are good
    #[arg(long, global = true, value_name = "TIME")]
    pub agent_certificate_life: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state_dir: Option<PathBuf>,
    listen: Option<String>,
    agents_listen: Option<String>,
    public_url: Option<String>,
    agents_address: Option<String>,
    database_url: Option<String>,
    agent_certificate_life: Option<Span>,
    windows_authorities: Option<PathBuf>,
}

/// What the server goes by.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where keys and the embedded database live.
    pub state_dir: PathBuf,
    /// Where console and API listen.
    pub listen: SocketAddr,
    /// Where agents are listened to.
    pub agents_listen: SocketAddr,
    /// How people reach the console, without a slash at the end.
    pub public_url: String,
    /// How agents reach the server, `host:port`.
    pub agents_address: String,
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: String,
    /// How long agents' certificates are good.
    pub agent_certificate_life: Span,
    /// Whose word counts for who signed a program of Windows: a file of certificates in PEM.
    pub windows_authorities: Option<PathBuf>,
    /// The program that measures files: this very one, whatever lies under its name by now.
    pub measurer: PathBuf,
}

/// The authorities that the system trusts, where nothing is said of those for programs of Windows.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How long agents' certificates are good when nothing is said.
pub const AGENT_CERTIFICATE_LIFE: Span = Span::from_days(398);

impl Config {
    /// Reads file and environment, and puts the flags on top. The error is a sentence.
    pub fn read(flags: Flags) -> Result<Self, String> {
        let env = |name: &str| std::env::var(format!("ELEVON_{name}")).ok().filter(|value| !value.is_empty());
        let named = flags.config.or_else(|| env("CONFIG").map(PathBuf::from));
        let file = match &named {
            Some(path) => File::read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => File::read(Path::new(DEFAULT_FILE))?,
            None => File::default(),
        };
        let pick =
            |flag: Option<String>, name: &str, file: Option<String>| flag.or_else(|| env(name)).or(file);
        let state_dir = flags.state_dir.or_else(|| env("STATE_DIR").map(PathBuf::from)).or(file.state_dir);
        let state_dir = state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/elevon-server"));
        let listen = pick(flags.listen, "LISTEN", file.listen).unwrap_or_else(|| "0.0.0.0:8443".to_owned());
        let agents_listen = pick(flags.agents_listen, "AGENTS_LISTEN", file.agents_listen);
        let agents_listen =
            address("agents_listen", &agents_listen.unwrap_or_else(|| "0.0.0.0:8444".to_owned()))?;
        let public_url = pick(flags.public_url, "PUBLIC_URL", file.public_url);
        let public_url = public_url.unwrap_or_else(|| "https://localhost:8443".to_owned());
        let public_url = public_url.trim_end_matches('/').to_owned();
        let host = host(&public_url).ok_or_else(|| {
            format!("public_url is {public_url}; expected an address such as https://elevon.example:8443")
        })?;
        let agents_address = pick(flags.agents_address, "AGENTS_ADDRESS", file.agents_address)
            .unwrap_or_else(|| format!("{host}:{}", agents_listen.port()));
        let database_url = pick(flags.database_url, "DATABASE_URL", file.database_url)
            .unwrap_or_else(|| Db::sqlite_url(&state_dir));
        let life = match (flags.agent_certificate_life, env("AGENT_CERTIFICATE_LIFE")) {
            (None, Some(text)) => Some(text.parse().map_err(|error| {
                format!("agent_certificate_life is {text}; expected a duration such as 2160h: {error}")
            })?),
            (flag, _) => flag.or(file.agent_certificate_life),
        };
        let windows_authorities = flags
            .windows_authorities
            .or_else(|| env("WINDOWS_AUTHORITIES").map(PathBuf::from))
            .or(file.windows_authorities)
            .or_else(|| Some(PathBuf::from(SYSTEM_AUTHORITIES)).filter(|path| path.exists()));
        Ok(Self {
            windows_authorities,
            measurer: PathBuf::from("/proc/self/exe"),
            agent_certificate_life: life.unwrap_or(AGENT_CERTIFICATE_LIFE),
            listen: address("listen", &listen)?,
            state_dir,
            agents_listen,
            public_url,
            agents_address,
            database_url,
        })
    }

    /// The names that the server's certificate must hold: those that people and agents use.
    pub fn host_names(&self) -> Vec<String> {
        let agents =
            self.agents_address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned());
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        for name in host(&self.public_url)
            .map(|host| host.trim_matches(['[', ']']).to_owned())
            .into_iter()
            .chain(agents)
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

fn address(name: &str, text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{name} is {text}; expected an address with a port such as 0.0.0.0:8443"))
}

/// The host part of an https address; brackets stay around an IPv6 address.
fn host(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    (!host.is_empty()).then_some(host)
}

impl File {
    fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("could not read settings {shown}: {error}"))?;
        toml::from_str(&text).map_err(|error| {
            let place = error.message();
            format!(
                "settings {shown} do not fit: {place}; see the documentation for the names of all settings"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found() {
        assert_eq!(host("https://a.example:8443"), Some("a.example"));
        assert_eq!(host("https://a.example/x"), Some("a.example"));
        assert_eq!(host("https://[::1]:8443"), Some("[::1]"));
        assert_eq!(host("http://a.example"), None);
        assert_eq!(host("https://"), None);
    }
}
