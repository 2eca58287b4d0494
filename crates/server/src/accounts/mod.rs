//! Accounts: who signs in to the console, and with which role; API tokens.

pub mod api;
pub mod pages;
pub mod password;
pub mod sql;

use std::net::IpAddr;

use elevon_policy::event::{By, What};
use elevon_policy::group::Member;
use elevon_policy::id::{AccountId, TokenId};
use elevon_policy::request::Decider;
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use serde::Serialize;
use sqlx::AnyConnection;

use crate::app::{App, chance};
use crate::audit;
use crate::auth::{self, Actor, Owner, Reader, Role, new_secret, secret_hash};
use crate::error::Error;

/// Sign-in failures count for this long.
const FAILURES_COUNT_FOR: Span = Span::from_mins(15);
/// So many failures of one name from one address, and it has to wait.
const FAILURES_FROM_ONE: u64 = 10;
/// So many failures of one name from anywhere, and everyone has to wait who tries that name. So many from one address, whatever
/// names it tries, and it has to wait.
const FAILURES_FROM_ALL: u64 = 100;

/// An account as a screen shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its identity.
    pub id: AccountId,
    /// What it signs in as.
    pub name: Text,
    /// What it may.
    pub role: Role,
    /// The operating-system users it is tied to; empty means the one of the same name, in any domain.
    pub os_users: Vec<Member>,
    /// Since when.
    pub created: Timestamp,
    /// Since when it may not sign in any more.
    pub disabled: Option<Timestamp>,
}

/// An API token as a list shows it; its secret is nowhere.
#[derive(Debug, Clone, Serialize)]
pub struct ApiTokenRow {
    /// Its identity.
    pub id: TokenId,
    /// What it is for.
    pub name: Text,
    /// What it may.
    pub role: Role,
    /// Since when.
    pub created: Timestamp,
    /// The account that made it, if by another token; none for the command line.
    pub made_by: Option<Text>,
    /// Since when it opens nothing any more.
    pub revoked: Option<Timestamp>,
}

/// Someone has just signed in.
#[derive(Debug)]
pub struct Session {
    /// What the cookie holds; see [`crate::auth::session::set_cookie`].
    pub secret: String,
    /// Who.
    pub actor: Actor,
}

/// An API token, on the one occasion that it is shown.
#[derive(Debug, Serialize)]
pub struct ApiToken {
    /// Its identity.
    pub id: TokenId,
    /// What to send as `Authorization: Bearer`.
    pub secret: String,
}

/// All accounts, by name.
pub async fn list(app: &App, _: &Reader) -> Result<Vec<Row>, Error> {
    let mut db = app.db.read().await?;
    sql::list(&mut db).await
}

/// Signs in. Whether name or password was wrong is not told, and takes the same time.
pub async fn sign_in(
    app: &App,
    name: &Text,
    password: &str,
    address: Option<IpAddr>,
) -> Result<Session, Error> {
    let now = app.now();
    let key = name_key(name);
    let attempt = Attempt::of(&key, address);
    attempt.begin(app, now).await?;
    let mut db = app.db.read().await?;
    let found = sql::with_password(&mut db, &key).await?;
    drop(db);
    let hash = found.as_ref().map(|(_, hash)| hash.clone());
    let right = password::verify(app, password, hash).await?;
    let mut tx = app.db.begin().await?;
    let wrong = || Error::Unauthenticated("the name or the password is wrong".into());
    let Some((row, hash)) = found.filter(|(row, _)| right && row.disabled.is_none()) else {
        let name = Text::new(name.as_untrusted().chars().take(100).collect::<String>());
        audit::append_own(&mut tx, now, What::AccountSignInFailed { name }).await?;
        tx.commit().await?;
        return Err(wrong());
    };
    // It may have been disabled, or have got another password, while this one was hashed.
    if !sql::lock_with_password(&mut tx, row.id, &hash).await? {
        return Err(wrong());
    }
    attempt.succeeded(&mut tx).await?;
    let session = start_session(&mut tx, row, now).await?;
    tx.commit().await?;
    Ok(session)
}

/// An attempt to sign in. It counts as failed until it has succeeded, so that no number of them at once gets further than one after
/// the other.
struct Attempt {
    /// That name from that address, and how often that may fail.
    from_one: (String, u64),
    /// That name, and that address.
    from_all: [(String, u64); 2],
}

