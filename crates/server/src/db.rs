//! The database: connect, migrate, begin. All that differs between SQLite and PostgreSQL is here.
//!
//! Order of locks, so that no two transactions wait for each other: a computer's row or chain first, then its requests
//! and grants, the server's own chain last.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use elevon_policy::time::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyPoolOptions;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool, Connection as _, Row, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// In order; each is applied once, all in one transaction: what both engines are told, and what each is told by itself.
const MIGRATIONS: [(&str, Own); 5] = [
    (include_str!("../migrations/0001_first.sql"), guards),
    (include_str!("../migrations/0002_trust.sql"), |_| ""),
    (include_str!("../migrations/0003_events.sql"), unchecked),
    (include_str!("../migrations/0004_certificates.sql"), |_| ""),
    (include_str!("../migrations/0005_accounts.sql"), |_| ""),
];

/// What one engine is told by itself.
type Own = fn(Engine) -> &'static str;

/// What one transaction may wait for, at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Embedded; one process.
    Sqlite,
    /// Several servers may share it.
    Postgres,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// The database.
#[derive(Debug, Clone)]
pub struct Db {
    pool: AnyPool,
    engine: Engine,
    /// SQLite has one writer at a time; who waits here waits in order, and not by trying again.
    turn: Arc<Semaphore>,
}

/// A write transaction. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Any>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Db {
    /// Connects and migrates. `url` is `sqlite:PATH` or `postgres://…`; an SQLite file is made where there is none.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let db = Self::connect(url, "rwc").await?;
        db.migrate().await?;
        Ok(db)
    }

    /// Connects to a database as it is: one that is missing is not made, and an older one not migrated.
    pub async fn look(url: &str) -> Result<Self, Error> {
        let db = Self::connect(url, "rw").await?;
        let mut reader = db.read().await?;
        match migrations(&mut reader).await?.cmp(&MIGRATIONS.len()) {
            Ordering::Equal => {}
            Ordering::Greater => return Err(newer()),
            Ordering::Less => {
                return Err(Error::invalid(
                    "it is as an older version of Elevon left it; the next start of `elevon-server serve` brings it up to date",
                ));
            }
        }
        drop(reader);
        Ok(db)
    }

    async fn connect(url: &str, mode: &str) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let engine = match url.split(':').next() {
            Some("sqlite") => Engine::Sqlite,
            Some("postgres" | "postgresql") => Engine::Postgres,
            _ => {
                return Err(Error::invalid(
                    "the database address does not begin with sqlite: or postgres:; set database_url to one that does",
                ));
            }
        };
        let url = match engine {
            Engine::Sqlite if !url.contains('?') => format!("{url}?mode={mode}"),
            _ => url.to_owned(),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(match engine {
                Engine::Sqlite => 8,
                Engine::Postgres => 24,
            })
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| Box::pin(async move { prepare(engine, connection).await }))
            .after_release(|connection, _| Box::pin(has_no_transaction(connection)))
            .connect(&url)
            .await
            .map_err(|error| Error::internal("opening the database", error))?;
        Ok(Self { pool, engine, turn: Arc::new(Semaphore::new(1)) })
    }

    /// The address of the SQLite file in this folder.
    pub fn sqlite_url(folder: &Path) -> String {
        format!("sqlite:{}", folder.join("elevon.db").display())
    }

    /// Which database it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// A connection for single reads.
    pub async fn read(&self) -> Result<PoolConnection<Any>, Error> {
        Ok(self.pool.acquire().await?)
    }

    /// Reads that see one point in time.
    pub async fn snapshot(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(match self.engine {
            Engine::Sqlite => self.pool.begin().await?,
            Engine::Postgres => {
                self.pool.begin_with("begin isolation level repeatable read read only").await?
            }
        })
    }

    /// Reads of much of the database that see one point in time. SQLite reads the file through the memory the system holds
    /// it in, without a copy of each page.
    pub async fn survey(&self) -> Result<Transaction<'static, Any>, Error> {
        let mut connection = self.pool.acquire().await?;
        if self.engine == Engine::Sqlite {
            sqlx::raw_sql("pragma mmap_size = 4294967296").execute(&mut *connection).await?;
        }
        Ok(Transaction::begin(connection, None).await?)
    }

    /// A write transaction. On SQLite it has the database to itself from the start: one that read first and wrote later
    /// would fail when another wrote in between.
    pub async fn begin(&self) -> Result<Tx, Error> {
        match self.engine {
            Engine::Sqlite => {
                let turn = Arc::clone(&self.turn).acquire_owned().await;
                let turn = turn.map_err(|error| Error::internal("waiting for the database", error))?;
                Ok(Tx { inner: self.pool.begin_with("begin immediate").await?, _turn: Some(turn) })
            }
            Engine::Postgres => Ok(Tx { inner: self.pool.begin().await?, _turn: None }),
        }
    }

    /// How many migrations were applied.
    pub async fn migrations(&self) -> Result<u64, Error> {
        let mut db = self.read().await?;
        let row = sqlx::query("select count(*) as done from migrations").fetch_one(&mut *db).await?;
        count(&row, "done")
    }

    /// What time it is for the database, where it has a clock of its own.
    pub async fn clock(&self) -> Result<Option<Timestamp>, Error> {
        match self.engine {
            Engine::Sqlite => Ok(None),
            Engine::Postgres => {
                let sql = "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as now";
                let mut db = self.read().await?;
                time(&sqlx::query(sql).fetch_one(&mut *db).await?, "now")
            }
        }
    }

    /// Closes all connections; SQLite then folds its log into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn migrate(&self) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        if self.engine == Engine::Postgres {
            // Two servers may start at once.
            sqlx::raw_sql("select pg_advisory_xact_lock(7308604)").execute(&mut *tx).await?;
        }
        sqlx::raw_sql("create table if not exists migrations (number bigint primary key)")
            .execute(&mut *tx)
            .await?;
        let done = migrations(&mut tx).await?;
        if done > MIGRATIONS.len() {
            return Err(newer());
        }
        for (number, (both, own)) in (1i64..).zip(MIGRATIONS).skip(done) {
            sqlx::raw_sql(both).execute(&mut *tx).await?;
            sqlx::raw_sql(own(self.engine)).execute(&mut *tx).await?;
            sqlx::query("insert into migrations (number) values ($1)").bind(number).execute(&mut *tx).await?;
        }
        tx.commit().await
    }
}

