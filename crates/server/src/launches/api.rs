//! Launches over the API.

use axum::Json;
use axum::extract::{Path, Query, State};
use elevon_policy::id::GrantId;
use serde::Deserialize;

use super::Launch;
use crate::app::App;
use crate::auth::Reader;
use crate::error::Error;
use crate::listing::Listing;

/// Which launches.
#[derive(Debug, Deserialize)]
pub struct Question {
    /// Those under this grant.
    pub grant: GrantId,
}

/// `GET /api/v1/launches?grant=ID`
pub async fn list(
    State(app): State<App>,
    by: Reader,
    Query(question): Query<Question>,
) -> Result<Json<Listing<Launch>>, Error> {
    Ok(Json(Listing { items: super::of_grant(&app, &by, question.grant).await?, next: None }))
}

/// `GET /api/v1/grants/{id}/launches`
pub async fn of_grant(
    State(app): State<App>,
    by: Reader,
    Path(grant): Path<GrantId>,
) -> Result<Json<Listing<Launch>>, Error> {
    Ok(Json(Listing { items: super::of_grant(&app, &by, grant).await?, next: None }))
}
