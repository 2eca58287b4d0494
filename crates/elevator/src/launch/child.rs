//! What is told of a program by the process that becomes it, and by those who watch over it.

use std::io;
use std::os::fd::OwnedFd;

use elevon_policy::event::Exit;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitStatus, setpgid};
use serde::{Deserialize, Serialize};

use super::step::NotStarted;
use crate::connection::{Connection, Lost};
use crate::syscall::{self, Fork};

/// No word is longer, of whatever a step that failed may tell.
pub(crate) const LIMIT: usize = 8 << 10;

/// What is told of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// It is about to be executed, and with this comes a descriptor on which it asks whether it may.
    Asks,
    /// It runs.
    Started,
    /// It was not started.
    NotStarted(NotStarted),
    /// It was stopped by this signal.
    Stopped(i32),
    /// It ended.
    Ended(Exit),
}

impl Word {
    /// What comes first on the line of a process that becomes a program: by becoming it, it closes that.
    pub(crate) fn first(line: &mut Connection) -> Result<Self, Lost> {
        match line.receive() {
            Err(Lost::Closed) => Ok(Self::Started),
            word => word,
        }
    }

    /// What the kernel says of it; nothing where it only goes on.
    pub(crate) fn of(status: WaitStatus) -> Option<Self> {
        let stopped = || status.stopping_signal().map(Self::Stopped);
        let exited = || status.exit_status().map(|code| Self::Ended(Exit::Code(code)));
        let killed = || status.terminating_signal().map(|signal| Self::Ended(Exit::Signal(signal)));
        stopped().or_else(exited).or_else(killed)
    }
}

/// The process of a program, and where it says what keeps it from becoming that.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number, and that of its group.
    pub(crate) process: Pid,
    /// From it; closed when it is the program.
    line: Connection,
}

impl Child {
    /// Forks one that becomes a program in this way, or says what kept it from that.
    pub(crate) fn fork(becomes: impl FnOnce(&Connection) -> NotStarted) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        match syscall::fork()? {
            Fork::Child => {
                drop(ours);
                let line = Connection::new(theirs, LIMIT, None);
                // Should this fail, too, the parent sees an end without a start.
                let _ = line.send(&Word::NotStarted(becomes(&line)));
                syscall::exit_now(126)
            }
            Fork::Parent(process) => {
                // The child does the same: whoever comes first.
                let _ = setpgid(Some(process), Some(process));
                Ok(Self { process, line: Connection::new(ours, LIMIT, None) })
            }
        }
    }

    /// Waits for what it says before it is the program, and for what comes along.
    pub(crate) fn first_word(&mut self) -> Result<(Word, Vec<OwnedFd>), Lost> {
        Ok((Word::first(&mut self.line)?, self.line.take_descriptors()))
    }
}
