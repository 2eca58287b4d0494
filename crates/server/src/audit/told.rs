//! An event in one sentence, with its details and where they lead.

use elevon_policy::event::{DenyReason, Event, Exit, Layers, LimitLayer, Nested, What, Witnessed};
use elevon_policy::grant::{Grant, GrantedApplication};
use elevon_policy::lint::Code;
use elevon_policy::lists::RunsAs;
use elevon_policy::request::LapseReason;
use elevon_policy::text::Text;
use elevon_policy::time::Timestamp;

use super::Row;
use crate::pages::command::Command;
use crate::pages::moment::{clock, words};
use crate::pages::words::{application_name, counted, ended, exit, granted_command, until};

/// An event as a row of the report.
#[derive(Debug, Clone)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// What happened, in one sentence.
    pub sentence: String,
    /// A command line, or a cause.
    pub detail: Option<String>,
    /// What a person wrote.
    pub quote: Option<String>,
    /// The word for it.
    pub kind: &'static str,
    /// The stylesheet's word for how it went.
    pub tone: &'static str,
    /// Where it leads: a word and an address.
    pub links: Vec<(&'static str, String)>,
}

/// Every kind, as the filter offers them.
pub const KINDS: [&str; 41] = [
    "request.made",
    "request.approved",
    "request.declined",
    "request.cancelled",
    "request.lapsed",
    "grant.made",
    "grant.started",
    "grant.ended",
    "grant.expired",
    "grant.revoked",
    "grant.revocation_enforced",
    "launch.started",
    "launch.ended",
    "launch.refused",
    "component.authorized",
    "policy.saved",
    "policy.deployed",
    "rule.not_evaluated",
    "group.saved",
    "sheet.delivered",
    "document.refused",
    "computer.started",
    "computer.enrolled",
    "computer.refused",
    "computer.revoked",
    "computer.certificate_renewed",
    "computer.events_lost",
    "enrollment_token.created",
    "enrollment_token.revoked",
    "account.created",
    "account.signed_in",
    "account.sign_in_failed",
    "account.signed_out",
    "account.disabled",
    "account.enabled",
    "account.password_changed",
    "api_token.created",
    "api_token.revoked",
    "server.backed_up",
    "server.restored",
    "server.contradicted",
];

impl Told {
    /// Tells it.
    pub fn of(row: &Row) -> Self {
        let teller = Teller {
            on: row
                .host_name
                .as_ref()
                .map_or_else(|| "a computer".to_owned(), |name| name.visible().to_string()),
            by: row.account.as_ref().map_or_else(|| "Elevon".to_owned(), |name| name.visible().to_string()),
        };
        let kind = row.event.what.kind();
        Self {
            at: row.at,
            sentence: teller.sentence(&row.event),
            detail: detail(&row.event.what),
            quote: quote(&row.event.what)
                .map(|text| text.visible().to_string())
                .filter(|text| !text.is_empty()),
            kind,
            tone: tone(kind),
            links: links(row),
        }
    }
}

struct Teller {
    on: String,
    by: String,
}

