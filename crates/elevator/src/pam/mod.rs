//! Whether PAM admits a user: the elevator's side of the warm helper. The question is asked before a program is measured, and
//! answered meanwhile. Nothing of PAM ever runs in the elevator's own process.

mod account;
mod presence;
mod proof;
mod questions;
mod stack;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use elevon_policy::application::User;
use elevon_policy::event::DenyReason;
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, Signal, pidfd_send_signal};
use rustix::time::Timespec;

pub(crate) use self::account::NotAdmitted;
pub(crate) use self::presence::NotPresent;
use self::proof::Proofs;
pub(crate) use self::proof::Unproven;
pub(crate) use self::questions::run;
use self::questions::{Answer, Made, Make, Question};
pub(crate) use self::stack::SERVICE;
use self::stack::Stack;
use crate::clock::Uptime;
use crate::connection::{Connection, Lost, Supply};
use crate::elsewhere;
use crate::launch::containment;
use crate::spawner::Spawner;
use crate::syscall::pam::Library;

/// No message between elevator and helper is longer.
const LIMIT: usize = 64 << 10;

/// How long a launch waits for PAM at most.
const PATIENCE: Span = Span::from_secs(10);

/// How often a process to ask is looked for: the helper may just have made room for a newer one.
const TRIES: usize = 3;

/// The elevator's side.
#[derive(Debug)]
pub(crate) struct Pam {
    folder: Option<PathBuf>,
    /// The helper, which makes processes.
    helper: Mutex<Option<Supply>>,
    /// Who is asked for a password, and whose were wrong.
    proofs: Mutex<HashMap<u32, Proofs>>,
}

/// A question that was asked. The process that answers it ends when this is let go: no sooner than there is time for it.
#[derive(Debug)]
pub(crate) struct Asked {
    asked: io::Result<Process>,
    by: Uptime,
}

/// A process that answers one question.
#[derive(Debug)]
struct Process {
    pid: i32,
    process: OwnedFd,
    line: Connection,
}

impl Pam {
    /// With PAM's services in this folder or, where none is named, where PAM looks for them.
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, helper: Mutex::new(None), proofs: Mutex::default() }
    }

    /// Has the process made that the next question is for, where there is none; and the helper, where that is gone.
    pub(crate) fn make_ready(&self, spawner: &Spawner) -> io::Result<()> {
        let mut held = self.helper();
        let mut ordered = Ok(());
        for _ in 0..TRIES {
            ordered = helper_in(&mut held, spawner)?.order(&self.make());
            match ordered {
                Ok(()) => break,
                Err(_) => *held = None,
            }
        }
        ordered.map_err(io::Error::other)
    }

    /// Asks whether this user's account may be used; the answer comes while other work is done.
    pub(crate) fn ask(&self, spawner: &Spawner, user: &User) -> Asked {
        let asked = self.process(spawner).and_then(|process| {
            let question = Question::Account { user: user.name.clone() };
            elsewhere::wake(process.pid, || process.line.send(&question)).map_err(io::Error::other)?;
            Ok(process)
        });
        Asked { asked, by: Uptime::now().after(PATIENCE) }
    }

    fn process(&self, spawner: &Spawner) -> io::Result<Process> {
        let mut held = self.helper();
        let mut failed = io::Error::other("the PAM helper ended again and again");
        for _ in 0..TRIES {
            let helper = helper_in(&mut held, spawner)?;
            match helper.take(&self.make()) {
                Ok((Made::Process(pid), descriptors)) => {
                    let [process, question] = <[OwnedFd; 2]>::try_from(descriptors)
                        .map_err(|_| io::Error::other("the PAM helper did not send two descriptors"))?;
                    if is_there(process.as_fd(), helper)? {
                        return Ok(Process { pid, process, line: Connection::new(question, LIMIT, None) });
                    }
                    *held = None;
                }
                Ok((Made::Failed(cause), _)) => failed = io::Error::other(cause),
                Err(lost) => {
                    *held = None;
                    if !matches!(lost, Lost::Closed) {
                        failed = io::Error::other(lost);
                    }
                }
            }
        }
        Err(failed)
    }

    fn make(&self) -> Make {
        Make { folder: self.folder.clone() }
    }

    fn helper(&self) -> MutexGuard<'_, Option<Supply>> {
        self.helper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The helper, which is made where there is none.
