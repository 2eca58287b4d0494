//! Requests over the API.

use axum::Json;
use axum::extract::{Path, Query, State};
use elevon_policy::grant::Grant;
use elevon_policy::id::{RequestId, Version};
use elevon_policy::lists::Covers;
use elevon_policy::request::{Approval, RequestRecord};
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use serde::Deserialize;

use super::Row;
use crate::app::App;
use crate::auth::{Approver, Reader};
use crate::error::Error;
use crate::listing::Listing;

/// Which requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Those that wait for a decision.
    #[default]
    Pending,
    /// Those that are over.
    History,
}

/// The question for a list.
#[derive(Debug, Default, Deserialize)]
pub struct Question {
    /// Which requests; pending ones when left out.
    #[serde(default)]
    pub which: Which,
    /// Where to go on.
    pub cursor: Option<String>,
}

/// `GET /api/v1/requests`
pub async fn list(
    State(app): State<App>,
    by: Reader,
    Query(question): Query<Question>,
) -> Result<Json<Listing<Row>>, Error> {
    Ok(Json(match question.which {
        Which::Pending => super::pending(&app, &by, question.cursor.as_deref()).await?,
        Which::History => super::history(&app, &by, question.cursor.as_deref()).await?,
    }))
}

/// `GET /api/v1/requests/{id}`
pub async fn find(State(app): State<App>, by: Reader, Path(id): Path<RequestId>) -> Result<Json<Row>, Error> {
    super::find(&app, &by, id).await.map(Json)
}

/// An approval.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The version of the request that was looked at.
    pub seen: Version,
    /// For how long, such as `15m`; not longer than asked.
    pub duration: Span,
    /// For these arguments or any.
    #[serde(default)]
    pub covers: Covers,
    /// To the user.
    #[serde(default)]
    pub comment: Text,
}

/// `POST /api/v1/requests/{id}/approve`
pub async fn approve(
    State(app): State<App>,
    by: Approver,
    Path(id): Path<RequestId>,
    Json(approve): Json<Approve>,
) -> Result<Json<Grant>, Error> {
    let approval = Approval { duration: approve.duration, covers: approve.covers, comment: approve.comment };
    super::approve(&app, &by, id, approve.seen, approval).await.map(Json)
}

/// A refusal, with a word to the user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    /// The version that was looked at.
    pub seen: Version,
    /// To the user.
    #[serde(default)]
    pub comment: Text,
}

/// `POST /api/v1/requests/{id}/decline`
pub async fn decline(
    State(app): State<App>,
    by: Approver,
    Path(id): Path<RequestId>,
    Json(decline): Json<Comment>,
) -> Result<Json<RequestRecord>, Error> {
    super::decline(&app, &by, id, decline.seen, decline.comment).await.map(Json)
}
