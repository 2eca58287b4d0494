//! Checks every chain from its beginning: that each event follows the one before it, that the columns that order and sort
//! the report say what the record says, and that nothing contradicts a checkpoint, in the database or outside it, or what
//! computers have witnessed.
//!
//! Whoever owns a computer can have it say of the server's chain what they like. So what one computer alone says against a
//! chain that agrees with its signed checkpoints is told as that computer's word. When several say so, or no checkpoint is
//! left to say otherwise, the chain counts as written anew.
//!
//! A signature vouches for all that its record follows, through the digests. So one signature a chain is enough: of a
//! computer's last event, and of the last checkpoint for the server's own. [`Depth::EachSignature`] checks the others as
//! well; that finds nothing more about what happened, and takes far longer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use elevon_policy::application::Sha256;
use elevon_policy::event::What;
use elevon_policy::id::ComputerId;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use elevon_wire::signed::{PublicKey, Purpose, Signed};
use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyConnection, Transaction};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::links::{self, Broken, Followed, Note, Stored};
use super::{Origin, checkpoints, sql};
use crate::app::App;
use crate::error::Error;

/// How many events are read at once: as text, they should fit into a processor's cache.
const BATCH: u64 = 512;
/// The most connections that read.
const READERS: usize = 4;

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All that tells whether the events are those that were stored.
    Chains,
    /// The signature of each of the computers' events as well.
    EachSignature,
}

/// All chains hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many chains.
    pub chains: u64,
    /// How many events in all of them.
    pub events: u64,
    /// How many checkpoints there are in the database.
    pub checkpoints: u64,
    /// How many there are in the file outside it.
    pub outside: u64,
    /// How often a computer wrote down a checkpoint of the server.
    pub witnesses: u64,
    /// When copies were taken that this database was restored from; the latest last.
    pub restored: Vec<Timestamp>,
    /// How many events of computers went lost by that.
    pub lost: u64,
    /// What one computer alone says against the server's chain.
    pub alone: Option<Word>,
}

/// What a computer says against the server's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Which computer.
    pub computer: ComputerId,
    /// What it calls itself.
    pub host_name: Text,
    /// Which event of the server's chain was another one, or was there.
    pub number: u64,
    /// When it wrote that down, by its clock.
    pub at: Timestamp,
    /// How often it contradicts.
    pub times: u64,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, at) = (self.host_name.visible(), written(self.at));
        write!(f, "computer {} ({name}), in its event of {at}", self.computer)?;
        if self.times > 1 {
            write!(f, " and {} others", self.times - 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events in {} chains hold; {} checkpoints in the database, {} outside it and {} notes of computers agree",
            self.events, self.chains, self.checkpoints, self.outside, self.witnesses
        )?;
        for taken in &self.restored {
            write!(f, "; restored from a backup of {}", written(*taken))?;
        }
        if self.lost > 0 {
            write!(f, ", whereby {} events of computers went lost", self.lost)?;
        }
        if let Some(word) = &self.alone {
            let number = word.number;
            write!(
                f,
                "; but {word} says that event {number} of the server was another one, and it alone says so: look at that computer"
            )?;
        }
        Ok(())
    }
}

/// The first row that is not as it was written.
#[derive(Debug, Clone)]
pub struct Tampered {
    /// In which chain.
    pub origin: Origin,
    /// Which event.
    pub number: u64,
    /// What is wrong with it.
    pub cause: String,
}

impl fmt::Display for Tampered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {}, event {}: {}", self.origin, self.number, self.cause)
    }
}

/// Walks all chains, at one point in time. Those who read the events may see a later one: what was stored before stays.
pub async fn verify(app: &App, depth: Depth) -> Result<Result<Verified, Tampered>, Error> {
    keep_freed_memory();
    let mut db = app.db.snapshot().await?;
    let mut readers = Vec::new();
    for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(READERS) {
        readers.push(Arc::new(Mutex::new(app.db.survey().await?)));
    }
    let mut walk = match Walk::prepare(app, &mut db, readers, depth).await? {
        Ok(walk) => walk,
        Err(tampered) => return Ok(Err(tampered)),
    };
    // The server's own chain comes last: by then it is known what the computers have witnessed of it.
    let mut chains = sql::chains(&mut db).await?;
    chains.sort_by_key(|(origin, _)| *origin == Origin::Server);
    for (origin, key) in chains {
        let key: Option<PublicKey> = key
            .map(|key| key.parse())
            .transpose()
            .map_err(|error| Error::internal("reading a computer's event key", error))?;
        if let Err(tampered) = walk.chain(&mut db, origin, key).await? {
            return Ok(Err(tampered));
        }
    }
    walk.end(&mut db).await
}

