//! Disks that are full to the last byte, and have room again later. What cannot be recorded is not begun; what runs ends when
//! it should all the same.

use anyhow::Result;
use elevon_e2e::clock::{SOON, now, throughout, until};
use elevon_e2e::corpus::Case;
use std::time::Duration;

use crate::ground::{Ground, Kind};
use crate::steps::{Step, ends_well};
use crate::story::Story;

type Act = fn(&mut Ground) -> Result<String>;

pub(crate) fn cases() -> Vec<Case<Ground>> {
    let cases: [(&str, Act); 9] = [
        ("request · the computer's disk full", request),
        ("delivery · the computer's disk full", delivery),
        ("expiry · the computer's disk full", expiry),
        ("revocation · the computer's disk full", revocation),
        ("end · the computer's disk full", end),
        ("running · the computer's disk full, elevator killed", elevator_killed),
        ("request · the server's disk full", server_request),
        ("decision · the server's disk full", server_decision),
        ("revocation · the server's disk full", server_revocation),
    ];
    let case = |(title, act): (&str, Act)| Case {
        title: title.into(),
        kind: Kind::Sqlite,
        alone: false,
        act: Box::new(act),
    };
    cases.into_iter().map(case).collect()
}

/// Lets it go on once there is room again.
fn goes_on(ground: &mut Ground, story: &mut Story, step: Step, told: &str) -> Result<String> {
    ground.computer_disk.make_room()?;
    let then = step.goes_on(ground, story)?;
    let events = ends_well(ground, story)?;
    Ok(format!("{told}; with room again: {then}; {events} events"))
}

fn request(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "30m");
    ground.computer_disk.fill()?;
    story.ask(ground)?;
    let code = story.is_refused()?;
    goes_on(ground, &mut story, Step::Request, &format!("refused with {code}"))
}

fn delivery(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "30m");
    story.is_asked(ground)?;
    ground.computer_disk.fill()?;
    story.approve(ground)?;
    // What cannot be stored did not come: it is sent again.
    throughout("it waits", Duration::from_millis(500), || story.waits())?;
    goes_on(ground, &mut story, Step::Delivery, "it waited")
}

fn expiry(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "3s");
    story.is_run(ground)?;
    ground.computer_disk.fill()?;
    let late = story.is_gone_by_its_end()?;
    goes_on(ground, &mut story, Step::Expiry, &format!("gone {late} ms from its end"))
}

fn revocation(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "30m");
    story.is_run(ground)?;
    ground.computer_disk.fill()?;
    let revoked = now().millis();
    story.revoke(ground)?;
    until("nothing of it to be alive", SOON, || Ok(story.is_over().then_some(())))?;
    let took = story.last_beat() - revoked;
    goes_on(ground, &mut story, Step::RevocationDecision, &format!("gone after {took} ms"))
}

fn end(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "30m");
    story.is_run(ground)?;
    ground.computer_disk.fill()?;
    story.ends_by_itself(ground)?;
    goes_on(ground, &mut story, Step::Running, "it ended")
}

/// Without room there is no elevator: whoever starts it tries until there is.
fn elevator_killed(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "4s");
    story.is_run(ground)?;
    ground.computer_disk.fill()?;
    if let Some(mut elevator) = ground.site.elevator.take() {
        elevator.kill()?;
    }
    let started = ground.site.start_elevator().is_ok();
    let late = story.is_gone_by_its_end()?;
    let told = format!("{}, gone {late} ms from its end", if started { "back" } else { "not back" });
    goes_on(ground, &mut story, Step::Expiry, &told)
}

/// While the server's disk is full nothing of this comes to pass there.
fn server_full(
    ground: &mut Ground,
    story: &mut Story,
    step: Step,
    act: impl FnOnce(&mut Ground, &mut Story) -> Result<()>,
) -> Result<String> {
    ground.server_disk.fill()?;
    act(ground, story)?;
    ground.server_disk.make_room()?;
    let then = step.goes_on(ground, story)?;
    let events = ends_well(ground, story)?;
    Ok(format!("with room again: {then}; {events} events"))
}

fn server_request(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "30m");
    server_full(ground, &mut story, Step::Request, |ground, story| {
        story.ask(ground)?;
        until("the request to be on record", SOON, || story.request()).map(drop)?;
        throughout("it waits", Duration::from_millis(300), || story.waits())
    })
}

fn server_decision(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "30m");
    story.is_asked(ground)?;
    server_full(ground, &mut story, Step::Decision, |ground, story| {
        // Where its log has room inside, it may even succeed.
        story.approve(ground)?;
        story.clicked();
        Ok(())
    })
}

fn server_revocation(ground: &mut Ground) -> Result<String> {
    let mut story = Story::stubborn(ground, "30m");
    story.is_run(ground)?;
    server_full(ground, &mut story, Step::RevocationDecision, |ground, story| {
        story.revoke(ground)?;
        story.clicked();
        Ok(())
    })
}