impl Attempt {
    fn of(key: &str, address: Option<IpAddr>) -> Self {
        // Whoever has one address of version 6 has all that begin alike; of version 4, it may come written as one of version 6.
        let address = match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V6(address)) => {
                address.segments().iter().take(4).map(|it| format!("{it:x}:")).collect()
            }
            Some(IpAddr::V4(address)) => address.to_string(),
            None => String::new(),
        };
        // Anybody can try any name: none may read like an address, or like a name from there.
        Self {
            from_one: (format!("both {address} {key}"), FAILURES_FROM_ONE),
            from_all: [
                (format!("name {key}"), FAILURES_FROM_ALL),
                (format!("address {address}"), FAILURES_FROM_ALL),
            ],
        }
    }

    async fn begin(&self, app: &App, now: Timestamp) -> Result<(), Error> {
        let since = now.before(FAILURES_COUNT_FOR);
        let mut tx = app.db.begin().await?;
        for (key, most) in self.from_all.iter().chain([&self.from_one]) {
            if sql::failed(&mut tx, key, now, since).await? > *most {
                return Err(Error::TooMany(
                    "too many failed sign-ins; wait a quarter of an hour and try again".into(),
                ));
            }
        }
        tx.commit().await
    }

    async fn succeeded(&self, tx: &mut AnyConnection) -> Result<(), Error> {
        for (key, _) in &self.from_all {
            sql::forget_failure(tx, key).await?;
        }
        sql::forget_failures(tx, &self.from_one.0).await
    }
}

async fn start_session(tx: &mut AnyConnection, row: Row, now: Timestamp) -> Result<Session, Error> {
    let secret = new_secret();
    auth::sql::insert_session(tx, &secret_hash(&secret), row.id, now).await?;
    let actor = Actor {
        by: By::Account { account: row.id, name: row.name.clone() },
        role: row.role,
        decider: Decider { account: row.id, name: row.name.clone(), os_users: row.os_users },
    };
    audit::append(tx, &actor, now, What::AccountSignedIn { account: row.id, name: row.name }).await?;
    Ok(Session { secret, actor })
}

/// Ends the session that this cookie stands for.
pub async fn sign_out(app: &App, by: &Reader, secret: &str) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    auth::sql::delete_session(&mut tx, &secret_hash(secret)).await?;
    if let By::Account { account, name } = &by.actor().by {
        let what = What::AccountSignedOut { account: *account, name: name.clone() };
        audit::append(&mut tx, by.actor(), now, what).await?;
    }
    tx.commit().await
}

/// Prepares the set-up link: gives its secret while no account exists. An earlier link counts no more.
pub async fn prepare_setup(app: &App) -> Result<Option<String>, Error> {
    let mut tx = app.db.begin().await?;
    if sql::count(&mut tx).await? > 0 {
        return Ok(None);
    }
    let secret = new_secret();
    sql::set_setup(&mut tx, &secret_hash(&secret)).await?;
    tx.commit().await?;
    Ok(Some(secret))
}

/// Whether this set-up link can still be used.
pub async fn setup_is_open(app: &App, secret: &str) -> Result<bool, Error> {
    let mut db = app.db.read().await?;
    Ok(sql::setup_is_open(&mut db, &secret_hash(secret)).await? && sql::count(&mut db).await? == 0)
}

/// Makes the first owner with the secret of the set-up link, once, and signs them in.
pub async fn create_first_owner(
    app: &App,
    secret: &str,
    name: Text,
    password: &str,
) -> Result<Session, Error> {
    let over = || Error::Forbidden("this set-up link was used, or is not the latest; sign in instead".into());
    if !setup_is_open(app, secret).await? {
        return Err(over());
    }
    let row = new_row(app, name, Role::Owner, Vec::new())?;
    let hash = password::hash(app, password).await?;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if !sql::use_setup(&mut tx, &secret_hash(secret), now).await? || sql::count(&mut tx).await? > 0 {
        return Err(over());
    }
    sql::insert(&mut tx, &row, &hash).await?;
    audit::append_own(&mut tx, now, created(&row)).await?;
    let session = start_session(&mut tx, row, now).await?;
    tx.commit().await?;
    Ok(session)
}

/// Makes an account.
pub async fn create(
    app: &App,
    by: &Owner,
    name: Text,
    role: Role,
    os_users: Vec<Member>,
    password: &str,
) -> Result<Row, Error> {
    let row = new_row(app, name, role, os_users)?;
    let hash = password::hash(app, password).await?;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    sql::insert(&mut tx, &row, &hash).await?;
    audit::append(&mut tx, by.actor(), now, created(&row)).await?;
    tx.commit().await?;
    Ok(row)
}

fn created(row: &Row) -> What {
    What::AccountCreated { account: row.id, name: row.name.clone(), role: Text::new(row.role.word()) }
}

fn new_row(app: &App, name: Text, role: Role, os_users: Vec<Member>) -> Result<Row, Error> {
    check_name(&name)?;
    let now = app.now();
    Ok(Row { id: AccountId::new(now, chance()), name, role, os_users, created: now, disabled: None })
}

