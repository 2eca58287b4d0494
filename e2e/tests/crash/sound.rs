//! What must hold after every case.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::journal::Event;
use elevon_e2e::leftovers::{self, Marks};
use elevon_e2e::program::must;
use serde_json::Value;

use crate::ground::{Ground, answered, back};
use crate::story::Story;

impl Ground {
    /// All of it, the next request included; how many events were compared.
    pub(crate) fn is_sound(&mut self, story: &mut Story) -> Result<usize> {
        story.clicked();
        let said = self.site.log();
        for word in ["panicked", "fatal runtime error"] {
            ensure!(!said.contains(word), "a program has {word}");
        }
        self.next_request_is_served()?;
        self.nothing_is_left(story)?;
        self.records_agree(story)
    }

    /// Another request is made, approved and run.
    fn next_request_is_served(&mut self) -> Result<()> {
        let mut next = Story::brief(self);
        next.comes_to_run(self).context("the next request was not served")?;
        ensure!(
            next.asked == 1,
            "the next request was not served at once, but at try {}: {}",
            next.asked,
            next.told
        );
        Ok(())
    }

    /// No process, no control group, no file of a launch.
    fn nothing_is_left(&self, story: &mut Story) -> Result<()> {
        let marks = Marks {
            directories: vec![self.site.programs.join("asked"), self.site.programs.join("noted")],
            ..Marks::default()
        };
        let mut lingering = Vec::new();
        until_true("nothing of any launch to run", SOON, || {
            lingering = leftovers::processes(&marks);
            lingering.retain(|process| !process.what.contains("/bin/elevon "));
            lingering.is_empty()
        })
        .with_context(|| format!("{lingering:?}"))?;
        if let Some(mut client) = story.client.take() {
            client.exit(SOON).context("its client")?;
        }
        // The session that waits for the next launch has a control group already.
        let folders = [
            (Some(self.state().join("launches")), 0),
            (self.site.cgroup().map(|cgroup| cgroup.join("elevon")), 1),
        ];
        for (folder, may_be) in folders {
            let Some(folder) = folder else { continue };
            let mut left = Vec::new();
            until_true("nothing of any launch to be left", SOON, || {
                left = names(&folder);
                left.len() <= may_be
            })
            .with_context(|| format!("{} has {left:?}", folder.display()))?;
        }
        Ok(())
    }

    /// What the elevator recorded is what the server has, each event once; and it tells of each thing once.
    fn records_agree(&mut self, story: &mut Story) -> Result<usize> {
        let behind = self.compared;
        let mut difference = String::new();
        let agreed = back("the server to have all events", || {
            let here = story.journal.events()?.to_vec();
            let Some(there) = answered(self.stored(story, behind))? else { return Ok(None) };
            difference = differs(&here, &there);
            Ok(difference.is_empty().then_some(here))
        });
        let events = agreed.with_context(|| difference)?;
        tells_each_once(&events)?;
        self.compared = story.journal.last();
        must(&mut self.site.server_command(&["audit", "verify", "--each-signature"])?, b"")
            .context("the audit trail does not verify")?;
        self.server_tells_each_once(story)?;
        Ok(events.len())
    }

    /// The events of the computer that the server has, by their numbers.
    fn stored(&self, story: &Story, behind: u64) -> Result<Vec<(u64, Value)>> {
        // A computer whose power went may have a wall clock of a little before.
        let since = story.since.millis() - 60_000;
        let mut found = Vec::new();
        for row in self.site.api.list(&format!("events?since={since}"))? {
            let number = row["number"].as_u64().context("a number")?;
            if row["origin"] != "server" && number > behind {
                found.push((number, row["event"].clone()));
            }
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(found)
    }

    fn server_tells_each_once(&self, story: &mut Story) -> Result<()> {
        let mut told = BTreeSet::new();
        for row in self.site.api.list(&format!("events?since={}", story.since.millis()))? {
            let event = &row["event"];
            let about = match event["kind"].as_str().unwrap_or_default() {
                "request.approved" | "request.lapsed" => event["data"]["request"].to_string(),
                "grant.revoked" | "grant.expired" => event["data"]["grant"].to_string(),
                _ => continue,
            };
            ensure!(
                told.insert((event["kind"].to_string(), about)),
                "the server tells of this twice: {event}"
            );
        }
        Ok(())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    // Of a control group, only those of launches are directories.
    let of_launches = entries.filter(|entry| !folder.starts_with("/sys") || entry.path().is_dir());
    of_launches.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn differs(here: &[Event], there: &[(u64, Value)]) -> String {
    let numbers: Vec<u64> = there.iter().map(|(number, _)| *number).collect();
    let expected: Vec<u64> = here.iter().map(|event| event.number).collect();
    if numbers != expected {
        return format!("the elevator has recorded {expected:?}, the server has {numbers:?}");
    }
    let other = here.iter().zip(there).find(|(event, (_, stored))| event.event != *stored);
    other
        .map(|(event, (_, stored))| format!("event {} is {}, stored is {stored}", event.number, event.event))
        .unwrap_or_default()
}

/// No event is told of twice, and what began has ended.
fn tells_each_once(events: &[Event]) -> Result<()> {
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let mut running = BTreeSet::new();
    for event in events {
        let about = match event.kind.as_str() {
            "request.made" => event.text("/request/id"),
            "request.cancelled" => event.text("/request"),
            "grant.made" => event.text("/grant/id"),
            "grant.started" | "grant.ended" | "grant.revocation_enforced" => event.text("/grant"),
            "launch.started" | "launch.ended" => event.text("/launch"),
            "sheet.delivered" => &event.data["version"].to_string(),
            _ => continue,
        };
        match event.kind.as_str() {
            "launch.started" => drop(running.insert(about.to_owned())),
            "launch.ended" => drop(running.remove(about)),
            _ => {}
        }
        if let Some(first) = told.insert(format!("{} {about}", event.kind), event.number) {
            bail!("events {first} and {} tell of the same thing: {} of {about}", event.number, event.kind);
        }
    }
    ensure!(running.is_empty(), "these launches have no end on record: {running:?}");
    Ok(())
}

/// Exactly one request was made and approved for it, and every sheet that the computer holds was told of.
pub(crate) fn asked_once(story: &mut Story) -> Result<()> {
    let request = story.request()?.context("a request on record")?;
    let heart = story.heart_name();
    let events = story.journal.events()?;
    let about = |event: &&Event| event.kind == "request.made" && event.data.to_string().contains(&heart);
    let made = events.iter().filter(about).count();
    ensure!(made == 1, "{made} requests were made for the same thing, {request} first");
    Ok(())
}

/// The sheet in force was told of: what is on it counts as delivered.
pub(crate) fn is_told_of(ground: &Ground) -> Result<()> {
    until("the server to know which sheet the computer has", SOON, || {
        let Some(computers) = answered(ground.site.api.list("computers"))? else { return Ok(None) };
        let computer = computers.first().context("a computer")?;
        Ok((computer["held_version"] == computer["sheet_version"]).then_some(()))
    })
}
