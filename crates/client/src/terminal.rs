//! The user's own terminal: raw while the application has one of its own, and as it was again, whatever happens.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use elevon_wire::conversation::WindowSize;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::termios::{OptionalActions, OutputModes, Termios};

/// The user's terminal, as far as standard input, output and error lead to it.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Read from; none when standard input is something else.
    input: Option<OwnedFd>,
    /// Written to.
    output: OwnedFd,
    /// Whether the other end of a pipeline writes to this terminal too, and counts on line ends being translated.
    shared: bool,
    /// Whether the application wants to read it. At the head of a pipeline it may never: until it does, the other end (a
    /// pager) has the terminal to itself.
    wanted: bool,
    /// What it was like before it went into raw mode; none while it is not raw.
    before: Option<Termios>,
}

impl Terminal {
    /// Finds the terminal that the elevator relays to.
    pub(crate) fn open() -> io::Result<Self> {
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let own_input = input.is_terminal().then(|| reopen(input.as_fd())).transpose()?;
        let own_output = if output.is_terminal() {
            reopen(output.as_fd())?
        } else if error.is_terminal() {
            reopen(error.as_fd())?
        } else {
            OwnedFd::from(File::options().write(true).open("/dev/tty")?)
        };
        let facts = rustix::fs::fstat(&output)?;
        let pipeline = FileType::from_raw_mode(facts.st_mode) == FileType::Fifo;
        let shared = !output.is_terminal();
        Ok(Self { input: own_input, output: own_output, shared, wanted: !pipeline, before: None })
    }

    /// Where to read what the user types; none when standard input is no terminal, or this job is not in front.
    pub(crate) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().filter(|_| self.is_raw()).map(AsFd::as_fd)
    }

    /// Where the application's bytes go.
    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Its size.
    pub(crate) fn size(&self) -> Option<WindowSize> {
        let size = rustix::termios::tcgetwinsize(&self.output).ok()?;
        Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
    }

    /// Whether it is in raw mode.
    pub(crate) fn is_raw(&self) -> bool {
        self.before.is_some()
    }

    /// Whether it would be read from, were this job in front.
    pub(crate) fn is_behind(&self) -> bool {
        self.input.is_some() && self.wanted && !self.is_raw()
    }

    /// The application tried to read it.
    pub(crate) fn note_it_is_wanted(&mut self) {
        self.wanted = true;
    }

    /// Whether this job is the one that may read the terminal and change its modes.
    pub(crate) fn is_in_front(&self) -> bool {
        is_in_front(&self.output)
    }

    /// Into raw mode, if the application wants to read the terminal and this job is in front; otherwise nothing changes.
    pub(crate) fn enter_raw(&mut self) -> io::Result<()> {
        let Some(input) = self.input.as_ref().filter(|_| self.wanted && self.is_in_front()) else {
            // A shell that took the terminal from us has seen to its modes itself.
            self.before = None;
            return Ok(());
        };
        // Stopped from outside while raw, and going on: what to restore is still what it was before the first time.
        let before = match &self.before {
            Some(before) => before.clone(),
            None => rustix::termios::tcgetattr(input)?,
        };
        let mut raw = before.clone();
        raw.make_raw();
        if self.shared {
            raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
        }
        // What was typed ahead stays: it is meant for the application.
        change(input.as_fd(), &raw)?;
        self.before = Some(before);
        Ok(())
    }

    /// As it was before raw mode. In the background it is another job's to set, and left alone.
    pub(crate) fn restore(&mut self) {
        let (Some(before), Some(input)) = (self.before.take(), self.input.as_ref()) else {
            return;
        };
        if self.is_in_front() {
            // Fails only where the terminal is gone, and then there is nothing to restore.
            let _ = change(input.as_fd(), &before);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Whether this job is in front at a terminal. One that is not the controlling terminal knows no jobs.
pub(crate) fn is_in_front(terminal: impl AsFd) -> bool {
    // Not rustix's calls: they take a group outside of this PID namespace, which is 0, for impossible.
    match nix::unistd::tcgetpgrp(terminal) {
        Ok(front) => front == nix::unistd::getpgrp(),
        Err(_) => true,
    }
}

/// Changes the modes at once: waiting for output to drain would hang on a terminal that is held with ^S.
fn change(terminal: BorrowedFd<'_>, modes: &Termios) -> io::Result<()> {
    // Should this job have lost the front just now, it must not be stopped half-way.
    let mask = SigSet::from(Signal::SIGTTOU).thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let changed = rustix::termios::tcsetattr(terminal, OptionalActions::Now, modes);
    mask.thread_set_mask()?;
    Ok(changed?)
}

/// Opens the same terminal anew, so that not waiting on it is this process's affair alone: the flag belongs to the open
/// file, which is shared with the shell. Where it may not be opened (after `su`), the descriptor itself must do.
fn reopen(terminal: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = rustix::termios::ttyname(terminal, Vec::new());
    match path.and_then(|path| rustix::fs::openat(CWD, path, flags, Mode::empty())) {
        Ok(own) => Ok(own),
        Err(_) => terminal.try_clone_to_owned(),
    }
}
