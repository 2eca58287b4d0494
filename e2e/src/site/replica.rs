//! Another server on a site's database.

use std::fs;

use anyhow::{Context, Result};

use super::{Site, folder, free_port, server_command};
use crate::api::Api;
use crate::program::Program;

/// Another server on a site's database, with a copy of its keys; killed when dropped.
#[derive(Debug)]
pub struct Replica {
    /// The process.
    pub server: Program,
    /// Its API, as its owner.
    pub api: Api,
    /// The port of its agents.
    pub agents: u16,
}

impl Site {
    /// Starts another server on the same database, which must be PostgreSQL, and waits until it serves.
    pub fn replica(&self) -> Result<Replica> {
        let state = self.tree.join("replica");
        folder(&state.join("keys"), 0o700)?;
        for file in fs::read_dir(self.tree.join("server/keys"))? {
            let file = file?;
            fs::copy(file.path(), state.join("keys").join(file.file_name())).context("copy the keys")?;
        }
        let (console, agents) = (free_port()?, free_port()?);
        let address = format!("https://localhost:{console}");
        let mut command = server_command(&self.tree, &["serve"])?;
        command
            .env("ELEVON_STATE_DIR", &state)
            .env("ELEVON_LISTEN", format!("127.0.0.1:{console}"))
            .env("ELEVON_AGENTS_LISTEN", format!("127.0.0.1:{agents}"))
            .env("ELEVON_PUBLIC_URL", &address);
        let mut server = Program::start("replica", &mut command, &self.tree.join("logs"))?;
        server.line("saying where agents connect", |line| line.strip_prefix("Agents").map(drop))?;
        Ok(Replica { server, api: self.api.at_address(&address), agents })
    }
}
