//! `elevon-elevator`: the root part of Elevon on a computer. It measures, decides, launches and ends; it has no network and
//! no async runtime. A clean process first, then the spawner, then the threads.

mod authorize;
mod caller;
mod chance;
mod clock;
mod config;
mod confine;
mod connection;
mod doctor;
mod elevate;
mod elevator;
mod elsewhere;
mod files;
mod holdings;
mod journal;
mod launch;
mod launches;
mod listen;
mod measure;
mod packages;
mod pam;
mod session;
mod spawner;
mod starter;
mod syscall;
mod uplink;
mod waiting;
mod witness;

use std::fs::{DirBuilder, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Gid, Mode, Uid, chown, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::caller::Confinement;
use crate::config::Config;
use crate::elevator::Elevator;
use crate::launch::containment;
use crate::spawner::Spawner;

const HELP: &str = "\
The root part of Elevon on a computer: measures, decides, launches and ends elevated applications.

Usage: elevon-elevator COMMAND [OPTION]...

Commands:
  run      serve clients and the agent until SIGTERM
  doctor   say what is in force on this computer, and what is wrong

Options (also as keys of the settings file, and as ELEVON_… in the environment):
  --config FILE        settings file [/etc/elevon/elevator.toml]
  --state-dir FOLDER   its state, root only [/var/lib/elevon]
  --run-dir FOLDER     its sockets [/run/elevon]
  --agent-user USER    the account the agent runs under [elevon]
  --pam-dir FOLDER     where the PAM service `elevon` is, instead of PAM's own folders
  -h, --help           this page
  -V, --version        the version
";

fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("elevon-elevator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<ExitCode> {
    use lexopt::prelude::*;
    // Also after a command, where somebody may look for more.
    if std::env::args_os().skip(2).any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = lexopt::Parser::from_env();
    let first = arguments.next()?;
    match first {
        Some(Value(command)) if command == "run" => run(Config::load(arguments)?),
        Some(Value(command)) if command == "doctor" => {
            let well = doctor::examine(&Config::load(arguments)?);
            Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some(Long("help") | Short('h')) => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(Long("version") | Short('V')) => {
            println!("elevon-elevator {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => bail!("{}; `elevon-elevator --help` lists what there is", other.unexpected()),
        None => bail!("expected a command: run or doctor; `elevon-elevator --help` tells more"),
    }
}

fn run(config: Config) -> Result<ExitCode> {
    clean_process()?;
    syscall::share_arenas();
    let agent = uzers::get_user_by_name(&config.agent_user).with_context(|| {
        format!(
            "there is no user {}, whom the agent runs under; make one: useradd --system {}",
            config.agent_user, config.agent_user
        )
    })?;
    let own = Confinement::own().context("could not read how this process is confined")?;
    make_folder(&config.state_dir, 0o700)?;
    make_folder(&config.run_dir, 0o755)?;
    // Before there is any thread, and before the lock: what is launched must not hold it when the elevator is gone.
    let spawner = Spawner::start().context("could not start the spawner")?;
    let _lock = lock(&config.state_dir)?;
    let signals =
        syscall::signal_descriptor(&[libc::SIGTERM, libc::SIGINT]).context("could not take signals")?;
    make_room_for_descriptors().context("could not raise the limit on open files")?;
    confine::confine()?;
    let elevator = Arc::new(Elevator::open(config, spawner, own)?);
    serve(&elevator, agent.uid())?;
    let mut ready = [
        PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(elevator.spawner.process(), PollFlags::IN),
    ];
    poll(&mut ready, None)?;
    // What runs keeps its own deadline meanwhile.
    ensure!(
        !ready[0].revents().is_empty(),
        "the spawner is gone, and nothing can be launched any more; ending, to be started anew"
    );
    for name in ["elevator.sock", "agent.sock"] {
        // What is launched goes on under its session; a socket that stays would only mislead.
        let _ = files::remove(&elevator.config.run_dir.join(name));
    }
    containment::forget_cgroups();
    Ok(ExitCode::SUCCESS)
}

/// What was inherited from whoever started this does not count: rights of new files, signals, working
/// directory, environment.
fn clean_process() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "expected to run as root: nobody else can elevate anything"
    );
    ensure!(doctor::kernel_is_new_enough(), "expected Linux 6.1 or later");
    // Whoever ignores SIGCHLD is never told of a child's end, and programs would inherit what is ignored here.
    syscall::reset_signals();
    syscall::ignore(libc::SIGPIPE);
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::chdir("/").context("could not change to /")?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("could not forbid core dumps")?;
    Ok(())
}

/// As many as all clients together may have sent; a service is given far fewer. After the spawner: what is launched has
/// the limits that the elevator was started with.
fn make_room_for_descriptors() -> Result<()> {
    const WANTED: u64 = 65_536;
    let given = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: Some(given.current.unwrap_or(WANTED).max(WANTED)),
        maximum: given.maximum.map(|maximum| maximum.max(WANTED)),
    };
    // Root without CAP_SYS_RESOURCE takes what there is.
    let most = Rlimit { current: given.maximum, ..given };
    Ok(setrlimit(Resource::Nofile, raised).or_else(|_| setrlimit(Resource::Nofile, most))?)
}

fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    let about = || format!("could not make {}", folder.display());
    DirBuilder::new().recursive(true).mode(mode).create(folder).with_context(about)?;
    std::fs::set_permissions(folder, Permissions::from_mode(mode)).with_context(about)?;
    let facts = rustix::fs::stat(folder).with_context(about)?;
    ensure!(facts.st_uid == 0, "{} belongs to uid {}, expected root", folder.display(), facts.st_uid);
    Ok(())
}

