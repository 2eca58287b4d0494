//! The one place of the benches that asks what time it is.

use std::time::Instant;

/// Now.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Start {
    Start(Instant::now())
}

/// When something began.
#[derive(Debug, Clone, Copy)]
pub struct Start(Instant);

impl Start {
    /// How long ago that was.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn elapsed(self) -> std::time::Duration {
        self.0.elapsed()
    }
}
