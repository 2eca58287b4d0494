//! From a grant to a session: the launch on record and on file, then the session, which takes over the conversation.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use elevon_policy::bounds::Display;
use elevon_policy::decide::Offer;
use elevon_policy::event::{DenyReason, EndReason, What};
use elevon_policy::id::LaunchId;
use elevon_policy::lists::AtExpiry;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::conversation::{Refused, ToClient};

use super::Attempted;
use super::keeping::Kept;
use super::refusals::of_elevon;
use crate::chance;
use crate::clock::Uptime;
use crate::connection::Connection;
use crate::elevator::Elevator;
use crate::holdings::Taken;
use crate::launch::display::Shown;
use crate::launch::gate::{self, Gate};
use crate::launch::limits::{self, Limited};
use crate::launch::{Descriptors, Given, Order, Plan, ProgramKind, containment, environment};
use crate::launches::{Ended, Groups, Launch};
use crate::measure::{Caller, Measured, Program, ScriptSource};
use crate::spawner::Ready;

/// More than a person has running at once; each is a few processes of root's.
const MOST_LAUNCHES: usize = 256;

impl Attempted<'_> {
    pub(super) fn launch(
        &self,
        line: &Connection,
        measured: Measured,
        taken: &Taken,
        kept: Kept,
        offer: &Offer,
        now: Timestamp,
    ) -> Result<(), Refused> {
        if !kept.is_of(&taken.grant) {
            return Err(self.changed(&measured));
        }
        self.start(line, measured, taken, kept, offer, now).map_err(|cause| of_elevon(&cause))
    }

    /// Whether a user may have one more program running.
    pub(super) fn room_to_run(&self, measured: &Measured) -> Result<(), Refused> {
        let running = self.elevator.launches.count_of(self.visitor.caller.user.uid);
        (running < MOST_LAUNCHES).then_some(()).ok_or_else(|| {
            self.too_many(
                &measured.application,
                &measured.argv,
                format!("{MOST_LAUNCHES} programs of yours run elevated already"),
                "wait until some of them have ended",
            )
        })
    }

    /// The launch that a nested one would be part of, as long as it may have others; nothing for any other. Its end may have come
    /// since it asked.
    pub(super) fn origin(&self, measured: &Measured, now: Timestamp) -> Result<Option<Launch>, Refused> {
        let Some(origin) = &self.visitor.origin else {
            return Ok(None);
        };
        let standing = self.elevator.launches.standing(origin.launch).filter(|launch| launch.end > now);
        standing.map(Some).ok_or_else(|| {
            let told = "the elevated program that asks is over, or is being ended";
            let said = (told.into(), "start it from a session that is not elevated".into());
            self.not_elevated(measured, DenyReason::Nested, None, said)
        })
    }

    /// Only root's without bounds may have others, and only outside another: nothing gets further from its origin than one step,
    /// and nobody out of what keeps them.
    fn nests(&self, origin: Option<&Launch>, kept: &Kept) -> Option<Groups> {
        let Caller { gid, groups, .. } = &self.visitor.caller;
        let may = origin.is_none() && kept.identity.runs_as.is_root() && kept.bounds.is_none();
        may.then(|| Groups { gid: *gid, groups: groups.clone() })
    }

    /// Takes the session that is ready, which takes over the conversation, and lets the program start once that is on record.
    fn start(
        &self,
        line: &Connection,
        measured: Measured,
        taken: &Taken,
        kept: Kept,
        offer: &Offer,
        now: Timestamp,
    ) -> Result<(), String> {
        let elevator = self.elevator;
        let id = LaunchId::new(now, chance::ten_bytes());
        let deadline =
            elevator.clock.uptime_at(taken.end).map_err(|_| "what time it is cannot be relied on")?;
        let origin = taken.origin.as_deref();
        let deadline = origin.and_then(|origin| origin.deadline).map_or(deadline, |end| end.min(deadline));
        let ready =
            elevator.spawner.session().map_err(|error| format!("could not make a session: {error}"))?;
        let Limited { cgroup, beside } = limits::make(kept.bounds.limits)
            .map_err(|error| format!("could not make the cgroups that limit it: {error}"))?;
        let launch = Launch {
            launch: id,
            grant: taken.grant.id,
            user: self.visitor.caller.user.clone(),
            application: measured.application,
            argv: measured.argv,
            started: now,
            end: taken.end,
            deadline: (taken.grant.at_expiry != AtExpiry::Finish).then_some(deadline),
            boot: elevator.clock.boot().to_owned(),
            cgroup: cgroup.or_else(|| ready.cgroup.clone()),
            limits: beside,
            session: ready.process,
            origin: origin.map(Launch::as_origin),
            nests: self.nests(origin, &kept),
        };
        let (plan, descriptors, gate) = self
            .plan(line, &launch, taken, kept, deadline, measured.program)
            .inspect_err(|_| elevator.launches.forget(&launch))?;
        let session = self
            .record_start(&launch, &plan, descriptors, ready, offer)
            .inspect_err(|_| elevator.launches.forget(&launch))?;
        self.let_start(&launch, session, gate, now)
    }

    /// Hands it over to its session, which makes it ready while it goes on file and on record; gives the session's process.
    fn record_start(
        &self,
        launch: &Launch,
        plan: &Plan,
        descriptors: Descriptors,
        ready: Ready,
        offer: &Offer,
    ) -> Result<OwnedFd, String> {
        let session =
            ready.begin(plan, &descriptors).map_err(|error| format!("its session is gone: {error}"))?;
        // Whatever is held of it here is seen as held by those who wait for its end. What a user gave may take its time to close,
        // so nobody else waits for that.
        drop(descriptors);
        let announce = || self.elevator.launches.announce(launch).map_err(|error| error.to_string());
        self.elevator.record_beside(launch_started(launch, plan, offer), announce)?;
        Ok(session)
    }

    /// Lets it start, if it still may. From here on its end is told of by whoever takes it out of what is known to run.
    fn let_start(&self, launch: &Launch, session: OwnedFd, gate: Gate, now: Timestamp) -> Result<(), String> {
        let Elevator { launches, waiting, .. } = self.elevator;
        if let Err(error) = launches.watch_over(launch.clone(), session) {
            // Let go of, it is called off.
            drop(gate);
            self.tell_of_no_start(launch)?;
            return Err(format!("its session cannot be watched: {error}"));
        }
        self.look_again(launch, now);
        let opened = match launches.standing(launch.launch) {
            Some(_) => gate.open().map_err(|error| format!("its session is gone: {error}")),
            None => {
                Err("it was ended before it began: its session is gone, or its right was taken back".into())
            }
        };
        waiting.wake();
        opened
    }

    fn tell_of_no_start(&self, launch: &Launch) -> Result<(), String> {
        let Some(session) = self.elevator.launches.take_back(launch.launch) else {
            return Ok(());
        };
        // What it leaves on file goes with the rest; what it leaves later, with the next start.
        let _ = containment::ends_within(session.as_fd(), Span::from_secs(1));
        let ended = Ended { launch: launch.clone(), reason: EndReason::Failed, exit: None };
        Ok(self.elevator.conclude(&ended)?)
    }

    fn plan(
        &self,
        line: &Connection,
        launch: &Launch,
        taken: &Taken,
        kept: Kept,
        deadline: Uptime,
        program: Program,
    ) -> Result<(Plan, Descriptors, Gate), String> {
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|error| error.to_string());
        let (kind, program, script) = match program {
            Program::Binary { file } => (ProgramKind::Binary, file, None),
            Program::Nothing => return Err("a component is nothing that starts".into()),
            Program::Script { interpreter, interpreter_name, argument, script } => {
                let (path, sealed) = match script {
                    ScriptSource::Path(path) => (Some(path), None),
                    ScriptSource::Sealed(file) => (None, Some(file)),
                };
                (ProgramKind::Script { interpreter: interpreter_name, argument, path }, interpreter, sealed)
            }
        };
        let (gate, waits) = gate::make().map_err(|error| error.to_string())?;
        let [input, output, error] = self.standard.each_ref().map(|fd| copy(fd.as_fd()));
        let given = Given {
            directory: copy(self.directory.as_fd())?,
            standard: [input?, output?, error?],
            program,
            gate: waits,
            script,
        };
        let descriptors = Descriptors { client: copy(line.socket())?, given };
        let display = self.elevator.launches.display(launch.launch);
        let mut environment = environment::checked(&self.run.environment);
        environment.extend(self.display(line, &kept, &display)?);
        let plan = Plan {
            launch: launch.launch,
            grant: launch.grant,
            user: launch.user.clone(),
            client: self.visitor.speaker,
            program: kind,
            argv: launch.argv.clone(),
            environment,
            display,
            window: self.run.window,
            umask: self.run.umask | 0o022,
            end: launch.end,
            deadline,
            at_expiry: taken.grant.at_expiry,
            folder: self.elevator.launches.folder().to_owned(),
            cgroup: launch.cgroup.clone(),
            limits: launch.limits.clone(),
            identity: kept.identity,
            account: kept.account,
            bounds: kept.bounds,
            inside: kept.inside,
            login: self.visitor.login,
        };
        Ok((plan, descriptors, gate))
    }

    /// The variables that lead to the user's display, where the grant has it; tells what was left out. A client that does not
    /// hear it any more starts nothing either.
    fn display(
        &self,
        line: &Connection,
        kept: &Kept,
        folder: &Path,
    ) -> Result<Vec<(String, OsText)>, String> {
        if kept.bounds.display == Display::None {
            return Ok(Vec::new());
        }
        let shown = Shown::of_the_user(&self.run, self.visitor.caller.user.uid, &self.elevator.known);
        for because in &shown.left_out {
            line.send(&ToClient::Notice { text: Text::new(*because) }).map_err(|lost| lost.to_string())?;
        }
        shown
            .provide(folder, &kept.identity)
            .map_err(|error| format!("could not make {} for its display: {error}", folder.display()))
    }

    /// A revocation, a lock or an end of the origin that came between the decision and now found nothing to end: it is made up
    /// for here, before anything starts.
    fn look_again(&self, launch: &Launch, now: Timestamp) {
        let Elevator { launches, holdings, .. } = self.elevator;
        let origin = launch.origin.as_ref();
        let reason = if !holdings.in_force(launch.grant) {
            let ended = holdings.is_given_back(launch.grant);
            if ended { EndReason::Ended } else { EndReason::Revoked }
        } else if self.elevator.is_forbidden(launch, now) {
            EndReason::Locked
        } else if origin.is_some_and(|origin| launches.standing(origin.launch).is_none()) {
            EndReason::OriginEnded
        } else {
            return;
        };
        launches.end(Order { reason, grace: Span::ZERO }, |known| known.launch == launch.launch);
    }
}

fn launch_started(launch: &Launch, plan: &Plan, offer: &Offer) -> What {
    What::LaunchStarted {
        launch: launch.launch,
        grant: launch.grant,
        user: launch.user.clone(),
        path: launch.application.path.clone(),
        sha256: launch.application.sha256,
        argv: launch.argv.clone(),
        policy: offer.policy,
        end: launch.end,
        runs_as: plan.identity.runs_as,
        layers: containment::layers_of(plan.identity.runs_as, &plan.bounds),
        login: plan.login,
        origin: launch.origin.clone(),
    }
}
