//! Who is calling, from the kernel alone, and whether that process may be spoken with at all.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use elevon_policy::application::User;
use elevon_policy::event::{DenyReason, Nested};
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use rustix::net::sockopt::{set_socket_passcred, socket_peercred};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::connection::Speaker;
use crate::files;
use crate::launch::{containment, credentials, limits};
use crate::launches::{Belongs, Groups, Launch, Launches};
use crate::measure::Caller;
use crate::syscall;

/// A process on the users' socket, known well enough to act for.
pub(crate) struct Visitor {
    /// The account, with the rights to look files up with.
    pub(crate) caller: Caller,
    /// The process.
    pub(crate) speaker: Speaker,
    /// The log-in it came by, where it came by one.
    pub(crate) login: Option<u32>,
    /// The launch that it runs under, where it runs elevated itself.
    pub(crate) origin: Option<Nested>,
    /// The process itself.
    pub(crate) process: OwnedFd,
}

/// A process that is not spoken with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stranger {
    /// It has ended, or was another one.
    #[error("the process that called has ended")]
    Gone,
    /// It lives under narrower rules than the elevator, which elevating would lift.
    #[error("the process that called is confined: {0}")]
    Confined(&'static str),
    /// It runs elevated itself, under this launch as far as that is known.
    #[error("the process that called runs elevated itself")]
    Nested(Option<Nested>),
    /// Its account has no name.
    #[error("user {0} has no name on this computer")]
    Nameless(u32),
    /// The kernel does not say.
    #[error("could not look at the process that called: {0}")]
    Io(#[from] io::Error),
}

impl Stranger {
    /// The machine's word for it.
    pub(crate) fn deny_reason(&self) -> DenyReason {
        match self {
            Self::Gone | Self::Nameless(_) | Self::Io(_) => DenyReason::CallerUnknown,
            Self::Confined(_) => DenyReason::CallerConfined,
            Self::Nested(_) => DenyReason::Nested,
        }
    }

    /// The launch that it came from.
    pub(crate) fn origin(&self) -> Option<Nested> {
        match self {
            Self::Nested(origin) => origin.clone(),
            _ => None,
        }
    }

    /// What the user can do.
    pub(crate) fn next(&self) -> &'static str {
        match self {
            Self::Gone | Self::Io(_) => "try again",
            Self::Confined(_) => "start it from a session outside the sandbox or container",
            Self::Nested(_) => "start it from a session that is not elevated, or run the program directly",
            Self::Nameless(_) => "ask an administrator to look at the account database",
        }
    }
}

/// How far a process is confined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confinement {
    user_namespace: PathBuf,
    mount_namespace: PathBuf,
    pid_namespace: PathBuf,
    no_new_privileges: bool,
    seccomp_filters: u32,
}

impl Confinement {
    /// The elevator's own, read before it confines itself.
    pub(crate) fn own() -> io::Result<Self> {
        confinement_of("self")
    }

    /// What makes the other process more confined than this one.
    fn is_exceeded_by(&self, other: &Self) -> Option<&'static str> {
        let checks = [
            (other.user_namespace != self.user_namespace, "it is in another user namespace"),
            (other.mount_namespace != self.mount_namespace, "it is in another mount namespace"),
            (other.pid_namespace != self.pid_namespace, "it is in another pid namespace"),
            (
                other.no_new_privileges && !self.no_new_privileges,
                "it may gain no new privileges (no_new_privs)",
            ),
            (other.seccomp_filters > self.seccomp_filters, "its system calls are filtered (seccomp)"),
        ];
        checks.into_iter().find_map(|(exceeded, why)| exceeded.then_some(why))
    }
}

/// The process that connected a socket, before anything is known of it but its credentials then.
pub(crate) struct Peer {
    pid: Pid,
    uid: u32,
    gid: u32,
    process: OwnedFd,
    name: Option<Text>,
}

impl Peer {
    /// Of this socket.
    pub(crate) fn of(socket: &OwnedFd) -> Result<Self, Stranger> {
        set_socket_passcred(socket, true).map_err(io::Error::from)?;
        let credentials = socket_peercred(socket).map_err(io::Error::from)?;
        let process = match syscall::peer_pidfd(socket.as_fd()).map_err(|_| Stranger::Gone)? {
            Some(process) => process,
            None => pidfd_open(credentials.pid, PidfdFlags::empty()).map_err(|_| Stranger::Gone)?,
        };
        let (uid, gid) = (credentials.uid.as_raw(), credentials.gid.as_raw());
        let name = uzers::get_user_by_uid(uid).and_then(|user| user.name().to_str().map(Text::new));
        Ok(Self { pid: credentials.pid, uid, gid, process, name })
    }

