//! The program as its session has it: a child of its own or, where it has a terminal or namespaces of its own, its monitor's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use elevon_policy::time::Span;
use elevon_wire::frame::Frame;
use rustix::process::{Pid, WaitOptions, wait};
use rustix::termios::isatty;

use crate::launch::child::Word;
use crate::launch::{Given, Plan, containment, limits, terminal, view};
use crate::starter::{Starter, ToMonitor};
use crate::syscall;

/// The program, by who tells of it.
pub(super) enum Program {
    /// The kernel: its starter becomes it.
    Own(Starter),
    /// A monitor, which that becomes.
    Monitored(Starter),
}

/// What was made before there was a launch: a starter, in a cgroup where there is one.
pub(super) struct Ahead {
    starter: Option<Starter>,
    cgroup: Option<PathBuf>,
}

/// A program that is about to start, and this end of its terminal where it has one.
pub(super) struct Begun {
    pub(super) program: Program,
    pub(super) master: Option<OwnedFd>,
}

impl Ahead {
    /// In this cgroup from its first instruction on, and so is whatever it forks.
    pub(super) fn make(cgroup: Option<PathBuf>) -> io::Result<Self> {
        let folder = cgroup.as_ref().map(File::open).transpose()?;
        let fork = || folder.as_ref().map_or_else(syscall::fork, |folder| syscall::fork_into(folder.as_fd()));
        // Without one it is forked when the launch is known.
        Ok(Self { starter: Starter::make(fork).ok(), cgroup })
    }

    /// There is no launch: leaves nothing behind.
    pub(super) fn dismiss(self) {
        drop(self.starter);
        while wait(WaitOptions::empty()).is_ok() {}
        if let Some(cgroup) = &self.cgroup {
            containment::remove_cgroup(cgroup);
        }
        containment::forget_cgroups();
    }

    /// The starter of this launch: the one that waits where it is of use, or another.
    fn starter_of(self, plan: &Plan) -> io::Result<Starter> {
        let fits = plan.fits_ahead(self.cgroup.as_deref());
        if let Some(starter) = self.starter.filter(|starter| fits && !starter.is_gone()) {
            return Ok(starter);
        }
        // The other was let go, and ends.
        if let Some(cgroup) = self.cgroup.filter(|cgroup| plan.cgroup.as_ref() != Some(cgroup)) {
            containment::wait_until_empty(&cgroup, Span::from_secs(1))?;
            containment::remove_cgroup(&cgroup);
        }
        let folder = plan.cgroup.as_ref().map(File::open).transpose()?;
        Starter::make(|| match (plan.inside.is_some(), &folder) {
            (true, folder) => syscall::fork_apart(folder.as_ref().map(AsFd::as_fd)),
            (false, Some(folder)) => syscall::fork_into(folder.as_fd()),
            (false, None) => syscall::fork(),
        })
    }
}

impl Begun {
    /// Makes the terminal, and has a starter hear of the launch.
    pub(super) fn make(plan: &Plan, mut given: Given, ahead: Ahead) -> io::Result<Self> {
        let starter = ahead.starter_of(plan)?;
        let terminals = plan.inside.as_ref().map(|_| view::terminals()).transpose()?;
        let terminals = terminals.as_ref().map(AsFd::as_fd);
        let terminal = terminal::for_launch(&given.standard, plan.window, terminals)?;
        for fd in &mut given.standard {
            match &terminal {
                // The program has its own in place of its user's.
                Some(terminal) if isatty(&*fd) => *fd = terminal.slave.try_clone()?,
                _ if plan.inside.is_some() => *fd = view::handed_over(fd.as_fd())?,
                _ => {}
            }
        }
        // It has started nothing yet.
        for cgroup in &plan.limits {
            limits::enter(cgroup, starter.process.as_raw_nonzero().get())?;
        }
        let slave = terminal.as_ref().map(|terminal| terminal.slave.as_fd());
        starter.begin(plan, &given, terminals, slave).map_err(io::Error::other)?;
        let program = match plan.inside.is_some() || slave.is_some() {
            true => Program::Monitored(starter),
            false => Program::Own(starter),
        };
        Ok(Self { program, master: terminal.map(|terminal| terminal.master) })
    }
}

impl Program {
    /// Waits for the first word about it, and gives what came along.
    pub(super) fn first_word(&mut self) -> Option<(Word, Option<OwnedFd>)> {
        let (word, line) = match self {
            Self::Own(starter) => (Word::first(&mut starter.line), &mut starter.line),
            Self::Monitored(monitor) => (monitor.line.receive(), &mut monitor.line),
        };
        Some((word.ok()?, line.take_descriptors().pop()))
    }

    /// Its process, where that is a child of this one.
    pub(super) fn own(&self) -> Option<Pid> {
        match self {
            Self::Own(starter) => Some(starter.process),
            Self::Monitored(_) => None,
        }
    }

    /// Its monitor, where it has one.
    pub(super) fn monitor(&mut self) -> Option<&mut Starter> {
        match self {
            Self::Own(_) => None,
            Self::Monitored(monitor) => Some(monitor),
        }
    }

    /// Where what comes first is said.
    pub(super) fn first_line(&self) -> BorrowedFd<'_> {
        let (Self::Own(starter) | Self::Monitored(starter)) = self;
        starter.line.socket()
    }

    /// Where there is more to hear of it.
    pub(super) fn line(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Own(_) => None,
            Self::Monitored(monitor) => Some(monitor.line.socket()),
        }
    }

    /// Passes a signal on to its process group. It may have ended meanwhile.
    pub(super) fn pass_on(&self, signal: i32) {
        match self {
            Self::Own(starter) => drop(syscall::signal_group(starter.process, signal)),
            Self::Monitored(monitor) => tell(monitor, ToMonitor::Signal(signal)),
        }
    }

    /// It was brought to the front: it goes on, with the terminal where it has one.
    pub(super) fn go_on(&self) {
        match self {
            Self::Own(_) => self.pass_on(libc::SIGCONT),
            Self::Monitored(monitor) => tell(monitor, ToMonitor::Continue),
        }
    }
}

/// Without waiting, or the two could wait for each other. One that has not heard those before has enough to do, and as with the
/// kernel's own signals none are queued; one that is gone is heard of in the session's loop.
fn tell(monitor: &Starter, message: ToMonitor) {
    let _ = monitor.line.send_some(&Frame::message(&message).encode());
}
