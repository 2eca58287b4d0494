//! Where a list is deployed: to which custom groups, and how many computers have it.

use askama::Template;
use axum::response::Response;
use elevon_policy::decide::ListKind;
use elevon_policy::group::{CustomGroup, Members};
use elevon_policy::id::{GroupId, PolicyId, Version};

use super::{Words, place, standing, summary, words};
use crate::app::App;
use crate::auth::{Administrator, Needs};
use crate::error::Error;
use crate::pages::failure::beside;
use crate::pages::flash::Flash;
use crate::pages::form::Form;
use crate::pages::frame::Frame;
use crate::pages::words::counted;
use crate::policies::{self, Summary};
use crate::{groups, pages};

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
        let deployment = policies::find(app, &frame.reader, id).await?.deployment;
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
pub(super) async fn deployment(
    app: App,
    frame: Frame,
    kind: ListKind,
    id: PolicyId,
) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let page = DeploymentPage::of(&app, frame.clone(), kind, id, None).await?;
    frame.show(&page)
}

/// `POST …/{id}/deploy`
pub(super) async fn deploy(
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
        match policies::deploy(&app, &by, id, version, groups).await {
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
pub(super) async fn withdraw(
    app: App,
    frame: Frame,
    by: Administrator,
    kind: ListKind,
    id: PolicyId,
) -> Result<Response, Error> {
    let list = summary(&app, &frame, kind, id).await?;
    policies::withdraw(&app, &by, id).await?;
    let told =
        format!("“{}” is withdrawn. Computers drop it when they next reach the server.", list.name.visible());
    pages::go(&format!("{}/{id}/deployment", words(kind).address), &Flash::done(told))
}
