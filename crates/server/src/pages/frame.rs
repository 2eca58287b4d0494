//! What surrounds a page: who is signed in, where in the console it is, how many wait, and what was just done.

use std::borrow::Borrow;

use askama::Template;
use askama::filters::HtmlSafeOutput;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;

use super::flash::Flash;
use super::moment::{Moment, clock, exact};
use crate::app::App;
use crate::auth::{Actor, Needs, Reader, Role};
use crate::error::Error;
use crate::{computers, requests};

/// What surrounds a page. Handlers of pages take it as an argument; it needs someone who is signed in.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Who is signed in, with the right to read.
    pub reader: Reader,
    /// Where in the console the page is.
    pub place: Place,
    /// How many requests wait.
    pub pending: u64,
    /// What was just done.
    pub flash: Option<Flash>,
    /// When the page was made.
    pub now: Timestamp,
}

/// The places of the console, as the navigation has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Requests and grants.
    Access,
    /// Privileged application lists.
    Privileged,
    /// Allowlists.
    Allowlists,
    /// Blocklists.
    Blocklists,
    /// What would happen, and why.
    Try,
    /// The inventory.
    Computers,
    /// Custom groups.
    Groups,
    /// The report.
    Events,
    /// Who may sign in.
    Accounts,
}

impl Place {
    /// What the navigation calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "Just-In-Time Access",
            Self::Privileged => "Privileged applications",
            Self::Allowlists => "Allowlists",
            Self::Blocklists => "Blocklists",
            Self::Try => "Try it",
            Self::Computers => "Computers",
            Self::Groups => "Custom groups",
            Self::Events => "JIT Events",
            Self::Accounts => "Accounts",
        }
    }

    /// Where it is.
    pub fn address(self) -> &'static str {
        match self {
            Self::Access => "/access",
            Self::Privileged => "/privileged-application-lists",
            Self::Allowlists => "/allowlists",
            Self::Blocklists => "/blocklists",
            Self::Try => "/try",
            Self::Computers => "/computers",
            Self::Groups => "/groups",
            Self::Events => "/events",
            Self::Accounts => "/accounts",
        }
    }

    /// Whether it shows how many wait.
    pub fn counts(self) -> bool {
        self == Self::Access
    }
}

/// The navigation: a heading, where there is one, and the places under it.
const NAV: [(Option<&str>, &[Place]); 4] = [
    (None, &[Place::Access]),
    (Some("Policies"), &[Place::Privileged, Place::Allowlists, Place::Blocklists, Place::Try]),
    (Some("Estate"), &[Place::Computers, Place::Groups]),
    (Some("Records"), &[Place::Events, Place::Accounts]),
];

impl Frame {
    /// The same at this place.
    #[must_use]
    pub fn at_place(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// The navigation.
    pub fn nav(&self) -> [(Option<&'static str>, &'static [Place]); 4] {
        NAV
    }

    /// Who is signed in.
    pub fn actor(&self) -> &Actor {
        self.reader.actor()
    }

    /// What they are called.
    pub fn name(&self) -> &Text {
        self.actor().name()
    }

    /// Their role.
    pub fn role(&self) -> Role {
        self.actor().role
    }

    /// Whether their role is enough.
    pub fn may(&self, needs: Needs) -> bool {
        self.actor().may(needs)
    }

    /// `2 min ago`.
    pub fn ago(&self, at: impl Borrow<Timestamp>) -> Moment {
        Moment::ago(*at.borrow(), self.now)
    }

    /// `2 min`, since then.
    pub fn lasting(&self, since: impl Borrow<Timestamp>) -> Moment {
        Moment::lasting(*since.borrow(), self.now)
    }

    /// `2 min`, until then.
    pub fn left(&self, until: impl Borrow<Timestamp>) -> Moment {
        Moment::left(*until.borrow(), self.now)
    }

    /// The exact time.
    pub fn exactly(&self, at: impl Borrow<Timestamp>) -> String {
        exact(*at.borrow())
    }

    /// The time of day, with the day where it is not today.
    pub fn clock(&self, at: impl Borrow<Timestamp>) -> String {
        clock(*at.borrow(), self.now)
    }

    /// Whether a computer is online, or when it last was, as a tag.
    pub fn seen(&self, last_seen: impl Borrow<Option<Timestamp>>) -> HtmlSafeOutput<Seen> {
        let last = last_seen.borrow().map(|at| self.ago(at));
        HtmlSafeOutput(Seen { online: self.online(last_seen), last })
    }

    /// Whether a computer that was last heard from then is online.
    pub fn online(&self, last_seen: impl Borrow<Option<Timestamp>>) -> bool {
        computers::is_online(*last_seen.borrow(), self.now)
    }

    /// The page, with what was just done said once.
    pub fn show(&self, template: &impl Template) -> Result<Response, Error> {
        self.show_as(StatusCode::OK, template)
    }

    /// The page of a form that was refused.
    pub fn refuse(&self, template: &impl Template) -> Result<Response, Error> {
        self.show_as(StatusCode::UNPROCESSABLE_ENTITY, template)
    }

    /// The page of a form that came too late, or was refused in some other way.
    pub fn refuse_as(&self, status: StatusCode, template: &impl Template) -> Result<Response, Error> {
        self.show_as(status, template)
    }

    fn show_as(&self, status: StatusCode, template: &impl Template) -> Result<Response, Error> {
        let mut response = super::page(status, template)?;
        if self.flash.is_some() {
            response.headers_mut().append(header::SET_COOKIE, Flash::forget());
        }
        Ok(response)
    }
}

/// Whether a computer is online, or when it last was.
#[derive(Template)]
#[template(
    source = r#"{% if online %}<span class="tag green">online</span>{% else if let Some(last) = last %}<span class="tag">last seen {{ last }}</span>{% else %}<span class="tag">never seen</span>{% endif %}"#,
    ext = "html"
)]
pub struct Seen {
    online: bool,
    last: Option<Moment>,
}

impl FromRequestParts<App> for Frame {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let reader = Reader::from_request_parts(parts, app).await?;
        let pending = requests::count_pending(app, &reader).await?;
        let flash = Flash::carried(&parts.headers);
        Ok(Self { reader, place: Place::Access, pending, flash, now: app.now() })
    }
}
