//! The main job on this computer. The story itself is told by `elevon-demo`, beside the tests of the whole system.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::program::{cargo, find, is_root, run, target_directory};

/// Builds everything, and becomes the demo; as root, since there is no other way to elevate for real.
pub(crate) fn demo(auto: bool, more: &[String]) -> Result<()> {
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
    // This process becomes it, so that the terminal, signals and exit status are the demo's own.
    Err(demo.args(more).exec()).context("start the demo")
}