/// Has freed buffers of a batch used again for the next one. The C library gives those above a size back to the system at
/// once, and takes as that size what it has seen to be given back, up to 32 MiB: clearing each page anew took a third of
/// the time.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(31 << 20)));
}

/// What a whole check said, kept in the state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// When.
    pub at: Timestamp,
    /// Whether all held.
    pub good: bool,
    /// In a sentence.
    pub told: String,
}

const LAST: &str = "verified";

/// Keeps what a check said, for whoever asks later.
pub fn note(app: &App, result: &Result<Verified, Tampered>) -> std::io::Result<()> {
    let (good, told) = match result {
        Ok(verified) => (true, verified.to_string()),
        Err(tampered) => (false, tampered.to_string()),
    };
    let path = app.config.state_dir.join(LAST);
    let draft = path.with_extension("new");
    std::fs::write(&draft, serde_json::to_vec(&Last { at: app.now(), good, told })?)?;
    std::fs::rename(draft, path)
}

/// What the last check on this server said; none where there was none.
pub fn last(state_dir: &Path) -> Option<Last> {
    serde_json::from_slice(&std::fs::read(state_dir.join(LAST)).ok()?).ok()
}

/// Who says that a chain had this digest at that number, in words.
#[derive(Debug, Clone)]
struct Claim {
    digest: Sha256,
    by: String,
}

/// A connection that one batch at a time is read from.
type Reader = Arc<Mutex<Transaction<'static, Any>>>;

/// A batch that is being read and checked.
type UnderWay = JoinHandle<Result<Result<Followed, Broken>, Error>>;

/// What is claimed of one chain, by number.
type Claims = BTreeMap<u64, Claim>;

/// When a computer wrote something down first, and how often.
type Written = (Timestamp, u64);

struct Walk {
    depth: Depth,
    /// Those who read events, in turns.
    readers: Vec<Reader>,
    verified: Verified,
    /// What signed checkpoints say of each chain.
    claims: BTreeMap<String, Claims>,
    /// What computers say of the server's own: number and digest, and who says so.
    words: BTreeMap<(u64, Sha256), BTreeMap<ComputerId, Written>>,
    /// What computers say against it.
    against: BTreeMap<ComputerId, Word>,
    /// Which computers have found that the server was restored.
    found_restored: BTreeSet<ComputerId>,
    /// Of each computer, what went lost: the last event before, and the last one of them.
    lost: BTreeMap<ComputerId, Vec<(ChainHead, ChainHead)>>,
    /// When the server was restored.
    restored: Vec<Timestamp>,
}

impl Walk {
    async fn prepare(
        app: &App,
        db: &mut AnyConnection,
        readers: Vec<Reader>,
        depth: Depth,
    ) -> Result<Result<Self, Tampered>, Error> {
        let mut walk = Self {
            depth,
            readers,
            verified: Verified::default(),
            claims: BTreeMap::new(),
            words: BTreeMap::new(),
            against: BTreeMap::new(),
            found_restored: BTreeSet::new(),
            lost: BTreeMap::new(),
            restored: Vec::new(),
        };
        for event in sql::of_kind(db, "server.restored").await? {
            if let What::ServerRestored { taken, .. } = event.what {
                walk.restored.push(event.at);
                walk.verified.restored.push(taken);
            }
        }
        for event in sql::of_kind(db, "computer.events_lost").await? {
            if let What::ComputerEventsLost { computer, after, until } = event.what {
                walk.lost.entry(computer).or_default().push((after, until));
            }
        }
        let stored = checkpoints::sql::behind(db, 0).await?;
        walk.verified.checkpoints = stored.len() as u64;
        if let Err(tampered) = walk.take(app, &stored, "the database") {
            return Ok(Err(tampered));
        }
        let path = checkpoints::path(&app.config.state_dir);
        let kept = checkpoints::in_file(&path)
            .map_err(|error| Error::internal(&format!("reading {}", path.display()), error))?;
        walk.verified.outside = kept.len() as u64;
        Ok(walk.take(app, &kept, &path.display().to_string()).map(|()| walk))
    }

