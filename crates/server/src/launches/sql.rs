//! Launches, as the database remembers them.

use elevon_policy::event::{EndReason, Exit};
use elevon_policy::id::{ComputerId, GrantId, LaunchId};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::Launch;
use crate::db::{document, json, parsed, places, rows_at_once, time};
use crate::error::Error;

fn launch(row: &AnyRow) -> Result<Launch, Error> {
    let written = |column| row.try_get::<Option<String>, _>(column).map(|text| text.is_some());
    Ok(Launch {
        id: parsed(row, "id")?,
        computer: parsed(row, "computer_id")?,
        grant: parsed(row, "grant_id")?,
        user: Text::new(row.try_get::<String, _>("user_name")?),
        path: OsText::parse(&row.try_get::<String, _>("path")?)
            .map_err(|error| Error::internal("reading a launch's path", error))?,
        sha256: parsed(row, "sha256")?,
        argv: document(row, "argv")?,
        layers: document(row, "layers")?,
        started: Timestamp::from_millis(row.try_get("started")?),
        end: Timestamp::from_millis(row.try_get("ends")?),
        ended: time(row, "ended")?,
        reason: if written("reason")? { Some(document(row, "reason")?) } else { None },
        exit: if written("exit_status")? { Some(document(row, "exit_status")?) } else { None },
    })
}

/// The launches under a grant, the first first.
pub async fn of_grant(db: &mut AnyConnection, grant: GrantId) -> Result<Vec<Launch>, Error> {
    let rows = sqlx::query("select * from launches where grant_id = $1 order by started, id limit 1000")
        .bind(grant.to_string())
        .fetch_all(db)
        .await?;
    rows.iter().map(launch).collect()
}

/// The computer of a launch.
pub async fn computer_of(db: &mut AnyConnection, id: LaunchId) -> Result<Option<ComputerId>, Error> {
    let found = sqlx::query("select computer_id from launches where id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    found.as_ref().map(|row| parsed(row, "computer_id")).transpose()
}

/// Launches that are new here. Whether all were; one that is known stays as it is.
pub async fn insert(tx: &mut AnyConnection, launches: &[Launch]) -> Result<bool, Error> {
    let (mut left, mut new) = (launches, 0);
    for size in rows_at_once(tx) {
        while let Some((now, later)) = left.split_at_checked(size) {
            new += insert_rows(tx, now).await?;
            left = later;
        }
    }
    Ok(new == launches.len() as u64)
}

async fn insert_rows(tx: &mut AnyConnection, launches: &[Launch]) -> Result<u64, Error> {
    let sql = format!(
        "insert into launches (id, computer_id, grant_id, user_name, path, sha256, argv, layers, started, ends,
                               ended, reason, exit_status) values {} on conflict (id) do nothing",
        places(0, launches.len(), 13)
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for launch in launches {
        query = query
            .bind(launch.id.to_string())
            .bind(launch.computer.to_string())
            .bind(launch.grant.to_string())
            .bind(launch.user.as_untrusted())
            .bind(launch.path.escaped())
            .bind(launch.sha256.to_string())
            .bind(json(&launch.argv)?)
            .bind(json(&launch.layers)?)
            .bind(launch.started.millis())
            .bind(launch.end.millis())
            .bind(launch.ended.map(Timestamp::millis))
            .bind(launch.reason.as_ref().map(json).transpose()?)
            .bind(launch.exit.as_ref().map(json).transpose()?);
    }
    Ok(query.execute(tx).await?.rows_affected())
}

/// Notes a launch's end, once.
pub async fn end(
    tx: &mut AnyConnection,
    computer: ComputerId,
    id: LaunchId,
    at: Timestamp,
    reason: EndReason,
    exit: Option<Exit>,
) -> Result<(), Error> {
    sqlx::query(
        "update launches set ended = $3, reason = $4, exit_status = $5
         where id = $1 and computer_id = $2 and ended is null",
    )
    .bind(id.to_string())
    .bind(computer.to_string())
    .bind(at.millis())
    .bind(json(&reason)?)
    .bind(exit.as_ref().map(json).transpose()?)
    .execute(tx)
    .await?;
    Ok(())
}
