//! What was believed of paths. A belief holds while nothing about any component of the path changes, links among them: which file
//! it is, whose, with which mode, on which mount, and when it was last changed in any way, which access lists count as. So much
//! is asked anew each time, by one call a component; only then nothing else is.
//!
//! Asking by paths is as good as walking by descriptors here: whoever could turn a component into another between two calls could
//! do so at any time, and is root.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

use elevon_policy::text::OsText;
use rustix::time::{ClockId, clock_gettime};

use super::mounts::{Mounts, Now};
use super::walk::{Facts, Identity, Place};

/// How many paths are kept.
const MAX_KNOWN: usize = 1024;

/// What was believed of paths.
#[derive(Debug, Default)]
pub(super) struct Beliefs(Mutex<HashMap<OsText, Belief>>);

/// Where a believed path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) identity: Identity,
    /// Whether everybody may go there, and execute what is there: by modes alone, with no access list that takes it from
    /// someone, and on no mount that takes it from all.
    pub(super) for_all: bool,
}

#[derive(Debug, Clone)]
struct Belief {
    /// The mounts as they were; any change makes another table.
    mounts: Arc<Now>,
    components: Arc<[(CString, Facts)]>,
    end: End,
}

impl Belief {
    fn holds(&self, mounts: &Arc<Now>) -> bool {
        let same = |(path, facts): &(CString, Facts)| Facts::at(path).as_ref() == Ok(facts);
        Arc::ptr_eq(&self.mounts, mounts) && self.components.iter().all(same)
    }
}

impl Beliefs {
    /// Where it leads, if it is known and all is still as it was.
    pub(super) fn find(&self, path: &OsText, mounts: &Mounts) -> Option<End> {
        let belief = self.known(path)?;
        belief.holds(&mounts.now().ok()?).then_some(belief.end)
    }

    /// The same, of what everybody may see. Of anything else nothing is asked: how long that takes would tell whoever may not.
    pub(super) fn find_for_all(&self, path: &OsText, mounts: &Mounts) -> Option<End> {
        let belief = self.known(path).filter(|belief| belief.end.for_all)?;
        belief.holds(&mounts.now().ok()?).then_some(belief.end)
    }

    /// Forgets everything: the mounts changed.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn known(&self, path: &OsText) -> Option<Belief> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }
}

/// A belief that is being made, while the path is walked.
pub(super) struct Draft {
    begun: Moment,
    /// Whether it can be kept at all.
    lasting: bool,
    for_all: bool,
    components: Vec<(CString, Facts)>,
}

impl Draft {
    pub(super) fn begin() -> Self {
        Self { begun: Moment::now(), lasting: true, for_all: true, components: Vec::new() }
    }

    /// The walk came here. `lasting` is whether what was believed of it can be told from its facts.
    pub(super) fn add(&mut self, place: &Place, for_all: bool, lasting: bool) {
        let settled = Moment::of_change(place.facts.changed) < self.begun;
        match CString::new(place.path.as_bytes()) {
            Ok(path) => self.components.push((path, place.facts)),
            Err(_) => self.lasting = false,
        }
        self.lasting &= lasting && settled;
        self.for_all &= for_all;
    }

    /// Keeps it, where it can be kept.
    pub(super) fn keep(self, path: &OsText, end: &Place, mounts: &Mounts) -> End {
        let end = End { identity: end.facts.identity, for_all: self.for_all };
        if self.lasting
            && let Ok(now) = mounts.now()
        {
            let belief = Belief { mounts: now, components: self.components.into(), end };
            let mut known = mounts.beliefs().0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(path.clone(), belief);
        }
        end
    }
}

/// A point in time as the kernel writes changes down: by a clock that stands still between two ticks. What changed before
/// such a point carries another time than whatever changes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64, i64);

impl Moment {
    pub(super) fn now() -> Self {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        Self(now.tv_sec, now.tv_nsec)
    }

    /// The last that it may have been: old file systems write down whole seconds.
    pub(super) fn of_change(changed: (i64, u32)) -> Self {
        match changed {
            (seconds, 0) => Self(seconds.saturating_add(1), 0),
            (seconds, nanos) => Self(seconds, nanos.into()),
        }
    }
}
