//! Grants: given when a request is approved, or made on a computer where policy says so; revoked by people, ended by
//! users and by time.

pub mod api;
pub mod pages;
pub mod sql;

use elevon_policy::application::User;
use elevon_policy::event::What;
use elevon_policy::grant::{Ends, Grant, GrantRecord, GrantState, Origin};
use elevon_policy::id::{ComputerId, GrantId, Version};
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use serde::Serialize;
use sqlx::AnyConnection;

use crate::app::App;
use crate::auth::{Approver, Reader};
use crate::channel::events::Effect;
use crate::error::Error;
use crate::listing::{self, Cursor, Listing, PART};
use crate::requests::not_its_own;
use crate::{audit, channel};

/// A grant as a screen shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The grant, and where it is in its life.
    #[serde(flatten)]
    pub record: GrantRecord,
    /// What the computer calls itself.
    pub host_name: Text,
    /// When the computer was last heard from.
    pub last_seen: Option<Timestamp>,
    /// The name of the policy it was given under.
    pub policy_name: Text,
}

/// Grants that are in force or being revoked, the soonest to end first.
pub async fn active(app: &App, _: &Reader, cursor: Option<&str>) -> Result<Listing<Row>, Error> {
    let cursor = Cursor::read_forwards(cursor)?;
    let mut db = app.db.read().await?;
    let rows = sql::active(&mut db, &cursor, PART + 1).await?;
    Ok(listing::part(rows, PART, |row| {
        Cursor::write(sql::deadline(&row.record).millis(), row.record.grant.id)
    }))
}

/// How many grants are in force or being revoked.
pub async fn count_active(app: &App, _: &Reader) -> Result<u64, Error> {
    let mut db = app.db.read().await?;
    sql::count_active(&mut db).await
}

/// Grants that are over, the latest first.
pub async fn history(app: &App, _: &Reader, cursor: Option<&str>) -> Result<Listing<Row>, Error> {
    let cursor = Cursor::read(cursor)?;
    let mut db = app.db.read().await?;
    let rows = sql::history(&mut db, &cursor, PART + 1).await?;
    Ok(listing::part(rows, PART, |row| Cursor::write(row.record.since.millis(), row.record.grant.id)))
}

/// One grant.
pub async fn find(app: &App, _: &Reader, id: GrantId) -> Result<Row, Error> {
    let mut db = app.db.read().await?;
    sql::find(&mut db, id).await?.ok_or(Error::NotFound("grant"))
}

/// Takes a grant back. It is revoking until its computer has said that it is enforced. Whatever became of it since it was
/// looked at, it is taken back; with `seen` only if it still is at that version.
pub async fn revoke(
    app: &App,
    by: &Approver,
    id: GrantId,
    seen: Option<Version>,
    comment: Text,
) -> Result<GrantRecord, Error> {
    if comment.as_untrusted().chars().count() > 2000 {
        return Err(Error::field("comment", "expected at most 2000 characters"));
    }
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let computer = sql::computer_of(&mut tx, id).await?.ok_or(Error::NotFound("grant"))?;
    channel::touch(&mut tx, app, computer).await?;
    let record = sql::find(&mut tx, id).await?.ok_or(Error::NotFound("grant"))?.record;
    let seen = seen.unwrap_or(record.version);
    let record = record.step(GrantState::Revoking, now)?;
    sql::step(&mut tx, &record, seen).await?;
    let user = record.grant.user.clone();
    audit::append(&mut tx, by.actor(), now, What::GrantRevoked { grant: id, computer, user, comment })
        .await?;
    tx.commit().await?;
    app.news.wake(computer);
    Ok(record)
}

/// Stores a grant that was just given.
pub async fn given(tx: &mut AnyConnection, grant: &Grant, now: Timestamp) -> Result<(), Error> {
    sql::insert(tx, &GrantRecord::given(grant.clone(), now)).await
}

