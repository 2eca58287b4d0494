//! The elevator's parts, and what follows from one for the others: a sheet for what runs, an end for the record.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use ed25519_dalek::SigningKey;
use elevon_policy::application::User;
use elevon_policy::decide::{Attempt, Refusal, Verdict};
use elevon_policy::event::{EndReason, Event, What};
use elevon_policy::id::{GrantId, LaunchId, Version};
use elevon_policy::rule::Evaluates;
use elevon_policy::sheet::Sheet;
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::signed::Signed;

use crate::caller::Confinement;
use crate::clock::{Clock, Uptime};
use crate::config::Config;
use crate::holdings::{Accepted, Holdings, NotTaken, Taken};
use crate::journal::Journal;
use crate::launch::{Order, containment};
use crate::launches::{Ended, Launch, Launches};
use crate::measure::{Known, component};
use crate::packages::Packages;
use crate::pam::Pam;
use crate::spawner::Spawner;
use crate::syscall::give_memory_back;
use crate::waiting::Waiting;
use crate::{files, witness};

/// How soon it is tried again to record what a full disk did not take.
const AGAIN: Span = Span::from_secs(1);

/// So many launches at once leave memory behind that is worth giving back.
const CROWD: usize = 32;

/// All parts of the elevator.
pub(crate) struct Elevator {
    /// Settings.
    pub(crate) config: Config,
    /// What time it is.
    pub(crate) clock: Clock,
    /// What this computer holds.
    pub(crate) holdings: Holdings,
    /// What runs.
    pub(crate) launches: Launches,
    /// Makes sessions.
    pub(crate) spawner: Spawner,
    /// Whom PAM admits.
    pub(crate) pam: Pam,
    /// What is known of files that only root can change.
    pub(crate) known: Known,
    /// Threads that wait for a decision, or for events to send.
    pub(crate) waiting: Waiting,
    /// Held while a request is made, from the look for one like it until that would find it.
    pub(crate) asking: Mutex<()>,
    /// How many agents are connected: none or one, but for a moment.
    pub(crate) agents: AtomicUsize,
    /// How far the elevator itself is confined.
    pub(crate) own: Confinement,
    /// Before the computer is enrolled there is no key, and no journal.
    journal: Mutex<Option<std::sync::Arc<Journal>>>,
    /// Revocations that were reported.
    reported: Mutex<HashSet<GrantId>>,
}

/// Nothing could be recorded: nothing may be elevated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRecorded {
    /// There is no key to sign with.
    #[error("this computer is not enrolled")]
    NotEnrolled,
    /// The disk says no.
    #[error("the event could not be written to the journal: {0}")]
    Io(#[from] io::Error),
}

impl From<NotRecorded> for String {
    fn from(error: NotRecorded) -> Self {
        error.to_string()
    }
}

impl Elevator {
    /// Puts the parts together, and takes up what an earlier run left.
    pub(crate) fn open(config: Config, spawner: Spawner, own: Confinement) -> Result<Self> {
        let clock = Clock::open(&config.state_dir).context("could not read what time it was")?;
        let (holdings, complaints) =
            Holdings::open(&config.state_dir).context("could not read what is held")?;
        let launches = Launches::open(&config.state_dir.join("launches"), &config.run_dir.join("displays"))
            .context("could not read launches")?;
        let elevator = Self {
            clock,
            holdings,
            launches,
            spawner,
            pam: Pam::new(config.pam_dir.clone()),
            known: Known::new(Packages::open(Path::new("/"), &config.state_dir)),
            waiting: Waiting::default(),
            asking: Mutex::new(()),
            agents: AtomicUsize::new(0),
            own,
            journal: Mutex::new(None),
            reported: Mutex::default(),
            config,
        };
        elevator.take_up(&complaints)?;
        Ok(elevator)
    }

    /// Looks whether the computer has been enrolled meanwhile.
    pub(crate) fn is_enrolled(&self) -> Result<bool> {
        self.holdings.take_up_trust()?;
        if self.holdings.computer().is_some() && self.journal().is_none() {
            self.take_up(&[])?;
        }
        Ok(self.journal().is_some())
    }

