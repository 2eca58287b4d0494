//! What time it is, for a root process that must not be fooled: the server's signed time, carried on by the clock that
//! nobody can set (CLOCK_BOOTTIME), and without it the wall clock, but never below what was already seen.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use elevon_policy::time::{Span, Timestamp};
use elevon_wire::channel::{TimeQuestion, TimeStatement};
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::files;

/// Milliseconds since the computer was started, suspended time included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Uptime(u64);

impl Uptime {
    /// Now.
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        let (secs, nanos) =
            (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
        Self(secs.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
    }

    /// This long after.
    pub(crate) fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.millis()))
    }

    /// This long before.
    pub(crate) fn before(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.millis()))
    }

    /// How long until then; zero when it has passed.
    pub(crate) fn left(self) -> Span {
        Span::from_millis(self.0.saturating_sub(Self::now().0))
    }

    /// The same for an alarm by this clock. At zero there would be none at all.
    pub(crate) fn alarm(self) -> Timespec {
        let millis = i64::try_from(self.0.max(1)).unwrap_or(i64::MAX);
        Timespec { tv_sec: millis / 1_000, tv_nsec: (millis % 1_000) * 1_000_000 }
    }

    /// In milliseconds.
    pub(crate) fn millis(self) -> u64 {
        self.0
    }
}

/// What the kernel calls this run of the computer.
pub(crate) fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The server's time at a point of uptime, in one run of the computer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Anchor {
    boot: String,
    uptime: Uptime,
    server: Timestamp,
}

/// An answer that took longer says nothing useful about now.
const PATIENCE: Span = Span::from_secs(60);

/// Tells the time.
#[derive(Debug)]
pub(crate) struct Clock {
    file: PathBuf,
    boot: String,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    anchor: Option<Anchor>,
    question: Option<(TimeQuestion, Uptime)>,
    high_water: Option<Timestamp>,
}

/// The wall clock stands before something that has already happened, and the server has not said what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeUnknown;

impl Clock {
    /// Takes up what was told before, if the computer has not been started anew since.
    pub(crate) fn open(state: &Path) -> std::io::Result<Self> {
        let (file, boot) = (state.join("clock.json"), boot_id()?);
        let anchor = files::read_json::<Anchor>(&file)?.filter(|anchor| anchor.boot == boot);
        Ok(Self { file, boot, told: Mutex::new(Told { anchor, ..Told::default() }) })
    }

    /// The run of the computer this is.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// What time it is, or that nobody can tell.
    pub(crate) fn now(&self) -> Result<Timestamp, TimeUnknown> {
        let told = self.told();
        if let Some(anchor) = &told.anchor {
            let passed = Span::from_millis(Uptime::now().millis().saturating_sub(anchor.uptime.millis()));
            return Ok(anchor.server.after(passed));
        }
        let wall = wall_clock();
        if told.high_water.is_some_and(|seen| wall < seen) { Err(TimeUnknown) } else { Ok(wall) }
    }

    /// What to write on an event: the best guess, never before what was already written.
    pub(crate) fn for_the_record(&self) -> Timestamp {
        let now = self.now().unwrap_or_else(|TimeUnknown| wall_clock());
        self.told().high_water.map_or(now, |seen| seen.max(now))
    }

    /// Remembers that it is at least this late.
    pub(crate) fn saw(&self, time: Timestamp) {
        let mut told = self.told();
        told.high_water = told.high_water.max(Some(time));
    }

    /// A new question to the server; the one before is void.
    pub(crate) fn ask(&self, nonce: u64) -> TimeQuestion {
        let question = TimeQuestion { nonce };
        self.told().question = Some((question, Uptime::now()));
        question
    }

    /// Takes the server's answer. It is anchored to the sending of the question, so that an end may come early by the
    /// round trip, never late. Says whether the answer was to the question.
    pub(crate) fn take(&self, statement: TimeStatement) -> std::io::Result<bool> {
        let mut told = self.told();
        let Some((question, sent)) = told.question.take() else {
            return Ok(false);
        };
        let late = Uptime::now() > sent.after(PATIENCE);
        if question.nonce != statement.nonce || late {
            return Ok(false);
        }
        let anchor = Anchor { boot: self.boot.clone(), uptime: sent, server: statement.at };
        files::write_json(&self.file, &anchor)?;
        told.anchor = Some(anchor);
        told.high_water = told.high_water.max(Some(statement.at));
        Ok(true)
    }

    /// The point of uptime at which this time is reached.
    pub(crate) fn uptime_at(&self, end: Timestamp) -> Result<Uptime, TimeUnknown> {
        Ok(Uptime::now().after(end.since(self.now()?)))
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn wall_clock() -> Timestamp {
    #[allow(clippy::disallowed_methods)]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(state: &Path) -> Clock {
        Clock::open(state).expect("opens")
    }

    #[test]
    fn the_servers_time_counts_from_the_question() {
        let state = tempfile::tempdir().expect("temporary directory");
        let it = clock(state.path());
        let question = it.ask(7);
        let at = Timestamp::from_millis(1_000_000);
        assert!(!it.take(TimeStatement { nonce: 8, at }).expect("other nonce"));
        assert!(!it.take(TimeStatement { nonce: 7, at }).expect("a question is answered once"));
        let question = it.ask(question.nonce);
        assert!(it.take(TimeStatement { nonce: question.nonce, at }).expect("stored"));
        assert!(it.now().expect("known") >= at && it.now().expect("known") < at.after(Span::from_secs(5)));
        assert!(clock(state.path()).now().expect("known after a restart") < at.after(Span::from_secs(5)));
    }

    #[test]
    fn a_wall_clock_set_back_is_not_believed() {
        let state = tempfile::tempdir().expect("temporary directory");
        let it = clock(state.path());
        let now = it.now().expect("wall clock");
        it.saw(now.after(Span::from_hours(1)));
        assert_eq!(it.now(), Err(TimeUnknown));
        assert!(it.for_the_record() >= now.after(Span::from_hours(1)));
    }
}
