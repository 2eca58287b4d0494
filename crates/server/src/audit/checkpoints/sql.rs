//! Checkpoints, as the database remembers them.

use std::collections::BTreeMap;

use elevon_policy::application::Sha256;
use elevon_policy::id::ComputerId;
use elevon_policy::sheet::ChainHead;
use elevon_policy::time::Timestamp;
use elevon_wire::signed::Signed;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Sealed;
use crate::db::{count, document, json, number, parsed};
use crate::error::Error;

/// The last checkpoint.
#[derive(Debug)]
pub struct Last {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The digest of the bytes that were signed.
    pub digest: Sha256,
    /// The head of the server's own chain then.
    pub server: ChainHead,
}

fn read(row: &AnyRow) -> Result<Last, Error> {
    let signed: Signed = document(row, "signed")?;
    Ok(Last {
        number: count(row, "number")?,
        at: Timestamp::from_millis(row.try_get("at")?),
        digest: signed.digest(),
        server: ChainHead { number: count(row, "server_number")?, digest: parsed(row, "server_digest")? },
    })
}

/// The last checkpoint.
pub async fn last(db: &mut AnyConnection) -> Result<Option<Last>, Error> {
    let row =
        sqlx::query("select * from checkpoints order by number desc limit 1").fetch_optional(db).await?;
    row.as_ref().map(read).transpose()
}

/// The head of the server's own chain at the last checkpoint, for a sheet.
pub async fn witnessed(db: &mut AnyConnection) -> Result<Option<ChainHead>, Error> {
    let row =
        sqlx::query("select server_number, server_digest from checkpoints order by number desc limit 1")
            .fetch_optional(db)
            .await?;
    row.map(|row| {
        Ok(ChainHead { number: count(&row, "server_number")?, digest: parsed(&row, "server_digest")? })
    })
    .transpose()
}

/// How many events there are behind the last checkpoint.
pub async fn grown(db: &mut AnyConnection) -> Result<u64, Error> {
    let row = sqlx::query(
        "select cast(coalesce(sum(number - checkpointed), 0) as bigint) as grown from chains where number > checkpointed",
    )
    .fetch_one(db)
    .await?;
    count(&row, "grown")
}

/// The last checkpoint; whoever else wants to make the next one waits until this transaction ends.
pub async fn take_turn(tx: &mut AnyConnection) -> Result<Option<Last>, Error> {
    sqlx::query("update checkpoint_turn set taken = taken + 1").execute(&mut *tx).await?;
    last(tx).await
}

/// The heads of the computers' chains that grew, or of all; they are marked as seen. Their rows stay locked until the
/// transaction ends, so that the server's own chain comes last, as everywhere.
pub async fn take_grown(
    tx: &mut AnyConnection,
    whole: bool,
) -> Result<BTreeMap<ComputerId, ChainHead>, Error> {
    let rows = sqlx::query(
        "update chains set checkpointed = number
         where id <> 'server' and number > 0 and (number > checkpointed or $1 = 1) returning id, number, digest",
    )
    .bind(i64::from(whole))
    .fetch_all(tx)
    .await?;
    rows.iter()
        .map(|row| {
            let head = ChainHead { number: count(row, "number")?, digest: parsed(row, "digest")? };
            Ok((parsed(row, "id")?, head))
        })
        .collect()
}

/// Marks the server's own chain as seen.
pub async fn mark_server(tx: &mut AnyConnection) -> Result<(), Error> {
    sqlx::query("update chains set checkpointed = number where id = 'server'").execute(tx).await?;
    Ok(())
}

/// A new checkpoint.
pub async fn insert(tx: &mut AnyConnection, sealed: &Sealed) -> Result<(), Error> {
    let checkpoint = &sealed.checkpoint;
    sqlx::query(
        "insert into checkpoints (number, at, server_number, server_digest, signed) values ($1, $2, $3, $4, $5)",
    )
    .bind(number(checkpoint.number))
    .bind(checkpoint.at.millis())
    .bind(number(checkpoint.server.number))
    .bind(checkpoint.server.digest.to_string())
    .bind(json(&sealed.signed)?)
    .execute(tx)
    .await?;
    Ok(())
}

/// Checkpoints behind this number, in order.
pub async fn behind(db: &mut AnyConnection, after: u64) -> Result<Vec<Signed>, Error> {
    let rows = sqlx::query("select signed from checkpoints where number > $1 order by number")
        .bind(number(after))
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| document(row, "signed")).collect()
}
