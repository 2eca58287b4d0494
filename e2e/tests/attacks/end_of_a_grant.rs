//! Staying root when the time is over, or when the grant was taken away.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, now, until, until_true};
use elevon_e2e::journal::Event;
use elevon_e2e::leftovers::cgroup_root;
use elevon_e2e::process::{children, family, gone, lives};
use elevon_e2e::program::{Program, run};
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_wire::conversation::FromClient;

use crate::ground::{Ground, Said, asked, message, runs, waits_for_a_file_system};

crate::cases! {
    Shared a_forest_of_daemons_ends_on_time,
    Shared a_storm_of_forks_ends_on_time,
    Shared a_program_that_leaves_its_control_group_ends_on_time,
    Shared a_program_that_kills_its_session_ends_with_it,
    Shared a_program_that_stops_its_session_does_not_stop_the_clock,
    Shared a_program_that_stops_its_session_is_revoked_all_the_same,
    Shared a_client_that_floods_its_session_is_revoked_all_the_same,
    Shared a_client_that_hangs_on_is_revoked_all_the_same,
    Shared a_client_cannot_lengthen_a_grant,
    Shared a_right_taken_back_while_its_launch_is_held_up_starts_nothing,
    Shared a_program_that_cannot_be_ended_holds_up_nobody_else,
    Alone a_stopped_elevator_does_not_stop_the_clock,
    Alone a_killed_elevator_does_not_stop_the_clock,
    Alone a_killed_spawner_does_not_hang_the_elevator,
}

/// How much later than its end anything may still be alive, on a machine that is busy.
const LATE: i64 = 1_000;

/// A grant of so many seconds for this shell script, running; its heart is a file that a descendant writes the time into.
struct Doomed {
    client: Program,
    grant: String,
    end: i64,
    session: i32,
    heart: PathBuf,
}

impl Doomed {
    fn start(ground: &Ground, seconds: u64, script: &str) -> Result<Self> {
        let heart = ground.site.tree.join("heart");
        let _ = fs::remove_file(&heart);
        let shell = ground.path("noted/bash");
        let beat = format!(
            "beat() {{ while :; do date +%s%3N >{0}.new && mv {0}.new {0}; done; }}; ",
            heart.display()
        );
        let span = format!("{seconds}s");
        let client = ground.site.alice_asks(&span, &[&shell, "-c", &format!("{beat}{script}")])?;
        let (started, session) = ground.running().with_context(|| client.log())?;
        let grant = started.data["grant"].as_str().unwrap_or_default().to_owned();
        let end = started.data["end"].as_i64().context("an end")?;
        let doomed = Self { client, grant, end, session, heart };
        until_true("its heart to beat", SOON, || doomed.last_beat() > 0)
            .with_context(|| doomed.client.log())?;
        Ok(doomed)
    }

    fn last_beat(&self) -> i64 {
        fs::read_to_string(&self.heart).ok().and_then(|beat| beat.trim().parse().ok()).unwrap_or(0)
    }

    /// Waits until the heart has not beaten for a while; when it beat last.
    fn stopped(&self, within: Duration) -> Result<i64> {
        let mut last = (0, now().millis());
        until("the heart to stop", within, || {
            let (beat, at) = (self.last_beat(), now().millis());
            if beat != last.0 {
                last = (beat, at);
            }
            Ok((at - last.1 > 700).then_some(last.0))
        })
    }

    /// It lived until about its end, and no longer.
    fn ended_on_time(mut self) -> Result<String> {
        let last = self.stopped(Duration::from_secs(30))?;
        ensure!(last <= self.end + LATE, "it lived {} ms past its end", last - self.end);
        self.client.exit(SOON)?;
        Ok(format!("last sign of life {} ms from the end", last - self.end))
    }

    /// It is gone soon, long before its end.
    fn revoked(mut self, ground: &mut Ground) -> Result<String> {
        ground.revoke(&self.grant.clone())?;
        let at = now().millis();
        let last = self.stopped(Duration::from_secs(12));
        if last.is_err() {
            let _ = Command::new("kill").args(["-9", &self.session.to_string()]).status();
        }
        let last = last.context("it was revoked, and went on")?;
        ensure!(last < at + 2_000, "it went on for {} ms after the revocation", last - at);
        self.client.exit(SOON)?;
        ground.site.api.grant_is(&self.grant, "revoked")?;
        Ok(format!("gone {} ms after the revocation", (last - at).max(0)))
    }
}

