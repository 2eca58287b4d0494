//! What a computer reports: each event signed by its elevator, following the one before it, stored exactly once.

use std::collections::HashSet;

use elevon_policy::event::{Event, What};
use elevon_policy::id::ComputerId;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::chain::{self, Broken, Record};
use elevon_wire::channel::{EVENTS_AT_ONCE, Events, Stored};
use elevon_wire::signed::{Purpose, Signed};
use sqlx::AnyConnection;

use crate::app::App;
use crate::audit::{self, Origin};
use crate::auth::computer::Computer;
use crate::db::json;
use crate::error::Error;
use crate::{computers, grants, launches, requests};

/// Refusals of one computer are recorded at most this often: a broken or hostile one must not fill the audit trail.
const REFUSALS: Span = Span::from_mins(1);
/// So many signatures are checked together before others have their turn: a decision must not wait for a long batch.
const IN_A_ROW: usize = 128;

/// Stores events and does what follows from them, all or nothing. What is stored already is passed over, so that an
/// answer that was lost does no harm. Without events it only says how far the server is.
pub async fn store(app: &App, computer: &Computer, events: &Events) -> Result<Stored, Error> {
    let result = match open(computer, events).await {
        Ok(opened) => follow(app, computer, opened).await,
        Err(error) => Err(error),
    };
    if let Err(error @ (Error::Forbidden(_) | Error::Invalid { .. })) = &result {
        record_refusal(app, computer, error).await?;
    }
    let (head, news) = result?;
    if news.own {
        app.news.wake(computer.id);
    } else if news.any {
        app.news.changed();
    }
    if news.any {
        app.deadlines.notify_one();
    }
    Ok(Stored { head })
}

/// An event whose signature holds.
struct Opened<'a> {
    signed: &'a Signed,
    bytes: &'a [u8],
    record: Record,
}

impl Opened<'_> {
    fn number(&self) -> u64 {
        self.record.after.number.saturating_add(1)
    }
}

/// What follows from an event, beyond the row it changed.
#[derive(Debug, Default)]
pub struct Effect {
    /// The computer's sheet moved on.
    pub touched: bool,
    /// What the server itself did about it.
    pub recorded: Vec<What>,
}

/// Who is to be woken.
#[derive(Default)]
struct News {
    /// The computer itself: its sheet moved on.
    own: bool,
    /// Screens, and the sweeper.
    any: bool,
}

async fn open<'a>(computer: &Computer, events: &'a Events) -> Result<Vec<Opened<'a>>, Error> {
    if events.records.len() > EVENTS_AT_ONCE {
        return Err(Error::invalid(format!("expected at most {EVENTS_AT_ONCE} events at once")));
    }
    let mut opened = Vec::with_capacity(events.records.len());
    for some in events.records.chunks(IN_A_ROW) {
        let bytes = Signed::all_bytes(some, &computer.event_key, Purpose::Event)
            .map_err(|error| Error::Forbidden(format!("an event was not accepted: {error}").into()))?;
        for (signed, bytes) in some.iter().zip(bytes) {
            let record = serde_json::from_slice(bytes).map_err(|error| {
                Error::invalid(format!("expected a record of an event that this version can read: {error}"))
            })?;
            opened.push(Opened { signed, bytes, record });
        }
        if opened.len() < events.records.len() {
            tokio::task::yield_now().await;
        }
    }
    Ok(opened)
}

async fn follow(
    app: &App,
    computer: &Computer,
    mut opened: Vec<Opened<'_>>,
) -> Result<(ChainHead, News), Error> {
    let now = app.now();
    let origin = Origin::Computer(computer.id);
    let mut news = News::default();
    if opened.is_empty() {
        let mut db = app.db.read().await?;
        return Ok((audit::sql::head(&mut db, origin).await?, news));
    }
    let mut tx = app.db.begin().await?;
    super::sql::lock(&mut tx, computer.id).await?;
    let mut at = audit::sql::advance(&mut tx, origin).await?;
    let mut own = Vec::new();
    let known = opened.iter().take_while(|opened| opened.number() <= at.number).count();
    let new = opened.split_off(known);
    if let Some(last) = opened.last() {
        same(&mut tx, origin, last).await?;
    }
    if let Some(first) = new.first()
        && audit::sql::take_gap(&mut tx, origin).await?
        && let Some(lost) = behind_a_gap(&mut tx, computer.id, at, first).await?
    {
        at = lost.1;
        own.push(lost.0);
    }
    let from = at;
    let mut events = Vec::with_capacity(new.len());
    for Opened { signed, bytes, record } in new {
        record.follows(at).map_err(|broken| refused(at, &broken))?;
        at = chain::head(at, bytes);
        events.push((at.number, record.event, json(signed)?));
    }
    let rows: Vec<_> = events
        .iter_mut()
        .map(|(number, event, body)| audit::sql::New { number: *number, event, body: std::mem::take(body) })
        .collect();
    audit::sql::insert(&mut tx, origin, from, rows, at, now).await?;
    news.any = !events.is_empty();
    let effects = events.into_iter().map(|(_, event, _)| event).collect();
    let effect = apply_all(app, &mut tx, computer, effects, now).await?;
    news.own = effect.touched;
    own.extend(effect.recorded);
    if news.own {
        super::touch(&mut tx, app, computer.id).await?;
    }
    for what in own {
        audit::append_own(&mut tx, now, what).await?;
    }
    tx.commit().await?;
    Ok((at, news))
}

