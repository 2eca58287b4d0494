//! One list's settings: the form with its rules, and saving it.

use askama::Template;
use axum::response::Response;
use elevon_policy::decide::ListKind;
use elevon_policy::id::{PolicyId, Version};
use elevon_policy::text::Text;

use super::from_file::{self, Offered};
use super::{Words, place, standing, summary, words};
use crate::app::App;
use crate::auth::{Administrator, Needs};
use crate::error::Error;
use crate::pages;
use crate::pages::failure::beside;
use crate::pages::flash::Flash;
use crate::pages::form::Form;
use crate::pages::frame::Frame;
use crate::policies::draft::kinds::{KINDS, Kind};
use crate::policies::draft::rules::{self, RuleDraft};
use crate::policies::{self, Document, Summary, draft};

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
    offered: Option<Offered>,
    may_change: bool,
}

impl SettingsPage {
    fn of(frame: Frame, kind: ListKind, stored: Option<&Summary>, mut form: Form) -> Self {
        let mut rules = rules::all(&form);
        if kind == ListKind::Blocklist {
            rules = rules.into_iter().map(RuleDraft::without_warnings).collect();
        }
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
        let offered = Offered::of(&form);
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
            offered,
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

    /// Whether something but the file is wrong.
    fn is_not_saved(&self) -> bool {
        self.form.is_refused() && self.form.refused("file").is_none()
    }

    fn kinds(&self) -> [Kind; 6] {
        KINDS
    }
}

/// A list that is too long to be edited in a browser.
#[derive(Template)]
#[template(path = "policies/long.html")]
struct LongPage {
    frame: Frame,
    kind: ListKind,
    id: PolicyId,
    name: Text,
    standing: String,
    enabled: bool,
    rules: usize,
}

impl LongPage {
    fn words(&self) -> &'static Words {
        words(self.kind)
    }

    fn most(&self) -> usize {
        rules::MOST
    }
}

/// `GET …/new`
pub(super) async fn new(frame: Frame, _: Administrator, kind: ListKind) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    frame.show(&SettingsPage::of(frame.clone(), kind, None, draft::blank()))
}

/// `GET …/{id}`
pub(super) async fn settings(
    app: App,
    frame: Frame,
    kind: ListKind,
    id: PolicyId,
) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let summary = summary(&app, &frame, kind, id).await?;
    let document = policies::find(&app, &frame.reader, id).await?.document;
    if document.rules().len() > rules::MOST {
        return frame.show(&LongPage {
            frame: frame.clone(),
            kind,
            id,
            name: document.name().clone(),
            standing: standing(&summary),
            enabled: document.enabled(),
            rules: document.rules().len(),
        });
    }
    let mut form = match document {
        Document::Privileged(list) => draft::of_privileged(&list),
        Document::List(list) => draft::of_list(&list),
    };
    // What a stored version holds was acknowledged when it was saved.
    form.set("acknowledged", "yes");
    frame.show(&SettingsPage::of(frame.clone(), kind, Some(&summary), form))
}

/// `POST …/new` and `POST …/{id}`: adds a rule, removes one, or saves.
pub(super) async fn change(
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
    check_length(&app, &frame, id, &form).await?;
    let act = form.text("act").to_owned();
    match act.split_once('.') {
        Some(("choose" | "add", _)) if rules::count(&form) == rules::MOST => {
            form.refuse("form", too_long(rules::MOST + 1));
            return frame.refuse(&SettingsPage::of(frame.clone(), kind, stored.as_ref(), form));
        }
        Some(("choose", word)) => from_file::choose(&mut form, word, app.now()),
        Some(("add", word)) => rules::add(&mut form, word),
        Some(("remove", number)) => rules::remove(&mut form, number),
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

/// A draft as it was sent, shown again.
pub(super) async fn draft(
    app: App,
    frame: Frame,
    kind: ListKind,
    id: Option<PolicyId>,
    form: Form,
) -> Result<Response, Error> {
    let frame = frame.at_place(place(kind));
    let stored = match id {
        Some(id) => Some(summary(&app, &frame, kind, id).await?),
        None => None,
    };
    check_length(&app, &frame, id, &form).await?;
    let refused = form.is_refused();
    let page = SettingsPage::of(frame.clone(), kind, stored.as_ref(), form);
    if refused { frame.refuse(&page) } else { frame.show(&page) }
}

/// Refuses what was sent for a list that is too long for it: rules would go lost that were never shown.
async fn check_length(app: &App, frame: &Frame, id: Option<PolicyId>, form: &Form) -> Result<(), Error> {
    let stored = match id {
        Some(id) => policies::find(app, &frame.reader, id).await?.document.rules().len(),
        None => 0,
    };
    let rules = stored.max(rules::count(form));
    if rules > rules::MOST { Err(Error::invalid(too_long(rules))) } else { Ok(()) }
}

fn too_long(rules: usize) -> String {
    format!("a list of {rules} rules is changed over the API; here, lists have up to {}", rules::MOST)
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
        && rules::all(form).iter().any(RuleDraft::is_grave)
        && !form.has("acknowledged")
    {
        form.refuse("acknowledged", "Say that you know, or take those rules out.");
    }
    let Some(document) = document.filter(|_| !form.is_refused()) else { return Ok(None) };
    let name = Text::new(form.text("name").trim());
    match policies::save(app, by, kind, stored.map(|stored| stored.id), seen, document).await {
        Ok((id, version)) => Ok(Some((id, version, name))),
        Err(error @ (Error::Invalid { .. } | Error::Conflict(_))) => {
            beside(form, &error.told());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
