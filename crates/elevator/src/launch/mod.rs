//! A launch, from the plan the elevator makes to the program that runs.

pub(crate) mod child;
pub(crate) mod containment;
pub(crate) mod credentials;
pub(crate) mod display;
pub(crate) mod environment;
pub(crate) mod filter;
pub(crate) mod gate;
pub(crate) mod landlock;
pub(crate) mod limits;
pub(crate) mod program;
pub(crate) mod step;
pub(crate) mod terminal;
pub(crate) mod view;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use elevon_policy::application::User;
use elevon_policy::bounds::{Bounds, Children};
use elevon_policy::event::EndReason;
use elevon_policy::id::{GrantId, LaunchId};
use elevon_policy::lists::AtExpiry;
use elevon_policy::text::OsText;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::conversation::WindowSize;
use serde::{Deserialize, Serialize};

use self::credentials::Identity;
use self::view::Inside;
use crate::clock::Uptime;
use crate::connection::Speaker;

/// All that a session needs to know; its descriptors travel beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The launch.
    pub(crate) launch: LaunchId,
    /// The grant it runs under.
    pub(crate) grant: GrantId,
    /// Who asked for it.
    pub(crate) user: User,
    /// The client's process: only its messages count.
    pub(crate) client: Speaker,
    /// What is executed.
    pub(crate) program: ProgramKind,
    /// With which arguments, the program's own name first.
    pub(crate) argv: Vec<OsText>,
    /// The checked variables.
    pub(crate) environment: Vec<(String, OsText)>,
    /// The folder with what it needs for its user's display, which goes with the launch.
    pub(crate) display: PathBuf,
    /// The size of the user's terminal.
    pub(crate) window: Option<WindowSize>,
    /// The umask.
    pub(crate) umask: u32,
    /// When nothing runs any more, for people.
    pub(crate) end: Timestamp,
    /// The same, by the clock that counts.
    pub(crate) deadline: Uptime,
    /// What the end does.
    pub(crate) at_expiry: AtExpiry,
    /// The folder of the launches' files.
    pub(crate) folder: PathBuf,
    /// The cgroup made for it, where there is one.
    pub(crate) cgroup: Option<PathBuf>,
    /// The cgroups beside it that keep it to its limits.
    pub(crate) limits: Vec<PathBuf>,
    /// Whose rights it has.
    pub(crate) identity: Identity,
    /// The account of that user, where it is not root's.
    pub(crate) account: Option<Account>,
    /// What it is kept to.
    pub(crate) bounds: Bounds,
    /// What it sees, where it is contained.
    pub(crate) inside: Option<Inside>,
    /// The log-in that its user came by, where they came by one.
    pub(crate) login: Option<u32>,
}

impl Plan {
    /// Whether the process that was forked ahead in this cgroup, where it is in one, is of use to it: it has no namespaces and no cgroup
    /// of its own.
    pub(crate) fn fits_ahead(&self, ahead: Option<&Path>) -> bool {
        self.inside.is_none() && self.cgroup.as_deref() == ahead
    }

    /// Whether the session admits one execution, and no other.
    pub(crate) fn is_one_process(&self) -> bool {
        self.bounds.children == Children::Denied
    }
}

/// What a program learns of the account it runs under.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Its folder.
    pub(crate) home: OsText,
    /// Its shell.
    pub(crate) shell: OsText,
}

/// What is executed; the descriptors are [`Given::program`] and [`Given::script`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ProgramKind {
    /// The program's own descriptor.
    Binary,
    /// The interpreter's descriptor, which is given the script.
    Script {
        /// The interpreter's own name.
        interpreter: OsText,
        /// What the script's first line adds.
        argument: Option<OsText>,
        /// The script's trusted path; none for the sealed copy behind [`Given::script`].
        path: Option<OsText>,
    },
}

impl ProgramKind {
    /// Whether there is a [`Given::script`].
    pub(crate) fn is_sealed_script(&self) -> bool {
        matches!(self, Self::Script { path: None, .. })
    }
}

/// The descriptors of a launch.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// The conversation with the client.
    pub(crate) client: OwnedFd,
    /// What its program is started with.
    pub(crate) given: Given,
}

/// The descriptors that a program is started with, in the order in which they travel.
#[derive(Debug)]
pub(crate) struct Given {
    /// The working directory.
    pub(crate) directory: OwnedFd,
    /// Standard input, output and error.
    pub(crate) standard: [OwnedFd; 3],
    /// What is executed.
    pub(crate) program: OwnedFd,
    /// The gate that it waits at.
    pub(crate) gate: OwnedFd,
    /// The sealed copy of a script.
    pub(crate) script: Option<OwnedFd>,
}

impl Descriptors {
    /// In the order in which they travel.
    pub(crate) fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        [vec![self.client.as_fd()], self.given.borrow()].concat()
    }

    /// What came along with this plan.
    pub(crate) fn take(fds: Vec<OwnedFd>, plan: &Plan) -> io::Result<Self> {
        let mut fds = fds.into_iter();
        Ok(Self { client: fds.next().ok_or_else(missing)?, given: Given::take(&mut fds, plan)? })
    }
}

impl Given {
    /// In order.
    pub(crate) fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        let standard = self.standard.iter().map(AsFd::as_fd);
        let last = [self.program.as_fd(), self.gate.as_fd()];
        let last = last.into_iter().chain(self.script.as_ref().map(AsFd::as_fd));
        [self.directory.as_fd()].into_iter().chain(standard).chain(last).collect()
    }

    /// The first of those that came along with this plan.
    pub(crate) fn take(fds: &mut impl Iterator<Item = OwnedFd>, plan: &Plan) -> io::Result<Self> {
        let mut next = || fds.next().ok_or_else(missing);
        Ok(Self {
            directory: next()?,
            standard: [next()?, next()?, next()?],
            program: next()?,
            gate: next()?,
            script: plan.program.is_sealed_script().then(&mut next).transpose()?,
        })
    }
}

fn missing() -> io::Error {
    io::Error::other("some descriptors of the launch are missing")
}

/// Tells a session to end its tree before the deadline: written to `ID.order`, announced by SIGUSR1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Why.
    pub(crate) reason: EndReason,
    /// How long between SIGTERM and SIGKILL; none at zero.
    pub(crate) grace: Span,
}

/// What became of a launch: written by the session to `ID.outcome` when nothing runs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// What ended it.
    pub(crate) reason: EndReason,
    /// How the program itself ended.
    pub(crate) exit: Option<elevon_policy::event::Exit>,
}