/// How many were done.
async fn migrations(connection: &mut AnyConnection) -> Result<usize, Error> {
    let done: i64 = sqlx::query("select count(*) from migrations").fetch_one(connection).await?.try_get(0)?;
    Ok(usize::try_from(done).unwrap_or(usize::MAX))
}

fn newer() -> Error {
    Error::invalid("this database was written by a newer version of Elevon; start that version instead")
}

/// Whether a connection can be used again. A database that is full or gone rolls back by itself, and so refuses to do it once
/// more: then the connection counts as in a transaction for good, and none can be begun on it.
async fn has_no_transaction(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // What is to be rolled back is, before the answer.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn prepare(engine: Engine, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let settings = match engine {
        Engine::Sqlite => {
            "pragma busy_timeout = 10000; pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on;
             pragma cache_size = -8000; pragma wal_autocheckpoint = 4000"
        }
        Engine::Postgres => "set lock_timeout = '10s'; set statement_timeout = '60s'",
    };
    sqlx::raw_sql(settings).execute(connection).await?;
    Ok(())
}

/// Triggers that refuse illegal steps and any change of an event that is stored.
fn guards(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => {
            "create trigger requests_step before update of state on requests
             when old.state <> new.state and not exists
                 (select 1 from request_steps where from_state = old.state and to_state = new.state)
             begin select raise(abort, 'a request cannot take this step'); end;
             create trigger grants_step before update of state on grants
             when old.state <> new.state and not exists
                 (select 1 from grant_steps where from_state = old.state and to_state = new.state)
             begin select raise(abort, 'a grant cannot take this step'); end;
             create trigger events_kept before update on events
             begin select raise(abort, 'events are never changed'); end;
             create trigger events_stay before delete on events
             begin select raise(abort, 'events are never removed'); end;"
        }
        Engine::Postgres => {
            "create function requests_step() returns trigger language plpgsql as $$ begin
                 if old.state <> new.state and not exists
                     (select 1 from request_steps where from_state = old.state and to_state = new.state)
                 then raise exception 'a request cannot take this step'; end if; return new; end $$;
             create trigger requests_step before update on requests
                 for each row execute function requests_step();
             create function grants_step() returns trigger language plpgsql as $$ begin
                 if old.state <> new.state and not exists
                     (select 1 from grant_steps where from_state = old.state and to_state = new.state)
                 then raise exception 'a grant cannot take this step'; end if; return new; end $$;
             create trigger grants_step before update on grants
                 for each row execute function grants_step();
             create function events_kept() returns trigger language plpgsql as $$ begin
                 raise exception 'events are never changed or removed'; end $$;
             create trigger events_kept before update or delete on events
                 for each row execute function events_kept();"
        }
    }
}

