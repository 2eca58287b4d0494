//! Trials: what would happen if a user tried to elevate an application, and why. The policies in force decide, by the one function
//! that decides everywhere; nothing is asked for, recorded or changed.

pub mod api;
pub mod pages;

pub mod sql;

use elevon_policy::advice::{self, Standing, ToDo};
use elevon_policy::application::{Application, Component, Lane, Sha256, User};
use elevon_policy::bundle::Bundle;
use elevon_policy::decide::{Attempt, Decision, HeldGrant, Holdings, Reason, Verdict, decide};
use elevon_policy::grant::PolicyReference;
use elevon_policy::id::{ComputerId, RequestId};
use elevon_policy::request::ElevationRequest;
use elevon_policy::rule::{Listed, Rule};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use crate::app::App;
use crate::auth::Reader;
use crate::channel::bundles;
use crate::computers;
use crate::error::Error;
use crate::grants;
use crate::pages::words::recognised;

/// So many requests and launches are looked through, from the latest, for what is known of an application.
const LOOKED_THROUGH: usize = 500;
/// So many arguments are taken.
const ARGUMENTS: usize = 1_000;

/// Who would try what.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The operating-system account's name.
    pub user: Text,
    /// On which computer.
    pub computer: ComputerId,
    /// What.
    pub application: Named,
    /// With which arguments, without the program's own name.
    #[serde(default)]
    pub arguments: Vec<OsText>,
    /// When; now, where it is left out.
    #[serde(default)]
    pub at: Option<Timestamp>,
}

/// How the application is named.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// By its path.
    Path(OsText),
    /// By its bytes.
    Sha256(Sha256),
    /// A polkit action.
    Component(Text),
    /// By all that a computer would measure of it.
    Facts(Box<Application>),
}

/// What would happen.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// Who.
    pub user: User,
    /// Whether that user of that computer has asked for something before; the number is unknown otherwise.
    pub user_known: bool,
    /// On which computer.
    pub computer: computers::Row,
    /// Whether that computer has said that it holds these policies.
    pub computer_holds_it: bool,
    /// What.
    pub application: Application,
    /// With which arguments, the program's own name first.
    pub argv: Vec<OsText>,
    /// Where the application's facts come from.
    pub source: Source,
    /// When.
    pub at: Timestamp,
    /// The verdict.
    pub verdict: Verdict,
    /// Every policy that had something to say.
    pub reasons: Vec<Weighed>,
    /// What the user can do.
    #[serde(flatten)]
    pub to_do: ToDo,
}

/// Where an application's facts come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// A computer measured it, when somebody asked for it.
    Measured {
        /// The computer.
        computer: ComputerId,
        /// When.
        at: Timestamp,
        /// The request.
        request: RequestId,
    },
    /// It was launched: its path and its bytes are known. The rest is supposed: that only root can change it, and that no package
    /// owns it.
    Launched,
    /// Nobody measured it lately. It is supposed that only root can change it, and that no package owns it.
    Supposed,
    /// As given.
    Given,
}

/// What a policy had to say, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Weighed {
    /// What it had to say.
    #[serde(flatten)]
    pub reason: Reason,
    /// What became of it.
    #[serde(flatten)]
    pub standing: Standing,
    /// What its rule is about, in a few words.
    pub about: Option<String>,
    /// Both in a sentence.
    pub sentence: String,
}

impl Weighed {
    fn new(decision: &Decision, reason: &Reason, bundle: &Bundle) -> Self {
        let standing = decision.standing(reason);
        let became = match standing {
            Standing::Decides => ": this decides".to_owned(),
            Standing::Overruled { by } => format!(", but {}", by.sentence()),
            Standing::Allows | Standing::Short => String::new(),
        };
        let about = rule(bundle, reason.policy).map(|rule| recognised(&rule.recognises));
        Self { reason: reason.clone(), standing, about, sentence: format!("{reason}{became}") }
    }
}

fn rule(bundle: &Bundle, policy: PolicyReference) -> Option<&Rule> {
    let privileged = bundle.privileged_application_lists.iter().map(|it| (it.policy.id, &it.policy.rules));
    let lists = bundle.allowlists.iter().chain(&bundle.blocklists).map(|it| (it.policy.id, &it.policy.rules));
    let (_, rules) = privileged.chain(lists).find(|(id, _)| *id == policy.policy)?;
    rules.iter().find_map(|listed| match listed {
        Listed::Rule(rule) if Some(rule.id) == policy.rule => Some(rule),
        Listed::Rule(_) | Listed::Unreadable(_) => None,
    })
}

/// What would happen, and why.
pub async fn try_it(app: &App, by: &Reader, question: Question) -> Result<Tried, Error> {
    check(&question)?;
    let computer = computers::find(app, by, question.computer).await?;
    if computer.revoked {
        return Err(Error::field("computer", "this computer is shut out; nothing new is decided for it"));
    }
    let at = question.at.unwrap_or_else(|| app.now());
    let mut db = app.db.snapshot().await?;
    let made = bundles::of(app, &mut db, question.computer).await?;
    let asked = sql::asked(&mut db, question.computer, LOOKED_THROUGH).await?;
    let grants = grants::sql::held(&mut db, question.computer, &question.user).await?;
    let found = found(&mut db, &question, &asked).await?;
    db.rollback().await?;
    let (user, user_known) = user(&question, &asked, &grants);
    let argv: Vec<OsText> = std::iter::once(found.name).chain(question.arguments).collect();
    let holdings = Holdings { bundle: &made.bundle, locks: &[], grants: &grants };
    let attempt = Attempt {
        user: &user,
        computer: question.computer,
        application: &found.application,
        argv: &argv,
        nested: false,
    };
    let decision = decide(&holdings, &attempt, at);
    Ok(Tried {
        user_known,
        computer_holds_it: computer.bundle == Some(made.digest),
        reasons: decision
            .reasons
            .iter()
            .map(|reason| Weighed::new(&decision, reason, &made.bundle))
            .collect(),
        to_do: advice::to_do(&decision, &found.application),
        verdict: decision.verdict,
        user,
        computer,
        application: found.application,
        argv,
        source: found.source,
        at,
    })
}

