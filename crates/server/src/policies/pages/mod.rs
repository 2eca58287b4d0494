//! Lists in the browser: what there is, one list's settings with its rules, where it is deployed, and what it did.

mod deployment;
mod from_file;
mod settings;

use askama::Template;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{DefaultBodyLimit, Multipart, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Form as Body, Router};
use elevon_policy::decide::ListKind;
use elevon_policy::id::{PolicyId, Version};
use elevon_policy::text::Text;

use super::Summary;
use crate::app::App;
use crate::audit::told::Told;
use crate::audit::{self, Filter};
use crate::auth::{Administrator, Needs};
use crate::error::Error;
use crate::listing::Part;
use crate::pages::form::Form;
use crate::pages::frame::{Frame, Place};
use crate::pages::words::counted;
use crate::policies;

/// How the pages speak of a kind of list.
#[derive(Debug)]
struct Words {
    address: &'static str,
    plural: &'static str,
    new: &'static str,
    purpose: &'static str,
    none: &'static str,
    first: &'static str,
    rules: &'static str,
    no_rules: &'static str,
}

fn words(kind: ListKind) -> &'static Words {
    match kind {
        ListKind::PrivilegedApplicationList => &Words {
            address: "/privileged-application-lists",
            plural: "Privileged applications",
            new: "New privileged application list",
            purpose: "Which applications users may elevate, and how.",
            none: "There is no privileged application list yet",
            first: "Until one is deployed, nothing is elevated. Start with one application and approval; widen it later from what people ask for.",
            rules: "Applications",
            no_rules: "No rule yet: this list recognises nothing. Add the first one.",
        },
        ListKind::Allowlist => &Words {
            address: "/allowlists",
            plural: "Allowlists",
            new: "New allowlist",
            purpose: "What counts as allowed, for lists that apply to all allowed applications.",
            none: "There is no allowlist yet",
            first: "A privileged application list can apply to all allowed applications: those that a deployed allowlist has, and no blocklist.",
            rules: "What is allowed",
            no_rules: "No rule yet: this list allows nothing. Add the first one.",
        },
        ListKind::Blocklist => &Words {
            address: "/blocklists",
            plural: "Blocklists",
            new: "New blocklist",
            purpose: "What is never elevated. A blocklist beats everything else.",
            none: "There is no blocklist yet",
            first: "What a deployed blocklist recognises is refused, whatever any other list says, and what runs of it ends.",
            rules: "What is blocked",
            no_rules: "No rule yet: this list blocks nothing. Add the first one.",
        },
    }
}

/// Where the lists of a kind are.
pub fn address(kind: ListKind) -> &'static str {
    words(kind).address
}

fn place(kind: ListKind) -> Place {
    match kind {
        ListKind::PrivilegedApplicationList => Place::Privileged,
        ListKind::Allowlist => Place::Allowlists,
        ListKind::Blocklist => Place::Blocklists,
    }
}

/// Which version there is, and which one computers have, in a sentence.
fn standing(list: &Summary) -> String {
    let version = list.version;
    let progress = |deployed: Version| {
        format!(
            "Version {deployed} is on {} of {}.",
            list.computers_current,
            counted(list.computers_total, "computer", "computers")
        )
    };
    match list.deployed_version {
        None => format!("Version {version}, not deployed."),
        Some(deployed) if deployed == version => progress(deployed),
        Some(deployed) => format!("Version {version}, not deployed yet. {}", progress(deployed)),
    }
}

#[derive(Template)]
#[template(path = "policies/lists.html")]
struct ListsPage {
    frame: Frame,
    kind: ListKind,
    lists: Vec<Summary>,
    may_change: bool,
}

impl ListsPage {
    fn words(&self) -> &'static Words {
        words(self.kind)
    }

    fn standing(&self, list: &Summary) -> String {
        standing(list)
    }
}

/// `GET /privileged-application-lists`, `/allowlists`, `/blocklists`
pub async fn lists(app: App, frame: Frame, kind: ListKind) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let lists = policies::lists(&app, &frame.reader, kind).await?;
    frame.show(&ListsPage { may_change: frame.may(Needs::Administrator), frame: frame.clone(), kind, lists })
}

async fn summary(app: &App, frame: &Frame, kind: ListKind, id: PolicyId) -> Result<Summary, Error> {
    let lists = policies::lists(app, &frame.reader, kind).await?;
    lists.into_iter().find(|list| list.id == id).ok_or(Error::NotFound("list"))
}

