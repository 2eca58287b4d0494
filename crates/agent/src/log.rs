//! Short lines on standard error, a cause once: not with each try.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// One line. A closed standard error is no reason to fail.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "elevon-agent: {text}");
}

/// Something that works or does not, and what was said about it last.
#[derive(Debug)]
pub(crate) struct Subject {
    works: &'static str,
    told: Mutex<Option<String>>,
}

impl Subject {
    /// `works` is said when it works again after a failure.
    pub(crate) const fn new(works: &'static str) -> Self {
        Self { works, told: Mutex::new(None) }
    }

    /// It does not work; said once for each cause in a row.
    pub(crate) fn fails(&self, cause: impl Display) {
        let cause = cause.to_string();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&cause) {
            line(&cause);
            *told = Some(cause);
        }
    }

    /// It works; said when it did not before.
    pub(crate) fn works(&self) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            line(self.works);
        }
    }
}