impl Teller {
    fn sentence(&self, event: &Event) -> String {
        let Self { on, by } = self;
        match &event.what {
            What::ComputerStarted { version, layers, .. } => {
                format!(
                    "{on} came up with Elevon {}; what ends a process tree there: {}",
                    version.visible(),
                    list(layers)
                )
            }
            What::SheetDelivered { version, grants, .. } => {
                format!(
                    "{on} holds sheet {version}, with {}",
                    counted(grants.len() as u64, "grant", "grants")
                )
            }
            What::DocumentRefused { .. } => format!("{on} did not accept a document, and keeps what it held"),
            What::RuleNotEvaluated { .. } => format!("{on} cannot evaluate a rule; it matches nothing there"),
            What::RequestMade { request } => format!(
                "{} on {on} asked to run {} as {} for {}",
                request.user.name.visible(),
                request.application.name().visible(),
                request.bounds.in_words(request.runs_as),
                words(request.duration)
            ),
            What::RequestCancelled { user, .. } => {
                format!("{} on {on} took the request back", user.name.visible())
            }
            What::RequestApproved { grant, .. } => format!(
                "{by} approved: {} may run {} as {} on {on} {}",
                grant.user.name.visible(),
                application_name(grant),
                grant.bounds.in_words(grant.runs_as),
                until(grant, event.at)
            ),
            What::RequestDeclined { user, .. } => {
                format!("{by} declined the request of {} on {on}", user.name.visible())
            }
            What::RequestLapsed { user, reason, .. } => {
                let because = match reason {
                    LapseReason::Unanswered => "nobody decided in time",
                    LapseReason::PolicyWithdrawn => "policy no longer lets anyone ask for it",
                };
                format!("The request of {} on {on} lapsed: {because}", user.name.visible())
            }
            What::GrantMade { grant, .. } => format!(
                "Policy let {} run {} as {} on {on} {}",
                grant.user.name.visible(),
                application_name(grant),
                grant.bounds.in_words(grant.runs_as),
                until(grant, event.at)
            ),
            What::GrantStarted { end, .. } => {
                format!("The first launch on {on} fixed the grant’s end: {}", clock(*end, event.at))
            }
            What::GrantEnded { user, .. } => format!("{} on {on} gave the grant back", user.name.visible()),
            What::GrantExpired { user, .. } => {
                format!("The grant of {} on {on} ran out", user.name.visible())
            }
            What::GrantRevoked { user, .. } => {
                format!("{by} revoked the grant of {} on {on}", user.name.visible())
            }
            What::GrantRevocationEnforced { .. } => {
                format!("{on} enforced the revocation: nothing runs under the grant any more")
            }
            What::LaunchStarted { user, path, end, runs_as, layers, origin, .. } => format!(
                "{} ran {} as {} on {on}, until {} at most{}",
                user.name.visible(),
                path.file_name().visible(),
                ran_as(*runs_as, layers),
                clock(*end, event.at),
                if origin.is_some() { ", from inside another program that ran elevated" } else { "" }
            ),
            What::LaunchEnded { user, reason, exit: how, .. } => {
                format!("What {} ran on {on} {}{}", user.name.visible(), ended(*reason), status(*how))
            }
            What::ComponentAuthorized { user, component, end, .. } => format!(
                "polkit on {on} let {} do {}, under a grant that is good until {}",
                user.name.visible(),
                component.visible(),
                clock(*end, event.at)
            ),
            What::LaunchRefused { user, path, reason, origin, .. } => {
                let from = origin.as_ref().map_or_else(String::new, |origin| {
                    format!(", under a launch of {}", origin.user.name.visible())
                });
                let (name, place) = (user.name.visible(), path.file_name());
                format!("{name} on {on} was refused {}: {}{from}", place.visible(), refused(*reason))
            }
            What::ComputerEnrolled { host_name, .. } => format!("{} was enrolled", host_name.visible()),
            What::ComputerRefused { .. } => {
                format!("Something that {on} sent was refused; nothing of it was stored")
            }
            What::ComputerCertificateRenewed { .. } => {
                format!("{on} got a new certificate before the old one ended")
            }
            What::ComputerEventsLost { after, until, .. } => format!(
                "{} of {on} went lost when the server was restored",
                counted(until.number.saturating_sub(after.number), "event", "events")
            ),
            What::ServerContradicted { chain, known, told } => {
                let whose = match chain {
                    Witnessed::Computer => "its own events",
                    Witnessed::Server => "the server’s events",
                };
                match known.number.saturating_sub(told.number) {
                    0 => format!("{on} knows {whose} otherwise than the server tells them"),
                    lost => format!(
                        "{on} knows of {} more of {whose} than the server has now",
                        counted(lost, "event", "events")
                    ),
                }
            }
            What::ComputerRevoked { host_name, .. } => format!("{by} shut {} out", host_name.visible()),
            What::PolicySaved { name, version, acknowledged, .. } => {
                let words = |code: &Code| code.to_string().replace('_', " ");
                let known = acknowledged.iter().map(words).collect::<Vec<_>>().join(", ");
                let known =
                    if known.is_empty() { known } else { format!(", having been warned of: {known}") };
                format!("{by} saved “{}” as version {version}{known}", name.visible())
            }
            What::PolicyDeployed { name, groups, .. } if groups.is_empty() => {
                format!("{by} withdrew “{}”", name.visible())
            }
            What::PolicyDeployed { name, version, groups, .. } => format!(
                "{by} deployed version {version} of “{}” to {}",
                name.visible(),
                counted(groups.len() as u64, "custom group", "custom groups")
            ),
            What::GroupSaved { name, members, .. } => {
                format!(
                    "{by} saved the custom group “{}”, {}",
                    name.visible(),
                    counted(*members, "member", "members")
                )
            }
            What::EnrollmentTokenCreated { uses, expires, .. } => format!(
                "{by} made an enrollment token for {}, good until {}",
                counted(*uses, "computer", "computers"),
                clock(*expires, event.at)
            ),
            What::EnrollmentTokenRevoked { .. } => format!("{by} revoked an enrollment token"),
            What::AccountCreated { name, role, .. } if event.by.is_none() => {
                format!("The set-up link made the account {}, {}", name.visible(), role.visible())
            }
            What::AccountCreated { name, role, .. } => {
                format!("{by} made the account {}, {}", name.visible(), role.visible())
            }
            What::AccountSignedIn { name, .. } => format!("{} signed in", name.visible()),
            What::AccountSignInFailed { name } => {
                format!("Someone tried to sign in as {}, and could not", name.visible())
            }
            What::AccountSignedOut { name, .. } => format!("{} signed out", name.visible()),
            What::ApiTokenCreated { name, role, .. } => {
                format!("{by} made the API token {}, {}", name.visible(), role.visible())
            }
            What::ApiTokenRevoked { name, .. } => format!("{by} revoked the API token {}", name.visible()),
            What::AccountDisabled { name, .. } => {
                format!("{by} disabled the account {}; its sessions ended", name.visible())
            }
            What::AccountEnabled { name, .. } => format!("{by} enabled the account {} again", name.visible()),
            What::AccountPasswordChanged { name, .. } => {
                format!("{by} changed the password of {}; its sessions ended", name.visible())
            }
            What::ServerBackedUp { with_keys: true } => format!("{by} took a backup, the keys among it"),
            What::ServerBackedUp { with_keys: false } => format!("{by} took a backup, without the keys"),
            What::ServerRestored { taken, .. } => format!(
                "{by} restored the server from a backup taken {}; what happened in between is gone",
                clock(*taken, event.at)
            ),
        }
    }
}

