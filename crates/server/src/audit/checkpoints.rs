//! Signed checkpoints: from time to time the server signs how far its chains are, and keeps that twice: in the database,
//! and in a file outside it. A chain that is cut or written anew, or an older database in place of this one, contradicts
//! the file; and computers, who get the last checkpoint with their sheet, are witnesses of it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use elevon_policy::application::Sha256;
use elevon_policy::sheet::ChainHead;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::chain::Checkpoint;
use elevon_wire::signed::{PublicKey, Purpose, Signed};

use super::Origin;
use crate::app::App;
use crate::error::Error;

pub mod sql;

/// The file in the state folder.
const FILE: &str = "checkpoints";
/// So many new events, and a checkpoint is due.
const EVENTS: u64 = 1000;
/// So long after the last one a checkpoint is due, if there was any event.
const LONGEST: Span = Span::from_mins(1);
/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(5);
/// A file that is longer, in bytes, is begun anew with a checkpoint that names every chain.
const LONG: u64 = 4 << 20;

/// A checkpoint as it was signed.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// With its signature.
    pub signed: Signed,
}

impl Sealed {
    fn seal(app: &App, checkpoint: Checkpoint) -> Self {
        let signed = Signed::seal(&app.keys.signing, Purpose::Checkpoint, &checkpoint);
        Self { checkpoint, signed }
    }

    /// Reads one that this key signed. The error is a sentence.
    pub fn open(signed: Signed, key: &PublicKey) -> Result<Self, String> {
        let checkpoint = signed.open(key, Purpose::Checkpoint).map_err(|error| error.to_string())?;
        Ok(Self { checkpoint, signed })
    }

    /// Every chain it names, and how far each was.
    pub fn heads(&self) -> impl Iterator<Item = (Origin, ChainHead)> {
        let computers = self.checkpoint.computers.iter();
        computers
            .map(|(id, head)| (Origin::Computer(*id), *head))
            .chain([(Origin::Server, self.checkpoint.server)])
    }
}

