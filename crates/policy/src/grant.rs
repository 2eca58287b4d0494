//! The right to run one application elevated, and its life.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::application::{Application, Sha256, User};
use crate::bounds::Bounds;
use crate::id::{ComputerId, GrantId, PolicyId, RequestId, RuleId, Version};
use crate::lists::{AtExpiry, Confirm, Launches, Nesting, RunsAs};
use crate::rule::{ArgumentPattern, Finding, Rule};
use crate::text::{OsText, Text};
use crate::time::{Span, Timestamp};

/// A grant as it is signed: everything the computer needs to enforce it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its identity; a renewal keeps it.
    pub id: GrantId,
    /// Goes up with each renewal.
    pub version: Version,
    /// Where it comes from.
    pub origin: Origin,
    /// On which computer it is good.
    pub computer: ComputerId,
    /// For whom: number and name must both agree.
    pub user: User,
    /// For which application.
    pub application: GrantedApplication,
    /// With which arguments.
    pub arguments: GrantedArguments,
    /// With which rights it runs.
    pub runs_as: RunsAs,
    /// What it is kept to.
    #[serde(default, skip_serializing_if = "Bounds::is_none")]
    pub bounds: Bounds,
    /// Not before this; for an approved request, when it was asked, by the computer's own clock.
    pub not_before: Timestamp,
    /// Until when.
    pub ends: Ends,
    /// How many launches it is good for.
    pub launches: Launches,
    /// What its end does to what runs.
    pub at_expiry: AtExpiry,
    /// Whether its user shows to be there, by their password.
    #[serde(default, skip_serializing_if = "Confirm::is_none")]
    pub confirm: Confirm,
    /// Whether it may be used from inside a program that runs elevated itself.
    #[serde(default, skip_serializing_if = "Nesting::is_refused")]
    pub nesting: Nesting,
    /// The policy it was given under.
    pub policy: PolicyReference,
}

/// Where a grant comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// Someone approved this request.
    Request {
        /// The request.
        request: RequestId,
    },
    /// Policy lets it run without asking; the elevator made it.
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Policy,
}

/// The version of a policy, and the rule in it, that something was decided under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyReference {
    /// The list.
    pub policy: PolicyId,
    /// Its version.
    pub version: Version,
    /// The rule, unless an allowlist stood in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleId>,
}

/// For which application a grant is good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum GrantedApplication {
    /// These very bytes; for a script, read by these very bytes.
    Bytes {
        /// The digest.
        sha256: Sha256,
        /// Where they lay when they were measured; it decides nothing.
        path: OsText,
        /// The interpreter's digest, where it is a script.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interpreter: Option<Sha256>,
    },
    /// What polkit asks about under this name: nothing runs.
    Component {
        /// The action.
        action: Text,
    },
    /// Whatever this rule recognises: the approver widened it.
    Rule {
        /// As it stood then.
        rule: Box<Rule>,
    },
}

/// With which arguments a grant is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum GrantedArguments {
    /// This vector, the program's own name first.
    Exact {
        /// In order.
        argv: Vec<OsText>,
    },
    /// Any.
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Any,
}

/// Until when a grant is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ends {
    /// Until this point, delivered or not.
    At {
        /// Nothing runs any more from then on.
        end: Timestamp,
    },
    /// For this long from the first launch, which must come in time.
    AfterFirstLaunch {
        /// How long.
        duration: Span,
        /// The first launch comes before this, or never.
        latest_start: Timestamp,
    },
}

impl Grant {
    /// Whether it covers this user, application and arguments; says nothing about time.
    pub fn covers(
        &self,
        user: &User,
        computer: ComputerId,
        application: &Application,
        argv: &[OsText],
    ) -> bool {
        self.user == *user
            && self.computer == computer
            && self.application.covers(application)
            && self.arguments.covers(argv)
    }

    /// The end it has when it is first launched at `now`; `None` when it may not be launched then. `fixed` is the end a
    /// first launch has already fixed.
    pub fn end_when_launched(&self, fixed: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let end = match (self.ends, fixed) {
            (Ends::At { end }, _) => end,
            (Ends::AfterFirstLaunch { .. }, Some(end)) => end,
            (Ends::AfterFirstLaunch { duration, latest_start }, None) if now < latest_start => {
                now.after(duration)
            }
            (Ends::AfterFirstLaunch { .. }, None) => return None,
        };
        (self.not_before <= now && now < end).then_some(end)
    }
}