fn check(question: &Question) -> Result<(), Error> {
    if question.user.as_untrusted().is_empty() {
        return Err(Error::field("user", "expected the name of an operating-system account"));
    }
    if question.arguments.len() > ARGUMENTS {
        return Err(Error::field("arguments", format!("expected at most {ARGUMENTS} arguments")));
    }
    match &question.application {
        Named::Path(path) if !path.as_bytes().starts_with(b"/") || path.as_bytes().ends_with(b"/") => Err(
            Error::field("application", "expected the absolute path of a program, such as /usr/bin/tcpdump"),
        ),
        Named::Component(action) if action.as_untrusted().is_empty() => {
            Err(Error::field("application", "expected the name of a polkit action"))
        }
        _ => Ok(()),
    }
}

/// What is known of the application that was named.
struct Found {
    application: Application,
    /// The program's own name.
    name: OsText,
    source: Source,
}

impl Found {
    fn supposed(application: Application) -> Self {
        Self { name: application.place(), application, source: Source::Supposed }
    }
}

/// The latest that a computer measured of it, this one before others; else what can be supposed.
async fn found(
    db: &mut AnyConnection,
    question: &Question,
    asked: &[ElevationRequest],
) -> Result<Found, Error> {
    let is_it = |application: &Application| match &question.application {
        Named::Path(path) => application.component.is_none() && application.path == *path,
        Named::Sha256(sha256) => application.component.is_none() && application.sha256 == *sha256,
        Named::Component(action) => {
            application.component.as_ref().is_some_and(|component| component.action == *action)
        }
        Named::Facts(_) => false,
    };
    let here = |request: &&ElevationRequest| request.computer == question.computer;
    let known: Vec<&ElevationRequest> = asked.iter().filter(|request| is_it(&request.application)).collect();
    if let Some(request) = known.iter().copied().find(here).or_else(|| known.first().copied()) {
        let source = Source::Measured { computer: request.computer, at: request.made, request: request.id };
        let name = request.argv.first().cloned().unwrap_or_else(|| request.application.place());
        return Ok(Found { application: request.application.clone(), name, source });
    }
    let launched = sql::launched_lately(db, LOOKED_THROUGH).await?;
    let launched = launched.into_iter().find(|(path, sha256)| match &question.application {
        Named::Path(named) => named == path,
        Named::Sha256(named) => named == sha256,
        Named::Component(_) | Named::Facts(_) => false,
    });
    if let Some((path, sha256)) = launched {
        return Ok(Found { source: Source::Launched, ..Found::supposed(supposed(path, sha256)) });
    }
    Ok(Found::supposed(match &question.application {
        Named::Facts(application) => {
            let application = *application.clone();
            return Ok(Found { source: Source::Given, ..Found::supposed(application) });
        }
        Named::Component(action) => {
            let component = Component { action: action.clone(), services: Vec::new() };
            Application { component: Some(component), ..supposed(OsText::default(), NOT_KNOWN) }
        }
        Named::Path(path) => supposed(path.clone(), NOT_KNOWN),
        Named::Sha256(sha256) => supposed(OsText::default(), *sha256),
    }))
}

/// The digest of what nobody has measured: of no file that anybody has found.
pub const NOT_KNOWN: Sha256 = Sha256([0; 32]);

/// A program that only root can change, and no package owns.
pub fn supposed(path: OsText, sha256: Sha256) -> Application {
    Application {
        path,
        sha256,
        size: 0,
        owner: 0,
        mode: 0o755,
        lane: Lane::Trusted,
        interpreter: None,
        package: None,
        package_database: true,
        component: None,
    }
}

/// The user with the number that goes with that name there, and whether it is known.
fn user(question: &Question, asked: &[ElevationRequest], grants: &[HeldGrant]) -> (User, bool) {
    let asked = asked.iter().filter(|request| request.computer == question.computer);
    let users = asked.map(|request| &request.user).chain(grants.iter().map(|held| &held.grant.user));
    match users.into_iter().find(|user| user.name == question.user) {
        Some(user) => (user.clone(), true),
        // No account has this number.
        None => (User { uid: u32::MAX, name: question.user.clone() }, false),
    }
}

/// What people asked for lately, on any computer, the latest first, each once; and the users who did.
pub async fn known(app: &App, _: &Reader) -> Result<(Vec<Application>, Vec<Text>), Error> {
    let asked = sql::asked_lately(&mut *app.db.read().await?, LOOKED_THROUGH).await?;
    let (mut applications, mut users): (Vec<Application>, Vec<Text>) = (Vec::new(), Vec::new());
    for ElevationRequest { application, user, .. } in asked {
        if !applications.iter().any(|known| known.place() == application.place()) {
            applications.push(application);
        }
        if !users.contains(&user.name) {
            users.push(user.name);
        }
    }
    Ok((applications, users))
}
