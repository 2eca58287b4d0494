//! Finds what a command names, with the caller's own rights: what they may not reach is not found, and what they may not
//! execute is not executed for them.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use elevon_policy::text::OsText;
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::Gid;
use rustix::thread::CapabilitySet;

use super::Caller;
use super::mounts::Mounts;
use super::not_measured::{NotMeasured, Unfit};
use super::walk::{Place, Stopped, joined, walk};
use crate::syscall;

/// Where a command without a slash is looked for, whatever the caller's own PATH says.
const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What a command names.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    /// The folder that holds the name as typed, and that name, links behind it not followed; nothing where the path as typed
    /// has no link in it.
    typed: Option<(Place, Vec<u8>)>,
}

impl Found {
    /// The full path of the name as typed: its folder's path without links, and the name itself, which may be one. `None`
    /// where the path ended in no name.
    pub(super) fn link(&self) -> Option<OsText> {
        match &self.typed {
            None => self.place.canonical().ok(),
            Some((_, name)) if matches!(name.as_slice(), b"." | b"..") => None,
            Some((folder, name)) => folder.canonical().ok().map(|folder| joined(&folder, name)),
        }
    }
}

/// Finds the regular file that the command names and that the caller may execute.
pub(super) fn look_up(
    caller: &Caller,
    directory: BorrowedFd<'_>,
    command: &OsText,
    mounts: &Mounts,
) -> Result<Found, NotMeasured> {
    let follower = caller.user.uid;
    let found = as_caller(caller, || {
        let folder = working_directory(directory, command, mounts)?;
        match command.as_bytes() {
            b"" => Err(NotMeasured::NotFound { command: command.clone() }),
            path if path.contains(&b'/') => by_path(Some(&folder), path, command, follower, mounts),
            name => by_name(name, command, follower, mounts),
        }
    });
    found.map_err(|errno| NotMeasured::system("taking on your rights to look for", command, errno))?
}

/// The program will run in it, so it is one that the caller could enter: a descriptor of a folder can be had without that
/// right. A file system that a program serves is not asked; one that is mounted nowhere here is none to run in.
fn working_directory(
    directory: BorrowedFd<'_>,
    command: &OsText,
    mounts: &Mounts,
) -> Result<Place, NotMeasured> {
    let system = |errno| NotMeasured::system("looking at the working directory for", command, errno);
    let folder = Place::folder(directory).map_err(system)?;
    let mount = mounts.of(folder.facts.mount).map_err(system)?;
    let enters = mount.is_some_and(|it| it.served() || syscall::may_execute(folder.file.as_fd()).is_ok());
    if folder.facts.kind() != FileType::Directory || !enters {
        return Err(NotMeasured::unfit(&folder.canonical()?, Unfit::WorkingDirectory));
    }
    Ok(folder)
}

/// Like [`look_up`], of an absolute path that a file names as what reads it.
pub(super) fn look_up_absolute(
    caller: &Caller,
    path: &OsText,
    mounts: &Mounts,
) -> Result<Found, NotMeasured> {
    if !path.as_bytes().starts_with(b"/") {
        return Err(NotMeasured::NotFound { command: path.clone() });
    }
    let root = Place::root().map_err(|errno| NotMeasured::system("opening", path, errno))?;
    look_up(caller, root.file.as_fd(), path, mounts)
}

