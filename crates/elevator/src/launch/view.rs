//! What a contained program sees, in mount and PID namespaces of its own: everything read-only but the folders it may write
//! to and a /tmp of its own; no service sockets, no devices but the harmless ones, no processes but its own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use elevon_policy::text::OsText;
use rustix::fs::{
    AtFlags, CWD, FileType, FsWord, Mode, OFlags, RawMode, ResolveFlags, SeekFrom, Stat, fcntl_getfl, fstat,
    fstatfs, major, minor, mkdirat, openat, openat2, readlink, seek, statat, symlinkat,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
};
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;
use rustix::termios::isatty;
use serde::{Deserialize, Serialize};

use super::step::{Doing, Failed};
use crate::syscall;

/// What is to be seen, found out before the launch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Inside {
    /// The working directory's path.
    pub(crate) directory: OsText,
    /// The path of what is executed; none for a sealed copy, which is nowhere.
    pub(crate) program: Option<OsText>,
    /// The folders that may be written to.
    pub(crate) folders: Vec<Folder>,
}

/// A folder, and which one it was when its path was believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folder {
    /// Its path, without links.
    pub(crate) path: OsText,
    /// The device it is on.
    pub(crate) device: u64,
    /// Its number there.
    pub(crate) inode: u64,
}

/// What was made ready inside: everything leads to the mounts that the program sees, and none outside.
#[derive(Debug)]
pub(crate) struct View {
    /// The working directory.
    pub(crate) directory: OwnedFd,
    /// What is executed, where it is no sealed copy.
    pub(crate) program: Option<OwnedFd>,
    /// Where it may write: the listed folders, and its /tmp.
    pub(crate) writable: Vec<OwnedFd>,
    /// Its /dev.
    pub(crate) devices: OwnedFd,
}

/// The devices that are left.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Those of them that are no terminals, by their numbers (`Documentation/admin-guide/devices.txt`).
const HARMLESS: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// Names that programs expect in /dev.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The file system of pipes that have no name (`linux/magic.h`).
const PIPES: FsWord = 0x5049_5045;

/// Services run under the accounts below this one; sockets of people's programs are no services.
const FIRST_PERSON: u32 = 1000;

/// More sockets outside of /run than a computer has.
const MOST_SOCKETS: usize = 1024;

const QUIET: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Makes the view, in the first process of the new namespaces. What it takes to be hidden is hidden from it, too.
pub(crate) fn make(
    inside: &Inside,
    directory: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    terminals: BorrowedFd<'_>,
) -> Result<View, Failed> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .during("part from the mounts outside")?;
    let folders = inside.folders.iter().map(writable).collect::<Result<Vec<_>, _>>()?;
    let devices = DEVICES.iter().map(|name| device(name)).collect::<io::Result<Vec<_>>>();
    let devices = devices.during("keep the harmless devices")?;
    let sockets = sockets().during("look for service sockets")?;
    let root =
        openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).during("open the root folder")?;
    let still = u64::from((QUIET | MountAttrFlags::MOUNT_ATTR_RDONLY).bits());
    syscall::add_to_mount(root.as_fd(), still, true).during("make everything read-only")?;
    let program =
        inside.program.as_ref().map(|path| same(path, program, OFlags::RDONLY, "find the program again"));
    let program = program.transpose()?;
    for socket in sockets {
        let nothing = copy_of("/dev/null").during("hide a service socket")?;
        attach_at(&nothing, &socket).during("hide a service socket")?;
    }
    let mut writable = Vec::new();
    for (mount, place) in folders {
        attach_at(&mount, &place).during("attach a folder that may be written to")?;
        writable.push(place);
    }
    cover_run().during("hide the service sockets in /run")?;
    let own = file_system("tmpfs", &[("mode", "1777"), ("size", "512m"), ("nr_inodes", "65536")], QUIET);
    let own = own.and_then(|own| attach(&own, "/tmp").map(|()| own)).during("make a /tmp of its own")?;
    writable.push(own);
    let devices = cover_devices(&devices, terminals).during("hide the devices")?;
    let quiet = QUIET | MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    file_system("proc", &[], quiet)
        .and_then(|own| attach(&own, "/proc"))
        .during("make a /proc of its own")?;
    let directory = same(
        &inside.directory,
        directory,
        OFlags::PATH | OFlags::DIRECTORY,
        "enter the working directory, which must be none of /tmp, /run or /dev",
    )?;
    Ok(View { directory, program, writable, devices })
}

