//! Computers and enrollment tokens over the API.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use elevon_policy::id::{ComputerId, GroupId, TokenId};
use elevon_policy::time::Span;
use serde::{Deserialize, Serialize};

use super::{Row, TokenRow};
use crate::app::App;
use crate::auth::{Administrator, Reader};
use crate::error::Error;
use crate::listing::Listing;

/// `GET /api/v1/computers`
pub async fn list(State(app): State<App>, by: Reader) -> Result<Json<Listing<Row>>, Error> {
    Ok(Json(Listing { items: super::list(&app, &by).await?, next: None }))
}

/// `GET /api/v1/computers/{id}`
pub async fn find(
    State(app): State<App>,
    by: Reader,
    Path(id): Path<ComputerId>,
) -> Result<Json<Row>, Error> {
    super::find(&app, &by, id).await.map(Json)
}

/// `POST /api/v1/computers/{id}/revoke`
pub async fn revoke(
    State(app): State<App>,
    by: Administrator,
    Path(id): Path<ComputerId>,
) -> Result<StatusCode, Error> {
    super::revoke(&app, &by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a token shall be good for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// How many computers; one when left out.
    #[serde(default = "one")]
    pub uses: u64,
    /// For how long; a day when left out.
    #[serde(default = "day")]
    pub expires: Span,
    /// The custom group that each computer joins.
    pub group: Option<GroupId>,
}

fn one() -> u64 {
    1
}

fn day() -> Span {
    Span::from_hours(24)
}

/// A token, shown once.
#[derive(Debug, Serialize)]
pub struct Token {
    /// The line to copy.
    pub token: String,
}

/// `POST /api/v1/enrollment-tokens`
pub async fn create_token(
    State(app): State<App>,
    by: Administrator,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<Token>), Error> {
    let token = super::create_token(&app, &by, new.uses, new.expires, new.group).await?;
    Ok((StatusCode::CREATED, Json(Token { token: token.reveal() })))
}

/// `GET /api/v1/enrollment-tokens`
pub async fn tokens(State(app): State<App>, by: Administrator) -> Result<Json<Listing<TokenRow>>, Error> {
    Ok(Json(Listing { items: super::tokens(&app, &by).await?, next: None }))
}

/// `POST /api/v1/enrollment-tokens/{id}/revoke`
pub async fn revoke_token(
    State(app): State<App>,
    by: Administrator,
    Path(id): Path<TokenId>,
) -> Result<StatusCode, Error> {
    super::revoke_token(&app, &by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