    /// Whose messages count.
    pub(crate) fn speaker(&self) -> Speaker {
        Speaker { pid: u32::try_from(self.number()).unwrap_or(0), uid: self.uid }
    }

    /// Its user, where the account has a name.
    pub(crate) fn user(&self) -> Option<User> {
        Some(User { uid: self.uid, name: self.name.clone()? })
    }

    fn number(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }
}

/// Finds out whether a process may be spoken with.
pub(crate) fn identify(
    socket: &OwnedFd,
    peer: Peer,
    own: &Confinement,
    launches: &Launches,
    spawner: i32,
) -> Result<Visitor, Stranger> {
    let process = peer.number().to_string();
    let confinement = confinement_of(&process).map_err(|_| Stranger::Gone)?;
    let belongs = elevated(peer.number(), launches, spawner);
    let login = credentials::login_of(&process);
    // Only now is it sure that what was read is about the process that connected, and no later one of its number.
    if containment::ends_within(peer.process.as_fd(), Span::ZERO)? {
        return Err(Stranger::Gone);
    }
    let exceeded = own.is_exceeded_by(&confinement);
    if let Some(belongs) = belongs {
        let (caller, origin) = for_origin(&peer, belongs, exceeded.is_some())?;
        let speaker = peer.speaker();
        return Ok(Visitor { caller, speaker, login, origin: Some(origin), process: peer.process });
    }
    if let Some(why) = exceeded {
        return Err(Stranger::Confined(why));
    }
    let user = peer.user().ok_or(Stranger::Nameless(peer.uid))?;
    // As it was when it connected: by now it may have executed a set-group-id program, whose group is not its own to use.
    let groups = syscall::peer_groups(socket.as_fd())?;
    let caller = Caller { user, gid: peer.gid, groups };
    Ok(Visitor { caller, speaker: peer.speaker(), login, origin: None, process: peer.process })
}

/// Whom a process that runs elevated itself asks for: the user of the launch it belongs to, with the groups they had when that
/// began, never whoever it has become. Refused is one of which it is not sure to which launch it belongs; one that is kept to
/// less than root may do, by its launch or by itself; one that was started from inside another; and one that has become a third
/// user, who may be anyone that the program serves.
fn for_origin(peer: &Peer, belongs: Belongs, confined: bool) -> Result<(Caller, Nested), Stranger> {
    let launch = match belongs {
        Belongs::To(launch) => launch,
        Belongs::Perhaps(launch) => return Err(Stranger::Nested(launch.as_ref().map(Launch::as_origin))),
        Belongs::Nowhere => return Err(Stranger::Nested(None)),
    };
    let origin = launch.as_origin();
    let user = &launch.user;
    let name = uzers::get_user_by_uid(user.uid).and_then(|found| found.name().to_str().map(Text::new));
    let is_known = name.as_ref() == Some(&user.name) && (peer.uid == 0 || peer.uid == user.uid);
    match launch.nests {
        Some(Groups { gid, groups }) if is_known && !confined => {
            Ok((Caller { user: launch.user, gid, groups }, origin))
        }
        _ => Err(Stranger::Nested(Some(origin))),
    }
}

/// The launch of a process that was started by a session of ours, as far as it is known which: the process is in our cgroups, or
/// it descends from the spawner, or from a session that outlived the elevator that made it. Nothing for any other process.
fn elevated(pid: i32, launches: &Launches, spawner: i32) -> Option<Belongs> {
    let cgroup = files::read_kernel(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let place = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let in_cgroup = place.split('/').any(|part| part == containment::FOLDER || part == limits::FOLDER);
    let ancestors: Vec<i32> =
        std::iter::successors(Some(pid), |pid| containment::parent_of(*pid).filter(|pid| *pid > 1)).collect();
    let belongs = launches.belongs(&ancestors, place);
    let elevated = in_cgroup || !matches!(belongs, Belongs::Nowhere) || ancestors.contains(&spawner);
    elevated.then_some(belongs)
}

fn confinement_of(process: &str) -> io::Result<Confinement> {
    let namespace = |kind: &str| std::fs::read_link(format!("/proc/{process}/ns/{kind}"));
    let status = files::read_kernel(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::split_whitespace)
            .ok_or_else(|| io::Error::other(format!("no {name} in /proc/{process}/status")))
    };
    let number = |text: Option<&str>| {
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| io::Error::other("a number of /proc/PID/status is none"))
    };
    Ok(Confinement {
        user_namespace: namespace("user")?,
        mount_namespace: namespace("mnt")?,
        pid_namespace: namespace("pid")?,
        no_new_privileges: number(field("NoNewPrivs")?.next())? != 0,
        seccomp_filters: number(field("Seccomp_filters")?.next())?,
    })
}