fn check_name(name: &Text) -> Result<(), Error> {
    let text = name.as_untrusted();
    let fits = |character: char| character.is_alphanumeric() || "._-@+ ".contains(character);
    if text.is_empty() || text.trim() != text || text.chars().count() > 100 || !text.chars().all(fits) {
        return Err(Error::field(
            "name",
            "expected a name of 1 to 100 letters, digits, spaces and . _ - @ +",
        ));
    }
    Ok(())
}

/// Names that differ in case only are the same.
pub fn name_key(name: &Text) -> String {
    name.as_untrusted().to_lowercase().chars().take(100).collect()
}

/// Lets an account sign in no more; its sessions end now, and what its API tokens opened is shut. The last owner stays.
pub async fn disable(app: &App, by: &Owner, id: AccountId) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let owners = sql::lock_owners(&mut tx).await?;
    let row = sql::find(&mut tx, id).await?.ok_or(Error::NotFound("account"))?;
    if row.role == Role::Owner && row.disabled.is_none() && owners <= 1 {
        return Err(Error::Conflict("this is the last owner; make another one first".into()));
    }
    let disabled = sql::set_disabled(&mut tx, id, Some(now)).await?;
    // Only now: who is signing in meanwhile has either begun a session before, or finds it disabled.
    auth::sql::delete_sessions_of(&mut tx, id).await?;
    if disabled {
        let what = What::AccountDisabled { account: id, name: row.name };
        audit::append(&mut tx, by.actor(), now, what).await?;
    }
    tx.commit().await?;
    app.news.changed();
    Ok(())
}

/// Lets an account sign in again.
pub async fn enable(app: &App, by: &Owner, id: AccountId) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let row = sql::find(&mut tx, id).await?.ok_or(Error::NotFound("account"))?;
    if row.disabled.is_none() {
        return Ok(());
    }
    // Before it counts: nobody lets themselves in again by this.
    audit::append(&mut tx, by.actor(), now, What::AccountEnabled { account: id, name: row.name }).await?;
    if !sql::set_disabled(&mut tx, id, None).await? {
        // Somebody else did meanwhile, and has told of it.
        return Ok(());
    }
    tx.commit().await
}

/// Gives an account another password; its sessions end.
pub async fn change_password(app: &App, by: &Owner, id: AccountId, password: &str) -> Result<(), Error> {
    let hash = password::hash(app, password).await?;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let row = sql::find(&mut tx, id).await?.ok_or(Error::NotFound("account"))?;
    sql::set_password(&mut tx, id, &hash).await?;
    auth::sql::delete_sessions_of(&mut tx, id).await?;
    let what = What::AccountPasswordChanged { account: id, name: row.name };
    audit::append(&mut tx, by.actor(), now, what).await?;
    tx.commit().await
}

/// The account of this name.
pub async fn named(app: &App, _: &Owner, name: &Text) -> Result<AccountId, Error> {
    let mut db = app.db.read().await?;
    let found = sql::with_password(&mut db, &name_key(name)).await?;
    Ok(found.ok_or(Error::NotFound("account"))?.0.id)
}

/// All API tokens, the latest first.
pub async fn api_tokens(app: &App, _: &Owner) -> Result<Vec<ApiTokenRow>, Error> {
    let mut db = app.db.read().await?;
    sql::api_tokens(&mut db).await
}

/// Lets an API token open nothing any more.
pub async fn revoke_api_token(app: &App, by: &Owner, id: TokenId) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let name = sql::revoke_api_token(&mut tx, id, now).await?;
    let name = name.ok_or(Error::NotFound("API token in force"))?;
    audit::append(&mut tx, by.actor(), now, What::ApiTokenRevoked { token: id, name }).await?;
    tx.commit().await
}

/// Makes an API token; its secret is shown once.
pub async fn create_api_token(app: &App, by: &Owner, name: Text, role: Role) -> Result<ApiToken, Error> {
    check_name(&name)?;
    let now = app.now();
    let token = ApiToken { id: TokenId::new(now, chance()), secret: format!("elevon_{}", new_secret()) };
    let mut tx = app.db.begin().await?;
    let maker = match &by.actor().by {
        By::Account { account, .. } => Some(*account),
        // One that a token makes is no freer than that one.
        By::ApiToken { token, .. } => sql::maker_of(&mut tx, *token).await?,
        By::CommandLine => None,
    };
    sql::insert_api_token(&mut tx, token.id, &name, role, &secret_hash(&token.secret), maker, now).await?;
    let what = What::ApiTokenCreated { token: token.id, name, role: Text::new(role.word()) };
    audit::append(&mut tx, by.actor(), now, what).await?;
    tx.commit().await?;
    Ok(token)
}
