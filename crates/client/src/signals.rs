//! Signals, taken as they come rather than in handlers: they are blocked and read from a descriptor. Their dispositions stay
//! as inherited, so that a stop signal, once let through, stops this process as it would any other.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What is taken: all that a terminal, a shell or another program may send to end, stop or tell something.
const TAKEN: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Signals of this process that wait to be read.
#[derive(Debug)]
pub(crate) struct Signals {
    taken: SigSet,
    descriptor: SignalFd,
}

impl Signals {
    /// Takes them from now on, until the end of the process. Those that were ignored when the process started stay ignored.
    pub(crate) fn take() -> io::Result<Self> {
        let ignored = ignored();
        let taken: SigSet = TAKEN.into_iter().filter(|signal| !ignored(*signal)).collect();
        taken.thread_block()?;
        let descriptor = SignalFd::with_flags(&taken, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { taken, descriptor })
    }

    /// The next one that came; `None` when none did.
    pub(crate) fn next(&self) -> io::Result<Option<Signal>> {
        let Some(came) = self.descriptor.read_signal()? else {
            return Ok(None);
        };
        let number = i32::try_from(came.ssi_signo).map_err(io::Error::other)?;
        Ok(Some(Signal::try_from(number)?))
    }

    /// Acts while signals do what they do to any process, as for a prompt that ^C should end.
    pub(crate) fn by_default<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        self.taken.thread_unblock()?;
        let done = act();
        self.taken.thread_block()?;
        Ok(done)
    }

    /// Stops the whole job, as ^Z would have; returns when it goes on. In an orphaned process group, where nobody could
    /// let it go on, the kernel does not stop it.
    pub(crate) fn stop(&self, signal: Signal) -> io::Result<()> {
        let only = SigSet::from(signal);
        nix::sys::signal::killpg(nix::unistd::getpgrp(), signal)?;
        let before = only.thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
        before.thread_set_mask()?;
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Which signals this process was started to ignore (`nohup`, a shell without job control).
fn ignored() -> impl Fn(Signal) -> bool {
    // With room for all of it: a library that has no size to go by would feel its way.
    let mut status = String::with_capacity(4096);
    // What cannot be read is taken for nothing ignored.
    let _ = File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut status));
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    move |signal| mask >> (signal as i32 - 1) & 1 == 1
}
