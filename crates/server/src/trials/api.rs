//! Trials over the API.

use axum::Json;
use axum::extract::State;

use super::{Question, Tried};
use crate::app::App;
use crate::auth::Reader;
use crate::error::Error;

/// `POST /api/v1/trials`: it takes a body, and changes nothing.
pub async fn try_it(
    State(app): State<App>,
    by: Reader,
    Json(question): Json<Question>,
) -> Result<Json<Tried>, Error> {
    super::try_it(&app, &by, question).await.map(Json)
}
