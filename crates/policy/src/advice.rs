//! What a decision means for whoever asked: which policy decided, what became of the others that had a say, and what to do next.
//! In sentences, for the terminal and for the console alike.

use serde::Serialize;

use crate::application::{Application, Lane};
use crate::decide::{Consequence, Decision, ListKind, Reason, Refusal, Verdict};
use crate::event::DenyReason;
use crate::lists::Way;
use crate::rule::{Finding, Missing, Specificity};

/// What became of something that a policy had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// It decides.
    Decides,
    /// An allowlist's rule: because of it, the application counts as allowed.
    Allows,
    /// It matches, and something else decides.
    Overruled {
        /// What.
        by: Over,
    },
    /// It does not match.
    Short,
}

/// What decides in place of a rule that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// A lock.
    Lock,
    /// A blocklist.
    Blocklist,
    /// A rule that denies.
    Deny,
    /// A narrower rule.
    Narrower,
    /// One as narrow that is stricter.
    Stricter,
    /// One that says the same.
    Alike,
}

impl Over {
    /// As the end of "it matches, but …".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Lock => "a lock beats everything",
            Self::Blocklist => "a blocklist beats everything",
            Self::Deny => "a rule that denies beats every rule that allows",
            Self::Narrower => "a narrower rule decides",
            Self::Stricter => "among rules as narrow, the stricter one decides",
            Self::Alike => {
                "another one decides that offers the same way; of such, the one that keeps it to less"
            }
        }
    }
}

impl Decision {
    /// What became of one of its reasons.
    pub fn standing(&self, reason: &Reason) -> Standing {
        if reason.finding != Finding::Matches {
            return Standing::Short;
        }
        let (decided, specificity, way) = match &self.verdict {
            Verdict::Launch { offer, .. } | Verdict::Offered { offer } => {
                (Some(offer.policy), Some(offer.specificity), Some(offer.way))
            }
            Verdict::Refused { refusal } => (refusal.policy(), self.off(refusal), Some(Way::Off)),
        };
        if decided == Some(reason.policy) {
            return Standing::Decides;
        }
        if let Verdict::Refused { refusal } = &self.verdict
            && let Some(over) = beating(refusal, reason)
        {
            return Standing::Overruled { by: over };
        }
        match reason.consequence {
            Consequence::Allow => Standing::Allows,
            _ if reason.specificity < specificity => Standing::Overruled { by: Over::Narrower },
            Consequence::Elevate { way: own } if Some(own) < way => {
                Standing::Overruled { by: Over::Stricter }
            }
            _ => Standing::Overruled { by: Over::Alike },
        }
    }

    /// How narrow the rule is by which elevation is turned off.
    fn off(&self, refusal: &Refusal) -> Option<Specificity> {
        let policy = refusal.policy()?;
        let turned_off = self.reasons.iter().find(|reason| {
            reason.policy == policy && reason.consequence == Consequence::Elevate { way: Way::Off }
        });
        turned_off.and_then(|reason| reason.specificity)
    }
}

/// What beats a rule that matches, where the refusal is one that beats everything.
fn beating(refusal: &Refusal, reason: &Reason) -> Option<Over> {
    let same = reason.consequence == Consequence::Refuse;
    match refusal.deny_reason() {
        DenyReason::Locked => Some(Over::Lock),
        DenyReason::Blocked if same && reason.list == ListKind::Blocklist => Some(Over::Alike),
        DenyReason::Blocked => Some(Over::Blocklist),
        DenyReason::Denied if same => Some(Over::Alike),
        DenyReason::Denied => Some(Over::Deny),
        _ => None,
    }
}

/// What a user can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "to_do", rename_all = "snake_case")]
pub enum ToDo {
    /// Run it: `elevon run` does the rest.
    Run,
    /// This, in a sentence, which ends in a colon where something is to be passed on.
    Told {
        /// The sentence.
        sentence: String,
        /// What an administrator needs to know it by: the SHA-256, or the component's name.
        pass_on: Option<String>,
    },
}