/// Makes checkpoints for as long as the process lives, and copies those of other servers into this one's file.
pub async fn keep(app: App) {
    let mut copied = None;
    loop {
        if let Err(error) = pass(&app, EVENTS, LONGEST, &mut copied).await {
            tracing::warn!(%error, "could not make a checkpoint of the audit trail");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Makes a checkpoint now if there was any event since the last.
pub async fn now(app: &App) -> Result<(), Error> {
    pass(app, 1, Span::from_millis(0), &mut None).await
}

/// `copied` is the last checkpoint that the file is known to have.
async fn pass(app: &App, events: u64, longest: Span, copied: &mut Option<u64>) -> Result<(), Error> {
    let mut db = app.db.read().await?;
    let grown = sql::grown(&mut db).await?;
    let last = sql::last(&mut db).await?;
    drop(db);
    let since = last.as_ref().map_or(Timestamp::from_millis(0), |last| last.at);
    if grown >= events || (grown > 0 && app.now().since(since) >= longest) {
        make(app, false).await?;
    } else if last.map(|last| last.number) == *copied {
        return Ok(());
    }
    *copied = Some(copy_out(app).await?);
    Ok(())
}

/// Signs how far the chains are; `whole` names every chain, and not only those that grew.
async fn make(app: &App, whole: bool) -> Result<Sealed, Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let last = sql::take_turn(&mut tx).await?;
    let computers = sql::take_grown(&mut tx, whole).await?;
    let server = super::sql::advance(&mut tx, Origin::Server).await?;
    sql::mark_server(&mut tx).await?;
    let (number, before) = last.map_or((0, Sha256([0; 32])), |last| (last.number, last.digest));
    let sealed = Sealed::seal(app, Checkpoint { number: number + 1, at: now, before, server, computers });
    sql::insert(&mut tx, &sealed).await?;
    tx.commit().await?;
    Ok(sealed)
}

/// Appends what the file does not have yet, and begins a long file anew. Gives the number of the last in it.
async fn copy_out(app: &App) -> Result<u64, Error> {
    let path = path(&app.config.state_dir);
    let writing = |error: std::io::Error| Error::internal(&format!("writing {}", path.display()), error);
    let last = last_in(&path).map_err(writing)?;
    let last = last.and_then(|signed| Sealed::open(signed, &app.keys.public()).ok());
    let after = last.map_or(0, |last| last.checkpoint.number);
    let mut db = app.db.read().await?;
    let news = sql::behind(&mut db, after).await?;
    drop(db);
    if news.is_empty() {
        return Ok(after);
    }
    append(&path, &news).map_err(writing)?;
    if fs::metadata(&path).map_err(writing)?.len() > LONG {
        begin_anew(app, &path).await?;
    }
    Ok(after + news.len() as u64)
}

/// Replaces a long file by one checkpoint that names every chain; not while file and database contradict each other, since
/// the file is what shows it.
async fn begin_anew(app: &App, path: &Path) -> Result<(), Error> {
    if let Some(told) = contradiction(app).await? {
        tracing::error!("{told}");
        return Ok(());
    }
    let writing = |error: std::io::Error| Error::internal(&format!("writing {}", path.display()), error);
    let whole = make(app, true).await?;
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(writing(error)),
        _ => append(&draft, &[whole.signed]).map_err(writing)?,
    }
    fs::rename(&draft, path).map_err(writing)
}

/// Whether the database is another one than the last checkpoint in the file was made of: a sentence. It looks only at the
/// last event of each chain that it names; `audit verify` looks at all.
pub async fn contradiction(app: &App) -> Result<Option<String>, Error> {
    let path = path(&app.config.state_dir);
    let reading = |error: std::io::Error| Error::internal(&format!("reading {}", path.display()), error);
    let Some(signed) = last_in(&path).map_err(reading)? else { return Ok(None) };
    let found = match Sealed::open(signed, &app.keys.public()) {
        Ok(sealed) => differs(app, &sealed).await?,
        Err(cause) => Some(cause),
    };
    Ok(found.map(|found| {
        format!(
            "the database contradicts the last checkpoint in {}: {found}; run `elevon-server audit verify`",
            path.display()
        )
    }))
}

async fn differs(app: &App, sealed: &Sealed) -> Result<Option<String>, Error> {
    let mut db = app.db.read().await?;
    for (origin, head) in sealed.heads().filter(|(_, head)| head.number > 0) {
        if !super::sql::was(&mut db, origin, head).await? {
            return Ok(Some(format!("event {} of chain {origin} is missing or another one", head.number)));
        }
    }
    Ok(None)
}

/// Where the file is.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Every checkpoint in the file, in its order; a last line that was cut off while it was written counts as none.
pub fn in_file(path: &Path) -> std::io::Result<Vec<Signed>> {
    let file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let lines = file.split(b'\n').collect::<std::io::Result<Vec<_>>>()?;
    let last = lines.len().saturating_sub(1);
    let mut found = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        match serde_json::from_slice(line) {
            Ok(signed) => found.push(signed),
            Err(_) if at == last => {}
            Err(error) => {
                return Err(std::io::Error::other(format!("line {} is no checkpoint: {error}", at + 1)));
            }
        }
    }
    Ok(found)
}

fn last_in(path: &Path) -> std::io::Result<Option<Signed>> {
    in_file(path).map(|mut all| all.pop())
}

fn append(path: &Path, signed: &[Signed]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // A subcommand may append while a server serves.
    file.lock()?;
    // A line that was cut off by a crash goes, so that the next one is a line of its own.
    let there = fs::read(path)?;
    let whole = there.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    file.set_len(whole as u64)?;
    let mut text = Vec::new();
    for signed in signed {
        serde_json::to_writer(&mut text, signed)?;
        text.push(b'\n');
    }
    file.write_all(&text)?;
    file.sync_all()
}