/// Every terminal that is made inside is one of these, and they are of nobody else.
pub(crate) fn terminals() -> io::Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    file_system("devpts", &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0600")], attributes)
}

/// A standard descriptor as a contained program may have it. Through a folder, the whole tree outside could be reached; what its
/// user could only read, and a device that is everybody's, must not be changed through it, not even its mode; a ring of system
/// calls, or a pipe with a name, is more than it looks.
pub(crate) fn handed_over(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let refused = |told: &str| {
        Err(io::Error::other(format!(
            "standard input, output and error of a contained program may be {told}"
        )))
    };
    let flags = fcntl_getfl(fd)?;
    let facts = fstat(fd)?;
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::Directory => refused("no folders"),
        _ if flags.contains(OFlags::PATH) => refused("no folders, nor anything that is not open"),
        FileType::RegularFile if flags.intersects(OFlags::WRONLY | OFlags::RDWR) => fd.try_clone_to_owned(),
        FileType::RegularFile => {
            let again = reopened(fd, OFlags::RDONLY, QUIET)?;
            seek(&again, SeekFrom::Start(seek(fd, SeekFrom::Current(0))?))?;
            Ok(again)
        }
        // The session puts the program's own in its place.
        FileType::CharacterDevice if isatty(fd) => fd.try_clone_to_owned(),
        FileType::CharacterDevice if HARMLESS.contains(&(major(facts.st_rdev), minor(facts.st_rdev))) => {
            reopened(fd, flags & OFlags::RWMODE, MountAttrFlags::MOUNT_ATTR_NOSUID)
        }
        // Whoever holds the other end could hand in descriptors through it.
        FileType::Socket if socket_domain(fd)? == AddressFamily::UNIX => {
            refused("no sockets of this computer; pass it through a pipe: … | cat")
        }
        FileType::Socket => fd.try_clone_to_owned(),
        FileType::Fifo if fstatfs(fd)?.f_type == PIPES => fd.try_clone_to_owned(),
        _ => refused(
            "files, pipes without a name, terminals, connections and /dev/null; pass it through a pipe: … | cat",
        ),
    }
}

/// The same, on a copy of its mount that is read-only: its content may be written to only where it is a device.
fn reopened(fd: BorrowedFd<'_>, access: OFlags, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let Ok(tree) = open_tree(fd, "", flags) else {
        return Err(io::Error::other("what it was handed is mounted nowhere here; pass it through a pipe"));
    };
    syscall::add_to_mount(
        tree.as_fd(),
        u64::from((attributes | MountAttrFlags::MOUNT_ATTR_RDONLY).bits()),
        false,
    )?;
    Ok(openat(CWD, handle(&tree), access | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?)
}

