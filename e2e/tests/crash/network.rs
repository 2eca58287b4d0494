//! Networks between a computer and the server that are cut, slow, silent, or open in one direction only.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, throughout, until};
use elevon_e2e::corpus::Case;
use elevon_e2e::proxy::Weather;

use crate::ground::{Ground, Kind};
use crate::steps::{Step, ends_well};
use crate::story::Story;

const WEATHERS: [(Weather, &str); 4] = [
    (Weather::Cut, "the network cut"),
    (Weather::Stalled, "the network silent"),
    (Weather::HalfOpen, "the network half open"),
    (Weather::Slow, "the network slow"),
];

const STEPS: [Step; 5] =
    [Step::Request, Step::Decision, Step::RevocationDecision, Step::Expiry, Step::Upload];

pub(crate) fn cases() -> Vec<Case<Ground>> {
    let mut cases = Vec::new();
    for step in STEPS {
        for (weather, what) in WEATHERS {
            cases.push(case(step, what, move |ground, story| {
                ground.network.turn(weather);
                let seen = meanwhile(ground, step, story, weather);
                if weather != Weather::Slow || seen.is_err() {
                    ground.network.turn(Weather::Fair);
                }
                seen
            }));
        }
    }
    cases
}

/// Those in which only a time-out tells that nobody is there any more.
pub(crate) fn long_cases() -> Vec<Case<Ground>> {
    let step = Step::Upload;
    vec![case(step, "connections forgotten", move |ground, story| {
        ground.network.turn(Weather::Stalled);
        let seen = meanwhile(ground, step, story, Weather::Stalled);
        ground.network.forget();
        seen
    })]
}

fn case(
    step: Step,
    what: &str,
    around: impl Fn(&mut Ground, &mut Story) -> Result<()> + Send + Sync + 'static,
) -> Case<Ground> {
    Case {
        title: format!("{} · {what}", step.name()),
        kind: Kind::Sqlite,
        alone: false,
        act: Box::new(move |ground| {
            let mut story = step.story(ground);
            match step {
                Step::Decision => story.is_asked(ground)?,
                Step::RevocationDecision | Step::Expiry => story.is_run(ground)?,
                Step::Upload => {
                    story.is_asked(ground)?;
                    story.approve(ground)?;
                    until("its launch to be on record", SOON, || story.grant())?;
                }
                _ => {}
            }
            around(ground, &mut story)?;
            let then = step.goes_on(ground, &mut story)?;
            ground.network.turn(Weather::Fair);
            let events = ends_well(ground, &mut story)?;
            Ok(format!("{then}; {events} events"))
        }),
    }
}

/// What goes on while the network is like this.
fn meanwhile(ground: &mut Ground, step: Step, story: &mut Story, weather: Weather) -> Result<()> {
    let hinders = weather != Weather::Slow;
    let a_while = Duration::from_millis(300);
    match step {
        Step::Request => {
            story.ask(ground)?;
            until("the request to be on record", SOON, || story.request()).with_context(|| story.said())?;
            throughout("it waits", a_while, || !hinders || story.waits())
        }
        Step::Decision => {
            story.approve(ground)?;
            throughout("it waits", a_while, || !hinders || story.waits())
        }
        Step::RevocationDecision => {
            story.revoke(ground)?;
            throughout("it goes on", a_while, || !hinders || !story.is_over())
        }
        Step::Expiry => {
            let late = story.is_gone_by_its_end()?;
            ensure!(late < 1_000, "gone {late} ms past its end");
            Ok(())
        }
        _ => until("its end to be on record", SOON, || Ok((story.launches()?.1 == 1).then_some(()))),
    }
}
