//! Chains and events, as the database remembers them.

use elevon_policy::application::Sha256;
use elevon_policy::event::Event;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use elevon_wire::chain::Record;
use elevon_wire::signed::{Signed, digest};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Filter, Origin, Row};
use crate::db::{changed_once, count, document, number, parsed};
use crate::error::Error;
use crate::listing::Cursor;

/// Opens a chain, if it is not there.
pub async fn open(tx: &mut AnyConnection, origin: Origin) -> Result<(), Error> {
    sqlx::query("insert into chains (id, number, digest) values ($1, 0, $2) on conflict (id) do nothing")
        .bind(origin.to_string())
        .bind(ChainHead::START.digest.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// The head of a chain; the row stays locked until the transaction ends.
pub async fn advance(tx: &mut AnyConnection, origin: Origin) -> Result<ChainHead, Error> {
    let row = sqlx::query("update chains set number = number where id = $1 returning number, digest")
        .bind(origin.to_string())
        .fetch_one(tx)
        .await?;
    Ok(ChainHead { number: count(&row, "number")?, digest: parsed(&row, "digest")? })
}

/// The head of a chain, without locking it.
pub async fn head(db: &mut AnyConnection, origin: Origin) -> Result<ChainHead, Error> {
    let row = sqlx::query("select number, digest from chains where id = $1")
        .bind(origin.to_string())
        .fetch_one(db)
        .await?;
    Ok(ChainHead { number: count(&row, "number")?, digest: parsed(&row, "digest")? })
}

/// Whether this chain may leave a gap; if so, it may not again.
pub async fn take_gap(tx: &mut AnyConnection, origin: Origin) -> Result<bool, Error> {
    let done = sqlx::query("update chains set gap_allowed = 0 where id = $1 and gap_allowed = 1")
        .bind(origin.to_string())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Moves the end of a chain over events that went lost.
pub async fn pass_over(
    tx: &mut AnyConnection,
    origin: Origin,
    from: ChainHead,
    until: ChainHead,
) -> Result<(), Error> {
    insert(tx, origin, from, &[], until, Timestamp::from_millis(0)).await
}

/// An event in its place, to be stored.
#[derive(Debug)]
pub struct New<'a> {
    /// Its number.
    pub number: u64,
    /// What happened.
    pub event: &'a Event,
    /// The record, and the signature where it has one.
    pub body: String,
}

/// So many rows are stored by one statement; what is left, by smaller ones. Each size is prepared once.
const AT_ONCE: [usize; 3] = [32, 8, 1];

/// Stores events behind `from`, which is where their chain ends; the last becomes its end.
pub async fn insert(
    tx: &mut AnyConnection,
    origin: Origin,
    from: ChainHead,
    events: &[New<'_>],
    head: ChainHead,
    stored: Timestamp,
) -> Result<(), Error> {
    let mut left = events;
    for size in AT_ONCE {
        while let Some((now, later)) = left.split_at_checked(size) {
            insert_rows(tx, origin, now, stored).await?;
            left = later;
        }
    }
    let moved = sqlx::query("update chains set number = $3, digest = $4 where id = $1 and number = $2")
        .bind(origin.to_string())
        .bind(number(from.number))
        .bind(number(head.number))
        .bind(head.digest.to_string())
        .execute(tx)
        .await?;
    changed_once(moved.rows_affected())
}

async fn insert_rows(
    tx: &mut AnyConnection,
    origin: Origin,
    events: &[New<'_>],
    stored: Timestamp,
) -> Result<(), Error> {
    let places = |row: usize| {
        let places: Vec<_> = (1..=14).map(|column| format!("${}", row * 14 + column)).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<_> = (0..events.len()).map(places).collect();
    let sql = format!(
        "insert into events (chain, number, at, stored, kind, account, computer_id, user_name, application,
                             policy_id, request_id, grant_id, launch_id, body) values {}",
        rows.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for New { number: place, event, body } in events {
        let about = event.what.subjects();
        let computer = match origin {
            Origin::Computer(id) => Some(id),
            Origin::Server => about.computer,
        };
        query = query
            .bind(origin.to_string())
            .bind(number(*place))
            .bind(event.at.millis())
            .bind(stored.millis())
            .bind(event.what.kind())
            .bind(event.by.as_ref().map(|by| super::name(by).as_untrusted().to_owned()))
            .bind(computer.map(|id| id.to_string()))
            .bind(about.user.map(|user| user.as_untrusted().to_owned()))
            .bind(about.application.map(|path| path.escaped()))
            .bind(about.policy.map(|id| id.to_string()))
            .bind(about.request.map(|id| id.to_string()))
            .bind(about.grant.map(|id| id.to_string()))
            .bind(about.launch.map(|id| id.to_string()))
            .bind(body);
    }
    query.execute(tx).await?;
    Ok(())
}

/// Events from the latest, behind the cursor.
pub async fn events(
    db: &mut AnyConnection,
    filter: &Filter,
    cursor: &Cursor,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    let mut wanted = Wanted::default();
    let (chain, behind) = match cursor.key.rsplit_once('_') {
        Some((chain, behind)) => (chain.to_owned(), behind.parse().unwrap_or(0)),
        None => ("~".to_owned(), i64::MAX),
    };
    let (at, chain, behind) = (wanted.number(cursor.at), wanted.text(chain), wanted.number(behind));
    wanted.all.push(format!("(e.at, e.chain, e.number) < ({at}, {chain}, {behind})"));
    wanted.filter(filter);
    let limit = wanted.number(i64::try_from(limit).unwrap_or(i64::MAX));
    let sql = format!(
        "select e.chain, e.number, e.at, e.stored, e.computer_id, e.body, c.host_name
         from events e left join computers c on c.id = e.computer_id
         where {} order by e.at desc, e.chain desc, e.number desc limit {limit}",
        wanted.all.join(" and ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for value in wanted.values {
        query = match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        };
    }
    query.fetch_all(db).await?.iter().map(row).collect()
}

/// Conditions, with their values apart from the text.
#[derive(Default)]
struct Wanted {
    all: Vec<String>,
    values: Vec<Value>,
}

enum Value {
    Text(String),
    Number(i64),
}

impl Wanted {
    fn text(&mut self, text: impl Into<String>) -> String {
        self.values.push(Value::Text(text.into()));
        format!("${}", self.values.len())
    }

    fn number(&mut self, number: i64) -> String {
        self.values.push(Value::Number(number));
        format!("${}", self.values.len())
    }

    fn equal(&mut self, column: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            let value = self.text(value.to_string());
            self.all.push(format!("e.{column} = {value}"));
        }
    }

    fn filter(&mut self, filter: &Filter) {
        if let Some(since) = filter.since {
            let since = self.number(since.millis());
            self.all.push(format!("e.at >= {since}"));
        }
        if let Some(until) = filter.until {
            let until = self.number(until.millis());
            self.all.push(format!("e.at < {until}"));
        }
        if let Some(user) = &filter.user {
            let (user, account) = (self.text(user), self.text(user));
            self.all.push(format!("(e.user_name = {user} or e.account = {account})"));
        }
        if let Some(application) = &filter.application {
            let pattern = application.to_lowercase().replace('!', "!!").replace('%', "!%").replace('_', "!_");
            let pattern = self.text(format!("%{pattern}%"));
            self.all.push(format!("lower(e.application) like {pattern} escape '!'"));
        }
        self.equal("computer_id", filter.computer);
        self.equal("policy_id", filter.policy);
        self.equal("kind", filter.kind.as_deref());
        self.equal("request_id", filter.request);
        self.equal("grant_id", filter.grant);
    }
}

fn row(row: &AnyRow) -> Result<Row, Error> {
    let origin: Origin = parsed(row, "chain")?;
    let body: String = row.try_get("body")?;
    let unreadable = |error: serde_json::Error| Error::internal("reading an event", error);
    let record: Record = match origin {
        Origin::Server => serde_json::from_str(&body).map_err(unreadable)?,
        Origin::Computer(_) => {
            let signed: Signed = serde_json::from_str(&body).map_err(unreadable)?;
            serde_json::from_slice(signed.unverified_bytes()).map_err(unreadable)?
        }
    };
    let computer: Option<String> = row.try_get("computer_id")?;
    Ok(Row {
        number: count(row, "number")?,
        at: Timestamp::from_millis(row.try_get("at")?),
        stored: Timestamp::from_millis(row.try_get("stored")?),
        origin,
        computer: computer.and_then(|id| id.parse().ok()),
        host_name: row.try_get::<Option<String>, _>("host_name")?.map(Text::new),
        account: record.event.by.as_ref().map(super::name),
        event: record.event,
    })
}

/// A chain and whose key signs its events; none for the server's own.
pub async fn chains(db: &mut AnyConnection) -> Result<Vec<(Origin, Option<String>)>, Error> {
    let rows = sqlx::query(
        "select h.id, c.event_key from chains h left join computers c on c.id = h.id order by h.id",
    )
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((parsed(row, "id")?, row.try_get("event_key")?))).collect()
}

/// A stored event as it is checked: its number, its body, and the columns beside it that must agree.
#[derive(Debug)]
pub struct Kept {
    /// Its place in its chain.
    pub number: u64,
    /// The column that says when.
    pub at: i64,
    /// The column that says what.
    pub kind: String,
    /// The record.
    pub body: String,
}

impl Kept {
    /// The digest of the record, where the body can be read.
    pub fn digest(&self, origin: Origin) -> Option<Sha256> {
        match origin {
            Origin::Server => Some(digest(self.body.as_bytes())),
            Origin::Computer(_) => {
                serde_json::from_str::<Signed>(&self.body).ok().map(|signed| signed.digest())
            }
        }
    }
}

/// Stored events of a chain whose number lies behind `after` and not behind `until`, in order, as one text: a line each of
/// number, time, kind and body with a space between them. No record has a line break in it. To read a long chain row by
/// row takes several times as long.
pub async fn lines(db: &mut AnyConnection, origin: Origin, after: u64, until: u64) -> Result<String, Error> {
    let row = sqlx::query(
        "select string_agg(number || ' ' || at || ' ' || kind || ' ' || body, $4 order by number) as lines
         from events where chain = $1 and number > $2 and number <= $3",
    )
    .bind(origin.to_string())
    .bind(number(after))
    .bind(number(until))
    .bind("\n")
    .fetch_one(db)
    .await?;
    Ok(row.try_get::<Option<String>, _>("lines")?.unwrap_or_default())
}

/// The number of the last event of a chain that is there.
pub async fn last_number(db: &mut AnyConnection, origin: Origin) -> Result<u64, Error> {
    let row = sqlx::query("select coalesce(max(number), 0) as number from events where chain = $1")
        .bind(origin.to_string())
        .fetch_one(db)
        .await?;
    count(&row, "number")
}

/// The server's own events of one kind, in order.
pub async fn of_kind(db: &mut AnyConnection, kind: &str) -> Result<Vec<Event>, Error> {
    let rows = sqlx::query("select body from events where chain = 'server' and kind = $1 order by number")
        .bind(kind)
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| Ok(document::<Record>(row, "body")?.event)).collect()
}

/// Stored events of a chain behind this number, in order.
pub async fn kept(
    db: &mut AnyConnection,
    origin: Origin,
    after: u64,
    limit: i64,
) -> Result<Vec<Kept>, Error> {
    let rows = sqlx::query(
        "select number, at, kind, body from events where chain = $1 and number > $2 order by number limit $3",
    )
    .bind(origin.to_string())
    .bind(number(after))
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Kept {
                number: count(row, "number")?,
                at: row.try_get("at")?,
                kind: row.try_get("kind")?,
                body: row.try_get("body")?,
            })
        })
        .collect()
}
