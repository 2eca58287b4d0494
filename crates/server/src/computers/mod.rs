//! Computers: enrolled once with a token, known by their own keys, never by their names.

pub mod api;
pub mod pages;
pub mod seen;
pub mod sql;

use elevon_policy::application::Sha256;
use elevon_policy::event::What;
use elevon_policy::group::Members;
use elevon_policy::id::{ComputerId, GroupId, TokenId};
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::channel::{Enroll, Enrolled, Renew, Renewed};
use elevon_wire::token::EnrollmentToken;
use serde::Serialize;

use crate::app::{App, chance};
use crate::audit::{self, Origin};
use crate::auth::computer::Computer;
use crate::auth::{Administrator, Reader, new_secret, secret_hash};
use crate::error::Error;
use crate::{channel, groups};

/// A computer that was heard from within this span counts as online: a long-poll comes back at least every 55 seconds.
const ONLINE: Span = Span::from_secs(120);
/// The longest an enrollment token can be used.
const TOKEN_LIFE: Span = Span::from_days(90);
/// The most computers one token can enroll.
const TOKEN_USES: u64 = 1_000_000;
/// The longest text a computer says of itself.
const TEXT: usize = 255;

/// A computer as a screen shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its identity.
    pub id: ComputerId,
    /// What it calls itself.
    pub host_name: Text,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: Text,
    /// Whether it may speak to the server.
    pub revoked: bool,
    /// Since when.
    pub enrolled: Timestamp,
    /// When it was last heard from.
    pub last_seen: Option<Timestamp>,
    /// Whether that was just now.
    pub online: bool,
    /// The version of the sheet it should hold.
    pub sheet_version: u64,
    /// The version of the sheet it has said it holds.
    pub held_version: Option<u64>,
    /// The digest of the bundle it has said it holds.
    pub bundle: Option<Sha256>,
}

/// Whether a computer that was last heard from then is online now.
pub fn is_online(last_seen: Option<Timestamp>, now: Timestamp) -> bool {
    last_seen.is_some_and(|seen| seen >= now.before(ONLINE))
}

/// All computers, by name.
pub async fn list(app: &App, _: &Reader) -> Result<Vec<Row>, Error> {
    seen::write(app).await?;
    let online = app.now().before(ONLINE);
    let mut db = app.db.read().await?;
    sql::list(&mut db, online).await
}

/// One computer.
pub async fn find(app: &App, _: &Reader, id: ComputerId) -> Result<Row, Error> {
    seen::write(app).await?;
    let online = app.now().before(ONLINE);
    let mut db = app.db.read().await?;
    sql::find(&mut db, id, online).await?.ok_or(Error::NotFound("computer"))
}

/// Makes a token that enrolls this many computers until it expires; each joins the group. It is shown once.
pub async fn create_token(
    app: &App,
    by: &Administrator,
    uses: u64,
    expires: Span,
    group: Option<GroupId>,
) -> Result<EnrollmentToken, Error> {
    if !(1..=TOKEN_USES).contains(&uses) {
        return Err(Error::field("uses", format!("expected a number of computers from 1 to {TOKEN_USES}")));
    }
    if expires < Span::from_secs(1) || expires > TOKEN_LIFE {
        return Err(Error::field("expires", "expected a duration from 1s to 90d"));
    }
    let now = app.now();
    let (id, secret, expires) = (TokenId::new(now, chance()), new_secret(), now.after(expires));
    let mut tx = app.db.begin().await?;
    if let Some(group) = group {
        let row = groups::sql::find(&mut tx, group).await?.ok_or(Error::NotFound("custom group"))?;
        if matches!(row.group.members, Members::Users { .. }) {
            return Err(Error::field("group", "expected a custom group of computers; this one is of users"));
        }
    }
    sql::insert_token(&mut tx, id, &secret_hash(&secret), uses, expires, group, now).await?;
    audit::append(&mut tx, by.actor(), now, What::EnrollmentTokenCreated { token: id, expires, uses })
        .await?;
    tx.commit().await?;
    Ok(EnrollmentToken {
        address: app.config.agents_address.clone(),
        ca_fingerprint: app.keys.ca_fingerprint(),
        secret,
    })
}

/// An enrollment token as a list shows it; its secret is nowhere.
#[derive(Debug, Clone, Serialize)]
pub struct TokenRow {
    /// Its identity.
    pub id: TokenId,
    /// How many computers it enrolls.
    pub uses: u64,
    /// How many it has enrolled.
    pub used: u64,
    /// Until when.
    pub expires: Timestamp,
    /// The custom group that each computer joins.
    pub group_name: Option<Text>,
    /// Since when.
    pub created: Timestamp,
    /// Since when it enrolls no more.
    pub revoked: Option<Timestamp>,
}

/// All enrollment tokens, the latest first.
pub async fn tokens(app: &App, _: &Administrator) -> Result<Vec<TokenRow>, Error> {
    let mut db = app.db.read().await?;
    sql::tokens(&mut db).await
}

