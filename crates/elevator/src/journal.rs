//! The computer's events: chained, signed, on disk before the act they tell of, and kept until the server's signed sheet
//! says that they are stored there.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;
use elevon_policy::event::{Event, What};
use elevon_policy::sheet::ChainHead;
use elevon_policy::time::Timestamp;
use elevon_wire::chain::{self, Record};
use elevon_wire::channel::EVENTS_AT_ONCE;
use elevon_wire::signed::{PublicKey, Purpose, Signed};

use crate::syscall;

/// A segment is closed when it has grown to this many bytes.
const SEGMENT: u64 = 1 << 20;

/// The digests of so many last events are at hand, to compare with what the server says it has stored.
const KNOWN: usize = 1024;

/// Events that go up at once have so many bytes together, but for the last one.
const BYTES_AT_ONCE: usize = 4 << 20;

/// The journal.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    key: SigningKey,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    head: ChainHead,
    /// The last ones, oldest first.
    known: VecDeque<ChainHead>,
    /// Each segment by the number of the event before its first one. Its name tells that place in the chain, digest and
    /// all, so that the chain goes on when everything before it is gone.
    segments: BTreeMap<u64, PathBuf>,
    /// The last segment, open for writing at its end.
    tail: File,
    length: u64,
    /// A record could not be written, and could not be taken back: nothing is recorded any more.
    broken: bool,
}

/// What was found in the journal when it was opened.
#[derive(Debug)]
pub(crate) struct Found {
    /// The events that are still there, oldest first.
    pub(crate) events: Vec<Event>,
}

impl Journal {
    /// Opens the journal in `folder`, checks every record that is there, and cuts off a last one that was not finished.
    pub(crate) fn open(folder: &Path, key: SigningKey) -> io::Result<(Self, Found)> {
        std::fs::create_dir_all(folder)?;
        let mut named = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(before) = place_of(&path) {
                named.insert(before.number, (before, path));
            }
        }
        if named.is_empty() {
            let path = segment_path(folder, ChainHead::START);
            OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
            named.insert(0, (ChainHead::START, path));
        }
        let (mut head, mut good, mut events) = (ChainHead::START, 0, Vec::new());
        let mut known = VecDeque::new();
        let public = PublicKey::of(&key);
        let last = named.keys().next_back().copied();
        let segments: BTreeMap<u64, PathBuf> =
            named.iter().map(|(number, (_, path))| (*number, path.clone())).collect();
        for (number, (before, path)) in named {
            // A journal that was set back goes on behind what the server has: the name of its next segment tells where.
            head = before;
            let mut note = |head, event| {
                remember(&mut known, head);
                events.push(event);
            };
            good = read_segment(&path, &public, &mut head, &mut note, Some(number) == last)?;
        }
        let path = segments.values().next_back().cloned().unwrap_or_default();
        let mut tail = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        tail.set_len(good)?;
        tail.seek(SeekFrom::End(0))?;
        tail.sync_all()?;
        File::open(folder)?.sync_all()?;
        let state = Mutex::new(State { head, known, segments, tail, length: good, broken: false });
        Ok((Self { folder: folder.to_owned(), key, state }, Found { events }))
    }

    /// Has the disk begin with the record of what happened. Whoever is about to act on it acts only when that is complete;
    /// nothing else is recorded before.
    pub(crate) fn begin(&self, at: Timestamp, what: What) -> io::Result<Begun<'_>> {
        let mut state = self.state();
        if state.broken {
            return Err(io::Error::other("the journal could not be written before, and is closed"));
        }
        if state.length >= SEGMENT {
            self.start_segment(&mut state)?;
        }
        let record = Record::encode(state.head, &Event::new(at, what));
        let head = chain::head(state.head, &record);
        let mut line = serde_json::to_vec(&Signed::seal_bytes(&self.key, Purpose::Event, record))?;
        line.push(b'\n');
        let length = state.length + u64::try_from(line.len()).unwrap_or(u64::MAX);
        let mut begun = Begun { state, head, length, complete: false };
        begun.state.tail.write_all(&line)?;
        syscall::begin_to_store(begun.state.tail.as_fd())?;
        Ok(begun)
    }

    /// What this journal knows of the event of this number, if it is one of the last.
    pub(crate) fn known(&self, number: u64) -> Option<ChainHead> {
        self.state().known.iter().rev().find(|head| head.number == number).copied()
    }

    /// The last event.
    pub(crate) fn head(&self) -> ChainHead {
        self.state().head
    }

    /// The events behind this number, at most as many as go up at once.
    pub(crate) fn behind(&self, number: u64) -> io::Result<Vec<Signed>> {
        let (head, paths) = {
            let state = self.state();
            let from = state.segments.range(..=number).next_back().map_or(0, |(first, _)| *first);
            let paths: Vec<_> =
                state.segments.range(from..).map(|(first, path)| (*first, path.clone())).collect();
            (state.head.number, paths)
        };
        let mut records = Vec::new();
        let mut bytes = 0;
        for (first, path) in paths {
            for (line, place) in BufReader::new(File::open(path)?).lines().zip(first + 1..) {
                let line = line?;
                if place > head || records.len() == EVENTS_AT_ONCE || bytes >= BYTES_AT_ONCE {
                    return Ok(records);
                }
                if place > number {
                    bytes += line.len();
                    records.push(serde_json::from_str(&line)?);
                }
            }
        }
        Ok(records)
    }

    /// The server has stored everything up to this: whole segments that hold nothing newer go. Where the server has more
    /// than this journal, the journal was set back, and goes on behind what the server has.
    pub(crate) fn stored(&self, stored: ChainHead) -> io::Result<()> {
        let mut state = self.state();
        if stored.number > state.head.number {
            state.head = stored;
            self.start_segment(&mut state)?;
        }
        while let Some(next) = state.segments.keys().nth(1).copied().filter(|next| *next <= stored.number) {
            let old: Vec<_> =
                state.segments.range(..next).map(|(first, path)| (*first, path.clone())).collect();
            for (first, path) in old {
                std::fs::remove_file(path)?;
                state.segments.remove(&first);
            }
        }
        Ok(())
    }

    fn start_segment(&self, state: &mut State) -> io::Result<()> {
        let path = segment_path(&self.folder, state.head);
        state.tail = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
        File::open(&self.folder)?.sync_all()?;
        state.length = 0;
        state.segments.insert(state.head.number, path);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record that may not be on the disk yet. Let go of, it is taken back.
pub(crate) struct Begun<'a> {
    state: MutexGuard<'a, State>,
    /// The place of the record.
    head: ChainHead,
    /// How long the segment is with it.
    length: u64,
    complete: bool,
}

