//! The last steps of a forked child: from the plan to the program.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use elevon_policy::lists::RunsAs;
use elevon_policy::text::OsText;
use rustix::fs::Mode;
use rustix::process::{Pid, fchdir, setpgid, umask};
use rustix::termios::tcsetpgrp;

use super::{Plan, ProgramKind, credentials, environment};
use crate::syscall;

/// What a program is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// The working directory.
    pub(crate) directory: BorrowedFd<'a>,
    /// Standard input, output and error.
    pub(crate) standard: [BorrowedFd<'a>; 3],
    /// The terminal in whose front it starts.
    pub(crate) terminal: Option<BorrowedFd<'a>>,
    /// What is executed.
    pub(crate) program: BorrowedFd<'a>,
    /// The sealed copy of a script.
    pub(crate) script: Option<BorrowedFd<'a>>,
}

/// Becomes the program; returns only the reason why not. Every step is fatal to the start.
pub(crate) fn become_program(start: &Start<'_>) -> io::Error {
    match prepare(start) {
        Err(error) => error,
        Ok(argv) => syscall::execute(start.program, &argv, &environment::build(start.plan)),
    }
}

fn prepare(start: &Start<'_>) -> io::Result<Vec<CString>> {
    let own: Option<Pid> = None;
    setpgid(own, own)?;
    if let Some(terminal) = start.terminal {
        // SIGTTOU is ignored until the signals are reset, so this does not stop the process.
        tcsetpgrp(terminal, rustix::process::getpid())?;
    }
    fchdir(start.directory)?;
    umask(Mode::from_raw_mode(start.plan.umask & 0o777));
    credentials::take_on(RunsAs::Root)?;
    let mut safe: Vec<OwnedFd> = Vec::new();
    for fd in start.standard {
        // Out of the way of 0, 1 and 2, whatever number they have now.
        safe.push(rustix::io::fcntl_dupfd_cloexec(fd, 10)?);
    }
    for (fd, number) in safe.iter().zip(0..) {
        syscall::place(fd.as_fd(), number)?;
    }
    syscall::close_on_exec_from(3)?;
    let argv = argv(start)?;
    syscall::reset_signals();
    Ok(argv)
}

fn argv(start: &Start<'_>) -> io::Result<Vec<CString>> {
    let given = start.plan.argv.iter();
    let vector: Vec<OsText> = match &start.plan.program {
        ProgramKind::Binary => given.cloned().collect(),
        ProgramKind::Script { interpreter, argument, path } => {
            let script = match (path, start.script) {
                (Some(path), _) => path.clone(),
                (None, Some(sealed)) => {
                    let number = syscall::keep_open(sealed, 3)?;
                    OsText::from(format!("/proc/self/fd/{number}").as_str())
                }
                (None, None) => return Err(io::Error::other("neither path nor copy of the script arrived")),
            };
            let first = std::iter::once(interpreter.clone()).chain(argument.clone()).chain([script]);
            first.chain(given.skip(1).cloned()).collect()
        }
    };
    let strings: Result<Vec<CString>, NulError> =
        vector.iter().map(|argument| CString::new(argument.as_bytes())).collect();
    Ok(strings?)
}

/// What executing failed with, as a number for the pipe.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
