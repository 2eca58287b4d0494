//! What is on the disk, and what the daemons are given at their start.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::SOON;
use elevon_e2e::process::children;
use elevon_e2e::program::{Program, run};

use crate::ground::Ground;

crate::cases! {
    Shared every_file_of_the_state_is_roots_alone,
    Shared the_agents_files_are_the_agents_alone,
    Shared orders_and_outcomes_cannot_be_laid_by_users,
    Shared daemons_hold_no_descriptor_that_is_not_theirs,
    Shared programs_inherit_nothing_of_the_daemons,
    Shared a_second_elevator_does_not_start,
    Alone what_started_the_elevator_does_not_matter,
    Alone a_squatted_folder_is_not_used,
    Alone a_dying_elevator_leaves_no_core,
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries
        .iter()
        .flat_map(|path| [vec![path.clone()], if path.is_dir() { below(path) } else { Vec::new() }].concat())
        .collect()
}

fn closed(ground: &Ground, folder: &str, uid: u32) -> Result<usize> {
    let top = ground.site.tree.join(folder);
    let all = [vec![top.clone()], below(&top)].concat();
    for path in &all {
        // Launches come and go.
        let Ok(facts) = fs::symlink_metadata(path) else { continue };
        ensure!(facts.uid() == uid, "{} belongs to {}", path.display(), facts.uid());
        ensure!(facts.mode() & 0o022 == 0, "{} has mode {:o}", path.display(), facts.mode());
    }
    ensure!(fs::metadata(&top)?.mode() & 0o7777 == 0o700, "{folder} can be entered");
    let said = ground.shell(&format!("ls {0}; cat {0}/*; touch {0}/x", top.display()), b"")?;
    ensure!(said.text().matches("ermission denied").count() >= 2, "{}", said.text());
    Ok(all.len())
}

fn every_file_of_the_state_is_roots_alone(ground: &mut Ground) -> Result<String> {
    let files = closed(ground, "elevator", 0)?;
    for secret in ["event.key", "trust.json", "local.json", "clock.json", "sheet.signed"] {
        let mode = fs::metadata(ground.site.tree.join("elevator").join(secret))?.mode() & 0o777;
        ensure!(mode & 0o077 == 0, "{secret} has mode {mode:o}");
    }
    Ok(format!("{files} files and folders"))
}

fn the_agents_files_are_the_agents_alone(ground: &mut Ground) -> Result<String> {
    let files = closed(ground, "agent", ground.site.agent_user.uid)?;
    Ok(format!("{files} files and folders"))
}

/// A file by the name of an order or an outcome would end a launch, or forge how it ended.
fn orders_and_outcomes_cannot_be_laid_by_users(ground: &mut Ground) -> Result<String> {
    let go_on = ground.home("go-on");
    let mut running =
        ground.left_running(&[&ground.path("free/probe"), "--hold", &go_on.to_string_lossy()])?;
    let (started, session) = ground.running()?;
    let launches = ground.site.launches();
    let id = started.data["launch"].as_str().unwrap_or_default();
    let script = format!(
        "echo '{{\"reason\":\"expired\",\"grace\":0}}' >{0}/{id}.order; ln -s /etc/passwd {0}/{id}.outcome; \
         kill -USR1 {session}; kill -TERM {session}",
        launches.display()
    );
    ground.shell(&script, b"")?;
    ensure!(!launches.join(format!("{id}.order")).exists() && elevon_e2e::process::lives(session));
    fs::write(&go_on, "")?;
    running.exit(SOON)?.expect(0);
    fs::remove_file(go_on)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("permission denied, and no signal arrives".into())
}

fn descriptors(pid: i32) -> Result<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    Ok(entries
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|to| to.to_string_lossy().into_owned())
        .collect())
}

/// A program that runs until a file is there, and the processes it runs under.
struct Held {
    go_on: PathBuf,
    running: Program,
    elevator: i32,
    spawner: i32,
    session: i32,
}

impl Held {
    fn start(ground: &Ground) -> Result<Self> {
        let go_on = ground.home("go-on");
        let running =
            ground.left_running(&[&ground.path("free/probe"), "--hold", &go_on.to_string_lossy()])?;
        let (_, session) = ground.running()?;
        let elevator = ground.elevator_pid().context("it runs")?;
        let spawner = children(elevator).first().copied().context("the spawner")?;
        Ok(Self { go_on, running, elevator, spawner, session })
    }
}

fn daemons_hold_no_descriptor_that_is_not_theirs(ground: &mut Ground) -> Result<String> {
    let Held { go_on, mut running, spawner, session, .. } = Held::start(ground)?;
    let state = ground.site.tree.join("elevator").to_string_lossy().into_owned();
    let mut seen = Vec::new();
    for (name, pid) in [("spawner", spawner), ("session", session)] {
        let held = descriptors(pid)?;
        ensure!(!held.iter().any(|to| to.contains(&state)), "the {name} holds a file of the state: {held:?}");
        seen.push(format!("{name} {}", held.len()));
    }
    // The line between elevator and spawner is theirs alone: whoever else held it would keep its end from being seen.
    let sockets = |pid| -> Result<BTreeSet<String>> {
        Ok(descriptors(pid)?.into_iter().filter(|to| to.starts_with("socket:")).collect())
    };
    let shared: Vec<String> = sockets(spawner)?.intersection(&sockets(session)?).cloned().collect();
    ensure!(shared.is_empty(), "the session holds the spawner's own line: {shared:?}");
    fs::write(&go_on, "")?;
    running.exit(SOON)?.expect(0);
    fs::remove_file(go_on)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("descriptors: {}", seen.join(", ")))
}

