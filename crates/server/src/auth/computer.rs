//! Agents: the client certificate says which computer it is, and nothing else does.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use elevon_policy::id::ComputerId;
use elevon_policy::time::Timestamp;
use elevon_wire::signed::PublicKey;

use super::sql;
use crate::app::App;
use crate::error::Error;
use crate::tls::PeerCertificate;

/// An enrolled computer that is asking.
#[derive(Debug, Clone, Copy)]
pub struct Computer {
    /// Which.
    pub id: ComputerId,
    /// The key its elevator signs events with.
    pub event_key: PublicKey,
    /// When the certificate ends that it came with.
    pub certificate_ends: Timestamp,
}

impl FromRequestParts<App> for Computer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let Some(PeerCertificate(fingerprint)) = parts.extensions.get().copied() else {
            return Err(Error::Unauthenticated(
                "expected this computer's client certificate; enroll it with an enrollment token first"
                    .into(),
            ));
        };
        let mut db = app.db.read().await?;
        let computer = sql::computer(&mut db, fingerprint).await?.ok_or_else(|| {
            Error::Forbidden(
                "this computer is not enrolled (any more); enroll it again with a new token".into(),
            )
        })?;
        app.seen.note(computer.id, app.now());
        Ok(computer)
    }
}