fn a_forest_of_daemons_ends_on_time(ground: &mut Ground) -> Result<String> {
    let script = "trap '' HUP TERM INT; for n in 1 2 3 4 5; do (setsid sh -c '(sleep 600 &) & exec sleep 600' &) & done; \
                  (setsid bash -c \"$(declare -f beat); trap '' HUP TERM; beat\" >/dev/null 2>&1 &) ; sleep 600";
    let doomed = Doomed::start(ground, 3, script)?;
    let seen = doomed.ended_on_time()?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "expired")])?;
    Ok(seen)
}

fn a_storm_of_forks_ends_on_time(ground: &mut Ground) -> Result<String> {
    // Bounded, so that a failure does not take the computer along: each generation replaces the one before.
    let script =
        "trap '' HUP TERM; storm() { while :; do (exec sleep 0.01 &) ; done; }; storm & storm & storm & beat";
    let doomed = Doomed::start(ground, 4, script)?;
    let seen = doomed.ended_on_time()?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "expired")])?;
    Ok(seen)
}

fn a_program_that_leaves_its_control_group_ends_on_time(ground: &mut Ground) -> Result<String> {
    let Some(root) = cgroup_root() else { return Ok("there is no cgroup v2 to leave".into()) };
    let script = format!(
        "trap '' HUP TERM; (setsid bash -c 'echo $$ >{}/cgroup.procs; '\"$(declare -f beat); beat\" &); sleep 600",
        root.display()
    );
    let doomed = Doomed::start(ground, 3, &script)?;
    let seen = doomed.ended_on_time()?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "expired")])?;
    Ok(seen)
}

/// The session, as its program finds it.
const SESSION: &str = "session=$PPID; ";

fn a_program_that_kills_its_session_ends_with_it(ground: &mut Ground) -> Result<String> {
    let script = format!(
        "{SESSION} trap '' HUP TERM; (setsid bash -c \"$(declare -f beat); beat\" &); sleep 1; kill -9 $session; sleep 600"
    );
    let mut doomed = Doomed::start(ground, 60, &script)?;
    gone(doomed.session, SOON)?;
    let at = now().millis();
    let last = doomed.stopped(Duration::from_secs(10))?;
    ensure!(last < at + 1_500, "its tree went on for {} ms", last - at);
    doomed.client.exit(SOON)?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "session_died")])?;
    Ok(format!("its tree went with it, {} ms after", (last - at).max(0)))
}

fn a_program_that_stops_its_session_does_not_stop_the_clock(ground: &mut Ground) -> Result<String> {
    let doomed = Doomed::start(ground, 4, &format!("{SESSION} trap '' HUP TERM; kill -STOP $session; beat"))?;
    let seen = doomed.ended_on_time()?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "expired")])?;
    Ok(seen)
}

fn a_program_that_stops_its_session_is_revoked_all_the_same(ground: &mut Ground) -> Result<String> {
    let doomed =
        Doomed::start(ground, 60, &format!("{SESSION} trap '' HUP TERM; kill -STOP $session; beat"))?;
    let seen = doomed.revoked(ground)?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "revoked")])?;
    Ok(seen)
}

/// The client says more than its session can pass on, about a program that stops and goes on as it says.
fn a_client_that_floods_its_session_is_revoked_all_the_same(ground: &mut Ground) -> Result<String> {
    let heart = ground.site.tree.join("heart");
    let _ = fs::remove_file(&heart);
    let shell = ground.path("noted/bash");
    let beat = format!(
        "(setsid bash -c 'while :; do date +%s%3N >{0}.new && mv {0}.new {0}; done' &) ; while :; do :; done",
        heart.display()
    );
    let mut run = asked(shell, &[b"-c", beat.as_bytes()]);
    (run.duration, run.justification) =
        (Some(Span::from_secs(60)), Some(Text::new("because the test says so")));
    let mut bytes = Vec::new();
    for _ in 0..200_000 {
        bytes.extend(message(&FromClient::Signal { number: 20 }));
        bytes.extend(message(&FromClient::Signal { number: 18 }));
    }
    let (file, more) = (ground.site.tree.join("message"), ground.site.tree.join("more"));
    fs::write(&more, bytes)?;
    fs::write(&file, message(&FromClient::Run(Box::new(run))))?;
    let mut command = ground.site.as_user(&ground.site.alice, &ground.attacker)?;
    command.args(["say", "--more", &more.to_string_lossy()]);
    let input = fs::File::open(&file)?.into();
    let client = Program::start_with("attacker", &mut command, input, &ground.site.tree.join("logs"))?;
    let (started, session) = ground.running().with_context(|| client.log())?;
    let grant = started.data["grant"].as_str().unwrap_or_default().to_owned();
    let doomed = Doomed { client, grant, end: 0, session, heart };
    until_true("its heart to beat", SOON, || doomed.last_beat() > 0)?;
    // Long enough for whatever queues there are to be full.
    let beaten = doomed.last_beat();
    until_true("it to beat on for a while", SOON, || doomed.last_beat() > beaten + 1_500)?;
    let seen = doomed.revoked(ground)?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "revoked")])?;
    Ok(seen)
}

