//! Accounts, set-up, sign-in failures and API tokens, as the database remembers them.

use elevon_policy::id::{AccountId, TokenId};
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{ApiTokenRow, Row, name_key};
use crate::auth::Role;
use crate::db::{self, document, json, parsed, time};
use crate::error::Error;

fn row(row: &AnyRow) -> Result<Row, Error> {
    Ok(Row {
        id: parsed(row, "id")?,
        name: Text::new(row.try_get::<String, _>("name")?),
        role: parsed(row, "role")?,
        os_users: document(row, "os_users")?,
        created: Timestamp::from_millis(row.try_get("created")?),
        disabled: time(row, "disabled_at")?,
    })
}

/// All accounts, by name.
pub async fn list(db: &mut AnyConnection) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query("select * from accounts order by name_key").fetch_all(db).await?;
    rows.iter().map(row).collect()
}

/// How many accounts there are.
pub async fn count(db: &mut AnyConnection) -> Result<u64, Error> {
    db::count(&sqlx::query("select count(*) as accounts from accounts").fetch_one(db).await?, "accounts")
}

/// The account of this name, with its password's hash.
pub async fn with_password(db: &mut AnyConnection, key: &str) -> Result<Option<(Row, String)>, Error> {
    let found =
        sqlx::query("select * from accounts where name_key = $1").bind(key).fetch_optional(db).await?;
    found.map(|found| Ok((row(&found)?, found.try_get("password_hash")?))).transpose()
}

/// A new account.
pub async fn insert(tx: &mut AnyConnection, account: &Row, password_hash: &str) -> Result<(), Error> {
    if with_password(tx, &name_key(&account.name)).await?.is_some() {
        return Err(Error::field("name", "there is an account of this name already"));
    }
    sqlx::query(
        "insert into accounts (id, name, name_key, role, os_users, password_hash, created)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(account.id.to_string())
    .bind(account.name.as_untrusted())
    .bind(name_key(&account.name))
    .bind(account.role.word())
    .bind(json(&account.os_users)?)
    .bind(password_hash)
    .bind(account.created.millis())
    .execute(tx)
    .await?;
    Ok(())
}

/// One account.
pub async fn find(db: &mut AnyConnection, id: AccountId) -> Result<Option<Row>, Error> {
    let found =
        sqlx::query("select * from accounts where id = $1").bind(id.to_string()).fetch_optional(db).await?;
    found.as_ref().map(row).transpose()
}

/// Disables an account, or enables it again. Whether that changed anything.
pub async fn set_disabled(
    tx: &mut AnyConnection,
    id: AccountId,
    disabled: Option<Timestamp>,
) -> Result<bool, Error> {
    let sql = match disabled {
        Some(_) => "update accounts set disabled_at = $2 where id = $1 and disabled_at is null",
        None => "update accounts set disabled_at = null where id = $1 and disabled_at is not null and $2 = 0",
    };
    let done =
        sqlx::query(sql).bind(id.to_string()).bind(disabled.map_or(0, Timestamp::millis)).execute(tx).await?;
    Ok(done.rows_affected() == 1)
}

/// Takes the account's row for this transaction, if it may sign in and this is its password's hash.
pub async fn lock_with_password(tx: &mut AnyConnection, id: AccountId, hash: &str) -> Result<bool, Error> {
    let done = sqlx::query(
        "update accounts set role = role where id = $1 and password_hash = $2 and disabled_at is null",
    )
    .bind(id.to_string())
    .bind(hash)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes the rows of all owners for this transaction, and gives how many of them may sign in.
pub async fn lock_owners(tx: &mut AnyConnection) -> Result<u64, Error> {
    let rows = sqlx::query("update accounts set role = role where role = 'owner' returning disabled_at")
        .fetch_all(tx)
        .await?;
    let mut owners = 0;
    for row in &rows {
        owners += u64::from(time(row, "disabled_at")?.is_none());
    }
    Ok(owners)
}

/// Another password.
pub async fn set_password(tx: &mut AnyConnection, id: AccountId, hash: &str) -> Result<(), Error> {
    let done = sqlx::query("update accounts set password_hash = $2 where id = $1")
        .bind(id.to_string())
        .bind(hash)
        .execute(tx)
        .await?;
    db::changed_once(done.rows_affected())
}

/// All API tokens, the latest first.
pub async fn api_tokens(db: &mut AnyConnection) -> Result<Vec<ApiTokenRow>, Error> {
    let rows = sqlx::query(
        "select t.id, t.name, t.role, t.created, t.revoked_at, a.name as maker
         from api_tokens t left join accounts a on a.id = t.created_by order by t.created desc, t.id desc",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ApiTokenRow {
                id: parsed(row, "id")?,
                name: Text::new(row.try_get::<String, _>("name")?),
                role: parsed(row, "role")?,
                created: Timestamp::from_millis(row.try_get("created")?),
                made_by: row.try_get::<Option<String>, _>("maker")?.map(Text::new),
                revoked: time(row, "revoked_at")?,
            })
        })
        .collect()
}