fn status(how: Option<Exit>) -> String {
    how.map(|how| format!(", {}", exit(how))).unwrap_or_default()
}

fn ran_as(runs_as: RunsAs, layers: &Layers) -> String {
    let mut words = match runs_as {
        RunsAs::Root => "root".to_owned(),
        RunsAs::SameUser => "the same user".to_owned(),
    };
    if let (RunsAs::SameUser, Some(capabilities)) = (runs_as, layers.capabilities) {
        words.push_str(&format!(" with {capabilities}"));
    }
    if layers.mount_namespace {
        words.push_str(", contained");
    }
    words
}

fn list(layers: &Layers) -> String {
    let limit = |limit: Option<LimitLayer>, what: &str| {
        limit.map(|limit| match limit {
            LimitLayer::InForce => format!("a limit on {what}"),
            LimitLayer::Absent => format!("no limit on {what}, though policy has one"),
        })
    };
    let plain = [
        (layers.cgroup, "cgroup"),
        (layers.subreaper, "child-subreaper"),
        (layers.own_deadline, "the session’s own deadline"),
        (layers.pid_namespace, "PID namespace"),
        (layers.mount_namespace, "mount namespace"),
        (layers.system_calls, "a filter of system calls"),
        (layers.no_new_privileges, "no new privileges"),
        (layers.one_process, "one process only"),
    ];
    let there: Vec<String> = plain
        .into_iter()
        .filter(|(there, _)| *there)
        .map(|(_, name)| name.to_owned())
        .chain(layers.landlock.map(|version| format!("Landlock {version}")))
        .chain(layers.capabilities.map(|at_most| match at_most.is_empty() {
            true => "no capabilities".to_owned(),
            false => format!("capabilities: {}", at_most.names().collect::<Vec<_>>().join(" ")),
        }))
        .chain(limit(layers.process_limit, "processes"))
        .chain(limit(layers.memory_limit, "memory"))
        .collect();
    if there.is_empty() { "nothing".to_owned() } else { there.join(", ") }
}