    fn take_up(&self, complaints: &[String]) -> Result<()> {
        if self.holdings.computer().is_none() {
            return Ok(());
        }
        let key = event_key(&self.config.state_dir)?;
        let folder = self.config.state_dir.join("journal");
        let (journal, found) = Journal::open(&folder, key)
            .with_context(|| format!("could not open the journal in {}", folder.display()))?;
        if let Some(stored) = self.holdings.stored() {
            journal.stored(stored).context("could not trim the journal")?;
        }
        if let Some(last) = found.events.last() {
            self.clock.saw(last.at);
        }
        if let Some(sheet) = self.holdings.sheet() {
            self.clock.saw(sheet.issued);
        }
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::sync::Arc::new(journal));
        self.tell_of_the_start(complaints, &found.events)
    }

    /// Goes on where an earlier run ended, which may have been between any two of its steps.
    fn tell_of_the_start(&self, complaints: &[String], found: &[Event]) -> Result<()> {
        self.record(What::ComputerStarted {
            boot: Text::new(self.clock.boot()),
            version: Text::new(env!("CARGO_PKG_VERSION")),
            layers: containment::layers(),
        })?;
        for cause in complaints {
            eprintln!("elevon-elevator: {cause}");
            self.record(What::DocumentRefused { cause: Text::new(cause) })?;
        }
        self.holdings
            .make_up_for(found, self.clock.for_the_record())
            .context("could not put on file what is on record")?;
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).extend(enforced(found));
        let over = self.launches.take_up(self.clock.boot()).context("could not take up launches")?;
        self.launches.end_orphans();
        let mut told: HashSet<LaunchId> = self.launches.all().iter().map(|launch| launch.launch).collect();
        told.extend(over.iter().map(|ended| ended.launch.launch));
        for ended in over {
            if has_ended(found, ended.launch.launch) {
                self.launches.forget(&ended.launch);
            } else {
                self.conclude(&ended)?;
            }
        }
        for forgotten in unfinished(found).into_iter().filter(|open| !told.contains(&open.launch)) {
            let Unfinished { launch, grant, user, boot } = forgotten;
            // In this run of the computer it would be on file, had it come that far.
            let here = boot.is_some_and(|boot| boot == Text::new(self.clock.boot()));
            let reason = if here { EndReason::Failed } else { EndReason::Rebooted };
            self.record(What::LaunchEnded { launch, grant, user, reason, exit: None })?;
        }
        if let Some(sheet) = self.holdings.sheet() {
            self.end_what_may_not_run(&sheet);
            self.report_revocations()?;
            let told = files::read_json::<Version>(&self.delivered()).ok().flatten();
            if told != Some(sheet.version) && !is_delivered(found, sheet.version) {
                self.tell_of_delivery(&sheet)?;
            }
        }
        Ok(())
    }

    /// Has made what the next launch takes: while a launch is under way, nothing else should be.
    pub(crate) fn make_ready(&self) {
        let failed =
            |what, error| eprintln!("elevon-elevator: could not make the next {what} ready: {error}");
        self.pam.make_ready(&self.spawner).unwrap_or_else(|error| failed("question to PAM", error));
        self.spawner.make_ready().unwrap_or_else(|error| failed("session", error));
    }

    // ---- the record ----

    /// The journal, once the computer is enrolled.
    pub(crate) fn journal(&self) -> Option<std::sync::Arc<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records what happened, durably. Whoever is about to act on it acts only after this.
    pub(crate) fn record(&self, what: What) -> Result<(), NotRecorded> {
        self.record_beside(what, || Ok::<(), NotRecorded>(()))?;
        self.waiting.wake();
        Ok(())
    }

    /// Records what happened, durably, and meanwhile does what has to be done by then; where that fails nothing is on record.
    /// Wakes nobody who carries the record on: whoever has something more urgent to do does that after.
    pub(crate) fn record_beside<E: From<NotRecorded>>(
        &self,
        what: What,
        beside: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let journal = self.journal().ok_or(NotRecorded::NotEnrolled)?;
        let at = self.clock.for_the_record();
        let begun = journal.begin(at, what).map_err(NotRecorded::Io)?;
        beside()?;
        begun.complete().map_err(NotRecorded::Io)?;
        self.clock.saw(at);
        Ok(())
    }

    /// [`Elevator::record`] for what is put on file right after.
    pub(crate) fn record_first(&self, what: What) -> io::Result<()> {
        self.record(what).map_err(|error| match error {
            NotRecorded::Io(error) => error,
            NotRecorded::NotEnrolled => io::Error::other(error),
        })
    }

    /// Takes a grant for one launch. That it starts by that is on record before.
    pub(crate) fn take(&self, grant: GrantId, now: Timestamp) -> Result<Taken, NotTaken> {
        self.holdings.take(grant, now, |end| self.record_first(What::GrantStarted { grant, end }))
    }

    // ---- what a sheet means ----

    /// Takes documents from the server, and does what follows from them. A refusal is recorded; what is held stays.
    pub(crate) fn accept(&self, sheet: &Signed, bundle: Option<&Signed>) -> Result<(), String> {
        let before = self.holdings.sheet();
        let accepted = match self.holdings.accept(sheet, bundle) {
            Ok(accepted) => accepted,
            Err(cause) => {
                eprintln!("elevon-elevator: {cause}");
                self.record(What::DocumentRefused { cause: Text::new(&cause) })
                    .map_err(|error| error.to_string())?;
                return Err(cause);
            }
        };
        let not_stored = accepted.not_stored.clone();
        self.follow(before.as_deref(), accepted, bundle.is_some()).map_err(|error| error.to_string())?;
        not_stored.map_or(Ok(()), Err)
    }

    fn follow(
        &self,
        before: Option<&Sheet>,
        accepted: Accepted,
        new_bundle: bool,
    ) -> Result<(), NotRecorded> {
        let sheet = &accepted.sheet;
        self.clock.saw(sheet.issued);
        self.end_what_may_not_run(sheet);
        // Those who wait go on before the paperwork.
        self.waiting.wake();
        self.report_revocations()?;
        if let Some(journal) = self.journal() {
            let contradictions = witness::contradictions(before, sheet, |number| journal.known(number));
            if contradictions.is_empty() {
                journal.stored(sheet.stored)?;
            }
            for contradiction in contradictions {
                eprintln!(
                    "elevon-elevator: the server tells of fewer events than before, or of others; this is recorded"
                );
                self.record(contradiction)?;
            }
        }
        if accepted.not_stored.is_some() {
            return Ok(());
        }
        if accepted.is_news {
            self.tell_of_delivery(sheet)?;
        }
        if new_bundle {
            let computer =
                Evaluates { packages: self.known.packages.any(), components: component::are_there_any() };
            for (policy, cause) in self.holdings.rules_not_evaluated(computer) {
                self.record(What::RuleNotEvaluated { policy, cause: Text::new(cause) })?;
            }
        }
        Ok(())
    }

    /// Records that a sheet has come, and notes that this is recorded: when that can be looked up in the journal no more, it
    /// must not be told again.
    fn tell_of_delivery(&self, sheet: &Sheet) -> Result<(), NotRecorded> {
        let grants = sheet.grants.iter().map(|grant| grant.id).collect();
        let (version, bundle, checkpoint) = (sheet.version, sheet.bundle, sheet.checkpoint);
        self.record(What::SheetDelivered { version, bundle, grants, checkpoint })?;
        // Where it cannot be noted, it may be told again one day.
        let _ = files::write_json(&self.delivered(), &version);
        Ok(())
    }

    /// The version of the last sheet that was told of.
    fn delivered(&self) -> PathBuf {
        self.config.state_dir.join("delivered.json")
    }

    fn end_what_may_not_run(&self, sheet: &Sheet) {
        let now = self.clock.for_the_record();
        let revoked = |launch: &Launch| {
            let gone = launch.end > now
                && !self.holdings.in_force(launch.grant)
                && !self.holdings.is_given_back(launch.grant);
            sheet.revoking.contains(&launch.grant) || gone
        };
        let at_once = |reason| Order { reason, grace: Span::ZERO };
        self.launches.end(at_once(EndReason::Revoked), revoked);
        self.launches.end(at_once(EndReason::Locked), |launch| self.is_forbidden(launch, now));
    }

    /// Reports the revocations under which nothing runs any more.
    fn report_revocations(&self) -> Result<(), NotRecorded> {
        let Some(sheet) = self.holdings.sheet() else {
            return Ok(());
        };
        for grant in &sheet.revoking {
            // Held while it is recorded, so that two who look at once report it once.
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            let runs = self.launches.all().iter().any(|launch| launch.grant == *grant);
            if !runs && !reported.contains(grant) {
                self.record(What::GrantRevocationEnforced { grant: *grant })?;
                reported.insert(*grant);
            }
        }
        Ok(())
    }

    /// Whether policy in force now forbids what runs: a lock, a blocklist or a rule that denies. Anything less lets it go
    /// on until its end.
    pub(crate) fn is_forbidden(&self, launch: &Launch, now: Timestamp) -> bool {
        let Some(computer) = self.holdings.computer() else {
            return false;
        };
        let attempt = Attempt {
            user: &launch.user,
            computer,
            application: &launch.application,
            argv: &launch.argv,
            nested: launch.origin.is_some(),
        };
        let decision = self.holdings.decide(&attempt, now);
        matches!(
            decision.map(|decision| decision.verdict),
            Ok(Verdict::Refused {
                refusal: Refusal::Locked { .. } | Refusal::Blocked { .. } | Refusal::Denied { .. }
            })
        )
    }

    // ---- what ended ----

    /// Tells of each launch that is over; for a thread of its own. What cannot be told while the disk is full is told later.
    pub(crate) fn watch_launches(&self) -> Result<()> {
        let mut untold = VecDeque::new();
        let mut patience = None;
        let mut most = 0;
        loop {
            let since = Uptime::now();
            untold.extend(self.launches.wait(patience).context("could not watch over sessions")?);
            let was_quiet = since.after(AGAIN) <= Uptime::now();
            // Before the paperwork, which a full disk may hold up.
            self.launches.end_orphans();
            most = most.max(untold.len() + self.launches.count());
            patience = match self.tell(&mut untold) {
                Err(NotRecorded::Io(error)) if error.kind() == io::ErrorKind::StorageFull => Some(AGAIN),
                told => told.map(|()| (most >= CROWD).then_some(AGAIN))?,
            };
            // When it is quiet those are gone, too, who served the crowd.
            if was_quiet && most >= CROWD && self.launches.count() <= most / 8 {
                give_memory_back();
                most = 0;
            }
        }
    }

    fn tell(&self, untold: &mut VecDeque<Ended>) -> Result<(), NotRecorded> {
        while let Some(ended) = untold.front() {
            self.conclude(ended)?;
            untold.pop_front();
        }
        self.report_revocations()
    }

    /// Tells of the end of a launch, and takes it off file.
    pub(crate) fn conclude(&self, ended: &Ended) -> Result<(), NotRecorded> {
        let launch = &ended.launch;
        self.record(What::LaunchEnded {
            launch: launch.launch,
            grant: launch.grant,
            user: launch.user.clone(),
            reason: ended.reason,
            exit: ended.exit,
        })?;
        self.launches.forget(launch);
        Ok(())
    }
}

