//! The process that makes sessions. It is forked from the elevator before that has threads or confines itself, so that
//! nothing the elevator does to itself reaches what it launches. One session is made ahead, between two launches, so that no
//! launch waits for it. It adopts what a session that died leaves behind. It also makes the helper that asks PAM, and another
//! where that is gone.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use elevon_policy::time::Span;
use elevon_wire::frame::MESSAGE_LIMIT;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, set_child_subreaper, wait,
};
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Lost, Supply};
use crate::elsewhere;
use crate::launch::{Descriptors, Plan, containment};
use crate::launches::Process;
use crate::pam;
use crate::session;
use crate::syscall::{self, Fork};

/// The elevator's side.
#[derive(Debug)]
pub(crate) struct Spawner {
    pid: i32,
    process: OwnedFd,
    sessions: Mutex<Supply>,
    /// On it helpers are asked for, each with the descriptor it is to listen on.
    helpers: Mutex<Connection>,
}

/// A session that waits for its launch. Let go without one, it ends.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Its process.
    pub(crate) process: Process,
    /// The cgroup made for it, where there is one.
    pub(crate) cgroup: Option<PathBuf>,
    descriptor: OwnedFd,
    line: Connection,
}

/// Asks the spawner for a session, or for a helper.
#[derive(Debug, Serialize, Deserialize)]
struct Make;

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Made { process: Process, cgroup: Option<PathBuf> },
    Failed { cause: String },
}

/// A plan is as long as a client's message, and the elevator's own additions.
pub(crate) const LIMIT: usize = MESSAGE_LIMIT + (1 << 20);

/// How soon those are looked at again that were killed and have not ended.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// How many sessions are looked at before a launch is given up: what was made a while ago may be dead, or have failed then.
const TRIES: usize = 3;

impl Spawner {
    /// Forks the spawner. The caller has one thread.
    pub(crate) fn start() -> io::Result<Self> {
        let pair = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let ((ours, theirs), (helpers, asked_for)) = (pair()?, pair()?);
        match syscall::fork()? {
            Fork::Parent(pid) => Ok(Self {
                pid: pid.as_raw_nonzero().get(),
                process: pidfd_open(pid, PidfdFlags::empty())?,
                sessions: Mutex::new(Supply::new(Connection::new(ours, LIMIT, None))),
                helpers: Mutex::new(Connection::new(helpers, LIMIT, None)),
            }),
            Fork::Child => {
                drop((ours, helpers));
                let status = match serve(theirs, asked_for) {
                    Ok(()) => 0,
                    Err(error) => {
                        eprintln!("elevon-elevator: the spawner cannot go on: {error}");
                        1
                    }
                };
                syscall::exit_now(status)
            }
        }
    }

    /// Its process: whatever descends from it runs elevated.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// The same as a descriptor; readable when it has ended.
    pub(crate) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// The line to a new helper. Where none could be made, it is closed.
    pub(crate) fn helper(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let line = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        line.send_with(&Make, &[theirs.as_fd()]).map_err(io::Error::other)?;
        Ok(ours)
    }

    /// Has the next launch's session made, where there is none: it is taken while the launch has other things to wait for.
    pub(crate) fn make_ready(&self) -> io::Result<()> {
        sure(self.sessions().order(&Make))
    }

    /// The session that is ready or, where there is none, that is made now.
    pub(crate) fn session(&self) -> io::Result<Ready> {
        let mut sessions = self.sessions();
        let mut failed = io::Error::other("the sessions that were made ended at once");
        for _ in 0..TRIES {
            match sure(sessions.take(&Make))? {
                (Reply::Failed { cause }, _) => failed = io::Error::other(cause),
                (Reply::Made { process, cgroup }, descriptors) => {
                    let ready = ready(descriptors, process, cgroup)?;
                    if !containment::ends_within(ready.descriptor.as_fd(), Span::ZERO)? {
                        return Ok(ready);
                    }
                    if let Some(cgroup) = &ready.cgroup {
                        containment::remove_cgroup(cgroup);
                    }
                }
            }
        }
        Err(failed)
    }