/// A copy of the folder's mount, as it is now, and the place it goes to.
fn writable(folder: &Folder) -> Result<(OwnedFd, OwnedFd), Failed> {
    let doing = "open a folder that may be written to, which must be the one that was looked at";
    let place = open_plain(&folder.path, OFlags::PATH | OFlags::DIRECTORY).during(doing)?;
    let found = fstat(&place).during(doing)?;
    if (found.st_dev, found.st_ino) != (folder.device, folder.inode) {
        return Err(io::Error::from(rustix::io::Errno::STALE)).during(doing);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = open_tree(&place, "", flags).during(doing)?;
    syscall::add_to_mount(mount.as_fd(), u64::from(QUIET.bits()), true).during(doing)?;
    Ok((mount, place))
}

/// What a path leads to inside, which must be what is held from outside.
fn same(path: &OsText, held: BorrowedFd<'_>, flags: OFlags, doing: &'static str) -> Result<OwnedFd, Failed> {
    let found = open_plain(path, flags).during(doing)?;
    let identity = |facts: Stat| (facts.st_dev, facts.st_ino);
    let (inside, outside) = (fstat(&found).during(doing)?, fstat(held).during(doing)?);
    match identity(inside) == identity(outside) {
        true => Ok(found),
        false => Err(io::Error::from(rustix::io::Errno::STALE)).during(doing),
    }
}

/// Without following any link.
fn open_plain(path: &OsText, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, path.as_bytes(), flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Sockets with a name on a file system, of services, that no cover will hide.
fn sockets() -> io::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    // Nothing before a path has a slash in it; a path may hold anything but the end of a line.
    for line in std::fs::read("/proc/net/unix")?.split(|byte| *byte == b'\n') {
        let Some(path) = line.iter().position(|byte| *byte == b'/').and_then(|at| line.get(at..)) else {
            continue;
        };
        if [&b"/run/"[..], b"/tmp/", b"/dev/", b"/proc/"].iter().any(|covered| path.starts_with(covered)) {
            continue;
        }
        // What is gone, or was bound elsewhere, is not there to be reached.
        let Ok(place) = open_plain(&OsText::new(path), OFlags::PATH) else { continue };
        let facts = fstat(&place)?;
        if FileType::from_raw_mode(facts.st_mode) == FileType::Socket && facts.st_uid < FIRST_PERSON {
            found.push(place);
        }
    }
    if found.len() > MOST_SOCKETS {
        return Err(io::Error::other("there are more of them than can be hidden"));
    }
    Ok(found)
}

/// An empty /run, with nothing but how names are resolved, which is not limited.
fn cover_run() -> io::Result<()> {
    let resolver = std::fs::canonicalize("/etc/resolv.conf").ok().filter(|path| path.starts_with("/run"));
    let content = resolver.as_ref().map(|path| read_small(path)).transpose()?;
    let cover = || file_system("tmpfs", &[("mode", "0755"), ("size", "1m"), ("nr_inodes", "64")], QUIET);
    let run = cover()?;
    attach(&run, "/run")?;
    if let (Some(path), Some(content)) = (&resolver, content) {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/run")))?;
        std::fs::write(path, content)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    }
    let still = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    syscall::add_to_mount(run.as_fd(), still, false)?;
    // Where it is no link to /run, as it should be.
    let legacy = statat(CWD, "/var/run", AtFlags::SYMLINK_NOFOLLOW);
    if legacy.is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Directory) {
        let run = cover()?;
        attach(&run, "/var/run")?;
        syscall::add_to_mount(run.as_fd(), still, false)?;
    }
    Ok(())
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(64 << 10).read_to_end(&mut content)?;
    Ok(content)
}

/// A /dev of its own, in which nothing more can be made.
fn cover_devices(devices: &[OwnedFd], terminals: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let own = file_system("tmpfs", &[("mode", "0755"), ("size", "64k"), ("nr_inodes", "64")], quiet)?;
    let folder = RawMode::from(0o755_u16);
    mkdirat(&own, "pts", Mode::from_raw_mode(folder))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    for name in DEVICES {
        File::from(openat(&own, name, flags, Mode::from_raw_mode(0o666))?).flush()?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &own, name)?;
    }
    attach(&own, "/dev")?;
    for (name, device) in DEVICES.iter().zip(devices) {
        attach(device, &format!("/dev/{name}"))?;
    }
    attach(&terminals, "/dev/pts")?;
    syscall::add_to_mount(own.as_fd(), u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()), false)?;
    Ok(own)
}

/// A file system of its own, mounted nowhere yet.
fn file_system(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let made = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        match *value {
            "" => rustix::mount::fsconfig_set_flag(&made, *name)?,
            value => fsconfig_set_string(&made, *name, value)?,
        }
    }
    fsconfig_create(&made)?;
    Ok(fsmount(&made, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of the mount at a path, of that file alone.
fn copy_of(path: &str) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// One of the computer's own devices, which stays as it is: whoever writes to it does not write to the folder it lies in.
fn device(name: &str) -> io::Result<OwnedFd> {
    let device = copy_of(&format!("/dev/{name}"))?;
    syscall::add_to_mount(device.as_fd(), u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()), false)?;
    Ok(device)
}

fn attach(mount: &impl AsFd, path: &str) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn attach_at(mount: &impl AsFd, place: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", place, "", flags)?)
}

fn handle(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd))
}

/// Where a descriptor leads, as the kernel tells it now.
pub(crate) fn place_of(fd: BorrowedFd<'_>) -> io::Result<OsText> {
    let path = readlink(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)), Vec::new())?;
    Ok(OsText::new(path.into_bytes()))
}
