//! The layers that end a process tree, one without the other.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::leftovers::cgroup_root;
use elevon_e2e::process::{children, gone};
use elevon_e2e::program::{Program, run};
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{Heart, Scene, measured};

const LATE: i64 = 1_000;

/// The elevator is killed while something runs: the session keeps the deadline by itself.
#[test]
fn a_session_outlives_a_killed_elevator_and_ends_its_tree_on_time() -> Result<()> {
    let mut scene = Scene::set()?;
    let mut stubborn = scene.stubborn("4s", &[])?;
    let end = scene.launch_under(&stubborn.grant)?.data["end"].as_i64().unwrap();
    scene.site.elevator.take().context("it runs")?.kill()?;
    let beaten = stubborn.heart.last_beat();
    until_true("it to beat on", SOON, || stubborn.heart.last_beat() > beaten)?;
    let last = stubborn.heart.stopped()?;
    measured("end of the grant → last beat, with the elevator killed", last - end);
    assert!(last <= end + LATE, "it beat {} ms past the end", last - end);
    assert!(last >= end - 2_000, "it was ended {} ms too early", end - last);
    assert_eq!(stubborn.run.exit(SOON)?.code(), 137);
    // The next elevator puts the end of the launch on record, once.
    scene.site.start_elevator()?;
    scene.site.api.event("launch.ended", |event| event.text("/grant") == stubborn.grant)?;
    scene.elevated(&["true"], b"")?.expect(0);
    let ends = scene.site.api.events()?.into_iter();
    assert_eq!(
        ends.filter(|event| event.kind == "launch.ended" && event.text("/grant") == stubborn.grant).count(),
        1
    );
    Ok(())
}

/// The same for a revocation that comes after the elevator came back.
#[test]
fn a_new_elevator_ends_what_an_old_one_started() -> Result<()> {
    let mut scene = Scene::set()?;
    let mut stubborn = scene.stubborn("30m", &[])?;
    scene.site.elevator.take().context("it runs")?.kill()?;
    scene.site.start_elevator()?;
    scene.approver.revoke(&stubborn.grant, "while it was away")?;
    stubborn.heart.stopped()?;
    stubborn.run.exit(SOON)?;
    scene.site.api.grant_is(&stubborn.grant, "revoked")?;
    Ok(())
}

/// The only child of a process that is called so, once it has one: beside them there is what asks PAM.
fn child(of: i32, called: &str) -> Result<i32> {
    let named = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == called)
    };
    until(called, SOON, || {
        let found: Vec<i32> = children(of).into_iter().filter(named).collect();
        Ok(<[i32; 1]>::try_from(found).ok())
    })
    .map(|[child]| child)
}

/// One session is made ahead of the launch that will need it, with a process for the program: what is dead of them is replaced, and
/// none of them outlives the elevator.
#[test]
fn what_is_made_ahead_is_replaced_when_it_dies_and_ends_with_the_elevator() -> Result<()> {
    let mut scene = Scene::set()?;
    let elevator = scene.site.elevator.as_ref().context("it runs")?.pid();
    let spawner = child(elevator.as_raw_nonzero().get(), "elevon-spawner")?;
    let ahead = || {
        let session = child(spawner, "elevon-session")?;
        anyhow::Ok([session, child(session, "elevon-program")?])
    };
    // The session of a launch is gone when the launch is taken in.
    let launches = scene.site.launches();
    let until_over = || {
        until_true("the launch to be over", SOON, || {
            fs::read_dir(&launches).is_ok_and(|mut files| files.next().is_none())
        })
    };
    let kill =
        |process| kill_process(Pid::from_raw(process).context("a process")?, Signal::KILL).context("killed");
    let [session, program] = ahead()?;
    kill(session)?;
    for process in [session, program] {
        gone(process, SOON)?;
    }
    scene.elevated(&["true"], b"")?.expect(0);
    until_over()?;
    let [_, program] = ahead()?;
    kill(program)?;
    scene.elevated(&["true"], b"")?.expect(0);
    until_over()?;
    let [session, program] = ahead()?;
    let cgroups = scene.site.cgroup().context("a control group")?.join("elevon");
    assert!(cgroups.exists());
    scene.site.elevator.take().context("it runs")?.kill()?;
    for process in [session, program] {
        gone(process, SOON)?;
    }
    until_true("their control groups to be gone", SOON, || !cgroups.exists())
}

