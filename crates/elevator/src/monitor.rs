//! Inside, one for each launch: the leader of the program's session. It starts the program in a process group of its own,
//! so that ^Z and fg work, passes signals on, and tells the session outside what became of it. Of a contained program it is
//! the first process of the namespaces, too: it makes what the program sees, and with it everything inside ends.
//!
//! The process of a program that needs nothing of that kind, no terminal and no limits, and that may start others, is forked before
//! there is a launch, and hears of that from the session itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use elevon_policy::event::Exit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, ioctl_tiocsctty, setpgid, setsid, wait};
use rustix::termios::{isatty, tcsetpgrp};
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Lost};
use crate::launch::program::{self, Start};
use crate::launch::step::{Doing, Failed, NotStarted};
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

/// What a monitor is told first.
#[derive(Debug, Serialize, Deserialize)]
enum Task<P> {
    /// The process that it forked ahead has the plan.
    Watch,
    /// The program is its to start.
    Start(P),
}

/// No message from a monitor is longer.
const LIMIT: usize = 1 << 10;

/// A monitor as its session has it.
pub(crate) struct Monitor {
    /// To it.
    pub(crate) line: Connection,
    /// Its process.
    pub(crate) process: Pid,
    /// To the process that it forked ahead, until there is a launch.
    ahead: Option<Connection>,
}

impl Monitor {
    /// Makes one in this way, with a process for its program or without.
    pub(crate) fn make(fork: impl FnOnce() -> io::Result<Fork>, with_program: bool) -> io::Result<Self> {
        let pair = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (line, theirs) = pair()?;
        let (ahead, its) = with_program.then(pair).transpose()?.unzip();
        match fork()? {
            Fork::Parent(process) => Ok(Self {
                line: Connection::new(line, LIMIT, None),
                process,
                ahead: ahead.map(|line| Connection::new(line, LIMIT, None)),
            }),
            Fork::Child => {
                let mut kept = vec![0, 1, 2, theirs.as_raw_fd()];
                kept.extend(its.as_ref().map(AsRawFd::as_raw_fd));
                match syscall::close_all_but(&kept) {
                    Ok(()) => run(theirs, its),
                    Err(_) => syscall::exit_now(1),
                }
            }
        }
    }

    /// Has the launch begun, with these terminals and in this one where it has any. A monitor that is gone is seen when its first
    /// word is waited for, and nothing becomes a program without one.
    pub(crate) fn begin(
        &mut self,
        plan: &Plan,
        descriptors: &Descriptors,
        terminals: Option<BorrowedFd<'_>>,
        terminal: Option<BorrowedFd<'_>>,
    ) {
        // All but the conversation with the client.
        let mut given: Vec<_> = descriptors.borrow().into_iter().skip(1).collect();
        // Let go without a launch, it ends.
        let ahead = self.ahead.take().filter(|_| plan.fits_ahead(terminal.is_some()) && !self.is_gone());
        let _ = if ahead.is_some_and(|ahead| ahead.send_with(plan, &given).is_ok()) {
            self.line.send(&Task::<&Plan>::Watch)
        } else {
            given.extend(terminals.into_iter().chain(terminal));
            self.line.send_with(&Task::Start(plan), &given)
        };
    }

    fn is_gone(&self) -> bool {
        let mut gone = [PollFd::from_borrowed_fd(self.line.socket(), PollFlags::empty())];
        poll(&mut gone, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |gone| gone > 0)
    }
}

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

impl Given {
    /// What came along with a plan on this line.
    fn take(line: &mut Connection, plan: &Plan) -> io::Result<Self> {
        let mut fds = line.take_descriptors().into_iter();
        let mut next =
            || fds.next().ok_or_else(|| io::Error::other("some descriptors of the launch are missing"));
        Ok(Self {
            directory: next()?,
            standard: [next()?, next()?, next()?],
            program: next()?,
            gate: next()?,
            script: plan.program.is_sealed_script().then(&mut next).transpose()?,
            terminals: plan.inside.is_some().then(&mut next).transpose()?,
            terminal: next().ok(),
        })
    }

    /// Lets go of all the rest.
    fn only_terminal(self) -> Option<OwnedFd> {
        self.terminal
    }
}

/// Becomes a monitor, in the forked child: makes itself ready, and waits on this line for what to do. With another line comes the
/// wish for a process that waits there for the plan.
fn run(line: OwnedFd, ahead: Option<OwnedFd>) -> ! {
    let status = match watch(Connection::new(line, spawner::LIMIT, None), ahead) {
        Ok(()) | Err(Lost::Closed) => 0,
        Err(lost) => {
            eprintln!("elevon-elevator: a monitor cannot go on: {lost}");
            1
        }
    };
    syscall::exit_now(status)
}

