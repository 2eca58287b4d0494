//! Lists, their versions and deployments, as the database remembers them.

use elevon_policy::decide::ListKind;
use elevon_policy::id::{GroupId, PolicyId, Version};
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Deployment, Document, Stored, Summary};
use crate::db::{changed_once, count, document, json, number, parsed};
use crate::error::Error;

/// As in the database and the URLs of events.
pub fn word(kind: ListKind) -> &'static str {
    match kind {
        ListKind::PrivilegedApplicationList => "privileged_application_list",
        ListKind::Allowlist => "allowlist",
        ListKind::Blocklist => "blocklist",
    }
}

fn kind_of(row: &AnyRow) -> Result<ListKind, Error> {
    Ok(match row.try_get::<String, _>("kind")?.as_str() {
        "privileged_application_list" => ListKind::PrivilegedApplicationList,
        "allowlist" => ListKind::Allowlist,
        _ => ListKind::Blocklist,
    })
}

fn read(row: &AnyRow, kind: ListKind) -> Result<Document, Error> {
    Ok(match kind {
        ListKind::PrivilegedApplicationList => Document::Privileged(document(row, "document")?),
        ListKind::Allowlist | ListKind::Blocklist => Document::List(document(row, "document")?),
    })
}

/// All lists of a kind, by name.
pub async fn lists(db: &mut AnyConnection, kind: ListKind) -> Result<Vec<Summary>, Error> {
    let rows = sqlx::query(
        "select p.id, p.kind, p.name, p.enabled, p.version, d.version as deployed_version
         from policies p left join deployments d on d.policy_id = p.id where p.kind = $1 order by p.name, p.id",
    )
    .bind(word(kind))
    .fetch_all(&mut *db)
    .await?;
    let mut lists = Vec::new();
    for row in rows {
        lists.push(summary(db, &row).await?);
    }
    Ok(lists)
}

async fn summary(db: &mut AnyConnection, row: &AnyRow) -> Result<Summary, Error> {
    let id = parsed(row, "id")?;
    let deployed = row.try_get::<Option<i64>, _>("deployed_version")?;
    let deployed_version = deployed.and_then(|version| u64::try_from(version).ok()).map(Version);
    let (computers_total, computers_current) = match deployed_version {
        Some(version) => progress(db, id, version).await?,
        None => (0, 0),
    };
    Ok(Summary {
        id,
        kind: kind_of(row)?,
        name: Text::new(row.try_get::<String, _>("name")?),
        version: Version(count(row, "version")?),
        enabled: row.try_get::<i64, _>("enabled")? == 1,
        deployed_version,
        computers_total,
        computers_current,
    })
}

/// To how many computers a list is deployed, and how many of them hold this version.
async fn progress(db: &mut AnyConnection, id: PolicyId, version: Version) -> Result<(u64, u64), Error> {
    let row = sqlx::query(
        "select count(*) as total, count(b.digest) as current
         from computers c left join bundle_policies b
              on b.digest = c.held_bundle and b.policy_id = $1 and b.version = $2
         where c.state = 'enrolled' and (
             not exists (select 1 from deployment_groups d join custom_groups g on g.id = d.group_id
                         where d.policy_id = $1 and g.kind = 'computers')
             or exists (select 1 from deployment_groups d join group_computers m on m.group_id = d.group_id
                        where d.policy_id = $1 and m.computer_id = c.id))",
    )
    .bind(id.to_string())
    .bind(number(version.0))
    .fetch_one(db)
    .await?;
    Ok((count(&row, "total")?, count(&row, "current")?))
}

