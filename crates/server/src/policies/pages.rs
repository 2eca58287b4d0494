//! Lists in the browser: what there is, one list's settings with its rules, where it is deployed, and what it did.

use askama::Template;
use axum::{Form as Body, Router};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use elevon_policy::decide::ListKind;
use elevon_policy::group::{CustomGroup, Members};
use elevon_policy::id::{GroupId, PolicyId, Version};
use elevon_policy::text::Text;

use super::draft::{self, Kind, RuleDraft};
use super::{Document, Summary};
use crate::app::App;
use crate::audit::told::Told;
use crate::audit::{self, Filter};
use crate::auth::{Administrator, Needs};
use crate::error::Error;
use crate::groups;
use crate::listing::Part;
use crate::pages;
use crate::pages::failure::beside;
use crate::pages::flash::Flash;
use crate::pages::form::Form;
use crate::pages::frame::{Frame, Place};
use crate::pages::words::counted;

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
    let lists = super::lists(&app, &frame.reader, kind).await?;
    frame.show(&ListsPage { may_change: frame.may(Needs::Administrator), frame: frame.clone(), kind, lists })
}

#[derive(Template)]
#[template(path = "policies/settings.html")]
struct SettingsPage {
    frame: Frame,
    kind: ListKind,
    id: Option<PolicyId>,
    seen: Option<Version>,
    standing: String,
    form: Form,
    rules: Vec<RuleDraft>,
    to_acknowledge: Option<String>,
    may_change: bool,
}

impl SettingsPage {
    fn of(frame: Frame, kind: ListKind, stored: Option<&Summary>, mut form: Form) -> Self {
        let rules = draft::rules(&form);
        let grave = rules.iter().filter(|rule| rule.is_grave()).count() as u64;
        let to_acknowledge = (kind == ListKind::PrivilegedApplicationList && grave > 0).then(|| {
            format!(
                "{} root.",
                if grave == 1 {
                    "1 rule here equals".to_owned()
                } else {
                    format!("{grave} rules here equal")
                }
            )
        });
        let seen = form.text("seen").parse().ok().map(Version).or(stored.map(|stored| stored.version));
        form.forget("act");
        Self {
            may_change: frame.may(Needs::Administrator),
            standing: stored.map_or_else(|| words(kind).purpose.to_owned(), standing),
            id: stored.map(|stored| stored.id),
            frame,
            kind,
            seen,
            form,
            rules,
            to_acknowledge,
        }
    }

    fn words(&self) -> &'static Words {
        words(self.kind)
    }

    fn is_privileged(&self) -> bool {
        self.kind == ListKind::PrivilegedApplicationList
    }

    fn title(&self) -> String {
        match (self.id, self.form.text("name")) {
            (None, _) => self.words().new.to_owned(),
            (Some(_), name) => Text::new(name).visible().to_string(),
        }
    }

    fn action(&self) -> String {
        match self.id {
            None => format!("{}/new", self.words().address),
            Some(id) => format!("{}/{id}", self.words().address),
        }
    }

    fn ways(&self) -> [(&'static str, &'static str, &'static str); 4] {
        [
            ("approval", "Approval", "Duration and justification, then someone decides"),
            ("justification", "Justification", "Runs at once, recorded with why"),
            ("automatic", "Nothing", "Automatic, recorded"),
            ("off", "Off", "Refused"),
        ]
    }

    fn kinds(&self) -> [Kind; 6] {
        draft::KINDS
    }
}

/// `GET …/new`
pub async fn new(frame: Frame, _: Administrator, kind: ListKind) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    frame.show(&SettingsPage::of(frame.clone(), kind, None, draft::blank()))
}

/// `GET …/{id}`
pub async fn settings(app: App, frame: Frame, kind: ListKind, id: PolicyId) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let summary = summary(&app, &frame, kind, id).await?;
    let mut form = match super::find(&app, &frame.reader, id).await?.document {
        Document::Privileged(list) => draft::of_privileged(&list),
        Document::List(list) => draft::of_list(&list),
    };
    // What a stored version holds was acknowledged when it was saved.
    form.set("acknowledged", "yes");
    frame.show(&SettingsPage::of(frame.clone(), kind, Some(&summary), form))
}

