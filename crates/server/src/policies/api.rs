//! Lists over the API. Bodies are the documents themselves.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use elevon_policy::decide::ListKind;
use elevon_policy::id::{GroupId, PolicyId, RuleId, Version};
use elevon_policy::lint::{Code, Warning};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, Stored, Summary};
use crate::app::{App, chance};
use crate::auth::{Administrator, Reader};
use crate::error::Error;
use crate::listing::Listing;

/// What was saved.
#[derive(Debug, Serialize)]
pub struct Saved {
    /// The list.
    pub id: PolicyId,
    /// Its version now.
    pub version: Version,
    /// What its rules let through more than they seem to. It is saved all the same; that it was told is recorded.
    pub warnings: Vec<Warned>,
}

/// A warning of one rule.
#[derive(Debug, Serialize)]
pub struct Warned {
    /// The rule's place in the list, from 0.
    pub rule: usize,
    /// The machine's word.
    pub code: Code,
    /// In one sentence.
    pub sentence: String,
}

impl Saved {
    fn new((id, version): (PolicyId, Version), warnings: Vec<(usize, Warning)>) -> Self {
        let told = |(rule, warning): (usize, Warning)| Warned {
            rule,
            code: warning.code,
            sentence: warning.to_string(),
        };
        Self { id, version, warnings: warnings.into_iter().map(told).collect() }
    }
}

/// A deployment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Which version.
    pub version: Version,
    /// To which custom groups.
    pub groups: Vec<GroupId>,
}

macro_rules! doors {
    ($($room:ident: $kind:ident),+ $(,)?) => {$(
        /// The doors to one kind of list.
        pub mod $room {
            use super::*;

            const KIND: ListKind = ListKind::$kind;

            /// All of them.
            pub async fn list(State(app): State<App>, by: Reader) -> Result<Json<Listing<Summary>>, Error> {
                Ok(Json(Listing { items: crate::policies::lists(&app, &by, KIND).await?, next: None }))
            }

            /// A new one.
            pub async fn create(
                State(app): State<App>,
                by: Administrator,
                Json(document): Json<Value>,
            ) -> Result<(StatusCode, Json<Saved>), Error> {
                create_list(&app, &by, KIND, document).await
            }

            /// One of them.
            pub async fn find(
                State(app): State<App>,
                by: Reader,
                Path(id): Path<PolicyId>,
            ) -> Result<Json<Stored>, Error> {
                of_kind(crate::policies::find(&app, &by, id).await?, KIND).map(Json)
            }

            /// Its next version.
            pub async fn update(
                State(app): State<App>,
                by: Administrator,
                Path(id): Path<PolicyId>,
                Json(document): Json<Value>,
            ) -> Result<Json<Saved>, Error> {
                update_list(&app, &by, KIND, id, document).await
            }

            /// Deploys it.
            pub async fn deploy(
                State(app): State<App>,
                by: Administrator,
                Path(id): Path<PolicyId>,
                Json(deploy): Json<Deploy>,
            ) -> Result<StatusCode, Error> {
                crate::policies::deploy(&app, &by, id, deploy.version, deploy.groups).await?;
                Ok(StatusCode::NO_CONTENT)
            }

            /// Ends its deployment.
            pub async fn withdraw(
                State(app): State<App>,
                by: Administrator,
                Path(id): Path<PolicyId>,
            ) -> Result<StatusCode, Error> {
                crate::policies::withdraw(&app, &by, id).await?;
                Ok(StatusCode::NO_CONTENT)
            }
        }
    )+};
}

doors! {
    privileged: PrivilegedApplicationList,
    allow: Allowlist,
    block: Blocklist,
}

async fn create_list(
    app: &App,
    by: &Administrator,
    kind: ListKind,
    document: Value,
) -> Result<(StatusCode, Json<Saved>), Error> {
    let (document, _) = read(app, kind, document)?;
    let warnings = document.warnings(kind);
    let saved = super::save(app, by, kind, None, None, document).await?;
    Ok((StatusCode::CREATED, Json(Saved::new(saved, warnings))))
}

async fn update_list(
    app: &App,
    by: &Administrator,
    kind: ListKind,
    id: PolicyId,
    document: Value,
) -> Result<Json<Saved>, Error> {
    let (document, seen) = read(app, kind, document)?;
    let warnings = document.warnings(kind);
    let saved = super::save(app, by, kind, Some(id), seen, document).await?;
    Ok(Json(Saved::new(saved, warnings)))
}

fn of_kind(stored: Stored, kind: ListKind) -> Result<Stored, Error> {
    if stored.summary.kind == kind { Ok(stored) } else { Err(Error::NotFound("list")) }
}

/// Reads a document. Identity and version may be left out, and so may rules' identities: the server gives them.
fn read(app: &App, kind: ListKind, mut document: Value) -> Result<(Document, Option<Version>), Error> {
    let unreadable =
        |error: serde_json::Error| Error::invalid(format!("expected a list's document: {error}"));
    let now = app.now();
    let Some(fields) = document.as_object_mut() else {
        return Err(Error::invalid("expected a list's document, a JSON object"));
    };
    let seen = fields.get("version").cloned().map(serde_json::from_value).transpose().map_err(unreadable)?;
    fields.entry("version").or_insert_with(|| 1.into());
    fields.entry("id").or_insert_with(|| PolicyId::new(now, chance()).to_string().into());
    let rules = fields.entry("rules").or_insert_with(|| Value::Array(Vec::new()));
    for rule in rules.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        rule.entry("id").or_insert_with(|| RuleId::new(now, chance()).to_string().into());
    }
    let document = match kind {
        ListKind::PrivilegedApplicationList => {
            Document::Privileged(serde_json::from_value(document).map_err(unreadable)?)
        }
        ListKind::Allowlist | ListKind::Blocklist => {
            Document::List(serde_json::from_value(document).map_err(unreadable)?)
        }
    };
    Ok((document, seen))
}
