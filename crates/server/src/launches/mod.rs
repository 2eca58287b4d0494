//! Launches: each execution under a grant, as its computer reports it.

pub mod api;
pub mod sql;

use std::collections::HashMap;

use elevon_policy::application::Sha256;
use elevon_policy::event::{EndReason, Event, Exit, Layers, What};
use elevon_policy::id::{ComputerId, GrantId, LaunchId};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Timestamp;
use serde::Serialize;
use sqlx::AnyConnection;

use crate::app::App;
use crate::auth::Reader;
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

/// What a computer reports of launches under grants of its own, in its order.
pub async fn reported(tx: &mut AnyConnection, computer: ComputerId, events: Vec<Event>) -> Result<(), Error> {
    let (mut launches, mut ends) = (Vec::<Launch>::new(), Vec::new());
    let mut places = HashMap::new();
    for Event { at, what, .. } in events {
        match what {
            What::LaunchStarted { launch: id, grant, user, path, sha256, argv, end, layers, .. } => {
                let user = user.name;
                let (ended, reason, exit, started) = (None, None, None, at);
                places.entry(id).or_insert_with(|| {
                    launches.push(Launch {
                        id,
                        computer,
                        grant,
                        user,
                        path,
                        sha256,
                        argv,
                        layers,
                        started,
                        end,
                        ended,
                        reason,
                        exit,
                    });
                    launches.len() - 1
                });
            }
            What::LaunchEnded { launch, reason, exit, .. } => {
                match places.get(&launch).and_then(|place: &usize| launches.get_mut(*place)) {
                    Some(launch) if launch.ended.is_none() => {
                        (launch.ended, launch.reason, launch.exit) = (Some(at), Some(reason), exit);
                    }
                    Some(_) => {}
                    None => ends.push((launch, at, reason, exit)),
                }
            }
            _ => {}
        }
    }
    started(tx, computer, &launches).await?;
    for (launch, at, reason, exit) in ends {
        if sql::computer_of(tx, launch).await?.is_some_and(|owner| owner != computer) {
            return Err(not_its_own("launch"));
        }
        sql::end(tx, computer, launch, at, reason, exit).await?;
    }
    Ok(())
}

async fn started(tx: &mut AnyConnection, computer: ComputerId, launches: &[Launch]) -> Result<(), Error> {
    if sql::insert(tx, launches).await? {
        return Ok(());
    }
    // Some were known already; the first word about each counts.
    for launch in launches {
        if sql::computer_of(tx, launch.id).await? != Some(computer) {
            return Err(not_its_own("launch"));
        }
        if let (Some(at), Some(reason)) = (launch.ended, launch.reason) {
            sql::end(tx, computer, launch.id, at, reason, launch.exit).await?;
        }
    }
    Ok(())
}