fn programs_inherit_nothing_of_the_daemons(ground: &mut Ground) -> Result<String> {
    let ran = ground.elevated(&[&ground.path("free/probe")])?.expect(0);
    let seen: serde_json::Value = serde_json::from_slice(&ran.out)?;
    for (name, expected) in [
        ("NoNewPrivs", "0"),
        ("Seccomp_filters", "0"),
        ("CapInh", "0000000000000000"),
        ("SigBlk", "0000000000000000"),
    ] {
        ensure!(seen["status"][name] == expected, "{name} is {}", seen["status"][name]);
    }
    let held: Vec<&String> = seen["descriptors"].as_object().context("descriptors")?.keys().collect();
    ensure!(held == ["0", "1", "2"], "{held:?}");
    let environment = seen["environment"].to_string();
    ensure!(!environment.contains("ELEVON_STATE_DIR"), "the elevator's settings got in: {environment}");
    ground.recorded(&[("launch.started", "")])?;
    Ok("no filter, no descriptor, no setting".into())
}

fn a_second_elevator_does_not_start(ground: &mut Ground) -> Result<String> {
    let ran = run(&mut ground.site.elevator_command(&["run"])?, b"")?.expect(1);
    ensure!(ran.err.contains("another elevator runs"), "{}", ran.err);
    let healthy = ground.elevated(&[&ground.path("free/good")])?.expect(0);
    ensure!(healthy.text().contains("good uid=0"));
    Ok("one line, status 1, and the first goes on".into())
}

/// A umask that keeps nothing back, a folder of alice's, her variables, descriptors, and every signal ignored.
fn what_started_the_elevator_does_not_matter(ground: &mut Ground) -> Result<String> {
    ground.site.elevator.take().context("it runs")?.stop()?;
    let script = format!(
        "umask 000; cd {}; trap '' HUP USR1 USR2 PIPE CHLD; exec 7</etc/shadow 8<>/dev/null; export LD_LIBRARY_PATH=. PATH=.; \
         exec \"$0\" \"$@\"",
        ground.site.alice.home.display()
    );
    let mut command = ground.site.elevator_command_under(&["/bin/bash", "-c", &script], &["run"])?;
    ground.site.start_elevator_as(&mut command)?;
    let ran = ground.elevated(&[&ground.path("free/probe")])?.expect(0);
    let seen: serde_json::Value = serde_json::from_slice(&ran.out)?;
    let held: Vec<&String> = seen["descriptors"].as_object().context("descriptors")?.keys().collect();
    ensure!(held == ["0", "1", "2"], "{held:?}");
    ensure!(!seen["environment"].to_string().contains("LD_LIBRARY_PATH"));
    // What Rust's own start and the C library ignore or reserve does not count.
    let ignored = u64::from_str_radix(seen["status"]["SigIgn"].as_str().unwrap_or("f"), 16)?;
    ensure!(ignored & !((1 << 12) | (1 << 31) | (1 << 32)) == 0, "signals are ignored: {ignored:x}");
    ensure!(seen["status"]["Umask"] == "0022", "{}", seen["status"]["Umask"]);
    closed(ground, "elevator", 0)?;
    Ok("umask, folder, variables, descriptors and signals did not get through".into())
}

fn a_squatted_folder_is_not_used(ground: &mut Ground) -> Result<String> {
    ground.site.elevator.take().context("it runs")?.stop()?;
    let (run_dir, state) = (ground.site.tree.join("run"), ground.site.tree.join("elevator"));
    let mut refused = Vec::new();
    for folder in [&run_dir, &state] {
        chown(folder, Some(ground.site.alice.uid), None)?;
        let ran = run(&mut ground.site.elevator_command(&["run"])?, b"")?.expect(1);
        refused.push(ran.err.lines().next().unwrap_or_default().to_owned());
        chown(folder, Some(0), None)?;
    }
    // A link where the socket should be leads nowhere.
    let (target, link) = (ground.home("target"), run_dir.join("elevator.sock"));
    fs::write(&target, "hers\n")?;
    symlink(&target, &link)?;
    ground.site.start_elevator()?;
    ensure!(fs::read_to_string(&target)? == "hers\n", "what the link led to was changed");
    ensure!(fs::metadata(&target)?.mode() & 0o777 != 0o666, "what the link led to was opened to all");
    ensure!(refused.iter().all(|line| line.contains("expected root")), "{refused:?}");
    Ok("a folder of hers is refused, a link is replaced".into())
}

fn a_dying_elevator_leaves_no_core(ground: &mut Ground) -> Result<String> {
    ground.site.elevator.take().context("it runs")?.stop()?;
    let limits = ["prlimit", "--core=unlimited:unlimited"];
    let mut command = ground.site.elevator_command_under(&limits, &["run"])?;
    ground.site.start_elevator_as(&mut command)?;
    let Held { go_on, mut running, elevator, spawner, session } = Held::start(ground)?;
    let cores = || below_one(Path::new("/"));
    let before = cores();
    for pid in [session, elevator, spawner] {
        Command::new("kill").args(["-SEGV", &pid.to_string()]).status()?;
        elevon_e2e::process::gone(pid, SOON)?;
    }
    let fresh: Vec<PathBuf> = cores().difference(&before).cloned().collect();
    for core in &fresh {
        fs::remove_file(core)?;
    }
    ground.site.elevator.take();
    fs::write(&go_on, "")?;
    running.exit(SOON)?;
    ground.site.start_elevator()?;
    ensure!(fresh.is_empty(), "they left {fresh:?}");
    Ok("session, elevator and spawner: none".into())
}

fn below_one(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")))
        .collect()
}
