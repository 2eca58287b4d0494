//! When things go wrong: one clear line, the right status, nothing lost, nothing elevated.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use elevon_e2e::clock::{SOON, until};
use elevon_e2e::disk::own_mounts;
use elevon_e2e::program::{Ran, must, run};
use elevon_e2e::site::{Layout, PASSWORD, Site};

use crate::scene::Scene;

/// Refused in one line that says what was tried and what to do.
#[track_caller]
fn one_clear_line(ran: &Ran, code: i32, about: &[&str]) {
    assert_eq!(ran.code(), code, "{} {}", ran.text(), ran.err);
    let lines: Vec<&str> = ran.err.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(
        (1..=2).contains(&lines.len()),
        "expected one line, and perhaps one with what to do:\n{}",
        ran.err
    );
    assert!(!ran.err.contains("panicked") && !ran.err.contains("backtrace"), "{}", ran.err);
    for word in about {
        assert!(ran.err.to_lowercase().contains(&word.to_lowercase()), "expected “{word}” in: {}", ran.err);
    }
    assert!(ran.out.is_empty(), "{}", ran.text());
}

#[test]
fn the_elevator_does_not_run() -> Result<()> {
    let mut scene = Scene::set()?;
    scene.site.elevator.take().context("it runs")?.stop()?;
    one_clear_line(&scene.elevated(&["true"], b"")?, 125, &["elevator"]);
    one_clear_line(&scene.site.alice_runs(&["explain", "--", "true"])?, 125, &["elevator"]);
    one_clear_line(&scene.site.alice_runs(&["status"])?, 125, &["elevator"]);
    // It comes back, and all is as it was.
    scene.site.start_elevator()?;
    scene.elevated(&["true"], b"")?.expect(0);
    Ok(())
}

#[test]
fn the_agent_does_not_run() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    scene.site.agent.take().context("it runs")?.stop()?;
    // What policy lets run without asking still runs.
    scene.elevated(&["true"], b"")?.expect(0);
    let asks = [
        "run",
        "--for",
        "30m",
        "--justification",
        "anyone there?",
        "--wait",
        "1s",
        "--",
        good.to_str().unwrap(),
    ];
    scene.site.alice_runs(&asks)?.expect(124).says("agent");
    scene.site.start_agent()?;
    let request = scene.site.api.pending("good")?;
    scene.approver.approve(&request, None, "")?;
    let mut again = scene.site.alice_asks("30m", &[good.to_str().unwrap()])?;
    again.exit(SOON)?.expect(0).prints("good uid=0");
    Ok(())
}

#[test]
fn the_server_is_not_reachable() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    scene.site.server.stop()?;
    // The computer goes on with the policy it holds, and keeps what happens.
    scene.elevated(&["true"], b"")?.expect(0);
    let asks =
        ["run", "--for", "30m", "--justification", "later", "--wait", "1s", "--", good.to_str().unwrap()];
    let ran = scene.site.alice_runs(&asks)?.expect(124);
    assert!(ran.out.is_empty(), "{}", ran.text());
    scene.site.restart_server()?;
    let request = scene.site.api.pending("good")?;
    let launched = |event: &elevon_e2e::api::Seen| event.text("/path") == "/usr/bin/true";
    scene.site.api.event("launch.started", launched).context("what happened meanwhile went up")?;
    scene.site.signed_in("approver")?.approve(&request, None, "")?;
    let mut again = scene.site.alice_asks("30m", &[good.to_str().unwrap()])?;
    again.exit(SOON)?.expect(0).prints("good uid=0");
    Ok(())
}

