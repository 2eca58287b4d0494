//! Elevated programs in a real terminal behave as they do under sudo.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use elevon_e2e::clock::{SOON, until};
use elevon_e2e::terminal::Terminal;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::Scene;

/// `elevon run -- COMMAND…` as alice in a terminal of its own.
fn elevated_in_terminal(scene: &Scene, command: &[&str]) -> Result<Terminal> {
    let mut elevon = scene.site.in_terminal(&scene.site.alice, &scene.site.client())?;
    Terminal::open(elevon.args(["run", "--"]).args(command))
}

/// An interactive bash of alice's, as her log-in would start it.
fn shell(scene: &Scene) -> Result<Terminal> {
    let mut bash = scene.site.in_terminal(&scene.site.alice, Path::new("/bin/bash"))?;
    let mut terminal = Terminal::open(bash.args(["--norc", "--noprofile", "-i"]).env("PS1", "ready> "))?;
    terminal.expect("ready> ")?;
    Ok(terminal)
}

/// The shell, at its prompt, tells the status of its last command.
fn expect_status(terminal: &mut Terminal, status: i32) -> Result<()> {
    terminal.send("echo status=$?\n")?;
    terminal.expect(&format!("status={status}\r\n")).map(drop)
}

/// Ends the shell.
fn leave(mut terminal: Terminal) -> Result<()> {
    terminal.send("exit\n")?;
    terminal.exit(SOON).map(drop)
}

/// The process whose command line has this word, and whose own program has this name.
fn process(program: &str, word: &str) -> Result<Pid> {
    until(&format!("a process {program} about {word}"), SOON, || {
        let numbers = fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let found = numbers.into_iter().find(|number| {
            let command = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            let mut words =
                command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
            let name = words.next().unwrap_or_default();
            Path::new(&name).file_name().is_some_and(|name| name == program)
                && words.any(|other| other.contains(word))
        });
        Ok(found.and_then(Pid::from_raw))
    })
}

fn parent(pid: Pid) -> Result<Pid> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("a parent")?;
    Pid::from_raw(parent.trim().parse()?).context("a parent")
}

fn gone(pid: Pid) -> Result<()> {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    until("the elevated process to be gone", SOON, || Ok((!process.exists()).then_some(())))
}

#[test]
fn vim_edits_a_file_as_root() -> Result<()> {
    let scene = Scene::set()?;
    let file = scene.site.programs.join("edited");
    let mut terminal = elevated_in_terminal(&scene, &["vim", "-u", "NONE", file.to_str().unwrap()])?;
    let before = terminal.modes()?;
    terminal.expect("~")?;
    terminal.send("ihello from vim\x1b")?;
    terminal.expect("hello from vim")?;
    assert!(!terminal.modes()?.are_sane(), "the terminal is raw while vim runs");
    terminal.send(":wq\r")?;
    assert_eq!(terminal.exit(SOON)?, 0);
    assert_eq!(fs::read_to_string(&file)?, "hello from vim\n");
    assert_eq!(fs::metadata(&file)?.uid(), 0);
    assert!(terminal.modes()?.are_sane(), "{before:?} became {:?}", terminal.modes()?);
    Ok(())
}

#[test]
fn top_draws_and_ends() -> Result<()> {
    let scene = Scene::set()?;
    let mut terminal = elevated_in_terminal(&scene, &["top"])?;
    terminal.expect("load average")?;
    terminal.expect("COMMAND")?;
    terminal.send("q")?;
    assert_eq!(terminal.exit(SOON)?, 0);
    assert!(terminal.modes()?.are_sane());
    Ok(())
}

#[test]
fn the_interrupt_key_reaches_the_program() -> Result<()> {
    let scene = Scene::set()?;
    let script = "trap 'echo caught; exit 9' INT; echo set; while :; do sleep 0.05; done";
    let mut terminal = elevated_in_terminal(&scene, &["sh", "-c", script])?;
    terminal.expect("set")?;
    terminal.send("\x03")?;
    terminal.expect("caught")?;
    assert_eq!(terminal.exit(SOON)?, 9);
    // And one that does not catch it dies of it, as its shell sees.
    let mut terminal = shell(&scene)?;
    terminal.send("elevon run -- sh -c 'echo running; exec sleep 1000'\n")?;
    terminal.expect("running\r\n")?;
    terminal.send("\x03")?;
    terminal.expect("ready> ")?;
    expect_status(&mut terminal, 130)?;
    leave(terminal)
}

#[test]
fn the_suspend_key_gives_the_shell_back_and_fg_goes_on() -> Result<()> {
    let scene = Scene::set()?;
    let mut terminal = shell(&scene)?;
    let before = terminal.modes()?;
    terminal.send("elevon run -- sh -c 'echo run''ning; read word; echo got $word; exit 4'\n")?;
    terminal.expect("running\r\n")?;
    terminal.send("\x1a")?;
    terminal.expect("Stopped")?;
    terminal.expect("ready> ")?;
    assert_eq!(terminal.modes()?, before, "bash has its terminal back");
    terminal.send("echo in-''between\n")?;
    terminal.expect("in-between")?;
    terminal.expect("ready> ")?;
    terminal.send("fg\n")?;
    terminal.expect("elevon run")?;
    terminal.send("again\n")?;
    terminal.expect("got again")?;
    terminal.expect("ready> ")?;
    expect_status(&mut terminal, 4)?;
    leave(terminal)
}

