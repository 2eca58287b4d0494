//! API tokens: `Authorization: Bearer SECRET`, known here by its digest only.

use axum::http::{HeaderMap, header};

use super::{Actor, secret_hash, sql};
use crate::app::App;
use crate::error::Error;

/// Who holds the token that these headers carry. An unknown token is an error, not nobody.
pub async fn actor(app: &App, headers: &HeaderMap) -> Result<Option<Actor>, Error> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let unknown =
        || Error::Unauthenticated("expected Authorization: Bearer with an API token that is in force".into());
    let value = value.to_str().map_err(|_| unknown())?;
    let (scheme, secret) = value.split_once(' ').ok_or_else(unknown)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unknown());
    }
    let mut db = app.db.read().await?;
    Ok(Some(sql::api_token(&mut db, &secret_hash(secret.trim())).await?.ok_or_else(unknown)?))
}
