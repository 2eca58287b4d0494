//! A user's ask, and its life: pending until someone decides, its user takes it back, or its time runs out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::application::{Application, User};
use crate::bounds::Bounds;
use crate::decide::Offer;
use crate::event::Nested;
use crate::grant::{
    Ends, Grant, GrantedApplication, GrantedArguments, IllegalStep, Origin, PolicyReference, UnknownState,
};
use crate::group::Member;
use crate::id::{AccountId, ComputerId, GrantId, RequestId, Version};
use crate::lists::{Covers, RunsAs, Starts};
use crate::text::{OsText, Text};
use crate::time::{Span, Timestamp};

/// What a user asks for, as the elevator measured and signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElevationRequest {
    /// Its identity, made by the elevator.
    pub id: RequestId,
    /// On which computer.
    pub computer: ComputerId,
    /// Who asks.
    pub user: User,
    /// For which application, as measured.
    pub application: Application,
    /// With which arguments, the program's own name first.
    pub argv: Vec<OsText>,
    /// In which working directory.
    pub working_directory: OsText,
    /// With which rights it would run.
    pub runs_as: RunsAs,
    /// What it would be kept to.
    #[serde(default, skip_serializing_if = "Bounds::is_none")]
    pub bounds: Bounds,
    /// The launch it is asked from inside of, where a program that runs elevated itself asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Nested>,
    /// For how long.
    pub duration: Span,
    /// Why.
    pub justification: Text,
    /// The policy that says to ask.
    pub policy: PolicyReference,
    /// When it was made.
    pub made: Timestamp,
    /// When it lapses without a decision.
    pub lapses: Timestamp,
}

/// The life of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Waits for a decision.
    Pending,
    /// Someone agreed.
    Approved,
    /// Someone did not agree.
    Declined,
    /// Its user took it back.
    Cancelled,
    /// Nobody decided in time, or the policy went away.
    Lapsed,
}

impl RequestState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Declined, Self::Cancelled, Self::Lapsed];

    /// The one table of transitions; all others are refused, here and by the database.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Approved | Self::Declined | Self::Cancelled | Self::Lapsed)
        )
    }

    /// As in the database and the documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
            Self::Lapsed => "lapsed",
        }
    }
}

impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for RequestState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.word() == text).ok_or(UnknownState)
    }
}

/// Why a request lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LapseReason {
    /// Nobody decided in time.
    Unanswered,
    /// The policy in force no longer lets anyone ask for this.
    PolicyWithdrawn,
}

/// A request and where it is in its life, as the server keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// What was asked.
    pub asked: ElevationRequest,
    /// Where it is in its life.
    pub state: RequestState,
    /// Counts the changes of this record.
    pub version: Version,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Who decided, where someone did.
    pub decision: Option<Decision>,
    /// Why it lapsed, where it did.
    pub lapse_reason: Option<LapseReason>,
}

/// One approver's approve or decline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The account.
    pub by: AccountId,
    /// Its name then.
    pub name: Text,
    /// What they wrote.
    pub comment: Text,
    /// When.
    pub at: Timestamp,
}

/// Who decides: an account that may, and the operating-system users it is tied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decider {
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: Text,
    /// Its operating-system users; empty means the user of the same name, on every computer and in any domain.
    pub os_users: Vec<Member>,
}

impl Decider {
    /// Whether this user is, or counts as, the same person. Names of accounts ignore case, and so does this, and a domain before or
    /// behind a name says nothing: it would rather tie one too many than let somebody decide for themselves.
    pub fn is_tied_to(&self, user: &User, computer: ComputerId) -> bool {
        let is_they = |name: &Text| person(name) == person(&user.name);
        if self.os_users.is_empty() {
            return is_they(&self.name);
        }
        let is_here = |member: &Member| member.computer.is_none_or(|only| only == computer);
        self.os_users.iter().any(|member| is_here(member) && is_they(&member.name))
    }
}

/// Of `Alice@corp.example`, as of `CORP\alice`, `alice`: as directories name them, here or on computers.
fn person(name: &Text) -> String {
    let name = name.as_untrusted().to_lowercase();
    let name = name.rsplit_once('\\').map_or(name.as_str(), |(_, name)| name);
    name.split_once('@').map_or(name, |(name, _)| name).to_owned()
}

/// What an approver agrees to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// For how long; not longer than asked.
    pub duration: Span,
    /// For these arguments or any.
    pub covers: Covers,
    /// To the user.
    pub comment: Text,
}

/// Why a decision was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionRefused {
    /// It is not pending any more.
    Illegal(IllegalStep),
    /// It changed since it was looked at.
    Changed,
    /// Its time ran out, though nobody has written that down yet.
    TooLate,
    /// The user is tied to the account that decides.
    OwnRequest,
    /// Longer than was asked for.
    LongerThanAsked {
        /// What was asked.
        asked: Span,
    },
    /// No time at all.
    NoTime,
    /// More arguments than the policy lets a grant cover.
    WiderThanPolicy,
    /// The policy in force has it run with other rights than were asked for, and neither are less than the other.
    OtherRights,
}

impl fmt::Display for DecisionRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Illegal(step) => write!(f, "this request was already decided: {step}"),
            Self::Changed => f.write_str("this request changed since you opened it; look at it again"),
            Self::TooLate => {
                f.write_str("this request has lapsed: nobody decided in time; its user may ask again")
            }
            Self::OwnRequest => f.write_str(
                "nobody decides for a user tied to their own account; ask another approver to look at it",
            ),
            Self::LongerThanAsked { asked } => {
                write!(f, "{asked} was asked for; an approval may be shorter, never longer")
            }
            Self::NoTime => f.write_str("an approval needs a duration of at least one second"),
            Self::WiderThanPolicy => f.write_str("the policy lets a grant cover these exact arguments only"),
            Self::OtherRights => f.write_str(
                "the policy has it run with other rights by now than were asked for; its user has to ask again",
            ),
        }
    }
}

