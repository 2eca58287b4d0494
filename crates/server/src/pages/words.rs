//! Words and tones that several rooms' pages share.

use std::borrow::Borrow;

use elevon_policy::event::{EndReason, Exit};
use elevon_policy::grant::{Ends, Grant, GrantState, GrantedApplication, GrantedArguments};
use elevon_policy::lists::{AtExpiry, Confirm, Launches, Nesting};
use elevon_policy::request::RequestState;
use elevon_policy::rule::Recognises;
use elevon_policy::time::Timestamp;

use super::command::Command;
use super::moment::{clock, words};

/// The stylesheet's word for a request's state.
pub fn request_tone(state: &RequestState) -> &'static str {
    match state {
        RequestState::Pending => "amber",
        RequestState::Approved => "green",
        RequestState::Declined => "red",
        RequestState::Cancelled | RequestState::Lapsed => "",
    }
}

/// The stylesheet's word for a grant's state.
pub fn grant_tone(state: &GrantState) -> &'static str {
    match state {
        GrantState::Active => "green",
        GrantState::Revoking => "amber",
        GrantState::Revoked | GrantState::Failed => "red",
        GrantState::Scheduled | GrantState::Expired | GrantState::Ended => "",
    }
}

/// How long a file is: `512 bytes`, `1.4 MB`.
pub fn size(bytes: impl Borrow<u64>) -> String {
    let bytes = *bytes.borrow();
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

/// What a person would call what a grant is for.
pub fn application_name(grant: &Grant) -> String {
    match &grant.application {
        GrantedApplication::Bytes { path, .. } => path.file_name().visible().to_string(),
        GrantedApplication::Component { action } => action.visible().to_string(),
        GrantedApplication::Rule { rule } => recognised(&rule.recognises),
    }
}

/// What its user does with it, as the middle of a sentence.
pub fn uses(grant: &Grant) -> String {
    let name = application_name(grant);
    match &grant.application {
        GrantedApplication::Component { .. } => format!("do {name} by polkit"),
        GrantedApplication::Bytes { .. } | GrantedApplication::Rule { .. } => {
            format!("run {name} as {}", grant.bounds.in_words(grant.runs_as))
        }
    }
}

/// How often what a grant is for may be used, and what that takes, as the end of a sentence.
pub fn how_often(launches: Launches, confirm: Confirm, nesting: Nesting) -> String {
    let times = match launches {
        Launches::Once => "once",
        Launches::Any => "any number of times",
    };
    let confirmed = match confirm {
        Confirm::None => "",
        Confirm::OncePerGrant => "; the user gives their password once, on the computer",
        Confirm::EachLaunch => "; the user gives their password at each launch",
    };
    let nested = match nesting {
        Nesting::Refused => "",
        Nesting::Allowed => "; also from inside a program of this user that runs elevated",
    };
    format!("{times}{confirmed}{nested}")
}

/// What the end of a grant does to what runs under it.
pub fn at_expiry(of: AtExpiry, is_component: bool) -> String {
    match of {
        _ if is_component => "polkit says yes no more; what was begun before goes on".to_owned(),
        AtExpiry::Terminate { warning, grace } => format!(
            "a warning {} before, SIGTERM {} before, then the whole process tree is killed",
            words(warning),
            words(grace)
        ),
        AtExpiry::Finish => "what runs may finish; nothing new starts".to_owned(),
    }
}

/// For what a grant is good.
pub fn granted_application(grant: &Grant) -> String {
    match &grant.application {
        GrantedApplication::Bytes { path, .. } => format!("the very bytes measured at {}", path.visible()),
        GrantedApplication::Component { action } => format!("the polkit action {}", action.visible()),
        GrantedApplication::Rule { rule } => {
            format!("whatever a rule recognises: {}", recognised(&rule.recognises))
        }
    }
}

/// The command line a grant is good for, as far as it is fixed.
pub fn granted_command(grant: &Grant) -> String {
    match (&grant.application, &grant.arguments) {
        (GrantedApplication::Bytes { path, .. }, GrantedArguments::Exact { argv }) => {
            Command::new(path, argv).to_string()
        }
        (GrantedApplication::Bytes { path, .. }, GrantedArguments::Any) => {
            format!("{} with any arguments", path.visible())
        }
        (GrantedApplication::Component { .. } | GrantedApplication::Rule { .. }, _) => {
            granted_application(grant)
        }
    }
}

/// Until when a grant is good, as the end of a sentence.
pub fn until(grant: &Grant, spoken_of: Timestamp) -> String {
    match grant.ends {
        Ends::At { end } => format!("until {}", clock(end, spoken_of)),
        Ends::AfterFirstLaunch { duration, latest_start } => {
            format!(
                "for {} from the first launch, which must come before {}",
                words(duration),
                clock(latest_start, spoken_of)
            )
        }
    }
}

/// What a rule is about, in a few words.
pub fn recognised(recognises: &Recognises) -> String {
    match recognises {
        Recognises::Vendor { vendor, .. } => format!("anything by {}", vendor.visible()),
        Recognises::Product { product, vendor } => format!("{} by {}", product.visible(), vendor.visible()),
        Recognises::VerifiedExecutable { product, vendor, file_name } => {
            format!("{} of {} by {}", file_name.visible(), product.visible(), vendor.visible())
        }
        Recognises::FileHash { sha256, display_name } if display_name.as_untrusted().is_empty() => {
            sha256.short()
        }
        Recognises::FileHash { sha256, display_name } => {
            format!("{} ({})", display_name.visible(), sha256.short())
        }
        Recognises::Clsid { component } => component.visible().to_string(),
        Recognises::FolderPath { path, with_subfolders: true } => {
            format!("{} with sub-folders", path.visible())
        }
        Recognises::FolderPath { path, with_subfolders: false } => path.visible().to_string(),
    }
}

/// What ended a launch, as an administrator reads it.
pub fn ended(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Exited => "ended by itself",
        EndReason::Expired => "ended: the time granted ran out",
        EndReason::Ended => "ended: its user gave the grant back",
        EndReason::Revoked => "ended: the grant was revoked",
        EndReason::Locked => "ended: it was locked or blocked",
        EndReason::OriginEnded => "ended: the elevated program that it was started from was over",
        EndReason::HungUp => "ended: its terminal went away",
        EndReason::SessionDied => "ended: the session that watched over it died",
        EndReason::Rebooted => "ended: the computer was started anew",
        EndReason::Failed => "could not be started",
    }
}

/// How an application itself ended.
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("status {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}

/// `1 computer`, `2 computers`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}
