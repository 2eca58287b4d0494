//! Try it in the browser: who, where and what, and with one click what would happen and why. The question stands in the address,
//! so that it can be passed on.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use elevon_policy::advice::{Standing, ToDo};
use elevon_policy::application::{Application, Distrust, Lane, Package, PackageSystem, Vendor};
use elevon_policy::decide::{Consequence, Offer, Refusal, Verdict};
use elevon_policy::id::ComputerId;
use elevon_policy::lists::Way;
use elevon_policy::rule::{Finding, Specificity};
use elevon_policy::text::{OsText, Text};

use super::{NOT_KNOWN, Named, Question, Source, Tried, Weighed, supposed};
use crate::app::App;
use crate::auth::Needs;
use crate::computers;
use crate::error::Error;
use crate::pages::command::Command;
use crate::pages::failure::beside;
use crate::pages::form::Form;
use crate::pages::frame::{Frame, Place};
use crate::pages::moment::{brief, words};
use crate::policies::pages::address;
use crate::requests::pages::request::package;

/// The fields by which an application is supposed that no computer has measured.
const SUPPOSED: [&str; 5] = ["sha256", "product", "vendor", "version", "others"];

#[derive(Template)]
#[template(path = "trials/try.html")]
struct TryPage {
    frame: Frame,
    form: Form,
    computers: Vec<computers::Row>,
    applications: Vec<Application>,
    users: Vec<Text>,
    tried: Option<Box<Tried>>,
}

impl TryPage {
    fn says_more(&self) -> bool {
        SUPPOSED.iter().chain(&["at"]).any(|field| !self.form.text(field).is_empty())
    }

    /// What the list of applications says beside a path.
    fn told(&self, application: &Application) -> String {
        match &application.package {
            Some(found) => package(found),
            None => application.sha256.short(),
        }
    }
}

/// What came of it, in the words of the page.
impl Tried {
    fn name(&self) -> String {
        let name = self.application.name();
        if name.as_bytes().is_empty() { self.application.sha256.short() } else { name.visible().to_string() }
    }