/// In a mount namespace of its own, the elevator finds no cgroup v2 it can write to: the other layers still end the tree,
/// and `doctor` says so.
#[test]
fn without_a_control_group_the_other_layers_end_the_tree() -> Result<()> {
    let mut scene = Scene::set()?;
    let cgroup = cgroup_root().context("this computer has cgroup v2")?;
    scene.site.elevator.take().context("it runs")?.stop()?;
    // What an earlier elevator left there is no proof that this one can write to it.
    fs::create_dir_all(scene.site.cgroup().context("a control group")?.join("elevon"))?;
    let locked = format!("mount -o remount,bind,ro {} && exec \"$0\" \"$@\"", cgroup.display());
    let unshared = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", &locked];
    let mut elevator = scene.site.elevator_command_under(&unshared, &["run"])?;
    scene.site.start_elevator_as(&mut elevator)?;
    let told = run(&mut scene.site.elevator_command_under(&unshared, &["doctor"])?, b"")?;
    let line = told.text().to_lowercase().lines().find(|line| line.contains("cgroup")).map(str::to_owned);
    let line = line.with_context(|| format!("doctor does not speak of cgroups: {}", told.text()))?;
    assert!(line.contains("no") || line.contains("not") || line.contains("absent"), "{line}");
    // Callers from other namespaces are refused, so alice's command joins the elevator's.
    let pid = scene.site.elevator.as_ref().context("it runs")?.pid().as_raw_nonzero().to_string();
    let stubborn = scene.site.install("asked", "stubborn")?;
    let heart = Heart(scene.site.tree.join("heart"));
    let asks = [
        "run",
        "--for",
        "3s",
        "--justification",
        "without a control group",
        "--",
        stubborn.to_str().unwrap(),
    ];
    let mut asking = scene.site.elevon(&scene.site.alice, &asks)?;
    asking.arg(&heart.0);
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &pid, "--mount"]).arg(format!("--wdns={}", scene.site.alice.home.display()));
    let mut waiting = Program::start("elevon", &mut wrap(nsenter, &asking), &scene.site.tree.join("logs"))?;
    let request = scene.site.api.pending("stubborn").with_context(|| waiting.log())?;
    scene.approver.approve(&request, None, "")?;
    let grant = scene.grant_of(&request)?;
    let started = scene.launch_under(&grant)?;
    assert_eq!(started.data["layers"]["cgroup"], false, "{}", started.data);
    assert_eq!(started.data["layers"]["subreaper"], true, "{}", started.data);
    assert_eq!(started.data["layers"]["own_deadline"], true, "{}", started.data);
    let end = started.data["end"].as_i64().unwrap();
    until_true("its heart to beat", SOON, || heart.last_beat() > 0)?;
    let last = heart.stopped()?;
    measured("end of the grant → last beat, without a control group", last - end);
    assert!(last <= end + LATE, "it beat {} ms past the end", last - end);
    waiting.exit(SOON)?;
    scene.site.elevator.take().context("it runs")?.stop()?;
    scene.site.start_elevator()
}

/// A caller in another mount namespace than the elevator's could show it other files than it sees.
#[test]
fn a_caller_from_another_mount_namespace_is_refused() -> Result<()> {
    let scene = Scene::set()?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]);
    let ran = run(&mut wrap(unshare, &scene.site.elevon(&scene.site.alice, &["run", "--", "true"])?), b"")?;
    assert_eq!(ran.code(), 126, "{}", ran.err);
    let refused = scene.site.api.event("launch.refused", |_| true)?;
    assert_eq!(refused.text("/reason"), "caller_confined");
    Ok(())
}

#[test]
fn a_caller_that_gave_up_gaining_rights_is_refused() -> Result<()> {
    let scene = Scene::set()?;
    let mut command = scene.site.as_user(&scene.site.alice, "/usr/bin/setpriv".as_ref())?;
    command.arg("--no-new-privs").arg(scene.site.client()).args(["run", "--", "true"]);
    let ran = run(&mut command, b"")?;
    assert_eq!(ran.code(), 126, "{}", ran.err);
    let refused = scene.site.api.event("launch.refused", |_| true)?;
    assert_eq!(refused.text("/reason"), "caller_confined");
    Ok(())
}

/// If an event cannot be written, nothing is elevated.
#[test]
fn an_audit_that_cannot_be_written_stops_everything() -> Result<()> {
    let mut scene = Scene::set()?;
    scene.elevated(&["true"], b"")?.expect(0);
    scene.site.elevator.take().context("it runs")?.stop()?;
    let journal = scene.site.tree.join("elevator/journal");
    assert!(fs::read_dir(&journal)?.next().is_some(), "the events are in {}", journal.display());
    let locked = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec \"$0\" \"$@\"",
        journal.display()
    );
    let unshared = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", &locked];
    let mut command = scene.site.elevator_command_under(&unshared, &["run"])?;
    // It may refuse to start, or start and refuse to elevate; it must not run anything.
    if scene.site.start_elevator_as(&mut command).is_ok() {
        let pid = scene.site.elevator.as_ref().context("it runs")?.pid().as_raw_nonzero().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args(["--target", &pid, "--mount"])
            .arg(format!("--wdns={}", scene.site.alice.home.display()));
        let good = scene.site.install("free", "good")?;
        let mut asking = scene.site.elevon(&scene.site.alice, &["run", "--"])?;
        asking.arg(good);
        let ran = run(&mut wrap(nsenter, &asking), b"")?;
        assert!([125, 126].contains(&ran.code()), "{} {}", ran.code(), ran.err);
        assert!(ran.out.is_empty(), "{}", ran.text());
        if let Some(mut elevator) = scene.site.elevator.take() {
            elevator.stop()?;
        }
    }
    scene.site.start_elevator()
}

/// `outer … inner …`, with the environment and the directory of the inner command.
fn wrap(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args()).env_clear();
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    if let Some(directory) = inner.get_current_dir() {
        outer.current_dir(directory);
    }
    outer
}