fn watch(mut line: Connection, ahead: Option<OwnedFd>) -> Result<(), Lost> {
    syscall::name_process(c"elevon-monitor");
    setsid()?;
    // Without one it is forked when the plan is known.
    let ahead = ahead.and_then(|line| fork_ahead(line).ok());
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
    let (started, inside, behind) = match (line.receive()?, ahead) {
        (Task::Watch, Some(ahead)) => (ahead.started()?, false, None),
        (Task::Watch, None) => return Err(Lost::Io(io::Error::other("there is nothing to watch over"))),
        (Task::Start(plan), _) => {
            let given = Given::take(&mut line, &plan)?;
            if let Some(terminal) = &given.terminal {
                ioctl_tiocsctty(terminal)?;
            }
            let started = match make_view(&plan, &given) {
                Ok(view) => start(&plan, &given, view.as_ref(), &line)?,
                Err(failed) => Err(failed.into()),
            };
            let in_front = starts_in_front(&given);
            (started, plan.inside.is_some(), given.only_terminal().filter(|_| !in_front))
        }
    };
    let program = match started {
        Ok(program) => program,
        Err(not_started) => return line.send(&FromMonitor::NotStarted(not_started)),
    };
    // From here on the monitor holds nothing of the user's. What it owns is let go by its owner: closed below it, each would be
    // closed a second time at the end.
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
                    if inside {
                        outlive_the_rest(line, behind);
                    } else {
                        // Until it is let go: its own end takes longer than what is to be done first.
                        while line.receive::<ToMonitor>().is_ok() {}
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

/// The process of a program, and where it says why it did not become that.
struct Forked {
    process: Pid,
    told: OwnedFd,
}

impl Forked {
    /// Forks one, which has the end that it tells on.
    fn new(child: impl FnOnce(&OwnedFd) -> Option<NotStarted>) -> io::Result<Self> {
        let (told, tells) = pipe_with(PipeFlags::CLOEXEC)?;
        match syscall::fork()? {
            Fork::Child => {
                if let Some(not_started) = child(&tells) {
                    // Should this fail too, the parent sees an end without a start.
                    let _ = rustix::io::write(&tells, &serde_json::to_vec(&not_started).unwrap_or_default());
                }
                syscall::exit_now(126)
            }
            Fork::Parent(process) => {
                // The child does the same: whoever comes first.
                let _ = setpgid(Some(process), Some(process));
                Ok(Self { process, told })
            }
        }
    }

    /// Waits until it is the program, or says why not.
    fn started(self) -> io::Result<Result<Pid, NotStarted>> {
        // One piece: it is shorter than what a pipe takes at once.
        let mut told = [0; 4096];
        let read = loop {
            match rustix::io::read(&self.told, &mut told) {
                Err(rustix::io::Errno::INTR) => {}
                read => break read?,
            }
        };
        let not_started = told.get(..read).filter(|told| !told.is_empty()).map(serde_json::from_slice);
        Ok(not_started.transpose().map_err(io::Error::other)?.map_or(Ok(self.process), Err))
    }
}

/// Forks the process of a program whose plan comes on this line.
fn fork_ahead(line: OwnedFd) -> io::Result<Forked> {
    Forked::new(|tells| {
        syscall::close_all_but(&[0, 1, 2, line.as_raw_fd(), tells.as_raw_fd()]).ok()?;
        if let Err(failed) = program::take_place(None).during("take its place") {
            return Some(failed.into());
        }
        stand_by(Connection::new(line, spawner::LIMIT, None)).unwrap_or_else(|lost| match lost {
            Lost::Closed => None,
            lost => Some(Failed::new("hear of its launch", &lost).into()),
        })
    })
}

/// Waits for the plan, and becomes the program; returns the reason why not.
fn stand_by(mut line: Connection) -> Result<Option<NotStarted>, Lost> {
    syscall::name_process(c"elevon-program");
    let plan: Plan = line.receive()?;
    let given = Given::take(&mut line, &plan)?;
    Ok(Some(program::become_program(&Start {
        plan: &plan,
        directory: given.directory.as_fd(),
        standard: given.standard.each_ref().map(AsFd::as_fd),
        program: given.program.as_fd(),
        gate: given.gate.as_fd(),
        script: given.script.as_ref().map(AsFd::as_fd),
        view: None,
        session: &line,
    })))
}

/// Forks and executes the program, or says why it was not.
fn start(
    plan: &Plan,
    given: &Given,
    view: Option<&View>,
    line: &Connection,
) -> io::Result<Result<Pid, NotStarted>> {
    Forked::new(|_| {
        let terminal = given.terminal.as_ref();
        let in_front = terminal.filter(|_| starts_in_front(given)).map(AsFd::as_fd);
        if let Err(failed) = program::take_place(in_front).during("take its place") {
            return Some(failed.into());
        }
        let standard = given.standard.each_ref().map(|fd| match terminal {
            Some(terminal) if isatty(fd) => terminal.as_fd(),
            _ => fd.as_fd(),
        });
        // From inside, where there is such a thing: what was held from outside leads around the view.
        let program = view.and_then(|view| view.program.as_ref()).unwrap_or(&given.program);
        Some(program::become_program(&Start {
            plan,
            directory: view.map_or(&given.directory, |view| &view.directory).as_fd(),
            standard,
            program: program.as_fd(),
            gate: given.gate.as_fd(),
            script: given.script.as_ref().map(AsFd::as_fd),
            view,
            session: line,
        }))
    })?
    .started()
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
