//! The one place of the benches that asks what time it is.

use std::time::Instant;

#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Start {
    Start(Instant::now())
}

/// When something began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start(Instant);

impl Start {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn elapsed(self) -> std::time::Duration {
        self.0.elapsed()
    }
}