#[derive(Template)]
#[template(path = "policies/audit.html")]
struct AuditPage {
    frame: Frame,
    kind: ListKind,
    id: PolicyId,
    name: Text,
    rows: Vec<Told>,
    older: Option<String>,
}

impl AuditPage {
    fn words(&self) -> &'static Words {
        words(self.kind)
    }
}

/// `GET …/{id}/audit`
pub async fn audit(
    app: App,
    frame: Frame,
    kind: ListKind,
    id: PolicyId,
    part: Part,
) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let list = summary(&app, &frame, kind, id).await?;
    let filter = Filter { policy: Some(id), ..Filter::default() };
    let events = audit::events(&app, &frame.reader, &filter, part.cursor.as_deref()).await?;
    let older = events.next.map(|next| format!("{}/{id}/audit?cursor={next}", words(kind).address));
    let rows = events.items.iter().map(Told::of).collect();
    frame.show(&AuditPage { frame: frame.clone(), kind, id, name: list.name, rows, older })
}

/// A form with a file, if it is one.
type Sent = Result<Multipart, MultipartRejection>;

/// Of a file that is too large so much is read and thrown away, so that the browser hears why it was refused.
const SENT: usize = 2 << 30;

/// The routes of the three kinds of lists.
pub fn routes() -> Router<App> {
    let kinds = [ListKind::PrivilegedApplicationList, ListKind::Allowlist, ListKind::Blocklist];
    kinds.into_iter().fold(Router::new(), routes_of)
}

fn routes_of(all: Router<App>, kind: ListKind) -> Router<App> {
    type It = Path<PolicyId>;
    let at = |behind: &str| format!("{}{behind}", words(kind).address);
    all.route(&at(""), get(move |State(app): State<App>, frame: Frame| lists(app, frame, kind)))
        .route(
            &at("/new"),
            get(move |frame: Frame, by: Administrator| settings::new(frame, by, kind)).post(
                move |State(app): State<App>, frame: Frame, by: Administrator, Body(form): Body<Form>| {
                    settings::change(app, frame, by, kind, None, form)
                },
            ),
        )
        .route(
            &at("/new/measure"),
            post(
                move |State(app): State<App>,
                      frame: Frame,
                      by: Administrator,
                      headers: HeaderMap,
                      sent: Sent| async move {
                    from_file::measure(app, frame, by, kind, None, &headers, sent).await
                },
            )
            .layer(DefaultBodyLimit::max(SENT)),
        )
        .route(
            &at("/{id}/measure"),
            post(
                move |State(app): State<App>,
                      frame: Frame,
                      by: Administrator,
                      Path(id): It,
                      headers: HeaderMap,
                      sent: Sent| async move {
                    from_file::measure(app, frame, by, kind, Some(id), &headers, sent).await
                },
            )
            .layer(DefaultBodyLimit::max(SENT)),
        )
        .route(
            &at("/{id}"),
            get(move |State(app): State<App>, frame: Frame, Path(id): It| {
                settings::settings(app, frame, kind, id)
            })
            .post(
                move |State(app): State<App>,
                      frame: Frame,
                      by: Administrator,
                      Path(id): It,
                      Body(form): Body<Form>| {
                    settings::change(app, frame, by, kind, Some(id), form)
                },
            ),
        )
        .route(
            &at("/{id}/deployment"),
            get(move |State(app): State<App>, frame: Frame, Path(id): It| {
                deployment::deployment(app, frame, kind, id)
            }),
        )
        .route(
            &at("/{id}/deploy"),
            post(
                move |State(app): State<App>,
                      frame: Frame,
                      by: Administrator,
                      Path(id): It,
                      Body(form): Body<Form>| {
                    deployment::deploy(app, frame, by, kind, id, form)
                },
            ),
        )
        .route(
            &at("/{id}/withdraw"),
            post(move |State(app): State<App>, frame: Frame, by: Administrator, Path(id): It| {
                deployment::withdraw(app, frame, by, kind, id)
            }),
        )
        .route(
            &at("/{id}/audit"),
            get(move |State(app): State<App>, frame: Frame, Path(id): It, Query(part): Query<Part>| {
                audit(app, frame, kind, id, part)
            }),
        )
}
