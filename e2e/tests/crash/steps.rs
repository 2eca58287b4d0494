//! Every process killed at every step.

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, Stopwatch, now, until, until_true};
use elevon_e2e::corpus::Case;
use elevon_e2e::journal::Event;
use elevon_e2e::process::{gone, kill};
use elevon_e2e::watch::Watch;

use crate::ground::{Ground, Kind, Part};
use crate::sound;
use crate::story::Story;

/// Where the story is when something befalls it. Between most of these there is one write to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The request is about to be on record at the elevator.
    Request,
    /// It is on record there.
    RequestRecorded,
    /// The server is storing it.
    RequestUpload,
    /// The server is storing the decision.
    Decision,
    /// The elevator has stored the sheet with it.
    Delivery,
    /// A grant that policy alone gives is on record at the elevator.
    PolicyGrant,
    /// The launch is about to be on record.
    Launch,
    /// It is on record, and there is no session yet.
    LaunchRecorded,
    /// Its session has begun, and there is a process that becomes the program.
    Session,
    /// It runs.
    Running,
    /// Its end is near: it was told to end, and does not.
    Expiry,
    /// The server is storing the revocation.
    RevocationDecision,
    /// The elevator has stored the sheet with it.
    RevocationDelivery,
    /// The end of what ran under it is on record.
    RevocationEnforced,
    /// The end of a program that ended by itself is on record.
    Ended,
    /// The server is storing that.
    Upload,
}

impl Step {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::RequestRecorded => "request, on record",
            Self::RequestUpload => "request, going up",
            Self::Decision => "decision",
            Self::Delivery => "delivery",
            Self::PolicyGrant => "grant by policy",
            Self::Launch => "launch, before the record",
            Self::LaunchRecorded => "launch, on record",
            Self::Session => "launch, begun",
            Self::Running => "running",
            Self::Expiry => "expiry",
            Self::RevocationDecision => "revocation, decision",
            Self::RevocationDelivery => "revocation, delivery",
            Self::RevocationEnforced => "revocation, enforced",
            Self::Ended => "end, on record",
            Self::Upload => "end, going up",
        }
    }

    /// Those in which something runs.
    fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Expiry | Self::RevocationDecision | Self::RevocationDelivery)
    }

    /// A story that comes to this step.
    pub(crate) fn story(self, ground: &mut Ground) -> Story {
        match self {
            Self::Expiry => Story::stubborn(ground, "3s"),
            Self::PolicyGrant => Story::noted(ground),
            Self::Ended | Self::Upload => Story::brief(ground),
            _ => Story::stubborn(ground, "30m"),
        }
    }

    /// Lets the story come to this step, and gives back at that very moment.
    pub(crate) fn reach(self, ground: &Ground, story: &mut Story) -> Result<()> {
        let state = ground.state();
        let (launches, journal) = (ground.site.launches(), state.join("journal"));
        let server = ground.site.tree.join("server");
        let is_log = |name: &str| Ok(name.ends_with("-wal"));
        match self {
            Self::Request => {
                let placed = Watch::placed(&state)?;
                story.ask(ground)?;
                placed.wait(SOON, |name| Ok(name == "local.json"))
            }
            Self::RequestRecorded => {
                let written = Watch::written(&journal)?;
                story.ask(ground)?;
                written.wait(SOON, |_| Ok(story.request()?.is_some()))
            }
            Self::RequestUpload => {
                story.ask(ground)?;
                until("the request to be on record", SOON, || story.request())?;
                Watch::written(&server)?.wait(SOON, is_log)
            }
            Self::Decision => {
                story.is_asked(ground)?;
                let written = Watch::written(&server)?;
                story.approve(ground)?;
                written.wait(SOON, is_log)
            }
            Self::Delivery => {
                story.is_asked(ground)?;
                let placed = Watch::placed(&state)?;
                story.approve(ground)?;
                placed.wait(SOON, |name| Ok(name == "sheet.signed"))
            }
            Self::PolicyGrant => {
                let written = Watch::written(&journal)?;
                story.ask(ground)?;
                written.wait(SOON, |_| Ok(story.recorded("grant.made", "/grant/id")?.is_some()))
            }
            Self::Launch => {
                story.is_asked(ground)?;
                let placed = Watch::placed(&launches)?;
                story.approve(ground)?;
                placed.wait(SOON, |name| Ok(name.ends_with(".json")))
            }
            Self::LaunchRecorded => {
                story.is_asked(ground)?;
                let written = Watch::written(&journal)?;
                story.approve(ground)?;
                written.wait(SOON, |_| Ok(story.grant()?.is_some()))
            }
            Self::Session => {
                story.is_asked(ground)?;
                story.approve(ground)?;
                until("the program's process", SOON, || Ok(ground.program())).map(drop)
            }
            Self::Running => story.is_run(ground),
            Self::Expiry => {
                story.is_run(ground)?;
                let end = story.end()?.context("an end")?;
                until_true("its end to be near", SOON, || now().millis() > end - 150)
            }
            Self::RevocationDecision => {
                story.is_run(ground)?;
                story.is_quiet(ground)?;
                let written = Watch::written(&server)?;
                story.revoke(ground)?;
                written.wait(SOON, is_log)
            }
            Self::RevocationDelivery => {
                story.is_run(ground)?;
                let placed = Watch::placed(&state)?;
                story.revoke(ground)?;
                placed.wait(SOON, |name| Ok(name == "sheet.signed"))
            }
            Self::RevocationEnforced => {
                story.is_run(ground)?;
                let written = Watch::written(&journal)?;
                story.revoke(ground)?;
                written.wait(SOON, |_| Ok(story.launches()?.1 == 1))
            }
            Self::Ended => {
                story.is_asked(ground)?;
                let written = Watch::written(&journal)?;
                story.approve(ground)?;
                written.wait(SOON, |_| Ok(story.launches()?.1 == 1))
            }
            Self::Upload => {
                story.is_asked(ground)?;
                story.approve(ground)?;
                until("its end to be on record", SOON, || Ok((story.launches()?.1 == 1).then_some(())))?;
                Watch::written(&server)?.wait(SOON, is_log)
            }
        }
    }

    /// Whatever befell it, and whoever is back: the story goes on to its end. Tells of it.
    pub(crate) fn goes_on(self, ground: &mut Ground, story: &mut Story) -> Result<String> {
        match self {
            Self::Expiry => {
                let late = story.expires(ground)?;
                return Ok(format!("last sign of life {late} ms from its end"));
            }
            Self::RevocationDecision | Self::RevocationDelivery | Self::RevocationEnforced => {
                story.is_revoked(ground)?;
                return Ok("ended".into());
            }
            Self::Ended | Self::Upload => story.comes_to_run(ground)?,
            _ => {
                story.comes_to_run(ground)?;
                story.is_revoked(ground)?;
            }
        }
        let launches = story.launches()?.0;
        Ok(format!("asked {}×, launched {launches}×", story.asked))
    }
}

