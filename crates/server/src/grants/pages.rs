//! Grants in the browser: those in force, and one with its launches, to take it back.

use askama::Template;
use axum::Form as Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use elevon_policy::grant::{Ends, GrantState, GrantedApplication, GrantedArguments, Origin};
use elevon_policy::id::GrantId;
use elevon_policy::lists::AtExpiry;
use elevon_policy::text::Text;

use super::Row;
use crate::app::App;
use crate::auth::{Approver, Needs};
use crate::error::Error;
use crate::launches::{self, Launch};
use crate::listing::Part;
use crate::pages;
use crate::pages::failure::beside;
use crate::pages::flash::Flash;
use crate::pages::form::Form;
use crate::pages::frame::Frame;
use crate::pages::moment::{brief, exact, words};
use crate::pages::words::{at_expiry, counted, ended, exit, how_often, uses};

#[derive(Template)]
#[template(path = "grants/active.html")]
struct ActivePage {
    frame: Frame,
    rows: Vec<Row>,
    active: u64,
    next: Option<String>,
}

impl ActivePage {
    fn left(&self, row: &Row) -> String {
        match row.record.state {
            GrantState::Scheduled => "starts at its first launch".to_owned(),
            GrantState::Revoking => format!("revoking since {}", self.frame.clock(row.record.since)),
            _ => format!("{} left", brief(row.record.runs_out().since(self.frame.now))),
        }
    }
}

/// `GET /access/active`
pub async fn active(
    State(app): State<App>,
    frame: Frame,
    Query(part): Query<Part>,
) -> Result<Response, Error> {
    let listing = super::active(&app, &frame.reader, part.cursor.as_deref()).await?;
    let active = super::count_active(&app, &frame.reader).await?;
    frame.show(&ActivePage { frame: frame.clone(), rows: listing.items, active, next: listing.next })
}

#[derive(Template)]
#[template(path = "grants/grant.html")]
struct GrantPage {
    frame: Frame,
    row: Row,
    launches: Vec<Launch>,
    may_revoke: bool,
    form: Form,
}

impl GrantPage {
    async fn of(app: &App, frame: Frame, id: GrantId, form: Form) -> Result<Self, Error> {
        let row = super::find(app, &frame.reader, id).await?;
        let launches = launches::of_grant(app, &frame.reader, id).await?;
        Ok(Self { may_revoke: frame.may(Needs::Approver), frame, row, launches, form })
    }

    fn is_active(&self) -> bool {
        self.row.record.state.in_force() || self.row.record.state == GrantState::Revoking
    }

    fn headline(&self) -> String {
        let grant = &self.row.record.grant;
        let may = if self.row.record.state.in_force() { "may" } else { "could" };
        let host_name = self.row.host_name.visible();
        format!("{} {may} {} on {host_name}", grant.user.name.visible(), uses(grant))
    }

    fn end_after_first_launch(&self) -> String {
        match self.row.record.grant.ends {
            Ends::At { end } => exact(end),
            Ends::AfterFirstLaunch { duration, latest_start } => {
                format!(
                    "{} after its first launch, which must come before {}",
                    words(duration),
                    exact(latest_start)
                )
            }
        }
    }

    fn is_of_component(&self) -> bool {
        matches!(self.row.record.grant.application, GrantedApplication::Component { .. })
    }

    fn how_often(&self) -> String {
        let grant = &self.row.record.grant;
        how_often(grant.launches, grant.confirm, grant.nesting)
    }

    fn at_expiry(&self) -> String {
        at_expiry(self.row.record.grant.at_expiry, self.is_of_component())
    }

    fn launch(&self, launch: &Launch) -> String {
        match launch.reason {
            None => "Running since".to_owned(),
            Some(reason) => {
                let how = launch.exit.map(|how| format!(", {}", exit(how))).unwrap_or_default();
                let lasted = launch.ended.map(|ended| brief(ended.since(launch.started))).unwrap_or_default();
                format!("Ran for {lasted} and {}{how}; started", ended(reason))
            }
        }
    }

    fn running(&self) -> u64 {
        self.launches.iter().filter(|launch| launch.reason.is_none()).count() as u64
    }

    fn what_revoking_does(&self) -> String {
        if self.is_of_component() {
            return "It ends new authorizations: polkit says yes to this no more. What was begun with it goes on.".to_owned();
        }
        let host_name = self.row.host_name.visible();
        let ends = match self.running() {
            0 => "Nothing runs under it now; nothing new will start.".to_owned(),
            running => format!(
                "{} on {host_name} with all that it started is killed at once, and nothing new will start.",
                counted(running, "running launch", "running launches")
            ),
        };
        let online = if self.frame.online(self.row.last_seen) {
            String::new()
        } else {
            format!(" {host_name} is not online: it happens when it next reaches the server.")
        };
        format!("{ends}{online}")
    }

    fn over_title(&self) -> &'static str {
        match self.row.record.state {
            GrantState::Revoking => "Being revoked",
            _ => "Over",
        }
    }

    fn over(&self) -> String {
        let host_name = self.row.host_name.visible();
        let since = exact(self.row.record.since);
        match self.row.record.state {
            GrantState::Scheduled | GrantState::Active => "It is in force.".to_owned(),
            GrantState::Expired
                if self.running() > 0 && self.row.record.grant.at_expiry == AtExpiry::Finish =>
            {
                format!(
                    "Its time ran out at {since}. {} may finish, as its list says; a blocklist, or a rule with deny, ends that at once.",
                    counted(self.running(), "running launch", "running launches")
                )
            }
            GrantState::Expired => format!("Its time ran out at {since}."),
            GrantState::Ended => format!("Its user gave it back at {since}."),
            GrantState::Revoking => format!(
                "Revoked at {since}. {host_name} has not said yet that it is enforced; until then something may still run."
            ),
            GrantState::Revoked => {
                format!("Revoked, and {host_name} said at {since} that nothing runs under it any more.")
            }
            GrantState::Failed => format!("It could not be put in force; {since}."),
        }
    }
}

