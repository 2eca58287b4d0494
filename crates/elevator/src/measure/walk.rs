//! Goes along a path component by component, as the kernel would with the credentials this thread has, but holds each
//! component by a descriptor, looks at it before it goes on, and never enters a file system that a program serves: such a
//! program could make the walk wait for ever, or answer differently each time. Nothing is opened: `O_PATH` only.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use elevon_policy::text::OsText;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::mounts::{Mount, Mounts};
use super::not_measured::{NotMeasured, Unfit};

/// As many as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// Components of one walk, those of links included: half of what the longest path has.
const MAX_STEPS: usize = 1024;
/// The longest path the kernel takes, its NUL included.
const MAX_PATH: usize = 4096;

/// Which file, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
}

/// What the kernel says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) identity: Identity,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) size: u64,
    /// Last change of the content: seconds, nanoseconds.
    pub(super) modified: (i64, u32),
    /// Last change of anything: seconds, nanoseconds.
    pub(super) changed: (i64, u32),
    /// The mount it was reached through.
    pub(super) mount: u64,
}

impl Facts {
    /// Asks without going to a server for it: what is asked about may be served by a program.
    pub(super) fn of(file: impl AsFd) -> Result<Self, Errno> {
        Self::ask(file, c"", AtFlags::EMPTY_PATH)
    }

    /// Of what lies at an absolute path; of a link, of itself.
    pub(super) fn at(path: &CStr) -> Result<Self, Errno> {
        Self::ask(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
    }

    fn ask(file: impl AsFd, path: &CStr, flags: AtFlags) -> Result<Self, Errno> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let found = rustix::fs::statx(file, path, flags | AtFlags::STATX_DONT_SYNC, wanted)?;
        if found.stx_mask & wanted.bits() != wanted.bits() {
            return Err(Errno::OPNOTSUPP);
        }
        Ok(Self {
            identity: Identity { device: (found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino },
            mode: u32::from(found.stx_mode),
            owner: found.stx_uid,
            size: found.stx_size,
            modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            mount: found.stx_mnt_id,
        })
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// A file or folder, held without being opened.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: OwnedFd,
    pub(super) facts: Facts,
    /// How the walk came here: absolute where the walk began at the root. For telling people only, unless it is plain.
    pub(super) path: OsText,
    /// Whether that path is the one without links.
    plain: bool,
}

impl Place {
    pub(super) fn root() -> Result<Self, Errno> {
        let file = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { facts: Facts::of(&file)?, file, path: OsText::from("/"), plain: true })
    }

    /// What an absolute path leads to, by one call: only where it goes by no link and all of it lies on the root's own mount,
    /// which no program serves. Nothing where it does not, and the long way is to be gone.
    pub(super) fn at_once(path: &[u8], mounts: &Mounts) -> Option<Result<Self, Errno>> {
        mounts.root().filter(|root| !root.served())?;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let file =
            match rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Ok(file) => file,
                // Said before any link or mount was met, so the long way would come to the same.
                Err(errno @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS)) => return Some(Err(errno)),
                Err(_) => return None,
            };
        let facts = match Facts::of(&file) {
            Ok(facts) => facts,
            Err(errno) => return Some(Err(errno)),
        };
        let lies_there = mounts.of(facts.mount).is_ok_and(|mount| mount.is_some_and(|mount| mount.root));
        let plain = is_plain(path);
        lies_there.then(|| Ok(Self { file, facts, path: OsText::new(path), plain }))
    }

    /// A folder that somebody handed over.
    pub(super) fn folder(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let file = rustix::io::fcntl_dupfd_cloexec(directory, 0)?;
        Ok(Self { facts: Facts::of(&file)?, file, path: OsText::from("."), plain: false })
    }

    /// Whether the way here is known to have no link in it, nor anything but names.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// The name by which everything held can be reached again.
    pub(super) fn handle(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// The path without links, as the kernel tells it. Where the file was removed, or is not below this process's root, the
    /// path leads elsewhere or nowhere; whoever relies on it compares what it leads to.
    pub(super) fn canonical(&self) -> Result<OsText, NotMeasured> {
        if self.plain {
            return Ok(self.path.clone());
        }
        rustix::fs::readlink(self.handle(), Vec::new())
            .map(|path| OsText::new(path.into_bytes()))
            .map_err(|errno| NotMeasured::system("finding the full path", &self.path, errno))
    }

    /// Opens the very file for reading, which must be a regular one. Does not wait for whoever holds a lease on it.
    pub(super) fn open_for_reading(&self) -> Result<(OwnedFd, Facts), NotMeasured> {
        if self.facts.kind() != FileType::RegularFile {
            return Err(NotMeasured::unfit(&self.path, Unfit::NoRegularFile));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = rustix::fs::open(self.handle(), flags, Mode::empty()).map_err(|errno| match errno {
            Errno::AGAIN => NotMeasured::unfit(&self.path, Unfit::Held),
            errno => NotMeasured::system("opening", &self.path, errno),
        })?;
        let facts = Facts::of(&file).map_err(|errno| NotMeasured::system("looking at", &self.path, errno))?;
        if facts.identity != self.facts.identity || facts.kind() != FileType::RegularFile {
            return Err(NotMeasured::Changed { path: self.path.clone() });
        }
        Ok((file, facts))
    }

    fn step(&self, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.file, name, flags, Mode::empty())?;
        Ok(Self { facts: Facts::of(&file)?, file, path: joined(&self.path, name), plain: false })
    }
}