/// After the server was restored, a computer goes on where it is, and not where the backup was: it may have let go of
/// what the server had stored since.
async fn behind_a_gap(
    tx: &mut AnyConnection,
    computer: ComputerId,
    at: ChainHead,
    first: &Opened<'_>,
) -> Result<Option<(What, ChainHead)>, Error> {
    let until = first.record.after;
    if until.number <= at.number {
        return Ok(None);
    }
    audit::sql::pass_over(tx, Origin::Computer(computer), at, until).await?;
    Ok(Some((What::ComputerEventsLost { computer, after: at, until }, until)))
}

/// A computer whose history differs from what is stored was copied, set back, or lies.
async fn same(tx: &mut AnyConnection, origin: Origin, opened: &Opened<'_>) -> Result<(), Error> {
    let kept = audit::sql::kept(tx, origin, opened.number() - 1, 1).await?;
    let kept = kept.first().and_then(|kept| serde_json::from_str::<Signed>(&kept.body).ok());
    if kept.is_some_and(|kept| kept.unverified_bytes() == opened.bytes) {
        return Ok(());
    }
    Err(Error::Forbidden(
        format!(
            "event {} is another one than this server has stored; was this computer copied or set back? enroll it again",
            opened.number()
        )
        .into(),
    ))
}

fn refused(at: ChainHead, broken: &Broken) -> Error {
    match broken {
        Broken::Number { .. } => Error::Conflict(
            format!("{broken}; this server has stored {} events of this computer", at.number).into(),
        ),
        Broken::Digest { .. } => Error::Forbidden(broken.to_string().into()),
        Broken::Unreadable(_) => Error::invalid(broken.to_string()),
    }
}

/// Does what follows from these events, in their order; but launches, of which nothing else depends, all at once.
async fn apply_all(
    app: &App,
    tx: &mut AnyConnection,
    computer: &Computer,
    events: Vec<Event>,
    now: Timestamp,
) -> Result<Effect, Error> {
    check_whose(tx, computer, &events).await?;
    let (mut all, mut of_launches) = (Effect::default(), Vec::new());
    for event in events {
        if matches!(event.what, What::LaunchStarted { .. } | What::LaunchEnded { .. }) {
            of_launches.push(event);
            continue;
        }
        let effect = apply(app, tx, computer, event, now).await?;
        all.touched |= effect.touched;
        all.recorded.extend(effect.recorded);
    }
    launches::reported(tx, computer.id, of_launches).await?;
    Ok(all)
}

/// A computer speaks of itself: of nothing that the server does, of nobody who acts there, and of no grant of another computer. Looked
/// at before anything follows from any of its events.
async fn check_whose(tx: &mut AnyConnection, computer: &Computer, events: &[Event]) -> Result<(), Error> {
    if let Some(event) = events.iter().find(|event| !event.what.is_from_computer()) {
        return Err(Error::Forbidden(format!("a computer does not record {}", event.what.kind()).into()));
    }
    if events.iter().any(|event| event.by.is_some()) {
        return Err(Error::Forbidden(
            "what a computer records is done by nobody with an account here; this event names one".into(),
        ));
    }
    let grants: HashSet<_> = events.iter().filter_map(|event| event.what.subjects().grant).collect();
    for grant in grants {
        let owner = grants::sql::computer_of(tx, grant).await?;
        if let Some(owner) = owner.filter(|owner| *owner != computer.id) {
            tracing::warn!(grant.id = %grant, grant.computer = %owner, "a computer speaks of another's grant");
            return Err(requests::not_its_own("grant"));
        }
    }
    Ok(())
}

/// Does what follows from an event.
async fn apply(
    app: &App,
    tx: &mut AnyConnection,
    computer: &Computer,
    event: Event,
    now: Timestamp,
) -> Result<Effect, Error> {
    let id = computer.id;
    match event.what {
        What::SheetDelivered { version, bundle, grants, checkpoint } => {
            if let Some(head) = checkpoint
                && !audit::sql::was(tx, Origin::Server, head).await?
            {
                // It is stored all the same: after an older database was put in place of this one, that is what tells of it.
                tracing::warn!(computer.id = %id, event = head.number, "a computer says it was told of an event of this server that there is not");
            }
            computers::sql::delivered(tx, id, version, bundle).await?;
            grants::sql::delivered(tx, id, &grants, now).await?;
            Ok(Effect::default())
        }
        What::RequestMade { request } => requests::made(app, tx, id, *request, now).await,
        What::RequestCancelled { request, user } => requests::cancelled(tx, id, request, &user, now).await,
        What::GrantMade { grant, .. } => grants::made(tx, id, *grant, now).await,
        What::GrantStarted { grant, end } => grants::started(tx, id, grant, end, now).await,
        What::GrantEnded { grant, user } => grants::ended(tx, id, grant, &user, now).await,
        What::GrantRevocationEnforced { grant } => grants::enforced(tx, id, grant, now).await,
        _ => Ok(Effect::default()),
    }
}

async fn record_refusal(app: &App, computer: &Computer, error: &Error) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.db.begin().await?;
    if computers::sql::may_record_refusal(&mut tx, computer.id, now, now.before(REFUSALS)).await? {
        let cause = Text::new(error.to_string());
        audit::append_own(&mut tx, now, What::ComputerRefused { computer: computer.id, cause }).await?;
    }
    tx.commit().await
}