/// `POST …/new` and `POST …/{id}`: adds a rule, removes one, or saves.
pub async fn change(
    app: App,
    frame: Frame,
    by: Administrator,
    kind: ListKind,
    id: Option<PolicyId>,
    mut form: Form,
) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let stored = match id {
        Some(id) => Some(summary(&app, &frame, kind, id).await?),
        None => None,
    };
    let act = form.text("act").to_owned();
    match act.split_once('.') {
        Some(("add", word)) => draft::add_rule(&mut form, word),
        Some(("remove", number)) => draft::remove_rule(&mut form, number),
        _ => {
            if let Some((id, version, name)) = save(&app, &by, kind, stored.as_ref(), &mut form).await? {
                let address = words(kind).address;
                let told = format!("Saved “{}” as version {version}.", name.visible());
                return if act == "save_and_deploy" {
                    pages::go(
                        &format!("{address}/{id}/deployment"),
                        &Flash::done(format!("{told} Choose where it is deployed.")),
                    )
                } else {
                    let flash =
                        Flash::done(format!("{told} Computers keep what they have until it is deployed."));
                    pages::go(
                        &format!("{address}/{id}"),
                        &flash.with("Deploy", format!("{address}/{id}/deployment")),
                    )
                };
            }
            return frame.refuse(&SettingsPage::of(frame.clone(), kind, stored.as_ref(), form));
        }
    }
    frame.show(&SettingsPage::of(frame.clone(), kind, stored.as_ref(), form))
}

async fn save(
    app: &App,
    by: &Administrator,
    kind: ListKind,
    stored: Option<&Summary>,
    form: &mut Form,
) -> Result<Option<(PolicyId, Version, Text)>, Error> {
    let now = app.now();
    let id = stored.map_or_else(|| PolicyId::new(now, crate::app::chance()), |stored| stored.id);
    let seen = stored.and(form.text("seen").parse().ok().map(Version));
    let document = match kind {
        ListKind::PrivilegedApplicationList => {
            draft::privileged(form, id, now).map(|list| Document::Privileged(Box::new(list)))
        }
        ListKind::Allowlist | ListKind::Blocklist => {
            draft::list(form, id, now).map(|list| Document::List(Box::new(list)))
        }
    };
    if kind == ListKind::PrivilegedApplicationList
        && draft::rules(form).iter().any(RuleDraft::is_grave)
        && !form.has("acknowledged")
    {
        form.refuse("acknowledged", "Say that you know, or take those rules out.");
    }
    let Some(document) = document.filter(|_| !form.is_refused()) else { return Ok(None) };
    let name = Text::new(form.text("name").trim());
    match super::save(app, by, kind, stored.map(|stored| stored.id), seen, document).await {
        Ok((id, version)) => Ok(Some((id, version, name))),
        Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => {
            beside(form, &error.told());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn summary(app: &App, frame: &Frame, kind: ListKind, id: PolicyId) -> Result<Summary, Error> {
    let lists = super::lists(app, &frame.reader, kind).await?;
    lists.into_iter().find(|list| list.id == id).ok_or(Error::NotFound("list"))
}

#[derive(Template)]
#[template(path = "policies/deployment.html")]
struct DeploymentPage {
    frame: Frame,
    kind: ListKind,
    summary: Summary,
    standing: String,
    groups: Vec<CustomGroup>,
    deployed_to: Vec<GroupId>,
    form: Form,
    may_change: bool,
}

impl DeploymentPage {
    async fn of(
        app: &App,
        frame: Frame,
        kind: ListKind,
        id: PolicyId,
        form: Option<Form>,
    ) -> Result<Self, Error> {
        let summary = summary(app, &frame, kind, id).await?;
        let deployment = super::find(app, &frame.reader, id).await?.deployment;
        let deployed_to = deployment.map(|deployment| deployment.groups).unwrap_or_default();
        let groups: Vec<_> =
            groups::list(app, &frame.reader).await?.into_iter().map(|row| row.group).collect();
        let form = form.unwrap_or_else(|| {
            deployed_to.iter().map(|group| ("groups".to_owned(), group.to_string())).collect()
        });
        let may_change = frame.may(Needs::Administrator);
        Ok(Self { standing: standing(&summary), frame, kind, summary, groups, deployed_to, form, may_change })
    }

    fn words(&self) -> &'static Words {
        words(self.kind)
    }

    fn groups_by_kind(&self) -> [(&'static str, &'static str, Vec<&CustomGroup>); 2] {
        let of_computers = |group: &&CustomGroup| matches!(group.members, Members::Computers { .. });
        [
            (
                "Computers",
                "On which computers it applies. None chosen: on all.",
                self.groups.iter().filter(of_computers).collect(),
            ),
            (
                "Users",
                "For which users it applies. None chosen: for everyone on those computers.",
                self.groups.iter().filter(|group| !of_computers(group)).collect(),
            ),
        ]
    }

    fn size(&self, group: &CustomGroup) -> String {
        groups::pages::size(group)
    }

    fn groups_now(&self) -> String {
        let named = |id: &GroupId| {
            self.groups.iter().find(|group| group.id == *id).map(|group| group.name.visible().to_string())
        };
        let names: Vec<_> = self.deployed_to.iter().filter_map(named).collect();
        format!("To {}", names.join(", "))
    }

    fn what_withdrawing_does(&self) -> &'static str {
        match self.kind {
            ListKind::PrivilegedApplicationList => {
                "Pending requests under it lapse, and nothing new starts under its grants; what runs goes on to its end. The list and its versions stay."
            }
            ListKind::Allowlist => {
                "What only this list allowed is no longer allowed; nothing new of it starts."
            }
            ListKind::Blocklist => "What it blocked is judged by the other lists again.",
        }
    }
}

/// `GET …/{id}/deployment`
pub async fn deployment(app: App, frame: Frame, kind: ListKind, id: PolicyId) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let page = DeploymentPage::of(&app, frame.clone(), kind, id, None).await?;
    frame.show(&page)
}