/// What the user can do about it.
pub fn to_do(decision: &Decision, application: &Application) -> ToDo {
    let told = |sentence: String| ToDo::Told { sentence, pass_on: None };
    match &decision.verdict {
        Verdict::Launch { .. } | Verdict::Offered { .. } => ToDo::Run,
        Verdict::Refused { refusal: Refusal::NotListed } => not_listed(decision, application),
        Verdict::Refused { refusal: Refusal::Locked { .. } } => {
            told("Nothing helps while the lock is there; ask an administrator to lift it.".into())
        }
        Verdict::Refused { refusal: Refusal::Blocked { name, .. } } => told(format!(
            "No other list can allow it; ask an administrator whether the blocklist “{}” should have it.",
            name.visible()
        )),
        Verdict::Refused { refusal: Refusal::Denied { name, .. } } => told(format!(
            "No other rule can allow it; ask an administrator whether “{}” should deny it.",
            name.visible()
        )),
        Verdict::Refused { refusal: Refusal::NotKept { name, .. } } => told(format!(
            "Ask an administrator to give it a rule of its own in “{}”, that runs as root and in full.",
            name.visible()
        )),
        Verdict::Refused { refusal: Refusal::Nested { name, .. } } => told(format!(
            "Start it from a session that is not elevated, or ask an administrator to allow nesting in “{}”.",
            name.visible()
        )),
        Verdict::Refused { refusal: Refusal::Off { name, .. } } => {
            told(format!("Ask an administrator to turn elevation on for it in “{}”.", name.visible()))
        }
    }
}

/// What an administrator would need to do depends on what nearly matched.
fn not_listed(decision: &Decision, application: &Application) -> ToDo {
    if application.component.is_some() {
        return ToDo::Told {
            sentence: "Ask an administrator to add it to a privileged application list that is deployed to you, as a component:".into(),
            pass_on: Some(application.name().visible().to_string()),
        };
    }
    let reasons = decision.reasons.iter();
    let nearly =
        reasons.filter_map(|reason| Some((reason, nearly(reason)?))).min_by_key(|(_, missing)| far(missing));
    let sentence = nearly.map_or_else(unknown, |(reason, missing)| short_of(reason, missing));
    let pass_on = sentence.ends_with(':').then(|| application.sha256.to_string());
    ToDo::Told { sentence, pass_on }
}

fn unknown() -> String {
    "Ask an administrator to add it to a privileged application list that is deployed to you, for instance by its SHA-256:".into()
}

/// What to do where this is what kept a rule from matching.
fn short_of(reason: &Reason, missing: &Missing) -> String {
    let name = reason.name.visible();
    match missing {
        Missing::TrustedPath { lane: Lane::Untrusted { component, because } } => format!(
            "A rule on folders or packages holds only where nobody but root can change anything, and {} {}. An administrator can install it elsewhere, or list it by its SHA-256:",
            component.visible(),
            because.sentence()
        ),
        Missing::TrustedPath { lane: Lane::Trusted } => unknown(),
        Missing::OtherBytes => format!(
            "“{name}” has a file of this name with other bytes, perhaps another version. If this one is right, ask an administrator to list it too, by its SHA-256:"
        ),
        Missing::Arguments => format!(
            "“{name}” has it with other arguments; run it with those, or ask an administrator to widen the rule."
        ),
        Missing::SubFolders => format!(
            "“{name}” has the folder above, without the folders below it; ask an administrator to include them."
        ),
        Missing::NotAllowed => format!(
            "“{name}” is for allowed applications. Ask an administrator to allow it on an allowlist that is deployed to you, for instance by its SHA-256:"
        ),
        Missing::Unmodified => {
            "It is not the file that its package recorded. Install the package again; if it is meant to differ, ask an administrator to list it by its SHA-256.".into()
        }
        Missing::Signature => {
            "No signature that holds is over this very file. Install it again from its publisher; if it is meant to be as it is, ask an administrator to list it by its SHA-256.".into()
        }
        Missing::Version { minimum, .. } => {
            format!("“{name}” wants version {} at least; update the package.", minimum.visible())
        }
        Missing::VerifiedVendor => format!(
            "“{name}” wants a vendor that a signature stands behind: one whose signed package index lists this very version. Update the package lists, or ask an administrator to list the file by its SHA-256:"
        ),
        Missing::Package => format!(
            "“{name}” has a program of this name, but from a package, and no package owns this file. Start the packaged one, or ask an administrator to list this one by its SHA-256:"
        ),
        Missing::OtherVendor { .. } => format!(
            "“{name}” has this product from another vendor. If this one is right, ask an administrator to list it too, for instance by its SHA-256:"
        ),
    }
}

fn nearly(reason: &Reason) -> Option<&Missing> {
    match &reason.finding {
        Finding::Nearly { missing } if reason.consequence != Consequence::Refuse => Some(missing),
        _ => None,
    }
}

/// How far a rule was from matching: what to do follows from the one that came closest.
fn far(missing: &Missing) -> u8 {
    match missing {
        Missing::TrustedPath { .. } => 0,
        Missing::Arguments => 1,
        Missing::Unmodified | Missing::Signature => 2,
        Missing::Version { .. } => 3,
        Missing::VerifiedVendor => 4,
        Missing::SubFolders => 5,
        Missing::Package => 6,
        Missing::OtherBytes => 7,
        Missing::OtherVendor { .. } => 8,
        Missing::NotAllowed => 9,
    }
}
