//! The audit trail: one chain of the server's own events and one of each computer's; the JIT Events Report over all.

pub mod api;
pub mod checkpoints;
pub mod columns;
pub mod csv;
pub mod links;
pub mod pages;
pub mod sql;
pub mod told;
pub mod verify;

use std::fmt;
use std::str::FromStr;

use elevon_policy::event::{By, Event, What};
use elevon_policy::id::{ComputerId, GrantId, InvalidId, PolicyId, RequestId};
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use elevon_wire::chain::{self, Record};
use serde::{Deserialize, Serialize, Serializer};
use sqlx::AnyConnection;

use crate::app::App;
use crate::auth::{self, Actor, Reader};
use crate::error::Error;
use crate::listing::{self, Cursor, Listing, PART};

/// Whose chain an event stands in. In text, `server` or the computer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The server's own.
    Server,
    /// This computer's.
    Computer(ComputerId),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Computer(id) => id.fmt(f),
        }
    }
}

impl FromStr for Origin {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "server" { Ok(Self::Server) } else { text.parse().map(Self::Computer) }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One event of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its place in its chain.
    pub number: u64,
    /// When, by the clock of whoever recorded it.
    pub at: Timestamp,
    /// When the server stored it.
    pub stored: Timestamp,
    /// Whose chain.
    pub origin: Origin,
    /// The computer it is about.
    pub computer: Option<ComputerId>,
    /// What that computer calls itself.
    pub host_name: Option<Text>,
    /// Who did it on the server.
    pub account: Option<Text>,
    /// What happened.
    pub event: Event,
}

/// Which events; what is left out does not restrict.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Filter {
    /// At this time or later, in milliseconds since the Unix epoch.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Of this user, or by this account: the exact name.
    pub user: Option<String>,
    /// On this computer.
    pub computer: Option<ComputerId>,
    /// About an application whose path has this in it.
    pub application: Option<String>,
    /// Under this policy.
    pub policy: Option<PolicyId>,
    /// Of this kind, such as `launch.started`.
    pub kind: Option<String>,
    /// Of this request.
    pub request: Option<RequestId>,
    /// Of this grant.
    pub grant: Option<GrantId>,
}

/// A part of the report, from the latest.
pub type Page = Listing<Row>;

/// A part of the report.
pub async fn events(app: &App, _: &Reader, filter: &Filter, cursor: Option<&str>) -> Result<Page, Error> {
    part(app, filter, cursor, PART).await
}

async fn part(app: &App, filter: &Filter, cursor: Option<&str>, size: usize) -> Result<Page, Error> {
    let cursor = Cursor::read(cursor)?;
    let mut db = app.db.read().await?;
    let rows = sql::events(&mut db, filter, &cursor, size + 1).await?;
    Ok(listing::part(rows, size, |row| {
        Cursor::write(row.at.millis(), format!("{}_{}", row.origin, row.number))
    }))
}

/// Opens the server's own chain, once.
pub async fn open(app: &App) -> Result<(), Error> {
    let mut tx = app.db.begin().await?;
    sql::open(&mut tx, Origin::Server).await?;
    tx.commit().await
}

/// Appends what someone did to the server's own chain, in the transaction of the deed; refuses it where they may do nothing any more:
/// what they sent may have taken its time to arrive.
pub async fn append(tx: &mut AnyConnection, by: &Actor, now: Timestamp, what: What) -> Result<(), Error> {
    // One deed after the other from here on: what takes somebody's rights away is such a deed, too.
    let after = sql::advance(tx, Origin::Server).await?;
    let by_this = match &what {
        What::AccountDisabled { account, .. } => account.to_string(),
        What::ApiTokenRevoked { token, .. } => token.to_string(),
        _ => String::new(),
    };
    if !auth::sql::may_still_act(tx, by, &by_this).await? {
        return Err(Error::Forbidden("you may do nothing here any more; nothing was done".into()));
    }
    append_behind(tx, after, Event { at: now, by: Some(by.by.clone()), what }).await
}

/// Appends what the server itself did.
pub async fn append_own(tx: &mut AnyConnection, now: Timestamp, what: What) -> Result<(), Error> {
    let after = sql::advance(tx, Origin::Server).await?;
    append_behind(tx, after, Event::new(now, what)).await
}

async fn append_behind(tx: &mut AnyConnection, after: ChainHead, event: Event) -> Result<(), Error> {
    let record = Record::encode(after, &event);
    let head = chain::head(after, &record);
    let body = String::from_utf8(record).map_err(|error| Error::internal("writing an event", error))?;
    let stored = event.at;
    let new = sql::New { number: head.number, event: &event, body };
    sql::insert(tx, Origin::Server, after, vec![new], head, stored).await
}

/// The account's or token's name.
fn name(by: &By) -> Text {
    match by {
        By::Account { name, .. } | By::ApiToken { name, .. } => name.clone(),
        By::CommandLine => Text::new("command line"),
    }
}
