//! Chains and events, as the database remembers them.

use elevon_policy::application::Sha256;
use elevon_policy::event::Event;
use elevon_policy::id::ComputerId;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use elevon_wire::chain::Record;
use elevon_wire::signed::{Signed, digest};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Filter, Origin, Row, columns};
use crate::db::{changed_once, count, document, number, parsed, places, rows_at_once};
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
    insert(tx, origin, from, Vec::new(), until, Timestamp::from_millis(0)).await
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

/// Stores events behind `from`, which is where their chain ends; the last becomes its end.
pub async fn insert(
    tx: &mut AnyConnection,
    origin: Origin,
    from: ChainHead,
    events: Vec<New<'_>>,
    head: ChainHead,
    stored: Timestamp,
) -> Result<(), Error> {
    let mut left = events.into_iter();
    for size in rows_at_once(tx) {
        while left.len() >= size {
            insert_rows(tx, origin, left.by_ref().take(size), size, stored).await?;
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
    events: impl Iterator<Item = New<'_>>,
    size: usize,
    stored: Timestamp,
) -> Result<(), Error> {
    let sql = format!(
        "insert into events (chain, stored, number, at, kind, body, {}) values {}",
        columns::NAMES.join(", "),
        places(2, size, 4 + columns::NAMES.len()).replace('(', "($1, $2, ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(origin.to_string()).bind(stored.millis());
    for New { number: place, event, body } in events {
        query = query.bind(number(place)).bind(event.at.millis()).bind(event.what.kind()).bind(body);
        for column in columns::of(origin, event) {
            query = query.bind(column);
        }
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

/// What a computer calls itself.
pub async fn host_name(db: &mut AnyConnection, computer: ComputerId) -> Result<Option<Text>, Error> {
    let found = sqlx::query("select host_name from computers where id = $1")
        .bind(computer.to_string())
        .fetch_optional(db)
        .await?;
    found.map(|row| Ok(Text::new(row.try_get::<String, _>("host_name")?))).transpose()
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
    /// Those the report is filtered by, in the order of [`columns::NAMES`].
    pub beside: [Option<String>; columns::NAMES.len()],
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

/// Behind each column of a [`Run`].
pub const BEHIND: char = '\u{1f}';

/// Stored events of a chain in order, as two texts. To read a long chain row by row takes several times as long.
pub struct Run(AnyRow);

impl Run {
    /// Those whose number lies behind `after` and not behind `until`.
    pub async fn read(db: &mut AnyConnection, origin: Origin, after: u64, until: u64) -> Result<Self, Error> {
        let beside = columns::NAMES.map(|name| format!("coalesce({name}, '')"));
        let sql = format!(
            "select string_agg(heading, '') as headings, string_agg(body, '') as bodies from
                 (select concat_ws($4, number, at, kind, {}, octet_length(body), '') as heading, body from events
                  where chain = $1 and number > $2 and number <= $3 order by number) as stretch",
            beside.join(", ")
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(origin.to_string())
            .bind(number(after))
            .bind(number(until))
            .bind(BEHIND.to_string())
            .fetch_one(db)
            .await?;
        Ok(Self(row))
    }

    /// Of each event its number, time, kind, [`columns::NAMES`] and the length of its body in bytes, with [`BEHIND`] behind
    /// each of them: a name with [`BEHIND`] in it makes this unreadable. And the bodies, one after the other.
    pub fn texts(&self) -> Result<(&str, &str), Error> {
        let text = |name| self.0.try_get::<Option<&str>, _>(name).map(Option::unwrap_or_default);
        Ok((text("headings")?, text("bodies")?))
    }
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

/// Whether a chain was once so far, and ended so.
pub async fn was(db: &mut AnyConnection, origin: Origin, head: ChainHead) -> Result<bool, Error> {
    if head.number == 0 {
        return Ok(head == ChainHead::START);
    }
    let kept = kept(db, origin, head.number - 1, 1).await?;
    let kept = kept.first().filter(|kept| kept.number == head.number);
    Ok(kept.and_then(|kept| kept.digest(origin)) == Some(head.digest))
}

/// Stored events of a chain behind this number, in order.
pub async fn kept(
    db: &mut AnyConnection,
    origin: Origin,
    after: u64,
    limit: i64,
) -> Result<Vec<Kept>, Error> {
    let sql = format!(
        "select number, at, kind, body, {} from events where chain = $1 and number > $2 order by number limit $3",
        columns::NAMES.join(", ")
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(origin.to_string())
        .bind(number(after))
        .bind(limit)
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| {
            let mut beside = [const { None }; columns::NAMES.len()];
            for (column, name) in beside.iter_mut().zip(columns::NAMES) {
                *column = row.try_get(name)?;
            }
            Ok(Kept {
                number: count(row, "number")?,
                at: row.try_get("at")?,
                kind: row.try_get("kind")?,
                beside,
                body: row.try_get("body")?,
            })
        })
        .collect()
}
