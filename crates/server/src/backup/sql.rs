//! Whole tables, from one database to another.

use std::path::Path;

use elevon_policy::time::Timestamp;
use futures_util::TryStreamExt;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Column, Row, ValueRef};

use super::Label;
use crate::db::{count, number};
use crate::error::Error;

/// What is copied, each behind those it refers to. Sessions, failures to sign in and the set-up link are not.
const TABLES: [&str; 19] = [
    "accounts",
    "custom_groups",
    "api_tokens",
    "enrollment_tokens",
    "computers",
    "certificates",
    "group_computers",
    "policies",
    "policy_versions",
    "deployments",
    "deployment_groups",
    "bundles",
    "bundle_policies",
    "requests",
    "grants",
    "launches",
    "chains",
    "events",
    "checkpoints",
];

/// Copies an SQLite database into a file that is empty.
pub async fn copy_file(db: &mut AnyConnection, file: &Path) -> Result<(), Error> {
    sqlx::query("vacuum into $1").bind(file.display().to_string()).execute(db).await?;
    Ok(())
}

/// Copies every table into a database that is migrated and empty.
pub async fn copy(from: &mut AnyConnection, to: &mut AnyConnection) -> Result<(), Error> {
    for table in TABLES {
        let all = format!("select * from {table}");
        let mut rows = sqlx::query(AssertSqlSafe(all)).fetch(&mut *from);
        while let Some(row) = rows.try_next().await? {
            insert(to, table, &row).await?;
        }
    }
    let epoch = count(&sqlx::query("select value from policy_epoch").fetch_one(from).await?, "value")?;
    sqlx::query("update policy_epoch set value = $1").bind(number(epoch)).execute(to).await?;
    Ok(())
}

/// What is null is left out, since a null of the wrong type is refused.
async fn insert(to: &mut AnyConnection, table: &str, row: &AnyRow) -> Result<(), Error> {
    let mut names = Vec::new();
    for column in row.columns() {
        if !row.try_get_raw(column.ordinal())?.is_null() {
            names.push((column.ordinal(), column.name()));
        }
    }
    if names.iter().any(|(_, name)| {
        !name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
    }) {
        return Err(Error::invalid(
            "this is no backup of Elevon: its tables have columns that none of ours has",
        ));
    }
    let columns: Vec<_> = names.iter().map(|(_, name)| *name).collect();
    let places: Vec<_> = (1..=names.len()).map(|at| format!("${at}")).collect();
    let sql = format!("insert into {table} ({}) values ({})", columns.join(", "), places.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (at, _) in names {
        query = match row.try_get::<i64, _>(at) {
            Ok(number) => query.bind(number),
            Err(_) => query.bind(row.try_get::<String, _>(at)?),
        };
    }
    query.execute(to).await?;
    Ok(())
}

/// Writes into a copy what it is, and takes out what nobody should get by putting it back.
pub async fn label(tx: &mut AnyConnection, label: &Label) -> Result<(), Error> {
    for sql in [
        "create table backup (taken bigint not null, keys text)",
        "delete from sessions",
        "delete from sign_in_failures",
        "delete from setup",
    ] {
        sqlx::query(sql).execute(&mut *tx).await?;
    }
    sqlx::query("insert into backup (taken, keys) values ($1, $2)")
        .bind(label.taken.millis())
        .bind(label.keys.as_deref())
        .execute(tx)
        .await?;
    Ok(())
}

/// What a copy says of itself.
pub async fn read_label(db: &mut AnyConnection) -> Result<Label, Error> {
    let row = sqlx::query("select taken, keys from backup").fetch_one(db).await.map_err(|_| {
        Error::invalid("this is no backup of Elevon; expected a file that `elevon-server backup` made")
    })?;
    Ok(Label { taken: Timestamp::from_millis(row.try_get("taken")?), keys: row.try_get("keys")? })
}

/// Whether nothing has ever happened here.
pub async fn is_empty(db: &mut AnyConnection) -> Result<bool, Error> {
    let row = sqlx::query(
        "select (select count(*) from events) + (select count(*) from accounts) + (select count(*) from computers)
             as things",
    )
    .fetch_one(&mut *db)
    .await?;
    if count(&row, "things")? > 0 {
        return Ok(false);
    }
    // A start that came to nothing opened the server's chain; the copy brings its own.
    sqlx::query("delete from chains where number = 0").execute(db).await?;
    Ok(true)
}

/// Lets every sheet be newer than any that was signed before, computers go on behind a gap, and no enrollment token work
/// that was used since. Gives the new epoch.
pub async fn leap(tx: &mut AnyConnection, by: u64, now: Timestamp) -> Result<u64, Error> {
    sqlx::query("update chains set gap_allowed = 1 where id <> 'server'").execute(&mut *tx).await?;
    sqlx::query("update enrollment_tokens set revoked_at = $1 where revoked_at is null")
        .bind(now.millis())
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query("update policy_epoch set value = value + $1 returning value")
        .bind(number(by))
        .fetch_one(tx)
        .await?;
    count(&row, "value")
}

/// How many events there are.
pub async fn count_events(db: &mut AnyConnection) -> Result<u64, Error> {
    count(&sqlx::query("select count(*) as events from events").fetch_one(db).await?, "events")
}
