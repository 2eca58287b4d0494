//! `elevon-elevator doctor`: what is in force on this computer, and what is wrong.

use std::os::unix::net::UnixStream;
use std::path::Path;

use elevon_wire::channel::Trust;

use crate::config::Config;
use crate::files;
use crate::launch::{containment, landlock, limits};
use crate::packages::Packages;
use crate::pam;
use crate::syscall;

/// `println!` for readers who may have heard enough, such as `head`: they end nothing.
macro_rules! say {
    ($($told:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($told)*);
    }};
}

/// Prints one fact a line; whether everything that is needed is there.
pub(crate) fn examine(config: &Config) -> bool {
    let root = rustix::process::geteuid().is_root();
    let mut well = tell(root, "runs as root", "run it as root: only root sees the state and the cgroups");
    well &= tell(kernel_is_new_enough(), "the kernel is 6.1 or later", "Elevon needs Linux 6.1 or later");
    let elevator = process_on(&config.run_dir.join("elevator.sock"));
    say!("     what ends a process tree here:");
    of_elevator(
        elevator.as_deref(),
        containment::are_made_by,
        "an own cgroup (version 2), killed until it is empty",
        "no cgroup v2 that can be written to",
    );
    layer(true, "a session that adopts and sweeps what loses its parent", "");
    layer(true, "a deadline that the session keeps by itself", "");
    containing(elevator.as_deref());
    let peer = syscall_peer();
    layer(
        peer,
        "callers are known by a descriptor of their process",
        "before Linux 6.5: by number and start time",
    );
    packages(config);
    well &= pam(config);
    let trust = files::read_json::<Trust>(&config.state_dir.join("trust.json"));
    match trust {
        Ok(Some(trust)) => say!("ok   enrolled as computer {}", trust.computer),
        Ok(None) => {
            well &= tell(
                false,
                "enrolled",
                "not enrolled; an administrator makes a token in the console: Computers",
            )
        }
        Err(error) => well &= tell(false, "enrolled", &error.to_string()),
    }
    let agent = uzers::get_user_by_name(&config.agent_user).is_some();
    let advice =
        format!("there is no user {}; make one: useradd --system {}", config.agent_user, config.agent_user);
    well &= tell(agent, "the agent's user exists", &advice);
    well &= answers(&config.run_dir.join("elevator.sock"), "the elevator answers");
    well
}

/// Without it nobody is elevated: whether accounts are locked or expired could not be asked.
fn pam(config: &Config) -> bool {
    match pam::examined(config.pam_dir.as_deref()) {
        Ok((file, modules)) => {
            let modules = if modules == 1 { "1 module".into() } else { format!("{modules} modules") };
            tell(true, &format!("PAM is asked about accounts: {}, {modules}", file.display()), "")
        }
        Err(cause) => {
            tell(false, "", &format!("PAM cannot be asked about accounts, so nothing is elevated: {cause}"))
        }
    }
}

/// Containment is refused where a part of it is missing; limits are only recorded as absent.
fn containing(elevator: Option<&str>) {
    say!("     what holds a contained program here:");
    let landlock = landlock::version();
    let known =
        landlock.map_or_else(|| "Landlock".to_owned(), |version| format!("Landlock, version {version}"));
    layer(landlock.is_some(), &known, "before version 6 (Linux 6.12), or switched off; nothing is contained");
    match containment::missing() {
        None => layer(true, "PID and mount namespaces, a bounding set, a filter of system calls", ""),
        Some(missing) => layer(false, missing, "where a list wants containment, nothing is elevated"),
    }
    let absent = "no cgroup controller where the elevator is; such limits are recorded as absent";
    of_elevator(elevator, |process| limits::controllers(process).0, "limits on processes", absent);
    of_elevator(elevator, |process| limits::controllers(process).1, "limits on memory", absent);
}

/// The process that listens there.
fn process_on(socket: &Path) -> Option<String> {
    let socket = UnixStream::connect(socket).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
    Some(peer.pid.as_raw_nonzero().to_string())
}

/// What depends on where the elevator runs, and not on where the doctor does.
fn of_elevator(process: Option<&str>, is_there: impl Fn(&str) -> bool, name: &str, absent: &str) {
    match process {
        Some(process) => layer(is_there(process), name, absent),
        None => say!("     unknown    {name}: the elevator does not run"),
    }
}

/// Rules about vendors and products match nothing where no package database is read.
fn packages(config: &Config) {
    let (read, unread) = Packages::open(Path::new("/"), &config.state_dir).told();
    say!("     package databases that rules about vendors and products rest on:");
    match read.as_slice() {
        [] => layer(
            false,
            "dpkg or rpm",
            "none is here, or rpm writes to it just now; such rules match nothing",
        ),
        read => read.iter().for_each(|name| layer(true, name, "")),
    }
    if let Some(path) = unread {
        layer(
            false,
            "rpm",
            &format!("{} is of a kind that is not read; such rules match nothing", path.display()),
        );
    }
}

fn tell(good: bool, fact: &str, advice: &str) -> bool {
    if good {
        say!("ok   {fact}");
    } else {
        say!("bad  {advice}");
    }
    good
}

fn layer(there: bool, name: &str, absent: &str) {
    if there {
        say!("     in force   {name}");
    } else {
        say!("     absent     {name}: {absent}");
    }
}

fn answers(socket: &Path, fact: &str) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => tell(true, fact, ""),
        Err(error) => {
            let advice =
                format!("nothing answers on {}: {error}; start it: elevon-elevator run", socket.display());
            tell(false, fact, &advice)
        }
    }
}

/// Linux 6.1 is the oldest on which everything the elevator relies on is there.
pub(crate) fn kernel_is_new_enough() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    let (major, minor) = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    (major, minor) >= (Some(6), Some(1))
}

fn syscall_peer() -> bool {
    let pair = UnixStream::pair();
    pair.is_ok_and(|(one, _other)| matches!(syscall::peer_pidfd(std::os::fd::AsFd::as_fd(&one)), Ok(Some(_))))
}
