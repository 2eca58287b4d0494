//! One request in the browser: everything that was measured, what was before, and the decision.

use askama::Template;
use axum::Form as Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use elevon_policy::application::{Lane, Package};
use elevon_policy::id::{GrantId, RequestId, Version};
use elevon_policy::lists::{Covers, Starts, Terms};
use elevon_policy::request::{Approval, LapseReason, RequestState};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;

use super::Standing;
use crate::app::App;
use crate::auth::Approver;
use crate::error::Error;
use crate::pages::command::Command;
use crate::pages::encoded;
use crate::pages::failure::beside;
use crate::pages::flash::Flash;
use crate::pages::form::Form;
use crate::pages::frame::Frame;
use crate::pages::moment::{brief, words};
use crate::pages::words::{at_expiry, how_often, size, until};
use crate::requests::{self, Row};
use crate::{computers, pages};

#[derive(Clone, Template)]
#[template(path = "requests/request.html")]
struct RequestPage {
    frame: Frame,
    row: Row,
    operating_system: Text,
    before: Vec<Row>,
    standing: Standing,
    form: Form,
    /// Whether the policies in force would refuse it now.
    withdrawn: bool,
    /// To choose from, the longest first.
    durations: Vec<Span>,
    /// What the policy gives.
    terms: Terms,
    grant: Option<GrantId>,
}

impl RequestPage {
    async fn of(app: &App, frame: Frame, id: RequestId, form: Option<Form>) -> Result<Self, Error> {
        let row = requests::find(app, &frame.reader, id).await?;
        let computer = computers::find(app, &frame.reader, row.record.asked.computer).await?;
        let before = requests::before(app, &frame.reader, &row.record).await?;
        let offer = match row.record.state {
            RequestState::Pending => requests::offer(app, &frame.reader, &row.record).await?,
            _ => None,
        };
        let withdrawn = offer.is_none();
        let terms = offer.map(|offer| offer.terms).unwrap_or_default();
        let durations = durations(row.record.asked.duration, &terms);
        let form = form.unwrap_or_else(|| {
            let longest = durations.first().copied().unwrap_or_default();
            [("duration".to_owned(), longest.to_string())].into_iter().collect()
        });
        Ok(Self {
            standing: Standing::of(&frame, &row, terms.self_approval),
            terms,
            grant: row.grant,
            frame,
            row,
            operating_system: computer.operating_system,
            before,
            form,
            withdrawn,
            durations,
        })
    }

    fn headline(&self) -> String {
        let asked = &self.row.record.asked;
        let wants = if self.row.record.state == RequestState::Pending { "wants" } else { "wanted" };
        let (user, application) = (asked.user.name.visible(), asked.application.name());
        let duration = words(asked.duration);
        match asked.application.component {
            Some(_) => format!("{user} {wants} to do {} by polkit for {duration}", application.visible()),
            None => format!(
                "{user} {wants} to run {} as {} for {duration}",
                application.visible(),
                asked.bounds.in_words(asked.runs_as)
            ),
        }
    }

    /// The name the program sees itself called by, where it is another one than the file's.
    fn called(&self) -> Option<&OsText> {
        let asked = &self.row.record.asked;
        let is_program = asked.application.component.is_none();
        asked.argv.first().filter(|called| is_program && called.file_name() != asked.application.name())
    }

