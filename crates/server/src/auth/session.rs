//! Sessions of the console: a random cookie, known here by its digest only.

use axum::http::{HeaderMap, HeaderValue, header};
use elevon_policy::time::Span;

use super::{Actor, secret_hash, sql};
use crate::app::App;
use crate::error::Error;

/// The cookie. The prefix makes browsers insist on Secure, on path `/` and on no domain.
pub const COOKIE: &str = "__Host-elevon";
/// A session nobody used for this long is over.
pub const IDLE: Span = Span::from_hours(12);
/// A session is over after this long, used or not.
pub const LIFE: Span = Span::from_days(7);
/// How exactly it is known when a session was last used.
const GRAIN: Span = Span::from_mins(1);

/// Who is signed in with the session that these headers carry.
pub async fn actor(app: &App, headers: &HeaderMap) -> Result<Option<Actor>, Error> {
    let Some(secret) = secret(headers) else { return Ok(None) };
    let hash = secret_hash(secret);
    let mut db = app.db.read().await?;
    let Some(session) = sql::session(&mut db, &hash).await? else { return Ok(None) };
    drop(db);
    let now = app.now();
    if now >= session.created.after(LIFE) || now >= session.seen.after(IDLE) {
        return Ok(None);
    }
    if now.since(session.seen) >= GRAIN {
        let mut tx = app.db.begin().await?;
        sql::session_seen(&mut tx, &hash, now).await?;
        tx.commit().await?;
    }
    Ok(Some(session.actor))
}

/// The secret in the cookie.
pub fn secret(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Sets the cookie.
pub fn set_cookie(secret: &str) -> HeaderValue {
    let life = LIFE.millis() / 1000;
    cookie(&format!("{COOKIE}={secret}; Max-Age={life}; Path=/; Secure; HttpOnly; SameSite=Strict"))
}

/// Takes the cookie back.
pub fn clear_cookie() -> HeaderValue {
    cookie(&format!("{COOKIE}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Strict"))
}

fn cookie(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a secret is made of letters, digits, - and _")
}
