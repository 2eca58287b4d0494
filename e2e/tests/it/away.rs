//! A server that is away for long, by clocks that are moved: the elevator's by a time namespace, the server's by a library that
//! stands before its system calls for the time.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, Stopwatch, throughout, until, until_true};
use elevon_e2e::journal::{Event, Journal};
use elevon_e2e::program::{Program, must};
use elevon_e2e::site::Site;
use elevon_policy::text::OsText;
use elevon_policy::time::Span;
use elevon_wire::conversation::{FromClient, Run, Wait};
use elevon_wire::frame::Frame;

use crate::scene::{Scene, measured};

/// How many events the computer records while the server is away.
const EVENTS: usize = 10_000;

/// How soon all of them are stored when it is back.
const SOON_STORED: Duration = Duration::from_secs(60);

/// Starts the elevator again this much later.
fn move_elevator(site: &mut Site, by: Span) -> Result<()> {
    site.elevator.take().context("it runs")?.stop()?;
    let seconds = (by.millis() / 1_000).to_string();
    let outer = ["unshare", "--time", "--boottime", &seconds, "--monotonic", &seconds];
    let mut command = site.elevator_command_under(&outer, &["run"])?;
    site.start_elevator_as(&mut command)
}

/// Starts the server, which has ended, this much later.
fn start_server_later(site: &mut Site, by: Span) -> Result<()> {
    let folders = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let library: PathBuf = libraries
        .into_iter()
        .find(|library| library.exists())
        .context("libfaketime is missing: `apt-get install faketime`")?;
    let mut command = site.server_command(&["serve"])?;
    command.env("LD_PRELOAD", library).env("FAKETIME", format!("+{}", by.millis() / 1_000));
    site.start_server_as(command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
}

/// alice tries, so often, to run what no policy names: each time is an event.
fn is_tried(site: &Site, times: usize) -> Result<()> {
    const AT_ONCE: usize = 4;
    let run = Run {
        command: OsText::new("/usr/sbin/nologin"),
        arguments: Vec::new(),
        duration: None,
        justification: None,
        runs_as: None,
        wait: Wait::No,
        environment: Vec::new(),
        cookie: None,
        window: None,
        umask: 0o022,
        component: false,
    };
    let message = site.tree.join("message");
    fs::write(&message, Frame::message(&FromClient::Run(Box::new(run))).encode())?;
    let attacker = site.programs.join("tools/attacker");
    let mut all = Vec::new();
    for _ in 0..AT_ONCE {
        let mut command = site.as_user(&site.alice, &attacker)?;
        command.arg("repeat").arg(times.div_ceil(AT_ONCE).to_string());
        let input = fs::File::open(&message)?.into();
        all.push(Program::start_with("attacker", &mut command, input, &site.tree.join("logs"))?);
    }
    all.iter_mut()
        .try_for_each(|program| program.exit(Duration::from_secs(300)).map(|ran| drop(ran.expect(0))))
}

fn moment(event: &Event) -> i64 {
    event.event["at"].as_i64().unwrap_or_default()
}

#[test]
fn a_day_without_a_server_is_made_up_for_within_a_minute() -> Result<()> {
    let mut scene = Scene::set()?;
    scene.site.install("tools", "attacker")?;
    let good = scene.site.install("asked", "good")?;
    let good = good.to_str().unwrap();
    let state = scene.site.tree.join("elevator");
    let before = Journal::behind(&state, 0).events()?.last().map_or(0, |event| event.number);
    scene.site.api.event("sheet.delivered", |_| true)?;
    scene.site.server.stop()?;
    for quarter in 1..=4 {
        move_elevator(&mut scene.site, Span::from_hours(6 * quarter))?;
        // Policy in hand goes on, and so does asking.
        scene.elevated(&["true"], b"")?.expect(0);
        is_tried(&scene.site, EVENTS / 4)?;
    }
    scene.tried(&[good])?.expect(124);
    let recorded = Journal::behind(&state, before).events()?.to_vec();
    ensure!(recorded.len() >= EVENTS, "only {} events were recorded", recorded.len());
    let (first, last) = (recorded.first().context("one")?, recorded.last().context("one")?);
    let hours = (moment(last) - moment(first)) / 3_600_000;
    ensure!((17..=19).contains(&hours), "they span {hours} hours");

    let watch = Stopwatch::start();
    start_server_later(&mut scene.site, Span::from_days(1))?;
    let newest = until("the last event to be stored", SOON_STORED, || {
        let page = scene.site.api.read("events?kind=request.made")?;
        let rows = page["items"].as_array().cloned().unwrap_or_default();
        Ok(rows.iter().any(|row| row["number"] == last.number).then_some(()))
    });
    newest.with_context(|| scene.site.log())?;
    let took = watch.elapsed();
    measured("server back → 10,000 events stored", i64::try_from(took.as_millis())?);
    ensure!(took < SOON_STORED, "it took {took:?}");

    // Each once, in order, as they were recorded.
    let since = moment(first);
    let mut stored: Vec<_> = scene.site.api.list(&format!("events?since={since}"))?;
    stored.retain(|row| row["origin"] != "server" && row["number"].as_u64() > Some(before));
    stored.sort_by_key(|row| (row["stored"].as_i64(), row["number"].as_u64()));
    let numbers = |rows: &mut dyn Iterator<Item = u64>| rows.collect::<Vec<_>>();
    let there = numbers(&mut stored.iter().filter_map(|row| row["number"].as_u64()));
    let here = numbers(&mut recorded.iter().map(|event| event.number));
    ensure!(there[..here.len()] == here[..], "stored in another order, or not once each");
    ensure!(
        recorded.iter().zip(&stored).all(|(event, row)| event.event == row["event"]),
        "changed on the way"
    );
    must(&mut scene.site.server_command(&["audit", "verify"])?, b"")?;

    // Whoever asked on that day is served.
    let request = scene.site.api.pending("good")?;
    scene.site.signed_in("approver")?.approve(&request, None, "")?;
    scene.site.alice_asks("30m", &[good])?.exit(SOON)?.expect(0).prints("good uid=0");
    Ok(())
}

#[test]
fn policy_in_hand_lasts_until_its_lease_ends() -> Result<()> {
    let mut scene = Scene::set()?;
    scene.site.server.stop()?;
    move_elevator(&mut scene.site, Span::from_hours(7 * 24 - 1))?;
    scene.elevated(&["true"], b"")?.expect(0);
    move_elevator(&mut scene.site, Span::from_hours(7 * 24 + 1))?;
    let ran = scene.elevated(&["true"], b"")?;
    ensure!([125, 126].contains(&ran.code()) && ran.out.is_empty(), "{} {}", ran.code(), ran.err);
    // The server is back, and with it the policy.
    start_server_later(&mut scene.site, Span::from_hours(7 * 24 + 1))?;
    // For the agent, too, that long has passed.
    scene.site.agent.take().context("it runs")?.stop()?;
    scene.site.start_agent()?;
    until("its policy to be in force again", Duration::from_secs(45), || {
        Ok((scene.elevated(&["true"], b"")?.code() == 0).then_some(()))
    })?;
    let refused = scene.site.api.event("launch.refused", |event| event.text("/reason") == "lease_ended");
    refused.map(drop)
}

#[test]
fn what_was_revoked_meanwhile_ends_on_reconnect() -> Result<()> {
    let mut scene = Scene::set()?;
    let mut stubborn = scene.stubborn("30m", &[])?;
    scene.site.agent.take().context("it runs")?.stop()?;
    scene.approver.revoke(&stubborn.grant, "while nobody could tell")?;
    scene.site.api.grant_is(&stubborn.grant, "revoking")?;
    // Nobody has told the computer: what it holds is in force.
    let beaten = stubborn.heart.last_beat();
    until_true("it to beat on", SOON, || stubborn.heart.last_beat() > beaten + 300)?;
    scene.site.start_agent()?;
    let last = stubborn.heart.stopped()?;
    stubborn.run.exit(SOON)?.expect(137);
    scene.site.api.grant_is(&stubborn.grant, "revoked")?;
    let program = scene.site.programs.join("asked/stubborn");
    scene.tried(&[program.to_str().unwrap(), stubborn.heart.0.to_str().unwrap()])?.expect(124);
    throughout("nothing beats", Duration::from_millis(200), || stubborn.heart.last_beat() == last)
}
