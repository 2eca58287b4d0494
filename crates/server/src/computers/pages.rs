//! Computers in the browser: the inventory, and enrolling by copying one command.

use askama::Template;
use axum::Form as Body;
use axum::extract::State;
use axum::response::Response;
use elevon_policy::group::Members;
use elevon_policy::id::GroupId;
use elevon_policy::time::Span;

use super::Row;
use crate::app::App;
use crate::auth::{Administrator, Needs};
use crate::error::Error;
use crate::groups;
use crate::pages::failure::beside;
use crate::pages::form::Form;
use crate::pages::frame::{Frame, Place};
use crate::pages::moment::words;
use crate::pages::words::counted;

#[derive(Template)]
#[template(path = "computers/list.html")]
struct ComputersPage {
    frame: Frame,
    computers: Vec<Row>,
    /// Custom groups of computers.
    groups: Vec<groups::Row>,
    form: Form,
    /// The command with the token in it; shown once.
    command: Option<String>,
    may_change: bool,
}

impl ComputersPage {
    async fn of(app: &App, frame: Frame, form: Form, command: Option<String>) -> Result<Self, Error> {
        let computers = super::list(app, &frame.reader).await?;
        let mut groups = groups::list(app, &frame.reader).await?;
        groups.retain(|row| matches!(row.group.members, Members::Computers { .. }));
        Ok(Self { may_change: frame.may(Needs::Administrator), frame, computers, groups, form, command })
    }

    fn summary(&self) -> String {
        if self.computers.is_empty() {
            return "Each is known by its own key, never by its name.".to_owned();
        }
        let online = self.computers.iter().filter(|computer| computer.online).count();
        format!(
            "{}, {online} online.",
            counted(self.computers.len() as u64, "enrolled computer", "enrolled computers")
        )
    }

    fn held(&self, computer: &Row) -> String {
        match computer.held_version {
            _ if computer.revoked => "ends with its lease".to_owned(),
            None => "holds nothing yet".to_owned(),
            Some(held) if held == computer.sheet_version => "up to date".to_owned(),
            Some(_) => "an older one".to_owned(),
        }
    }

    fn token_terms(&self) -> String {
        let span = self.form.text("expires").trim().parse::<Span>().map(words).unwrap_or_default();
        let uses = self.form.text("uses").trim().parse().unwrap_or(1);
        format!("Good for {}, for {span}.", counted(uses, "computer", "computers"))
    }
}

/// `GET /computers`
pub async fn computers(State(app): State<App>, frame: Frame) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Computers);
    let mut form = Form::default();
    form.set("uses", 1);
    form.set("expires", "24h");
    let page = ComputersPage::of(&app, frame.clone(), form, None).await?;
    frame.show(&page)
}

/// `POST /computers/enrollment-token`: the token's secret stands on this very answer, and nowhere else.
pub async fn enrollment_token(
    State(app): State<App>,
    frame: Frame,
    by: Administrator,
    Body(mut form): Body<Form>,
) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Computers);
    let uses: Option<u64> = form.text("uses").trim().parse().ok().filter(|uses| *uses > 0);
    if uses.is_none() {
        form.refuse("uses", "Expected a number of computers, 1 or more.");
    }
    let expires: Option<Span> = form.read("expires");
    let group: Option<GroupId> = form.text("group").parse().ok();
    if let (Some(uses), Some(expires)) = (uses, expires) {
        match super::create_token(&app, &by, uses, expires, group).await {
            Ok(token) => {
                let command = format!("elevon-agent enroll {}", token.reveal());
                let page = ComputersPage::of(&app, frame.clone(), form, Some(command)).await?;
                return frame.show(&page);
            }
            Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => beside(&mut form, &error.told()),
            Err(error) => return Err(error),
        }
    }
    let page = ComputersPage::of(&app, frame.clone(), form, None).await?;
    frame.refuse(&page)
}
