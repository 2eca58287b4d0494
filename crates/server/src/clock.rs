//! What time it is. The only place that asks the operating system.
#![allow(clippy::disallowed_methods, reason = "this is where the clock is asked")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use elevon_policy::time::{Span, Timestamp};
use tokio::time::Instant;

/// When an alarm set now rings, for a wait within this process. It says nothing of what time it is for anyone else.
pub fn alarm(after: Span) -> Instant {
    Instant::now() + after.std()
}

/// Tells the time.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The computer's.
    System,
    /// One that a test moves, in milliseconds since the Unix epoch.
    Moved(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start` until a test moves it.
    pub fn moved(start: Timestamp) -> Self {
        Self::Moved(Arc::new(AtomicI64::new(start.millis())))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since_epoch =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Moved(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// Moves a test's clock forward; the computer's clock does not move.
    pub fn advance(&self, span: Span) {
        if let Self::Moved(millis) = self {
            millis.fetch_add(i64::try_from(span.millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}