/// The client reads nothing and stays: what it is told does not keep the end from being told of.
fn a_client_that_hangs_on_is_revoked_all_the_same(ground: &mut Ground) -> Result<String> {
    let shell = ground.path("noted/bash");
    let mut run = asked(shell, &[b"-c", b"sleep 600"]);
    (run.duration, run.justification) =
        (Some(Span::from_secs(60)), Some(Text::new("because the test says so")));
    let file = ground.site.tree.join("message");
    fs::write(&file, message(&FromClient::Run(Box::new(run))))?;
    let mut command = ground.site.as_user(&ground.site.alice, &ground.attacker)?;
    command.args(["say", "--linger"]);
    let input = fs::File::open(&file)?.into();
    let mut client = Program::start_with("attacker", &mut command, input, &ground.site.tree.join("logs"))?;
    let (started, _) = ground.running().with_context(|| client.log())?;
    let grant = started.data["grant"].as_str().unwrap_or_default().to_owned();
    ground.revoke(&grant)?;
    let at = now().millis();
    ground.site.api.grant_is(&grant, "revoked")?;
    let took = now().millis() - at;
    client.kill()?;
    ensure!(took < 5_000, "the revocation was told of {took} ms later");
    ground.recorded(&[("launch.started", ""), ("launch.ended", "revoked")])?;
    Ok(format!("told of after {took} ms"))
}

fn a_client_cannot_lengthen_a_grant(ground: &mut Ground) -> Result<String> {
    let noted = ground.install("noted", "probe")?;
    for asked_for in ["9h", "365d", "25h"] {
        let ran = ground.site.alice_runs(&[
            "run",
            "--for",
            asked_for,
            "--justification",
            "longer is better",
            "--",
            &noted,
        ])?;
        ensure!(ran.code() == 125, "{asked_for}: {} {}", ran.code(), ran.err);
    }
    ground.nothing_recorded()?;
    Ok("beyond what policy allows: refused".into())
}

/// Alice takes as long as she likes over the closing of a file; her launch has all it needs by then, and waits for nothing but
/// its record.
fn a_right_taken_back_while_its_launch_is_held_up_starts_nothing(ground: &mut Ground) -> Result<String> {
    let good = ground.path("free/good");
    ground.elevated(&[&good])?.expect(0);
    let started = ground.fresh()?.into_iter().find(|event| event.kind == "launch.started");
    let grant = started.context("a launch")?.text("/grant").to_owned();
    let held = ground.held_up(&good)?;
    ground.revoke(&grant)?;
    let is_told = |event: &Event| event.kind == "grant.revocation_enforced" && event.text("/grant") == grant;
    until("the right to be taken back", SOON, || Ok(ground.events()?.into_iter().find(is_told)))?;
    let said = ground.let_go(held)?;
    ensure!(
        !said.text().contains("good uid") && said.err.contains("taken back"),
        "{} {}",
        said.text(),
        said.err
    );
    ground.recorded(&[("launch.started", ""), ("launch.started", ""), ("launch.ended", "revoked")])?;
    Ok("it was recorded, and told that its right is gone".into())
}

