//! The action this program is for, as a story: measure, decide, ask where policy says so, record, launch.

mod asking;
mod confirming;
mod giving;
mod keeping;
mod refusals;
mod starting;

use std::os::fd::{AsFd, OwnedFd};

use elevon_policy::application::Application;
use elevon_policy::decide::{Attempt, Decision, Offer, Verdict};
use elevon_policy::event::DenyReason;
use elevon_policy::lists::{Launches, Way};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::conversation::{Refused, Run, ToClient};

use crate::caller::Visitor;
use crate::connection::{Connection, Lost};
use crate::elevator::Elevator;
use crate::holdings::NotTaken;
use crate::measure::{Measured, component, measure};
use crate::pam;

pub(crate) use refusals::{not_enrolled, of_elevon};

/// As many launches of one user as can be under way at once, each of which may take one grant from another. More would go on
/// for ever where a clock that was set right makes every new grant start in the future.
const MOST_GRANTS: u32 = 128;

/// Either it was handed on to a session, or this is the last word.
pub(crate) enum Told {
    /// The session speaks from now on. What was asked of PAM can be let go when there is time for it.
    HandedOn(pam::Asked),
    /// A component is granted; polkit asks from now on.
    Granted(ToClient),
    /// The last word.
    Last(Refused),
}

/// One attempt to run something elevated.
pub(crate) struct Attempted<'a> {
    /// The elevator.
    pub(crate) elevator: &'a Elevator,
    /// Who.
    pub(crate) visitor: &'a Visitor,
    /// What was asked.
    pub(crate) run: Run,
    /// Where.
    pub(crate) directory: OwnedFd,
    /// Standard input, output and error.
    pub(crate) standard: [OwnedFd; 3],
    /// What PAM was asked about their account already.
    pub(crate) account: Option<pam::Asked>,
}

/// What an attempt was answered so far.
enum Answered {
    /// Nothing yet.
    Not,
    /// A person approved, once.
    ByAPerson,
    /// Policy alone gave a grant, which may go to another launch of the same user: then it gives another for the same thing.
    ByPolicy { application: Box<Application>, left: u32 },
}

impl Answered {
    /// Policy gave one more.
    fn by_policy(self, application: Application) -> Self {
        let left = match self {
            Self::Not | Self::ByAPerson => MOST_GRANTS,
            Self::ByPolicy { left, .. } => left,
        };
        Self::ByPolicy { application: Box::new(application), left: left - 1 }
    }

    /// Whether this may still be asked for, or given, in this attempt.
    fn covers(&self, asked: &Application) -> bool {
        match self {
            Self::Not => true,
            Self::ByAPerson => false,
            Self::ByPolicy { application, left } => *left > 0 && **application == *asked,
        }
    }
}

