//! Custom groups in the browser.

use askama::Template;
use axum::Form as Body;
use axum::extract::{Path, State};
use axum::response::Response;
use elevon_policy::group::{CustomGroup, Member, Members};
use elevon_policy::id::{ComputerId, GroupId, Version};
use elevon_policy::text::Text;

use crate::app::{App, chance};
use crate::auth::{Administrator, Needs};
use crate::computers;
use crate::error::Error;
use crate::pages;
use crate::pages::failure::beside;
use crate::pages::flash::Flash;
use crate::pages::form::Form;
use crate::pages::frame::{Frame, Place};
use crate::pages::words::counted;

/// `3 computers`, `12 users`.
pub fn size(group: &CustomGroup) -> String {
    match &group.members {
        Members::Computers { computers } => counted(computers.len() as u64, "computer", "computers"),
        Members::Users { users } => counted(users.len() as u64, "user", "users"),
    }
}

#[derive(Template)]
#[template(path = "groups/list.html")]
struct GroupsPage {
    frame: Frame,
    groups: Vec<super::Row>,
    may_change: bool,
}

impl GroupsPage {
    fn size(&self, group: &CustomGroup) -> String {
        size(group)
    }
}

/// `GET /groups`
pub async fn groups(State(app): State<App>, frame: Frame) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Groups);
    let groups = super::list(&app, &frame.reader).await?;
    frame.show(&GroupsPage { may_change: frame.may(Needs::Administrator), frame: frame.clone(), groups })
}

#[derive(Template)]
#[template(path = "groups/group.html")]
struct GroupPage {
    frame: Frame,
    id: Option<GroupId>,
    form: Form,
    computers: Vec<computers::Row>,
    preview: Option<Vec<String>>,
    may_change: bool,
}

impl GroupPage {
    async fn of(
        app: &App,
        frame: Frame,
        id: Option<GroupId>,
        mut form: Form,
        preview: bool,
    ) -> Result<Self, Error> {
        let computers = computers::list(app, &frame.reader).await?;
        let members = if preview { members(&mut form, &computers) } else { None };
        let preview = members.map(|members| told(&members, &computers));
        Ok(Self { may_change: frame.may(Needs::Administrator), frame, id, form, computers, preview })
    }

    fn title(&self) -> String {
        match (self.id, self.form.text("name")) {
            (None, _) => "New custom group".to_owned(),
            (Some(_), name) => Text::new(name).visible().to_string(),
        }
    }

    fn action(&self) -> String {
        self.id.map_or_else(|| "/groups/new".to_owned(), |id| format!("/groups/{id}"))
    }

    fn used(&self) -> &'static str {
        "Saving it changes at once where the lists deployed to it apply."
    }
}

/// `GET /groups/new`
pub async fn new(State(app): State<App>, frame: Frame, _: Administrator) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Groups);
    let mut form = Form::default();
    form.set("kind", "computers");
    let page = GroupPage::of(&app, frame.clone(), None, form, false).await?;
    frame.show(&page)
}

/// `GET /groups/{id}`
pub async fn group(State(app): State<App>, frame: Frame, Path(id): Path<GroupId>) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Groups);
    let stored = super::find(&app, &frame.reader, id).await?;
    let computers = computers::list(&app, &frame.reader).await?;
    let mut form = Form::default();
    form.set("name", stored.group.name.as_untrusted());
    form.set("seen", stored.version);
    match &stored.group.members {
        Members::Computers { computers } => {
            form.set("kind", "computers");
            computers.iter().for_each(|id| form.add("computers", id));
        }
        Members::Users { users } => {
            form.set("kind", "users");
            let lines: Vec<_> = users.iter().map(|member| line(member, &computers)).collect();
            form.set("users", lines.join("\n"));
        }
    }
    let page = GroupPage::of(&app, frame.clone(), Some(id), form, true).await?;
    frame.show(&page)
}

/// `POST /groups/new`
pub async fn create(
    State(app): State<App>,
    frame: Frame,
    by: Administrator,
    Body(form): Body<Form>,
) -> Result<Response, Error> {
    change(app, frame, by, None, form).await
}

/// `POST /groups/{id}`
pub async fn modify(
    State(app): State<App>,
    frame: Frame,
    by: Administrator,
    Path(id): Path<GroupId>,
    Body(form): Body<Form>,
) -> Result<Response, Error> {
    change(app, frame, by, Some(id), form).await
}

