//! Inside, one for each launch: the leader of the program's session. It starts the program in a process group of its own,
//! so that ^Z and fg work, passes signals on, and tells the session outside what became of it. Of a contained program it is
//! the first process of the namespaces, too: it makes what the program sees, and with it everything inside ends.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use elevon_policy::event::Exit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, ioctl_tiocsctty, setpgid, setsid, wait};
use rustix::termios::{isatty, tcsetpgrp};
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Lost};
use crate::launch::program::{self, Start};
use crate::launch::step::{Failed, NotStarted};
use crate::launch::view::{self, View};
use crate::launch::{Descriptors, Plan};
use crate::spawner;
use crate::syscall::{self, Fork};

/// From the monitor to its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromMonitor {
    /// The program is about to be executed, and with this comes a descriptor on which it asks whether it may.
    Asks,
    /// The program runs.
    Started,
    /// It was not started.
    NotStarted(NotStarted),
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
    gate: OwnedFd,
    script: Option<OwnedFd>,
    /// The terminals of a contained program, mounted nowhere yet.
    terminals: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// The descriptors that travel with the plan to the monitor.
pub(crate) fn given<'a>(
    descriptors: &'a Descriptors,
    terminals: Option<BorrowedFd<'a>>,
    terminal: Option<BorrowedFd<'a>>,
) -> Vec<BorrowedFd<'a>> {
    // All but the conversation with the client.
    descriptors.borrow().into_iter().skip(1).chain(terminals).chain(terminal).collect()
}

impl Given {
    fn take(fds: Vec<OwnedFd>, plan: &Plan) -> Option<Self> {
        let mut fds = fds.into_iter();
        Some(Self {
            directory: fds.next()?,
            standard: [fds.next()?, fds.next()?, fds.next()?],
            program: fds.next()?,
            gate: fds.next()?,
            script: if plan.program.is_sealed_script() { Some(fds.next()?) } else { None },
            terminals: if plan.inside.is_some() { Some(fds.next()?) } else { None },
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
    let view = match make_view(&plan, &given) {
        Ok(view) => view,
        Err(failed) => return line.send(&FromMonitor::NotStarted(failed.into())),
    };
    let program = match start(&plan, &given, view.as_ref(), &line)? {
        Ok(program) => program,
        Err(not_started) => return line.send(&FromMonitor::NotStarted(not_started)),
    };
    drop(view);
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
                    if plan.inside.is_some() {
                        outlive_the_rest(line, behind);
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// What the program left running inside may go on until its time is over; it would end with this process.
fn outlive_the_rest(line: Connection, terminal: Option<OwnedFd>) {
    drop((line, terminal));
    while !matches!(wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {}
}

fn make_view(plan: &Plan, given: &Given) -> Result<Option<View>, Failed> {
    match (&plan.inside, &given.terminals) {
        (Some(inside), Some(terminals)) => {
            view::make(inside, given.directory.as_fd(), given.program.as_fd(), terminals.as_fd()).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether the program gets the terminal at once. One that reads from a terminal and writes into a pipe stands at the head
/// of a pipeline, whose end (a pager) may want the terminal: it gets its own when it first reads from it.
fn starts_in_front(given: &Given) -> bool {
    let [input, output, _] = &given.standard;
    let pipe = fstat(output).is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Fifo);
    !isatty(input) || !pipe
}

/// Forks and executes the program, or says why it was not.
fn start(
    plan: &Plan,
    given: &Given,
    view: Option<&View>,
    line: &Connection,
) -> io::Result<Result<Pid, NotStarted>> {
    let (reads, writes) = pipe_with(PipeFlags::CLOEXEC)?;
    match syscall::fork()? {
        Fork::Child => {
            let terminal = given.terminal.as_ref();
            let standard = given.standard.each_ref().map(|fd| match terminal {
                Some(terminal) if isatty(fd) => terminal.as_fd(),
                _ => fd.as_fd(),
            });
            // From inside, where there is such a thing: what was held from outside leads around the view.
            let program = view.and_then(|view| view.program.as_ref()).unwrap_or(&given.program);
            let not_started = program::become_program(&Start {
                plan,
                directory: view.map_or(&given.directory, |view| &view.directory).as_fd(),
                standard,
                terminal: terminal.filter(|_| starts_in_front(given)).map(AsFd::as_fd),
                program: program.as_fd(),
                gate: given.gate.as_fd(),
                script: given.script.as_ref().map(AsFd::as_fd),
                view,
                session: line,
            });
            // Should this fail too, the parent sees an end without a start.
            let _ = rustix::io::write(&writes, &serde_json::to_vec(&not_started).unwrap_or_default());
            syscall::exit_now(126)
        }
        Fork::Parent(pid) => {
            drop(writes);
            // The child does the same: whoever comes first.
            let _ = setpgid(Some(pid), Some(pid));
            // One piece: it is shorter than what a pipe takes at once.
            let mut told = [0; 4096];
            let read = loop {
                match rustix::io::read(&reads, &mut told) {
                    Err(rustix::io::Errno::INTR) => {}
                    read => break read?,
                }
            };
            let not_started = told.get(..read).filter(|told| !told.is_empty()).map(serde_json::from_slice);
            Ok(not_started.transpose().map_err(io::Error::other)?.map_or(Ok(pid), Err))
        }
    }
}

/// What became of the program since it was last asked. The first process of a namespace has other children, too: those that
/// lost their parents, which are taken in.
fn changes(program: Pid) -> Vec<FromMonitor> {
    let mut changes = Vec::new();
    while let Ok(Some((of, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        if of != program {
            continue;
        }
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
