//! The one place where this program asks what time it is.
#![allow(clippy::disallowed_methods, reason = "this is where the clock is asked")]

use std::time::{SystemTime, UNIX_EPOCH};

use elevon_policy::time::Timestamp;

/// Now, by the wall clock: for showing how long something still takes, and for giving up on an elevator that does not answer.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