    fn application(&self) -> String {
        let application = &self.row.record.asked.application;
        let package = match &application.package {
            Some(found) => format!("{}; ", package(found)),
            None if application.package_database => "no package owns it; ".to_owned(),
            None => String::new(),
        };
        let owner =
            if application.owner == 0 { "root".to_owned() } else { format!("uid {}", application.owner) };
        let mode = application.mode & 0o7777;
        format!("{package}{}, owned by {owner}, mode {mode:04o}", size(application.size))
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
            Command::new(&asked.application.place(), &asked.argv),
            earlier.host_name.visible(),
            brief(asked.duration),
            earlier.record.state,
            decided.unwrap_or_default()
        )
    }

    /// Where the same can be tried with the policies in force now.
    fn trial(&self) -> String {
        let asked = &self.row.record.asked;
        let application = match &asked.application.component {
            Some(component) => component.action.as_untrusted().to_owned(),
            None => asked.application.sha256.to_string(),
        };
        let arguments: Vec<_> = asked.argv.iter().skip(1).map(OsText::escaped).collect();
        let fields = [
            ("user", asked.user.name.as_untrusted().to_owned()),
            ("computer", asked.computer.to_string()),
            ("application", application),
            ("arguments", arguments.join("\n")),
        ];
        let fields = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        format!("/try?{}", fields.collect::<Vec<_>>().join("&"))
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

    /// Whether the policy lets a grant cover any arguments.
    fn any_arguments(&self) -> bool {
        self.terms.arguments == Covers::AnyArguments
    }

    /// What the policy adds to what was asked for.
    fn what_it_gives(&self) -> String {
        let Terms { launches, confirm, nesting, .. } = self.terms;
        let is_component = self.row.record.asked.application.component.is_some();
        let often = how_often(launches, confirm, nesting);
        format!("It may be used {often}. At its end: {}.", at_expiry(self.terms.at_expiry, is_component))
    }

    fn what_follows(&self) -> String {
        let host_name = self.row.host_name.visible();
        let starts = match self.terms.starts {
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

/// `apt 2.6.1 by Debian, unmodified since its package`.
pub fn package(package: &Package) -> String {
    let vendor = match &package.vendor {
        Some(vendor) if vendor.verified => format!(" by {}", vendor.name.visible()),
        Some(vendor) => format!(" by {} (unverified)", vendor.name.visible()),
        None => " by an unknown vendor".to_owned(),
    };
    let state = if package.unmodified {
        "unmodified since its package"
    } else {
        "not, or not provably, as its package recorded it"
    };
    format!("{} {}{vendor}, {state}", package.product.visible(), package.version.visible())
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
        match requests::approve(&app, &by, id, seen, Approval { duration, covers, comment }).await {
            Ok(grant) => {
                let row = requests::find(&app, &frame.reader, id).await?;
                let told = format!(
                    "Approved: {} may run {} on {} {}.",
                    row.record.asked.user.name.visible(),
                    row.record.asked.application.name().visible(),
                    row.host_name.visible(),
                    until(&grant, app.now())
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
        match requests::decline(&app, &by, id, seen, comment).await {
            Ok(_) => {
                let row = requests::find(&app, &frame.reader, id).await?;
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

#[cfg(test)]
mod tests {
    use elevon_policy::lists::{AtExpiry, Confirm, Durations, Launches, Nesting};

    use super::*;
    use crate::auth::Role;
    use crate::pages::sample::{application, frame, request};

    fn page(name: &str, role: Role, row: Row) -> RequestPage {
        let frame = frame(name, role);
        RequestPage {
            standing: Standing::of(&frame, &row, false),
            frame,
            row,
            operating_system: Text::new("Debian GNU/Linux 12 (bookworm)"),
            before: Vec::new(),
            form: Form::default(),
            withdrawn: false,
            durations: vec![Span::from_mins(15), Span::from_mins(5)],
            terms: Terms::default(),
            grant: None,
        }
    }

    #[test]
    fn a_page_says_what_a_person_needs_to_decide() {
        let row = request(application("/usr/bin/apt-get"), &["apt-get", "install", "libpq-dev"], "PAY-1182");
        let html = page("erin", Role::Approver, row).render().expect("renders");
        for told in [
            "bob wants to run apt-get as root for 15 minutes",
            "/usr/bin/apt-get install libpq-dev",
            "PAY-1182",
            "only root can change the file",
            "ws-2214",
            "bob (uid 1003)",
            "Developer tools",
            "A package manager runs scripts as root.",
            "15 minutes (asked)",
            "These exact arguments",
            "formaction=",
        ] {
            assert!(html.contains(told), "{told}: {html}");
        }
        assert!(!html.contains("Any arguments"), "{html}");
    }

    #[test]
    fn a_page_says_what_policy_adds_to_what_was_asked_for() {
        let mut page =
            page("erin", Role::Approver, request(application("/usr/bin/tcpdump"), &["tcpdump"], "x"));
        let plain = page.render().expect("renders");
        assert!(plain.contains("It may be used any number of times. At its end: a warning"), "{plain}");
        page.terms = Terms {
            launches: Launches::Once,
            confirm: Confirm::EachLaunch,
            nesting: Nesting::Allowed,
            at_expiry: AtExpiry::Finish,
            ..Terms::default()
        };
        let told = page.render().expect("renders");
        for part in [
            "It may be used once; the user gives their password at each launch",
            "from inside a program",
            "may finish",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn whoever_is_tied_to_the_user_reads_why_they_cannot_decide() {
        let row = request(application("/usr/bin/tcpdump"), &["tcpdump"], "x");
        let html = page("bob", Role::Owner, row).render().expect("renders");
        assert!(html.contains("is tied to your account") && !html.contains("/approve"), "{html}");
    }

    #[test]
    fn a_refused_form_keeps_what_was_typed() {
        let mut page =
            page("erin", Role::Approver, request(application("/usr/bin/tcpdump"), &["tcpdump"], "x"));
        page.form = [("comment".to_owned(), "for \"now\"".to_owned())].into_iter().collect();
        page.form.refuse("duration", "Too long.");
        let html = page.render().expect("renders");
        assert!(html.contains("for &#34;now&#34;</textarea>"), "{html}");
        assert!(
            html.contains(r#"aria-describedby="duration-wrong""#) && html.contains("Too long."),
            "{html}"
        );
    }

    #[test]
    fn nobody_is_offered_longer_than_was_asked_or_than_policy_allows() {
        let terms = Terms {
            durations: Durations {
                choices: vec![Span::from_mins(20)],
                default: Span::from_mins(20),
                maximum: Span::from_mins(25),
            },
            ..Terms::default()
        };
        assert_eq!(durations(Span::from_mins(12), &terms), [12, 10, 5].map(Span::from_mins));
        assert_eq!(durations(Span::from_hours(9), &terms), [25, 20, 15, 10, 5].map(Span::from_mins));
        assert_eq!(durations(Span::from_secs(30), &terms), [Span::from_secs(30)]);
    }
}
