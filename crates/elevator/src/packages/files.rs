//! Files of package databases: in which state they are, and whether they are root's alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What changes whenever a file or folder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct FileState {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let facts = fs::metadata(path).ok()?;
        Some(Self {
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }
}

/// Opens a regular file that only root could have written.
pub(super) fn owned_by_root(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let facts = file.metadata()?;
    match facts.is_file() && facts.uid() == 0 && facts.mode() & 0o022 == 0 {
        true => Ok(file),
        false => Err(io::Error::other(format!("{} is not a file of root's alone", path.display()))),
    }
}

/// Folders that packages still name and that are links to others by now: `/bin` and `/usr/bin`. Both absolute.
pub(super) fn linked_folders(root: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    const FOLDERS: [(&str, &str); 7] = [
        ("", "bin"),
        ("", "lib"),
        ("", "lib32"),
        ("", "lib64"),
        ("", "libx32"),
        ("", "sbin"),
        ("/usr", "sbin"),
    ];
    let links = FOLDERS.into_iter().filter_map(|(above, name)| {
        let link = format!("{above}/{name}");
        let target = fs::read_link(root.join(link.trim_start_matches('/'))).ok()?;
        let target = target.as_os_str().as_bytes();
        let target = match target.starts_with(b"/") {
            true => target.to_vec(),
            false => [above.as_bytes(), b"/", target].concat(),
        };
        Some((link.into_bytes(), target.strip_suffix(b"/").unwrap_or(&target).to_vec()))
    });
    links.collect()
}
