//! rpm's database, where it is a SQLite file; older kinds are told of by `doctor` and match nothing.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use elevon_identify::dpkg::Names;
use elevon_identify::package::Owned;
use elevon_identify::rpm::{self, Database, Unread};
use elevon_policy::text::OsText;

use super::files::{FileState, owned_by_root};

/// Where distributions keep it.
const FOLDERS: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
/// What the database was before rpm 4.16, and what SUSE's is.
const OTHER_KINDS: [&str; 2] = ["Packages", "Packages.db"];

/// rpm's database below one root folder.
#[derive(Debug)]
pub(super) struct Rpm {
    root: PathBuf,
}

/// In which state the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(FileState);

impl Rpm {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The state it is in; nothing where there is none that can be read. While rpm writes, what it wrote lies in a file beside the
    /// database: what that means is not read, and no file belongs to any package until rpm is done.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let path = self.path()?;
        let beside = |suffix: &str| {
            let path = path.with_extension(suffix);
            fs::metadata(path).is_ok_and(|facts| facts.len() > 0)
        };
        let being_changed = beside("sqlite-wal") || beside("sqlite-journal");
        FileState::of(&path).filter(|_| !being_changed).map(Stamp)
    }

    /// Whether there is a database of a kind that is not read.
    pub(super) fn of_another_kind(&self) -> Option<PathBuf> {
        let kinds =
            FOLDERS.iter().flat_map(|folder| OTHER_KINDS.map(|kind| self.root.join(folder).join(kind)));
        kinds.into_iter().find(|path| self.path().is_none() && path.exists())
    }

    /// The package that owns what lies there, and what it recorded of it.
    pub(super) fn owner(&self, stamp: &Stamp, path: &OsText, names: &Names) -> io::Result<Option<Owned>> {
        let Some(database) = self.path() else {
            return Ok(None);
        };
        let file = owned_by_root(&database)?;
        let mut opened = Database::open(|offset, length| read(&file, offset, length)).map_err(told)?;
        let owned = rpm::owner(&mut opened, path, names).map_err(told)?;
        match self.stamp().as_ref() == Some(stamp) {
            true => Ok(owned),
            false => Err(io::Error::other("rpm is changing its database just now")),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        FOLDERS.iter().map(|folder| self.root.join(folder).join("rpmdb.sqlite")).find(|path| path.exists())
    }
}

fn read(file: &fs::File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn told(unread: Unread<io::Error>) -> io::Error {
    match unread {
        Unread::NotSqlite(not) => io::Error::new(io::ErrorKind::InvalidData, not),
        Unread::Bytes(error) => error,
    }
}
