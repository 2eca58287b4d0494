//! Short lines on standard error, a cause once: not with each try.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// One line. A closed standard error is no reason to fail.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "elevon-agent: {text}");
}

/// Something that works or does not, and what was said about it since it last worked.
#[derive(Debug)]
pub(crate) struct Subject {
    works: &'static str,
    told: Mutex<Vec<String>>,
    works_again: Condvar,
}

/// More different causes than this are not remembered; then the oldest may be said again.
const REMEMBERED: usize = 16;

impl Subject {
    /// `works` is said when it works again after a failure.
    pub(crate) const fn new(works: &'static str) -> Self {
        Self { works, told: Mutex::new(Vec::new()), works_again: Condvar::new() }
    }

    /// It does not work; each cause is said once until it works again, however they take turns.
    pub(crate) fn fails(&self, cause: impl Display) {
        if let Some(cause) = self.is_new(cause.to_string()) {
            line(cause);
        }
    }

    fn is_new(&self, cause: String) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&cause) {
            return None;
        }
        if told.len() == REMEMBERED {
            told.remove(0);
        }
        told.push(cause.clone());
        Some(cause)
    }

    /// It works; said when it did not before.
    pub(crate) fn works(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.is_empty() {
            line(self.works);
            *told = Vec::new();
            self.works_again.notify_all();
        }
    }

    /// Waits this long, but no longer than until it works again.
    pub(crate) fn wait(&self, span: Duration) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.works_again.wait_timeout_while(told, span, |told| !told.is_empty());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_longer_than_until_it_works_again() {
        let subject = std::sync::Arc::new(Subject::new("it works again"));
        subject.fails("it does not");
        let other = std::sync::Arc::clone(&subject);
        let waiting = std::thread::spawn(move || other.wait(Duration::MAX));
        subject.works();
        waiting.join().expect("it goes on");
    }

    #[test]
    fn a_cause_is_said_once_until_it_works_again() {
        let subject = Subject::new("it works again");
        for _ in 0..2 {
            assert!(subject.is_new("a".into()).is_some());
            assert!(subject.is_new("b".into()).is_some());
            assert!(subject.is_new("a".into()).is_none());
            subject.works();
        }
    }
}
