//! The action this program is for, as a story: measure, decide, ask where policy says so, record, launch.

use std::os::fd::{AsFd, OwnedFd};

use elevon_policy::decide::{Attempt, Decision, Offer, Refusal, Verdict};
use elevon_policy::event::{DenyReason, EndReason, What};
use elevon_policy::grant::{Ends, Grant, GrantedApplication, GrantedArguments, Origin};
use elevon_policy::id::{GrantId, LaunchId, RequestId, Version};
use elevon_policy::lists::{AtExpiry, Covers, Way};
use elevon_policy::request::ElevationRequest;
use elevon_policy::sheet::AnswerOutcome;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::conversation::{Asking, FromClient, Refused, Run, ToClient, Wait};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::caller::Visitor;
use crate::chance;
use crate::connection::{Connection, Lost};
use crate::elevator::Elevator;
use crate::holdings::{NotReady, NotTaken, Taken};
use crate::launch::{Descriptors, Order, Plan, ProgramKind, containment, environment};
use crate::launches::{Launch, Process};
use crate::measure::{Measured, NotMeasured, Program, ScriptSource, measure};

/// More than a person would have waiting at once.
const MOST_PENDING: usize = 20;

/// Either it was handed on to a session, or this is the last word.
pub(crate) enum Told {
    /// The session speaks from now on.
    HandedOn,
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
}

