//! cargo-deny: licences, sources, banned and doubled crates, and advisories where their database can be had.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::program::{cargo, find, output, program, run, target_directory};

/// Checks the dependencies as `deny.toml` says.
pub(crate) fn check() -> Result<()> {
    let deny = installed()?;
    let mut checks = vec!["bans", "licenses", "sources"];
    // The database is a git repository; a builder without a way to it can still check the rest.
    match output(program(&deny).args(["fetch", "db"])) {
        Ok(_) => checks.push("advisories"),
        Err(error) => {
            println!(
                "NOT checked: advisories. Their database cannot be fetched from here: {}",
                first_line(&error)
            );
        }
    }
    run(program(&deny).args(["--workspace", "check", "--hide-inclusion-graph"]).args(&checks))
}

fn first_line(error: &anyhow::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The program: the one on the PATH, else one built once into the target directory.
fn installed() -> Result<PathBuf> {
    if let Some(found) = find("cargo-deny") {
        return Ok(found);
    }
    let tools = target_directory()?.join("tools");
    let program = tools.join("bin/cargo-deny");
    if !program.is_file() {
        println!("Building cargo-deny, once.");
        let mut install = cargo(["install", "cargo-deny", "--locked", "--quiet", "--root"]);
        install.arg(&tools).arg("--target-dir").arg(tools.join("build"));
        run(&mut install).context("install cargo-deny")?;
    }
    Ok(program)
}
