//! Requests, as the database remembers them.

use elevon_policy::id::{ComputerId, GrantId, RequestId, Version};
use elevon_policy::request::{Decision, ElevationRequest, LapseReason, RequestRecord, RequestState};
use elevon_policy::sheet::{Answer, AnswerOutcome};
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Row;
use crate::db::{changed_once, count, document, json, number, parsed, time};
use crate::error::Error;
use crate::listing::Cursor;

/// The statement whose rows [`row`] reads: what stands behind the tables says which.
macro_rules! rows {
    ($which:literal) => {
        concat!(
            "select r.*, c.host_name, c.last_seen, p.name as policy_name
             from requests r join computers c on c.id = r.computer_id left join policies p on p.id = r.policy_id ",
            $which
        )
    };
}

fn row(row: &AnyRow) -> Result<Row, Error> {
    let record = RequestRecord {
        asked: document(row, "asked")?,
        state: parsed(row, "state")?,
        version: Version(count(row, "version")?),
        since: Timestamp::from_millis(row.try_get("since")?),
        decision: decision(row)?,
        lapse_reason: lapse_reason(row)?,
    };
    Ok(Row {
        record,
        host_name: Text::new(row.try_get::<String, _>("host_name")?),
        last_seen: time(row, "last_seen")?,
        policy_name: Text::new(row.try_get::<Option<String>, _>("policy_name")?.unwrap_or_default()),
        grant: grant(row)?,
    })
}

fn decision(row: &AnyRow) -> Result<Option<Decision>, Error> {
    match row.try_get::<Option<String>, _>("decision")? {
        Some(_) => document(row, "decision").map(Some),
        None => Ok(None),
    }
}

fn lapse_reason(row: &AnyRow) -> Result<Option<LapseReason>, Error> {
    Ok(match row.try_get::<Option<String>, _>("lapse_reason")?.as_deref() {
        Some("unanswered") => Some(LapseReason::Unanswered),
        Some(_) => Some(LapseReason::PolicyWithdrawn),
        None => None,
    })
}

fn grant(row: &AnyRow) -> Result<Option<GrantId>, Error> {
    match row.try_get::<Option<String>, _>("grant_id")? {
        Some(_) => parsed(row, "grant_id").map(Some),
        None => Ok(None),
    }
}

/// One request.
pub async fn find(db: &mut AnyConnection, id: RequestId) -> Result<Option<Row>, Error> {
    let found = sqlx::query(rows!("where r.id = $1")).bind(id.to_string()).fetch_optional(db).await?;
    found.as_ref().map(row).transpose()
}

/// The computer of a request.
pub async fn computer_of(db: &mut AnyConnection, id: RequestId) -> Result<Option<ComputerId>, Error> {
    let found = sqlx::query("select computer_id from requests where id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    found.as_ref().map(|row| parsed(row, "computer_id")).transpose()
}

/// Requests that wait for a decision, the first first, behind the cursor.
pub async fn pending(db: &mut AnyConnection, cursor: &Cursor, limit: usize) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query(rows!(
        "where r.state = 'pending' and (r.since, r.id) > ($1, $2) order by r.since, r.id limit $3"
    ))
    .bind(cursor.at)
    .bind(&cursor.key)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    rows.iter().map(row).collect()
}

/// How many requests are pending.
pub async fn count_pending(db: &mut AnyConnection) -> Result<u64, Error> {
    let row =
        sqlx::query("select count(*) as pending from requests where state = 'pending'").fetch_one(db).await?;
    count(&row, "pending")
}

/// How many requests of a computer are pending.
pub async fn count_pending_of(db: &mut AnyConnection, computer: ComputerId) -> Result<u64, Error> {
    let row =
        sqlx::query("select count(*) as pending from requests where computer_id = $1 and state = 'pending'")
            .bind(computer.to_string())
            .fetch_one(db)
            .await?;
    count(&row, "pending")
}

/// How many requests of a computer were made, or got another state, at this time or later, counted up to `most`.
pub async fn count_since(
    db: &mut AnyConnection,
    computer: ComputerId,
    since: Timestamp,
    most: u64,
) -> Result<u64, Error> {
    let row = sqlx::query(
        "select count(*) as asked from
             (select id from requests where computer_id = $1 and since >= $2 limit $3) as latest",
    )
    .bind(computer.to_string())
    .bind(since.millis())
    .bind(number(most))
    .fetch_one(db)
    .await?;
    count(&row, "asked")
}

