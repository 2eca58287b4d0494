//! Elevation requests: they come from computers, and people decide them.

pub mod api;
pub mod pages;
pub mod sql;

use elevon_policy::application::User;
use elevon_policy::decide::{Offer, Verdict};
use elevon_policy::event::What;
use elevon_policy::grant::Grant;
use elevon_policy::id::{ComputerId, GrantId, RequestId, Version};
use elevon_policy::request::{Approval, ElevationRequest, LapseReason, RequestRecord, RequestState};
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use serde::Serialize;
use sqlx::AnyConnection;

use crate::app::{App, chance};
use crate::auth::{Approver, Reader};
use crate::channel::bundles;
use crate::channel::events::Effect;
use crate::error::Error;
use crate::listing::{self, Cursor, Listing, PART};
use crate::{audit, channel, grants};

/// So many requests of one computer may wait at once. Further ones lapse as they come: a computer that asks without end
/// must not bury what others ask.
const PENDING: u64 = 100;
/// So many requests of one computer are taken in a day, whatever became of them; further ones lapse as they come as well. More
/// than this is a program that asks and takes back, and not people.
const IN_A_DAY: u64 = 1_000;
/// The longest comment.
const COMMENT: usize = 2000;

/// A request as a screen shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was asked, and what became of it.
    #[serde(flatten)]
    pub record: RequestRecord,
    /// What the computer calls itself.
    pub host_name: Text,
    /// When the computer was last heard from.
    pub last_seen: Option<Timestamp>,
    /// The name of the policy that said to ask.
    pub policy_name: Text,
    /// The grant that resulted.
    pub grant: Option<GrantId>,
}

/// Requests that wait for a decision, the first first.
pub async fn pending(app: &App, _: &Reader, cursor: Option<&str>) -> Result<Listing<Row>, Error> {
    let cursor = Cursor::read_forwards(cursor)?;
    let mut db = app.db.read().await?;
    let rows = sql::pending(&mut db, &cursor, PART + 1).await?;
    Ok(listing::part(rows, PART, |row| Cursor::write(row.record.since.millis(), row.record.asked.id)))
}

/// How many requests wait for a decision.
pub async fn count_pending(app: &App, _: &Reader) -> Result<u64, Error> {
    let mut db = app.db.read().await?;
    sql::count_pending(&mut db).await
}

/// What was asked before by the same user on the same computer, or by anyone for the same bytes: the latest few, the
/// latest first.
pub async fn before(app: &App, _: &Reader, record: &RequestRecord) -> Result<Vec<Row>, Error> {
    let mut db = app.db.read().await?;
    sql::before(&mut db, &record.asked, 6).await
}

/// Requests that were decided, cancelled or lapsed, the latest first.
pub async fn history(app: &App, _: &Reader, cursor: Option<&str>) -> Result<Listing<Row>, Error> {
    let cursor = Cursor::read(cursor)?;
    let mut db = app.db.read().await?;
    let rows = sql::history(&mut db, &cursor, PART + 1).await?;
    Ok(listing::part(rows, PART, |row| Cursor::write(row.record.since.millis(), row.record.asked.id)))
}

/// One request.
pub async fn find(app: &App, _: &Reader, id: RequestId) -> Result<Row, Error> {
    let mut db = app.db.read().await?;
    sql::find(&mut db, id).await?.ok_or(Error::NotFound("request"))
}

/// What the policies in force offer for a request now; none when they refuse it.
pub async fn offer(app: &App, _: &Reader, record: &RequestRecord) -> Result<Option<Offer>, Error> {
    let mut db = app.db.snapshot().await?;
    let offered = judged(app, &mut db, record, app.now()).await;
    db.rollback().await?;
    offered
}

