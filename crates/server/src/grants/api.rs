//! Grants over the API.

use axum::Json;
use axum::extract::{Path, Query, State};
use elevon_policy::grant::GrantRecord;
use elevon_policy::id::{GrantId, Version};
use elevon_policy::text::Text;
use serde::Deserialize;

use super::Row;
use crate::app::App;
use crate::auth::{Approver, Reader};
use crate::error::Error;
use crate::listing::Listing;

/// Which grants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Those that are in force or being revoked.
    #[default]
    Active,
    /// Those that are over.
    History,
}

/// The question for a list.
#[derive(Debug, Default, Deserialize)]
pub struct Question {
    /// Which grants; active ones when left out.
    #[serde(default)]
    pub which: Which,
    /// Where to go on.
    pub cursor: Option<String>,
}

/// `GET /api/v1/grants`
pub async fn list(
    State(app): State<App>,
    by: Reader,
    Query(question): Query<Question>,
) -> Result<Json<Listing<Row>>, Error> {
    Ok(Json(match question.which {
        Which::Active => super::active(&app, &by, question.cursor.as_deref()).await?,
        Which::History => super::history(&app, &by, question.cursor.as_deref()).await?,
    }))
}

/// `GET /api/v1/grants/{id}`
pub async fn find(State(app): State<App>, by: Reader, Path(id): Path<GrantId>) -> Result<Json<Row>, Error> {
    super::find(&app, &by, id).await.map(Json)
}

/// The end of a grant, with a word to the user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The version it must still be at; any when left out.
    pub seen: Option<Version>,
    /// To the user.
    #[serde(default)]
    pub comment: Text,
}

/// `POST /api/v1/grants/{id}/revoke`
pub async fn revoke(
    State(app): State<App>,
    by: Approver,
    Path(id): Path<GrantId>,
    Json(revoke): Json<Revoke>,
) -> Result<Json<GrantRecord>, Error> {
    super::revoke(&app, &by, id, revoke.seen, revoke.comment).await.map(Json)
}