    /// The stylesheet's word for the verdict.
    fn tone(&self) -> &'static str {
        match &self.verdict {
            Verdict::Launch { .. } => "green",
            Verdict::Offered { offer } if offer.way == Way::Approval => "amber",
            Verdict::Offered { .. } => "green",
            Verdict::Refused { .. } => "red",
        }
    }

    /// The verdict in a sentence.
    fn headline(&self) -> String {
        let (user, host, name) = (self.user.name.visible(), self.computer.host_name.visible(), self.name());
        let does = match self.application.component.is_some() {
            true => format!("may do {name} by polkit on {host}"),
            false => format!("may run {name} as root on {host}"),
        };
        match &self.verdict {
            Verdict::Launch { end, .. } => {
                format!("{user} {does} at once: a grant is in force for {} more.", brief(end.since(self.at)))
            }
            Verdict::Offered { offer } => match offer.way {
                Way::Automatic => format!("{user} {does} at once, and it is recorded."),
                Way::Justification => format!("{user} {does} once they say why, and it is recorded."),
                Way::Approval | Way::Off => format!("{user} {does} once someone has approved it."),
            },
            Verdict::Refused { refusal } => {
                let does = does.replacen("may", "may not", 1);
                match refusal {
                    Refusal::NotListed => {
                        format!(
                            "{user} {does}: no privileged application list that is deployed to them there has it."
                        )
                    }
                    refusal => format!("{user} {does}: {refusal}."),
                }
            }
        }
    }

    fn offer(&self) -> Option<&Offer> {
        match &self.verdict {
            Verdict::Launch { offer, .. } | Verdict::Offered { offer } => Some(offer),
            Verdict::Refused { .. } => None,
        }
    }

    /// How the deciding list has it, and what a grant would be worth.
    fn terms(&self, offer: &Offer) -> String {
        format!(
            "“{}” has it {}, for up to {}.",
            offer.name.visible(),
            offer.specificity.how(),
            words(offer.terms.durations.maximum)
        )
    }

    fn command(&self) -> String {
        Command::new(&self.application.place(), &self.argv).to_string()
    }

    /// What its user would type.
    fn typed(&self) -> String {
        let separator = if self.application.component.is_some() { "--component" } else { "--" };
        let own = self.argv.first().cloned().unwrap_or_else(|| self.application.place());
        format!("elevon run {separator} {}", Command::new(&own, &self.argv))
    }

    fn lane(&self) -> String {
        match &self.application.lane {
            Lane::Trusted => "Only root can change the file.".to_owned(),
            Lane::Untrusted { component, because } => {
                format!("{} {}: only rules by SHA-256 are about it.", component.visible(), because.sentence())
            }
        }
    }

    fn package(&self) -> Option<String> {
        self.application.package.as_ref().map(package)
    }

    fn bytes_known(&self) -> bool {
        self.application.sha256 != NOT_KNOWN
    }

    /// What the user is told, without what an administrator would know it by where that is not known.
    fn told<'a>(&self, sentence: &'a str, pass_on: &'a Option<String>) -> (String, Option<&'a String>) {
        match pass_on.as_ref().filter(|_| self.bytes_known() || self.application.component.is_some()) {
            Some(name) => (sentence.to_owned(), Some(name)),
            None => {
                (sentence.strip_suffix(':').map_or(sentence.to_owned(), |start| format!("{start}.")), None)
            }
        }
    }

    /// What the facts rest on, in a sentence.
    fn supposed(&self) -> Option<&'static str> {
        match (&self.source, self.bytes_known()) {
            (Source::Measured { .. }, _) => None,
            (Source::Launched, _) => Some(
                "It was launched from here lately, and nobody asked for it: its bytes are known, its package is not. It is taken for one that only root can change.",
            ),
            (Source::Given, _) => Some("What a computer would measure is as you gave it."),
            (Source::Supposed, true) => Some(
                "No computer has measured these bytes lately, and nobody has launched them: only rules by SHA-256 can be about them.",
            ),
            (Source::Supposed, false) => Some(
                "No computer has measured it lately. It is taken for a file that only root can change; without its bytes and its package, rules by SHA-256, vendor, product and verified executable are not about it. Say above what you know of it.",
            ),
        }
    }
}

/// What a policy had to say, in the words of the page.
impl Weighed {
    fn address(&self) -> String {
        format!("{}/{}", address(self.reason.list), self.reason.policy.policy)
    }

    /// In a word, and the stylesheet's word for that.
    fn tag(&self) -> (&'static str, &'static str) {
        match (self.standing, &self.reason.finding) {
            (Standing::Decides, _) if self.reason.consequence == Consequence::Refuse => ("decides", "red"),
            (Standing::Decides, _) if self.reason.consequence == (Consequence::Elevate { way: Way::Off }) => {
                ("decides", "red")
            }
            (Standing::Decides, _) => ("decides", "green"),
            (Standing::Allows, _) => ("allows", "green"),
            (Standing::Overruled { .. }, _) => ("overruled", ""),
            (Standing::Short, Finding::CannotEvaluate { .. }) => ("matches nothing", ""),
            (Standing::Short, _) => ("nearly", "amber"),
        }
    }

    /// Which rule of which list: `allowlist v3, by folder: /usr/bin with sub-folders`.
    fn which(&self) -> String {
        let rule = self.reason.specificity.and_then(Specificity::rule);
        let rule = rule.map(|kind| format!(", by {kind}")).unwrap_or_default();
        let about = self.about.as_ref().map(|about| format!(": {about}")).unwrap_or_default();
        format!("{} v{}{rule}{about}", self.reason.list.name(), self.reason.policy.version)
    }

    /// What it found, and what became of it.
    fn told(&self) -> String {
        let leads_to = match self.reason.consequence {
            Consequence::Elevate { way: Way::Automatic } => "it runs at once",
            Consequence::Elevate { way: Way::Justification } => "it runs once they say why",
            Consequence::Elevate { way: Way::Approval } => "someone has to approve it",
            Consequence::Elevate { way: Way::Off } => "elevation is turned off for it",
            Consequence::Allow => "it counts as allowed",
            Consequence::Refuse => "it is refused",
        };
        match (&self.reason.finding, self.standing) {
            (Finding::Matches, Standing::Overruled { by }) => {
                format!("It matches ({leads_to}), but {}.", by.sentence())
            }
            (Finding::Matches, _) => format!("It matches: {leads_to}."),
            (Finding::Differs, _) => "It is about something else.".to_owned(),
            (Finding::Nearly { missing }, _) => format!("Not quite: {missing}. Otherwise: {leads_to}."),
            (Finding::CannotEvaluate { needs }, _) => format!("It matches nothing: {}.", needs.sentence()),
        }
    }
}