async fn change(
    app: App,
    frame: Frame,
    by: Administrator,
    id: Option<GroupId>,
    mut form: Form,
) -> Result<Response, Error> {
    let frame = frame.at_place(Place::Groups);
    if form.is("act", "preview") {
        let page = GroupPage::of(&app, frame.clone(), id, form, true).await?;
        return if page.form.is_refused() { frame.refuse(&page) } else { frame.show(&page) };
    }
    let computers = computers::list(&app, &frame.reader).await?;
    let members = members(&mut form, &computers);
    let name = form.text("name").trim().to_owned();
    if name.is_empty() {
        form.refuse("name", "A custom group needs a name.");
    }
    if let (Some(members), false) = (members, form.is_refused()) {
        let seen = form.text("seen").parse().ok().map(Version);
        let group = CustomGroup {
            id: id.unwrap_or_else(|| GroupId::new(app.now(), chance())),
            name: Text::new(&*name),
            members,
        };
        let told = format!("Saved “{}”, {}.", group.name.visible(), size(&group));
        match super::save(&app, &by, id, seen, group).await {
            Ok(_) => {
                return pages::go("/groups", &Flash::done(told));
            }
            Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => beside(&mut form, &error.told()),
            Err(error) => return Err(error),
        }
    }
    let page = GroupPage::of(&app, frame.clone(), id, form, false).await?;
    frame.refuse(&page)
}

/// The members as the form names them; none where a line cannot be understood.
fn members(form: &mut Form, computers: &[computers::Row]) -> Option<Members> {
    if form.is("kind", "computers") {
        let computers = form.all("computers").filter_map(|id| id.parse().ok()).collect();
        return Some(Members::Computers { computers });
    }
    let lines: Vec<String> = form.text("users").lines().map(|line| line.trim().to_owned()).collect();
    let mut users = Vec::new();
    for line in lines.iter().filter(|line| !line.is_empty()) {
        match member(line, computers) {
            Ok(member) if users.contains(&member) => {}
            Ok(member) => users.push(member),
            Err(why) => {
                form.refuse("users", why);
                return None;
            }
        }
    }
    Some(Members::Users { users })
}

/// `alice`, `alice@ws-2214`, or `alice@` and a computer's identity.
fn member(line: &str, computers: &[computers::Row]) -> Result<Member, String> {
    let Some((name, computer)) = line.rsplit_once('@') else {
        return Ok(Member { name: Text::new(line), computer: None });
    };
    let shown = Text::new(line);
    let named =
        |row: &&computers::Row| row.host_name.as_untrusted() == computer || row.id.to_string() == computer;
    let found: Vec<ComputerId> = computers.iter().filter(named).map(|row| row.id).collect();
    match found.as_slice() {
        [] => Err(format!("“{}”: no enrolled computer is called that.", shown.visible())),
        [_, _, ..] => Err(format!(
            "“{}”: {} computers share that host name; write the computer’s identity behind the @ instead.",
            shown.visible(),
            found.len()
        )),
        _ if name.is_empty() => Err(format!("“{}”: expected a user’s name before the @.", shown.visible())),
        [computer] => Ok(Member { name: Text::new(name), computer: Some(*computer) }),
    }
}

/// As it is typed: the host name where it is the only one of its kind, else the identity.
fn line(member: &Member, computers: &[computers::Row]) -> String {
    let name = member.name.as_untrusted();
    let Some(id) = member.computer else { return name.to_owned() };
    let host_name = computers.iter().find(|row| row.id == id).map(|row| &row.host_name);
    let only = host_name.filter(|name| computers.iter().filter(|row| row.host_name == **name).count() == 1);
    only.map_or_else(|| format!("{name}@{id}"), |host_name| format!("{name}@{}", host_name.as_untrusted()))
}

/// Who is meant, each in words.
fn told(members: &Members, computers: &[computers::Row]) -> Vec<String> {
    let called = |id: &ComputerId| {
        computers.iter().find(|row| row.id == *id).map_or_else(
            || format!("a computer that is not enrolled any more ({id})"),
            |row| row.host_name.visible().to_string(),
        )
    };
    match members {
        Members::Computers { computers } => computers.iter().map(called).collect(),
        Members::Users { users } => users
            .iter()
            .map(|member| match &member.computer {
                None => format!("{} on every computer", member.name.visible()),
                Some(id) => format!("{} on {} only", member.name.visible(), called(id)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use elevon_policy::time::Timestamp;

    use super::*;

    fn computer(seed: u8, host_name: &str) -> computers::Row {
        let enrolled = Timestamp::from_millis(1_795_620_287_000);
        computers::Row {
            id: ComputerId::new(enrolled, [seed; 10]),
            host_name: Text::new(host_name),
            operating_system: Text::new("Debian"),
            revoked: false,
            enrolled,
            last_seen: None,
            online: false,
            sheet_version: 1,
            held_version: None,
            bundle: None,
        }
    }

    #[test]
    fn users_are_named_as_they_are_typed() {
        let computers = [computer(1, "ws-1"), computer(2, "twin"), computer(3, "twin")];
        for typed in ["alice", "alice@ws-1", &format!("alice@{}", computers[1].id), "dom\\alice"] {
            let member = member(typed, &computers).expect("understood");
            assert_eq!(line(&member, &computers), typed);
        }
        for (typed, why) in
            [("a@nowhere", "no enrolled"), ("a@twin", "share that host name"), ("@ws-1", "before the @")]
        {
            assert!(member(typed, &computers).expect_err("refused").contains(why), "{typed}");
        }
    }
}