impl Begun<'_> {
    /// Waits until it is durable, and gives its place.
    pub(crate) fn complete(mut self) -> io::Result<ChainHead> {
        self.state.tail.sync_data()?;
        let (head, length) = (self.head, self.length);
        self.state.length = length;
        self.state.head = head;
        remember(&mut self.state.known, head);
        self.complete = true;
        Ok(head)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.complete {
            let (tail, length) = (&self.state.tail, self.state.length);
            self.state.broken = tail.set_len(length).and_then(|()| tail.sync_all()).is_err();
        }
    }
}

fn remember(known: &mut VecDeque<ChainHead>, head: ChainHead) {
    if known.len() == KNOWN {
        known.pop_front();
    }
    known.push_back(head);
}

fn segment_path(folder: &Path, before: ChainHead) -> PathBuf {
    folder.join(format!("{:020}-{}.events", before.number, before.digest))
}

/// What [`segment_path`] wrote into a name.
fn place_of(path: &Path) -> Option<ChainHead> {
    let (number, digest) = path.file_name()?.to_str()?.strip_suffix(".events")?.split_once('-')?;
    Some(ChainHead { number: number.parse().ok()?, digest: digest.parse().ok()? })
}

/// Reads a segment's records, and gives the length in bytes of those that are whole. Only the last line of the last
/// segment may be broken: the power went while it was written, before anyone acted on it.
fn read_segment(
    path: &Path,
    key: &PublicKey,
    head: &mut ChainHead,
    note: &mut impl FnMut(ChainHead, Event),
    last: bool,
) -> io::Result<u64> {
    let content = std::fs::read(path)?;
    let mut good = 0;
    let mut lines = content.split_inclusive(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let unfinished = last && lines.peek().is_none();
        match read_record(line, key, *head) {
            Ok((next, event)) => {
                *head = next;
                note(next, event);
                good += u64::try_from(line.len()).unwrap_or(u64::MAX);
            }
            Err(_) if unfinished => break,
            Err(cause) => {
                let place = head.number + 1;
                return Err(io::Error::other(format!(
                    "{}: event {place} is not what was recorded ({cause}); the journal was changed by hand, keep it for your administrator and start with an empty folder",
                    path.display()
                )));
            }
        }
    }
    Ok(good)
}