/// A computer reports a grant that policy let it make.
pub async fn made(
    tx: &mut AnyConnection,
    computer: ComputerId,
    grant: Grant,
    now: Timestamp,
) -> Result<Effect, Error> {
    if grant.computer != computer || grant.origin != Origin::Policy {
        return Err(not_its_own("grant"));
    }
    if let Some(known) = sql::computer_of(tx, grant.id).await? {
        return if known == computer { Ok(Effect::default()) } else { Err(not_its_own("grant")) };
    }
    let mut record = GrantRecord::given(grant, now);
    // The computer made it and holds it.
    record.delivered_at = Some(now);
    sql::insert(tx, &record).await?;
    Ok(Effect::default())
}

/// The grant, if this computer may speak of it. One that is not known (any more) changes nothing.
async fn own(
    tx: &mut AnyConnection,
    computer: ComputerId,
    id: GrantId,
) -> Result<Option<GrantRecord>, Error> {
    match sql::find(tx, id).await? {
        Some(row) if row.record.grant.computer != computer => Err(not_its_own("grant")),
        found => Ok(found.map(|row| row.record)),
    }
}

/// A computer reports the first launch, which fixes the end.
pub async fn started(
    tx: &mut AnyConnection,
    computer: ComputerId,
    id: GrantId,
    end: Timestamp,
    now: Timestamp,
) -> Result<Effect, Error> {
    let Some(record) = own(tx, computer, id).await? else { return Ok(Effect::default()) };
    let Ends::AfterFirstLaunch { duration, latest_start } = record.grant.ends else {
        return Ok(Effect::default());
    };
    if record.state != GrantState::Scheduled {
        return Ok(Effect::default());
    }
    let seen = record.version;
    let mut record = record.step(GrantState::Active, now)?;
    record.end = Some(end.min(latest_start.after(duration)));
    sql::step(tx, &record, seen).await?;
    Ok(Effect::default())
}

/// A computer reports that a user gave a grant back.
pub async fn ended(
    tx: &mut AnyConnection,
    computer: ComputerId,
    id: GrantId,
    user: &User,
    now: Timestamp,
) -> Result<Effect, Error> {
    let Some(record) = own(tx, computer, id).await? else { return Ok(Effect::default()) };
    if record.grant.user != *user {
        return Err(not_its_own("grant"));
    }
    if !record.state.in_force() {
        return Ok(Effect::default());
    }
    let seen = record.version;
    sql::step(tx, &record.step(GrantState::Ended, now)?, seen).await?;
    Ok(Effect { touched: true, recorded: Vec::new() })
}

/// A computer reports that a revocation is enforced.
pub async fn enforced(
    tx: &mut AnyConnection,
    computer: ComputerId,
    id: GrantId,
    now: Timestamp,
) -> Result<Effect, Error> {
    let Some(record) = own(tx, computer, id).await? else { return Ok(Effect::default()) };
    if record.state != GrantState::Revoking {
        return Ok(Effect::default());
    }
    let seen = record.version;
    sql::step(tx, &record.step(GrantState::Revoked, now)?, seen).await?;
    Ok(Effect::default())
}

/// Lets every grant expire whose time ran out, starts those whose time came, and gives the next deadline. The
/// computer knows the end itself, so its sheet does not move on.
pub async fn expire_due(app: &App) -> Result<Option<Timestamp>, Error> {
    let due = sql::due(&mut *app.db.read().await?, app.now()).await?;
    for id in due {
        match expire(app, id).await {
            // Another server was quicker.
            Ok(()) | Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    sql::next_deadline(&mut *app.db.read().await?).await
}

async fn expire(app: &App, id: GrantId) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let Some(computer) = sql::computer_of(&mut tx, id).await? else { return Ok(()) };
    channel::sql::lock(&mut tx, computer).await?;
    let Some(Row { record, .. }) = sql::find(&mut tx, id).await? else { return Ok(()) };
    if !record.state.in_force() || now < sql::deadline(&record) {
        return Ok(());
    }
    let seen = record.version;
    if now < record.runs_out() {
        sql::step(&mut tx, &record.step(GrantState::Active, now)?, seen).await?;
    } else {
        let record = record.step(GrantState::Expired, now)?;
        sql::step(&mut tx, &record, seen).await?;
        let user = record.grant.user;
        audit::append_own(&mut tx, now, What::GrantExpired { grant: id, computer, user }).await?;
    }
    tx.commit().await?;
    app.news.changed();
    Ok(())
}
