//! Custom groups: named sets of computers or of users, to which policies are deployed.

pub mod api;
pub mod pages;
pub mod sql;

use std::collections::BTreeSet;

use elevon_policy::event::What;
use elevon_policy::group::{CustomGroup, Members};
use elevon_policy::id::{ComputerId, GroupId, Version};
use serde::Serialize;

use crate::app::{App, chance};
use crate::auth::{Administrator, Reader};
use crate::error::Error;
use crate::{audit, channel, policies};

/// The most members of one group of users.
const USERS: usize = 10_000;

/// A group and its version.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The group.
    #[serde(flatten)]
    pub group: CustomGroup,
    /// Goes up with each saving.
    pub version: Version,
}

/// All groups, by name.
pub async fn list(app: &App, _: &Reader) -> Result<Vec<Row>, Error> {
    let mut db = app.db.read().await?;
    sql::list(&mut db).await
}

/// One group.
pub async fn find(app: &App, _: &Reader, id: GroupId) -> Result<Row, Error> {
    let mut db = app.db.read().await?;
    sql::find(&mut db, id).await?.ok_or(Error::NotFound("custom group"))
}

/// Saves a group; without `id` a new one. `seen` is the version that was changed. A group stays one of computers or one
/// of users. What the document itself says of identity is replaced.
pub async fn save(
    app: &App,
    by: &Administrator,
    id: Option<GroupId>,
    seen: Option<Version>,
    mut group: CustomGroup,
) -> Result<(GroupId, Version), Error> {
    policies::check::name(&group.name)?;
    if let Members::Users { users } = &group.members
        && users.len() > USERS
    {
        return Err(Error::field("members", format!("expected at most {USERS} users")));
    }
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let before = match id {
        None => None,
        Some(id) => Some(sql::find(&mut tx, id).await?.ok_or(Error::NotFound("custom group"))?),
    };
    group.id = id.unwrap_or_else(|| GroupId::new(now, chance()));
    let changed = changed_computers(before.as_ref().map(|row| &row.group.members), &group.members)?;
    // Computers first, in order: other transactions take their rows first as well.
    for computer in &changed {
        channel::touch(&mut tx, app, *computer).await.map_err(|_| Error::NotFound("computer"))?;
    }
    let version = match &before {
        None => {
            sql::insert(&mut tx, &group).await?;
            Version::FIRST
        }
        Some(_) => {
            let seen =
                seen.ok_or_else(|| Error::field("version", "expected the version that was changed"))?;
            sql::update(&mut tx, &group, seen).await?;
            seen.next()
        }
    };
    let users_changed =
        matches!(group.members, Members::Users { .. }) && sql::is_deployed(&mut tx, group.id).await?;
    if users_changed {
        channel::sql::next_epoch(&mut tx).await?;
    }
    let members = match &group.members {
        Members::Computers { computers } => computers.len(),
        Members::Users { users } => users.len(),
    };
    let what = What::GroupSaved {
        group: group.id,
        name: group.name.clone(),
        members: u64::try_from(members).unwrap_or(u64::MAX),
    };
    audit::append(&mut tx, by.actor(), now, what).await?;
    tx.commit().await?;
    changed.iter().for_each(|computer| app.news.wake(*computer));
    if users_changed {
        policies::told(app).await;
    } else if !changed.is_empty() {
        policies::judge_again(app).await;
    }
    Ok((group.id, version))
}

/// Computers that join or leave: their bundle is another one.
fn changed_computers(before: Option<&Members>, after: &Members) -> Result<BTreeSet<ComputerId>, Error> {
    let set = |members: &Members| match members {
        Members::Computers { computers } => computers.iter().copied().collect(),
        Members::Users { .. } => BTreeSet::new(),
    };
    if before.is_some_and(|before| std::mem::discriminant(before) != std::mem::discriminant(after)) {
        return Err(Error::field(
            "members",
            "a group stays one of computers or one of users; make a new group",
        ));
    }
    Ok(before.map(set).unwrap_or_default().symmetric_difference(&set(after)).copied().collect())
}