fn read_record(line: &[u8], key: &PublicKey, head: ChainHead) -> Result<(ChainHead, Event), String> {
    let whole = line.strip_suffix(b"\n").ok_or("it is not finished")?;
    let signed: Signed = serde_json::from_slice(whole).map_err(|error| error.to_string())?;
    let bytes = signed.bytes(key, Purpose::Event).map_err(|error| error.to_string())?;
    chain::follow(head, bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use elevon_policy::text::Text;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    fn note(number: i64) -> (Timestamp, What) {
        (Timestamp::from_millis(number), What::DocumentRefused { cause: Text::new(format!("note {number}")) })
    }

    fn open(folder: &Path) -> (Journal, Found) {
        Journal::open(folder, key()).expect("opens")
    }

    fn record(journal: &Journal, number: i64) -> ChainHead {
        let (at, what) = note(number);
        journal.begin(at, what).and_then(Begun::complete).expect("recorded")
    }

    #[test]
    fn what_was_recorded_is_there_again() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let (journal, found) = open(folder.path());
        assert!(found.events.is_empty());
        for number in 1..=5 {
            record(&journal, number);
        }
        let head = journal.head();
        drop(journal);
        let (journal, found) = open(folder.path());
        assert_eq!(journal.head(), head);
        assert_eq!(journal.known(5), Some(head));
        assert_eq!((journal.known(1).is_some(), journal.known(6)), (true, None));
        assert_eq!(found.events.len(), 5);
        assert_eq!(journal.behind(3).expect("read").len(), 2);
        assert!(journal.behind(5).expect("read").is_empty());
    }

    #[test]
    fn an_unfinished_last_record_is_cut_and_a_changed_one_is_refused() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let (journal, _) = open(folder.path());
        for number in 1..=3 {
            record(&journal, number);
        }
        drop(journal);
        let path = segment_path(folder.path(), ChainHead::START);
        let whole = std::fs::read(&path).expect("read");
        std::fs::write(&path, whole.get(..whole.len() - 10).expect("long enough")).expect("written");
        let (journal, found) = open(folder.path());
        assert_eq!((journal.head().number, found.events.len()), (2, 2));
        assert_eq!(record(&journal, 4).number, 3);
        drop(journal);
        let changed =
            String::from_utf8(std::fs::read(&path).expect("read")).expect("text").replacen('A', "B", 1);
        std::fs::write(&path, changed).expect("written");
        assert!(Journal::open(folder.path(), key()).is_err());
    }

    #[test]
    fn what_was_begun_and_let_go_was_never_recorded() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let (journal, _) = open(folder.path());
        let first = record(&journal, 1);
        let (at, what) = note(2);
        drop(journal.begin(at, what).expect("begun"));
        assert_eq!(journal.head(), first);
        assert_eq!(journal.behind(1).expect("read").len(), 0);
        assert_eq!(record(&journal, 3).number, 2);
        let whole = journal.behind(0).expect("read");
        drop(journal);
        let (journal, found) = open(folder.path());
        assert_eq!((journal.head().number, found.events.len(), whole.len()), (2, 2, 2));
        assert_eq!(found.events.last().map(|event| event.at), Some(note(3).0));
    }

    #[test]
    fn stored_segments_go_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let (journal, _) = open(folder.path());
        for number in 1..=4 {
            let head = record(&journal, number);
            journal.start_segment(&mut journal.state()).expect("new segment");
            journal.stored(head).expect("trimmed");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 1);
        let head = journal.head();
        record(&journal, 5);
        drop(journal);
        let (journal, found) = open(folder.path());
        assert_eq!((journal.head().number, found.events.len()), (head.number + 1, 1));
        journal.stored(ChainHead { number: 9, ..head }).expect("goes on behind the server");
        assert_eq!(record(&journal, 6).number, 10);
    }
}