impl GrantedApplication {
    /// This very application, and no other.
    pub fn of(application: &Application) -> Self {
        match &application.component {
            Some(component) => Self::Component { action: component.action.clone() },
            None => Self::Bytes {
                sha256: application.sha256,
                path: application.path.clone(),
                interpreter: application.interpreter.as_ref().map(|interpreter| interpreter.sha256),
            },
        }
    }

    fn covers(&self, application: &Application) -> bool {
        match self {
            Self::Component { action } => {
                application.component.as_ref().is_some_and(|component| component.action == *action)
            }
            Self::Bytes { sha256, interpreter, path: _ } => {
                application.component.is_none()
                    && *sha256 == application.sha256
                    && *interpreter == application.interpreter.as_ref().map(|interpreter| interpreter.sha256)
            }
            Self::Rule { rule } => {
                // Arguments are the grant's own affair; the rule only says which application.
                let rule = Rule { arguments: ArgumentPattern::Any, ..Rule::clone(rule) };
                rule.recognise(application, &[]) == Finding::Matches
            }
        }
    }
}

impl GrantedArguments {
    fn covers(&self, given: &[OsText]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact { argv } => argv == given,
        }
    }
}

/// The life of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// Decided; its start is still ahead.
    Scheduled,
    /// Its clock runs.
    Active,
    /// Its time ran out.
    Expired,
    /// Its user gave it back.
    Ended,
    /// An administrator took it back; the computer has not said yet that it is enforced.
    Revoking,
    /// An administrator took it back, and the computer has enforced it.
    Revoked,
    /// It could not be put in force.
    Failed,
}

impl GrantState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Active,
        Self::Expired,
        Self::Ended,
        Self::Revoking,
        Self::Revoked,
        Self::Failed,
    ];

    /// The one table of transitions; all others are refused, here and by the database.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Scheduled, Self::Active)
                | (
                    Self::Scheduled | Self::Active,
                    Self::Revoking | Self::Ended | Self::Expired | Self::Failed
                )
                | (Self::Revoking, Self::Revoked)
        )
    }

    /// As in the database and the documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Ended => "ended",
            Self::Revoking => "revoking",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
        }
    }

    /// Whether the computer may use a grant in this state.
    pub fn in_force(self) -> bool {
        matches!(self, Self::Scheduled | Self::Active)
    }
}

impl fmt::Display for GrantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for GrantState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.word() == text).ok_or(UnknownState)
    }
}

/// The word names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownState;

impl fmt::Display for UnknownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this word names no state")
    }
}

impl std::error::Error for UnknownState {}

/// A grant and where it is in its life, as the server keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// The grant.
    pub grant: Grant,
    /// Where it is in its life.
    pub state: GrantState,
    /// Counts the changes of this record.
    pub version: Version,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The end a first launch fixed, or the stated one.
    pub end: Option<Timestamp>,
    /// When the computer said that it has it.
    pub delivered_at: Option<Timestamp>,
}

impl GrantRecord {
    /// A grant that was just given.
    pub fn given(grant: Grant, now: Timestamp) -> Self {
        let (state, end) = match grant.ends {
            Ends::At { end } if grant.not_before <= now => (GrantState::Active, Some(end)),
            Ends::At { end } => (GrantState::Scheduled, Some(end)),
            Ends::AfterFirstLaunch { .. } => (GrantState::Scheduled, None),
        };
        Self { grant, state, version: Version::FIRST, since: now, end, delivered_at: None }
    }

    /// The record one step further in its life, or that this step does not exist.
    pub fn step(self, next: GrantState, now: Timestamp) -> Result<Self, IllegalStep> {
        if !self.state.may_become(next) {
            return Err(IllegalStep { from: self.state.word(), to: next.word() });
        }
        Ok(Self { state: next, version: self.version.next(), since: now, ..self })
    }

    /// When its time has run out for certain. A first launch that came in time may not have been reported yet, so a grant
    /// that waits for one runs out only when such a launch would.
    pub fn runs_out(&self) -> Timestamp {
        match (self.end, self.grant.ends) {
            (Some(end), _) | (None, Ends::At { end }) => end,
            (None, Ends::AfterFirstLaunch { latest_start, duration }) => latest_start.after(duration),
        }
    }
}

/// There is no such step in a request's or a grant's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IllegalStep {
    /// The state it is in.
    pub from: &'static str,
    /// The state it was to go to.
    pub to: &'static str,
}

impl fmt::Display for IllegalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {} and cannot become {} any more", self.from, self.to)
    }
}

impl std::error::Error for IllegalStep {}