/// Agrees: a grant results, capped by the policy in force. `seen` is the version the approver looked at.
pub async fn approve(
    app: &App,
    by: &Approver,
    id: RequestId,
    seen: Version,
    approval: Approval,
) -> Result<Grant, Error> {
    check_comment(&approval.comment)?;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let record = taken(app, &mut tx, id).await?;
    let Some(offer) = judged(app, &mut tx, &record, now).await? else {
        let computer = record.asked.computer;
        lapse(&mut tx, record, LapseReason::PolicyWithdrawn, now).await?;
        tx.commit().await?;
        app.news.wake(computer);
        return Err(Error::Conflict(
            "the policies in force no longer let anyone ask for this; the request has lapsed".into(),
        ));
    };
    let comment = approval.comment.clone();
    let grant = GrantId::new(now, chance());
    let (record, grant) = record.approve(&by.actor().decider, seen, approval, &offer, grant, now)?;
    sql::step(&mut tx, &record, seen, Some(grant.id)).await?;
    grants::given(&mut tx, &grant, now).await?;
    let what = What::RequestApproved { request: id, grant: Box::new(grant.clone()), comment };
    audit::append(&mut tx, by.actor(), now, what).await?;
    tx.commit().await?;
    app.news.wake(grant.computer);
    app.deadlines.notify_one();
    Ok(grant)
}

/// Does not agree.
pub async fn decline(
    app: &App,
    by: &Approver,
    id: RequestId,
    seen: Version,
    comment: Text,
) -> Result<RequestRecord, Error> {
    check_comment(&comment)?;
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let record = taken(app, &mut tx, id).await?;
    let offer = judged(app, &mut tx, &record, now).await?;
    let self_approval = offer.is_some_and(|offer| offer.terms.self_approval);
    let record = record.decline(&by.actor().decider, seen, self_approval, &comment, now)?;
    sql::step(&mut tx, &record, seen, None).await?;
    let (computer, user) = (record.asked.computer, record.asked.user.clone());
    audit::append(&mut tx, by.actor(), now, What::RequestDeclined { request: id, computer, user, comment })
        .await?;
    tx.commit().await?;
    app.news.wake(computer);
    Ok(record)
}

/// The request, with its computer's sheet moved on and locked.
async fn taken(app: &App, tx: &mut AnyConnection, id: RequestId) -> Result<RequestRecord, Error> {
    let computer = sql::computer_of(tx, id).await?.ok_or(Error::NotFound("request"))?;
    channel::touch(tx, app, computer).await?;
    Ok(sql::find(tx, id).await?.ok_or(Error::NotFound("request"))?.record)
}

async fn judged(
    app: &App,
    db: &mut AnyConnection,
    record: &RequestRecord,
    now: Timestamp,
) -> Result<Option<Offer>, Error> {
    Ok(match bundles::judge(app, db, &record.asked, now).await?.verdict {
        Verdict::Offered { offer } | Verdict::Launch { offer, .. } => Some(offer),
        Verdict::Refused { .. } => None,
    })
}

fn check_comment(comment: &Text) -> Result<(), Error> {
    if comment.as_untrusted().chars().count() > COMMENT {
        return Err(Error::field("comment", format!("expected at most {COMMENT} characters")));
    }
    Ok(())
}

async fn lapse(
    tx: &mut AnyConnection,
    record: RequestRecord,
    reason: LapseReason,
    now: Timestamp,
) -> Result<(), Error> {
    let seen = record.version;
    let record = record.lapse(reason, now)?;
    sql::step(tx, &record, seen, None).await?;
    audit::append_own(tx, now, lapsed(&record.asked, reason)).await
}

fn lapsed(asked: &ElevationRequest, reason: LapseReason) -> What {
    What::RequestLapsed { request: asked.id, computer: asked.computer, user: asked.user.clone(), reason }
}

