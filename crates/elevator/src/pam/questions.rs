//! The warm helper: a process with PAM's library and the service's modules loaded, forked by the spawner. It runs none of their
//! code itself. For each question there is a process of its own, made ahead, so that a module that hangs, crashes, ends or
//! changes its process does so to one attempt and to nothing else.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use elevon_policy::text::Text;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdFlags, WaitOptions, pidfd_open, wait, waitpid};
use serde::{Deserialize, Serialize};

use super::LIMIT;
use super::account::{self, NotAdmitted};
use super::presence::{self, NotPresent};
use super::stack::{SERVICE, Stack};
use crate::connection::{Connection, Lost, Speaker};
use crate::syscall::pam::{Begun, Library, clear_environment, keep_loaded};
use crate::syscall::{self, Fork};

/// Asks the helper for a process that answers one question. With the first comes what it should know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Make {
    /// The folder of PAM's services, where it is not PAM's own.
    pub(super) folder: Option<PathBuf>,
}

/// With it come two descriptors: the process, and the line to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Made {
    /// The process's number.
    Process(i32),
    /// There is none.
    Failed(String),
}

/// One question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// Whether this user's account may be used; answered by [`Answer`].
    Account { user: Text },
    /// Whether it is really this user who sits there: with it comes the conversation with their client, on which only this
    /// process counts. Answered by [`Progress`] until the end.
    Presence { user: Text, client: Speaker },
}

/// Whether an account may be used.
pub(super) type Answer = Result<(), NotAdmitted>;

/// How far the proof of a presence is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Progress {
    /// The person is waited for.
    Waits,
    /// The modules are.
    Works,
    /// It is over.
    Over(Result<(), NotPresent>),
}

/// Becomes the helper, in the forked child.
pub(crate) fn run(line: OwnedFd) -> ! {
    let status = match serve(Connection::new(line, LIMIT, None)) {
        Ok(()) | Err(Lost::Closed) => 0,
        Err(lost) => {
            eprintln!("elevon-elevator: the PAM helper cannot go on: {lost}");
            1
        }
    };
    syscall::exit_now(status)
}

/// What is loaded, and in which state it was then.
struct Loaded {
    library: Result<Library, String>,
    stamps: BTreeMap<PathBuf, Stamp>,
    /// Whether the modules are loaded, too.
    warm: bool,
    /// The service as it was last found.
    service: Option<Service>,
}

type Stamp = Option<(u64, u64, i64, i64)>;

fn serve(mut line: Connection) -> Result<(), Lost> {
    syscall::name_process(c"elevon-pam");
    rustix::process::setsid()?;
    clear_environment();
    let signals = syscall::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT])?;
    let mut loaded: Option<Loaded> = None;
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
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        }
        if asked {
            let make: Make = line.receive()?;
            let folder = make.folder.as_deref();
            let loaded = loaded.get_or_insert_with(|| Loaded::warm(folder));
            if loaded.is_out_of_date() {
                // Another helper is made, which loads what is there now.
                return Ok(());
            }
            loaded.look_again(folder);
            answer(&line, folder, loaded)?;
        }
    }
}

impl Loaded {
    fn warm(folder: Option<&Path>) -> Self {
        let library = Library::load();
        let Ok(loaded) = &library else {
            return Self { library, stamps: BTreeMap::new(), warm: false, service: None };
        };
        // Looked at before it is loaded: what is replaced in between is seen.
        let modules = Stack::read(folder, modules(loaded).as_deref()).unwrap_or_default().modules;
        let files: Vec<PathBuf> = loaded.place().map(Path::to_owned).into_iter().chain(modules).collect();
        let stamps = files.iter().map(|path| (path.clone(), stamp(path))).collect();
        // The first of them is the library, which is loaded.
        let modules = files.get(1..).unwrap_or_default();
        let warm = can_be_loaded(modules);
        if warm {
            modules.iter().for_each(|module| keep_loaded(module));
        }
        Self { library, stamps, warm, service: None }
    }

    fn is_out_of_date(&self) -> bool {
        self.stamps.iter().any(|(path, then)| stamp(path) != *then)
    }

    /// Reads the service where it has changed; what cannot be used is told when it is asked for.
    fn look_again(&mut self, folder: Option<&Path>) {
        if let Ok(library) = &self.library
            && !self.service.as_ref().is_some_and(Service::is_current)
        {
            self.service = Service::read(folder, library).ok();
        }
    }

    fn is_current(&self) -> bool {
        self.service.as_ref().is_some_and(Service::is_current)
    }