#[test]
fn a_restarted_server_keeps_grants() -> Result<()> {
    let mut scene = Scene::set()?;
    let mut stubborn = scene.stubborn("30m", &[])?;
    scene.site.restart_server()?;
    assert!(stubborn.run.ended()?.is_none(), "{}", stubborn.run.log());
    scene.site.api.grant_is(&stubborn.grant, "active")?;
    // The session cookie was the server's to keep, too: whoever was signed in still is.
    scene.approver.revoke(&stubborn.grant, "after the restart")?;
    stubborn.heart.stopped()?;
    stubborn.run.exit(SOON)?;
    scene.site.api.grant_is(&stubborn.grant, "revoked")?;
    must(&mut scene.site.server_command(&["audit", "verify"])?, b"")?;
    Ok(())
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_the_same() -> Result<()> {
    let site = Site::prepared(Layout::unique()?)?;
    site.account("someone", "approver")?;
    let wrong = site.console()?.sign_in("someone", "not the password")?;
    let unknown = site.console()?.sign_in("nobody-at-all", "not the password")?;
    assert_eq!(wrong.status, unknown.status);
    assert!(wrong.status >= 400 && wrong.status < 500, "{}", wrong.status);
    assert_eq!(wrong.text().replace("someone", ""), unknown.text().replace("nobody-at-all", ""));
    assert!(wrong.html.contains("someone"), "the form keeps the name that was typed: {}", wrong.html);
    // Nobody is signed in: the console leads back to the form.
    let mut console = site.console()?;
    console.sign_in("someone", "not the password")?;
    assert_eq!(console.open("/access")?.path.split('?').next(), Some("/sign-in"));
    site.console()?.signed_in("someone", PASSWORD)?;
    let failed =
        site.api.events()?.into_iter().filter(|event| event.kind == "account.sign_in_failed").count();
    assert_eq!(failed, 3);
    Ok(())
}

#[test]
fn a_port_is_taken() -> Result<()> {
    let site = Site::prepared(Layout::unique()?)?;
    let mut second = site.server_command(&["serve"])?;
    second.env("ELEVON_STATE_DIR", site.tree.join("second"));
    let port = site.address.rsplit(':').next().unwrap_or_default();
    one_clear_line(&run(&mut second, b"")?, 1, &[port]);
    Ok(())
}

#[test]
fn a_second_server_on_the_same_state_is_refused() -> Result<()> {
    let site = Site::prepared(Layout::unique()?)?;
    let mut second = site.server_command(&["serve"])?;
    second.env("ELEVON_LISTEN", "127.0.0.1:0").env("ELEVON_AGENTS_LISTEN", "127.0.0.1:0");
    let state = site.tree.join("server");
    one_clear_line(&run(&mut second, b"")?, 1, &[state.to_str().unwrap()]);
    // The first one is none the worse for it.
    site.console()?.signed_in("owner", PASSWORD)?;
    Ok(())
}

#[test]
fn a_setting_that_does_not_exist_is_an_error() -> Result<()> {
    let site = Site::prepared(Layout::unique()?)?;
    let file = site.tree.join("wrong.toml");
    fs::write(&file, "no_such_setting = true\n")?;
    let commands = [
        site.server_command(&["serve"])?,
        site.elevator_command(&["run"])?,
        site.agent_command(&["run"], false)?,
    ];
    for mut command in commands {
        let ran = run(command.env("ELEVON_CONFIG", &file), b"")?;
        assert_ne!(ran.code(), 0, "{command:?} took it");
        assert!(ran.err.contains("no_such_setting"), "{}", ran.err);
        let ran = run(command.env("ELEVON_CONFIG", site.tree.join("missing.toml")), b"")?;
        assert_ne!(ran.code(), 0, "{command:?} did without its file");
        assert!(ran.err.contains("missing.toml"), "{}", ran.err);
    }
    Ok(())
}

/// Flips one bit in the middle of a file.
fn tamper(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    // Somewhere inside the signed body, whatever the form around it.
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    Ok(fs::write(file, bytes)?)
}

fn tampered(name: &str) -> Result<()> {
    let mut scene = Scene::set()?;
    scene.elevated(&["true"], b"")?.expect(0);
    scene.site.agent.take().context("it runs")?.stop()?;
    scene.site.elevator.take().context("it runs")?.stop()?;
    let files = fs::read_dir(scene.site.tree.join("elevator"))?.flatten().map(|entry| entry.path());
    let documents = files.filter(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(name) && file.ends_with(".signed")
    });
    let documents: Vec<_> = documents.collect();
    assert!(!documents.is_empty(), "the elevator's state has no {name}");
    documents.iter().try_for_each(|document| tamper(document))?;
    let mut command = scene.site.elevator_command(&["run"])?;
    scene.site.start_elevator_as(&mut command)?;
    let ran = scene.elevated(&["true"], b"")?;
    assert_eq!(ran.code(), 125, "{} {}", ran.text(), ran.err);
    // The next agent brings the right one; what happened is on record.
    scene.site.start_agent()?;
    scene.site.api.event("document.refused", |_| true)?;
    until("the right document to be back", SOON, || {
        Ok((scene.elevated(&["true"], b"")?.code() == 0).then_some(()))
    })
}

