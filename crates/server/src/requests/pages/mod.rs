//! Just-In-Time Access in the browser: who waits, and what was decided; one request stands in `request`.

pub mod request;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use elevon_policy::decide::ListKind;
use elevon_policy::request::RequestState;
use elevon_policy::time::{Span, Timestamp};
use serde::Deserialize;

use super::Row;
use crate::app::App;
use crate::auth::Needs;
use crate::error::Error;
use crate::listing::{Listing, Part};
use crate::pages::frame::Frame;
use crate::pages::moment::between;
use crate::pages::risk;
use crate::pages::words::counted;
use crate::{computers, grants, policies, requests};

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
        } else if risk::risks(asked).is_empty() {
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
    active: Option<u64>,
    shown: String,
    /// Where this part of the list begins, and where the next one does.
    cursor: String,
    next: Option<String>,
    computers: usize,
    lists: usize,
}

impl PendingPage {
    fn summary(&self) -> String {
        let waiting = counted(self.frame.pending, "request waits", "requests wait");
        match self.rows.first() {
            None => "People who ask to run one application as root, for a while.".to_owned(),
            Some(_) if !self.cursor.is_empty() => format!("{waiting}."),
            Some(first) => {
                format!("{waiting}, the first for {}.", between(first.record.asked.made, self.frame.now))
            }
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

async fn pending_page(app: &App, frame: Frame, mut cursor: Option<String>) -> Result<PendingPage, Error> {
    let mut part = requests::pending(app, &frame.reader, cursor.as_deref()).await?;
    if part.items.is_empty() && cursor.take().is_some() {
        // What stood here was decided meanwhile.
        part = requests::pending(app, &frame.reader, None).await?;
    }
    let Listing { items: rows, next } = part;
    let active = Some(grants::count_active(app, &frame.reader).await?);
    let cursor = cursor.unwrap_or_default();
    let (mut computers, mut lists) = (0, 0);
    if rows.is_empty() {
        computers = computers::list(app, &frame.reader).await?.len();
        let all = policies::lists(app, &frame.reader, ListKind::PrivilegedApplicationList).await?;
        lists = all.iter().filter(|list| list.deployed_version.is_some()).count();
    }
    Ok(PendingPage { shown: shown(&rows, frame.now), frame, rows, active, cursor, next, computers, lists })
}

/// `GET /access`
pub async fn pending(
    State(app): State<App>,
    frame: Frame,
    Query(part): Query<Part>,
) -> Result<Response, Error> {
    let page = pending_page(&app, frame.clone(), part.cursor).await?;
    frame.show(&page)
}

/// What the open page already shows.
#[derive(Debug, Deserialize)]
pub struct Shown {
    shown: String,
    cursor: Option<String>,
}

/// How long an open page waits for news before it asks again: short enough for tabs that share a few connections.
const PATIENCE: Span = Span::from_secs(10);

/// `GET /access/pending`: the list alone, as soon as it differs from what is shown.
pub async fn live(
    State(app): State<App>,
    frame: Frame,
    Query(Shown { shown: seen, cursor }): Query<Shown>,
) -> Result<Response, Error> {
    let until = app.now().after(PATIENCE);
    let mut news = app.news.follow();
    loop {
        let rows = requests::pending(&app, &frame.reader, cursor.as_deref()).await?.items;
        let left = until.since(app.now());
        if shown(&rows, app.now()) != seen || left == Span::ZERO {
            break;
        }
        let _ = tokio::time::timeout(left.std(), news.changed()).await;
    }
    let frame =
        Frame { pending: requests::count_pending(&app, &frame.reader).await?, now: app.now(), ..frame };
    let page = pending_page(&app, frame.clone(), cursor).await?;
    frame.show(&page.as_live())
}

#[derive(Template)]
#[template(path = "requests/history.html")]
struct HistoryPage {
    frame: Frame,
    rows: Vec<Row>,
    active: Option<u64>,
    next: Option<String>,
}

/// `GET /access/history`
pub async fn history(
    State(app): State<App>,
    frame: Frame,
    Query(part): Query<Part>,
) -> Result<Response, Error> {
    let listing = requests::history(&app, &frame.reader, part.cursor.as_deref()).await?;
    let active = Some(grants::count_active(&app, &frame.reader).await?);
    frame.show(&HistoryPage { frame: frame.clone(), rows: listing.items, active, next: listing.next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use crate::pages::sample::{NOW, application, frame, request, user_writable};

    fn rendered(name: &str, role: Role, row: Row) -> String {
        let frame = frame(name, role);
        let page = PendingPage {
            shown: shown(&[], NOW),
            frame,
            rows: vec![row],
            active: None,
            cursor: String::new(),
            next: None,
            computers: 1,
            lists: 1,
        };
        page.render().expect("renders")
    }

    #[test]
    fn what_only_looks_harmless_is_opened_before_it_is_approved() {
        let harmless =
            rendered("erin", Role::Approver, request(application("/usr/bin/tcpdump"), &["tcpdump"], "x"));
        assert!(harmless.contains("data-approve"), "{harmless}");
        for (application, tag) in [
            (application("/usr/bin/apt-get"), "equals root"),
            (user_writable("/home/bob/bin/flashtool"), "user-writable, bound to hash"),
        ] {
            let html = rendered("erin", Role::Approver, request(application, &["it"], "x"));
            assert!(!html.contains("data-approve") && html.contains(tag), "{html}");
            assert!(html.contains("Review to decide"), "{html}");
        }
    }

    #[test]
    fn nobody_approves_their_own_and_auditors_nothing() {
        let row = || request(application("/usr/bin/tcpdump"), &["tcpdump"], "x");
        assert!(rendered("bob", Role::Owner, row()).contains("tied to you"));
        for (name, role) in [("bob", Role::Owner), ("frank", Role::Auditor)] {
            assert!(!rendered(name, role, row()).contains("data-approve"), "{name}");
        }
    }

    #[test]
    fn text_from_outside_stays_text() {
        let row = request(
            application("/usr/bin/tcp\u{202e}<dump>"),
            &["tcpdump", "</code><script>alert(1)</script>"],
            "<img src=x onerror=alert(1)>\u{1b}[31m",
        );
        let html = rendered("erin", Role::Approver, row);
        assert!(
            !html.contains("<script>alert") && !html.contains("<img") && !html.contains("<dump>"),
            "{html}"
        );
        assert!(!html.contains('\u{202e}') && !html.contains('\u{1b}'), "{html}");
        assert!(html.contains(r"\xe2\x80\xae") && html.contains(r"\x1b[31m"), "{html}");
    }

    #[test]
    fn an_open_page_learns_of_every_change_it_shows() {
        let row = request(application("/usr/bin/tcpdump"), &["tcpdump"], "x");
        let before = shown(std::slice::from_ref(&row), NOW);
        assert_eq!(shown(std::slice::from_ref(&row), NOW), before);
        assert_ne!(shown(&[], NOW), before);
        let gone_offline = Row { last_seen: Some(NOW.before(Span::from_hours(1))), ..row };
        assert_ne!(shown(&[gone_offline], NOW), before);
    }
}
