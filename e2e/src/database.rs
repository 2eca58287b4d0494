//! A PostgreSQL database of a test's own, on the server that `ELEVON_TEST_POSTGRES_URL` names.

use std::process::Command;

use anyhow::{Context, Result};

use crate::program::{must, run};

/// A database, removed when dropped.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes it; `name` begins its name.
    pub fn create(name: &str) -> Result<Self> {
        let server = std::env::var("ELEVON_TEST_POSTGRES_URL")
            .context("ELEVON_TEST_POSTGRES_URL names no PostgreSQL; `cargo xtask test e2e` starts one")?;
        let database = Self { server, name: format!("{name}_{}", std::process::id()) };
        must(&mut database.psql(&format!("create database {}", database.name)), b"")?;
        Ok(database)
    }

    /// Its address.
    pub fn url(&self) -> String {
        let start = self.server.find("://").map_or(0, |at| at + 3);
        let end = self.server.get(start..).and_then(|rest| rest.find('/')).map(|at| start + at);
        let host = end.and_then(|end| self.server.get(..end)).unwrap_or(&self.server);
        format!("{host}/{}", self.name)
    }

    fn psql(&self, sql: &str) -> Command {
        let mut psql = Command::new("psql");
        psql.arg(&self.server).args(["--quiet", "--no-psqlrc", "--command", sql]);
        psql
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped =
            run(&mut self.psql(&format!("drop database if exists {} with (force)", self.name)), b"");
        if !dropped.is_ok_and(|ran| ran.status.success()) {
            eprintln!("the database {} could not be removed", self.name);
        }
    }
}
