//! The agents' port. Bodies are wire's.

use axum::Json;
use axum::extract::{Query, State as AppState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use elevon_wire::channel::{
    Enroll, Enrolled, Events, Renew, Renewed, StateQuestion, Stored, TimeQuestion, TimeStatement,
};
use elevon_wire::signed::{Purpose, Signed};

use super::events;
use crate::app::App;
use crate::auth::computer::Computer;
use crate::computers;
use crate::error::Error;

/// `POST /channel/v1/enroll`
pub async fn enroll(
    AppState(app): AppState<App>,
    Json(enroll): Json<Enroll>,
) -> Result<Json<Enrolled>, Error> {
    computers::enroll(&app, enroll).await.map(Json)
}

/// `GET /channel/v1/state`
pub async fn state(
    AppState(app): AppState<App>,
    computer: Computer,
    Query(question): Query<StateQuestion>,
) -> Result<Response, Error> {
    Ok(match super::state(&app, computer.id, question).await? {
        Some(state) => Json(state).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// `POST /channel/v1/events`
pub async fn events(
    AppState(app): AppState<App>,
    computer: Computer,
    Json(events): Json<Events>,
) -> Result<Json<Stored>, Error> {
    events::store(&app, &computer, &events).await.map(Json)
}

/// `POST /channel/v1/certificate`
pub async fn certificate(
    AppState(app): AppState<App>,
    computer: Computer,
    Json(renew): Json<Renew>,
) -> Result<Json<Renewed>, Error> {
    computers::renew(&app, &computer, &renew).await.map(Json)
}

/// `POST /channel/v1/time`
pub async fn time(
    AppState(app): AppState<App>,
    _: Computer,
    Json(question): Json<TimeQuestion>,
) -> Json<Signed> {
    let statement = TimeStatement { nonce: question.nonce, at: app.now() };
    Json(Signed::seal(&app.keys.signing, Purpose::Time, &statement))
}