    /// Takes checkpoints as claims. Each vouches for the one it names as the one before, so that only those need their
    /// signature checked that none after them names.
    fn take(&mut self, app: &App, signed: &[Signed], place: &str) -> Result<(), Tampered> {
        let mut vouched: Option<Sha256> = None;
        for signed in signed.iter().rev() {
            let opened = if vouched == Some(signed.digest()) {
                serde_json::from_slice(signed.unverified_bytes()).map_err(|error| error.to_string())
            } else {
                checkpoints::Sealed::open(signed.clone(), &app.keys.public()).map(|sealed| sealed.checkpoint)
            };
            let wrong = |cause: String| Tampered { origin: Origin::Server, number: 1, cause };
            let checkpoint: elevon_wire::chain::Checkpoint = opened.map_err(|cause| {
                wrong(format!("a checkpoint in {place} was not signed by this server: {cause}"))
            })?;
            vouched = Some(checkpoint.before);
            let by = format!("checkpoint {} of {} in {place}", checkpoint.number, written(checkpoint.at));
            for (id, head) in &checkpoint.computers {
                self.claim(Origin::Computer(*id), *head, &by)?;
            }
            self.claim(Origin::Server, checkpoint.server, &by)?;
        }
        Ok(())
    }

    fn claim(&mut self, origin: Origin, head: ChainHead, by: &str) -> Result<(), Tampered> {
        let claims = self.claims.entry(origin.to_string()).or_default();
        let known =
            claims.entry(head.number).or_insert_with(|| Claim { digest: head.digest, by: by.to_owned() });
        if known.digest != head.digest {
            let cause = format!(
                "{by} and {} contradict each other: the chain was written anew, or an older database was put in its place",
                known.by
            );
            return Err(Tampered { origin, number: head.number, cause });
        }
        Ok(())
    }

    async fn chain(
        &mut self,
        db: &mut AnyConnection,
        origin: Origin,
        key: Option<PublicKey>,
    ) -> Result<Result<(), Tampered>, Error> {
        let head = sql::head(db, origin).await?;
        let claims = Arc::new(self.claims.remove(&origin.to_string()).unwrap_or_default());
        let lost = match origin {
            Origin::Computer(id) => self.lost.remove(&id).unwrap_or_default(),
            Origin::Server => Vec::new(),
        };
        let mut from = ChainHead::START;
        for (after, until) in lost {
            if let Err(tampered) = self.stretch(db, origin, key, from, after, &claims).await? {
                return Ok(Err(tampered));
            }
            self.verified.lost += until.number.saturating_sub(after.number);
            from = until;
        }
        if let Err(tampered) = self.stretch(db, origin, key, from, head, &claims).await? {
            return Ok(Err(tampered));
        }
        if let Some(tampered) = self.tail(db, origin, key, head, &claims).await? {
            return Ok(Err(tampered));
        }
        self.verified.chains += 1;
        Ok(Ok(()))
    }

    /// Follows a chain from one head to another: it is read in batches by number, and checked beside the reading.
    async fn stretch(
        &mut self,
        db: &mut AnyConnection,
        origin: Origin,
        key: Option<PublicKey>,
        from: ChainHead,
        until: ChainHead,
        claims: &Arc<Claims>,
    ) -> Result<Result<(), Tampered>, Error> {
        let mut under_way: VecDeque<UnderWay> = VecDeque::new();
        let (mut at, mut read) = (from, from.number);
        loop {
            if read < until.number && under_way.len() < 2 * self.readers.len() {
                let last = (read + BATCH).min(until.number);
                under_way.push_back(self.batch(origin, key, read, last));
                read = last;
                continue;
            }
            let Some(checked) = under_way.pop_front() else { break };
            let mut checked = checked.await.map_err(|error| Error::internal("checking events", error))??;
            if checked.is_err() {
                // A name may have in it what stands behind columns: row by row, nothing is mistaken for something else.
                let last = (at.number + BATCH).min(until.number);
                let limit = i64::try_from(last - at.number).unwrap_or(i64::MAX);
                let rows = sql::kept(db, origin, at.number, limit).await?;
                let rows = rows.iter().map(|row| Some(Stored::of_row(row)));
                checked = links::follow(rows, origin, at.number, last, key.as_ref(), self.depth);
            }
            let followed = match checked {
                Ok(followed) if followed.before == at.digest => followed,
                Ok(_) => {
                    return self.blame(db, origin, key, Broken::link(at.number + 1), until).await.map(Err);
                }
                Err(broken) => return self.blame(db, origin, key, broken, until).await.map(Err),
            };
            if let Err(tampered) = self.compare(origin, at.number, &followed, claims) {
                return Ok(Err(tampered));
            }
            self.verified.events += followed.digests.len() as u64;
            match origin {
                Origin::Computer(id) => followed.witnessed.iter().for_each(|note| self.hear(id, note)),
                Origin::Server => self.hold_against(at.number, &followed.digests),
            }
            let last = followed.digests.last().copied().unwrap_or(at.digest);
            at = ChainHead { number: at.number + followed.digests.len() as u64, digest: last };
        }
        if at == until {
            return Ok(Ok(()));
        }
        // All is there and fits together, but for what the end should be.
        let cause = "the event is another one than the end of its chain says".to_owned();
        Ok(Err(Tampered { origin, number: at.number, cause }))
    }

