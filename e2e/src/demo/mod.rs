//! The demo: a whole installation on this computer, for a person to try or playing its story by itself, and gone
//! afterwards.

mod guide;
mod sample;
mod story;
mod told;

use std::env;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::geteuid;

use crate::clock::interrupt;

const USAGE: &str = "\
elevon-demo shows Elevon on this computer: a server, an agent and an elevator, two users, a sample policy.

    elevon-demo            starts it, says what to try, and removes it at Ctrl-C
    elevon-demo --auto     plays the whole story by itself; exits 0 only if all of it happened

It needs root: elevation has no other way.";

/// Runs the demo as the command line says.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let auto = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--auto"] => true,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return Ok(());
        }
        _ => bail!("expected --auto or nothing\n\n{USAGE}"),
    };
    if !geteuid().is_root() {
        bail!("it makes users and runs programs as root for real: run it as root, or with sudo");
    }
    catch_interrupts()?;
    if auto { story::play() } else { guide::show() }
}

/// From now on SIGINT, SIGTERM and SIGHUP make the demo clean up and end; a second one finds it doing so.
fn catch_interrupts() -> Result<()> {
    let caught = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Blocked before there is a second thread, so that only the waiting one takes them.
    caught.thread_block().context("block signals")?;
    thread::spawn(move || {
        while caught.wait().is_ok() {
            interrupt();
        }
    });
    Ok(())
}