/// `POST …/{id}/deploy`
pub async fn deploy(
    app: App,
    frame: Frame,
    by: Administrator,
    kind: ListKind,
    id: PolicyId,
    mut form: Form,
) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let list = summary(&app, &frame, kind, id).await?;
    let groups: Vec<GroupId> = form.all("groups").filter_map(|group| group.parse().ok()).collect();
    if groups.is_empty() {
        form.refuse(
            "groups",
            "Choose at least one custom group: a list is never deployed to everything by leaving this out.",
        );
    }
    if let (false, Some(version)) = (form.is_refused(), form.read("version").map(Version)) {
        match super::deploy(&app, &by, id, version, groups).await {
            Ok(_) => {
                let list = summary(&app, &frame, kind, id).await?;
                let computers = counted(list.computers_total, "computer", "computers");
                let told =
                    format!("Version {version} of “{}” is deployed to {computers}.", list.name.visible());
                return pages::go(&format!("{}/{id}/deployment", words(kind).address), &Flash::done(told));
            }
            Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => beside(&mut form, &error.told()),
            Err(error) => return Err(error),
        }
    }
    let page = DeploymentPage::of(&app, frame.clone(), kind, list.id, Some(form)).await?;
    frame.refuse(&page)
}

/// `POST …/{id}/withdraw`
pub async fn withdraw(
    app: App,
    frame: Frame,
    by: Administrator,
    kind: ListKind,
    id: PolicyId,
) -> Result<Response, Error> {
    let list = summary(&app, &frame, kind, id).await?;
    super::withdraw(&app, &by, id).await?;
    let told =
        format!("“{}” is withdrawn. Computers drop it when they next reach the server.", list.name.visible());
    pages::go(&format!("{}/{id}/deployment", words(kind).address), &Flash::done(told))
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
            get(move |frame: Frame, by: Administrator| new(frame, by, kind)).post(
                move |State(app): State<App>, frame: Frame, by: Administrator, Body(form): Body<Form>| {
                    change(app, frame, by, kind, None, form)
                },
            ),
        )
        .route(
            &at("/{id}"),
            get(move |State(app): State<App>, frame: Frame, Path(id): It| settings(app, frame, kind, id)).post(
                move |State(app): State<App>, frame: Frame, by: Administrator, Path(id): It, Body(form): Body<Form>| {
                    change(app, frame, by, kind, Some(id), form)
                },
            ),
        )
        .route(
            &at("/{id}/deployment"),
            get(move |State(app): State<App>, frame: Frame, Path(id): It| deployment(app, frame, kind, id)),
        )
        .route(
            &at("/{id}/deploy"),
            post(move |State(app): State<App>, frame: Frame, by: Administrator, Path(id): It, Body(form): Body<Form>| {
                deploy(app, frame, by, kind, id, form)
            }),
        )
        .route(
            &at("/{id}/withdraw"),
            post(move |State(app): State<App>, frame: Frame, by: Administrator, Path(id): It| {
                withdraw(app, frame, by, kind, id)
            }),
        )
        .route(
            &at("/{id}/audit"),
            get(move |State(app): State<App>, frame: Frame, Path(id): It, Query(part): Query<Part>| {
                audit(app, frame, kind, id, part)
            }),
        )
}
