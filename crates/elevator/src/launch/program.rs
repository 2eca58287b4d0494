//! The last steps of a forked child: from the plan to the program.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use elevon_policy::text::OsText;
use rustix::fs::Mode;
use rustix::process::{Pid, fchdir, setpgid, umask};
use rustix::termios::tcsetpgrp;

use super::child::Word;
use super::step::{Doing, Failed, NotStarted};
use super::view::View;
use super::{Given, Plan, ProgramKind, credentials, environment, filter, gate, landlock};
use crate::connection::Connection;
use crate::syscall;

/// What a program is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// What came along with it.
    pub(crate) given: &'a Given,
    /// What it sees, where it is contained.
    pub(crate) view: Option<&'a View>,
    /// The line to whoever forked its process.
    pub(crate) line: &'a Connection,
}

impl Start<'_> {
    /// From inside, where there is such a thing: what was held from outside leads around the view.
    fn directory(&self) -> BorrowedFd<'_> {
        self.view.map_or(&self.given.directory, |view| &view.directory).as_fd()
    }

    fn program(&self) -> BorrowedFd<'_> {
        self.view.and_then(|view| view.program.as_ref()).unwrap_or(&self.given.program).as_fd()
    }
}

/// Takes its place in the program's session: a group of its own, in front of this terminal where it starts there, and every
/// signal as a program expects it.
pub(crate) fn take_place(terminal: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let own: Option<Pid> = None;
    setpgid(own, own)?;
    if let Some(terminal) = terminal {
        // SIGTTOU is ignored until the signals are reset, so this does not stop the process.
        tcsetpgrp(terminal, rustix::process::getpid())?;
    }
    syscall::reset_signals();
    Ok(())
}

/// Becomes the program, in a process that has taken its place; returns only the reason why not. Every step is fatal to the start.
pub(crate) fn become_program(start: &Start<'_>) -> NotStarted {
    let Err(not_started) = execute(start);
    not_started
}

fn execute(start: &Start<'_>) -> Result<Infallible, NotStarted> {
    let argv = prepare(start).during("prepare its start")?;
    let environment = environment::build(start.plan);
    keep(start)?;
    match gate::is_opened(start.given.gate.as_fd(), start.plan.deadline).during("wait for its record")? {
        true => {
            Err(Failed::new("execute it", &syscall::execute(start.program(), &argv, &environment)).into())
        }
        false => Err(NotStarted::CalledOff),
    }
}

fn prepare(start: &Start<'_>) -> io::Result<Vec<CString>> {
    credentials::keep_login(start.plan.login);
    fchdir(start.directory())?;
    umask(Mode::from_raw_mode(start.plan.umask & 0o777));
    let mut safe: Vec<OwnedFd> = Vec::new();
    for fd in &start.given.standard {
        // Out of the way of 0, 1 and 2, whatever number they have now.
        safe.push(rustix::io::fcntl_dupfd_cloexec(fd, 10)?);
    }
    for (fd, number) in safe.iter().zip(0..) {
        syscall::place(fd.as_fd(), number)?;
    }
    syscall::close_on_exec_from(3)?;
    argv(start)
}

/// Takes on the rights and the bounds, the ones that need most rights first. From the filters on only the execution is left.
fn keep(start: &Start<'_>) -> Result<(), Failed> {
    let plan = start.plan;
    if let Some(view) = start.view {
        let folders = view.writable.iter().map(AsFd::as_fd);
        landlock::restrict(folders, view.devices.as_fd()).during("restrict it with Landlock")?;
    }
    credentials::take_on(&plan.identity, &plan.bounds).during("take on its rights")?;
    if plan.bounds.is_contained() {
        let filter = filter::contained().during("write the filter of its system calls")?;
        syscall::filter_calls(&filter, false).during("filter its system calls")?;
    }
    if plan.is_one_process() {
        let doing = "deny it child processes";
        let filter = filter::one_process().during(doing)?;
        let listener = syscall::filter_calls(&filter, true).during(doing)?;
        let listener = listener.ok_or(io::ErrorKind::Unsupported).during(doing)?;
        let sent = start.line.send_with(&Word::Asks, &[listener.as_fd()]);
        sent.map_err(|error| Failed::new(doing, &error))?;
    }
    Ok(())
}

fn argv(start: &Start<'_>) -> io::Result<Vec<CString>> {
    let given = start.plan.argv.iter();
    let vector: Vec<OsText> = match &start.plan.program {
        ProgramKind::Binary => given.cloned().collect(),
        ProgramKind::Script { interpreter, argument, path } => {
            let script = match (path, &start.given.script) {
                (Some(path), _) => path.clone(),
                (None, Some(sealed)) => {
                    let number = syscall::keep_open(sealed.as_fd(), 3)?;
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