/// A computer reports a request. One that the policies in force refuse has lapsed at once.
pub async fn made(
    app: &App,
    tx: &mut AnyConnection,
    computer: ComputerId,
    asked: ElevationRequest,
    now: Timestamp,
) -> Result<Effect, Error> {
    if asked.computer != computer {
        return Err(Error::Forbidden(
            "a computer asks for itself only; this request names another one".into(),
        ));
    }
    if let Some(known) = sql::computer_of(tx, asked.id).await? {
        return if known == computer { Ok(Effect::default()) } else { Err(not_its_own("request")) };
    }
    let deadline = asked.lapses;
    let record = RequestRecord::arrived(asked, now);
    let yesterday = now.before(Span::from_hours(24));
    if sql::count_pending_of(tx, computer).await? >= PENDING
        || sql::count_since(tx, computer, yesterday, IN_A_DAY).await? >= IN_A_DAY
    {
        let recorded = vec![lapsed(&record.asked, LapseReason::Unanswered)];
        sql::insert(tx, &record.lapse(LapseReason::Unanswered, now)?, deadline).await?;
        return Ok(Effect { touched: true, recorded });
    }
    if let Some(offer) = judged(app, tx, &record, now).await? {
        let deadline = deadline.min(now.after(offer.terms.pending_lifetime));
        sql::insert(tx, &record, deadline).await?;
        return Ok(Effect::default());
    }
    let recorded = vec![lapsed(&record.asked, LapseReason::PolicyWithdrawn)];
    sql::insert(tx, &record.lapse(LapseReason::PolicyWithdrawn, now)?, deadline).await?;
    Ok(Effect { touched: true, recorded })
}

/// A computer reports that a user took a request back. One that was decided meanwhile stays decided.
pub async fn cancelled(
    tx: &mut AnyConnection,
    computer: ComputerId,
    id: RequestId,
    user: &User,
    now: Timestamp,
) -> Result<Effect, Error> {
    let Some(row) = sql::find(tx, id).await? else { return Ok(Effect::default()) };
    if row.record.asked.computer != computer || row.record.asked.user != *user {
        return Err(not_its_own("request"));
    }
    if row.record.state != RequestState::Pending {
        return Ok(Effect::default());
    }
    let seen = row.record.version;
    sql::step(tx, &row.record.cancel(now)?, seen, None).await?;
    Ok(Effect { touched: true, recorded: Vec::new() })
}

/// What a computer says concerns itself only.
pub fn not_its_own(what: &str) -> Error {
    Error::Forbidden(format!("a computer speaks of its own only; this {what} is not").into())
}

/// Lets every request lapse whose time ran out, and gives the next deadline. Another server that does the same does no
/// harm: the first one moves the request, the second finds it moved.
pub async fn lapse_due(app: &App) -> Result<Option<Timestamp>, Error> {
    let due = sql::due(&mut *app.db.read().await?, app.now()).await?;
    for id in due {
        lapse_now(app, id, LapseReason::Unanswered).await?;
    }
    sql::next_deadline(&mut *app.db.read().await?).await
}

/// Looks at every pending request again after policy changed: those that nobody may ask for any more lapse.
pub async fn judge_pending(app: &App) -> Result<(), Error> {
    let mut cursor = Cursor::first();
    loop {
        let pending = sql::pending(&mut *app.db.read().await?, &cursor, PART).await?;
        let Some(last) = pending.last().map(|row| &row.record) else { return Ok(()) };
        cursor = Cursor { at: last.since.millis(), key: last.asked.id.to_string() };
        for row in pending {
            let now = app.now();
            let mut db = app.db.read().await?;
            let refused = judged(app, &mut db, &row.record, now).await?.is_none();
            drop(db);
            if refused {
                lapse_now(app, row.record.asked.id, LapseReason::PolicyWithdrawn).await?;
            }
        }
    }
}

/// Lets a request lapse that is still pending, and for which the reason still holds.
async fn lapse_now(app: &App, id: RequestId, reason: LapseReason) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    let record = taken(app, &mut tx, id).await?;
    let computer = record.asked.computer;
    let holds = match reason {
        LapseReason::Unanswered => true,
        LapseReason::PolicyWithdrawn => judged(app, &mut tx, &record, now).await?.is_none(),
    };
    if record.state == RequestState::Pending && holds {
        lapse(&mut tx, record, reason, now).await?;
        tx.commit().await?;
        app.news.wake(computer);
    }
    Ok(())
}