/// Other requests of the same user on the same computer, or for the same bytes; the latest first.
pub async fn before(db: &mut AnyConnection, asked: &ElevationRequest, limit: i64) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query(rows!(
        "where ((r.computer_id = $1 and r.user_name = $2) or r.sha256 = $3) and r.id < $4
         order by r.id desc limit $5"
    ))
    .bind(asked.computer.to_string())
    .bind(asked.user.name.as_untrusted())
    .bind(asked.application.sha256.to_string())
    .bind(asked.id.to_string())
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(row).collect()
}

/// Requests that are over, the latest first, behind the cursor.
pub async fn history(db: &mut AnyConnection, cursor: &Cursor, limit: usize) -> Result<Vec<Row>, Error> {
    let rows = sqlx::query(rows!(
        "where r.state in ('approved', 'declined', 'cancelled', 'lapsed') and (r.since, r.id) < ($1, $2)
         order by r.since desc, r.id desc limit $3"
    ))
    .bind(cursor.at)
    .bind(&cursor.key)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    rows.iter().map(row).collect()
}

/// A request that is new here.
pub async fn insert(
    tx: &mut AnyConnection,
    record: &RequestRecord,
    deadline: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "insert into requests (id, computer_id, user_name, sha256, policy_id, state, version, since, deadline,
                               asked, lapse_reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(record.asked.id.to_string())
    .bind(record.asked.computer.to_string())
    .bind(record.asked.user.name.as_untrusted())
    .bind(record.asked.application.sha256.to_string())
    .bind(record.asked.policy.policy.to_string())
    .bind(record.state.word())
    .bind(number(record.version.0))
    .bind(record.since.millis())
    .bind(deadline.millis())
    .bind(json(&record.asked)?)
    .bind(record.lapse_reason.map(word))
    .execute(tx)
    .await?;
    Ok(())
}

/// Moves a request one step, if it still is as it was seen.
pub async fn step(
    tx: &mut AnyConnection,
    record: &RequestRecord,
    seen: Version,
    grant: Option<GrantId>,
) -> Result<(), Error> {
    let done = sqlx::query(
        "update requests set state = $3, version = $4, since = $5, decision = $6, lapse_reason = $7, grant_id = $8
         where id = $1 and version = $2
           and exists (select 1 from request_steps where from_state = requests.state and to_state = $3)",
    )
    .bind(record.asked.id.to_string())
    .bind(number(seen.0))
    .bind(record.state.word())
    .bind(number(record.version.0))
    .bind(record.since.millis())
    .bind(record.decision.as_ref().map(json).transpose()?)
    .bind(record.lapse_reason.map(word))
    .bind(grant.map(|id| id.to_string()))
    .execute(tx)
    .await?;
    changed_once(done.rows_affected())
}

fn word(reason: LapseReason) -> &'static str {
    match reason {
        LapseReason::Unanswered => "unanswered",
        LapseReason::PolicyWithdrawn => "policy_withdrawn",
    }
}

/// Answers to a computer's requests that were given at this time or later, the first first; of many, the latest.
pub async fn answers(
    db: &mut AnyConnection,
    computer: ComputerId,
    since: Timestamp,
    limit: i64,
) -> Result<Vec<Answer>, Error> {
    let rows = sqlx::query(
        "select id, state, since, decision, lapse_reason, grant_id from requests
         where computer_id = $1 and state <> 'pending' and since >= $2 order by since desc, id desc limit $3",
    )
    .bind(computer.to_string())
    .bind(since.millis())
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().rev().map(answer).collect()
}

fn answer(row: &AnyRow) -> Result<Answer, Error> {
    let state: RequestState = parsed(row, "state")?;
    let decision = decision(row)?;
    let (by, comment) = decision.map(|decision| (decision.name, decision.comment)).unwrap_or_default();
    let outcome = match (state, grant(row)?, lapse_reason(row)?) {
        (RequestState::Approved, Some(grant), _) => AnswerOutcome::Approved { by, comment, grant },
        (RequestState::Declined, ..) => AnswerOutcome::Declined { by, comment },
        (RequestState::Lapsed, _, Some(reason)) => AnswerOutcome::Lapsed { reason },
        _ => AnswerOutcome::Cancelled,
    };
    Ok(Answer { request: parsed(row, "id")?, at: Timestamp::from_millis(row.try_get("since")?), outcome })
}

/// Pending requests whose time ran out.
pub async fn due(db: &mut AnyConnection, now: Timestamp) -> Result<Vec<RequestId>, Error> {
    let rows =
        sqlx::query("select id from requests where state = 'pending' and deadline <= $1 order by deadline")
            .bind(now.millis())
            .fetch_all(db)
            .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// When the next pending request runs out.
pub async fn next_deadline(db: &mut AnyConnection) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query("select min(deadline) as deadline from requests where state = 'pending'")
        .fetch_one(db)
        .await?;
    time(&row, "deadline")
}
