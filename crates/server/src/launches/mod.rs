//! Launches: each execution under a grant, as its computer reports it.

pub mod api;
pub mod sql;

use elevon_policy::application::Sha256;
use elevon_policy::event::{EndReason, Exit, Layers, What};
use elevon_policy::id::{ComputerId, GrantId, LaunchId};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Timestamp;
use serde::Serialize;
use sqlx::AnyConnection;

use crate::app::App;
use crate::auth::Reader;
use crate::channel::events::Effect;
use crate::error::Error;
use crate::requests::not_its_own;

/// One execution under a grant.
#[derive(Debug, Clone, Serialize)]
pub struct Launch {
    /// Its identity.
    pub id: LaunchId,
    /// On which computer.
    pub computer: ComputerId,
    /// Under which grant.
    pub grant: GrantId,
    /// Who: the operating-system account's name.
    pub user: Text,
    /// What.
    pub path: OsText,
    /// Its bytes.
    pub sha256: Sha256,
    /// With which arguments, the program's own name first.
    pub argv: Vec<OsText>,
    /// What ends its process tree.
    pub layers: Layers,
    /// When it started, by the computer's clock.
    pub started: Timestamp,
    /// Until when it may run.
    pub end: Timestamp,
    /// When nothing of it ran any more.
    pub ended: Option<Timestamp>,
    /// What ended it.
    pub reason: Option<EndReason>,
    /// How the application itself ended.
    pub exit: Option<Exit>,
}

/// The launches under a grant, the first first.
pub async fn of_grant(app: &App, _: &Reader, grant: GrantId) -> Result<Vec<Launch>, Error> {
    let mut db = app.db.read().await?;
    sql::of_grant(&mut db, grant).await
}

/// A computer reports a start.
pub async fn started(
    tx: &mut AnyConnection,
    computer: ComputerId,
    what: What,
    at: Timestamp,
) -> Result<Effect, Error> {
    let What::LaunchStarted { launch, grant, user, path, sha256, argv, end, layers, policy: _ } = what else {
        return Ok(Effect::default());
    };
    if let Some(owner) = crate::grants::sql::computer_of(tx, grant).await?.filter(|owner| *owner != computer)
    {
        tracing::warn!(launch.id = %launch, grant.computer = %owner, "a computer reports a launch under another's grant");
        return Err(not_its_own("grant"));
    }
    let launch = Launch {
        id: launch,
        computer,
        grant,
        user: user.name,
        path,
        sha256,
        argv,
        layers,
        started: at,
        end,
        ended: None,
        reason: None,
        exit: None,
    };
    match sql::computer_of(tx, launch.id).await? {
        None => sql::insert(tx, &launch).await?,
        Some(owner) if owner == computer => {}
        Some(_) => return Err(not_its_own("launch")),
    }
    Ok(Effect::default())
}

/// A computer reports an end.
pub async fn ended(
    tx: &mut AnyConnection,
    computer: ComputerId,
    what: What,
    at: Timestamp,
) -> Result<Effect, Error> {
    if let What::LaunchEnded { launch, reason, exit, .. } = what {
        sql::end(tx, computer, launch, at, reason, exit).await?;
    }
    Ok(Effect::default())
}
