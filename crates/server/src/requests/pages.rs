//! Just-In-Time Access in the browser: who waits, one request with all that decides it, and what was decided.

use askama::Template;
use axum::Form as Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use elevon_policy::application::Lane;
use elevon_policy::decide::ListKind;
use elevon_policy::id::{GrantId, RequestId, Version};
use elevon_policy::lists::{Covers, Starts, Terms};
use elevon_policy::request::{Approval, LapseReason, RequestState};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use serde::Deserialize;

use super::Row;
use crate::app::App;
use crate::auth::{Approver, Needs};
use crate::error::Error;
use crate::listing::Part;
use crate::pages::command::Command;
use crate::pages::failure::beside;
use crate::pages::flash::Flash;
use crate::pages::form::Form;
use crate::pages::frame::Frame;
use crate::pages::moment::{between, brief, words};
use crate::pages::words::counted;
use crate::pages::{self, risk};
use crate::{computers, grants, policies};

/// How the one who looks stands to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// May decide it, also from the list.
    FromHere,
    /// May decide it where all of it can be read.
    OpenFirst,
    /// Is, or counts as, its user.
    Tied,
    /// May not decide, or there is nothing to decide any more.
    ReadsOnly,
}

impl Standing {
    fn of(frame: &Frame, row: &Row, self_approval: bool) -> Self {
        let asked = &row.record.asked;
        if row.record.state != RequestState::Pending || !frame.may(Needs::Approver) {
            Self::ReadsOnly
        } else if !self_approval && frame.actor().decider.is_tied_to(&asked.user, asked.computer) {
            Self::Tied
        } else if risk::tags(&asked.application).is_empty() {
            Self::FromHere
        } else {
            Self::OpenFirst
        }
    }
}

#[derive(Template)]
#[template(path = "requests/pending.html", blocks = ["live"])]
struct PendingPage {
    frame: Frame,
    rows: Vec<Row>,
    active: Option<usize>,
    shown: String,
    computers: usize,
    lists: usize,
}

impl PendingPage {
    fn summary(&self) -> String {
        let waiting = counted(self.frame.pending, "request waits", "requests wait");
        match self.rows.first() {
            None => "People who ask to run one application as root, for a while.".to_owned(),
            Some(first) => format!("{waiting}, the first for {}.", between(first.record.asked.made, self.frame.now)),
        }
    }

    /// From the list nobody is let off reading: whoever could decide for themselves opens it too.
    fn standing(&self, row: &Row) -> Standing {
        Standing::of(&self.frame, row, false)
    }
}

/// What the list shows, in short; another one is shown when it changes.
fn shown(rows: &[Row], now: Timestamp) -> String {
    let mut all = String::new();
    for row in rows {
        all.push_str(&format!(
            "{} {} {}\n",
            row.record.asked.id,
            row.record.version,
            computers::is_online(row.last_seen, now)
        ));
    }
    elevon_wire::signed::digest(all.as_bytes()).short()
}

async fn pending_page(app: &App, frame: Frame) -> Result<PendingPage, Error> {
    let rows = super::pending(app, &frame.reader).await?;
    let active = Some(grants::active(app, &frame.reader).await?.len());
    let (mut computers, mut lists) = (0, 0);
    if rows.is_empty() {
        computers = computers::list(app, &frame.reader).await?.len();
        let all = policies::lists(app, &frame.reader, ListKind::PrivilegedApplicationList).await?;
        lists = all.iter().filter(|list| list.deployed_version.is_some()).count();
    }
    Ok(PendingPage { shown: shown(&rows, frame.now), frame, rows, active, computers, lists })
}

/// `GET /access`
pub async fn pending(State(app): State<App>, frame: Frame) -> Result<Response, Error> {
    let page = pending_page(&app, frame.clone()).await?;
    frame.show(&page)
}

/// What the open page already shows.
#[derive(Debug, Deserialize)]
pub struct Shown {
    shown: String,
}

/// How long an open page waits for news before it asks again: short enough for tabs that share a few connections.
const PATIENCE: Span = Span::from_secs(10);

/// `GET /access/pending`: the list alone, as soon as it differs from what is shown.
pub async fn live(
    State(app): State<App>,
    frame: Frame,
    Query(Shown { shown: seen }): Query<Shown>,
) -> Result<Response, Error> {
    let until = app.now().after(PATIENCE);
    let mut news = app.news.follow();
    loop {
        let rows = super::pending(&app, &frame.reader).await?;
        let left = until.since(app.now());
        if shown(&rows, app.now()) != seen || left == Span::ZERO {
            break;
        }
        let _ = tokio::time::timeout(left.std(), news.changed()).await;
    }
    let frame = Frame { pending: super::count_pending(&app, &frame.reader).await?, now: app.now(), ..frame };
    let page = pending_page(&app, frame.clone()).await?;
    frame.show(&page.as_live())
}

#[derive(Template)]
#[template(path = "requests/history.html")]
struct HistoryPage {
    frame: Frame,
    rows: Vec<Row>,
    active: Option<usize>,
    next: Option<String>,
}