impl Part {
    /// Kills it, as hard as can be.
    fn strike(self, ground: &mut Ground, story: &mut Story) -> Result<()> {
        match self {
            Self::Server => ground.site.server.kill(),
            Self::Agent => ground.site.agent.as_mut().context("the agent runs")?.kill(),
            Self::Elevator => ground.site.elevator.as_mut().context("the elevator runs")?.kill(),
            Self::Client => story.client.as_mut().context("a client")?.kill(),
            Self::Spawner => {
                kill(ground.spawner().context("a spawner")?);
                let elevator = ground.site.elevator.as_mut().context("the elevator runs")?;
                // It cannot launch any more, and gives itself up.
                elevator.exit(SOON).map(drop)
            }
            Self::Session => {
                strike_if_there(story, || ground.session())?;
                until_true("its tree to be gone with it", SOON, || ground.program().is_none())
            }
            Self::Program => strike_if_there(story, || ground.program()),
        }
    }
}

/// Unless what ran has ended on its own meanwhile.
fn strike_if_there(story: &mut Story, look: impl Fn() -> Option<i32>) -> Result<()> {
    let found = until("a process to kill", SOON, || match look() {
        Some(pid) => Ok(Some(Some(pid))),
        None => Ok((story.launches()?.1 > 0).then_some(None)),
    })?;
    let Some(pid) = found else { return Ok(()) };
    kill(pid);
    gone(pid, SOON)
}

pub(crate) fn cases() -> Vec<Case<Ground>> {
    use Part::{Agent, Client, Elevator, Program, Server, Session, Spawner};
    let steps = [
        Step::Request,
        Step::RequestRecorded,
        Step::RequestUpload,
        Step::Decision,
        Step::Delivery,
        Step::PolicyGrant,
        Step::Launch,
        Step::LaunchRecorded,
        Step::Session,
        Step::Running,
        Step::Expiry,
        Step::RevocationDecision,
        Step::RevocationDelivery,
        Step::RevocationEnforced,
        Step::Ended,
        Step::Upload,
    ];
    let mut cases = Vec::new();
    for step in steps {
        let parts: &[Part] = match step {
            Step::Session => &[Server, Agent, Elevator, Spawner, Session, Program, Client],
            _ if step.is_running() => &[Server, Agent, Elevator, Spawner, Session, Program, Client],
            Step::Launch | Step::LaunchRecorded => &[Server, Agent, Elevator, Spawner, Client],
            _ => &[Server, Agent, Elevator, Client],
        };
        for part in parts {
            let part = *part;
            cases.push(Case {
                title: format!("{} · {} killed", step.name(), part.name()),
                kind: Kind::Sqlite,
                alone: false,
                act: Box::new(move |ground| plays(ground, step, part)),
            });
        }
    }
    cases
}

fn plays(ground: &mut Ground, step: Step, part: Part) -> Result<String> {
    let mut story = step.story(ground);
    step.reach(ground, &mut story)?;
    part.strike(ground, &mut story)?;
    let watch = Stopwatch::start();
    let on_record = last_kind(story.journal.events()?);
    ground.restart_what_ended()?;
    if part == Part::Session && step.is_running() {
        until_true("what ran to be gone with its session", SOON, || story.is_over())?;
    }
    let told = step.goes_on(ground, &mut story)?;
    let back = watch.elapsed();
    let events = ends_well(ground, &mut story)?;
    Ok(format!("behind {on_record}: {told} within {} ms; {events} events", back.as_millis()))
}

/// The oracles.
pub(crate) fn ends_well(ground: &mut Ground, story: &mut Story) -> Result<usize> {
    let events = ground.is_sound(story)?;
    sound::is_told_of(ground)?;
    if story.approval() {
        sound::asked_once(story)?;
    }
    ensure!(story.is_over(), "it lives again");
    // This process itself, which tries whether an elevator is there, lives in a mount namespace of its own.
    let by_user = |event: &&Event| event.kind == "launch.refused" && event.data["user"]["uid"] != 0;
    let refused = story.journal.events()?.iter().find(by_user);
    ensure!(refused.is_none(), "something was refused: {refused:?}");
    Ok(events)
}

fn last_kind(events: &[Event]) -> String {
    events.last().map_or_else(|| "nothing".into(), |event| event.kind.clone())
}
