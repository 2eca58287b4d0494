//! The main job on this computer. The story itself is told by `elevon-demo`, beside the tests of the whole system.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::postgres::Postgres;
use crate::program::{cargo, find, is_root, run, target_directory};

/// Builds everything, and becomes the demo, or waits for it where there is a database to be taken away afterwards; as root,
/// since there is no other way to elevate for real.
pub(crate) fn demo(auto: bool, postgres: bool, database_url: Option<String>, more: &[String]) -> Result<()> {
    let sudo = find("sudo");
    if !is_root() && sudo.is_none() {
        bail!("the demo elevates for real and so needs root, and there is no sudo here; run it as root");
    }
    println!("Building; the first time this takes a few minutes.");
    run(&mut cargo(["build", "--workspace", "--bins"])).context("build the programs")?;
    let program = target_directory()?.join("debug/elevon-demo");
    let mut demo = match sudo {
        Some(sudo) if !is_root() => {
            println!("The demo needs root, for real elevation has no other way: running it under sudo.");
            let mut command = Command::new(sudo);
            command.args(["env", "ELEVON_BUILT=1"]).arg(program);
            command
        }
        _ => {
            let mut command = Command::new(program);
            command.env("ELEVON_BUILT", "1");
            command
        }
    };
    if auto {
        demo.arg("--auto").stdin(Stdio::null());
    }
    let postgres = if postgres { Some(Postgres::start()?) } else { None };
    if let Some(url) = database_url.or_else(|| postgres.as_ref().map(|postgres| postgres.url().to_owned())) {
        demo.args(["--database-url", &url]);
    }
    demo.args(more);
    if postgres.is_none() {
        // This process becomes it, so that the terminal, signals and exit status are the demo's own.
        return Err(demo.exec()).context("start the demo");
    }
    // Ctrl-C is for the demo, which ends by it; then the database is taken away.
    let _caught = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catch signals")?;
    let status = demo.status().context("start the demo")?;
    if !status.success() {
        bail!("the demo ended with {status}");
    }
    Ok(())
}
