//! Files over the API: the body is the file.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use elevon_identify::upload::Upload;
use elevon_policy::text::OsText;
use serde::{Deserialize, Serialize};

use super::offers::{Offer, offers};
use crate::app::App;
use crate::auth::Administrator;
use crate::error::Error;

/// What the file is called.
#[derive(Debug, Deserialize)]
pub struct Called {
    #[serde(default)]
    name: String,
}

/// What was measured, and which rules can be made of it.
#[derive(Debug, Serialize)]
pub struct Answer {
    name: OsText,
    #[serde(flatten)]
    upload: Upload,
    offers: Vec<Offer>,
}

/// `POST /api/v1/uploads`
pub async fn measure(
    State(app): State<App>,
    by: Administrator,
    Query(called): Query<Called>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answer>, Error> {
    let measured = super::measure(&app, &by, &called.name, length(&headers), body.into_data_stream()).await?;
    let offers = offers(&measured);
    Ok(Json(Answer { name: measured.name, upload: measured.upload, offers }))
}

/// How long a body is said to be.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
