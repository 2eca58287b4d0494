//! Privileged application lists (what may be elevated, and how), allowlists and blocklists.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bounds::Bounds;
use crate::id::{PolicyId, Version};
use crate::rules::Rules;
use crate::text::Text;
use crate::time::Span;

/// Which applications users may elevate, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivilegedApplicationList {
    /// Its identity across versions.
    pub id: PolicyId,
    /// Goes up with each saving.
    pub version: Version,
    /// What people call it.
    pub name: Text,
    /// What it is for.
    #[serde(default)]
    pub description: Text,
    /// A disabled list says nothing, not even no.
    pub enabled: bool,
    /// Allow users to elevate applications with.
    pub elevate: Way,
    /// To which applications it applies.
    pub applies_to: AppliesTo,
    /// The rules. One that denies always counts. One that allows recognises applications where the list applies to
    /// specific ones; where it applies to all allowed ones, it only says more about one of those.
    pub rules: Rules,
    /// What a grant is worth.
    pub terms: Terms,
}

/// How users elevate an application, from the freest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// At once; recorded.
    Automatic,
    /// At once, with a justification; recorded.
    Justification,
    /// With duration and justification, then someone decides.
    Approval,
    /// Not at all.
    Off,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Automatic => "automatic",
            Self::Justification => "justification",
            Self::Approval => "approval",
            Self::Off => "off",
        })
    }
}

/// To which applications a list applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppliesTo {
    /// Those that a deployed allowlist has and no blocklist.
    AllAllowedApplications,
    /// Those that its own rules recognise.
    SpecificApplications,
}

/// What a grant is worth: for how long, from when, for what, and what its end does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// For how long.
    pub durations: Durations,
    /// From when.
    #[serde(default)]
    pub starts: Starts,
    /// How long a request waits for a decision before it lapses.
    pub pending_lifetime: Span,
    /// Which arguments a grant covers.
    #[serde(default)]
    pub arguments: Covers,
    /// What the end does to what runs.
    #[serde(default)]
    pub at_expiry: AtExpiry,
    /// How many launches a grant is good for.
    #[serde(default)]
    pub launches: Launches,
    /// With which rights the application runs.
    #[serde(default)]
    pub runs_as: RunsAs,
    /// What it is kept to.
    #[serde(default, skip_serializing_if = "Bounds::is_none")]
    pub bounds: Bounds,
    /// What a user must write.
    #[serde(default)]
    pub justification: JustificationNeeded,
    /// Whether an account may decide for a user it is tied to.
    #[serde(default)]
    pub self_approval: bool,
    /// Whether the user shows to be there. Left out where nobody has to, so that a computer which does not know it reads the
    /// list as before; with it, such a computer refuses the whole.
    #[serde(default, skip_serializing_if = "Confirm::is_none")]
    pub confirm: Confirm,
    /// Whether it may be started from inside a program that runs elevated itself. Left out where it may not, as with `confirm`.
    #[serde(default, skip_serializing_if = "Nesting::is_refused")]
    pub nesting: Nesting,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            durations: Durations::default(),
            starts: Starts::default(),
            pending_lifetime: Span::from_hours(24),
            arguments: Covers::default(),
            at_expiry: AtExpiry::default(),
            launches: Launches::default(),
            runs_as: RunsAs::default(),
            bounds: Bounds::default(),
            justification: JustificationNeeded::default(),
            self_approval: false,
            confirm: Confirm::default(),
            nesting: Nesting::default(),
        }
    }
}

/// The durations that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durations {
    /// Offered to choose from.
    pub choices: Vec<Span>,
    /// Taken when nothing is said.
    pub default: Span,
    /// Nothing longer is granted.
    pub maximum: Span,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            choices: vec![Span::from_mins(15), Span::from_mins(30), Span::from_hours(1)],
            default: Span::from_mins(30),
            maximum: Span::from_hours(1),
        }
    }
}

