//! Events over the API.

use axum::Json;
use axum::extract::{Query, State};
use axum::response::Response;

use super::{Filter, Page};
use crate::app::App;
use crate::auth::Reader;
use crate::error::Error;
use crate::listing::Part;

/// `GET /api/v1/events`
pub async fn list(
    State(app): State<App>,
    by: Reader,
    Query(filter): Query<Filter>,
    Query(part): Query<Part>,
) -> Result<Json<Page>, Error> {
    super::events(&app, &by, &filter, part.cursor.as_deref()).await.map(Json)
}

/// `GET /api/v1/events.csv`, and `GET /events.csv` for the console
pub async fn csv(State(app): State<App>, by: Reader, Query(filter): Query<Filter>) -> Response {
    super::csv::stream(app, &by, filter)
}
