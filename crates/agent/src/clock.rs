//! The one place where this program asks what time it is.
#![allow(clippy::disallowed_methods, reason = "this is where the clock is asked")]

use std::time::{Duration, Instant};

/// An alarm that rings the first time it is asked, and then whenever this long has passed since it last rang.
#[derive(Debug)]
pub(crate) struct Alarm {
    every: Duration,
    rang: Option<Instant>,
}

impl Alarm {
    pub(crate) fn every(every: Duration) -> Self {
        Self { every, rang: None }
    }

    /// Whether it rings now. It goes on ringing until it is put off.
    pub(crate) fn rings(&self) -> bool {
        self.rang.is_none_or(|rang| rang.elapsed() >= self.every)
    }

    /// Counts anew from now on.
    pub(crate) fn put_off(&mut self) {
        self.rang = Some(Instant::now());
    }
}
