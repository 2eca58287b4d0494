//! What time it is, for a root process that must not be fooled: the server's signed time, carried on by the clock that
//! nobody can set (CLOCK_BOOTTIME), and without it the wall clock, but never below what was already seen, and in one run of the
//! computer never slower than that clock.

use std::collections::VecDeque;
use std::io;
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
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The server's time at a point of uptime, in one run of the computer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Anchor {
    boot: String,
    uptime: Uptime,
    server: Timestamp,
}

impl Anchor {
    /// The point of uptime at which this time is reached, if the server's clock goes on as it did.
    pub(crate) fn uptime_at(&self, time: Timestamp) -> Uptime {
        self.uptime.after(time.since(self.server))
    }

    fn time_at(&self, uptime: Uptime) -> Timestamp {
        self.server.after(Span::from_millis(uptime.millis().saturating_sub(self.uptime.millis())))
    }
}

/// An answer of the server that is taken as soon as what follows from it is kept: see [`Clock::answer`].
#[derive(Debug)]
pub(crate) struct Answer {
    anchor: Anchor,
    /// What the time was carried on from so far, where the server's clock was set back meanwhile.
    pub(crate) set_back: Option<Anchor>,
}

/// By less, the server's clock was not set back: round trips differ.
const UNEVEN: Span = Span::from_secs(1);

/// An answer that took longer says nothing useful about now.
const PATIENCE: Span = Span::from_secs(60);

/// More questions than whoever carries them has any need of at once.
const MOST_QUESTIONS: usize = 8;

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
    /// Those that may still be answered, the last one last.
    questions: VecDeque<(TimeQuestion, Uptime)>,
    high_water: Option<Timestamp>,
    /// The latest time that was seen in this run of the computer, and when.
    seen: Option<(Timestamp, Uptime)>,
}

impl Told {
    /// What a wall clock says, where the server has not said anything. Set back, it would give every grant more time: as far as
    /// this run of the computer knows better, what it says does not count.
    fn by_the_wall(&self, wall: Timestamp, now: Uptime) -> Result<Timestamp, TimeUnknown> {
        match self.high_water {
            Some(high_water) if wall < high_water => Err(TimeUnknown),
            _ => Ok(self.seen.map_or(wall, |seen| wall.max(carried(seen, now)))),
        }
    }

    fn saw(&mut self, time: Timestamp) {
        self.high_water = self.high_water.max(Some(time));
        let now = Uptime::now();
        if self.seen.is_none_or(|seen| carried(seen, now) < time) {
            self.seen = Some((time, now));
        }
    }
}

/// What time it is at least, where this time was seen at that point of uptime.
fn carried((time, at): (Timestamp, Uptime), now: Uptime) -> Timestamp {
    time.after(Span::from_millis(now.millis().saturating_sub(at.millis())))
}

/// The wall clock stands before something that has already happened, and the server has not said what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeUnknown;