    fn sessions(&self) -> MutexGuard<'_, Supply> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the spawner nothing can be launched any more, and what runs keeps its own deadline: whoever started this starts it
/// anew.
fn sure<T>(heard: Result<T, Lost>) -> io::Result<T> {
    if let Err(Lost::Closed) = heard {
        eprintln!("elevon-elevator: the spawner is gone; ending");
        std::process::exit(1);
    }
    heard.map_err(io::Error::other)
}

fn ready(descriptors: Vec<OwnedFd>, process: Process, cgroup: Option<PathBuf>) -> io::Result<Ready> {
    match <[OwnedFd; 2]>::try_from(descriptors) {
        Ok([descriptor, line]) => {
            Ok(Ready { process, cgroup, descriptor, line: Connection::new(line, LIMIT, None) })
        }
        Err(_) => Err(io::Error::other("the spawner did not send two descriptors")),
    }
}

impl Ready {
    /// Hands the launch over to it, and gives its process. It starts all of it or, where this fails, nothing.
    pub(crate) fn begin(self, plan: &Plan, descriptors: &Descriptors) -> io::Result<OwnedFd> {
        let begin = || self.line.send_with(plan, &descriptors.borrow());
        // What it forks would keep the processors that it was given meanwhile.
        let begun = match plan.fits_ahead(self.cgroup.as_deref()) {
            true => elsewhere::wake(self.process.pid(), begin),
            false => begin(),
        };
        begun.map_err(io::Error::other)?;
        Ok(self.descriptor)
    }
}

fn serve(line: OwnedFd, helpers: OwnedFd) -> io::Result<()> {
    syscall::name_process(c"elevon-spawner");
    rustix::process::setsid()?;
    set_child_subreaper(Some(getpid()))?;
    let signals = syscall::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT])?;
    let mut line = Connection::new(line, LIMIT, None);
    let mut helpers = Connection::new(helpers, LIMIT, None);
    let mut sessions = HashSet::new();
    let mut orphans = false;
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(line.socket(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(helpers.socket(), PollFlags::IN),
        ];
        poll(&mut ready, orphans.then_some(&AGAIN))?;
        let [asked, ended, help] = ready.map(|fd| !fd.revents().is_empty());
        if ended {
            // What the signals say is read from the children themselves.
            let _ = rustix::io::read(&signals, &mut [0; 1024]);
            orphans |= reap(&mut sessions);
        }
        if orphans {
            orphans = kill_orphans(&mut sessions);
        }
        if help {
            match helpers.receive::<Make>() {
                Ok(Make) => {
                    helpers.take_descriptors().into_iter().for_each(|line| make_helper(line, &mut sessions))
                }
                Err(Lost::Closed) => return Ok(()),
                Err(lost) => return Err(io::Error::other(lost)),
            }
        }
        if asked {
            match line.receive::<Make>() {
                Ok(Make) => answer(&line, &mut sessions)?,
                // The elevator ended. Its sessions keep their deadlines without it.
                Err(Lost::Closed) => return Ok(()),
                Err(lost) => return Err(io::Error::other(lost)),
            }
        }
    }
}

fn answer(line: &Connection, sessions: &mut HashSet<i32>) -> io::Result<()> {
    let sent = match make_session() {
        Err(error) => line.send(&Reply::Failed { cause: error.to_string() }),
        Ok(Ready { process, cgroup, descriptor, line: its }) => {
            sessions.insert(process.pid());
            line.send_with(&Reply::Made { process, cgroup }, &[descriptor.as_fd(), its.socket()])
        }
    };
    match sent {
        // The elevator ended meanwhile: what was made ends too.
        Err(Lost::Closed) => Ok(()),
        sent => sent.map_err(io::Error::other),
    }
}

fn make_session() -> io::Result<Ready> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let cgroup = containment::make_cgroup()
        .map_err(|error| io::Error::new(error.kind(), format!("could not make a cgroup: {error}")))?;
    let forked = syscall::fork().inspect_err(|_| {
        if let Some(cgroup) = &cgroup {
            containment::remove_cgroup(cgroup);
        }
    });
    match forked? {
        // The spawner's own line above all: held here, too, its end would not be seen.
        Fork::Child => match syscall::close_all_but(&[0, 1, 2, theirs.as_raw_fd()]) {
            Ok(()) => session::run(theirs, cgroup),
            Err(_) => syscall::exit_now(1),
        },
        Fork::Parent(pid) => Ok(Ready {
            process: Process::of(pid.as_raw_nonzero().get())
                .ok_or_else(|| io::Error::other("when a session started cannot be read"))?,
            cgroup,
            descriptor: pidfd_open(pid, PidfdFlags::empty())?,
            line: Connection::new(ours, LIMIT, None),
        }),
    }
}

/// Where none can be made, its line is closed, and whoever holds the other end sees that.
fn make_helper(line: OwnedFd, wanted: &mut HashSet<i32>) {
    match syscall::fork() {
        Ok(Fork::Child) => match syscall::close_all_but(&[0, 1, 2, line.as_raw_fd()]) {
            Ok(()) => pam::run(line),
            Err(_) => syscall::exit_now(1),
        },
        Ok(Fork::Parent(pid)) => drop(wanted.insert(pid.as_raw_nonzero().get())),
        Err(error) => eprintln!("elevon-elevator: could not fork a PAM helper: {error}"),
    }
}

/// Takes in the children that ended. Whether a session is among them that did not end by itself, and may have left its tree to us.
fn reap(sessions: &mut HashSet<i32>) -> bool {
    let mut died = false;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let session = sessions.remove(&pid.as_raw_nonzero().get());
        died |= session && status.exit_status() != Some(0);
    }
    died
}

/// Kills what sessions that died have left, whatever it is: the only children we want are sessions and the helper. Whether
/// something is left that has not ended yet: one that waits for a file system may take as long over it as whoever serves that
/// likes, and nobody else waits for it.
fn kill_orphans(sessions: &mut HashSet<i32>) -> bool {
    let mut known = HashSet::new();
    loop {
        let children = containment::descendants(getpid());
        let orphans: Vec<i32> = children
            .into_iter()
            .filter(|pid| !sessions.contains(pid))
            .filter(|pid| containment::parent_of(*pid) == Some(getpid().as_raw_nonzero().get()))
            .collect();
        for orphan in orphans.iter().copied().filter_map(Pid::from_raw) {
            containment::signal_descendants(orphan, Signal::KILL);
            // It may have ended meanwhile.
            let _ = kill_process(orphan, Signal::KILL);
        }
        let another_died = reap(sessions);
        // Where others take the place of those that are killed, nothing goes before that.
        let others = orphans.iter().filter(|orphan| known.insert(**orphan)).count();
        if others == 0 {
            return another_died || !orphans.is_empty();
        }
    }
}
