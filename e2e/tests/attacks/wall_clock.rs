//! This computer's real wall clock, moved while a grant runs. It is put back whatever happens (`elevon_e2e::wall`); still, all
//! else on the computer sees it, and so these cases are played only where that was asked for.

use std::fs;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::wall::Wall;
use serde_json::Value;

use crate::clock::{Lasting, set};
use crate::ground::Ground;

crate::cases! {
    Alone a_moved_wall_clock_moves_no_end,
    Alone a_wall_clock_set_back_to_what_was_seen_gains_nothing,
    Alone a_servers_clock_set_back_gains_nothing,
}

const HOUR: i64 = 3_600_000;

/// How much two deadlines of one grant may differ, in milliseconds.
const SAME: i64 = 100;

fn keep(ground: &Ground) -> Result<Wall> {
    Wall::keep(&ground.site.tree.join("logs"))
}

/// Until when a launch goes on, by the clock that counts.
fn deadline(ground: &Ground, launch: &Lasting) -> Result<i64> {
    let id = launch.started["launch"].as_str().context("a launch")?;
    let file = fs::read(ground.site.launches().join(format!("{id}.json")))?;
    let launch: Value = serde_json::from_slice(&file)?;
    launch["deadline"].as_i64().context("a deadline")
}

/// Waits until so many milliseconds of a grant are over.
fn passes(launch: &Lasting, millis: u128) -> Result<()> {
    until_true("time to pass", SOON, || launch.watch.elapsed().as_millis() >= millis)
}

fn a_moved_wall_clock_moves_no_end(ground: &mut Ground) -> Result<String> {
    set(ground, &["kept"])?;
    // The server is another computer, whose clock stays: this one has been told what time it is.
    ground.site.agent.take().context("it runs")?.stop()?;
    let mut given = Lasting::given(ground, "kept", "6s")?;
    let first = deadline(ground, &given)?;
    let mut wall = keep(ground)?;
    let mut others = Vec::new();
    for off in [24 * HOUR, 2 * HOUR, -24 * HOUR, -2 * HOUR] {
        wall.move_to(off)?;
        let other = given.once_more(ground, &format!("at{off}"))?;
        let off_by = deadline(ground, &other)? - first;
        ensure!(off_by.abs() < SAME, "decided at {off} ms, it ends {off_by} ms after the others");
        ensure!(other.end == given.end, "decided at {off} ms, its end is another one");
        others.push(other);
    }
    // Set back by two hours, all of them end.
    let late = given.ends_on_time(ground, 0)?;
    for other in others {
        other.ends_too()?;
    }
    let off = wall.put_back()?;
    ground.recorded(&[[("launch.started", ""); 5], [("launch.ended", "expired"); 5]].concat())?;
    Ok(format!("ended {late} ms from its end; the clock is {off} ms off after it"))
}

/// The server says nothing, and the wall clock is set back again and again, by no more than nothing was recorded.
fn a_wall_clock_set_back_to_what_was_seen_gains_nothing(ground: &mut Ground) -> Result<String> {
    set(ground, &["kept"])?;
    ground.site.agent.take().context("it runs")?.stop()?;
    ground.site.elevator.take().context("it runs")?.stop()?;
    fs::remove_file(ground.site.tree.join("elevator/clock.json"))?;
    ground.site.start_elevator()?;
    let mut given = Lasting::given(ground, "kept", "7s")?;
    let (first, mut wall) = (deadline(ground, &given)?, keep(ground)?);
    passes(&given, 4_000)?;
    wall.move_to(-3_000)?;
    let other = given.once_more(ground, "other")?;
    let gained = deadline(ground, &other)? - first;
    ensure!(gained < SAME, "a clock set back by 3 s gained {gained} ms");
    // Back beyond that, nothing can be decided.
    wall.move_to(-2 * HOUR)?;
    let ran = given.is_good(ground)?;
    ensure!(ran.code() == 126 && ran.err.contains("set back"), "{} {}", ran.code(), ran.err);
    wall.move_to(-3_001)?;
    let late = given.ended_on_time(0)?;
    other.ends_too()?;
    let off = wall.put_back()?;
    given.gives_nothing(ground)?;
    ground.recorded(&[
        ("launch.started", ""),
        ("launch.started", ""),
        ("launch.refused", "time_unknown"),
        ("launch.ended", "expired"),
        ("launch.ended", "expired"),
    ])?;
    Ok(format!("ended {late} ms from its end; the clock is {off} ms off after it"))
}

/// The server is on this computer, too: it is asked anew for the time while its clock is set back.
fn a_servers_clock_set_back_gains_nothing(ground: &mut Ground) -> Result<String> {
    set(ground, &["kept"])?;
    let mut given = Lasting::given(ground, "kept", "9s")?;
    let (first, mut wall) = (deadline(ground, &given)?, keep(ground)?);
    let state = ground.site.tree.join("elevator/clock.json");
    let clock = || -> Result<(i64, i64)> {
        let clock: Value = serde_json::from_slice(&fs::read(&state)?)?;
        let number = |field: &str| clock[field].as_i64().context("a number");
        Ok((number("uptime")?, number("server")?))
    };
    let before = clock()?;
    passes(&given, 4_000)?;
    ground.site.agent.take().context("it runs")?.stop()?;
    wall.move_to(-3_000)?;
    ground.site.start_agent()?;
    until("the server's time", SOON, || {
        let (uptime, server) = clock()?;
        // What the two clocks have counted since differs by what was set back.
        Ok(((server - before.1) - (uptime - before.0) < -2_000).then_some(()))
    })?;
    let other = given.once_more(ground, "other")?;
    let gained = deadline(ground, &other)? - first;
    ensure!(gained < SAME, "a server's clock set back by 3 s gained {gained} ms");
    let late = given.ends_on_time(ground, 0)?;
    other.ends_too()?;
    let off = wall.put_back()?;
    ground.recorded(&[[("launch.started", ""); 2], [("launch.ended", "expired"); 2]].concat())?;
    Ok(format!("ended {late} ms from its end; the clock is {off} ms off after it"))
}
