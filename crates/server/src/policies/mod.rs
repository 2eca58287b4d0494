//! Privileged application lists, allowlists and blocklists: saved as versions, deployed to custom groups.

pub mod api;
pub mod check;
pub mod draft;
pub mod pages;
pub mod sql;

use std::collections::BTreeSet;

use elevon_policy::decide::ListKind;
use elevon_policy::event::What;
use elevon_policy::id::{GroupId, PolicyId, Version};
use elevon_policy::lint::{self, Warning};
use elevon_policy::lists::{ApplicationList, PrivilegedApplicationList};
use elevon_policy::rule::Listed;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use serde::Serialize;
use sqlx::AnyConnection;

use crate::app::{App, chance};
use crate::auth::{Administrator, Reader};
use crate::error::Error;
use crate::{audit, channel, groups, requests};

/// The document of one list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Document {
    /// A privileged application list.
    Privileged(Box<PrivilegedApplicationList>),
    /// An allowlist or a blocklist.
    List(Box<ApplicationList>),
}

impl Document {
    /// What people call it.
    pub fn name(&self) -> &Text {
        match self {
            Self::Privileged(list) => &list.name,
            Self::List(list) => &list.name,
        }
    }

    /// Whether it says anything.
    pub fn enabled(&self) -> bool {
        match self {
            Self::Privileged(list) => list.enabled,
            Self::List(list) => list.enabled,
        }
    }

    /// Its rules.
    pub fn rules(&self) -> &[Listed] {
        match self {
            Self::Privileged(list) => &list.rules,
            Self::List(list) => &list.rules,
        }
    }

    /// What its rules let through more than they seem to, each with the rule's place. A blocklist lets nothing through.
    pub fn warnings(&self, kind: ListKind) -> Vec<(usize, Warning)> {
        match (self, kind) {
            (_, ListKind::Blocklist) => Vec::new(),
            (Self::Privileged(list), _) => lint::of_privileged(list),
            (Self::List(list), _) => lint::of_allowlist(list),
        }
    }

    fn fits(&self, kind: ListKind) -> bool {
        matches!(self, Self::Privileged(_)) == (kind == ListKind::PrivilegedApplicationList)
    }

    fn numbered(&mut self, policy: PolicyId, number: Version) {
        let (id, version) = match self {
            Self::Privileged(list) => (&mut list.id, &mut list.version),
            Self::List(list) => (&mut list.id, &mut list.version),
        };
        (*id, *version) = (policy, number);
    }
}

/// A list as it stands in a list of lists.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Its identity.
    pub id: PolicyId,
    /// Which kind of list.
    pub kind: ListKind,
    /// What people call it.
    pub name: Text,
    /// The latest version.
    pub version: Version,
    /// Whether the latest version says anything.
    pub enabled: bool,
    /// The version that is deployed.
    pub deployed_version: Option<Version>,
    /// To how many computers it is deployed.
    pub computers_total: u64,
    /// How many of them have said that they hold that version.
    pub computers_current: u64,
}

/// A list, whole.
#[derive(Debug, Clone, Serialize)]
pub struct Stored {
    /// As in a list of lists.
    #[serde(flatten)]
    pub summary: Summary,
    /// The latest version.
    pub document: Document,
    /// Where it is deployed.
    pub deployment: Option<Deployment>,
}

/// Which version of a list is deployed, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deployment {
    /// The version.
    pub version: Version,
    /// Since when.
    pub deployed: Timestamp,
    /// To which custom groups.
    pub groups: Vec<GroupId>,
}

/// All lists of a kind, by name.
pub async fn lists(app: &App, _: &Reader, kind: ListKind) -> Result<Vec<Summary>, Error> {
    let mut db = app.db.snapshot().await?;
    let lists = sql::lists(&mut db, kind).await?;
    db.rollback().await?;
    Ok(lists)
}

/// One list, in its latest version.
pub async fn find(app: &App, _: &Reader, id: PolicyId) -> Result<Stored, Error> {
    let mut db = app.db.snapshot().await?;
    let found = sql::find(&mut db, id).await?;
    db.rollback().await?;
    found.ok_or(Error::NotFound("list"))
}

/// One list in one version.
pub async fn version(app: &App, _: &Reader, id: PolicyId, version: Version) -> Result<Document, Error> {
    let mut db = app.db.read().await?;
    sql::version(&mut db, id, version).await?.ok_or(Error::NotFound("version of this list"))
}

