//! The only place in the rig that looks at a clock, but for `wall`, which moves one. Everything that waits, waits for a
//! condition and gives up at a deadline; nothing sleeps for a while and hopes.
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use elevon_policy::time::Timestamp;

/// How long a condition may take that should be met at once, on a machine that is busy building and testing.
pub const SOON: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(2);

/// Whether someone wants this program to stop.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes the next wait give up: what unwinds then cleans up, with waits of its own.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called; says so once.
pub fn interrupted() -> bool {
    INTERRUPTED.swap(false, Ordering::Relaxed)
}

/// The wall clock, as the programs under test read it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Measures how long something took.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A point after which waiting is given up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// This long from now.
    pub fn within(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    /// What is left; `None` when it has passed.
    pub fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// Looks until `look` gives something; an error that says what was waited for when it does not in time.
pub fn until<T>(what: &str, span: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Deadline::within(span);
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if interrupted() {
            bail!("interrupted while waiting for this: {what}");
        }
        if deadline.left().is_none() {
            bail!("waited {span:?} for this, and it did not happen: {what}");
        }
        thread::sleep(LOOK);
    }
}

/// [`until`] for a plain condition.
pub fn until_true(what: &str, span: Duration, mut look: impl FnMut() -> bool) -> Result<()> {
    until(what, span, || Ok(look().then_some(())))
}

/// Makes sure that a condition holds all through a span: for what must *not* happen.
pub fn throughout(what: &str, span: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Deadline::within(span);
    while deadline.left().is_some() {
        if !holds() {
            bail!("this should hold for {span:?}, and did not: {what}");
        }
        thread::sleep(LOOK);
    }
    Ok(())
}