/// Held for as long as the elevator runs.
fn lock(state: &Path) -> Result<File> {
    let path = state.join("lock");
    let file = File::create(&path).with_context(|| format!("could not make {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another elevator runs on {}; stop it first", state.display()))?;
    Ok(file)
}

/// Starts the threads: one for each socket, and one that watches over the launches.
fn serve(elevator: &Arc<Elevator>, agent: u32) -> Result<()> {
    let run_dir = &elevator.config.run_dir;
    let users = bind(&run_dir.join("elevator.sock"), 0o666, None)?;
    rustix::net::sockopt::set_socket_passcred(&users, true)?;
    let agents = bind(&run_dir.join("agent.sock"), 0o600, Some(agent))?;
    let layers = containment::layers();
    eprintln!(
        "elevon-elevator: ready on {}; a process tree is ended by {}its session's sweep and its session's own deadline",
        run_dir.join("elevator.sock").display(),
        if layers.cgroup { "its cgroup, " } else { "" }
    );
    let start = |name: &str, work: Box<dyn FnOnce() -> Result<()> + Send>| {
        let name = name.to_owned();
        std::thread::Builder::new().name(name.clone()).spawn(move || {
            if let Err(error) = work() {
                // Without one of its threads the elevator is of no use; whoever started it starts it anew.
                eprintln!("elevon-elevator: the thread for {name} ended: {error:#}");
                std::process::exit(1);
            }
        })
    };
    let own = || Arc::clone(elevator);
    let (clients, up, watch, ready) = (own(), own(), own(), own());
    let prepare = move || {
        ready.make_ready();
        ready.known.packages.prepare();
        Ok(())
    };
    start("packages", Box::new(prepare))?;
    let serve_clients = move || {
        listen::serve(&clients, users);
        Ok(())
    };
    start("clients", Box::new(serve_clients))?;
    start("agents", Box::new(move || Ok(uplink::serve(&up, &agents, agent)?)))?;
    start("launches", Box::new(move || watch.watch_launches()))?;
    Ok(())
}

/// Binds a socket that is there only once it has its rights: the umask lets nobody in before.
fn bind(path: &Path, mode: u32, owner: Option<u32>) -> Result<UnixListener> {
    let about = || format!("could not listen on {}", path.display());
    ensure!(
        UnixStream::connect(path).is_err(),
        "something else listens on {}; stop it first",
        path.display()
    );
    files::remove(path).with_context(about)?;
    let listener = UnixListener::bind(path).with_context(about)?;
    if let Some(owner) = owner {
        chown(path, Some(Uid::from_raw(owner)), None::<Gid>).with_context(about)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).with_context(about)?;
    Ok(listener)
}