/// It reads a file of alice's own file system, which no signal ends, not even the one that ends everything.
fn a_program_that_cannot_be_ended_holds_up_nobody_else(ground: &mut Ground) -> Result<String> {
    // It asks nothing about its standard input before it reads that.
    let shell = ground.site.programs.join("free/dash");
    fs::copy("/usr/bin/dash", &shell)?;
    let file = ground.home("never");
    fs::write(&file, "")?;
    let mut serve = Command::new(&ground.attacker);
    serve.arg("unreadable").arg(&file).arg(ground.site.alice.uid.to_string());
    let mut server = Program::start("server", &mut serve, &ground.site.tree.join("logs"))?;
    let is_mounted = || fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| mounts.contains("served"));
    until_true("the file to be served", SOON, is_mounted).with_context(|| server.log())?;
    let script = r#"timeout 60 $A say --fds "cwd,file:never,out,err" <asks; rm asks"#;
    let mut held = ground.left_saying(script, &runs(&shell.to_string_lossy(), &[b"-c", b"read line"]))?;
    let served = (|| {
        let (started, session) = ground.running()?;
        let reads = || family(session).into_iter().any(waits_for_a_file_system);
        until_true("it to wait for alice", SOON, reads)?;
        ground.revoke(started.text("/grant"))?;
        let launch = started.text("/launch");
        let is_told = |event: &Event| event.kind == "launch.ended" && event.text("/launch") == launch;
        until("its end to be told", SOON, || Ok(ground.fresh()?.into_iter().find(is_told)))?;
        for _ in 0..4 {
            let good = ground.path("free/good");
            let mut command = ground.site.elevon(&ground.site.bob, &["run", "--", &good])?;
            let mut bob = Program::start("elevon", &mut command, &ground.site.tree.join("logs"))?;
            ensure!(bob.exit(SOON)?.text().contains("good uid=0"), "bob is not served: {}", bob.log());
        }
        Ok(())
    })();
    // Nobody serves the file any more: whoever waits for it goes on.
    server.kill()?;
    run(Command::new("umount").args(["--lazy".as_ref(), file.as_os_str()]), b"")?.expect(0);
    served.with_context(|| held.log())?;
    held.exit(SOON)?;
    fs::remove_file(&file)?;
    let mut expected = vec![("launch.started", ""); 5];
    expected.push(("launch.ended", "revoked"));
    ground.recorded(&expected)?;
    Ok("told as ended, and four others were served meanwhile".into())
}

fn a_stopped_elevator_does_not_stop_the_clock(ground: &mut Ground) -> Result<String> {
    let doomed = Doomed::start(
        ground,
        3,
        "trap '' HUP TERM; (setsid bash -c \"$(declare -f beat); beat\" &); sleep 600",
    )?;
    let elevator = ground.site.elevator.as_ref().context("it runs")?;
    elevator.signal(rustix::process::Signal::STOP)?;
    let seen = doomed.ended_on_time();
    elevator.signal(rustix::process::Signal::CONT)?;
    let seen = seen?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "expired")])?;
    Ok(seen)
}

fn a_killed_elevator_does_not_stop_the_clock(ground: &mut Ground) -> Result<String> {
    let doomed = Doomed::start(
        ground,
        3,
        "trap '' HUP TERM; (setsid bash -c \"$(declare -f beat); beat\" &); sleep 600",
    )?;
    ground.site.elevator.take().context("it runs")?.kill()?;
    let seen = doomed.ended_on_time()?;
    ground.site.start_elevator()?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "expired")])?;
    Ok(seen)
}

/// What comes next must be refused within a moment, and not wait for ever.
fn a_killed_spawner_does_not_hang_the_elevator(ground: &mut Ground) -> Result<String> {
    let elevator = ground.elevator_pid().context("it runs")?;
    let spawner = until("the spawner", SOON, || Ok(children(elevator).first().copied()))?;
    let doomed = Doomed::start(ground, 30, "trap '' HUP TERM; beat")?;
    Command::new("kill").args(["-9", &spawner.to_string()]).status()?;
    gone(spawner, SOON)?;
    let free = ground.path("free/good");
    let said = Said(elevon_e2e::program::run(
        &mut ground.shell_command(&format!("timeout 10 elevon run -- {free}"))?,
        b"",
    )?);
    ensure!(said.0.code() == 125, "the next one ended with {}: {}", said.0.code(), said.text());
    // Whoever watches over the elevator starts another; what ran under the old one is looked after.
    if let Some(mut elevator) = ground.site.elevator.take()
        && elevator.ended()?.is_none()
    {
        elevator.kill()?;
    }
    ground.site.start_elevator()?;
    let seen = doomed.revoked(ground)?;
    ensure!(!lives(spawner));
    let good = ground.elevated(&[&free])?.expect(0);
    ensure!(good.text().contains("good uid=0"));
    Ok(seen)
}