impl Attempted<'_> {
    /// Sees it through.
    pub(crate) fn see_through(mut self, line: &mut Connection) -> Result<Told, Lost> {
        let mut approved = false;
        loop {
            let (measured, now, decision) = match self.decide() {
                Ok(decided) => decided,
                Err(refused) => return Ok(Told::Last(refused)),
            };
            match decision.verdict {
                Verdict::Refused { refusal } => return Ok(Told::Last(self.refuse(&measured, &refusal))),
                Verdict::Launch { end, offer, .. } if !approved && is_running_low(&offer, end, now) => {
                    if let Some(refused) = self.grant(line, &Offered { measured, offer, now })? {
                        return Ok(Told::Last(refused));
                    }
                    approved = true;
                }
                Verdict::Launch { grant, offer, .. } => match self.elevator.holdings.take(grant, now) {
                    Ok(taken) => return Ok(self.launch(line, measured, &taken, &offer, now)),
                    Err(NotTaken::Gone) if !approved => {}
                    Err(NotTaken::Gone) => return Ok(Told::Last(self.changed(&measured))),
                    Err(NotTaken::Io(error)) => return Ok(Told::Last(of_elevon(&error.to_string()))),
                },
                // What was approved is not what is there now.
                Verdict::Offered { .. } if approved => return Ok(Told::Last(self.changed(&measured))),
                Verdict::Offered { offer } => {
                    let offered = Offered { measured, offer, now };
                    let given = match offered.offer.way {
                        Way::Approval => self.ask(line, &offered)?,
                        _ => self.grant(line, &offered)?,
                    };
                    if let Some(refused) = given {
                        return Ok(Told::Last(refused));
                    }
                    approved = true;
                }
            }
        }
    }

    /// Measures and decides; what cannot be measured or decided is refused and recorded.
    fn decide(&self) -> Result<(Measured, Timestamp, Decision), Refused> {
        let Self { elevator, visitor, run, directory, .. } = self;
        let measured = measure(&visitor.caller, directory.as_fd(), &run.command, &run.arguments, &elevator.hashes)
            .map_err(|error| self.not_measured(&error))?;
        let now = elevator.clock.now().map_err(|_| {
            self.record_refusal(Some(&measured), DenyReason::TimeUnknown, None);
            Refused {
                status: 126,
                reason: Some(DenyReason::TimeUnknown),
                told: "nothing is elevated: the clock of this computer was set back".into(),
                next: "connect it to the server, or set the clock right".into(),
            }
        })?;
        let computer = elevator.holdings.computer().ok_or_else(not_enrolled)?;
        let user = &visitor.caller.user;
        let attempt =
            Attempt { user, computer, application: &measured.application, argv: &measured.argv };
        let decision = elevator.holdings.decide(&attempt, now).map_err(|cause| self.not_ready(&measured, cause))?;
        Ok((measured, now, decision))
    }

    // ---- without anyone's agreement ----

    /// Makes the grant that policy alone gives.
    fn grant(&mut self, line: &mut Connection, offered: &Offered) -> Result<Option<Refused>, Lost> {
        let needs_justification = offered.offer.way == Way::Justification;
        if needs_justification && self.run.justification.is_none() {
            self.ask_person(line, offered)?;
        }
        let asked = match offered.terms(&self.run, needs_justification) {
            Ok(asked) => asked,
            Err(refused) => return Ok(Some(refused)),
        };
        let grant = self.local_grant(offered, asked.duration);
        Ok(self.keep_grant(grant, asked.justification).err())
    }

    fn local_grant(&self, Offered { measured, offer, now }: &Offered, duration: Span) -> Option<Grant> {
        let application = &measured.application;
        Some(Grant {
            id: GrantId::new(*now, chance::ten_bytes()),
            version: Version::FIRST,
            origin: Origin::Policy,
            computer: self.elevator.holdings.computer()?,
            user: self.visitor.caller.user.clone(),
            application: GrantedApplication::Bytes {
                sha256: application.sha256,
                path: application.path.clone(),
                interpreter: application.interpreter.as_ref().map(|interpreter| interpreter.sha256),
            },
            arguments: match offer.terms.arguments {
                Covers::ExactArguments => GrantedArguments::Exact { argv: measured.argv.clone() },
                Covers::AnyArguments => GrantedArguments::Any,
            },
            runs_as: offer.terms.runs_as,
            not_before: *now,
            ends: Ends::At { end: now.after(duration) },
            launches: offer.terms.launches,
            at_expiry: offer.terms.at_expiry,
            policy: offer.policy,
        })
    }

    fn keep_grant(&self, grant: Option<Grant>, justification: Text) -> Result<(), Refused> {
        let grant = grant.ok_or_else(not_enrolled)?;
        let holdings = &self.elevator.holdings;
        let recorded = self.elevator.record(What::GrantMade { grant: Box::new(grant.clone()), justification: justification.clone() });
        recorded.map_err(|error| of_elevon(&error.to_string()))?;
        if !justification.as_untrusted().is_empty() {
            let kept = holdings.add_justification(grant.user.uid, &justification);
            kept.map_err(|error| of_elevon(&error.to_string()))?;
        }
        holdings.add_grant(grant).map_err(|error| of_elevon(&error.to_string()))
    }

    // ---- with someone's agreement ----

    /// Makes the request, or joins the one that is pending, and waits for the decision. Nothing when it was approved.
    fn ask(&mut self, line: &mut Connection, offered: &Offered) -> Result<Option<Refused>, Lost> {
        let mut request = match self.request(offered, Span::ZERO, Text::default()) {
            Ok(request) => request,
            Err(refused) => return Ok(Some(refused)),
        };
        let any_arguments = offered.offer.terms.arguments == Covers::AnyArguments;
        let pending = self.elevator.holdings.pending_like(&request, any_arguments, offered.now);
        let joined = pending.is_some();
        if let Some(pending) = pending {
            request = pending;
        } else {
            if self.run.duration.is_none() || self.run.justification.is_none() {
                self.ask_person(line, offered)?;
            }
            match offered.terms(&self.run, true).and_then(|asked| self.make_request(offered, asked)) {
                Ok(made) => request = made,
                Err(refused) => return Ok(Some(refused)),
            }
        }
        let place = self.elevator.waiting.join()?;
        line.send(&ToClient::Pending {
            request: request.id,
            joined,
            lapses: request.lapses,
            policy: offered.offer.name.clone(),
            connected: self.elevator.agents.load(std::sync::atomic::Ordering::Relaxed) > 0,
        })?;
        let until = match self.run.wait {
            Wait::No => return Ok(Some(nobody_decided(request.id))),
            Wait::UntilDecided => request.lapses,
            Wait::AtMost { span } => request.lapses.min(offered.now.after(span)),
        };
        let outcome = self.wait_for_answer(line, &place, request.id, until)?;
        Ok(self.answered(&offered.measured, request.id, outcome))
    }

    fn make_request(&self, offered: &Offered, asked: Asked) -> Result<ElevationRequest, Refused> {
        let holdings = &self.elevator.holdings;
        let uid = self.visitor.caller.user.uid;
        if holdings.pending_of(uid, offered.now) >= MOST_PENDING {
            self.record_refusal(Some(&offered.measured), DenyReason::TooMany, None);
            return Err(Refused {
                status: 126,
                reason: Some(DenyReason::TooMany),
                told: format!("{MOST_PENDING} of your requests are pending already"),
                next: "wait for a decision, or take one back with `elevon cancel REQUEST`".into(),
            });
        }
        let request = self.request(offered, asked.duration, asked.justification)?;
        // Known here before it is told: whoever hears of it can find it.
        holdings.add_request(request.clone()).map_err(|error| of_elevon(&error.to_string()))?;
        let recorded = self.elevator.record(What::RequestMade { request: Box::new(request.clone()) });
        if let Err(error) = recorded {
            // What was not recorded was not asked; the failure to record is what the user hears of.
            let _ = holdings.cancel(request.id, uid, offered.now);
            return Err(of_elevon(&error.to_string()));
        }
        Ok(request)
    }

    fn request(&self, offered: &Offered, duration: Span, justification: Text) -> Result<ElevationRequest, Refused> {
        let Offered { measured, offer, now } = offered;
        let directory = rustix::fs::readlinkat(
            rustix::fs::CWD,
            format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.directory)),
            Vec::new(),
        );
        Ok(ElevationRequest {
            id: RequestId::new(*now, chance::ten_bytes()),
            computer: self.elevator.holdings.computer().ok_or_else(not_enrolled)?,
            user: self.visitor.caller.user.clone(),
            application: measured.application.clone(),
            argv: measured.argv.clone(),
            working_directory: OsText::new(directory.map(std::ffi::CString::into_bytes).unwrap_or_default()),
            runs_as: offer.terms.runs_as,
            duration,
            justification,
            policy: offer.policy,
            made: *now,
            lapses: now.after(offer.terms.pending_lifetime),
        })
    }

    /// Asks the client for what is missing.
    fn ask_person(&mut self, line: &mut Connection, offered: &Offered) -> Result<(), Lost> {
        let Offered { measured, offer, .. } = offered;
        line.send(&ToClient::Asking(Box::new(Asking {
            application: measured.application.clone(),
            argv: measured.argv.clone(),
            policy: offer.name.clone(),
            approval: offer.way == Way::Approval,
            durations: offer.terms.durations.clone(),
            justification: offer.terms.justification.clone(),
            recent: self.elevator.holdings.justifications(self.visitor.caller.user.uid),
        })))?;
        loop {
            if let FromClient::Answer { duration, justification } = line.receive()? {
                self.run.duration = Some(duration);
                self.run.justification = Some(justification);
                return Ok(());
            }
        }
    }

    /// Waits until there is an answer, or the time is up; a client that goes away ends the waiting.
    fn wait_for_answer(
        &self,
        line: &mut Connection,
        place: &crate::waiting::Place<'_>,
        request: RequestId,
        until: Timestamp,
    ) -> Result<Option<AnswerOutcome>, Lost> {
        loop {
            if let Some(outcome) = self.elevator.holdings.answer(request) {
                return Ok(Some(outcome));
            }
            let left = until.since(self.elevator.clock.for_the_record());
            if left == Span::ZERO {
                return Ok(None);
            }
            let mut ready = [
                PollFd::from_borrowed_fd(line.socket(), PollFlags::IN),
                PollFd::from_borrowed_fd(place.descriptor(), PollFlags::IN),
            ];
            let timeout = Timespec::try_from(left.min(Span::from_hours(1)).std()).ok();
            match poll(&mut ready, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                polled => drop(polled?),
            }
            let [spoke, news] = ready.map(|fd| !fd.revents().is_empty());
            if spoke {
                // Nothing is expected but that it goes away; what it says meanwhile (a resize) is for the session.
                while line.frame_at_hand()?.is_some() {}
            }
            if news {
                place.clear();
            }
        }
    }

    fn answered(&self, measured: &Measured, request: RequestId, outcome: Option<AnswerOutcome>) -> Option<Refused> {
        let told = match outcome {
            Some(AnswerOutcome::Approved { .. }) => return None,
            None => return Some(nobody_decided(request)),
            Some(AnswerOutcome::Declined { by, comment }) => {
                self.record_refusal(Some(measured), DenyReason::Declined, None);
                let comment = match comment.as_untrusted().trim() {
                    "" => String::new(),
                    _ => format!(": “{}”", comment.visible()),
                };
                let told = format!("{} declined {}{comment}", by.visible(), measured.application.path.visible());
                let next = format!("ask {}, or ask again with another justification", by.visible());
                return Some(Refused { status: 126, reason: Some(DenyReason::Declined), told, next });
            }
            Some(AnswerOutcome::Lapsed { reason }) => match reason {
                elevon_policy::request::LapseReason::Unanswered => return Some(lapsed(request)),
                elevon_policy::request::LapseReason::PolicyWithdrawn => {
                    "the request lapsed: policy does not let you ask for this any more".to_owned()
                }
            },
            Some(AnswerOutcome::Cancelled) => format!("request {request} was cancelled"),
        };
        let next = "`elevon explain` shows what policy says now".into();
        Some(Refused { status: 126, reason: None, told, next })
    }

    // ---- the launch ----

    fn launch(&self, line: &Connection, measured: Measured, taken: &Taken, offer: &Offer, now: Timestamp) -> Told {
        match self.start(line, measured, taken, offer, now) {
            Ok(()) => Told::HandedOn,
            Err(cause) => Told::Last(of_elevon(&cause)),
        }
    }

    /// Records the launch, then makes its session, which takes over the conversation.
    fn start(
        &self,
        line: &Connection,
        measured: Measured,
        taken: &Taken,
        offer: &Offer,
        now: Timestamp,
    ) -> Result<(), String> {
        let elevator = self.elevator;
        let id = LaunchId::new(now, chance::ten_bytes());
        let deadline = elevator.clock.uptime_at(taken.end).map_err(|_| "what time it is cannot be relied on")?;
        let cgroup = containment::make_cgroup(id).map_err(|error| format!("could not make a cgroup: {error}"))?;
        let mut launch = Launch {
            launch: id,
            grant: taken.grant.id,
            user: self.visitor.caller.user.clone(),
            application: measured.application,
            argv: measured.argv,
            started: now,
            end: taken.end,
            deadline: (taken.grant.at_expiry != AtExpiry::Finish).then_some(deadline),
            boot: elevator.clock.boot().to_owned(),
            cgroup,
            session: None,
        };
        let started = || -> Result<_, String> {
            elevator.launches.announce(&launch).map_err(|error| error.to_string())?;
            if taken.started {
                let started = What::GrantStarted { grant: taken.grant.id, end: taken.end };
                elevator.record(started).map_err(|error| error.to_string())?;
            }
            elevator.record(launch_started(&launch, offer)).map_err(|error| error.to_string())
        };
        if let Err(cause) = started() {
            elevator.launches.forget(&launch);
            return Err(cause);
        }
        let (plan, descriptors) = self.plan(line, &launch, taken, deadline, measured.program)?;
        match elevator.spawner.spawn(&plan, &descriptors) {
            Ok(spawned) => {
                launch.session = Process::of(spawned.pid);
                let watched = elevator.launches.watch_over(launch.clone(), spawned.process);
                watched.map_err(|error| format!("could not put the launch on file: {error}"))?;
                self.look_again(&launch, now);
                Ok(())
            }
            Err(error) => {
                let (reason, user) = (EndReason::Failed, launch.user.clone());
                let ended = What::LaunchEnded { launch: id, grant: launch.grant, user, reason, exit: None };
                elevator.record(ended).map_err(|error| error.to_string())?;
                elevator.launches.forget(&launch);
                Err(format!("could not make a session: {error}"))
            }
        }
    }

    fn plan(
        &self,
        line: &Connection,
        launch: &Launch,
        taken: &Taken,
        deadline: crate::clock::Uptime,
        program: Program,
    ) -> Result<(Plan, Descriptors), String> {
        let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|error| error.to_string());
        let (kind, program, script) = match program {
            Program::Binary { file } => (ProgramKind::Binary, file, None),
            Program::Script { interpreter, interpreter_name, argument, script } => {
                let (path, sealed) = match script {
                    ScriptSource::Path(path) => (Some(path), None),
                    ScriptSource::Sealed(file) => (None, Some(file)),
                };
                (ProgramKind::Script { interpreter: interpreter_name, argument, path }, interpreter, sealed)
            }
        };
        let [input, output, error] = self.standard.each_ref().map(|fd| copy(fd.as_fd()));
        let descriptors = Descriptors {
            client: copy(line.socket())?,
            directory: copy(self.directory.as_fd())?,
            standard: [input?, output?, error?],
            program,
            script,
        };
        let plan = Plan {
            launch: launch.launch,
            grant: launch.grant,
            user: launch.user.clone(),
            client: self.visitor.speaker.pid,
            program: kind,
            argv: launch.argv.clone(),
            environment: environment::checked(&self.run.environment),
            window: self.run.window,
            umask: self.run.umask | 0o022,
            end: launch.end,
            deadline,
            at_expiry: taken.grant.at_expiry,
            folder: self.elevator.launches.folder().to_owned(),
            cgroup: launch.cgroup.clone(),
        };
        Ok((plan, descriptors))
    }

    /// A revocation or a lock that came between the decision and now found nothing to end: it is made up for here.
    fn look_again(&self, launch: &Launch, now: Timestamp) {
        let order = |reason| Order { reason, grace: Span::ZERO };
        if !self.elevator.holdings.in_force(launch.grant) {
            let ended = self.elevator.holdings.is_given_back(launch.grant);
            let reason = if ended { EndReason::Ended } else { EndReason::Revoked };
            self.elevator.launches.end_grant(launch.grant, order(reason));
        } else if self.elevator.is_forbidden(launch, now) {
            self.elevator.launches.end_grant(launch.grant, order(EndReason::Locked));
        }
    }

    // ---- refusals ----

    fn refuse(&self, measured: &Measured, refusal: &Refusal) -> Refused {
        self.record_refusal(Some(measured), refusal.deny_reason(), refusal.policy());
        Refused {
            status: 126,
            reason: Some(refusal.deny_reason()),
            told: format!("{} is not elevated: {refusal}", measured.application.path.visible()),
            next: refusal.next().into(),
        }
    }

    fn changed(&self, measured: &Measured) -> Refused {
        self.record_refusal(Some(measured), DenyReason::Changed, None);
        Refused {
            status: 126,
            reason: Some(DenyReason::Changed),
            told: format!(
                "{} is not elevated: it, or what was granted for it, changed since it was approved",
                measured.application.path.visible()
            ),
            next: "start it again to ask for what is there now".into(),
        }
    }

    fn not_measured(&self, error: &NotMeasured) -> Refused {
        let reason = error.reason();
        if let Some(reason) = reason {
            self.record_refusal(None, reason, None);
        }
        Refused { status: error.status(), reason, told: error.to_string(), next: error.next().into() }
    }

    fn not_ready(&self, measured: &Measured, cause: NotReady) -> Refused {
        match cause {
            NotReady::NotEnrolled => no_policy(),
            NotReady::LeaseEnded { .. } => {
                self.record_refusal(Some(measured), DenyReason::LeaseEnded, None);
                Refused {
                    status: 126,
                    reason: Some(DenyReason::LeaseEnded),
                    told: "nothing is elevated: policy on this computer is too old to be relied on".into(),
                    next: "connect it to the server; `elevon-agent status` says what is wrong".into(),
                }
            }
        }
    }

    fn record_refusal(
        &self,
        measured: Option<&Measured>,
        reason: DenyReason,
        policy: Option<elevon_policy::grant::PolicyReference>,
    ) {
        let typed = || std::iter::once(self.run.command.clone()).chain(self.run.arguments.iter().cloned());
        let refused = What::LaunchRefused {
            user: self.visitor.caller.user.clone(),
            path: measured.map_or_else(|| self.run.command.clone(), |measured| measured.application.path.clone()),
            sha256: measured.map(|measured| measured.application.sha256),
            argv: measured.map_or_else(|| typed().collect(), |measured| measured.argv.clone()),
            reason,
            policy,
        };
        if let Err(error) = self.elevator.record(refused) {
            eprintln!("elevon-elevator: a refusal could not be recorded: {error}");
        }
    }
}

