//! The one place where this program asks what time it is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An alarm that rings the first time it is asked, and then whenever this long has passed since it last rang. Time in which
/// the computer was suspended counts: the lease that is to be lengthened runs on meanwhile.
#[derive(Debug)]
pub(crate) struct Alarm {
    every: Duration,
    rang: Option<Duration>,
}

impl Alarm {
    pub(crate) fn every(every: Duration) -> Self {
        Self { every, rang: None }
    }

    /// One that rings when this long has passed.
    pub(crate) fn after(every: Duration) -> Self {
        Self { every, rang: Some(uptime()) }
    }

    /// Whether it rings now. It goes on ringing until it is put off.
    pub(crate) fn rings(&self) -> bool {
        self.rang.is_none_or(|rang| uptime().saturating_sub(rang) >= self.every)
    }

    /// Counts anew from now on.
    pub(crate) fn put_off(&mut self) {
        self.rang = Some(uptime());
    }
}

/// Since the computer was started.
fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