/// Whether an absolute path is written as the kernel would: no component is empty, `.` or `..`.
fn is_plain(path: &[u8]) -> bool {
    let odd = |name: &[u8]| matches!(name, b"" | b"." | b"..");
    path.strip_prefix(b"/").is_some_and(|names| !names.split(|byte| *byte == b'/').any(odd))
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Stopped<E> {
    /// The kernel said no.
    System { at: OsText, errno: Errno },
    /// This lies where nothing is run from, or nothing is followed: a program serves the file system, or it is none that
    /// this process has mounted, or it is one of the kernel's own with links that are no links.
    FileSystem { at: OsText, kind: String },
    /// The one who looked said no.
    Doubted(E),
}

/// Goes from `start` (or from the root, where the path is absolute) along `path`, following links to the last, and shows
/// every component to `look` before the next: links, too. `follower` is the uid whose credentials this thread has.
pub(super) fn walk<E>(
    start: Option<&Place>,
    path: &[u8],
    follower: u32,
    mounts: &Mounts,
    mut look: impl FnMut(&Place) -> Result<(), E>,
) -> Result<Place, Stopped<E>> {
    let typed = OsText::new(path);
    let told = |errno| Stopped::System { at: typed.clone(), errno };
    if path.len() >= MAX_PATH {
        return Err(told(Errno::NAMETOOLONG));
    }
    let mut here = match start.filter(|_| !path.starts_with(b"/")) {
        Some(start) => Place::folder(start.file.as_fd()).map_err(told)?.called(&start.path),
        None => Place::root().map_err(told)?,
    };
    let mut ahead = Vec::new();
    push(&mut ahead, path);
    let (mut links, mut steps) = (0, 0);
    enter(&here, mounts)?;
    look(&here).map_err(Stopped::Doubted)?;
    while let Some(name) = ahead.pop() {
        steps += 1;
        if steps > MAX_STEPS {
            return Err(told(Errno::NAMETOOLONG));
        }
        let at = || joined(&here.path, &name);
        let next = here.step(&name).map_err(|errno| Stopped::System { at: at(), errno })?;
        let mount = enter(&next, mounts)?;
        look(&next).map_err(Stopped::Doubted)?;
        if next.facts.kind() != FileType::Symlink {
            here = next;
            continue;
        }
        if !mount.has_plain_links() {
            return Err(Stopped::FileSystem { at: next.path, kind: mount.kind.clone() });
        }
        links += 1;
        let target = follow(&here, &next, follower, links);
        let target = target.map_err(|errno| Stopped::System { at: at(), errno })?;
        push(&mut ahead, &target);
        if target.starts_with(b"/") {
            here = Place::root().map_err(|errno| Stopped::System { at: next.path, errno })?;
        }
    }
    Ok(here)
}

impl Place {
    fn called(self, path: &OsText) -> Self {
        Self { path: path.clone(), plain: false, ..self }
    }
}

fn enter<E>(place: &Place, mounts: &Mounts) -> Result<std::sync::Arc<Mount>, Stopped<E>> {
    let mount =
        mounts.of(place.facts.mount).map_err(|errno| Stopped::System { at: place.path.clone(), errno })?;
    match mount {
        Some(mount) if !mount.served() => Ok(mount),
        Some(mount) => Err(Stopped::FileSystem { at: place.path.clone(), kind: mount.kind.clone() }),
        None => Err(Stopped::FileSystem { at: place.path.clone(), kind: "not mounted here".into() }),
    }
}

/// Where a link leads. In folders where anybody may lay one, only one's own and the folder's owner's are followed, as the
/// kernel does with `fs.protected_symlinks`.
fn follow(folder: &Place, link: &Place, follower: u32, links: usize) -> Result<Vec<u8>, Errno> {
    const STICKY_AND_OPEN: u32 = 0o1002;
    if links > MAX_LINKS {
        return Err(Errno::LOOP);
    }
    let open_to_all = folder.facts.mode & STICKY_AND_OPEN == STICKY_AND_OPEN;
    if open_to_all && link.facts.owner != follower && link.facts.owner != folder.facts.owner {
        return Err(Errno::ACCESS);
    }
    let target = rustix::fs::readlinkat(&link.file, c"", Vec::new())?.into_bytes();
    match target.len() {
        0 => Err(Errno::NOENT),
        1..MAX_PATH => Ok(target),
        _ => Err(Errno::NAMETOOLONG),
    }
}

/// Lays a path's components on the stack, the first on top. A slash at the end stands for `.`: only folders have that.
fn push(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    if path.ends_with(b"/") {
        ahead.push(b".".to_vec());
    }
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    ahead.extend(names.rev().map(<[u8]>::to_vec));
}

/// The path of a name in a folder.
pub(super) fn joined(path: &OsText, name: &[u8]) -> OsText {
    let base = path.as_bytes();
    match name {
        b"." => path.clone(),
        // Only for telling: the walk itself asks the kernel for the parent.
        b".." if base.starts_with(b"/") => match base.iter().rposition(|byte| *byte == b'/') {
            Some(at) if at > 0 => OsText::new(base.get(..at).unwrap_or_default()),
            _ => OsText::from("/"),
        },
        _ if base.ends_with(b"/") => OsText::new([base, name].concat()),
        _ => OsText::new([base, b"/", name].concat()),
    }
}

/// Holds a folder as a client's working directory is held.
#[cfg(test)]
pub(super) fn hold(path: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