#[test]
fn a_sheet_that_was_tampered_with_is_refused() -> Result<()> {
    tampered("sheet")
}

#[test]
fn a_bundle_that_was_tampered_with_is_refused() -> Result<()> {
    tampered("bundle")
}

#[test]
fn an_enrollment_token_that_does_not_do_is_refused() -> Result<()> {
    let site = Site::prepared(Layout::unique()?)?;
    let line = must(&mut site.server_command(&["enrollment-token", "create"])?, b"")?;
    let token =
        line.split_whitespace().find(|word| word.starts_with("elevon1.")).context("a token")?.to_owned();
    let cut = &token[..token.len() - 4];
    one_clear_line(&run(&mut site.agent_command(&["enroll", cut], true)?, b"")?, 1, &["token"]);
    // Another server's CA: the fingerprint inside the token is not this one's.
    let mut other: elevon_wire::token::EnrollmentToken = token.parse()?;
    other.ca_fingerprint = elevon_policy::application::Sha256([7; 32]);
    let ran = run(&mut site.agent_command(&["enroll", &other.reveal()], true)?, b"")?;
    assert_ne!(ran.code(), 0);
    assert!(
        !site.tree.join("elevator/trust.json").exists(),
        "trust was taken from a server that the token does not name"
    );
    // A secret that nobody handed out.
    let mut other: elevon_wire::token::EnrollmentToken = token.parse()?;
    other.secret = "x".repeat(other.secret.len());
    let ran = run(&mut site.agent_command(&["enroll", &other.reveal()], true)?, b"")?;
    assert_ne!(ran.code(), 0);
    assert!(!site.tree.join("elevator/trust.json").exists());
    // The right one, once: a token is good for one computer unless it says otherwise.
    must(&mut site.agent_command(&["enroll", &token], true)?, b"")?;
    assert!(site.tree.join("elevator/trust.json").exists());
    Ok(())
}

#[test]
fn a_computer_that_is_not_enrolled_elevates_nothing() -> Result<()> {
    let mut site = Site::prepared(Layout::unique()?)?;
    let mut command = site.elevator_command(&["run"])?;
    site.start_elevator_as(&mut command)?;
    let ran = site.alice_runs(&["run", "--", "true"])?;
    assert_eq!(ran.code(), 125, "{}", ran.err);
    assert!(ran.out.is_empty(), "{}", ran.text());
    assert!(ran.err.contains("enroll"), "{}", ran.err);
    Ok(())
}

#[test]
fn the_servers_disk_has_no_room_for_a_file() -> Result<()> {
    own_mounts()?;
    let site = Site::start()?;
    let folder = site.tree.join("server/uploads");
    fs::create_dir(&folder)?;
    must(Command::new("mount").args(["-t", "tmpfs", "-o", "size=84m", "none"]).arg(&folder), b"")?;
    let large = site.tree.join("large");
    fs::File::create(&large)?.set_len(40 << 20)?;
    // 64 of the 84 MB stay the database's.
    let (status, told) = site.api.upload("large", fs::File::open(&large)?)?;
    assert_eq!(status, 507, "{told}");
    assert!(told.to_string().contains("no room for it"), "{told}");
    assert_eq!(told["field"], "file");
    let (status, told) = site.api.upload("id", fs::File::open("/usr/bin/id")?)?;
    assert_eq!((status, &told["format"]), (200, &"elf".into()), "{told}");
    assert_eq!(fs::read_dir(&folder)?.count(), 0, "nothing of it is kept");
    must(Command::new("umount").arg(&folder), b"")?;
    Ok(())
}
