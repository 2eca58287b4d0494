//! An own terminal for each launch that has one: the elevated side never holds the user's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use elevon_wire::conversation::WindowSize;
use rustix::fs::{FileType, Mode, OFlags, fchmod, fcntl_getfl, fcntl_setfl, fstat, openat};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Winsize, isatty, tcgetattr, tcsetattr, tcsetwinsize};

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// The session's end; does not block.
    pub(crate) master: OwnedFd,
    /// The program's end.
    pub(crate) slave: OwnedFd,
}

/// A terminal set like the user's, where one of the standard descriptors is one; among the terminals of a contained program,
/// where it is one.
pub(crate) fn for_launch(
    standard: &[OwnedFd; 3],
    window: Option<WindowSize>,
    terminals: Option<BorrowedFd<'_>>,
) -> io::Result<Option<Terminal>> {
    let Some(users) = standard.iter().find(|fd| isatty(fd)) else {
        return Ok(None);
    };
    let master = match terminals {
        Some(terminals) => {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            openat(terminals, "ptmx", flags, Mode::empty())?
        }
        None => openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?,
    };
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    // devpts makes it writable by the group tty: messages of other users have no place on it.
    fchmod(&slave, Mode::RUSR | Mode::WUSR)?;
    if let Ok(modes) = tcgetattr(users) {
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
    }
    if let Some(window) = window {
        resize(master.as_fd(), window)?;
    }
    fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
    Ok(Some(Terminal { master, slave }))
}

/// Whether a program gets its terminal at once. One that reads from a terminal and writes into a pipe stands at the head of a
/// pipeline, whose end (a pager) may want the terminal: it gets its own when it first reads from it.
pub(crate) fn starts_in_front(standard: &[OwnedFd; 3]) -> bool {
    let [input, output, _] = standard;
    let pipe = fstat(output).is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Fifo);
    !isatty(input) || !pipe
}

/// Tells a terminal its size; the kernel tells its foreground processes.
pub(crate) fn resize(master: BorrowedFd<'_>, window: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master, size)?)
}
