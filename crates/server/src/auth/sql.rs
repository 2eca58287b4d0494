//! Sessions, tokens and certificates, as the database remembers them.

use elevon_policy::application::Sha256;
use elevon_policy::event::By;
use elevon_policy::group::Member;
use elevon_policy::id::{AccountId, TokenId};
use elevon_policy::request::Decider;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Actor;
use super::computer::Computer;
use crate::db::{document, parsed};
use crate::error::Error;

/// A session and whose it is.
#[derive(Debug)]
pub struct Session {
    /// Since when.
    pub created: Timestamp,
    /// Last used.
    pub seen: Timestamp,
    /// Whose.
    pub actor: Actor,
}

/// The session with this digest.
pub async fn session(db: &mut AnyConnection, hash: &str) -> Result<Option<Session>, Error> {
    let row = sqlx::query(
        "select s.created, s.seen, a.id, a.name, a.role, a.os_users
         from sessions s join accounts a on a.id = s.account_id
         where s.secret_hash = $1 and a.disabled_at is null",
    )
    .bind(hash)
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Session {
            created: Timestamp::from_millis(row.try_get("created")?),
            seen: Timestamp::from_millis(row.try_get("seen")?),
            actor: account(&row)?,
        })
    })
    .transpose()
}

fn account(row: &AnyRow) -> Result<Actor, Error> {
    let id: AccountId = parsed(row, "id")?;
    let name = Text::new(row.try_get::<String, _>("name")?);
    let decider = Decider { account: id, name: name.clone(), os_users: document(row, "os_users")? };
    Ok(Actor { by: By::Account { account: id, name }, role: parsed(row, "role")?, decider })
}

/// Notes that a session was used.
pub async fn session_seen(tx: &mut AnyConnection, hash: &str, now: Timestamp) -> Result<(), Error> {
    sqlx::query("update sessions set seen = $2 where secret_hash = $1 and seen < $2")
        .bind(hash)
        .bind(now.millis())
        .execute(tx)
        .await?;
    Ok(())
}

/// Starts a session.
pub async fn insert_session(
    tx: &mut AnyConnection,
    hash: &str,
    account: AccountId,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query("insert into sessions (secret_hash, account_id, created, seen) values ($1, $2, $3, $3)")
        .bind(hash)
        .bind(account.to_string())
        .bind(now.millis())
        .execute(tx)
        .await?;
    Ok(())
}

/// Ends a session.
pub async fn delete_session(tx: &mut AnyConnection, hash: &str) -> Result<(), Error> {
    sqlx::query("delete from sessions where secret_hash = $1").bind(hash).execute(tx).await?;
    Ok(())
}

/// Ends every session of an account.
pub async fn delete_sessions_of(tx: &mut AnyConnection, account: AccountId) -> Result<(), Error> {
    sqlx::query("delete from sessions where account_id = $1").bind(account.to_string()).execute(tx).await?;
    Ok(())
}

/// Removes sessions that are over.
pub async fn delete_old_sessions(
    tx: &mut AnyConnection,
    created_before: Timestamp,
    seen_before: Timestamp,
) -> Result<(), Error> {
    sqlx::query("delete from sessions where created <= $1 or seen <= $2")
        .bind(created_before.millis())
        .bind(seen_before.millis())
        .execute(tx)
        .await?;
    Ok(())
}

/// Whether whoever was let in may still do what they were let in for. What they do by this may be to disable this account, or to
/// revoke this token, which may be their own.
pub async fn may_still_act(tx: &mut AnyConnection, actor: &Actor, by_this: &str) -> Result<bool, Error> {
    let (sql, id) = match &actor.by {
        By::Account { account, .. } => (
            "select id from accounts where id = $1 and role = $2 and (disabled_at is null or id = $3)",
            account.to_string(),
        ),
        By::ApiToken { token, .. } => (
            "select t.id from api_tokens t left join accounts a on a.id = t.created_by
             where t.id = $1 and t.role = $2 and (t.revoked_at is null or t.id = $3)
               and (a.disabled_at is null or a.id = $3)",
            token.to_string(),
        ),
        By::CommandLine => return Ok(true),
    };
    let found = sqlx::query(sql).bind(id).bind(actor.role.word()).bind(by_this).fetch_optional(tx).await?;
    Ok(found.is_some())
}

/// The holder of the API token with this digest. One that an account made counts as tied to that account's users, and
/// opens nothing while that account is disabled.
pub async fn api_token(db: &mut AnyConnection, hash: &str) -> Result<Option<Actor>, Error> {
    let row = sqlx::query(
        "select t.id, t.name, t.role, a.name as maker, a.os_users
         from api_tokens t left join accounts a on a.id = t.created_by
         where t.secret_hash = $1 and t.revoked_at is null and a.disabled_at is null",
    )
    .bind(hash)
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let token: TokenId = parsed(&row, "id")?;
        let name = Text::new(row.try_get::<String, _>("name")?);
        let maker: Option<String> = row.try_get("maker")?;
        let mut os_users: Vec<Member> = Vec::new();
        if let Some(maker) = maker {
            os_users = document(&row, "os_users")?;
            if os_users.is_empty() {
                os_users.push(Member { name: Text::new(maker), computer: None });
            }
        }
        let decider = Decider { account: parsed(&row, "id")?, name: name.clone(), os_users };
        Ok(Actor { by: By::ApiToken { token, name }, role: parsed(&row, "role")?, decider })
    })
    .transpose()
}

/// The enrolled computer with this certificate.
pub async fn computer(db: &mut AnyConnection, fingerprint: Sha256) -> Result<Option<Computer>, Error> {
    let row = sqlx::query(
        "select c.id, c.event_key, t.ends from certificates t join computers c on c.id = t.computer_id
         where t.fingerprint = $1 and c.state = 'enrolled'",
    )
    .bind(fingerprint.to_string())
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Computer {
            id: parsed(&row, "id")?,
            event_key: parsed(&row, "event_key")?,
            certificate_ends: Timestamp::from_millis(row.try_get("ends")?),
        })
    })
    .transpose()
}
