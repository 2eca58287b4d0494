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
/// opened; an error where that was seen too late, by one who was stopped meanwhile.
pub(crate) fn is_opened(waits: BorrowedFd<'_>, by: Uptime) -> io::Result<bool> {
    loop {
        let left = by.left();
        let limit = Timespec::try_from(left.std()).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(waits, PollFlags::IN)], Some(&limit)) {
            Ok(0) if left == Span::ZERO => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            polled => {
                polled?;
                let opened = rustix::io::read(waits, &mut [0])? == 1;
                return if opened && by.left() == Span::ZERO {
                    Err(io::ErrorKind::TimedOut.into())
                } else {
                    Ok(opened)
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn it_is_opened_in_time_or_not_at_all() {
        let later = || Uptime::now().after(Span::from_secs(10));
        let (gate, waits) = make().expect("a gate");
        assert!(!is_opened(waits.as_fd(), Uptime::now()).expect("waited"), "nobody opened it");
        gate.open().expect("opened");
        assert!(is_opened(waits.as_fd(), later()).expect("waited"));
        let (gate, waits) = make().expect("a gate");
        drop(gate);
        assert!(!is_opened(waits.as_fd(), later()).expect("waited"), "it was let go");
        let (gate, waits) = make().expect("a gate");
        gate.open().expect("opened");
        let late = is_opened(waits.as_fd(), Uptime::now()).expect_err("it is too late");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }
}
