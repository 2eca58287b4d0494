//! Inside: the process that a session has its program started by. It waits for a launch, in the cgroup that everything of that is to be
//! in, and becomes its program. Where that has a terminal, or namespaces of its own, it becomes a monitor and starts the program: the
//! leader of the terminal's session, and the first process of the namespaces, which it makes ready. A monitor starts the program in a
//! process group of its own, so that ^Z and fg work, passes signals on, and tells the session outside what became of it. When it ends,
//! the terminal hangs up, and everything in its namespaces ends.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitOptions, ioctl_tiocsctty, setsid, wait};
use rustix::termios::tcsetpgrp;
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Lost};
use crate::launch::child::{self, Child, Word};
use crate::launch::program::{self, Start};
use crate::launch::step::{Doing, NotStarted};
use crate::launch::{Given, Plan, terminal, view};
use crate::spawner;
use crate::syscall::{self, Fork};

/// From the session to its monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToMonitor {
    /// Pass this signal on to the program's process group.
    Signal(i32),
    /// The user brought it to the front: it gets the terminal, and goes on.
    Continue,
}

/// The process, as its session has it.
#[derive(Debug)]
pub(crate) struct Starter {
    /// To it; let go without a launch, it ends.
    pub(crate) line: Connection,
    /// The process.
    pub(crate) process: Pid,
}

/// What goes along with a plan: what its program is started with, its terminals where it has such of its own, mounted nowhere yet, and
/// its terminal.
struct Along {
    given: Given,
    terminals: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Starter {
    /// Makes one in this way.
    pub(crate) fn make(fork: impl FnOnce() -> io::Result<Fork>) -> io::Result<Self> {
        let (line, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        match fork()? {
            Fork::Parent(process) => Ok(Self { line: Connection::new(line, child::LIMIT, None), process }),
            Fork::Child => match syscall::close_all_but(&[0, 1, 2, theirs.as_raw_fd()]) {
                Ok(()) => run(Connection::new(theirs, spawner::LIMIT, None)),
                Err(_) => syscall::exit_now(1),
            },
        }
    }

    /// Whether it has ended while it waited.
    pub(crate) fn is_gone(&self) -> bool {
        let mut gone = [PollFd::from_borrowed_fd(self.line.socket(), PollFlags::empty())];
        poll(&mut gone, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |gone| gone > 0)
    }

    /// Has the launch begun, with these terminals and in this one where it has any.
    pub(crate) fn begin(
        &self,
        plan: &Plan,
        given: &Given,
        terminals: Option<BorrowedFd<'_>>,
        terminal: Option<BorrowedFd<'_>>,
    ) -> Result<(), Lost> {
        let mut fds = given.borrow();
        fds.extend(terminals.into_iter().chain(terminal));
        self.line.send_with(plan, &fds)
    }
}

impl Along {
    fn take(line: &mut Connection, plan: &Plan) -> io::Result<Self> {
        let mut fds = line.take_descriptors().into_iter();
        let given = Given::take(&mut fds, plan)?;
        let missing = || io::Error::other("the terminals of the launch are missing");
        let terminals = plan.inside.is_some().then(|| fds.next().ok_or_else(missing)).transpose()?;
        Ok(Self { given, terminals, terminal: fds.next() })
    }
}

/// Waits for a launch, in the forked child, and does what it takes.
fn run(mut line: Connection) -> ! {
    syscall::name_process(c"elevon-program");
    let status = match be_told(&mut line) {
        Ok(()) | Err(Lost::Closed) => 0,
        Err(lost) => {
            eprintln!("elevon-elevator: a launch could not be begun, or watched over: {lost}");
            1
        }
    };
    syscall::exit_now(status)
}

fn be_told(line: &mut Connection) -> Result<(), Lost> {
    let plan: Plan = line.receive()?;
    let along = Along::take(line, &plan)?;
    if plan.inside.is_some() || along.terminal.is_some() {
        return watch(line, &plan, along);
    }
    let not_started = become_program(&plan, &along.given, line);
    line.send(&Word::NotStarted(not_started))
}

fn become_program(plan: &Plan, given: &Given, line: &Connection) -> NotStarted {
    match program::take_place(None).during("take its place") {
        Ok(()) => program::become_program(&Start { plan, given, view: None, line }),
        Err(failed) => failed.into(),
    }
}

/// As a monitor.
fn watch(line: &mut Connection, plan: &Plan, along: Along) -> Result<(), Lost> {
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
    let (program, behind) = match start(line, plan, along)? {
        Ok(started) => started,
        Err(not_started) => return line.send(&Word::NotStarted(not_started)),
    };
    // From here on the monitor holds nothing of the user's. What it owns is let go by its owner: closed below it, each would be
    // closed a second time at the end.
    let mut kept = vec![2, line.socket().as_raw_fd(), signals.as_raw_fd()];
    kept.extend(behind.as_ref().map(AsRawFd::as_raw_fd));
    syscall::close_all_but(&kept)?;
    line.send(&Word::Started)?;
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
            for word in changes(program) {
                line.send(&word)?;
                if matches!(word, Word::Ended(_)) {
                    // Until it is let go: its own end, and all that goes with it, takes longer than what is to be done first.
                    while line.receive::<ToMonitor>().is_ok() {}
                    if plan.inside.is_some() {
                        outlive_the_rest(behind);
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// What the program left running inside may go on until its time is over; it would end with this process.
fn outlive_the_rest(terminal: Option<OwnedFd>) {
    drop(terminal);
    while !matches!(wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {}
}

/// The program's process, and its terminal where it is to have that later; or why it was not started.
type Started = Result<(Pid, Option<OwnedFd>), NotStarted>;

/// Makes what the program sees, and has it executed.
fn start(line: &Connection, plan: &Plan, along: Along) -> Result<Started, Lost> {
    let Along { given, terminals, terminal } = along;
    if let Some(terminal) = &terminal {
        ioctl_tiocsctty(terminal)?;
    }
    let made = plan.inside.as_ref().zip(terminals).map(|(inside, terminals)| {
        view::make(inside, given.directory.as_fd(), given.program.as_fd(), terminals.as_fd())
    });
    let view = match made.transpose() {
        Ok(view) => view,
        Err(failed) => return Ok(Err(failed.into())),
    };
    let in_front = terminal::starts_in_front(&given.standard);
    let (front, behind) = if in_front { (terminal, None) } else { (None, terminal) };
    let mut child = Child::fork(|line| {
        match program::take_place(front.as_ref().map(AsFd::as_fd)).during("take its place") {
            Ok(()) => program::become_program(&Start { plan, given: &given, view: view.as_ref(), line }),
            Err(failed) => failed.into(),
        }
    })?;
    loop {
        match child.first_word()? {
            (Word::Asks, came) => {
                let came: Vec<_> = came.iter().map(AsFd::as_fd).collect();
                line.send_with(&Word::Asks, &came)?;
            }
            (Word::NotStarted(not_started), _) => return Ok(Err(not_started)),
            _ => return Ok(Ok((child.process, behind))),
        }
    }
}

/// What became of the program since it was last asked. This process has other children, too: those that lost their parents, which
/// are taken in.
fn changes(program: Pid) -> Vec<Word> {
    let mut changes = Vec::new();
    while let Ok(Some((of, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        changes.extend(Word::of(status).filter(|_| of == program));
    }
    changes
}
