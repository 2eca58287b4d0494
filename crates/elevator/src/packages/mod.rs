//! Which package owns a file, what it recorded of it, and who made it: read from the package databases themselves, without
//! their programs. Answers are kept for as long as the databases do not change.

mod dpkg;
mod files;
mod index;
mod lines;
mod rpm;
#[cfg(test)]
mod tests;
mod vendors;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use elevon_identify::dpkg::Names;
use elevon_identify::package::Owned;
use elevon_policy::text::OsText;

use self::dpkg::Dpkg;
use self::rpm::Rpm;

/// How many answers are kept.
const MAX_KNOWN: usize = 4096;

/// The package databases of this computer. By default there are none.
#[derive(Debug, Default)]
pub(crate) struct Packages {
    databases: Option<Databases>,
    known: Mutex<HashMap<OsText, Answer>>,
}

#[derive(Debug)]
struct Databases {
    root: PathBuf,
    dpkg: Dpkg,
    rpm: Rpm,
}

/// In which state the databases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    dpkg: Option<dpkg::Stamp>,
    rpm: Option<rpm::Stamp>,
}

/// What was found, and in which state the databases were.
#[derive(Debug, Clone)]
struct Answer {
    stamp: Stamp,
    owned: Option<Arc<Owned>>,
}

impl Packages {
    /// Those below this root folder; what has to be kept of them goes to `state`.
    pub(crate) fn open(root: &Path, state: &Path) -> Self {
        let (dpkg, rpm) = (Dpkg::new(root, state), Rpm::new(root));
        Self { databases: Some(Databases { root: root.to_owned(), dpkg, rpm }), known: Mutex::default() }
    }

    /// Whether there is a database that can be read at all.
    pub(crate) fn any(&self) -> bool {
        self.look(None).0
    }

    /// Whether there is a database that can be read at all, and the package that owns what lies at a path, as [`Packages::owner`].
    pub(crate) fn look(&self, path: Option<&OsText>) -> (bool, Option<Arc<Owned>>) {
        let Some(databases) = &self.databases else { return (false, None) };
        let stamp = databases.stamp();
        let any = stamp.dpkg.is_some() || stamp.rpm.is_some();
        (any, path.and_then(|path| self.owner_at(databases, stamp, path)))
    }

    /// Names of the databases that are read, and the path of one that is not.
    pub(crate) fn told(&self) -> (Vec<&'static str>, Option<PathBuf>) {
        let stamp = self.databases.as_ref().map(Databases::stamp);
        let read = [
            stamp.and_then(|stamp| stamp.dpkg).map(|_| "dpkg"),
            stamp.and_then(|stamp| stamp.rpm).map(|_| "rpm"),
        ];
        let unread = self.databases.as_ref().and_then(|databases| databases.rpm.of_another_kind());
        (read.into_iter().flatten().collect(), unread)
    }

    /// Gets ready for the first question.
    pub(crate) fn prepare(&self) {
        if let Some(databases) = &self.databases {
            databases.dpkg.prepare();
        }
    }

    /// The package that owns what lies there. The path has no links, and nobody but root can change what it leads to.
    pub(crate) fn owner(&self, path: &OsText) -> Option<Arc<Owned>> {
        self.look(Some(path)).1
    }

    fn owner_at(&self, databases: &Databases, stamp: Stamp, path: &OsText) -> Option<Arc<Owned>> {
        if let Some(answer) = self.known().get(path).filter(|answer| answer.stamp == stamp) {
            return answer.owned.clone();
        }
        let owned = match databases.owner(&stamp, path) {
            Ok(owned) => owned.map(Arc::new),
            Err(error) => {
                // What cannot be read says nothing: no rule about packages matches.
                eprintln!("elevon-elevator: could not find the package of {}: {error}", path.visible());
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

    fn known(&self) -> MutexGuard<'_, HashMap<OsText, Answer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Databases {
    fn stamp(&self) -> Stamp {
        Stamp { dpkg: self.dpkg.stamp(), rpm: self.rpm.stamp() }
    }

    fn owner(&self, stamp: &Stamp, path: &OsText) -> io::Result<Option<Owned>> {
        if let Some(stamp) = &stamp.dpkg
            && let Some(owned) = self.dpkg.owner(stamp, path)?
        {
            return Ok(Some(owned));
        }
        match &stamp.rpm {
            Some(stamp) => self.rpm.owner(stamp, path, &Names::new(files::linked_folders(&self.root), b"")),
            None => Ok(None),
        }
    }
}
