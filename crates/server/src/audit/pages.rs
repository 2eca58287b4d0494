//! The JIT Events Report in the browser.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use elevon_policy::decide::ListKind;
use elevon_policy::id::PolicyId;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;

use super::Filter;
use super::told::{KINDS, Told};
use crate::app::App;
use crate::error::Error;
use crate::pages::encoded;
use crate::pages::form::Form;
use crate::pages::frame::{Frame, Place};
use crate::{computers, policies};

/// The filter's fields, as they stand in the address.
const FIELDS: [&str; 9] =
    ["since", "until", "user", "computer", "application", "policy", "kind", "request", "grant"];

#[derive(Template)]
#[template(path = "audit/events.html")]
struct EventsPage {
    frame: Frame,
    form: Form,
    rows: Vec<Told>,
    older: Option<String>,
    csv: String,
    computers: Vec<computers::Row>,
    policies: Vec<(PolicyId, Text)>,
    kinds: [&'static str; KINDS.len()],
}

impl EventsPage {
    fn is_filtered(&self) -> bool {
        FIELDS.iter().any(|field| !self.form.text(field).is_empty())
    }

    /// What the address narrows the report to that no field shows.
    fn about(&self) -> Option<&'static str> {
        match (self.form.text("request"), self.form.text("grant")) {
            ("", "") => None,
            ("", _) => Some("Only events of one grant."),
            _ => Some("Only events of one request."),
        }
    }

    fn none(&self) -> &'static str {
        if self.is_filtered() { "No event is like that" } else { "Nothing has happened yet" }
    }

    fn next_step(&self) -> &'static str {
        if self.is_filtered() {
            "Widen the filter, or clear it."
        } else {
            "Everything that people and computers do here is recorded, and stays."
        }
    }
}

/// `GET /events`
pub async fn events(
    State(app): State<App>,
    frame: Frame,
    Query(mut form): Query<Form>,
) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Events);
    let filter = filter(&mut form);
    let cursor = Some(form.text("cursor").to_owned()).filter(|cursor| !cursor.is_empty());
    let (rows, next) = match form.is_refused() {
        true => (Vec::new(), None),
        false => {
            let page = super::events(&app, &frame.reader, &filter, cursor.as_deref()).await?;
            (page.items.iter().map(Told::of).collect(), page.next)
        }
    };
    let asked = query(&form);
    let older = next.map(|next| format!("/events?{asked}cursor={next}"));
    let mut lists = Vec::new();
    for kind in [ListKind::PrivilegedApplicationList, ListKind::Allowlist, ListKind::Blocklist] {
        let found = policies::lists(&app, &frame.reader, kind).await?;
        lists.extend(found.into_iter().map(|list| (list.id, list.name)));
    }
    let page = EventsPage {
        rows,
        older,
        csv: format!("/events.csv?{}", csv_query(&form, &filter)),
        computers: computers::list(&app, &frame.reader).await?,
        policies: lists,
        kinds: KINDS,
        frame: frame.clone(),
        form,
    };
    if page.form.is_refused() { frame.refuse(&page) } else { frame.show(&page) }
}

fn filter(form: &mut Form) -> Filter {
    Filter {
        since: time(form, "since"),
        until: time(form, "until"),
        user: given(form, "user"),
        computer: id(form, "computer"),
        application: given(form, "application"),
        policy: id(form, "policy"),
        kind: given(form, "kind"),
        request: id(form, "request"),
        grant: id(form, "grant"),
    }
}

fn given(form: &Form, name: &str) -> Option<String> {
    Some(form.text(name).trim().to_owned()).filter(|text| !text.is_empty())
}

fn id<T: std::str::FromStr>(form: &mut Form, name: &str) -> Option<T>
where
    T::Err: std::fmt::Display,
{
    given(form, name)?;
    form.read(name)
}

fn time(form: &mut Form, name: &str) -> Option<Timestamp> {
    given(form, name)?;
    form.moment(name)
}

/// The filter as an address carries it, with `&` at its end where there is one.
fn query(form: &Form) -> String {
    FIELDS
        .iter()
        .filter(|field| !form.text(field).is_empty())
        .map(|field| format!("{field}={}&", encoded(form.text(field))))
        .collect()
}

/// The same for the export, which takes times as it writes them.
fn csv_query(form: &Form, filter: &Filter) -> String {
    let times = [("since", filter.since), ("until", filter.until)];
    let times = times.iter().filter_map(|(name, at)| Some(format!("{name}={}", (*at)?.millis())));
    let others =
        FIELDS.iter().filter(|field| !matches!(**field, "since" | "until") && !form.text(field).is_empty());
    let others = others.map(|field| format!("{field}={}", encoded(form.text(field))));
    times.chain(others).collect::<Vec<_>>().join("&")
}