/// `GET /try`
pub async fn try_it(
    State(app): State<App>,
    frame: Frame,
    Query(mut form): Query<Form>,
) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Try);
    let mut tried = None;
    if form.has("user") || form.has("application") {
        let question = question(&mut form);
        if let Some(question) = question.filter(|_| !form.is_refused()) {
            match super::try_it(&app, &frame.reader, question).await {
                Ok(found) => tried = Some(Box::new(found)),
                Err(error @ (Error::Invalid { .. } | Error::NotFound(_))) => beside(&mut form, &error.told()),
                Err(error) => return Err(error),
            }
        }
    }
    let (applications, users) = super::known(&app, &frame.reader).await?;
    let mut computers = computers::list(&app, &frame.reader).await?;
    computers.retain(|computer| !computer.revoked);
    let page = TryPage { frame: frame.clone(), form, computers, applications, users, tried };
    if page.form.is_refused() { frame.refuse(&page) } else { frame.show(&page) }
}

fn question(form: &mut Form) -> Option<Question> {
    let user = form.text("user").trim().to_owned();
    if user.is_empty() {
        form.refuse("user", "Expected the name of an operating-system account.");
    }
    let computer: Option<ComputerId> = form.text("computer").parse().ok();
    if computer.is_none() {
        form.refuse("computer", "Choose a computer.");
    }
    let application = named(form);
    let lines = form.text("arguments").lines().map(OsText::parse).collect::<Result<Vec<_>, _>>();
    let arguments = lines.unwrap_or_else(|error| {
        form.refuse("arguments", format!("{error}."));
        Vec::new()
    });
    let at = if form.text("at").trim().is_empty() { None } else { form.moment("at") };
    Some(Question { user: Text::new(user), computer: computer?, application: application?, arguments, at })
}

/// A path, a SHA-256 or a polkit action, as it is written; with what is supposed of it.
fn named(form: &mut Form) -> Option<Named> {
    let typed = form.text("application").trim().to_owned();
    if let Ok(sha256) = typed.parse() {
        return Some(Named::Sha256(sha256));
    }
    if !typed.starts_with('/') {
        if typed.contains('.') && !typed.contains('/') {
            return Some(Named::Component(Text::new(typed)));
        }
        form.refuse(
            "application",
            "Expected a path such as /usr/bin/tcpdump, a SHA-256, or the name of a polkit action.",
        );
        return None;
    }
    let path = match OsText::parse(&typed) {
        Ok(path) => path,
        Err(error) => {
            form.refuse("application", format!("{error}."));
            return None;
        }
    };
    if SUPPOSED.iter().all(|field| form.text(field).is_empty()) {
        return Some(Named::Path(path));
    }
    let sha256 = match form.text("sha256").trim().is_empty() {
        true => NOT_KNOWN,
        false => form.read("sha256")?,
    };
    Some(Named::Facts(Box::new(facts(form, supposed(path, sha256)))))
}

fn facts(form: &Form, application: Application) -> Application {
    let given = |name: &str| Some(form.text(name).trim()).filter(|text| !text.is_empty()).map(Text::new);
    let system = if form.is("system", "rpm") { PackageSystem::Rpm } else { PackageSystem::Dpkg };
    let package = given("product").map(|product| Package {
        system,
        name: product.clone(),
        product,
        version: given("version").unwrap_or_default(),
        vendor: given("vendor").map(|name| Vendor { name, verified: true }),
        unmodified: true,
    });
    let lane = match form.has("others") {
        true => Lane::Untrusted { component: application.path.clone(), because: Distrust::Writable },
        false => Lane::Trusted,
    };
    Application { package, lane, ..application }
}