impl std::error::Error for DecisionRefused {}

impl RequestRecord {
    /// A request that has just arrived.
    pub fn arrived(asked: ElevationRequest, now: Timestamp) -> Self {
        Self {
            asked,
            state: RequestState::Pending,
            version: Version::FIRST,
            since: now,
            decision: None,
            lapse_reason: None,
        }
    }

    /// Agrees: the request becomes approved, and this grant results. `offer` is what the policy in force says now; the
    /// grant is capped by it.
    pub fn approve(
        self,
        by: &Decider,
        seen: Version,
        approval: Approval,
        offer: &Offer,
        id: GrantId,
        now: Timestamp,
    ) -> Result<(Self, Grant), DecisionRefused> {
        let asked = self.asked.clone();
        if approval.duration > asked.duration {
            return Err(DecisionRefused::LongerThanAsked { asked: asked.duration });
        }
        if approval.duration < Span::from_secs(1) {
            return Err(DecisionRefused::NoTime);
        }
        if approval.covers == Covers::AnyArguments && offer.terms.arguments == Covers::ExactArguments {
            return Err(DecisionRefused::WiderThanPolicy);
        }
        let bounds = bounds_of_both(&asked, offer).ok_or(DecisionRefused::OtherRights)?.clone();
        let decided =
            self.decide(by, seen, offer.terms.self_approval, RequestState::Approved, &approval.comment, now)?;
        let duration = approval.duration.min(offer.terms.durations.maximum);
        let grant = Grant {
            id,
            version: Version::FIRST,
            origin: Origin::Request { request: asked.id },
            computer: asked.computer,
            user: asked.user,
            application: GrantedApplication::of(&asked.application),
            arguments: match approval.covers {
                Covers::ExactArguments => GrantedArguments::Exact { argv: asked.argv },
                Covers::AnyArguments => GrantedArguments::Any,
            },
            runs_as: offer.terms.runs_as,
            bounds,
            // Not `now`: a computer whose clock is a moment behind would refuse what was just approved, and ask again.
            not_before: asked.made.min(now),
            ends: match offer.terms.starts {
                Starts::AtApproval => Ends::At { end: now.after(duration) },
                Starts::AtFirstLaunch { within } => {
                    Ends::AfterFirstLaunch { duration, latest_start: now.after(within) }
                }
            },
            launches: offer.terms.launches,
            at_expiry: offer.terms.at_expiry,
            confirm: offer.terms.confirm,
            nesting: offer.terms.nesting,
            policy: offer.policy,
        };
        Ok((decided, grant))
    }

    /// Does not agree.
    pub fn decline(
        self,
        by: &Decider,
        seen: Version,
        self_approval: bool,
        comment: &Text,
        now: Timestamp,
    ) -> Result<Self, DecisionRefused> {
        self.decide(by, seen, self_approval, RequestState::Declined, comment, now)
    }

    fn decide(
        self,
        by: &Decider,
        seen: Version,
        self_approval: bool,
        next: RequestState,
        comment: &Text,
        now: Timestamp,
    ) -> Result<Self, DecisionRefused> {
        if self.state != RequestState::Pending {
            return Err(DecisionRefused::Illegal(IllegalStep { from: self.state.word(), to: next.word() }));
        }
        if self.version != seen {
            return Err(DecisionRefused::Changed);
        }
        if now >= self.asked.lapses {
            return Err(DecisionRefused::TooLate);
        }
        if !self_approval && by.is_tied_to(&self.asked.user, self.asked.computer) {
            return Err(DecisionRefused::OwnRequest);
        }
        let decision = Decision { by: by.account, name: by.name.clone(), comment: comment.clone(), at: now };
        let decided = self.step(next, now).map_err(DecisionRefused::Illegal)?;
        Ok(Self { decision: Some(decision), ..decided })
    }

    /// Its user takes it back.
    pub fn cancel(self, now: Timestamp) -> Result<Self, IllegalStep> {
        self.step(RequestState::Cancelled, now)
    }

    /// Nobody decided, or nobody may any more.
    pub fn lapse(self, reason: LapseReason, now: Timestamp) -> Result<Self, IllegalStep> {
        let lapsed = self.step(RequestState::Lapsed, now)?;
        Ok(Self { lapse_reason: Some(reason), ..lapsed })
    }

    fn step(self, next: RequestState, now: Timestamp) -> Result<Self, IllegalStep> {
        if !self.state.may_become(next) {
            return Err(IllegalStep { from: self.state.word(), to: next.word() });
        }
        Ok(Self { state: next, version: self.version.next(), since: now, ..self })
    }
}

/// What both the request and the policy in force keep it to: whoever approves has seen the one, and may not exceed the other.
fn bounds_of_both<'a>(asked: &'a ElevationRequest, offer: &'a Offer) -> Option<&'a Bounds> {
    let (asked_for, offered) = (&asked.bounds, &offer.terms.bounds);
    if asked.runs_as != offer.terms.runs_as {
        return None;
    }
    if offered.is_within(asked_for) {
        return Some(offered);
    }
    asked_for.is_within(offered).then_some(asked_for)
}