/// Lets an enrollment token enroll no more computers.
pub async fn revoke_token(app: &App, by: &Administrator, id: TokenId) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if !sql::revoke_token(&mut tx, id, now).await? {
        return Err(Error::NotFound("enrollment token in force"));
    }
    audit::append(&mut tx, by.actor(), now, What::EnrollmentTokenRevoked { token: id }).await?;
    tx.commit().await
}

/// The group of this name, for a token.
pub async fn group_named(app: &App, name: &Text) -> Result<GroupId, Error> {
    let mut db = app.db.read().await?;
    let found = groups::sql::named(&mut db, name).await?;
    Ok(found.ok_or_else(|| Error::field("group", "there is no custom group of this name"))?.group.id)
}

/// Enrolls a computer: always a new one, whatever it calls itself.
pub async fn enroll(app: &App, enroll: Enroll) -> Result<Enrolled, Error> {
    let long = |text: &Text| text.as_untrusted().chars().count() > TEXT || text.as_untrusted().is_empty();
    if long(&enroll.host_name) || long(&enroll.operating_system) {
        return Err(Error::invalid(format!(
            "expected names of 1 to {TEXT} characters for the computer and its system"
        )));
    }
    let (now, life) = (app.now(), app.config.agent_certificate_life);
    let id = ComputerId::new(now, chance());
    let mut tx = app.db.begin().await?;
    let token = sql::use_token(&mut tx, &secret_hash(&enroll.secret), now).await?.ok_or_else(|| {
        Error::Forbidden("the enrollment token is unknown, used up or expired; ask for a new one".into())
    })?;
    let (certificate, fingerprint) =
        app.keys.certify(&enroll.certificate_request, id, now, life).map_err(not_certified)?;
    let computer = sql::New {
        id,
        host_name: &enroll.host_name,
        operating_system: &enroll.operating_system,
        event_key: &enroll.event_key.to_string(),
        certificate_fingerprint: fingerprint,
        certificate_ends: now.after(life),
    };
    sql::insert(&mut tx, &computer, now).await?;
    audit::sql::open(&mut tx, Origin::Computer(id)).await?;
    if let Some(group) = token.group {
        groups::sql::join(&mut tx, group, id).await?;
    }
    let what = What::ComputerEnrolled { computer: id, host_name: enroll.host_name.clone(), token: token.id };
    audit::append_own(&mut tx, now, what).await?;
    tx.commit().await?;
    app.news.changed();
    Ok(Enrolled { computer: id, certificate, ca: app.keys.ca_pem.clone(), server_key: app.keys.public() })
}

fn not_certified(error: rcgen::Error) -> Error {
    tracing::info!(%error, "a certificate request was not accepted");
    Error::invalid("expected a certificate request (PKCS #10, PEM) that its own key signed")
}

/// Certifies a new key of a computer when a third of the life is left of the certificate it came with. That goes on until
/// its end; where the answer goes lost, a hundredth of a life later there is another.
pub async fn renew(app: &App, computer: &Computer, renew: &Renew) -> Result<Renewed, Error> {
    let (now, life) = (app.now(), app.config.agent_certificate_life);
    let part = |parts: u64| Span::from_millis(life.millis() / parts);
    let not_yet = |wait: Span| Renewed { certificate: None, again: wait.millis().div_ceil(1000) };
    let due = computer.certificate_ends.before(part(3));
    if now < due {
        return Ok(not_yet(due.since(now)));
    }
    let mut tx = app.db.begin().await?;
    channel::sql::lock(&mut tx, computer.id).await?;
    let last = sql::last_certificate(&mut tx, computer.id, now).await?;
    if last.is_some_and(|last| now.since(last) < part(100)) {
        return Ok(not_yet(part(100)));
    }
    let (certificate, fingerprint) =
        app.keys.certify(&renew.certificate_request, computer.id, now, life).map_err(not_certified)?;
    let ends = now.after(life);
    sql::insert_certificate(&mut tx, computer.id, fingerprint, now, ends).await?;
    audit::append_own(&mut tx, now, What::ComputerCertificateRenewed { computer: computer.id, ends }).await?;
    tx.commit().await?;
    app.news.changed();
    Ok(Renewed { certificate: Some(certificate), again: (life.millis() - part(3).millis()).div_ceil(1000) })
}

/// Shuts a computer out: its certificate counts no more. What it holds ends with its lease at the latest.
pub async fn revoke(app: &App, by: &Administrator, id: ComputerId) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let host_name = sql::revoke(&mut tx, id, now).await?;
    let host_name = host_name.ok_or(Error::NotFound("enrolled computer"))?;
    audit::append(&mut tx, by.actor(), now, What::ComputerRevoked { computer: id, host_name }).await?;
    tx.commit().await?;
    app.news.wake(id);
    Ok(())
}
