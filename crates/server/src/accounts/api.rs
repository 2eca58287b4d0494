//! Accounts and API tokens over the API.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use elevon_policy::group::Member;
use elevon_policy::id::{AccountId, TokenId};
use elevon_policy::text::Text;
use serde::Deserialize;

use super::{ApiToken, ApiTokenRow, Row};
use crate::app::App;
use crate::auth::{Owner, Reader, Role};
use crate::error::Error;
use crate::listing::Listing;

/// `GET /api/v1/accounts`
pub async fn list(State(app): State<App>, by: Reader) -> Result<Json<Listing<Row>>, Error> {
    Ok(Json(Listing { items: super::list(&app, &by).await?, next: None }))
}

/// A new account.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// What it signs in as.
    pub name: Text,
    /// What it may.
    pub role: Role,
    /// The operating-system users it is tied to; empty means the one of the same name, in any domain.
    #[serde(default)]
    pub os_users: Vec<Member>,
    /// At least 12 characters.
    pub password: String,
}

/// `POST /api/v1/accounts`
pub async fn create(
    State(app): State<App>,
    by: Owner,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, Json<Row>), Error> {
    let row = super::create(&app, &by, new.name, new.role, new.os_users, &new.password).await?;
    Ok((StatusCode::CREATED, Json(row)))
}

/// `POST /api/v1/accounts/{id}/disable`
pub async fn disable(
    State(app): State<App>,
    by: Owner,
    Path(id): Path<AccountId>,
) -> Result<StatusCode, Error> {
    super::disable(&app, &by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/accounts/{id}/enable`
pub async fn enable(
    State(app): State<App>,
    by: Owner,
    Path(id): Path<AccountId>,
) -> Result<StatusCode, Error> {
    super::enable(&app, &by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Another password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// At least 12 characters.
    pub password: String,
}

/// `POST /api/v1/accounts/{id}/password`
pub async fn change_password(
    State(app): State<App>,
    by: Owner,
    Path(id): Path<AccountId>,
    Json(new): Json<NewPassword>,
) -> Result<StatusCode, Error> {
    super::change_password(&app, &by, id, &new.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/api-tokens`
pub async fn tokens(State(app): State<App>, by: Owner) -> Result<Json<Listing<ApiTokenRow>>, Error> {
    Ok(Json(Listing { items: super::api_tokens(&app, &by).await?, next: None }))
}

/// `POST /api/v1/api-tokens/{id}/revoke`
pub async fn revoke_token(
    State(app): State<App>,
    by: Owner,
    Path(id): Path<TokenId>,
) -> Result<StatusCode, Error> {
    super::revoke_api_token(&app, &by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new API token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for.
    pub name: Text,
    /// What it may.
    pub role: Role,
}

/// `POST /api/v1/api-tokens`
pub async fn create_token(
    State(app): State<App>,
    by: Owner,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<ApiToken>), Error> {
    let token = super::create_api_token(&app, &by, new.name, new.role).await?;
    Ok((StatusCode::CREATED, Json(token)))
}
