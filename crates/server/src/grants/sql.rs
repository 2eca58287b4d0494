//! Grants, as the database remembers them.

use std::collections::HashSet;

use elevon_policy::decide::HeldGrant;
use elevon_policy::grant::{Ends, Grant, GrantRecord, GrantState, Origin};
use elevon_policy::id::{ComputerId, GrantId, Version};
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Row;
use crate::db::{changed_once, count, document, json, number, parsed, time};
use crate::error::Error;
use crate::listing::Cursor;

/// The statement whose rows [`row`] reads: what stands behind the tables says which.
macro_rules! rows {
    ($which:literal) => {
        concat!(
            "select g.*, c.host_name, c.last_seen, p.name as policy_name
             from grants g join computers c on c.id = g.computer_id left join policies p on p.id = g.policy_id ",
            $which
        )
    };
}

fn row(row: &AnyRow) -> Result<Row, Error> {
    let record = GrantRecord {
        grant: document(row, "document")?,
        state: parsed(row, "state")?,
        version: Version(count(row, "version")?),
        since: Timestamp::from_millis(row.try_get("since")?),
        end: time(row, "ends")?,
        delivered_at: time(row, "delivered_at")?,
    };
    Ok(Row {
        record,
        host_name: Text::new(row.try_get::<String, _>("host_name")?),
        last_seen: time(row, "last_seen")?,
        policy_name: Text::new(row.try_get::<Option<String>, _>("policy_name")?.unwrap_or_default()),
    })
}

/// When time next changes a grant: its start, where that is ahead, or its end.
pub fn deadline(record: &GrantRecord) -> Timestamp {
    match (record.state, record.grant.ends) {
        (GrantState::Scheduled, Ends::At { .. }) => record.grant.not_before,
        _ => record.runs_out(),
    }
}

/// One grant.
pub async fn find(db: &mut AnyConnection, id: GrantId) -> Result<Option<Row>, Error> {
    let found = sqlx::query(rows!("where g.id = $1")).bind(id.to_string()).fetch_optional(db).await?;
    found.as_ref().map(row).transpose()
}

/// The computer of a grant.
pub async fn computer_of(db: &mut AnyConnection, id: GrantId) -> Result<Option<ComputerId>, Error> {
    let found = sqlx::query("select computer_id from grants where id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    found.as_ref().map(|row| parsed(row, "computer_id")).transpose()
}

/// Grants that are in force or being revoked, the soonest to end first, behind the cursor.
pub async fn active(db: &mut AnyConnection, cursor: &Cursor, limit: usize) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query(rows!(
        "where g.state in ('scheduled', 'active', 'revoking') and (g.deadline, g.id) > ($1, $2)
         order by g.deadline, g.id limit $3"
    ))
    .bind(cursor.at)
    .bind(&cursor.key)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    rows.iter().map(row).collect()
}

/// How many grants are in force or being revoked.
pub async fn count_active(db: &mut AnyConnection) -> Result<u64, Error> {
    let row = sqlx::query(
        "select count(*) as active from grants where state in ('scheduled', 'active', 'revoking')",
    )
    .fetch_one(db)
    .await?;
    count(&row, "active")
}

/// Grants that are over, the latest first, behind the cursor.
pub async fn history(db: &mut AnyConnection, cursor: &Cursor, limit: usize) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query(rows!(
        "where g.state in ('expired', 'ended', 'revoked', 'failed') and (g.since, g.id) < ($1, $2)
         order by g.since desc, g.id desc limit $3"
    ))
    .bind(cursor.at)
    .bind(&cursor.key)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    rows.iter().map(row).collect()
}

/// A grant that is new here.
pub async fn insert(tx: &mut AnyConnection, record: &GrantRecord) -> Result<(), Error> {
    let request = match record.grant.origin {
        Origin::Request { request } => Some(request.to_string()),
        Origin::Policy => None,
    };
    sqlx::query(
        "insert into grants (id, computer_id, request_id, user_name, policy_id, state, version, since, ends, deadline,
                             delivered_at, document)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(record.grant.id.to_string())
    .bind(record.grant.computer.to_string())
    .bind(request)
    .bind(record.grant.user.name.as_untrusted())
    .bind(record.grant.policy.policy.to_string())
    .bind(record.state.word())
    .bind(number(record.version.0))
    .bind(record.since.millis())
    .bind(record.end.map(Timestamp::millis))
    .bind(deadline(record).millis())
    .bind(record.delivered_at.map(Timestamp::millis))
    .bind(json(&record.grant)?)
    .execute(tx)
    .await?;
    Ok(())
}

