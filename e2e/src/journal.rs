//! The elevator's own record, read from its files while it is written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use elevon_wire::signed::Signed;
use serde_json::Value;

/// One event as the elevator recorded it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place in the chain; the first is 1.
    pub number: u64,
    /// Such as `launch.started`.
    pub kind: String,
    /// What the kind carries.
    pub data: Value,
    /// The whole event: when, what.
    pub event: Value,
}

impl Event {
    /// A text inside the data, by its path such as `/request/id`; empty where there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Follows a journal.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    behind: u64,
    /// The segments, and how far each was read. They stay open: one that the server has whole may be removed before it was
    /// read to its end.
    read: BTreeMap<PathBuf, (File, u64)>,
    events: Vec<Event>,
}

impl Journal {
    /// The journal in the state directory of an elevator, from the event behind this number on. Nothing is read yet.
    pub fn behind(state: &Path, number: u64) -> Self {
        Self { folder: state.join("journal"), behind: number, read: BTreeMap::new(), events: Vec::new() }
    }

    /// All events, read to the end as it is now.
    pub fn events(&mut self) -> Result<&[Event]> {
        let entries =
            fs::read_dir(&self.folder).with_context(|| format!("read {}", self.folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if !self.read.contains_key(&path)
                && let Ok(file) = File::open(&path)
            {
                self.read.insert(path, (file, 0));
            }
        }
        for (path, (file, offset)) in &mut self.read {
            let events = read_on(file, offset).with_context(|| path.display().to_string())?;
            self.events.extend(events.into_iter().filter(|event| event.number > self.behind));
        }
        Ok(&self.events)
    }

    /// The number of the last event that was read.
    pub fn last(&self) -> u64 {
        self.events.last().map_or(self.behind, |event| event.number)
    }
}

/// The whole records behind this place in a segment.
fn read_on(file: &mut File, offset: &mut u64) -> Result<Vec<Event>> {
    ensure!(file.metadata()?.len() >= *offset, "it became shorter");
    file.seek(SeekFrom::Start(*offset))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // The last line may be half written at this moment.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let events = lines.clone().map(read).collect();
    *offset += lines.map(|line| line.len() as u64).sum::<u64>();
    events
}

fn read(line: &str) -> Result<Event> {
    let signed: Signed = serde_json::from_str(line)?;
    let record: Value = serde_json::from_slice(signed.unverified_bytes())?;
    Ok(Event {
        number: record["after"]["number"].as_u64().context("a record tells its place")? + 1,
        kind: record["event"]["kind"].as_str().unwrap_or_default().to_owned(),
        data: record["event"]["data"].clone(),
        event: record["event"].clone(),
    })
}
