//! A computer's own counter, the policy epoch, and bundles, as the database remembers them.

use elevon_policy::application::Sha256;
use elevon_policy::id::{ComputerId, GroupId, PolicyId};
use elevon_policy::time::Timestamp;
use elevon_wire::signed::Signed;
use sqlx::AnyConnection;
use sqlx::Row;

use crate::db::{changed_once, count, json, number, parsed};
use crate::error::Error;

/// What a sheet's version is made of. Both only go up, so their sum does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Counts the changes of the computer's own sheet.
    pub counter: u64,
    /// Counts the changes of policy.
    pub epoch: u64,
}

impl Version {
    /// The sheet's version.
    pub fn sheet(self) -> u64 {
        self.counter.saturating_add(self.epoch)
    }
}

/// The version of a computer's sheet.
pub async fn version(db: &mut AnyConnection, computer: ComputerId) -> Result<Version, Error> {
    let row = sqlx::query(
        "select c.counter, e.value from computers c cross join policy_epoch e where c.id = $1 and c.state = 'enrolled'",
    )
    .bind(computer.to_string())
    .fetch_optional(db)
    .await?
    .ok_or(Error::NotFound("computer"))?;
    Ok(Version { counter: count(&row, "counter")?, epoch: count(&row, "value")? })
}

/// Counts a computer's own counter up.
pub async fn touch(tx: &mut AnyConnection, computer: ComputerId, now: Timestamp) -> Result<(), Error> {
    let done = sqlx::query("update computers set counter = counter + 1, touched = $2 where id = $1")
        .bind(computer.to_string())
        .bind(now.millis())
        .execute(tx)
        .await?;
    changed_once(done.rows_affected())
}

/// Takes the computer's row for this transaction, without a change.
pub async fn lock(tx: &mut AnyConnection, computer: ComputerId) -> Result<(), Error> {
    let done = sqlx::query("update computers set counter = counter where id = $1")
        .bind(computer.to_string())
        .execute(tx)
        .await?;
    changed_once(done.rows_affected())
}

/// Computers whose counter moved at this time or later.
pub async fn touched(db: &mut AnyConnection, since: Timestamp) -> Result<Vec<(ComputerId, u64)>, Error> {
    let rows = sqlx::query("select id, counter from computers where touched >= $1")
        .bind(since.millis())
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| Ok((parsed(row, "id")?, count(row, "counter")?))).collect()
}

/// The policy epoch.
pub async fn epoch(db: &mut AnyConnection) -> Result<u64, Error> {
    count(&sqlx::query("select value from policy_epoch").fetch_one(db).await?, "value")
}

/// Counts the policy epoch up: some bundle may be another one now.
pub async fn next_epoch(tx: &mut AnyConnection) -> Result<(), Error> {
    sqlx::query("update policy_epoch set value = value + 1").execute(tx).await?;
    Ok(())
}

/// The custom groups of computers that this one is in.
pub async fn groups_of(db: &mut AnyConnection, computer: ComputerId) -> Result<Vec<GroupId>, Error> {
    let rows = sqlx::query("select group_id from group_computers where computer_id = $1")
        .bind(computer.to_string())
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| parsed(row, "group_id")).collect()
}

/// A deployed policy as it is stored: kind, the version's document, and the groups it is deployed to.
#[derive(Debug)]
pub struct Deployed {
    /// Its kind's word.
    pub kind: String,
    /// Which.
    pub policy: PolicyId,
    /// The document of the deployed version.
    pub document: String,
}

/// Every deployment, in the order of their policies.
pub async fn deployed(db: &mut AnyConnection) -> Result<Vec<Deployed>, Error> {
    let rows = sqlx::query(
        "select p.kind, p.id, v.document from deployments d
         join policies p on p.id = d.policy_id
         join policy_versions v on v.policy_id = d.policy_id and v.version = d.version
         order by p.id",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Deployed {
                kind: row.try_get("kind")?,
                policy: parsed(row, "id")?,
                document: row.try_get("document")?,
            })
        })
        .collect()
}

/// To which groups policies are deployed: policy, group, the group's kind, and its users.
pub async fn deployed_to(db: &mut AnyConnection) -> Result<Vec<(PolicyId, GroupId, String, String)>, Error> {
    let rows = sqlx::query(
        "select d.policy_id, g.id, g.kind, g.users from deployment_groups d
         join custom_groups g on g.id = d.group_id order by d.policy_id, g.id",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok((parsed(row, "policy_id")?, parsed(row, "id")?, row.try_get("kind")?, row.try_get("users")?))
        })
        .collect()
}

/// Keeps a signed bundle, and which versions stand in it. Whether it was new.
pub async fn keep_bundle(
    tx: &mut AnyConnection,
    digest: Sha256,
    signed: &Signed,
    policies: &[(PolicyId, u64)],
    now: Timestamp,
) -> Result<(), Error> {
    let done = sqlx::query(
        "insert into bundles (digest, signed, made) values ($1, $2, $3) on conflict (digest) do nothing",
    )
    .bind(digest.to_string())
    .bind(json(signed)?)
    .bind(now.millis())
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    for (policy, version) in policies {
        sqlx::query("insert into bundle_policies (digest, policy_id, version) values ($1, $2, $3)")
            .bind(digest.to_string())
            .bind(policy.to_string())
            .bind(number(*version))
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
