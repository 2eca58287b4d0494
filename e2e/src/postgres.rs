//! Databases on the PostgreSQL that `cargo xtask` starts for tests.

use std::process::Command;

use anyhow::{Context, Result};

use crate::program::must;

/// The address of a PostgreSQL in which databases may be made, where the tests were given one.
pub fn given() -> Option<String> {
    std::env::var("ELEVON_TEST_POSTGRES_URL").ok()
}

/// A new database; its address. It goes with the PostgreSQL.
pub fn fresh_database(name: &str) -> Result<String> {
    let url = given().context("ELEVON_TEST_POSTGRES_URL names a PostgreSQL")?;
    let name = name.replace('-', "_");
    let make = format!("create database {name}");
    must(Command::new("psql").args([&url, "--quiet", "--command", &make]), b"")?;
    let (server, _) = url.rsplit_once('/').context("the address names a database")?;
    Ok(format!("{server}/{name}"))
}
