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
use rustix::process::geteuid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::clock::interrupt;

const USAGE: &str = "\
elevon-demo shows Elevon on this computer: a server, an agent and an elevator, two users, a sample policy.

    elevon-demo            starts it, says what to try, and removes it at Ctrl-C
    elevon-demo --auto     plays the whole story by itself; exits 0 only if all of it happened

    --database-url URL     on an empty database in PostgreSQL, postgres://…, in place of SQLite

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
    let (mut auto, mut database_url) = (false, None);
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--auto" => auto = true,
            "--database-url" => {
                database_url = Some(words.next().context("expected an address behind --database-url")?);
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => bail!("expected --auto, --database-url or nothing, not {word}\n\n{USAGE}"),
        }
    }
    if !geteuid().is_root() {
        bail!("it makes users and runs programs as root for real: run it as root, or with sudo");
    }
    catch_interrupts()?;
    if auto { story::play(database_url) } else { guide::show(database_url) }
}

/// From now on SIGINT, SIGTERM and SIGHUP make the demo clean up and end. They are caught, not blocked: the programs that
/// the demo starts would inherit that.
fn catch_interrupts() -> Result<()> {
    let mut caught = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catch signals")?;
    thread::spawn(move || caught.forever().for_each(|_| interrupt()));
    Ok(())
}