fn by_name(name: &[u8], command: &OsText, follower: u32, mounts: &Mounts) -> Result<Found, NotMeasured> {
    let nothing = || NotMeasured::NotFound { command: command.clone() };
    let mut refused = None;
    for folder in PATH {
        let path = [folder.as_bytes(), b"/", name].concat();
        match by_path(None, &path, command, follower, mounts) {
            Ok(found) => return Ok(found),
            Err(NotMeasured::NotFound { .. } | NotMeasured::Unfit { unfit: Unfit::NoRegularFile, .. }) => {}
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(nothing))
}

fn by_path(
    start: Option<&Place>,
    path: &[u8],
    command: &OsText,
    follower: u32,
    mounts: &Mounts,
) -> Result<Found, NotMeasured> {
    let at_once = path.starts_with(b"/").then(|| Place::at_once(path, mounts)).flatten();
    if let Some(place) = at_once {
        let place = place.map_err(|errno| told(Stopped::System { at: OsText::new(path), errno }, command))?;
        if place.is_plain() {
            fit(&place, mounts)?;
            return Ok(Found { place, typed: None });
        }
    }
    let slash = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (folder, name) = path.split_at(slash);
    let name = if name.is_empty() { b"." } else { name };
    let go = |start, path| {
        walk(start, path, follower, mounts, |_| Ok::<_, NotMeasured>(()))
            .map_err(|stopped| told(stopped, command))
    };
    let folder = go(start, folder)?;
    let place = go(Some(&folder), name)?;
    fit(&place, mounts)?;
    Ok(Found { place, typed: Some((folder, name.to_vec())) })
}

fn fit(place: &Place, mounts: &Mounts) -> Result<(), NotMeasured> {
    let system = |errno| NotMeasured::system("looking at", &place.path, errno);
    if place.facts.kind() != FileType::RegularFile {
        return Err(NotMeasured::unfit(&place.path, Unfit::NoRegularFile));
    }
    let mount = mounts.of(place.facts.mount).map_err(system)?.unwrap_or_default();
    if !mount.holds_programs() {
        return Err(NotMeasured::FileSystem { path: place.path.clone(), kind: mount.kind.clone() });
    }
    syscall::may_execute(place.file.as_fd()).map_err(|errno| match errno {
        Errno::ACCESS | Errno::PERM => NotMeasured::unfit(&place.path, Unfit::Denied),
        errno => system(errno),
    })
}

fn told(stopped: Stopped<NotMeasured>, command: &OsText) -> NotMeasured {
    match stopped {
        Stopped::Doubted(error) => error,
        Stopped::FileSystem { at, kind } => NotMeasured::FileSystem { path: at, kind },
        Stopped::System { errno, .. } if hides(errno) => NotMeasured::NotFound { command: command.clone() },
        Stopped::System { at, errno } => NotMeasured::system("looking at", &at, errno),
    }
}

/// Whether there is nothing, or nothing that the one who looks may see: they are not told which.
fn hides(errno: Errno) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::ACCESS, Errno::LOOP, Errno::NAMETOOLONG].contains(&errno)
}

/// Looks at files with the caller's rights, and takes back one's own whatever happens.
///
/// Only this thread, and only its access to files: other users can neither signal nor trace it meanwhile. The kernel clears
/// the thread's parent-death signal with each change.
pub(super) fn as_caller<T>(caller: &Caller, look: impl FnOnce() -> T) -> Result<T, Errno> {
    let rights = own_rights()?;
    let taken_back = TakenBack(rights);
    take_on(caller)?;
    let found = look();
    drop(taken_back);
    Ok(found)
}

/// Those that every thread of this process has, but for as long as it looks at files for a caller.
fn own_rights() -> Result<&'static Rights, Errno> {
    static OWN: OnceLock<Rights> = OnceLock::new();
    match OWN.get() {
        Some(own) => Ok(own),
        None => Rights::of_this_thread().map(|own| OWN.get_or_init(|| own)),
    }
}

/// What decides which files a thread may reach.
#[derive(Debug, PartialEq, Eq)]
struct Rights {
    user: u32,
    group: u32,
    groups: Vec<Gid>,
    capabilities: CapabilitySet,
}

impl Rights {
    fn of_this_thread() -> Result<Self, Errno> {
        let mut groups = rustix::process::getgroups()?;
        groups.sort_unstable_by_key(|group| group.as_raw());
        Ok(Self {
            user: syscall::set_file_system_user(u32::MAX),
            group: syscall::set_file_system_group(u32::MAX),
            groups,
            capabilities: rustix::thread::capabilities(None)?.effective,
        })
    }
}

/// Takes the rights back when it goes, and ends the process where it cannot: a root process that acts with a user's rights
/// is a puzzle, a thread that keeps root's where a user's were meant is a hole.
struct TakenBack<'a>(&'a Rights);

impl Drop for TakenBack<'_> {
    fn drop(&mut self) {
        // The user first: with root's come back the rights to set the others.
        syscall::set_file_system_user(self.0.user);
        syscall::set_file_system_group(self.0.group);
        let set = rustix::thread::set_thread_groups(&self.0.groups);
        if set.is_err() || Rights::of_this_thread().ok().as_ref() != Some(self.0) {
            let _ = writeln!(
                io::stderr(),
                "cannot take back the elevator's own rights after looking for a file; ending"
            );
            std::process::abort();
        }
    }
}

fn take_on(caller: &Caller) -> Result<(), Errno> {
    let (user, group) = (caller.user.uid, caller.gid);
    if user == u32::MAX || group == u32::MAX || caller.groups.contains(&u32::MAX) {
        return Err(Errno::INVAL);
    }
    let mut groups: Vec<Gid> = caller.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    groups.sort_unstable_by_key(|group| group.as_raw());
    rustix::thread::set_thread_groups(&groups)?;
    syscall::set_file_system_group(group);
    syscall::set_file_system_user(user);
    let now = Rights::of_this_thread()?;
    let reaches_all =
        now.capabilities.intersects(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    if now.user != user || now.group != group || now.groups != groups || (user != 0 && reaches_all) {
        return Err(Errno::PERM);
    }
    Ok(())
}