/// One list, in its latest version.
pub async fn find(db: &mut AnyConnection, id: PolicyId) -> Result<Option<Stored>, Error> {
    let row = sqlx::query(
        "select p.id, p.kind, p.name, p.enabled, p.version, d.version as deployed_version, d.deployed, v.document
         from policies p join policy_versions v on v.policy_id = p.id and v.version = p.version
         left join deployments d on d.policy_id = p.id where p.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let summary = summary(db, &row).await?;
    let deployed: Option<i64> = row.try_get("deployed")?;
    let deployment = match (summary.deployed_version, deployed) {
        (Some(version), Some(deployed)) => {
            let groups =
                sqlx::query("select group_id from deployment_groups where policy_id = $1 order by group_id")
                    .bind(id.to_string())
                    .fetch_all(db)
                    .await?;
            let groups = groups.iter().map(|row| parsed(row, "group_id")).collect::<Result<_, _>>()?;
            Some(Deployment { version, deployed: Timestamp::from_millis(deployed), groups })
        }
        _ => None,
    };
    Ok(Some(Stored { document: read(&row, summary.kind)?, summary, deployment }))
}

/// One list in one version.
pub async fn version(
    db: &mut AnyConnection,
    id: PolicyId,
    version: Version,
) -> Result<Option<Document>, Error> {
    let row = sqlx::query(
        "select p.kind, v.document from policies p join policy_versions v on v.policy_id = p.id
         where p.id = $1 and v.version = $2",
    )
    .bind(id.to_string())
    .bind(number(version.0))
    .fetch_optional(db)
    .await?;
    row.map(|row| read(&row, kind_of(&row)?)).transpose()
}

/// The kind of a list.
pub async fn kind(db: &mut AnyConnection, id: PolicyId) -> Result<Option<ListKind>, Error> {
    let row = sqlx::query("select kind from policies where id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(kind_of).transpose()
}

/// A new list.
pub async fn insert(
    tx: &mut AnyConnection,
    id: PolicyId,
    kind: ListKind,
    document: &Document,
) -> Result<(), Error> {
    sqlx::query("insert into policies (id, kind, name, enabled, version) values ($1, $2, $3, $4, 1)")
        .bind(id.to_string())
        .bind(word(kind))
        .bind(document.name().as_untrusted())
        .bind(i64::from(document.enabled()))
        .execute(tx)
        .await?;
    Ok(())
}

/// The next version of a list, if it still is as it was seen.
pub async fn update(
    tx: &mut AnyConnection,
    id: PolicyId,
    seen: Version,
    document: &Document,
) -> Result<(), Error> {
    let done = sqlx::query(
        "update policies set name = $3, enabled = $4, version = version + 1 where id = $1 and version = $2",
    )
    .bind(id.to_string())
    .bind(number(seen.0))
    .bind(document.name().as_untrusted())
    .bind(i64::from(document.enabled()))
    .execute(tx)
    .await?;
    changed_once(done.rows_affected())
}

/// Keeps a version for ever.
pub async fn keep_version(
    tx: &mut AnyConnection,
    id: PolicyId,
    version: Version,
    document: &Document,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query("insert into policy_versions (policy_id, version, document, saved) values ($1, $2, $3, $4)")
        .bind(id.to_string())
        .bind(number(version.0))
        .bind(json(document)?)
        .bind(now.millis())
        .execute(tx)
        .await?;
    Ok(())
}

/// The version that is deployed.
pub async fn deployed_version(db: &mut AnyConnection, id: PolicyId) -> Result<Option<Version>, Error> {
    let row = sqlx::query("select version from deployments where policy_id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| count(&row, "version").map(Version)).transpose()
}

/// Deploys a version to groups, in place of what was deployed.
pub async fn deploy(
    tx: &mut AnyConnection,
    id: PolicyId,
    version: Version,
    groups: &[GroupId],
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "insert into deployments (policy_id, version, deployed) values ($1, $2, $3)
         on conflict (policy_id) do update set version = excluded.version, deployed = excluded.deployed",
    )
    .bind(id.to_string())
    .bind(number(version.0))
    .bind(now.millis())
    .execute(&mut *tx)
    .await?;
    sqlx::query("delete from deployment_groups where policy_id = $1")
        .bind(id.to_string())
        .execute(&mut *tx)
        .await?;
    for group in groups {
        sqlx::query(
            "insert into deployment_groups (policy_id, group_id) values ($1, $2) on conflict do nothing",
        )
        .bind(id.to_string())
        .bind(group.to_string())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Ends a deployment.
pub async fn withdraw(tx: &mut AnyConnection, id: PolicyId) -> Result<(), Error> {
    sqlx::query("delete from deployment_groups where policy_id = $1")
        .bind(id.to_string())
        .execute(&mut *tx)
        .await?;
    sqlx::query("delete from deployments where policy_id = $1").bind(id.to_string()).execute(tx).await?;
    Ok(())
}