/// An event is stored only where its chain moves on in the same transaction, so PostgreSQL need not look the chain up for
/// each of them, which takes an eighth of the time. SQLite cannot let go of such a check, and hardly feels it.
fn unchecked(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "",
        Engine::Postgres => "alter table events drop constraint events_chain_fkey",
    }
}

/// How many rows one statement stores, in falling steps; each size is prepared once. PostgreSQL is asked over a socket, so
/// that more at once is faster; in SQLite each value is found by counting through those before it.
pub fn rows_at_once(connection: &AnyConnection) -> [usize; 3] {
    if connection.backend_name() == "PostgreSQL" { [128, 16, 1] } else { [16, 4, 1] }
}

/// The places of so many rows of so many values, behind those that are taken: `($3, $4), ($5, $6)`.
pub fn places(taken: usize, rows: usize, columns: usize) -> String {
    let mut places = String::with_capacity(rows * columns * 7);
    for row in 0..rows {
        places.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            places.push_str(if column == 1 { "$" } else { ", $" });
            places.push_str(&(taken + row * columns + column).to_string());
        }
        places.push(')');
    }
    places
}

impl Tx {
    /// Makes it so.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.inner.commit().await?)
    }
}

impl Deref for Tx {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }
}

/// A compare-and-set that found nothing: someone was quicker.
pub fn changed_once(rows: u64) -> Result<(), Error> {
    if rows == 1 {
        return Ok(());
    }
    Err(Error::Conflict("it changed since you opened it; look at it again".into()))
}

/// Reads a column whose text must parse: an id, a state, a digest.
pub fn parsed<T>(row: &sqlx::any::AnyRow, column: &str) -> Result<T, Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text: String = row.try_get(column)?;
    text.parse().map_err(|error| Error::internal(&format!("reading column {column}"), error))
}

/// Reads a column that holds a JSON document.
pub fn document<T: serde::de::DeserializeOwned>(row: &sqlx::any::AnyRow, column: &str) -> Result<T, Error> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|error| Error::internal(&format!("reading column {column}"), error))
}

/// Writes a document for a column.
pub fn json(document: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(document).map_err(|error| Error::internal("writing a document", error))
}

/// Reads a column that counts.
pub fn count(row: &sqlx::any::AnyRow, column: &str) -> Result<u64, Error> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|error| Error::internal(&format!("reading column {column}"), error))
}

/// A count for a column; no count of ours comes near the end of the range.
pub fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads a time that may be missing.
pub fn time(row: &sqlx::any::AnyRow, column: &str) -> Result<Option<Timestamp>, Error> {
    let millis: Option<i64> = row.try_get(column)?;
    Ok(millis.map(Timestamp::from_millis))
}
