//! Private files, written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};

/// Writes a file that only its owner can read, in place of the one that may be there: whole or not at all, and on the disk
/// when this returns.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let next = path.with_extension("next");
    // What a crash left behind; the directory is the writer's own.
    let _ = fs::remove_file(&next);
    create_private(&next, bytes)?;
    fs::rename(&next, path).with_context(|| format!("put {} in place", path.display()))?;
    sync_folder(path)
}

/// Writes a file that only its owner can read, and that was not there before.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Makes the names in the folder of `path` last.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("make the names in {} last", folder.display()))
}

/// Makes a directory that only this user can enter, or makes sure that the one which is there is so.
pub(crate) fn private_folder(path: &Path, uid: u32, gid: u32) -> Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).with_context(|| format!("make {}", above.display()))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("make {}", path.display()));
        }
        _ => {}
    }
    // By descriptor and without following a link: whoever owned the directory before may have exchanged it.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .with_context(|| format!("open {}; it must be a directory and no link", path.display()))?;
    let folder = File::from(folder);
    let metadata = folder.metadata().with_context(|| format!("look at {}", path.display()))?;
    ensure!(
        metadata.uid() == uid || metadata.uid() == 0,
        "expected {} to belong to user {uid}, it belongs to {}; remove it or give it over",
        path.display(),
        metadata.uid()
    );
    rustix::fs::fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .with_context(|| format!("give {} to user {uid}", path.display()))?;
    rustix::fs::fchmod(&folder, Mode::RWXU).with_context(|| format!("make {} private", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.json");
        fs::write(folder.path().join("x.next"), "left by a crash").expect("written");
        for text in ["one", "two"] {
            write_private(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(create_private(&path, b"three").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1);
    }

    #[test]
    fn a_private_folder_is_no_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let path = folder.path().join("a/b");
        for _ in 0..2 {
            private_folder(&path, uid, gid).expect("made");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        }
        private_folder(&path, uid, gid).expect("made private again");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        assert!(private_folder(&link, uid, gid).is_err());
    }
}