/// `GET /access/history`
pub async fn history(
    State(app): State<App>,
    frame: Frame,
    Query(part): Query<Part>,
) -> Result<Response, Error> {
    let listing = super::history(&app, &frame.reader, part.cursor.as_deref()).await?;
    let active = Some(grants::active(&app, &frame.reader).await?.len());
    frame.show(&HistoryPage { frame: frame.clone(), rows: listing.items, active, next: listing.next })
}

#[derive(Clone, Template)]
#[template(path = "requests/request.html")]
struct RequestPage {
    frame: Frame,
    row: Row,
    operating_system: Text,
    before: Vec<Row>,
    standing: Standing,
    form: Form,
    /// To choose from, the longest first.
    durations: Vec<Span>,
    /// Whether the policy lets a grant cover any arguments.
    any_arguments: bool,
    starts: Starts,
    grant: Option<GrantId>,
}

impl RequestPage {
    async fn of(app: &App, frame: Frame, id: RequestId, form: Option<Form>) -> Result<Self, Error> {
        let row = super::find(app, &frame.reader, id).await?;
        let computer = computers::find(app, &frame.reader, row.record.asked.computer).await?;
        let before = super::before(app, &frame.reader, &row.record).await?;
        let offer = match row.record.state {
            RequestState::Pending => super::offer(app, &frame.reader, &row.record).await?,
            _ => None,
        };
        let terms = offer.map(|offer| offer.terms).unwrap_or_default();
        let durations = durations(row.record.asked.duration, &terms);
        let form = form.unwrap_or_else(|| {
            let longest = durations.first().copied().unwrap_or_default();
            [("duration".to_owned(), longest.to_string())].into_iter().collect()
        });
        Ok(Self {
            standing: Standing::of(&frame, &row, terms.self_approval),
            any_arguments: terms.arguments == Covers::AnyArguments,
            starts: terms.starts,
            grant: row.grant,
            frame,
            row,
            operating_system: computer.operating_system,
            before,
            form,
            durations,
        })
    }

    fn headline(&self) -> String {
        let asked = &self.row.record.asked;
        let wants = if self.row.record.state == RequestState::Pending { "wants" } else { "wanted" };
        let (user, application) = (asked.user.name.visible(), asked.application.name());
        format!("{user} {wants} to run {} as root for {}", application.visible(), words(asked.duration))
    }

    /// The name the program sees itself called by, where it is another one than the file's.
    fn called(&self) -> Option<&OsText> {
        let asked = &self.row.record.asked;
        asked.argv.first().filter(|called| called.file_name() != asked.application.name())
    }

    fn application(&self) -> String {
        let application = &self.row.record.asked.application;
        let package = application.package.as_ref().map(|package| {
            let vendor = package
                .vendor
                .as_ref()
                .map(|vendor| format!(" by {}", vendor.name.visible()))
                .unwrap_or_default();
            let modified = if package.unmodified {
                "unmodified since its package"
            } else {
                "not as its package recorded it"
            };
            format!("{} {}{vendor}, {modified}; ", package.product.visible(), package.version.visible())
        });
        let owner =
            if application.owner == 0 { "root".to_owned() } else { format!("uid {}", application.owner) };
        format!(
            "{}{}, owned by {owner}, mode {:04o}",
            package.unwrap_or_default(),
            size(application.size),
            application.mode & 0o7777
        )
    }

    fn lane(&self) -> String {
        match &self.row.record.asked.application.lane {
            Lane::Trusted => "trusted: only root can change the file or any folder above it".to_owned(),
            Lane::Untrusted { component, because } => {
                format!(
                    "not trusted: {} {}; a sealed copy of these very bytes would run",
                    component.visible(),
                    because.sentence()
                )
            }
        }
    }

    /// An earlier request, in a sentence.
    fn told(&self, earlier: &Row) -> String {
        let asked = &earlier.record.asked;
        let decided = earlier.record.decision.as_ref().map(|decision| {
            let comment = &decision.comment;
            let comment = if comment.as_untrusted().is_empty() {
                String::new()
            } else {
                format!(": “{}”", comment.visible())
            };
            format!(" by {}{comment}", decision.name.visible())
        });
        format!(
            "{} asked for {} on {}, {}; {}{}",
            asked.user.name.visible(),
            Command::new(&asked.application.path, &asked.argv),
            earlier.host_name.visible(),
            brief(asked.duration),
            earlier.record.state,
            decided.unwrap_or_default()
        )
    }

    /// What became of it.
    fn outcome(&self) -> String {
        let record = &self.row.record;
        let by =
            record.decision.as_ref().map(|decision| decision.name.visible().to_string()).unwrap_or_default();
        match (record.state, record.lapse_reason) {
            (RequestState::Pending, _) => "Nobody has decided yet.".to_owned(),
            (RequestState::Approved, _) => format!("Approved by {by}."),
            (RequestState::Declined, _) => format!("Declined by {by}."),
            (RequestState::Cancelled, _) => format!("Taken back by {}.", record.asked.user.name.visible()),
            (RequestState::Lapsed, Some(LapseReason::PolicyWithdrawn)) => {
                "Lapsed: the policy in force no longer lets anyone ask for this.".to_owned()
            }
            (RequestState::Lapsed, _) => "Lapsed: nobody decided in time. Its user may ask again.".to_owned(),
        }
    }

