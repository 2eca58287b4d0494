//! Copies of the database, taken while the server serves, and putting one back. A copy is an SQLite file whichever engine
//! serves: it can be put back into either, and so also moves a site from one to the other.

pub mod sealed;
pub mod sql;

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use elevon_policy::event::What;
use elevon_policy::time::Timestamp;

use crate::app::App;
use crate::audit::{self, checkpoints};
use crate::auth::Owner;
use crate::config::Config;
use crate::db::{Db, Engine};
use crate::error::Error;

/// Put back, the policy epoch goes up by this much, so that every sheet is newer than any that a computer may hold: nobody
/// changes policy a billion times between two backups.
const LEAP: u64 = 1_000_000_000;

/// What a backup says of itself.
#[derive(Debug)]
pub struct Label {
    /// When it was taken.
    pub taken: Timestamp,
    /// The keys, sealed, where they went along.
    pub keys: Option<String>,
}

/// Copies the database into a new file, as it is at one point in time; others go on working. With a passphrase the keys go
/// along, sealed under it.
pub async fn backup(app: &App, by: &Owner, file: &Path, passphrase: Option<&str>) -> Result<(), Error> {
    if file.exists() {
        return Err(Error::invalid(format!("{} is there already; name a file that is not", file.display())));
    }
    let keys = passphrase.map(|passphrase| sealed::seal(&app.config.state_dir, passphrase)).transpose()?;
    let taken = app.now();
    let mut tx = app.db.begin().await?;
    audit::append(&mut tx, by.actor(), taken, What::ServerBackedUp { with_keys: keys.is_some() }).await?;
    tx.commit().await?;
    // So that whoever puts it back can tell that keys and copy belong together.
    checkpoints::now(app).await?;
    let draft = Draft::beside(file)?;
    match app.db.engine() {
        Engine::Sqlite => sql::copy_file(&mut *app.db.read().await?, &draft.0).await?,
        Engine::Postgres => {
            let copy = Db::open(&draft.url()).await?;
            let mut from = app.db.snapshot().await?;
            let mut to = copy.begin().await?;
            sql::copy(&mut from, &mut to).await?;
            to.commit().await?;
            copy.close().await;
        }
    }
    let copy = Db::open(&draft.url()).await?;
    let mut tx = copy.begin().await?;
    sql::label(&mut tx, &Label { taken, keys }).await?;
    tx.commit().await?;
    copy.close().await;
    draft.finish(file)
}

/// What putting a backup back led to.
#[derive(Debug)]
pub struct Restored {
    /// When the backup was taken.
    pub taken: Timestamp,
    /// How many events it holds.
    pub events: u64,
}

/// Puts a backup into an empty state: nothing that is there is ever overwritten. `passphrase` is asked only where the keys
/// come out of the backup.
pub async fn restore(
    config: Config,
    clock: crate::clock::Clock,
    by: &Owner,
    file: &Path,
    passphrase: impl FnOnce() -> Result<String, Error>,
) -> Result<Restored, Error> {
    crate::keys::private_folder(&config.state_dir)
        .map_err(|error| Error::internal("opening the state folder", error))?;
    let copy = Draft::beside(&config.state_dir.join("restoring"))?;
    fs::copy(file, &copy.0)
        .map_err(|error| Error::invalid(format!("could not read {}: {error}", file.display())))?;
    let backup = Db::open(&copy.url()).await?;
    let label = sql::read_label(&mut *backup.read().await?).await?;
    let db = Db::open(&config.database_url).await?;
    if !sql::is_empty(&mut *db.read().await?).await? || checkpoints::path(&config.state_dir).exists() {
        return Err(Error::invalid(
            "there is a site here already; a backup is put back only into an empty state_dir and database",
        ));
    }
    if !config.state_dir.join("keys/server.key").exists() {
        let Some(keys) = &label.keys else {
            return Err(Error::invalid(format!(
                "this backup holds no keys; first put the copy of keys/ into {}",
                config.state_dir.display()
            )));
        };
        sealed::open(&config.state_dir, keys, &passphrase()?)?;
    }
    let keys = crate::keys::Keys::open(&config.state_dir, &config.host_names(), clock.now())
        .map_err(|error| Error::internal("opening the keys", error))?;
    if let Some(signed) = checkpoints::sql::behind(&mut *backup.read().await?, 0).await?.pop()
        && let Err(cause) = checkpoints::Sealed::open(signed, &keys.public())
    {
        return Err(Error::invalid(format!("the keys here are not those of this backup: {cause}")));
    }
    let app = App::new(db, clock, keys, config);
    let restored = put_back(&app, by, &backup, &label).await?;
    checkpoints::now(&app).await?;
    backup.close().await;
    app.db.close().await;
    Ok(restored)
}

async fn put_back(app: &App, by: &Owner, backup: &Db, label: &Label) -> Result<Restored, Error> {
    let mut from = backup.snapshot().await?;
    let mut tx = app.db.begin().await?;
    sql::copy(&mut from, &mut tx).await?;
    let now = app.now();
    let epoch = sql::leap(&mut tx, LEAP, now).await?;
    let what = What::ServerRestored { taken: label.taken, epoch };
    audit::append(&mut tx, by.actor(), now, what).await?;
    let events = sql::count_events(&mut tx).await?;
    tx.commit().await?;
    Ok(Restored { taken: label.taken, events })
}

/// A file that is not whole yet; dropped, it is removed, with what SQLite puts beside it.
struct Draft(PathBuf);

impl Draft {
    fn beside(file: &Path) -> Result<Self, Error> {
        let mut name = file.as_os_str().to_owned();
        name.push(".new");
        let draft = Self(PathBuf::from(name));
        draft.remove();
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.0);
        made.map_err(|error| Error::invalid(format!("could not make {}: {error}", draft.0.display())))?;
        Ok(draft)
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }

    fn finish(self, file: &Path) -> Result<(), Error> {
        let done = File::open(&self.0).and_then(|draft| draft.sync_all());
        // A link, and not a rename: it fails where the name was taken meanwhile.
        let done = done.and_then(|()| fs::hard_link(&self.0, file));
        done.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Error::invalid(format!("{} is there already; name a file that is not", file.display()))
            }
            _ => Error::internal(&format!("writing {}", file.display()), error),
        })
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut name = self.0.as_os_str().to_owned();
            name.push(end);
            // What is left over is in nobody's way.
            let _ = fs::remove_file(name);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.remove();
    }
}
