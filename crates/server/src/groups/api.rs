//! Custom groups over the API.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use elevon_policy::group::{CustomGroup, Members};
use elevon_policy::id::{GroupId, Version};
use elevon_policy::text::Text;
use serde::{Deserialize, Serialize};

use super::Row;
use crate::app::{App, chance};
use crate::auth::{Administrator, Reader};
use crate::error::Error;
use crate::listing::Listing;

/// A group as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// What people call it.
    pub name: Text,
    /// Who is in it.
    pub members: Members,
    /// The version that was changed; only when one is changed.
    pub version: Option<Version>,
    /// Its identity may be sent back; the address decides.
    pub id: Option<GroupId>,
}

/// What was saved.
#[derive(Debug, Serialize)]
pub struct Saved {
    /// The group.
    pub id: GroupId,
    /// Its version now.
    pub version: Version,
}

/// `GET /api/v1/groups`
pub async fn list(State(app): State<App>, by: Reader) -> Result<Json<Listing<Row>>, Error> {
    Ok(Json(Listing { items: super::list(&app, &by).await?, next: None }))
}

/// `GET /api/v1/groups/{id}`
pub async fn find(State(app): State<App>, by: Reader, Path(id): Path<GroupId>) -> Result<Json<Row>, Error> {
    super::find(&app, &by, id).await.map(Json)
}

/// `POST /api/v1/groups`
pub async fn create(
    State(app): State<App>,
    by: Administrator,
    Json(body): Json<Body>,
) -> Result<(StatusCode, Json<Saved>), Error> {
    let group = CustomGroup { id: GroupId::new(app.now(), chance()), name: body.name, members: body.members };
    let (id, version) = super::save(&app, &by, None, None, group).await?;
    Ok((StatusCode::CREATED, Json(Saved { id, version })))
}

/// `PUT /api/v1/groups/{id}`
pub async fn update(
    State(app): State<App>,
    by: Administrator,
    Path(id): Path<GroupId>,
    Json(body): Json<Body>,
) -> Result<Json<Saved>, Error> {
    let group = CustomGroup { id, name: body.name, members: body.members };
    let (id, version) = super::save(&app, &by, Some(id), body.version, group).await?;
    Ok(Json(Saved { id, version }))
}