impl Clock {
    /// Takes up what was told before, if the computer has not been started anew since.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
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
        let uptime = Uptime::now();
        if let Some(anchor) = &told.anchor {
            return Ok(anchor.time_at(uptime));
        }
        told.by_the_wall(wall_clock(), uptime)
    }

    /// What to write on an event: the best guess, never before what was already written.
    pub(crate) fn for_the_record(&self) -> Timestamp {
        let now = self.now().unwrap_or_else(|TimeUnknown| wall_clock());
        self.told().high_water.map_or(now, |seen| seen.max(now))
    }

    /// Remembers that it is at least this late.
    pub(crate) fn saw(&self, time: Timestamp) {
        self.told().saw(time);
    }

    /// A new question to the server. One that is on its way may still be answered: whoever asks what the elevator holds is given
    /// another.
    pub(crate) fn ask(&self, nonce: u64) -> TimeQuestion {
        let question = TimeQuestion { nonce };
        let mut told = self.told();
        let questions = &mut told.questions;
        if questions.len() == MOST_QUESTIONS {
            questions.pop_front();
        }
        questions.push_back((question, Uptime::now()));
        question
    }

    /// Looks at the server's answer. It is anchored to the sending of the question, so that an end may come early by the
    /// round trip, never late. Nothing where it is no answer to a question; those before the one that it answers are void.
    pub(crate) fn answer(&self, statement: TimeStatement) -> Option<Answer> {
        let mut told = self.told();
        let place = told.questions.iter().position(|(question, _)| question.nonce == statement.nonce)?;
        let (_, sent) = told.questions.drain(..=place).next_back()?;
        if Uptime::now() > sent.after(PATIENCE) {
            return None;
        }
        let set_back = told.anchor.clone().filter(|anchor| statement.at.after(UNEVEN) < anchor.time_at(sent));
        Some(Answer {
            anchor: Anchor { boot: self.boot.clone(), uptime: sent, server: statement.at },
            set_back,
        })
    }

    /// Takes an answer: from now on it is what time is told by.
    pub(crate) fn take(&self, answer: Answer) -> io::Result<()> {
        let mut told = self.told();
        files::write_json(&self.file, &answer.anchor)?;
        told.saw(answer.anchor.server);
        told.anchor = Some(answer.anchor);
        Ok(())
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

    /// The server's time is asked for, and this is its answer.
    fn told(it: &Clock, at: Timestamp) -> Answer {
        let question = it.ask(7);
        it.answer(TimeStatement { nonce: question.nonce, at }).expect("an answer to the question")
    }

    #[test]
    fn the_servers_time_counts_from_the_question() {
        let state = tempfile::tempdir().expect("temporary directory");
        let it = clock(state.path());
        let question = it.ask(7);
        let at = Timestamp::from_millis(1_000_000);
        assert!(it.answer(TimeStatement { nonce: 8, at }).is_none(), "another nonce");
        let later = it.ask(9);
        let answer = it.answer(TimeStatement { nonce: question.nonce, at }).expect("the nonce");
        assert!(it.answer(TimeStatement { nonce: 7, at }).is_none(), "a question is answered once");
        assert!(it.answer(TimeStatement { nonce: later.nonce, at }).is_some(), "the other is as good");
        let void = it.ask(10);
        let last = (11..).take(MOST_QUESTIONS).map(|nonce| it.ask(nonce)).last().expect("some");
        assert!(it.answer(TimeStatement { nonce: void.nonce, at }).is_none(), "so many are not kept");
        assert!(it.answer(TimeStatement { nonce: last.nonce, at }).is_some());
        assert!(it.answer(TimeStatement { nonce: 11, at }).is_none(), "a later one was answered");
        it.take(answer).expect("stored");
        assert!(it.now().expect("known") >= at && it.now().expect("known") < at.after(Span::from_secs(5)));
        assert!(clock(state.path()).now().expect("known after a restart") < at.after(Span::from_secs(5)));
    }

    #[test]
    fn a_servers_clock_set_back_is_told_of_with_what_it_said_before() {
        let state = tempfile::tempdir().expect("temporary directory");
        let it = clock(state.path());
        let at = Timestamp::from_millis(100_000_000);
        let first = told(&it, at);
        assert!(first.set_back.is_none(), "it said nothing before");
        it.take(first).expect("stored");
        assert!(told(&it, at.after(Span::from_hours(1))).set_back.is_none(), "it was set forward");
        assert!(told(&it, at.before(Span::from_millis(300))).set_back.is_none(), "round trips differ");
        let (end, now) = (at.after(Span::from_secs(60)), Uptime::now());
        let before = told(&it, at.before(Span::from_hours(2))).set_back.expect("it was set back");
        let left = Span::from_millis(before.uptime_at(end).millis() - now.millis());
        assert!(left <= Span::from_secs(60) && left > Span::from_secs(50), "{left} are left, as before");
        assert!(before.uptime_at(at.before(Span::from_secs(1))) <= now, "what was over is over");
    }

    /// Nothing was seen for an hour, and the clock is set back by most of it: it is believed no more than that hour.
    #[test]
    fn a_wall_clock_set_back_to_what_was_seen_gains_nothing() {
        let seen = Timestamp::from_millis(100_000_000);
        let (at, hour) = (Uptime(50_000), Span::from_hours(1));
        let told = Told { high_water: Some(seen), seen: Some((seen, at)), ..Told::default() };
        let now = at.after(hour);
        assert_eq!(told.by_the_wall(seen.after(hour), now), Ok(seen.after(hour)));
        assert_eq!(told.by_the_wall(seen.after(Span::from_secs(1)), now), Ok(seen.after(hour)));
        assert_eq!(told.by_the_wall(seen.before(Span::from_secs(1)), now), Err(TimeUnknown));
        let later = seen.after(Span::from_hours(3));
        assert_eq!(told.by_the_wall(later, now), Ok(later), "set forward, it takes time away");
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
