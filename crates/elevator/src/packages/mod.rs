//! Which package owns a file, what it recorded of it, and who made it: read from the package databases themselves, without
//! their programs. Answers are kept for as long as the databases do not change.

mod dpkg;
mod index;
mod lines;
#[cfg(test)]
mod tests;
mod vendors;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use elevon_identify::package::Owned;
use elevon_policy::text::OsText;

use self::dpkg::Dpkg;

/// How many answers are kept.
const MAX_KNOWN: usize = 4096;

/// The package databases of this computer. By default there are none.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    dpkg: Option<Dpkg>,
    known: Mutex<HashMap<OsText, Answer>>,
}

/// What was found, and in which state the databases were.
#[derive(Debug, Clone)]
struct Answer {
    stamp: dpkg::Stamp,
    owned: Option<Arc<Owned>>,
}

impl Packages {
    /// Those below this root folder; what has to be kept of them goes to `state`.
    pub(crate) fn open(root: &Path, state: &Path) -> Self {
        Self { dpkg: Some(Dpkg::new(root, state)), known: Mutex::default() }
    }

    /// Whether there is a database that can be read at all.
    pub(crate) fn any(&self) -> bool {
        self.dpkg.as_ref().is_some_and(|dpkg| dpkg.stamp().is_some())
    }

    /// Gets ready for the first question.
    pub(crate) fn prepare(&self) {
        if let Some(dpkg) = &self.dpkg {
            dpkg.prepare();
        }
    }

    /// The package that owns what lies there. The path has no links, and nobody but root can change what it leads to.
    pub(crate) fn owner(&self, path: &OsText) -> Option<Arc<Owned>> {
        let dpkg = self.dpkg.as_ref()?;
        let stamp = dpkg.stamp()?;
        if let Some(answer) = self.known().get(path).filter(|answer| answer.stamp == stamp) {
            return answer.owned.clone();
        }
        let owned = match dpkg.owner(&stamp, path) {
            Ok(owned) => owned.map(Arc::new),
            Err(error) => {
                // What cannot be read says nothing: no rule about packages matches.
                eprintln!("elevon-elevator: could not ask dpkg's database about {}: {error}", path.visible());
                return None;
            }
        };
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(path.clone(), Answer { stamp, owned: owned.clone() });
        owned
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<OsText, Answer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