fn helper_in<'a>(held: &'a mut Option<Supply>, spawner: &Spawner) -> io::Result<&'a mut Supply> {
    let helper = match held.take() {
        Some(helper) => helper,
        None => {
            let line = spawner.helper()?;
            set_socket_timeout(&line, Timeout::Recv, Some(PATIENCE.std()))?;
            Supply::new(Connection::new(line, LIMIT, None))
        }
    };
    Ok(held.insert(helper))
}

/// Whether neither a process nor the helper that made it has ended: with the helper go those that it made.
fn is_there(process: BorrowedFd<'_>, helper: &Supply) -> io::Result<bool> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut ended = [
        PollFd::from_borrowed_fd(process, PollFlags::IN),
        PollFd::from_borrowed_fd(helper.socket(), PollFlags::empty()),
    ];
    Ok(poll(&mut ended, Some(&at_once))? == 0)
}

impl Asked {
    /// The answer; a process that gives none in time is ended, with all that it started.
    pub(crate) fn answer(&mut self) -> Answer {
        let process = self.asked.as_mut().map_err(|error| account::failed(&error.to_string()))?;
        match process.answers(self.by) {
            Ok(true) => process.line.receive::<Answer>().unwrap_or_else(|lost| {
                Err(account::failed(&format!("the process of its modules ended without an answer: {lost}")))
            }),
            Ok(false) => {
                process.end();
                Err(account::failed(&format!("its modules did not answer within {PATIENCE}")))
            }
            Err(error) => Err(account::failed(&error.to_string())),
        }
    }
}

impl Process {
    /// Whether there is an answer, or an end, by then.
    fn answers(&self, by: Uptime) -> io::Result<bool> {
        loop {
            let left = by.left();
            let mut ready = [PollFd::from_borrowed_fd(self.line.socket(), PollFlags::IN)];
            match poll(&mut ready, Timespec::try_from(left.std()).ok().as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) if left == Span::ZERO => return Ok(false),
                Ok(0) => {}
                polled => return Ok(polled? > 0),
            }
        }
    }

    /// With all that its modules started, which `pam_exec` puts into sessions of their own.
    fn end(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            containment::signal_descendants(pid, Signal::KILL);
        }
        // It may be gone by itself.
        let _ = pidfd_send_signal(self.process.as_fd(), Signal::KILL);
    }
}

impl NotAdmitted {
    /// The machine's word for it.
    pub(crate) fn deny_reason(&self) -> DenyReason {
        match self {
            Self::Locked => DenyReason::AccountLocked,
            Self::Expired => DenyReason::AccountExpired,
            Self::PasswordExpired => DenyReason::PasswordExpired,
            Self::Refused { .. } => DenyReason::AccountRefused,
            Self::Failed { .. } => DenyReason::PamFailed,
        }
    }

    /// What is told to this user, and what they can do.
    pub(crate) fn sentences(&self, user: &Text) -> (String, String) {
        let name = user.visible();
        match self {
            Self::Locked => (
                format!("the account {name} is locked on this computer"),
                format!("ask an administrator, who unlocks it with `passwd -u {name}`"),
            ),
            Self::Expired => (
                format!("the account {name} has expired on this computer"),
                format!("ask an administrator, who extends it with `chage -E DATE {name}`"),
            ),
            Self::PasswordExpired => (
                format!("the password of {name} has expired"),
                "change it with `passwd`, then start it again".into(),
            ),
            Self::Refused { told } => (
                format!("PAM does not admit {name} now: {}", told.visible()),
                format!(
                    "ask an administrator, who sees why in the PAM service {SERVICE} and in the system's log"
                ),
            ),
            Self::Failed { cause } => (
                format!("PAM could not be asked about {name}: {}", Text::new(cause).visible()),
                "ask an administrator to look at `elevon-elevator doctor`".into(),
            ),
        }
    }
}

/// What PAM will be asked with, for people: the service's file and its modules, or what is wrong.
pub(crate) fn examined(folder: Option<&Path>) -> Result<(PathBuf, usize), String> {
    let library = Library::load()?;
    let stack =
        Stack::read(folder, questions::modules(&library).as_deref()).map_err(|unfit| unfit.to_string())?;
    let file = stack.files.first().cloned().unwrap_or_default();
    match stack.own {
        0 => Err(format!("{} names no PAM module that is there", file.display())),
        modules => Ok((file, modules)),
    }
}