    fn what_follows(&self) -> String {
        let host_name = self.row.host_name.visible();
        let starts = match self.starts {
            Starts::AtApproval => "Starts when you approve.".to_owned(),
            Starts::AtFirstLaunch { within } => {
                format!("Starts at its first launch, within {}.", words(within))
            }
        };
        let delivered = match self.frame.online(self.row.last_seen) {
            true => format!("{host_name} will have it within a second."),
            false => format!(
                "{host_name} is not online: it gets the decision when it next reaches the server, and the clock does not wait."
            ),
        };
        format!("{starts} {delivered}")
    }
}

/// Nothing longer than was asked for or than policy allows; shorter ones that a person would pick.
fn durations(asked: Span, terms: &Terms) -> Vec<Span> {
    let longest = asked.min(terms.durations.maximum);
    let usual = [5, 10, 15, 30].map(Span::from_mins).into_iter().chain([1, 2, 4, 8].map(Span::from_hours));
    let mut spans: Vec<_> =
        usual.chain(terms.durations.choices.iter().copied()).filter(|span| *span < longest).collect();
    spans.push(longest);
    spans.sort_unstable();
    spans.dedup();
    spans.reverse();
    spans
}

/// `512 bytes`, `1.4 MB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

/// `GET /requests/{id}`
pub async fn request(
    State(app): State<App>,
    frame: Frame,
    Path(id): Path<RequestId>,
) -> Result<Response, Error> {
    let page = RequestPage::of(&app, frame.clone(), id, None).await?;
    frame.show(&page)
}

/// `POST /requests/{id}/approve`
pub async fn approve(
    State(app): State<App>,
    frame: Frame,
    by: Approver,
    Path(id): Path<RequestId>,
    Body(mut form): Body<Form>,
) -> Result<Response, Error> {
    let seen = form.read("seen").map(Version);
    let duration = form.read("duration");
    let covers = match form.text("covers") {
        "any_arguments" => Covers::AnyArguments,
        _ => Covers::ExactArguments,
    };
    let comment = Text::new(form.text("comment").trim());
    if let (Some(seen), Some(duration)) = (seen, duration) {
        match super::approve(&app, &by, id, seen, Approval { duration, covers, comment }).await {
            Ok(grant) => {
                let row = super::find(&app, &frame.reader, id).await?;
                let told = format!(
                    "Approved: {} may run {} on {} for {}.",
                    row.record.asked.user.name.visible(),
                    row.record.asked.application.name().visible(),
                    row.host_name.visible(),
                    words(duration)
                );
                let to_grant = format!("/grants/{}", grant.id);
                return if form.is("from", "list") {
                    pages::go("/access", &Flash::done(told).with("The grant", to_grant))
                } else {
                    pages::go(&to_grant, &Flash::done(told))
                };
            }
            Err(error) => refused(&mut form, error)?,
        }
    }
    let page = RequestPage::of(&app, frame.clone(), id, Some(form)).await?;
    refused_page(&page)
}

/// `POST /requests/{id}/decline`
pub async fn decline(
    State(app): State<App>,
    frame: Frame,
    by: Approver,
    Path(id): Path<RequestId>,
    Body(mut form): Body<Form>,
) -> Result<Response, Error> {
    let comment = Text::new(form.text("comment").trim());
    if let Some(seen) = form.read("seen").map(Version) {
        match super::decline(&app, &by, id, seen, comment).await {
            Ok(_) => {
                let row = super::find(&app, &frame.reader, id).await?;
                let told = format!(
                    "Declined: {} is told that {} will not run on {}.",
                    row.record.asked.user.name.visible(),
                    row.record.asked.application.name().visible(),
                    row.host_name.visible()
                );
                return pages::go(
                    "/access",
                    &Flash::done(told).with("The request", format!("/requests/{id}")),
                );
            }
            Err(error) => refused(&mut form, error)?,
        }
    }
    let page = RequestPage::of(&app, frame.clone(), id, Some(form)).await?;
    refused_page(&page)
}

/// What a form can say stays with the form; anything else is a page of its own.
fn refused(form: &mut Form, error: Error) -> Result<(), Error> {
    match &error {
        Error::Invalid { .. } | Error::Conflict(_) => {
            beside(form, &error.told());
            Ok(())
        }
        _ => Err(error),
    }
}

/// Whoever comes too late sees what became of it, and that it was not them.
fn refused_page(page: &RequestPage) -> Result<Response, Error> {
    let late = page
        .form
        .refused("form")
        .filter(|_| page.row.record.state != RequestState::Pending)
        .map(Flash::refused);
    if late.is_none() {
        return page.frame.refuse(page);
    }
    let frame = Frame { flash: late, ..page.frame.clone() };
    let (frame, page) = (frame.clone(), RequestPage { frame, ..page.clone() });
    frame.refuse_as(StatusCode::CONFLICT, &page)
}
