//! What a user is told when nothing is elevated, and what the record says of it.

use elevon_policy::application::Application;
use elevon_policy::decide::{Offer, Refusal};
use elevon_policy::event::{DenyReason, What};
use elevon_policy::grant::PolicyReference;
use elevon_policy::id::RequestId;
use elevon_policy::text::{OsText, Text};
use elevon_wire::conversation::Refused;

use super::Attempted;
use crate::holdings::NotReady;
use crate::measure::{Measured, NotMeasured};
use crate::pam::NotAdmitted;

impl Attempted<'_> {
    pub(super) fn refuse(&self, measured: &Measured, refusal: &Refusal) -> Refused {
        let said = (refusal.to_string(), refusal.next().into());
        self.not_elevated(measured, refusal.deny_reason(), refusal.policy(), said)
    }

    /// What was measured is not elevated, which goes on record; `told` and `next` are for the user.
    pub(super) fn not_elevated(
        &self,
        measured: &Measured,
        reason: DenyReason,
        policy: Option<PolicyReference>,
        (told, next): (String, String),
    ) -> Refused {
        self.record_refusal(Some((&measured.application, &measured.argv)), reason, policy);
        let told = format!("{} is not elevated: {told}", measured.application.place().visible());
        Refused { status: 126, reason: Some(reason), told, next }
    }

    /// Whoever said as whom it is to run has nothing run as somebody else.
    pub(super) fn otherwise_than_wanted(&self, offer: &Offer) -> Option<Refused> {
        self.run.runs_as.filter(|wanted| *wanted != offer.terms.runs_as)?;
        let (name, words) = (offer.name.visible(), offer.terms.bounds.in_words(offer.terms.runs_as));
        Some(Refused {
            status: 125,
            reason: None,
            told: format!("“{name}” has it run as {words}, which is not what --as says"),
            next: "leave out --as, or ask an administrator for a list that has it so".into(),
        })
    }

    pub(super) fn changed(&self, measured: &Measured) -> Refused {
        let told = "it, or what was granted for it, changed since it was approved";
        let said = (told.into(), "start it again to ask for what is there now".into());
        self.not_elevated(measured, DenyReason::Changed, None, said)
    }

    pub(super) fn not_admitted(&self, measured: &Measured, cause: &NotAdmitted) -> Refused {
        if let NotAdmitted::Failed { cause } = cause {
            eprintln!("elevon-elevator: PAM could not be asked: {}", Text::new(cause).visible());
        }
        let said = cause.sentences(&self.visitor.caller.user.name);
        self.not_elevated(measured, cause.deny_reason(), None, said)
    }

    pub(super) fn not_measured(&self, error: &NotMeasured) -> Refused {
        let reason = error.reason();
        if let Some(reason) = reason {
            self.record_refusal(None, reason, None);
        }
        Refused { status: error.status(), reason, told: error.to_string(), next: error.next().into() }
    }

    pub(super) fn not_ready(&self, measured: &Measured, cause: NotReady) -> Refused {
        match cause {
            NotReady::NotEnrolled => no_policy(),
            NotReady::LeaseEnded => {
                self.record_refusal(
                    Some((&measured.application, &measured.argv)),
                    DenyReason::LeaseEnded,
                    None,
                );
                Refused {
                    status: 126,
                    reason: Some(DenyReason::LeaseEnded),
                    told: "nothing is elevated: policy on this computer is too old to be relied on".into(),
                    next: "connect it to the server; `elevon-agent status` says what is wrong".into(),
                }
            }
        }
    }

    /// Of what there may be only so much.
    pub(super) fn too_many(
        &self,
        application: &Application,
        argv: &[OsText],
        told: String,
        next: &str,
    ) -> Refused {
        self.record_refusal(Some((application, argv)), DenyReason::TooMany, None);
        Refused { status: 126, reason: Some(DenyReason::TooMany), told, next: next.into() }
    }

    pub(super) fn record_refusal(
        &self,
        measured: Option<(&Application, &[OsText])>,
        reason: DenyReason,
        policy: Option<PolicyReference>,
    ) {
        let (path, sha256, argv) = match measured {
            Some((application, argv)) => (application.place(), Some(application.sha256), beginnings(argv)),
            None => {
                let words = std::iter::once(&self.run.command).chain(&self.run.arguments);
                (beginning(&self.run.command), None, beginnings(words))
            }
        };
        let user = self.visitor.caller.user.clone();
        self.record_as_refused(What::LaunchRefused {
            user,
            path,
            sha256,
            argv,
            reason,
            policy,
            missing: None,
            origin: self.visitor.origin.clone(),
        });
    }

    pub(super) fn record_as_refused(&self, refused: What) {
        if let Err(error) = self.elevator.record(refused) {
            eprintln!("elevon-elevator: a refusal could not be recorded: {error}");
        }
    }
}

/// So much is recorded of what was refused, in bytes, and so many words: whoever may start nothing writes no more.
const BEGINNING: usize = 4 << 10;
const WORDS: usize = 64;

/// What was typed may be as long as a message: the record has its beginning, all words taken together.
fn beginnings<'a>(words: impl IntoIterator<Item = &'a OsText>) -> Vec<OsText> {
    let mut left = BEGINNING;
    let kept = words.into_iter().take(WORDS).map_while(|word| {
        let word = word.as_bytes();
        let kept = (left > 0).then(|| word.get(..left).unwrap_or(word))?;
        left -= kept.len();
        Some(OsText::new(kept))
    });
    kept.collect()
}

/// That of one word.
fn beginning(word: &OsText) -> OsText {
    let bytes = word.as_bytes();
    OsText::new(bytes.get(..BEGINNING).unwrap_or(bytes))
}

/// Elevon itself failed.
pub(crate) fn of_elevon(cause: &str) -> Refused {
    Refused {
        status: 125,
        reason: None,
        told: format!("nothing was elevated: {cause}"),
        next: "`elevon-elevator doctor` says what is wrong".into(),
    }
}

/// There is nobody to believe.
pub(crate) fn not_enrolled() -> Refused {
    Refused {
        status: 125,
        reason: Some(DenyReason::NotEnrolled),
        told: "this computer is not enrolled".into(),
        next: "an administrator enrolls it with `elevon-agent enroll TOKEN`".into(),
    }
}

/// Nothing to decide from has arrived.
fn no_policy() -> Refused {
    Refused {
        status: 125,
        reason: Some(DenyReason::NotEnrolled),
        told: "this computer has no policy yet".into(),
        next: "check that elevon-agent runs and reaches the server: `elevon-agent status`".into(),
    }
}

/// The time to wait is over.
pub(super) fn nobody_decided(request: RequestId) -> Refused {
    Refused {
        status: 124,
        reason: None,
        told: format!("nobody has decided yet; request {request} stays pending"),
        next: "start it again to wait on, or take it back with `elevon cancel`".into(),
    }
}

/// The time to decide is over.
pub(super) fn lapsed(request: RequestId) -> Refused {
    Refused {
        status: 124,
        reason: None,
        told: format!("nobody decided in time: request {request} lapsed"),
        next: "start it again to ask again".into(),
    }
}
