//! The only place here that asks what time it is, and that waits.
#![allow(clippy::disallowed_methods, reason = "this is where the clock is asked")]

use std::time::{Duration, Instant};

/// Measures from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks again and again until the answer is yes; whether it ever was.
pub(crate) fn until(within: Duration, mut answer: impl FnMut() -> bool) -> bool {
    let watch = Stopwatch::start();
    loop {
        if answer() {
            return true;
        }
        if watch.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
