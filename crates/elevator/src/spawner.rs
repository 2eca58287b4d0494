//! The process that makes sessions. It is forked from the elevator before that has threads or confines itself, so that
//! nothing the elevator does to itself reaches what it launches. It adopts what a session that died leaves behind.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use elevon_wire::frame::MESSAGE_LIMIT;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, set_child_subreaper, wait,
};
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, Lost};
use crate::launch::{Descriptors, Plan, containment};
use crate::session;
use crate::syscall::{self, Fork};

/// The elevator's side.
#[derive(Debug)]
pub(crate) struct Spawner {
    pid: i32,
    line: Mutex<Connection>,
}

/// A session that was made.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its process.
    pub(crate) pid: i32,
    /// The same, for good.
    pub(crate) process: OwnedFd,
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Made { pid: i32 },
    Failed { cause: String },
}

/// What goes over the line is as long as a client's message, and the elevator's own additions.
const LIMIT: usize = MESSAGE_LIMIT + (1 << 20);

impl Spawner {
    /// Forks the spawner. The caller has one thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        match syscall::fork()? {
            Fork::Parent(pid) => Ok(Self {
                pid: pid.as_raw_nonzero().get(),
                line: Mutex::new(Connection::new(ours, LIMIT, None)),
            }),
            Fork::Child => {
                drop(ours);
                let status = match serve(theirs) {
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

    /// Makes a session for this plan.
    pub(crate) fn spawn(&self, plan: &Plan, descriptors: &Descriptors) -> io::Result<Spawned> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = line.send_with(plan, &descriptors.borrow()).and_then(|()| line.receive());
        if let Err(Lost::Closed) = answered {
            // Nothing can be launched any more, and what runs keeps its own deadline: whoever started this starts it anew.
            eprintln!("elevon-elevator: the spawner is gone; ending");
            std::process::exit(1);
        }
        match answered.map_err(io::Error::other)? {
            Reply::Failed { cause } => Err(io::Error::other(cause)),
            Reply::Made { pid } => {
                let process = line.take_descriptors().pop();
                let process =
                    process.ok_or_else(|| io::Error::other("the spawner sent no process descriptor"))?;
                Ok(Spawned { pid, process })
            }
        }
    }
}

fn serve(line: OwnedFd) -> io::Result<()> {
    syscall::name_process(c"elevon-spawner");
    rustix::process::setsid()?;
    set_child_subreaper(Some(getpid()))?;
    let signals = syscall::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT])?;
    let mut line = Connection::new(line, LIMIT, None);
    let mut sessions = HashSet::new();
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(line.socket(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        poll(&mut ready, None)?;
        let [asked, ended] = ready.map(|fd| !fd.revents().is_empty());
        if ended {
            // What the signals say is read from the children themselves.
            let _ = rustix::io::read(&signals, &mut [0; 1024]);
            reap(&mut sessions);
        }
        if asked {
            match line.receive::<Plan>() {
                Ok(plan) => answer(&mut line, plan, &mut sessions)?,
                // The elevator ended. Its sessions keep their deadlines without it.
                Err(Lost::Closed) => return Ok(()),
                Err(lost) => return Err(io::Error::other(lost)),
            }
        }
    }
}

fn answer(line: &mut Connection, plan: Plan, sessions: &mut HashSet<i32>) -> io::Result<()> {
    let made = match Descriptors::take(line.take_descriptors()) {
        None => Err(io::Error::other("some descriptors of the launch are missing")),
        Some(descriptors) => make_session(plan, descriptors),
    };
    let sent = match made {
        Err(error) => line.send(&Reply::Failed { cause: error.to_string() }),
        Ok((pid, process)) => {
            let pid = pid.as_raw_nonzero().get();
            sessions.insert(pid);
            line.send_with(&Reply::Made { pid }, &[process.as_fd()])
        }
    };
    sent.map_err(io::Error::other)
}

fn make_session(plan: Plan, descriptors: Descriptors) -> io::Result<(Pid, OwnedFd)> {
    match syscall::fork()? {
        Fork::Child => {
            // The spawner's own line above all: held here, too, its end would not be seen.
            let own = descriptors.borrow().into_iter().map(|fd| fd.as_raw_fd());
            match syscall::close_all_but(&own.chain([0, 1, 2]).collect::<Vec<_>>()) {
                Ok(()) => session::run(plan, descriptors),
                Err(_) => syscall::exit_now(1),
            }
        }
        Fork::Parent(pid) => Ok((pid, pidfd_open(pid, PidfdFlags::empty())?)),
    }
}

/// Takes in the sessions that ended. One that did not end by itself may have left its tree to us: that is killed, whatever
/// it is, for the only children we want are sessions.
fn reap(sessions: &mut HashSet<i32>) {
    let mut died = false;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let session = sessions.remove(&pid.as_raw_nonzero().get());
        died |= session && status.exit_status() != Some(0);
    }
    while died {
        let children = containment::descendants(getpid());
        let orphans: Vec<i32> = children
            .into_iter()
            .filter(|pid| !sessions.contains(pid))
            .filter(|pid| containment::parent_of(*pid) == Some(getpid().as_raw_nonzero().get()))
            .collect();
        died = !orphans.is_empty();
        for orphan in orphans.into_iter().filter_map(Pid::from_raw) {
            containment::signal_descendants(orphan, Signal::KILL);
            // It may have ended meanwhile.
            let _ = kill_process(orphan, Signal::KILL);
        }
        while let Ok(Some((pid, _))) = wait(WaitOptions::NOHANG) {
            sessions.remove(&pid.as_raw_nonzero().get());
        }
    }
}
