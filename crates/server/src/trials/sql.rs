//! What the database remembers of applications: what computers measured when somebody asked, and what they launched.

use elevon_policy::application::Sha256;
use elevon_policy::id::ComputerId;
use elevon_policy::request::ElevationRequest;
use elevon_policy::text::OsText;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::db::{document, parsed};
use crate::error::Error;

fn requests(rows: &[AnyRow]) -> Result<Vec<ElevationRequest>, Error> {
    rows.iter().map(|row| document(row, "asked")).collect()
}

/// The latest requests on any computer, the latest first.
pub async fn asked_lately(db: &mut AnyConnection, limit: usize) -> Result<Vec<ElevationRequest>, Error> {
    let rows = sqlx::query("select asked from requests order by id desc limit $1")
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(db)
        .await?;
    requests(&rows)
}

/// The latest requests on this computer, the latest first, then those on any.
pub async fn asked(
    db: &mut AnyConnection,
    computer: ComputerId,
    limit: usize,
) -> Result<Vec<ElevationRequest>, Error> {
    let rows = sqlx::query(
        "select asked from requests where computer_id = $1 order by since desc, id desc limit $2",
    )
    .bind(computer.to_string())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&mut *db)
    .await?;
    let mut all = requests(&rows)?;
    all.extend(asked_lately(db, limit).await?);
    Ok(all)
}

/// What was launched lately, from where and with which bytes, the latest first.
pub async fn launched_lately(db: &mut AnyConnection, limit: usize) -> Result<Vec<(OsText, Sha256)>, Error> {
    let rows = sqlx::query("select path, sha256 from launches order by id desc limit $1")
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(db)
        .await?;
    let launched = rows.iter().map(|row| {
        let path = OsText::parse(&row.try_get::<String, _>("path")?)
            .map_err(|error| Error::internal("reading a launch's path", error))?;
        Ok((path, parsed(row, "sha256")?))
    });
    launched.collect()
}