#[test]
fn the_program_sees_the_window_and_its_changes() -> Result<()> {
    let scene = Scene::set()?;
    // Not a shell: bash loses a signal that comes while its trap for it still runs. Held back but for the waiting, none is lost.
    let script = "use POSIX; $| = 1; $SIG{WINCH} = sub {}; $SIG{INT} = sub { exit 0 }; \
                  sigprocmask(SIG_BLOCK, POSIX::SigSet->new(28)); print `stty size`, qq(set\\n); \
                  while (1) { sigsuspend(POSIX::SigSet->new); print `stty size` }";
    let mut terminal = elevated_in_terminal(&scene, &["perl", "-e", script])?;
    terminal.expect("24 80")?;
    terminal.expect("set")?;
    terminal.resize(41, 123)?;
    terminal.expect("41 123")?;
    terminal.resize(10, 20)?;
    terminal.expect("10 20")?;
    terminal.send("\x03")?;
    assert_eq!(terminal.exit(SOON)?, 0);
    Ok(())
}

#[test]
fn the_terminal_is_put_back_when_the_program_is_killed() -> Result<()> {
    let scene = Scene::set()?;
    let mut terminal = shell(&scene)?;
    let before = terminal.modes()?;
    let word = scene.site.programs.join("killed");
    terminal.send(&format!("elevon run -- vim -u NONE {}\n", word.display()))?;
    terminal.expect("~")?;
    let vim = process("vim", word.to_str().unwrap())?;
    assert_eq!(fs::metadata(format!("/proc/{}", vim.as_raw_nonzero()))?.uid(), 0);
    kill_process(vim, Signal::KILL)?;
    terminal.expect("ready> ")?;
    assert_eq!(terminal.modes()?, before);
    expect_status(&mut terminal, 137)?;
    leave(terminal)
}

#[test]
fn the_terminal_is_put_back_when_the_session_is_killed() -> Result<()> {
    let scene = Scene::set()?;
    let mut terminal = shell(&scene)?;
    let before = terminal.modes()?;
    let word = scene.site.programs.join("killed");
    terminal.send(&format!("elevon run -- vim -u NONE {}\n", word.display()))?;
    terminal.expect("~")?;
    let vim = process("vim", word.to_str().unwrap())?;
    // vim ← monitor ← session
    let session = parent(parent(vim)?)?;
    let elevator = scene.site.elevator.as_ref().context("the elevator runs")?.pid();
    assert_ne!(session, elevator, "the session is a process of its own");
    kill_process(session, Signal::KILL)?;
    terminal.expect("ready> ")?;
    assert_eq!(terminal.modes()?, before);
    gone(vim)?;
    let ended = scene.site.api.event("launch.ended", |_| true)?;
    assert_eq!(ended.text("/reason"), "session_died");
    leave(terminal)
}

#[test]
fn a_terminal_that_goes_away_takes_the_program_with_it() -> Result<()> {
    let scene = Scene::set()?;
    let mut terminal = elevated_in_terminal(&scene, &["sh", "-c", "echo running; exec sleep 98765"])?;
    terminal.expect("running")?;
    let sleep = process("sleep", "98765")?;
    terminal.signal(Signal::KILL)?;
    gone(sleep)?;
    let ended = scene.site.api.event("launch.ended", |_| true)?;
    assert_eq!(ended.text("/reason"), "hung_up");
    Ok(())
}

#[test]
fn a_person_is_asked_what_is_missing() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let mut terminal = elevated_in_terminal(&scene, &[good.to_str().unwrap()])?;
    // What will run, before anything is asked.
    terminal.expect(good.to_str().unwrap())?;
    let digest = elevon_e2e::policy::sha256(&good)?.to_string();
    terminal.expect(&digest[..6])?;
    terminal.send("15m\n")?;
    terminal.send("to see whether it asks\n")?;
    let request = scene.site.api.pending("good")?;
    let row = scene.site.api.read(&format!("requests/{request}"))?;
    assert!(row.to_string().contains("to see whether it asks"), "{row}");
    assert!(row.to_string().contains("\"15m\""), "{row}");
    scene.approver.approve(&request, None, "")?;
    terminal.expect("good uid=0")?;
    assert_eq!(terminal.exit(SOON)?, 0);
    Ok(())
}

#[test]
fn interrupting_the_wait_leaves_the_request_pending() -> Result<()> {
    let scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let mut terminal = shell(&scene)?;
    let before = terminal.modes()?;
    terminal.send(&format!("elevon run --for 15m --justification 'for a test' -- {}\n", good.display()))?;
    let request = scene.site.api.pending("good")?;
    terminal.expect("ending")?;
    terminal.send("\x03")?;
    terminal.expect("pending")?;
    terminal.expect("ready> ")?;
    assert_eq!(terminal.modes()?, before);
    scene.site.api.request_is(&request, "pending")?;
    leave(terminal)
}
