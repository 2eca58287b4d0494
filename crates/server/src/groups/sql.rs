//! Custom groups, as the database remembers them.

use elevon_policy::group::{CustomGroup, Members};
use elevon_policy::id::{ComputerId, GroupId, Version};
use elevon_policy::text::Text;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Row;
use crate::db::{changed_once, count, document, json, number, parsed};
use crate::error::Error;

async fn row(db: &mut AnyConnection, row: &AnyRow) -> Result<Row, Error> {
    let id: GroupId = parsed(row, "id")?;
    let members = if row.try_get::<String, _>("kind")? == "users" {
        Members::Users { users: document(row, "users")? }
    } else {
        let rows =
            sqlx::query("select computer_id from group_computers where group_id = $1 order by computer_id")
                .bind(id.to_string())
                .fetch_all(db)
                .await?;
        Members::Computers {
            computers: rows.iter().map(|row| parsed(row, "computer_id")).collect::<Result<_, _>>()?,
        }
    };
    let name = Text::new(row.try_get::<String, _>("name")?);
    Ok(Row { group: CustomGroup { id, name, members }, version: Version(count(row, "version")?) })
}

/// All groups, by name.
pub async fn list(db: &mut AnyConnection) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query("select id, name, kind, users, version from custom_groups order by name_key")
        .fetch_all(&mut *db)
        .await?;
    let mut groups = Vec::new();
    for found in rows {
        groups.push(row(db, &found).await?);
    }
    Ok(groups)
}

/// One group.
pub async fn find(db: &mut AnyConnection, id: GroupId) -> Result<Option<Row>, Error> {
    let found = sqlx::query("select id, name, kind, users, version from custom_groups where id = $1")
        .bind(id.to_string())
        .fetch_optional(&mut *db)
        .await?;
    match found {
        Some(found) => row(db, &found).await.map(Some),
        None => Ok(None),
    }
}

/// The group of this name.
pub async fn named(db: &mut AnyConnection, name: &Text) -> Result<Option<Row>, Error> {
    let found = sqlx::query("select id, name, kind, users, version from custom_groups where name_key = $1")
        .bind(name_key(name))
        .fetch_optional(&mut *db)
        .await?;
    match found {
        Some(found) => row(db, &found).await.map(Some),
        None => Ok(None),
    }
}

/// Names that differ in case only are the same.
fn name_key(name: &Text) -> String {
    name.as_untrusted().to_lowercase()
}

fn kind(members: &Members) -> &'static str {
    match members {
        Members::Computers { .. } => "computers",
        Members::Users { .. } => "users",
    }
}

fn users(members: &Members) -> Result<String, Error> {
    match members {
        Members::Computers { .. } => Ok("[]".to_owned()),
        Members::Users { users } => json(users),
    }
}

/// A new group.
pub async fn insert(tx: &mut AnyConnection, group: &CustomGroup) -> Result<(), Error> {
    taken(tx, group).await?;
    sqlx::query(
        "insert into custom_groups (id, name, name_key, kind, users, version) values ($1, $2, $3, $4, $5, 1)",
    )
    .bind(group.id.to_string())
    .bind(group.name.as_untrusted())
    .bind(name_key(&group.name))
    .bind(kind(&group.members))
    .bind(users(&group.members)?)
    .execute(&mut *tx)
    .await?;
    insert_computers(tx, group).await
}

/// A group's next version, if it still is as it was seen.
pub async fn update(tx: &mut AnyConnection, group: &CustomGroup, seen: Version) -> Result<(), Error> {
    taken(tx, group).await?;
    let done = sqlx::query(
        "update custom_groups set name = $3, name_key = $4, users = $5, version = version + 1
         where id = $1 and version = $2",
    )
    .bind(group.id.to_string())
    .bind(number(seen.0))
    .bind(group.name.as_untrusted())
    .bind(name_key(&group.name))
    .bind(users(&group.members)?)
    .execute(&mut *tx)
    .await?;
    changed_once(done.rows_affected())?;
    sqlx::query("delete from group_computers where group_id = $1")
        .bind(group.id.to_string())
        .execute(&mut *tx)
        .await?;
    insert_computers(tx, group).await
}

async fn taken(tx: &mut AnyConnection, group: &CustomGroup) -> Result<(), Error> {
    match named(tx, &group.name).await? {
        Some(other) if other.group.id != group.id => {
            Err(Error::field("name", "there is a custom group of this name already"))
        }
        _ => Ok(()),
    }
}

async fn insert_computers(tx: &mut AnyConnection, group: &CustomGroup) -> Result<(), Error> {
    let Members::Computers { computers } = &group.members else { return Ok(()) };
    for computer in computers {
        join(tx, group.id, *computer).await?;
    }
    Ok(())
}

/// A computer joins a group.
pub async fn join(tx: &mut AnyConnection, group: GroupId, computer: ComputerId) -> Result<(), Error> {
    sqlx::query("insert into group_computers (group_id, computer_id) values ($1, $2) on conflict do nothing")
        .bind(group.to_string())
        .bind(computer.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// Whether any policy is deployed to this group.
pub async fn is_deployed(db: &mut AnyConnection, id: GroupId) -> Result<bool, Error> {
    let row = sqlx::query("select count(*) as uses from deployment_groups where group_id = $1")
        .bind(id.to_string())
        .fetch_one(db)
        .await?;
    Ok(count(&row, "uses")? > 0)
}