/// When the clock of a grant starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Starts {
    /// When it is approved.
    #[default]
    #[serde(deserialize_with = "crate::nothing_else::read")]
    AtApproval,
    /// At its first launch, which must come within this span of the approval.
    AtFirstLaunch {
        /// Counted from the approval.
        within: Span,
    },
}

/// Which arguments a grant covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// The ones asked for, and no others.
    #[default]
    ExactArguments,
    /// Any.
    AnyArguments,
}

/// What the end of a grant does to what runs under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AtExpiry {
    /// A warning, SIGTERM at the end less the grace, SIGKILL at the end.
    Terminate {
        /// How long before the end the user is warned.
        warning: Span,
        /// Between SIGTERM and SIGKILL.
        grace: Span,
    },
    /// What runs may finish; new launches are refused.
    #[serde(deserialize_with = "crate::nothing_else::read")]
    Finish,
}

impl Default for AtExpiry {
    fn default() -> Self {
        Self::Terminate { warning: Span::from_mins(1), grace: Span::from_secs(5) }
    }
}

/// How many launches a grant is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Launches {
    /// Any number, until it ends.
    #[default]
    Any,
    /// One.
    Once,
}

/// With which rights an elevated application runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunsAs {
    /// As root.
    #[default]
    Root,
    /// As the user who asked, with the capabilities that its bounds name.
    SameUser,
}

impl RunsAs {
    /// Whether it is what documents mean that say nothing of it.
    pub fn is_root(&self) -> bool {
        *self == Self::Root
    }
}

/// Whether users show that they are there, by their own password, before anything runs; from the freest to the strictest.
/// Otherwise whatever runs under their account can use what they were granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// Nobody is asked.
    #[default]
    None,
    /// Once a grant, at its first launch.
    OncePerGrant,
    /// At each launch.
    EachLaunch,
}

impl Confirm {
    /// Whether nobody is asked.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Whether a program that runs elevated itself may have others elevated, from the freest to the strictest. What it starts so is
/// its user's like any other launch, ends with it, and starts nothing in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nesting {
    /// It may, where it is known for sure under which launch it runs, and that is root's without bounds.
    Allowed,
    /// It may not.
    #[default]
    Refused,
}

impl Nesting {
    /// Whether it is what documents mean that say nothing of it.
    pub fn is_refused(&self) -> bool {
        *self == Self::Refused
    }
}

/// What a user must write to justify an elevation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JustificationNeeded {
    /// In characters, after trimming.
    pub minimum: usize,
    /// In characters.
    pub maximum: usize,
}

impl Default for JustificationNeeded {
    fn default() -> Self {
        Self { minimum: 4, maximum: 1000 }
    }
}

impl JustificationNeeded {
    /// The trimmed text, or why it does not do.
    pub fn check(&self, text: &Text) -> Result<Text, JustificationRefused> {
        let trimmed = text.as_untrusted().trim();
        let length = trimmed.chars().count();
        if length < self.minimum {
            return Err(JustificationRefused::TooShort { minimum: self.minimum });
        }
        if length > self.maximum {
            return Err(JustificationRefused::TooLong { maximum: self.maximum });
        }
        Ok(Text::new(trimmed))
    }
}

/// Why a justification does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JustificationRefused {
    /// Fewer characters than the policy wants.
    TooShort {
        /// At least this many.
        minimum: usize,
    },
    /// More characters than the policy takes.
    TooLong {
        /// At most this many.
        maximum: usize,
    },
}

impl fmt::Display for JustificationRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { minimum } => {
                write!(f, "the policy wants a justification of at least {minimum} characters")
            }
            Self::TooLong { maximum } => {
                write!(f, "the policy takes a justification of at most {maximum} characters")
            }
        }
    }
}

/// An allowlist or a blocklist: rules by which applications count as allowed, or as blocked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationList {
    /// Its identity across versions.
    pub id: PolicyId,
    /// Goes up with each saving.
    pub version: Version,
    /// What people call it.
    pub name: Text,
    /// What it is for.
    #[serde(default)]
    pub description: Text,
    /// A disabled list says nothing.
    pub enabled: bool,
    /// The rules.
    pub rules: Rules,
}
