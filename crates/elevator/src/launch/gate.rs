//! What a program that is ready waits at until its launch is on record: so the disk is written to while the rest is made ready.
//! Nobody else holds the elevator's end, so that nothing starts where the elevator is gone.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use elevon_policy::time::Span;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::Timespec;

use crate::clock::Uptime;

/// The elevator's end. Let go without being opened, the launch is called off.
#[derive(Debug)]
pub(crate) struct Gate(OwnedFd);

/// A gate, and the end that the program waits at.
pub(crate) fn make() -> io::Result<(Gate, OwnedFd)> {
    let (waits, opens) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Gate(opens), waits))
}

impl Gate {
    /// Lets the program start.
    pub(crate) fn open(self) -> io::Result<()> {
        loop {
            match rustix::io::write(&self.0, b"!") {
                Err(Errno::INTR) => {}
                written => return Ok(written.map(drop)?),
            }
        }
    }
}

/// Waits until the gate is opened, or the launch is called off, or until then, when nothing may start any more. Whether it was
/// opened.
pub(crate) fn is_opened(waits: BorrowedFd<'_>, by: Uptime) -> io::Result<bool> {
    loop {
        let left = by.left();
        if left == Span::ZERO {
            return Ok(false);
        }
        let limit = Timespec::try_from(left.std()).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(waits, PollFlags::IN)], Some(&limit)) {
            Ok(0) | Err(Errno::INTR) => {}
            polled => {
                polled?;
                // Whoever waits may have been stopped meanwhile, by its user if it is their process.
                return Ok(rustix::io::read(waits, &mut [0])? == 1 && by.left() > Span::ZERO);
            }
        }
    }
}