fn refused(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::NotListed => "no list has it",
        DenyReason::Blocked => "a blocklist has it",
        DenyReason::Denied => "a rule denies it",
        DenyReason::Off => "elevation is off for it",
        DenyReason::Locked => "it is locked",
        DenyReason::Changed => "the grant ended or the file changed before the start",
        DenyReason::Declined => "the request was declined",
        DenyReason::NotExecutable => "it is no program that can be executed",
        DenyReason::UntrustedInterpreter => "its interpreter cannot be believed",
        DenyReason::CallerConfined => "the caller is more confined than the elevator",
        DenyReason::Nested => "the caller is itself elevated",
        DenyReason::CallerUnknown => "the caller could not be identified",
        DenyReason::NotEnrolled => "the computer is not enrolled",
        DenyReason::LeaseEnded => "the policy in hand is too old",
        DenyReason::TimeUnknown => "the time cannot be relied on",
        DenyReason::TooMany => "too many were asked for at once",
        DenyReason::AccountLocked => "the user's account is locked",
        DenyReason::AccountExpired => "the user's account has expired",
        DenyReason::PasswordExpired => "the user's password has expired",
        DenyReason::AccountRefused => "PAM does not admit the user now",
        DenyReason::PamFailed => "PAM could not be asked",
        DenyReason::LayerMissing => "policy keeps it to less than root may do, and the computer cannot",
        DenyReason::PasswordWrong => "the password was wrong",
        DenyReason::NotConfirmed => "nobody gave the user's password",
    }
}

fn detail(what: &What) -> Option<String> {
    match what {
        What::RequestMade { request } => {
            Some(Command::new(&request.application.place(), &request.argv).to_string())
        }
        What::RequestApproved { grant, .. } | What::GrantMade { grant, .. } => Some(granted(grant)),
        What::LaunchStarted { path, argv, layers, origin, .. } => Some(format!(
            "{} · held by: {}{}",
            Command::new(path, argv),
            list(layers),
            inside(origin.as_ref())
        )),
        What::LaunchRefused { path, argv, missing, origin, .. } => {
            let missing = missing.as_ref().map(|missing| format!(" · missing: {}", missing.visible()));
            let inside = inside(origin.as_ref());
            Some(format!("{}{}{inside}", Command::new(path, argv), missing.unwrap_or_default()))
        }
        What::DocumentRefused { cause }
        | What::RuleNotEvaluated { cause, .. }
        | What::ComputerRefused { cause, .. } => Some(cause.visible().to_string()),
        _ => None,
    }
}

fn inside(origin: Option<&Nested>) -> String {
    origin.map_or_else(String::new, |origin| format!(" · from inside launch {}", origin.launch))
}

fn granted(grant: &Grant) -> String {
    match &grant.application {
        GrantedApplication::Bytes { sha256, .. } => {
            format!("{} · {}", granted_command(grant), sha256.short())
        }
        GrantedApplication::Component { .. } | GrantedApplication::Rule { .. } => granted_command(grant),
    }
}

fn quote(what: &What) -> Option<&Text> {
    match what {
        What::RequestMade { request } => Some(&request.justification),
        What::GrantMade { justification, .. } => Some(justification),
        What::RequestApproved { comment, .. }
        | What::RequestDeclined { comment, .. }
        | What::GrantRevoked { comment, .. } => Some(comment),
        _ => None,
    }
}

fn tone(kind: &str) -> &'static str {
    match kind {
        "request.made" => "amber",
        "request.approved" | "grant.made" | "launch.started" | "component.authorized" => "green",
        "request.declined"
        | "launch.refused"
        | "grant.revoked"
        | "document.refused"
        | "computer.refused"
        | "computer.revoked"
        | "computer.events_lost"
        | "account.disabled"
        | "server.restored"
        | "server.contradicted"
        | "account.sign_in_failed" => "red",
        _ => "",
    }
}

fn links(row: &Row) -> Vec<(&'static str, String)> {
    let about = row.event.what.subjects();
    let request = about.request.map(|id| ("request", format!("/requests/{id}")));
    let grant = about.grant.map(|id| ("grant", format!("/grants/{id}")));
    let group = match &row.event.what {
        What::GroupSaved { group, .. } => Some(("group", format!("/groups/{group}"))),
        _ => None,
    };
    let origin = match &row.event.what {
        What::LaunchStarted { origin, .. } | What::LaunchRefused { origin, .. } => origin.as_ref(),
        What::RequestMade { request } => request.origin.as_ref(),
        _ => None,
    };
    let origin = origin.and_then(|origin| Some(("origin", format!("/grants/{}", origin.grant?))));
    request.into_iter().chain(grant).chain(group).chain(origin).collect()
}