    /// Reads and checks the events behind `after` up to `last`, beside others.
    fn batch(&mut self, origin: Origin, key: Option<PublicKey>, after: u64, last: u64) -> UnderWay {
        self.readers.rotate_left(1);
        let (reader, depth) = (self.readers.first().cloned(), self.depth);
        tokio::spawn(async move {
            let reader = reader.ok_or_else(|| Error::internal("checking events", "nothing reads them"))?;
            let run = sql::Run::read(&mut *reader.lock().await, origin, after, last).await?;
            let checked = tokio::task::spawn_blocking(move || {
                let rows = Stored::of_run(run.texts()?);
                Ok(links::follow(rows, origin, after, last, key.as_ref(), depth))
            });
            checked.await.map_err(|error| Error::internal("checking events", error))?
        })
    }

    /// Compares what a batch found with what is claimed of those events.
    fn compare(
        &self,
        origin: Origin,
        after: u64,
        followed: &Followed,
        claims: &Claims,
    ) -> Result<(), Tampered> {
        let last = after + followed.digests.len() as u64;
        for (number, claim) in claims.range(after + 1..=last) {
            let place = usize::try_from(number - after - 1).unwrap_or(usize::MAX);
            if followed.digests.get(place) == Some(&claim.digest) {
                continue;
            }
            let good = claims.range(..number).next_back().map_or(0, |(number, _)| *number);
            let cause = format!(
                "events {} to {number} were written anew: they fit together, but {} says otherwise",
                good + 1,
                claim.by
            );
            return Err(Tampered { origin, number: good + 1, cause });
        }
        Ok(())
    }

    /// Keeps what a computer says of the server's own chain, until that is walked.
    fn hear(&mut self, computer: ComputerId, note: &Note) {
        self.verified.witnesses += 1;
        if !self.is_explained(computer, note) {
            let by = self.words.entry((note.head.number, note.head.digest)).or_default();
            by.entry(computer).or_insert((note.at, 0)).1 += 1;
        }
    }

    /// What was written down before the server was restored may be of events that the copy did not have; and each computer
    /// finds once after it that this is so.
    fn is_explained(&mut self, computer: ComputerId, note: &Note) -> bool {
        self.restored.iter().any(|restored| note.at < *restored)
            || (note.contradicts && !self.restored.is_empty() && self.found_restored.insert(computer))
    }

    /// Compares what computers say of the server's events behind `after` with what they are.
    fn hold_against(&mut self, after: u64, digests: &[Sha256]) {
        let mut said = self.words.split_off(&(after + 1, Sha256([0; 32])));
        let mut beyond = said.split_off(&(after + 1 + digests.len() as u64, Sha256([0; 32])));
        self.words.append(&mut beyond);
        for ((number, digest), by) in said {
            let place = usize::try_from(number - after - 1).unwrap_or(usize::MAX);
            if digests.get(place) != Some(&digest) {
                self.turn_against(number, by);
            }
        }
    }

    fn turn_against(&mut self, number: u64, by: BTreeMap<ComputerId, Written>) {
        for (computer, (at, times)) in by {
            self.verified.witnesses -= times;
            let host_name = Text::default();
            let word = Word { computer, host_name, number, at, times: 0 };
            self.against.entry(computer).or_insert(word).times += times;
        }
    }