/// What policy offers for what was measured.
struct Offered {
    measured: Measured,
    offer: Offer,
    now: Timestamp,
}

/// What a user asks for, checked against the offer.
struct Asked {
    duration: Span,
    justification: Text,
}

impl Offered {
    fn terms(&self, run: &Run, needs_justification: bool) -> Result<Asked, Refused> {
        let terms = &self.offer.terms;
        let duration = run.duration.unwrap_or(terms.durations.default);
        let wrong = |told: String| Refused { status: 125, reason: None, told, next: "try again".into() };
        if duration < Span::from_secs(1) {
            return Err(wrong(format!("{duration} was asked for, expected at least 1s")));
        }
        if duration > terms.durations.maximum {
            let (name, maximum) = (self.offer.name.visible(), terms.durations.maximum);
            return Err(wrong(format!("{duration} was asked for, “{name}” lets at most {maximum} be asked for")));
        }
        let justification = run.justification.clone().unwrap_or_default();
        let justification = match needs_justification {
            true => terms.justification.check(&justification).map_err(|cause| wrong(cause.to_string()))?,
            false => justification,
        };
        Ok(Asked { duration, justification })
    }
}

/// Where policy gives grants for the asking, an application does not start under one that is about to end.
fn is_running_low(offer: &Offer, end: Timestamp, now: Timestamp) -> bool {
    offer.way == Way::Automatic && end.since(now).millis() < offer.terms.durations.default.millis() / 2
}

