//! Power lost at every step: all processes of a computer are gone at once, and so is whatever was not synced. The state lies on
//! an ext4 file system of its own in an image file, so that what the disk has is known: the image is kept as it is at that
//! moment, and mounted again, which lets the file system recover from its journal. Files that are half written are made so.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use elevon_e2e::corpus::Case;

use crate::ground::{Ground, Kind};
use crate::steps::{Step, ends_well};
use crate::story::Story;

pub(crate) fn cases() -> Vec<Case<Ground>> {
    let computer = [
        Step::Request,
        Step::RequestRecorded,
        Step::Decision,
        Step::Delivery,
        Step::PolicyGrant,
        Step::Launch,
        Step::LaunchRecorded,
        Step::Session,
        Step::Running,
        Step::Expiry,
        Step::RevocationDelivery,
        Step::RevocationEnforced,
        Step::Ended,
        Step::Upload,
    ];
    let server = [Step::RequestUpload, Step::Decision, Step::RevocationDecision, Step::Upload];
    let mut cases = Vec::new();
    for step in computer {
        cases.push(case(format!("{} · the computer's power lost", step.name()), move |ground| {
            plays(ground, step, |ground| ground.lose_power(|_| Ok(())))
        }));
    }
    for step in server {
        cases.push(case(format!("{} · the server's power lost", step.name()), move |ground| {
            plays(ground, step, Ground::server_loses_power)
        }));
    }
    cases.push(case("end, on record · the next record half written".into(), |ground| {
        plays(ground, Step::Ended, |ground| ground.lose_power(half_a_record))
    }));
    cases.push(case("request, on record · documents half written".into(), |ground| {
        plays(ground, Step::RequestRecorded, |ground| ground.lose_power(half_a_document))
    }));
    cases.push(case("running · its launch's files empty".into(), |ground| {
        plays(ground, Step::Running, |ground| ground.lose_power(empty_files))
    }));
    cases
}

fn case(title: String, act: impl Fn(&mut Ground) -> Result<String> + Send + Sync + 'static) -> Case<Ground> {
    Case { title, kind: Kind::Sqlite, alone: false, act: Box::new(act) }
}

fn plays(ground: &mut Ground, step: Step, strike: impl Fn(&mut Ground) -> Result<()>) -> Result<String> {
    let mut story: Story = step.story(ground);
    step.reach(ground, &mut story)?;
    // Nor does anyone here keep a file of it open.
    story.read_anew(ground);
    strike(ground)?;
    let events = story.journal.events()?.iter();
    let last = events.take_while(|event| event.kind != "computer.started").last();
    let on_record = last.map_or_else(|| "nothing".into(), |event| event.kind.clone());
    let told = step.goes_on(ground, &mut story)?;
    let events = ends_well(ground, &mut story)?;
    Ok(format!("the disk had {on_record}: {told}; {events} events"))
}

/// As if the power went while a record was written, and its beginning made it to the disk.
fn half_a_record(ground: &Ground) -> Result<()> {
    let mut segments: Vec<PathBuf> =
        fs::read_dir(ground.state().join("journal"))?.flatten().map(|entry| entry.path()).collect();
    segments.sort();
    let last = segments.last().context("a segment")?;
    let text = fs::read_to_string(last)?;
    let line = text.lines().next_back().context("a record")?;
    let half = line.get(..line.len() / 2).context("half a record")?;
    Ok(OpenOptions::new().append(true).open(last)?.write_all(half.as_bytes())?)
}

/// As if it went while files were written that were to take another's place.
fn half_a_document(ground: &Ground) -> Result<()> {
    for name in ["sheet.signed", "local.json", "clock.json", "delivered.json"] {
        let whole = fs::read(ground.state().join(name))?;
        fs::write(ground.state().join(format!("{name}.new")), &whole[..whole.len() / 2])?;
    }
    Ok(())
}

/// What is written without syncing may be there by its name only.
fn empty_files(ground: &Ground) -> Result<()> {
    let folder = ground.state().join("launches");
    for entry in fs::read_dir(&folder)?.flatten() {
        File::create(entry.path())?;
    }
    File::create(folder.join("01a00000-0000-7000-8000-000000000000.json"))?;
    File::create(folder.join("01a00000-0000-7000-8000-000000000000.outcome"))?;
    Ok(())
}
