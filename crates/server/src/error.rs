//! Why something was not done: one error, one answer. Causes are logged once and never shown.

use std::borrow::Cow;
use std::fmt;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use elevon_policy::grant::IllegalStep;
use elevon_policy::request::DecisionRefused;
use elevon_policy::text::Text;

/// Why something was not done.
#[derive(Debug)]
pub enum Error {
    /// There is no such thing (any more): what was looked for, such as `request`.
    NotFound(&'static str),
    /// It changed, or somebody was quicker: a sentence.
    Conflict(Cow<'static, str>),
    /// What was given does not do: the field, where one is to blame, and a sentence.
    Invalid {
        /// The form's or document's field.
        field: Option<&'static str>,
        /// What was expected.
        sentence: Cow<'static, str>,
    },
    /// Nobody is signed in, or the secret is unknown: a sentence.
    Unauthenticated(Cow<'static, str>),
    /// Whoever asks may not: a sentence.
    Forbidden(Cow<'static, str>),
    /// Too often: a sentence.
    TooMany(Cow<'static, str>),
    /// It is larger than this server takes: the field, and a sentence.
    TooLarge {
        /// The form's or document's field.
        field: &'static str,
        /// What was expected.
        sentence: Cow<'static, str>,
    },
    /// The server has no room for it: the field, and a sentence.
    NoRoom {
        /// The form's or document's field.
        field: &'static str,
        /// What to do.
        sentence: Cow<'static, str>,
    },
    /// Elevon itself failed; the cause goes to the log.
    Internal(Cow<'static, str>),
}

/// What a screen or program is told of an error. Also stands in the response's extensions, for the layer that makes a
/// page of it.
#[derive(Debug, Clone)]
pub struct Told {
    /// The HTTP status.
    pub status: StatusCode,
    /// In a few words, such as `not found`.
    pub title: &'static str,
    /// In a sentence.
    pub detail: String,
    /// The form's or document's field that is to blame.
    pub field: Option<&'static str>,
}

impl Error {
    /// What was given in this field does not do.
    pub fn field(field: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field: Some(field), sentence: sentence.into() }
    }

    /// What was given does not do.
    pub fn invalid(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field: None, sentence: sentence.into() }
    }

    /// Elevon itself failed while doing this; the cause is kept for the log.
    pub fn internal(doing: &str, cause: impl fmt::Display) -> Self {
        Self::Internal(format!("{doing}: {cause}").into())
    }

    /// What a screen or program is told.
    pub fn told(&self) -> Told {
        let (status, title) = match self {
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not found"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "not accepted"),
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "not signed in"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "not allowed"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too many tries"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too large"),
            Self::NoRoom { .. } => (StatusCode::INSUFFICIENT_STORAGE, "no room"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
        };
        let field = match self {
            Self::Invalid { field, .. } => *field,
            Self::TooLarge { field, .. } | Self::NoRoom { field, .. } => Some(*field),
            _ => None,
        };
        Told { status, title, detail: self.sentence().into_owned(), field }
    }

    fn sentence(&self) -> Cow<'static, str> {
        match self {
            Self::NotFound(what) => format!("there is no such {what}; it may have been removed").into(),
            Self::Invalid { sentence, .. }
            | Self::TooLarge { sentence, .. }
            | Self::NoRoom { sentence, .. } => sentence.clone(),
            Self::Conflict(sentence)
            | Self::Unauthenticated(sentence)
            | Self::Forbidden(sentence)
            | Self::TooMany(sentence) => sentence.clone(),
            Self::Internal(_) => {
                "the server could not do this; its log says why; try again in a moment".into()
            }
        }
    }
}

/// For the command line and the log, where causes may be shown.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal(cause) => f.write_str(cause),
            other => f.write_str(&other.sentence()),
        }
    }
}

impl std::error::Error for Error {}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Internal(cause) = &self {
            tracing::error!(%cause, "a request failed");
        }
        self.told().into_response()
    }
}

impl IntoResponse for Told {
    /// RFC 9457 problem details.
    fn into_response(self) -> Response {
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(field), Some(problem)) = (self.field, problem.as_object_mut()) {
            problem.insert("field".to_owned(), field.into());
        }
        let mut response = (self.status, problem.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Makes problem details of the framework's own refusals as well: a body that is no JSON, an address with a broken
/// identity, a method that is not there.
pub async fn as_problems(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error())
        || response.extensions().get::<Told>().is_some()
    {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap_or_default();
    let said = Text::new(String::from_utf8_lossy(&body)).visible().to_string();
    let (title, otherwise) = match status {
        StatusCode::METHOD_NOT_ALLOWED => ("method not allowed", "this address takes other methods"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too large", "the body is larger than this server takes"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("not JSON", "expected a body of content-type application/json")
        }
        _ => ("not accepted", "expected another request"),
    };
    let detail = if said.is_empty() { otherwise.to_owned() } else { said };
    let mut response = Told { status, title, detail, field: None }.into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let Some(refused) = error.as_database_error() {
            if refused.is_unique_violation() {
                return Self::Conflict("there is one like this already; look at it again".into());
            }
            // 40001 and 40P01: PostgreSQL could not serialise two changes; 5: SQLite was busy too long.
            if matches!(refused.code().as_deref(), Some("40001" | "40P01" | "5")) {
                return Self::Conflict("somebody else was changing the same thing; try again".into());
            }
        }
        Self::Internal(format!("the database: {error}").into())
    }
}

impl From<DecisionRefused> for Error {
    fn from(refused: DecisionRefused) -> Self {
        let sentence = refused.to_string();
        match refused {
            DecisionRefused::Illegal(_)
            | DecisionRefused::Changed
            | DecisionRefused::TooLate
            | DecisionRefused::OtherRights => Self::Conflict(sentence.into()),
            DecisionRefused::OwnRequest => Self::Forbidden(sentence.into()),
            DecisionRefused::LongerThanAsked { .. } | DecisionRefused::NoTime => {
                Self::field("duration", sentence)
            }
            DecisionRefused::WiderThanPolicy => Self::field("covers", sentence),
        }
    }
}

impl From<IllegalStep> for Error {
    fn from(step: IllegalStep) -> Self {
        Self::Conflict(step.to_string().into())
    }
}