/// `GET /grants/{id}`
pub async fn grant(State(app): State<App>, frame: Frame, Path(id): Path<GrantId>) -> Result<Response, Error> {
    let page = GrantPage::of(&app, frame.clone(), id, Form::default()).await?;
    frame.show(&page)
}

/// `POST /grants/{id}/revoke`
pub async fn revoke(
    State(app): State<App>,
    frame: Frame,
    by: Approver,
    Path(id): Path<GrantId>,
    Body(mut form): Body<Form>,
) -> Result<Response, Error> {
    let comment = Text::new(form.text("comment").trim());
    match super::revoke(&app, &by, id, None, comment).await {
        Ok(_) => {
            let row = super::find(&app, &frame.reader, id).await?;
            let told =
                format!("Revoked. {} says when nothing runs under it any more.", row.host_name.visible());
            return pages::go(&format!("/grants/{id}"), &Flash::done(told));
        }
        Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => beside(&mut form, &error.told()),
        Err(error) => return Err(error),
    }
    let page = GrantPage::of(&app, frame.clone(), id, form).await?;
    frame.refuse(&page)
}

#[cfg(test)]
mod tests {
    use elevon_policy::application::Sha256;
    use elevon_policy::decide::Offer;
    use elevon_policy::event::Layers;
    use elevon_policy::grant::GrantRecord;
    use elevon_policy::id::{LaunchId, Version};
    use elevon_policy::lists::{Covers, Terms, Way};
    use elevon_policy::request::Approval;
    use elevon_policy::rule::Specificity;
    use elevon_policy::time::Span;

    use super::*;
    use crate::auth::Role;
    use crate::pages::sample::{NOW, application, frame, request};

    fn page(state: GrantState) -> GrantPage {
        let asked = request(application("/usr/bin/tcpdump"), &["tcpdump", "-i", "eth0"], "x");
        let frame = frame("erin", Role::Approver);
        let offer = Offer {
            policy: asked.record.asked.policy,
            name: Text::new("Developer tools"),
            way: Way::Approval,
            specificity: Specificity::FileHash,
            terms: Terms::default(),
        };
        let approval = Approval {
            duration: Span::from_mins(10),
            covers: Covers::ExactArguments,
            comment: Text::new(""),
        };
        let (by, seen) = (frame.actor().decider.clone(), Version::FIRST);
        let id = GrantId::new(NOW, [5; 10]);
        let (_, grant) = asked.record.approve(&by, seen, approval, &offer, id, NOW).expect("approved");
        let mut record = GrantRecord::given(grant, NOW);
        if state != GrantState::Active {
            record = record.step(state, NOW).expect("a step of its life");
        }
        let row = Row {
            record,
            host_name: Text::new("ws-2214"),
            last_seen: None,
            policy_name: Text::new("Developer tools"),
        };
        GrantPage { frame, row, launches: Vec::new(), may_revoke: true, form: Form::default() }
    }

    #[test]
    fn a_grant_in_force_can_be_taken_back_and_says_what_that_does() {
        let html = page(GrantState::Active).render().expect("renders");
        for told in [
            "bob may run tcpdump as root on ws-2214",
            "10 min</time> left",
            "/revoke",
            "-i eth0</code> exactly",
        ] {
            assert!(html.contains(told), "{told}: {html}");
        }
        assert!(html.contains("is not online: it happens when it next reaches the server"), "{html}");
    }

    #[test]
    fn a_revocation_stays_visible_until_the_computer_has_answered() {
        let html = page(GrantState::Revoking).render().expect("renders");
        assert!(
            html.contains("revoking since 15:24 UTC") && html.contains("something may still run"),
            "{html}"
        );
        assert!(!html.contains("/revoke\""), "{html}");
        let over = page(GrantState::Expired).render().expect("renders");
        assert!(over.contains("Its time ran out") && !over.contains("every 1s"), "{over}");
    }

    #[test]
    fn what_may_finish_is_said_to_run_with_what_ends_it() {
        let mut page = page(GrantState::Expired);
        let asked = &page.row.record.grant;
        let launch = Launch {
            id: LaunchId::new(NOW, [6; 10]),
            computer: asked.computer,
            grant: asked.id,
            user: asked.user.name.clone(),
            path: "/usr/bin/tcpdump".into(),
            sha256: Sha256([7; 32]),
            argv: vec!["tcpdump".into()],
            layers: Layers::default(),
            started: NOW,
            end: NOW,
            ended: None,
            reason: None,
            exit: None,
        };
        page.launches = vec![launch];
        let terminated = page.render().expect("renders");
        assert!(!terminated.contains("may finish"), "{terminated}");
        page.row.record.grant.at_expiry = AtExpiry::Finish;
        let finishes = page.render().expect("renders");
        assert!(
            finishes.contains("1 running launch may finish") && finishes.contains("a blocklist"),
            "{finishes}"
        );
    }
}
