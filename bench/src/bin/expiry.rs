//! How exactly a launch ends: from the end of its grant to the moment when nothing of it is left. Every other program does what
//! it can to live on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use elevon_e2e::clock::{now, until};
use elevon_e2e::policy::{hash_of, privileged};
use elevon_e2e::process::lives;
use elevon_e2e::site::Site;
use elevon_policy::bounds::Limits;
use elevon_policy::lists::{AtExpiry, Covers, Launches, Way};
use elevon_policy::time::Span;
use serde::Deserialize;

/// What is started, round and round: what it is called, and what bash is told.
const PROGRAMS: [(&str, &str); 4] = [
    ("a program that waits", "exec sleep 600"),
    (
        "deaf to signals, with daemons",
        "trap '' HUP INT TERM; for n in 1 2 3 4 5; do (setsid sleep 600 &) & done; sleep 600",
    ),
    (
        "forks as fast as it can",
        "trap '' HUP INT TERM; storm() { while :; do (exec sleep 0.01 &); done; }; storm & storm & storm & wait",
    ),
    (
        "doubles itself up to its limit",
        "trap '' HUP INT TERM; double() { double 2>/dev/null & double 2>/dev/null & wait; }; double",
    ),
];

/// So many at once.
const AT_ONCE: usize = 4;

/// How many processes a launch may have: what doubles itself takes all of them, and the computer stays usable.
const PROCESSES: u32 = 200;

/// How far from its end a launch is over.
#[derive(Parser)]
struct Expiry {
    /// How many launches
    #[arg(long, default_value_t = 200)]
    launches: usize,
}

fn main() -> Result<()> {
    let launches = Expiry::parse().launches;
    let site = Site::start()?;
    let bash = site.programs.join("bin/bash");
    fs::copy("/bin/bash", &bash)?;
    let mut list = privileged("Ends", vec![hash_of(&bash)?])?;
    list.elevate = Way::Automatic;
    list.terms.arguments = Covers::AnyArguments;
    list.terms.launches = Launches::Once;
    list.terms.at_expiry = AtExpiry::Terminate { warning: Span::ZERO, grace: Span::ZERO };
    list.terms.bounds.limits = Limits { processes: Some(PROCESSES), memory: None };
    site.deploy(&list)?;
    let mut late: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let mut number = 0;
    while number < launches {
        let some = AT_ONCE.min(launches - number);
        for (name, millis) in ended(&site, &bash, number..number + some)? {
            late.entry(name).or_default().push(millis);
        }
        number += some;
    }
    println!(
        "{:34} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "after the end, in ms", "launches", "earliest", "median", "p99", "latest"
    );
    for (name, mut millis) in late {
        millis.sort_unstable();
        let at =
            |part: usize| millis.get((millis.len() * part / 100).min(millis.len() - 1)).copied().unwrap_or(0);
        println!("{name:34} {:8} {:9} {:9} {:9} {:9}", millis.len(), at(0), at(50), at(99), at(100));
    }
    Ok(())
}

/// Of a launch on file: its session, and its end.
#[derive(Deserialize)]
struct OnFile {
    session: Option<Session>,
    end: i64,
    argv: Vec<String>,
}

#[derive(Deserialize)]
struct Session {
    pid: i32,
}

/// Starts these, and waits until nothing of them is left: the session of a launch ends when its tree has, and not before.
fn ended(site: &Site, bash: &Path, numbers: std::ops::Range<usize>) -> Result<Vec<(&'static str, i64)>> {
    let mut clients = Vec::new();
    for number in numbers.clone() {
        let (_, script) = PROGRAMS[number % PROGRAMS.len()];
        let mut command = site.elevon(
            &site.alice,
            &["run", "--for", "3s", "--", bash.to_str().context("text")?, "-c", script, &number.to_string()],
        )?;
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        clients.push(command.spawn().context("start the client")?);
    }
    let folder = site.launches();
    let mut running = until("all of them to run", Duration::from_secs(20), || {
        let found = on_file(&folder)?;
        Ok((found.len() == numbers.len()).then_some(found))
    })?;
    let mut ended = Vec::new();
    while !running.is_empty() {
        let mut left = Vec::new();
        for launch in running {
            let pid = launch.session.as_ref().map_or(0, |session| session.pid);
            if lives(pid) {
                left.push(launch);
                continue;
            }
            let number: usize = launch.argv.last().context("its number")?.parse()?;
            ended.push((PROGRAMS[number % PROGRAMS.len()].0, now().millis() - launch.end));
        }
        running = left;
        std::thread::sleep(Duration::from_millis(1));
    }
    for client in &mut clients {
        client.wait()?;
    }
    ensure!(ended.len() == numbers.len(), "{} ended of {}", ended.len(), numbers.len());
    until("their files to be gone", Duration::from_secs(20), || {
        Ok(on_file(&folder)?.is_empty().then_some(()))
    })?;
    Ok(ended)
}

fn on_file(folder: &Path) -> Result<Vec<OnFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // It may be gone, or be written, just now.
        if path.extension().is_some_and(|kind| kind == "json")
            && let Ok(text) = fs::read(&path)
            && let Ok(launch) = serde_json::from_slice(&text)
        {
            found.push(launch);
        }
    }
    Ok(found)
}
