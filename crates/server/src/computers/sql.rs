//! Computers and enrollment tokens, as the database remembers them.

use elevon_policy::application::Sha256;
use elevon_policy::id::{ComputerId, GroupId, TokenId, Version};
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Row, TokenRow};
use crate::db::{count, number, parsed, time};
use crate::error::Error;

fn row(row: &AnyRow, online: Timestamp) -> Result<Row, Error> {
    let last_seen = time(row, "last_seen")?;
    let held_version: Option<i64> = row.try_get("held_sheet")?;
    let bundle: Option<String> = row.try_get("held_bundle")?;
    let revoked = row.try_get::<String, _>("state")? == "revoked";
    Ok(Row {
        id: parsed(row, "id")?,
        host_name: Text::new(row.try_get::<String, _>("host_name")?),
        operating_system: Text::new(row.try_get::<String, _>("operating_system")?),
        revoked,
        enrolled: Timestamp::from_millis(row.try_get("enrolled")?),
        last_seen,
        online: !revoked && last_seen.is_some_and(|seen| seen >= online),
        sheet_version: count(row, "counter")?.saturating_add(count(row, "epoch")?),
        held_version: held_version.and_then(|version| u64::try_from(version).ok()),
        bundle: bundle.and_then(|digest| digest.parse().ok()),
    })
}

/// All computers, by name.
pub async fn list(db: &mut AnyConnection, online: Timestamp) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query(
        "select c.*, e.value as epoch from computers c cross join policy_epoch e order by c.host_name, c.id",
    )
    .fetch_all(db)
    .await?;
    rows.iter().map(|found| row(found, online)).collect()
}

/// One computer.
pub async fn find(db: &mut AnyConnection, id: ComputerId, online: Timestamp) -> Result<Option<Row>, Error> {
    let found = sqlx::query(
        "select c.*, e.value as epoch from computers c cross join policy_epoch e where c.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db)
    .await?;
    found.map(|found| row(&found, online)).transpose()
}

/// A computer that is enrolled now.
#[derive(Debug)]
pub struct New<'a> {
    /// Its identity.
    pub id: ComputerId,
    /// What it calls itself.
    pub host_name: &'a Text,
    /// What it runs.
    pub operating_system: &'a Text,
    /// The key its events are signed with.
    pub event_key: &'a str,
    /// The certificate it will come with.
    pub certificate_fingerprint: Sha256,
    /// When that ends.
    pub certificate_ends: Timestamp,
}

/// A computer that is enrolled now.
pub async fn insert(tx: &mut AnyConnection, new: &New<'_>, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "insert into computers (id, host_name, operating_system, state, event_key, certificate_fingerprint,
                                enrolled, counter, touched)
         values ($1, $2, $3, 'enrolled', $4, $5, $6, 1, $6)",
    )
    .bind(new.id.to_string())
    .bind(new.host_name.as_untrusted())
    .bind(new.operating_system.as_untrusted())
    .bind(new.event_key)
    .bind(new.certificate_fingerprint.to_string())
    .bind(now.millis())
    .execute(&mut *tx)
    .await?;
    insert_certificate(tx, new.id, new.certificate_fingerprint, now, new.certificate_ends).await
}

/// A certificate that a computer may come with.
pub async fn insert_certificate(
    tx: &mut AnyConnection,
    computer: ComputerId,
    fingerprint: Sha256,
    made: Timestamp,
    ends: Timestamp,
) -> Result<(), Error> {
    sqlx::query("insert into certificates (fingerprint, computer_id, made, ends) values ($1, $2, $3, $4)")
        .bind(fingerprint.to_string())
        .bind(computer.to_string())
        .bind(made.millis())
        .bind(ends.millis())
        .execute(tx)
        .await?;
    Ok(())
}

/// When the last certificate of a computer was made. Those that have ended are forgotten.
pub async fn last_certificate(
    tx: &mut AnyConnection,
    computer: ComputerId,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    sqlx::query("delete from certificates where computer_id = $1 and ends < $2")
        .bind(computer.to_string())
        .bind(now.millis())
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query("select max(made) as made from certificates where computer_id = $1")
        .bind(computer.to_string())
        .fetch_one(tx)
        .await?;
    time(&row, "made")
}

