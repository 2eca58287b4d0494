//! Which step on the way to a program failed: whoever reads it should know which layer could not be had.

use std::borrow::Cow;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// What was being done: `make everything read-only`.
    doing: Cow<'static, str>,
    /// What came of it.
    cause: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.doing, self.cause)
    }
}

impl Failed {
    /// A step, and its error.
    pub(crate) fn new(doing: impl Into<Cow<'static, str>>, cause: &impl fmt::Display) -> Self {
        Self { doing: doing.into(), cause: cause.to_string() }
    }
}

/// Why a program was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotStarted {
    /// A step failed.
    Failed(Failed),
    /// The elevator called it off: it could not be recorded.
    CalledOff,
}

impl From<Failed> for NotStarted {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// Says of an error what was being done.
pub(crate) trait Doing<T> {
    /// The same, as a failed step.
    fn during(self, doing: &'static str) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn during(self, doing: &'static str) -> Result<T, Failed> {
        self.map_err(|error| Failed::new(doing, &error.into()))
    }
}