/// Saves a list as a new version; without `id` a new list. `seen` is the version that was changed. What the document
/// itself says of identity and version is replaced. Nothing changes on any computer until it is deployed.
pub async fn save(
    app: &App,
    by: &Administrator,
    kind: ListKind,
    id: Option<PolicyId>,
    seen: Option<Version>,
    mut document: Document,
) -> Result<(PolicyId, Version), Error> {
    if !document.fits(kind) {
        return Err(Error::invalid("this document is of another kind of list"));
    }
    check::check(&document)?;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let (id, version) = match id {
        None => {
            let id = PolicyId::new(now, chance());
            document.numbered(id, Version::FIRST);
            sql::insert(&mut tx, id, kind, &document).await?;
            (id, Version::FIRST)
        }
        Some(id) => {
            let seen =
                seen.ok_or_else(|| Error::field("version", "expected the version that was changed"))?;
            if sql::kind(&mut tx, id).await? != Some(kind) {
                return Err(Error::NotFound("list"));
            }
            document.numbered(id, seen.next());
            sql::update(&mut tx, id, seen, &document).await?;
            (id, seen.next())
        }
    };
    sql::keep_version(&mut tx, id, version, &document, now).await?;
    let warned_of: BTreeSet<_> =
        document.warnings(kind).into_iter().map(|(_, warning)| warning.code).collect();
    let what = What::PolicySaved {
        policy: id,
        version,
        name: document.name().clone(),
        acknowledged: warned_of.into_iter().collect(),
    };
    audit::append(&mut tx, by.actor(), now, what).await?;
    tx.commit().await?;
    app.news.changed();
    Ok((id, version))
}

/// Deploys a version to custom groups, in place of whatever was deployed of this list.
pub async fn deploy(
    app: &App,
    by: &Administrator,
    id: PolicyId,
    version: Version,
    groups: Vec<GroupId>,
) -> Result<(), Error> {
    if groups.is_empty() {
        return Err(Error::field(
            "groups",
            "choose at least one custom group; to end a deployment, withdraw it",
        ));
    }
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let document =
        sql::version(&mut tx, id, version).await?.ok_or(Error::NotFound("version of this list"))?;
    for group in &groups {
        groups::sql::find(&mut tx, *group).await?.ok_or(Error::NotFound("custom group"))?;
    }
    sql::deploy(&mut tx, id, version, &groups, now).await?;
    moved_on(&mut tx, by, now, document_deployed(id, version, &document, groups)).await?;
    tx.commit().await?;
    told(app).await;
    Ok(())
}

/// Ends a deployment: the list says nothing on any computer any more.
pub async fn withdraw(app: &App, by: &Administrator, id: PolicyId) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let version = sql::deployed_version(&mut tx, id).await?;
    let version = version.ok_or_else(|| Error::Conflict("this list is not deployed".into()))?;
    let document =
        sql::version(&mut tx, id, version).await?.ok_or(Error::NotFound("version of this list"))?;
    sql::withdraw(&mut tx, id).await?;
    moved_on(&mut tx, by, now, document_deployed(id, version, &document, Vec::new())).await?;
    tx.commit().await?;
    told(app).await;
    Ok(())
}

fn document_deployed(id: PolicyId, version: Version, document: &Document, groups: Vec<GroupId>) -> What {
    What::PolicyDeployed { policy: id, version, name: document.name().clone(), groups }
}

async fn moved_on(
    tx: &mut AnyConnection,
    by: &Administrator,
    now: Timestamp,
    what: What,
) -> Result<(), Error> {
    channel::sql::next_epoch(tx).await?;
    audit::append(tx, by.actor(), now, what).await
}

/// After the policies in force changed: computers fetch them, and requests that nobody may make any more lapse.
pub async fn told(app: &App) {
    app.news.wake_all();
    judge_again(app).await;
}

/// Lets pending requests lapse that nobody may make any more. What changed is stored by now, so a failure here fails
/// nobody: each request is judged again when it is decided.
pub async fn judge_again(app: &App) {
    if let Err(error) = requests::judge_pending(app).await {
        tracing::warn!(%error, "could not look at every pending request after policy changed");
    }
}