    /// Begins an attempt ahead of its question, where no module is loaded by that and PAM reads what was looked at.
    fn ahead(&self, folder: Option<&Path>) -> Option<Begun<'_>> {
        let library = self.library.as_ref().ok().filter(|_| self.warm && self.is_current())?;
        begin(library, folder).ok()
    }

    /// The attempt that was begun ahead, where it was begun with the service as that is now, or another.
    fn attempt<'a>(&'a self, folder: Option<&Path>, ahead: Option<Begun<'a>>) -> Result<Begun<'a>, String> {
        let library = self.library.as_ref().map_err(Clone::clone)?;
        match (self.is_current(), ahead) {
            (true, Some(ahead)) => return Ok(ahead),
            (true, None) => {}
            (false, _) => drop(Service::read(folder, library)?),
        }
        begin(library, folder)
    }
}

/// Begins an attempt with the service, from the folder that it was read from.
fn begin<'a>(library: &'a Library, folder: Option<&Path>) -> Result<Begun<'a>, String> {
    let service = CString::new(SERVICE).map_err(|_| "the service has a NUL in its name")?;
    let folder = folder.map(|folder| CString::new(folder.as_os_str().as_bytes())).transpose();
    let folder = folder.map_err(|_| "the folder of PAM's services has a NUL in its name")?;
    Begun::new(library, &service, folder.as_deref())
}

/// Where modules lie that are named without a folder: beside the library.
pub(super) fn modules(library: &Library) -> Option<PathBuf> {
    Some(library.place()?.parent()?.join("security"))
}

fn stamp(path: &Path) -> Stamp {
    fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino(), facts.ctime(), facts.ctime_nsec()))
}

/// Tries it in a process that may not survive it. Where it does not, modules are loaded for each question, as PAM does.
fn can_be_loaded(modules: &[PathBuf]) -> bool {
    match syscall::fork() {
        Ok(Fork::Child) => {
            modules.iter().for_each(|module| keep_loaded(module));
            syscall::exit_now(0)
        }
        Ok(Fork::Parent(pid)) => waitpid(Some(pid), WaitOptions::empty())
            .is_ok_and(|ended| ended.is_some_and(|(_, status)| status.exit_status() == Some(0))),
        Err(_) => false,
    }
}

fn answer(line: &Connection, folder: Option<&Path>, loaded: &Loaded) -> Result<(), Lost> {
    match make(folder, loaded) {
        Ok((pid, process, question)) => {
            line.send_with(&Made::Process(pid), &[process.as_fd(), question.as_fd()])
        }
        Err(error) => line.send(&Made::Failed(error.to_string())),
    }
}

fn make(folder: Option<&Path>, loaded: &Loaded) -> io::Result<(i32, OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    match syscall::fork()? {
        // The helper's own line above all: held here, too, its end would not be seen.
        Fork::Child => match syscall::close_all_but(&[0, 1, 2, theirs.as_raw_fd()]) {
            Ok(()) => be_asked(Connection::new(theirs, LIMIT, None), folder, loaded),
            Err(_) => syscall::exit_now(1),
        },
        Fork::Parent(pid) => Ok((pid.as_raw_nonzero().get(), pidfd_open(pid, PidfdFlags::empty())?, ours)),
    }
}

/// Answers one question, and ends without a word to the modules: what they would do then could take its time.
fn be_asked(mut line: Connection, folder: Option<&Path>, loaded: &Loaded) -> ! {
    // What a module does to its terminal or its group it does to nobody else's.
    let ready = rustix::process::setsid();
    syscall::reset_signals();
    let ahead = loaded.ahead(folder);
    if let Ok(question) = line.receive::<Question>() {
        let begun = ready.map_err(|errno| errno.to_string()).and_then(|_| loaded.attempt(folder, ahead));
        // Whoever asked may have lost patience.
        let _ = match question {
            Question::Account { user } => {
                let answer: Answer = begun
                    .map_err(|cause| NotAdmitted::Failed { cause })
                    .and_then(|begun| account::check(begun, &user));
                line.send(&answer).and_then(|()| line.receive_frame().map(drop))
            }
            Question::Presence { user, client } => {
                let over = begun
                    .map_err(|cause| NotPresent::Failed { cause })
                    .and_then(|begun| presence::prove(begun, &user, client, &mut line));
                line.send(&Progress::Over(over))
            }
        };
    }
    syscall::exit_now(0)
}

/// A service that may be used: where its files are looked for, and in which state each place was then.
struct Service(Vec<(PathBuf, Stamp)>);

impl Service {
    fn read(folder: Option<&Path>, library: &Library) -> Result<Self, String> {
        let stack = || Stack::read(folder, modules(library).as_deref()).map_err(|unfit| unfit.to_string());
        let read = stack()?;
        let stamps = read.places.iter().map(|path| (path.clone(), stamp(path))).collect();
        // Twice: what is replaced while it is looked at is seen.
        match stack()? == read {
            true => Ok(Self(stamps)),
            false => Err("its service was changed while it was read".into()),
        }
    }

    fn is_current(&self) -> bool {
        self.0.iter().all(|(path, then)| stamp(path) == *then)
    }
}