/// Shuts a computer out, once; gives what it called itself.
pub async fn revoke(tx: &mut AnyConnection, id: ComputerId, now: Timestamp) -> Result<Option<Text>, Error> {
    let row = sqlx::query(
        "update computers set state = 'revoked', counter = counter + 1, touched = $2
         where id = $1 and state = 'enrolled' returning host_name",
    )
    .bind(id.to_string())
    .bind(now.millis())
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok(Text::new(row.try_get::<String, _>("host_name")?))).transpose()
}

/// Notes that a computer was heard from.
pub async fn seen(tx: &mut AnyConnection, id: ComputerId, at: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "update computers set last_seen = $2 where id = $1 and (last_seen is null or last_seen < $2)",
    )
    .bind(id.to_string())
    .bind(at.millis())
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes which documents a computer has said it holds.
pub async fn delivered(
    tx: &mut AnyConnection,
    id: ComputerId,
    version: Version,
    bundle: Sha256,
) -> Result<(), Error> {
    sqlx::query("update computers set held_sheet = $2, held_bundle = $3 where id = $1")
        .bind(id.to_string())
        .bind(number(version.0))
        .bind(bundle.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// Whether a refusal may be recorded now; if so, none may until the next is due.
pub async fn may_record_refusal(
    tx: &mut AnyConnection,
    id: ComputerId,
    now: Timestamp,
    since: Timestamp,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "update computers set refusal_recorded = $2
         where id = $1 and (refusal_recorded is null or refusal_recorded <= $3)",
    )
    .bind(id.to_string())
    .bind(now.millis())
    .bind(since.millis())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A new token.
pub async fn insert_token(
    tx: &mut AnyConnection,
    id: TokenId,
    secret_hash: &str,
    uses: u64,
    expires: Timestamp,
    group: Option<GroupId>,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "insert into enrollment_tokens (id, secret_hash, uses, used, expires, group_id, created)
         values ($1, $2, $3, 0, $4, $5, $6)",
    )
    .bind(id.to_string())
    .bind(secret_hash)
    .bind(number(uses))
    .bind(expires.millis())
    .bind(group.map(|id| id.to_string()))
    .bind(now.millis())
    .execute(tx)
    .await?;
    Ok(())
}

/// All tokens, the latest first.
pub async fn tokens(db: &mut AnyConnection) -> Result<Vec<TokenRow>, Error> {
    let rows = sqlx::query(
        "select t.*, g.name as group_name from enrollment_tokens t
         left join custom_groups g on g.id = t.group_id order by t.created desc, t.id desc",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(TokenRow {
                id: parsed(row, "id")?,
                uses: count(row, "uses")?,
                used: count(row, "used")?,
                expires: Timestamp::from_millis(row.try_get("expires")?),
                group_name: row.try_get::<Option<String>, _>("group_name")?.map(Text::new),
                created: Timestamp::from_millis(row.try_get("created")?),
                revoked: time(row, "revoked_at")?,
            })
        })
        .collect()
}

/// Revokes a token, once. Whether that changed anything.
pub async fn revoke_token(tx: &mut AnyConnection, id: TokenId, now: Timestamp) -> Result<bool, Error> {
    let done =
        sqlx::query("update enrollment_tokens set revoked_at = $2 where id = $1 and revoked_at is null")
            .bind(id.to_string())
            .bind(now.millis())
            .execute(tx)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// A token that was just used.
#[derive(Debug)]
pub struct Used {
    /// Its identity.
    pub id: TokenId,
    /// The group that whoever uses it joins.
    pub group: Option<GroupId>,
}

/// Uses a token once more, if it can be.
pub async fn use_token(
    tx: &mut AnyConnection,
    secret_hash: &str,
    now: Timestamp,
) -> Result<Option<Used>, Error> {
    let row = sqlx::query(
        "update enrollment_tokens set used = used + 1
         where secret_hash = $1 and used < uses and expires > $2 and revoked_at is null returning id, group_id",
    )
    .bind(secret_hash)
    .bind(now.millis())
    .fetch_optional(tx)
    .await?;
    row.map(|row| {
        let group = row.try_get::<Option<String>, _>("group_id")?;
        let group = match group {
            Some(_) => Some(parsed(&row, "group_id")?),
            None => None,
        };
        Ok(Used { id: parsed(&row, "id")?, group })
    })
    .transpose()
}
