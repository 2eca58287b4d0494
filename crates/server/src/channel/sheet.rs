//! A computer's sheet: read at one point in time, signed when asked.

use std::sync::Arc;

use elevon_policy::id::{ComputerId, Version};
use elevon_policy::sheet::Sheet;
use elevon_policy::time::Span;
use elevon_wire::signed::{Purpose, Signed};

use super::bundles::{self, Made};
use super::sql;
use crate::app::App;
use crate::audit::{self, Origin};
use crate::error::Error;
use crate::{grants, requests};

/// Without a newer sheet, nothing is elevated after this long.
pub const LEASE: Span = Span::from_days(7);
/// How long an answer stays on the sheet.
pub const ANSWERS: Span = Span::from_hours(24);
/// So many answers stand on a sheet; older ones leave it early, lest a computer that asks without end makes it grow.
const MOST_ANSWERS: i64 = 200;

/// The sheet of a computer, signed, and the bundle it goes with.
pub async fn signed(app: &App, computer: ComputerId) -> Result<(Signed, Arc<Made>), Error> {
    let now = app.now();
    let mut db = app.db.snapshot().await?;
    let version = sql::version(&mut db, computer).await?;
    let bundle = bundles::of(app, &mut db, computer).await?;
    let grants = grants::sql::on_sheet(&mut db, computer).await?;
    let sheet = Sheet {
        computer,
        version: Version(version.sheet()),
        issued: now,
        lease_ends: now.after(LEASE),
        bundle: bundle.digest,
        grants: grants.in_force,
        revoking: grants.revoking,
        locks: Vec::new(),
        answers: requests::sql::answers(&mut db, computer, now.before(ANSWERS), MOST_ANSWERS).await?,
        stored: audit::sql::head(&mut db, Origin::Computer(computer)).await?,
        checkpoint: audit::checkpoints::sql::witnessed(&mut db).await?,
    };
    db.rollback().await?;
    bundles::keep(app, &bundle).await?;
    Ok((Signed::seal(&app.keys.signing, Purpose::Sheet, &sheet), bundle))
}