impl Attempted<'_> {
    /// Sees it through.
    pub(crate) fn see_through(mut self, line: &mut Connection) -> Result<Told, Lost> {
        let mut answered = Answered::Not;
        // What the user's password was given for in this attempt.
        let mut confirmed: Option<Application> = None;
        loop {
            // Answered while the program is measured; and again after each time somebody was waited for.
            let (elevator, user) = (self.elevator, &self.visitor.caller.user);
            let mut account =
                self.account.take().unwrap_or_else(|| elevator.pam.ask(&elevator.spawner, user));
            let (measured, now, decision) = match self.decide() {
                Ok(decided) => decided,
                Err(refused) => return Ok(Told::Last(refused)),
            };
            if !matches!(decision.verdict, Verdict::Refused { .. })
                && let Err(cause) = account.answer()
            {
                return Ok(Told::Last(self.not_admitted(&measured, &cause)));
            }
            if let Verdict::Launch { offer, .. } | Verdict::Offered { offer } = &decision.verdict
                && let Some(refused) = self.otherwise_than_wanted(offer)
            {
                return Ok(Told::Last(refused));
            }
            match decision.verdict {
                Verdict::Refused { refusal } => return Ok(Told::Last(self.refuse(&measured, &refusal))),
                Verdict::Launch { end, offer, .. }
                    if matches!(answered, Answered::Not) && is_running_low(&offer, end, now) =>
                {
                    self.wait_without(account);
                    let offered = Offered::new(measured, offer, now);
                    if let Some(refused) = self.grant(line, &offered)? {
                        return Ok(Told::Last(refused));
                    }
                    answered = answered.by_policy(offered.application);
                }
                Verdict::Launch { grant, offer, .. }
                    if confirmed.as_ref() != Some(&measured.application)
                        && !self.elevator.holdings.to_confirm(grant, offer.terms.confirm).is_none() =>
                {
                    self.wait_without(account);
                    if let Some(refused) = self.confirm(line, &measured, grant, &offer)? {
                        return Ok(Told::Last(refused));
                    }
                    confirmed = Some(measured.application);
                }
                Verdict::Launch { grant, end, offer } if self.run.component => {
                    return Ok(Told::Granted(ToClient::Granted {
                        grant,
                        component: measured
                            .application
                            .component
                            .map(|component| component.action)
                            .unwrap_or_default(),
                        end,
                        once: offer.terms.launches == Launches::Once,
                    }));
                }
                Verdict::Launch { grant, offer, .. } => {
                    let origin = self.room_to_run(&measured).and_then(|()| self.origin(&measured, now));
                    let origin = match origin {
                        Ok(origin) => origin,
                        Err(refused) => return Ok(Told::Last(refused)),
                    };
                    // Before it is taken: what cannot be kept as it was granted uses nothing up.
                    let kept = match self.keep(&measured, grant) {
                        Ok(kept) => kept,
                        Err(missing) => {
                            return Ok(Told::Last(self.not_kept(&measured, offer.policy, &missing)));
                        }
                    };
                    match self.elevator.take(grant, now) {
                        Ok(taken) => {
                            let taken = match origin {
                                Some(origin) => taken.inside(origin),
                                None => taken,
                            };
                            let launched = self.launch(line, measured, &taken, kept, &offer, now);
                            return Ok(launched.map_or_else(Told::Last, |()| Told::HandedOn(account)));
                        }
                        // Another launch of the same user took it first: policy gives one to each.
                        Err(NotTaken::Gone) if answered.covers(&measured.application) => {}
                        Err(NotTaken::Gone) => return Ok(Told::Last(self.changed(&measured))),
                        Err(NotTaken::Io(error)) => return Ok(Told::Last(of_elevon(&error.to_string()))),
                    }
                }
                // What was approved is not what is there now.
                Verdict::Offered { .. } if !answered.covers(&measured.application) => {
                    return Ok(Told::Last(self.changed(&measured)));
                }
                Verdict::Offered { offer } => {
                    self.wait_without(account);
                    let offered = Offered::new(measured, offer, now);
                    let by_policy = offered.offer.way != Way::Approval;
                    let refused =
                        if by_policy { self.grant(line, &offered)? } else { self.ask(line, &offered)? };
                    if let Some(refused) = refused {
                        return Ok(Told::Last(refused));
                    }
                    answered =
                        if by_policy { answered.by_policy(offered.application) } else { Answered::ByAPerson };
                }
            }
        }
    }

    /// Whoever waits for a person holds no process of PAM's meanwhile, and others find what they need.
    fn wait_without(&self, account: pam::Asked) {
        drop(account);
        self.elevator.make_ready();
    }

    /// Measures and decides; what cannot be measured or decided is refused and recorded.
    fn decide(&self) -> Result<(Measured, Timestamp, Decision), Refused> {
        let Self { elevator, visitor, run, directory, .. } = self;
        let measured = match run.component {
            true => component::component(&run.command, &elevator.known),
            false => {
                measure(&visitor.caller, directory.as_fd(), &run.command, &run.arguments, &elevator.known)
            }
        };
        let measured = measured.map_err(|error| self.not_measured(&error))?;
        let now = elevator.clock.now().map_err(|_| {
            self.record_refusal(Some((&measured.application, &measured.argv)), DenyReason::TimeUnknown, None);
            Refused {
                status: 126,
                reason: Some(DenyReason::TimeUnknown),
                told: "nothing is elevated: the clock of this computer was set back".into(),
                next: "connect it to the server, or set the clock right".into(),
            }
        })?;
        let computer = elevator.holdings.computer().ok_or_else(not_enrolled)?;
        let user = &visitor.caller.user;
        let attempt = Attempt {
            user,
            computer,
            application: &measured.application,
            argv: &measured.argv,
            nested: visitor.origin.is_some(),
        };
        let decision =
            elevator.holdings.decide(&attempt, now).map_err(|cause| self.not_ready(&measured, cause))?;
        Ok((measured, now, decision))
    }
}

/// What policy offers for what was measured.
struct Offered {
    application: Application,
    argv: Vec<OsText>,
    offer: Offer,
    now: Timestamp,
}

/// What a user asks for, checked against the offer.
struct Asked {
    duration: Span,
    justification: Text,
}

impl Offered {
    /// Lets go of the program itself: whoever waits for a person's answer holds no copy of it meanwhile, and it is measured
    /// anew after.
    fn new(measured: Measured, offer: Offer, now: Timestamp) -> Self {
        Self { application: measured.application, argv: measured.argv, offer, now }
    }

    fn terms(&self, run: &Run, needs_justification: bool) -> Result<Asked, Refused> {
        let terms = &self.offer.terms;
        let duration = run.duration.unwrap_or(terms.durations.default);
        let wrong = |told: String| Refused { status: 125, reason: None, told, next: "try again".into() };
        if duration < Span::from_secs(1) {
            return Err(wrong(format!("{duration} was asked for, expected at least 1s")));
        }
        if duration > terms.durations.maximum {
            let (name, maximum) = (self.offer.name.visible(), terms.durations.maximum);
            return Err(wrong(format!(
                "{duration} was asked for, “{name}” lets at most {maximum} be asked for"
            )));
        }
        let justification = run.justification.clone().unwrap_or_default();
        let justification = match needs_justification {
            true => terms.justification.check(&justification).map_err(|cause| wrong(cause.to_string()))?,
            false if is_too_long(&justification, terms.justification.maximum) => {
                return Err(wrong(format!(
                    "a justification may have {} characters at most",
                    terms.justification.maximum
                )));
            }
            false => justification,
        };
        Ok(Asked { duration, justification })
    }
}

/// Also what nobody needs is kept, and sent.
fn is_too_long(justification: &Text, maximum: usize) -> bool {
    justification.as_untrusted().chars().nth(maximum).is_some()
}

/// Where policy gives grants for the asking, an application does not start under one that is about to end.
fn is_running_low(offer: &Offer, end: Timestamp, now: Timestamp) -> bool {
    offer.way == Way::Automatic && end.since(now).millis() < offer.terms.durations.default.millis() / 2
}