    /// What is beyond the end of a chain: events, or claims; and whether its last event vouches for it.
    async fn tail(
        &self,
        db: &mut AnyConnection,
        origin: Origin,
        key: Option<PublicKey>,
        head: ChainHead,
        claims: &Claims,
    ) -> Result<Option<Tampered>, Error> {
        let tampered = |number, cause| Ok(Some(Tampered { origin, number, cause }));
        let last = sql::last_number(db, origin).await?;
        if last > head.number {
            let cause = format!("the end of the chain says {} events, there are {last}", head.number);
            return tampered(head.number + 1, cause);
        }
        if let Some((number, claim)) = claims.range(head.number + 1..).next_back() {
            let cause = format!(
                "there were {number} events, says {}; now there are {}: the tail was cut, or an older database was put in its place",
                claim.by, head.number
            );
            return tampered(head.number + 1, cause);
        }
        if let Some(key) = key.filter(|_| head.number > 0)
            && let Some(kept) = sql::kept(db, origin, head.number - 1, 1).await?.first()
            && let Err(cause) = signed_by(&key, &kept.body)
        {
            return tampered(head.number, cause);
        }
        Ok(None)
    }

    /// Says which row it was: where an event does not follow the one before it, either may be the one that was changed.
    async fn blame(
        &self,
        db: &mut AnyConnection,
        origin: Origin,
        key: Option<PublicKey>,
        broken: Broken,
        until: ChainHead,
    ) -> Result<Tampered, Error> {
        let Broken { number, cause, is_link } = broken;
        if is_link && number > 1 {
            let rows = sql::kept(db, origin, number - 2, 3).await?;
            let next = rows.get(1).and_then(|row| row.digest(origin));
            let after_next = rows.get(2).and_then(|row| links::after(&row.body, origin));
            let fits_on = if number == until.number { Some(until.digest) } else { after_next };
            let forged =
                key.is_some_and(|key| rows.first().is_some_and(|row| signed_by(&key, &row.body).is_err()));
            if forged || (next.is_some() && next == fits_on) {
                let cause = "it was changed: the event after it follows another one".to_owned();
                return Ok(Tampered { origin, number: number - 1, cause });
            }
        }
        Ok(Tampered { origin, number, cause })
    }

    /// What is claimed of chains that are not there, and what computers say against the server's own.
    async fn end(mut self, db: &mut AnyConnection) -> Result<Result<Verified, Tampered>, Error> {
        let missing = self.claims.pop_first();
        if let Some((chain, claims)) = missing
            && let Ok(origin) = chain.parse::<Origin>()
            && let Some((number, claim)) = claims.iter().rfind(|(number, _)| **number > 0)
        {
            let cause = format!("the whole chain of {number} events is gone, says {}", claim.by);
            return Ok(Err(Tampered { origin, number: 1, cause }));
        }
        // What is left is of events behind the last one.
        for ((number, _), by) in std::mem::take(&mut self.words) {
            if number > 0 {
                self.turn_against(number, by);
            }
        }
        let mut against: Vec<_> = self.against.into_values().collect();
        for word in &mut against {
            word.host_name = sql::host_name(db, word.computer).await?.unwrap_or_default();
        }
        let is_sealed = self.verified.checkpoints + self.verified.outside > 0;
        match against.as_slice() {
            [] => {}
            [one] if is_sealed => self.verified.alone = Some(one.clone()),
            several => {
                let number = several.iter().map(|word| word.number).min().unwrap_or(1);
                let by: Vec<_> = several.iter().map(Word::to_string).collect();
                let cause = format!(
                    "it was another one, or is gone: the chain was written anew, or an older database was put in its place, say {}",
                    by.join(", and ")
                );
                return Ok(Err(Tampered { origin: Origin::Server, number, cause }));
            }
        }
        Ok(Ok(self.verified))
    }
}

/// Whether this key signed the event that a column holds. The error is a sentence.
fn signed_by(key: &PublicKey, body: &str) -> Result<(), String> {
    let signed: Signed = serde_json::from_str(body).map_err(|error| error.to_string())?;
    signed.bytes(key, Purpose::Event).map(|_| ()).map_err(|error| error.to_string())
}

fn written(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis())
        .map_or_else(|_| at.millis().to_string(), |at| at.to_string())
}
