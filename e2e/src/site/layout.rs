//! How a site's things are called, so that many fit on one computer.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

/// The password of every account of a test's site.
pub const PASSWORD: &str = "correct horse battery staple";

/// What a site is made of: names that nothing else on the computer has.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Begins the names of the site's directories in /tmp and /opt.
    pub directory: String,
    /// The user who asks.
    pub alice: String,
    /// Another user.
    pub bob: String,
    /// The agent's user.
    pub agent: String,
    /// The console's port and the agents'.
    pub ports: (u16, u16),
    /// The port that agents are told to connect to, where that is another one: something lies in between.
    pub agents_through: Option<u16>,
    /// The database's address; none for the embedded one.
    pub database_url: Option<String>,
    /// How long agents' certificates are good, where that is not as usual.
    pub agent_certificate_life: Option<String>,
    /// The password of the accounts.
    pub password: String,
}

impl Layout {
    /// One that no other site has.
    pub fn unique() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}x{number}", std::process::id());
        Ok(Self {
            directory: format!("elevon-e2e-{mark}"),
            alice: format!("elvt{mark}alice"),
            bob: format!("elvt{mark}bob"),
            agent: format!("elvt{mark}agent"),
            ports: (free_port()?, free_port()?),
            agents_through: None,
            database_url: None,
            agent_certificate_life: None,
            password: PASSWORD.into(),
        })
    }

    /// What the server is told by its environment, a setting a line.
    pub(super) fn settings(&self, tree: &Path) -> String {
        let Self { ports: (console, agents), .. } = self;
        let mut settings = format!(
            "ELEVON_STATE_DIR={}\nELEVON_LISTEN=127.0.0.1:{console}\nELEVON_AGENTS_LISTEN=127.0.0.1:{agents}\n\
             ELEVON_PUBLIC_URL=https://localhost:{console}\n",
            tree.join("server").display()
        );
        if let Some(port) = self.agents_through {
            let _ = writeln!(settings, "ELEVON_AGENTS_ADDRESS=localhost:{port}");
        }
        if let Some(url) = &self.database_url {
            let _ = writeln!(settings, "ELEVON_DATABASE_URL={url}");
        }
        if let Some(life) = &self.agent_certificate_life {
            let _ = writeln!(settings, "ELEVON_AGENT_CERTIFICATE_LIFE={life}");
        }
        settings
    }
}

/// Ports that a site of this process was given.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on the loopback interface that nobody listens on.
pub fn free_port() -> Result<u16> {
    loop {
        let port = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?.port();
        if GIVEN.lock().expect("nobody panics while holding it").insert(port) {
            return Ok(port);
        }
    }
}
