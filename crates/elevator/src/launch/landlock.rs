//! Landlock: what a contained program may write to, and that it reaches nobody outside (`linux/landlock.h`). Three system
//! calls, written out in [`syscall`]: the crate of the same name would bring five more into a process that is root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::syscall;

/// The first version that keeps signals and abstract sockets inside.
pub(crate) const LEAST: u32 = 6;

const WRITE_FILE: u64 = 1 << 1;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// What is done in a folder that may be written to: all but making devices.
const WRITES: u64 = WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE;
/// What is done with the few devices that are left.
const USES: u64 = WRITE_FILE | IOCTL_DEV;
/// Whatever changes something; reading and executing are not looked at.
const HANDLED: u64 = WRITES | MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV;

/// Abstract sockets, signals.
const SCOPED: u64 = 1 << 0 | 1 << 1;

/// The version in the kernel, if it is new enough.
pub(crate) fn version() -> Option<u32> {
    syscall::landlock_version().ok().filter(|version| *version >= LEAST)
}

/// Puts this process under the rules for good: it changes nothing but below these folders, and uses these devices.
pub(crate) fn restrict<'a>(
    folders: impl IntoIterator<Item = BorrowedFd<'a>>,
    devices: BorrowedFd<'_>,
) -> io::Result<()> {
    if version().is_none() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let rules = syscall::landlock_rules(HANDLED, SCOPED)?;
    for folder in folders {
        syscall::landlock_allow(rules.as_fd(), folder, WRITES)?;
    }
    syscall::landlock_allow(rules.as_fd(), devices, USES)?;
    syscall::landlock_restrict(rules.as_fd())
}
