//! The programs under test: those that cargo built beside this one.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

/// The packages whose programs make the system.
const PACKAGES: [&str; 5] = ["elevon-server", "elevon-agent", "elevon-elevator", "elevon", "elevon-e2e"];

/// The path of a program of this workspace, built now if it is not up to date. With `ELEVON_BUILT` in the environment,
/// whoever set it has just built everything, and nothing is built again.
pub fn binary(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let directory = directory()?;
    if env::var_os("ELEVON_BUILT").is_none() {
        BUILT
            .get_or_init(|| build(&directory.ends_with("release")).map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(|error| anyhow!(error))?;
    }
    let path = directory.join(name);
    ensure!(path.exists(), "{} is missing: `cargo build --workspace` makes it", path.display());
    Ok(path)
}

/// Where cargo puts programs: this one's directory, or the one above when this is a test.
fn directory() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let directory = own.parent().context("this program lies in no directory")?;
    let above = directory.parent().filter(|_| directory.ends_with("deps"));
    Ok(above.unwrap_or(directory).into())
}

fn build(release: &bool) -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--bins"]).args(PACKAGES.map(|package| format!("--package={package}")));
    if *release {
        cargo.arg("--release");
    }
    // The programs must land beside this one, wherever that is.
    let target = directory()?.parent().context("a target directory")?.to_owned();
    cargo.env("CARGO_TARGET_DIR", target).current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = cargo.status().context("run cargo build")?;
    ensure!(status.success(), "the programs under test do not build");
    Ok(())
}
