//! Where a program may start no other: it asks here about each execution, and is let do the first, which is its own start.
//! Whatever it makes of its descriptors or its memory after that, it is asked for again, and refused (`seccomp_unotify(2)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::Session;
use crate::launch::child::Word;
use crate::syscall;

impl Session {
    /// Lets the program that is about to start do so. Only its process holds the other end yet, and has one thread: what asks
    /// first is what we made it ask.
    fn admit(&mut self, asks: Option<OwnedFd>) {
        let Some(asks) = asks else {
            return self.give_up("nothing came to admit its start by");
        };
        let Some(program) = &self.program else { return };
        let admitted = match asks_first(asks.as_fd(), program.first_line()) {
            Ok(true) => syscall::call_asked_about(asks.as_fd())
                .and_then(|call| syscall::answer_call(asks.as_fd(), call, true)),
            // It ended in place of asking: its next word says why, or its end.
            Ok(false) => return,
            Err(error) => Err(error),
        };
        match admitted {
            Ok(()) => self.asks = Some(asks),
            Err(error) => self.give_up(&format!("its start could not be admitted: {error}")),
        }
    }

    /// Refuses what is asked for now.
    pub(super) fn refuse(&mut self) {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        while let Some(asks) = &self.asks {
            match is_asking(asks.as_fd(), &at_once) {
                // Whoever asked may have been killed meanwhile: then there is nobody to tell.
                Ok(true) => drop(
                    syscall::call_asked_about(asks.as_fd())
                        .and_then(|call| syscall::answer_call(asks.as_fd(), call, false)),
                ),
                Ok(false) => self.asks = None,
                Err(_) => return,
            }
        }
    }

    /// The first word about the program, after it was admitted where it has to be.
    pub(super) fn first_word(&mut self) -> Option<Word> {
        loop {
            let (word, asks) = self.program.as_mut()?.first_word()?;
            match word {
                Word::Asks if self.asks.is_none() => self.admit(asks),
                word => return Some(word),
            }
        }
    }
}

/// Waits until something asks, or there is more to hear of the program or no more to come: before Linux 6.11 nothing else tells that
/// whoever could have asked has ended, as long as they are not taken in. Whether something asks.
fn asks_first(asks: BorrowedFd<'_>, line: BorrowedFd<'_>) -> io::Result<bool> {
    let mut ready =
        [PollFd::from_borrowed_fd(asks, PollFlags::IN), PollFd::from_borrowed_fd(line, PollFlags::IN)];
    loop {
        match poll(&mut ready, None) {
            Err(Errno::INTR) => {}
            polled => {
                polled?;
                let [asks, _] = ready;
                return Ok(asks.revents().contains(PollFlags::IN));
            }
        }
    }
}

/// Whether something waits for an answer; no more when all who could ask have ended. An error is that nothing came in time.
fn is_asking(asks: BorrowedFd<'_>, within: &Timespec) -> io::Result<bool> {
    let mut ready = [PollFd::from_borrowed_fd(asks, PollFlags::IN)];
    match poll(&mut ready, Some(within)) {
        Err(Errno::INTR) => return Err(io::ErrorKind::Interrupted.into()),
        polled if polled? == 0 => return Err(io::ErrorKind::TimedOut.into()),
        _ => {}
    }
    let [asks] = ready;
    Ok(asks.revents().contains(PollFlags::IN))
}