fn launch_started(launch: &Launch, offer: &Offer) -> What {
    What::LaunchStarted {
        launch: launch.launch,
        grant: launch.grant,
        user: launch.user.clone(),
        path: launch.application.path.clone(),
        sha256: launch.application.sha256,
        argv: launch.argv.clone(),
        policy: offer.policy,
        end: launch.end,
        layers: containment::layers(),
    }
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

fn not_enrolled() -> Refused {
    Refused {
        status: 125,
        reason: Some(DenyReason::NotEnrolled),
        told: "this computer is not enrolled".into(),
        next: "an administrator enrolls it with `elevon-agent enroll TOKEN`".into(),
    }
}

fn no_policy() -> Refused {
    Refused {
        status: 125,
        reason: Some(DenyReason::NotEnrolled),
        told: "this computer has no policy yet".into(),
        next: "check that elevon-agent runs and reaches the server: `elevon-agent status`".into(),
    }
}

fn nobody_decided(request: RequestId) -> Refused {
    Refused {
        status: 124,
        reason: None,
        told: format!("nobody has decided yet; request {request} stays pending"),
        next: "start it again to wait on, or take it back with `elevon cancel`".into(),
    }
}

fn lapsed(request: RequestId) -> Refused {
    Refused {
        status: 124,
        reason: None,
        told: format!("nobody decided in time: request {request} lapsed"),
        next: "start it again to ask again".into(),
    }
}
