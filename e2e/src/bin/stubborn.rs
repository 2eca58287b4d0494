//! Does not want to end: ignores what asks it to, forks twice into sessions of its own, and beats.
//!
//! ```text
//! stubborn [--escape] FILE
//! ```
//!
//! Every 2 ms the last descendant writes the time into FILE (milliseconds since the Unix epoch, 20 digits, then its pid
//! in 10), so that its death can be dated. With `--escape` it first moves itself into the root cgroup. The first
//! process stays in the foreground, prints `beating`, and waits for a signal it cannot ignore.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use elevon_e2e::clock;

fn main() -> Result<()> {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let stage = match arguments.first().and_then(|first| first.to_str()) {
        Some(stage @ ("--first" | "--second" | "--third")) => stage.to_owned(),
        _ => String::new(),
    };
    if !stage.is_empty() {
        arguments.remove(0);
    }
    match stage.as_str() {
        "" => Err(next("--first", &arguments)?.exec()).context("start over with signals ignored"),
        "--first" => {
            next("--second", &arguments)?.spawn()?.wait()?;
            println!("beating");
            loop {
                std::thread::park();
            }
        }
        "--second" => {
            rustix::process::setsid()?;
            next("--third", &arguments)?.spawn()?;
            Ok(())
        }
        _ => beat(&arguments),
    }
}

/// This program again, with every signal ignored that can be and that it can do without.
fn next(stage: &str, arguments: &[OsString]) -> Result<Command> {
    let mut command = Command::new("/usr/bin/env");
    command.args(
        ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "TSTP"]
            .map(|signal| format!("--ignore-signal={signal}")),
    );
    command.arg(std::env::current_exe()?).arg(stage).args(arguments);
    Ok(command)
}

fn beat(arguments: &[OsString]) -> Result<()> {
    rustix::process::setsid()?;
    let (file, escape) = match arguments {
        [file] => (file, false),
        [option, file] if option == "--escape" => (file, true),
        _ => bail!("expected: stubborn [--escape] FILE"),
    };
    if escape {
        let unified = elevon_e2e::leftovers::cgroup_root().context("no cgroup v2 is mounted")?;
        std::fs::write(unified.join("cgroup.procs"), "0").context("move into the root cgroup")?;
    }
    let file = File::options().create(true).truncate(true).write(true).open(file)?;
    let pid = std::process::id();
    loop {
        file.write_all_at(format!("{:020}{pid:010}", clock::now().millis()).as_bytes(), 0)?;
        std::thread::sleep(Duration::from_millis(2));
    }
}
