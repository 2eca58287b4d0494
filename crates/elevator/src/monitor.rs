//! Inside, one for each launch: the leader of the program's session. It starts the program in a process group of its own,
//! so that ^Z and fg work, passes signals on, and tells the session outside what became of it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use elevon_policy::event::Exit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, ioctl_tiocsctty, setpgid, setsid, waitpid};
use rustix::termios::{isatty, tcsetpgrp};
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Lost};
use crate::launch::program::{self, Start};
use crate::launch::{Descriptors, Plan};
use crate::spawner;
use crate::syscall::{self, Fork};

/// From the monitor to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromMonitor {
    /// The program runs.
    Started,
    /// It could not be executed; with the error's number.
    Failed(i32),
    /// It was stopped by this signal.
    Stopped(i32),
    /// It ended.
    Ended(Exit),
}

/// From the session to its monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToMonitor {
    /// Pass this signal on to the program's process group.
    Signal(i32),
    /// The user brought it to the front: it gets the terminal, and goes on.
    Continue,
}

/// No message from a monitor is longer.
pub(crate) const LIMIT: usize = 1 << 10;

/// What it needs of a launch beside the plan.
struct Given {
    directory: OwnedFd,
    standard: [OwnedFd; 3],
    program: OwnedFd,
    script: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// The descriptors that travel with the plan to the monitor.
pub(crate) fn given<'a>(
    descriptors: &'a Descriptors,
    terminal: Option<BorrowedFd<'a>>,
) -> Vec<BorrowedFd<'a>> {
    // All but the conversation with the client.
    descriptors.borrow().into_iter().skip(1).chain(terminal).collect()
}

impl Given {
    fn take(fds: Vec<OwnedFd>, plan: &Plan) -> Option<Self> {
        let mut fds = fds.into_iter();
        Some(Self {
            directory: fds.next()?,
            standard: [fds.next()?, fds.next()?, fds.next()?],
            program: fds.next()?,
            script: if plan.program.is_sealed_script() { Some(fds.next()?) } else { None },
            terminal: fds.next(),
        })
    }

    /// Lets go of all the rest.
    fn only_terminal(self) -> Option<OwnedFd> {
        self.terminal
    }
}

/// Becomes a monitor, in the forked child: makes itself ready, and waits on this line for the plan.
pub(crate) fn run(line: OwnedFd) -> ! {
    let status = match watch(Connection::new(line, spawner::LIMIT, None)) {
        Ok(()) | Err(Lost::Closed) => 0,
        Err(lost) => {
            eprintln!("elevon-elevator: a monitor cannot go on: {lost}");
            1
        }
    };
    syscall::exit_now(status)
}

fn watch(mut line: Connection) -> Result<(), Lost> {
    syscall::name_process(c"elevon-monitor");
    setsid()?;
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ] {
        syscall::ignore(signal);
    }
    let signals = syscall::signal_descriptor(&[libc::SIGCHLD])?;
    let plan: Plan = line.receive()?;
    let given = Given::take(line.take_descriptors(), &plan)
        .ok_or_else(|| io::Error::other("some descriptors of the launch are missing"))?;
    if let Some(terminal) = &given.terminal {
        ioctl_tiocsctty(terminal)?;
    }
    let program = match start(&plan, &given)? {
        Ok(program) => program,
        Err(errno) => return line.send(&FromMonitor::Failed(errno)),
    };
    // From here on the monitor holds nothing of the user's. What it owns is let go by its owner: closed below it, each would be
    // closed a second time at the end.
    let in_front = starts_in_front(&given);
    let behind = given.only_terminal().filter(|_| !in_front);
    let mut kept = vec![2, line.socket().as_raw_fd(), signals.as_raw_fd()];
    kept.extend(behind.as_ref().map(AsRawFd::as_raw_fd));
    syscall::close_all_but(&kept)?;
    line.send(&FromMonitor::Started)?;
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(line.socket(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        poll(&mut ready, None).map_err(io::Error::from)?;
        let [asked, changed] = ready.map(|fd| !fd.revents().is_empty());
        while asked && let Some(message) = line.message_at_hand()? {
            let signal = match message {
                ToMonitor::Signal(signal) => signal,
                ToMonitor::Continue => {
                    if let Some(terminal) = &behind {
                        tcsetpgrp(terminal, program)?;
                    }
                    libc::SIGCONT
                }
            };
            // It may have ended meanwhile.
            let _ = syscall::signal_group(program, signal);
        }
        if changed {
            // What the signal says is read from the child itself.
            let _ = rustix::io::read(&signals, &mut [0; 1024]);
            for change in changes(program) {
                line.send(&change)?;
                if matches!(change, FromMonitor::Ended(_)) {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether the program gets the terminal at once. One that reads from a terminal and writes into a pipe stands at the head
/// of a pipeline, whose end (a pager) may want the terminal: it gets its own when it first reads from it.
fn starts_in_front(given: &Given) -> bool {
    let [input, output, _] = &given.standard;
    let pipe = fstat(output).is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Fifo);
    !isatty(input) || !pipe
}

/// Forks and executes the program; the error's number where it could not be executed.
fn start(plan: &Plan, given: &Given) -> io::Result<Result<Pid, i32>> {
    let (reads, writes) = pipe_with(PipeFlags::CLOEXEC)?;
    match syscall::fork()? {
        Fork::Child => {
            let terminal = given.terminal.as_ref();
            let standard = given.standard.each_ref().map(|fd| match terminal {
                Some(terminal) if isatty(fd) => terminal.as_fd(),
                _ => fd.as_fd(),
            });
            let error = program::become_program(&Start {
                plan,
                directory: given.directory.as_fd(),
                standard,
                terminal: terminal.filter(|_| starts_in_front(given)).map(AsFd::as_fd),
                program: given.program.as_fd(),
                script: given.script.as_ref().map(AsFd::as_fd),
            });
            // Should this fail too, the parent sees an end without a start.
            let _ = rustix::io::write(&writes, &program::errno(&error).to_ne_bytes());
            syscall::exit_now(126)
        }
        Fork::Parent(pid) => {
            drop(writes);
            // The child does the same: whoever comes first.
            let _ = setpgid(Some(pid), Some(pid));
            let mut errno = [0; 4];
            let read = loop {
                match rustix::io::read(&reads, &mut errno) {
                    Err(rustix::io::Errno::INTR) => {}
                    read => break read?,
                }
            };
            Ok(if read == 0 { Ok(pid) } else { Err(i32::from_ne_bytes(errno)) })
        }
    }
}

/// What became of the program since it was last asked.
fn changes(program: Pid) -> Vec<FromMonitor> {
    let mut changes = Vec::new();
    while let Ok(Some((_, status))) = waitpid(Some(program), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        if let Some(signal) = status.stopping_signal() {
            changes.push(FromMonitor::Stopped(signal));
        } else if let Some(code) = status.exit_status() {
            changes.push(FromMonitor::Ended(Exit::Code(code)));
            break;
        } else if let Some(signal) = status.terminating_signal() {
            changes.push(FromMonitor::Ended(Exit::Signal(signal)));
            break;
        }
    }
    changes
}