/// Moves a grant one step, if it still is as it was seen.
pub async fn step(tx: &mut AnyConnection, record: &GrantRecord, seen: Version) -> Result<(), Error> {
    let done = sqlx::query(
        "update grants set state = $3, version = $4, since = $5, ends = $6, deadline = $7
         where id = $1 and version = $2
           and exists (select 1 from grant_steps where from_state = grants.state and to_state = $3)",
    )
    .bind(record.grant.id.to_string())
    .bind(number(seen.0))
    .bind(record.state.word())
    .bind(number(record.version.0))
    .bind(record.since.millis())
    .bind(record.end.map(Timestamp::millis))
    .bind(deadline(record).millis())
    .execute(tx)
    .await?;
    changed_once(done.rows_affected())
}

/// Notes that a computer has these grants; the first word counts. However many it names, only those of its own that it has not told
/// of yet are looked at.
pub async fn delivered(
    tx: &mut AnyConnection,
    computer: ComputerId,
    grants: &[GrantId],
    now: Timestamp,
) -> Result<(), Error> {
    let waiting = sqlx::query("select id from grants where computer_id = $1 and delivered_at is null")
        .bind(computer.to_string())
        .fetch_all(&mut *tx)
        .await?;
    let grants: HashSet<_> = grants.iter().collect();
    for row in waiting {
        let id: GrantId = parsed(&row, "id")?;
        if grants.contains(&id) {
            sqlx::query("update grants set delivered_at = $2 where id = $1")
                .bind(id.to_string())
                .bind(now.millis())
                .execute(&mut *tx)
                .await?;
        }
    }
    Ok(())
}

/// What stands on a computer's sheet.
#[derive(Debug, Default)]
pub struct OnSheet {
    /// Grants that are in force or will be; those the computer made itself it has itself.
    pub in_force: Vec<Grant>,
    /// Grants that are being revoked.
    pub revoking: Vec<GrantId>,
}

/// What stands on a computer's sheet.
pub async fn on_sheet(db: &mut AnyConnection, computer: ComputerId) -> Result<OnSheet, Error> {
    let rows = sqlx::query(
        "select id, state, request_id, document from grants
         where computer_id = $1 and state in ('scheduled', 'active', 'revoking') order by id",
    )
    .bind(computer.to_string())
    .fetch_all(db)
    .await?;
    let mut sheet = OnSheet::default();
    for row in rows {
        let state: GrantState = parsed(&row, "state")?;
        let local = row.try_get::<Option<String>, _>("request_id")?.is_none();
        if state == GrantState::Revoking {
            sheet.revoking.push(parsed(&row, "id")?);
        } else if !local {
            sheet.in_force.push(document(&row, "document")?);
        }
    }
    Ok(sheet)
}

/// The grants of a user on a computer that are in force or will be, and how far each is used.
pub async fn held(
    db: &mut AnyConnection,
    computer: ComputerId,
    user: &Text,
) -> Result<Vec<HeldGrant>, Error> {
    let rows = sqlx::query(
        "select g.document, g.ends, (select count(*) from launches l where l.grant_id = g.id) as launched
         from grants g
         where g.computer_id = $1 and g.user_name = $2 and g.state in ('scheduled', 'active') order by g.id",
    )
    .bind(computer.to_string())
    .bind(user.as_untrusted())
    .fetch_all(db)
    .await?;
    let held = rows.iter().map(|row| {
        let grant: Grant = document(row, "document")?;
        let fixed_end = match grant.ends {
            Ends::At { .. } => None,
            Ends::AfterFirstLaunch { .. } => time(row, "ends")?,
        };
        Ok(HeldGrant { grant, fixed_end, launched: count(row, "launched")? })
    });
    held.collect()
}

/// Grants in force that time changes now.
pub async fn due(db: &mut AnyConnection, now: Timestamp) -> Result<Vec<GrantId>, Error> {
    let rows = sqlx::query(
        "select id from grants where state in ('scheduled', 'active') and deadline <= $1 order by deadline",
    )
    .bind(now.millis())
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// When time next changes a grant in force.
pub async fn next_deadline(db: &mut AnyConnection) -> Result<Option<Timestamp>, Error> {
    let row =
        sqlx::query("select min(deadline) as deadline from grants where state in ('scheduled', 'active')")
            .fetch_one(db)
            .await?;
    time(&row, "deadline")
}