#[cfg(test)]
mod tests {
    use elevon_policy::application::{Sha256, User};
    use elevon_policy::event::By;
    use elevon_policy::grant::PolicyReference;
    use elevon_policy::id::{AccountId, GrantId, LaunchId, PolicyId, RequestId, Version};
    use elevon_policy::request::ElevationRequest;
    use elevon_policy::text::OsText;

    use super::*;
    use crate::audit::Origin;
    use crate::pages::sample::{NOW, application, request};

    fn told(what: What, account: Option<&str>) -> Told {
        let name = account.map(Text::new);
        let by = name.clone().map(|name| By::Account { account: AccountId::new(NOW, [1; 10]), name });
        Told::of(&Row {
            number: 1,
            at: NOW,
            stored: NOW,
            origin: Origin::Server,
            computer: None,
            host_name: Some(Text::new("ws-2214")),
            account: name,
            event: Event { at: NOW, by, what },
        })
    }

    #[test]
    fn an_event_reads_as_a_sentence_and_leads_somewhere() {
        let asked = request(application("/usr/bin/apt-get"), &["apt-get", "update"], "PAY-1182").record.asked;
        let id = asked.id;
        let made = told(What::RequestMade { request: Box::new(asked) }, None);
        assert_eq!(made.sentence, "bob on ws-2214 asked to run apt-get as root for 15 minutes");
        assert_eq!(made.detail.as_deref(), Some("/usr/bin/apt-get update"));
        assert_eq!(made.quote.as_deref(), Some("PAY-1182"));
        assert_eq!(made.links, [("request", format!("/requests/{id}"))]);

        let (grant, user) = (GrantId::new(NOW, [1; 10]), User { uid: 1003, name: Text::new("bob") });
        let computer = elevon_policy::id::ComputerId::new(NOW, [1; 10]);
        let revoked =
            told(What::GrantRevoked { grant, computer, user, comment: Text::new("") }, Some("erin"));
        assert_eq!(revoked.sentence, "erin revoked the grant of bob on ws-2214");
        assert_eq!((revoked.quote, revoked.tone), (None, "red"));
    }

    #[test]
    fn what_comes_from_inside_a_launch_says_so_and_leads_there() {
        let (grant, user) = (GrantId::new(NOW, [1; 10]), User { uid: 1003, name: Text::new("bob") });
        let launch = LaunchId::new(NOW, [5; 10]);
        let nested = Nested { launch, grant: Some(GrantId::new(NOW, [6; 10])), user: user.clone() };
        let leads = ("origin", format!("/grants/{}", GrantId::new(NOW, [6; 10])));
        let started = |origin| What::LaunchStarted {
            launch: LaunchId::new(NOW, [2; 10]),
            grant,
            user: user.clone(),
            path: OsText::from("/usr/bin/id"),
            sha256: Sha256([1; 32]),
            argv: vec![OsText::from("id")],
            policy: PolicyReference { policy: PolicyId::new(NOW, [4; 10]), version: Version(7), rule: None },
            end: NOW,
            runs_as: RunsAs::Root,
            layers: Layers::default(),
            login: None,
            origin,
        };
        let (plain, inside) = (told(started(None), None), told(started(Some(nested.clone())), None));
        assert_eq!(
            inside.sentence,
            format!("{}, from inside another program that ran elevated", plain.sentence)
        );
        assert!(inside.detail.as_ref().is_some_and(|detail| detail.contains(&launch.to_string())));
        assert!(!plain.links.contains(&leads) && inside.links.contains(&leads), "{:?}", inside.links);

        let asked = request(application("/usr/bin/id"), &["id"], "PAY-1182").record.asked;
        let asked = ElevationRequest { origin: Some(nested), ..asked };
        let made = told(What::RequestMade { request: Box::new(asked) }, None);
        assert!(made.links.contains(&leads), "{:?}", made.links);
    }

    #[test]
    fn every_kind_can_be_filtered_for() {
        let request = RequestId::new(NOW, [1; 10]);
        let user = User { uid: 1, name: Text::new("bob") };
        let kind = told(What::RequestCancelled { request, user }, None).kind;
        assert!(KINDS.contains(&kind));
        let mut kinds = KINDS.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), KINDS.len());
    }
}