/// A launch that was started and not ended, as far as events tell.
struct Unfinished {
    launch: LaunchId,
    grant: GrantId,
    user: User,
    /// The run of the computer it was started in, where that is known.
    boot: Option<Text>,
}

fn unfinished(events: &[Event]) -> Vec<Unfinished> {
    let mut open: Vec<Unfinished> = Vec::new();
    let mut run = None;
    for event in events {
        match &event.what {
            What::ComputerStarted { boot, .. } => run = Some(boot.clone()),
            What::LaunchStarted { launch, grant, user, .. } => open.push(Unfinished {
                launch: *launch,
                grant: *grant,
                user: user.clone(),
                boot: run.clone(),
            }),
            What::LaunchEnded { launch, .. } => open.retain(|known| known.launch != *launch),
            _ => {}
        }
    }
    open
}

/// The revocations that these events tell are enforced.
fn enforced(events: &[Event]) -> impl Iterator<Item = GrantId> {
    events.iter().filter_map(|event| match event.what {
        What::GrantRevocationEnforced { grant } => Some(grant),
        _ => None,
    })
}

fn has_ended(events: &[Event], id: LaunchId) -> bool {
    events.iter().any(|event| matches!(event.what, What::LaunchEnded { launch, .. } if launch == id))
}

fn is_delivered(events: &[Event], sheet: Version) -> bool {
    events.iter().any(|event| matches!(event.what, What::SheetDelivered { version, .. } if version == sheet))
}

fn event_key(state: &Path) -> Result<SigningKey> {
    let path = state.join("event.key");
    let seed = files::read(&path)?.with_context(|| {
        format!("{} is missing, though this computer is enrolled; enroll it again with `elevon-agent enroll --again TOKEN`", path.display())
    })?;
    let seed: [u8; 32] =
        seed.try_into().ok().with_context(|| format!("{} should hold a key of 32 bytes", path.display()))?;
    Ok(SigningKey::from_bytes(&seed))
}