/// Revokes an API token, once; gives its name.
pub async fn revoke_api_token(
    tx: &mut AnyConnection,
    id: TokenId,
    now: Timestamp,
) -> Result<Option<Text>, Error> {
    let row = sqlx::query(
        "update api_tokens set revoked_at = $2 where id = $1 and revoked_at is null returning name",
    )
    .bind(id.to_string())
    .bind(now.millis())
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok(Text::new(row.try_get::<String, _>("name")?))).transpose()
}

/// Replaces the set-up link.
pub async fn set_setup(tx: &mut AnyConnection, secret_hash: &str) -> Result<(), Error> {
    sqlx::query(
        "insert into setup (id, secret_hash) values ('setup', $1)
         on conflict (id) do update set secret_hash = excluded.secret_hash, used_at = null",
    )
    .bind(secret_hash)
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether this is the set-up link, and unused.
pub async fn setup_is_open(db: &mut AnyConnection, secret_hash: &str) -> Result<bool, Error> {
    let row = sqlx::query("select count(*) as links from setup where secret_hash = $1 and used_at is null")
        .bind(secret_hash)
        .fetch_one(db)
        .await?;
    Ok(db::count(&row, "links")? == 1)
}

/// Uses the set-up link, once.
pub async fn use_setup(tx: &mut AnyConnection, secret_hash: &str, now: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query("update setup set used_at = $2 where secret_hash = $1 and used_at is null")
        .bind(secret_hash)
        .bind(now.millis())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Signing in failed once more under this key, as it seems as yet; an old count begins anew. Gives how often it has failed.
pub async fn failed(
    tx: &mut AnyConnection,
    key: &str,
    now: Timestamp,
    since: Timestamp,
) -> Result<u64, Error> {
    let row = sqlx::query(
        "insert into sign_in_failures (key, failures, since) values ($1, 1, $2)
         on conflict (key) do update set
             failures = case when sign_in_failures.since > $3 then sign_in_failures.failures + 1 else 1 end,
             since = case when sign_in_failures.since > $3 then sign_in_failures.since else $2 end
         returning failures",
    )
    .bind(key)
    .bind(now.millis())
    .bind(since.millis())
    .fetch_one(tx)
    .await?;
    db::count(&row, "failures")
}

/// One that was counted was none.
pub async fn forget_failure(tx: &mut AnyConnection, key: &str) -> Result<(), Error> {
    sqlx::query("update sign_in_failures set failures = failures - 1 where key = $1 and failures > 0")
        .bind(key)
        .execute(tx)
        .await?;
    Ok(())
}

/// Signing in succeeded.
pub async fn forget_failures(tx: &mut AnyConnection, key: &str) -> Result<(), Error> {
    sqlx::query("delete from sign_in_failures where key = $1").bind(key).execute(tx).await?;
    Ok(())
}

/// Removes counts that count no more.
pub async fn delete_old_failures(tx: &mut AnyConnection, since: Timestamp) -> Result<(), Error> {
    sqlx::query("delete from sign_in_failures where since <= $1").bind(since.millis()).execute(tx).await?;
    Ok(())
}

/// The account that an API token counts as made by.
pub async fn maker_of(tx: &mut AnyConnection, token: TokenId) -> Result<Option<AccountId>, Error> {
    let row = sqlx::query("select created_by from api_tokens where id = $1 and created_by is not null")
        .bind(token.to_string())
        .fetch_optional(tx)
        .await?;
    row.map(|row| parsed(&row, "created_by")).transpose()
}

/// A new API token.
pub async fn insert_api_token(
    tx: &mut AnyConnection,
    id: TokenId,
    name: &Text,
    role: Role,
    secret_hash: &str,
    maker: Option<AccountId>,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "insert into api_tokens (id, name, role, secret_hash, created, created_by) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.to_string())
    .bind(name.as_untrusted())
    .bind(role.word())
    .bind(secret_hash)
    .bind(now.millis())
    .bind(maker.map(|id| id.to_string()))
    .execute(tx)
    .await?;
    Ok(())
}
