//! What Elevon costs a computer on which nothing happens: the memory of its two services, holding a hundred rules, and their
//! processor time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use elevon_bench::clock;
use elevon_e2e::clock::until_true;
use elevon_e2e::policy::{folder, hash_of, privileged};
use elevon_e2e::process::{family, name, own_memory};
use elevon_e2e::site::Site;
use elevon_policy::lists::Way;

/// How many rules the computer holds.
const RULES: usize = 100;

/// The memory and the processor time of a computer's two services while nobody needs them.
#[derive(Parser)]
struct Idle {
    /// For how many seconds they are watched
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

fn main() -> Result<()> {
    let span = Duration::from_secs(Idle::parse().seconds);
    let site = Site::start()?;
    let mut rules = vec![hash_of(Path::new("/usr/bin/true"))?];
    for number in 1..RULES {
        rules.push(folder(Path::new(&format!("/usr/lib/department-{number}")), true)?);
    }
    let mut list = privileged("A hundred rules", rules)?;
    list.elevate = Way::Automatic;
    site.deploy(&list)?;
    // It has been used: what a launch leaves behind is there, and what the next one takes.
    for _ in 0..20 {
        site.alice_runs(&["run", "--", "/usr/bin/true"])?.expect(0);
    }
    let elevator = site.elevator.as_ref().context("the elevator runs")?.pid().as_raw_nonzero().get();
    let agent = site.agent.as_ref().context("the agent runs")?.pid().as_raw_nonzero().get();
    until_true("all launches to be over", Duration::from_secs(20), || {
        fs::read_dir(site.launches()).is_ok_and(|mut files| files.next().is_none())
    })?;
    let all = [family(elevator), family(agent)].concat();
    let ticks = || all.iter().map(|pid| processor_time(*pid)).sum::<u64>();
    let (before, start) = (ticks(), clock::now());
    std::thread::sleep(span);
    let (used, passed) = (ticks() - before, start.elapsed());
    println!("{:24} {:>12} {:>20}", "process", "resident", "of that, its own");
    for pid in &all {
        println!("{:24} {:8} KiB {:16} KiB", name(*pid), resident(*pid), own_memory(*pid));
    }
    println!(
        "processor time: {:.3} % of one, over {} s",
        used as f64 / passed.as_secs_f64(),
        passed.as_secs()
    );
    Ok(())
}

/// What is in memory of it, shared or not, in KiB.
fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// In hundredths of a second, which is what the kernel counts in.
fn processor_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum()
}
