//! Opens a program once, measures that very file, and says whether its path can be believed. What comes out is all that the
//! launcher may execute: descriptors, never a name that could lead elsewhere a moment later.
//!
//! Two lanes: where every component of the path is root's alone, the file itself is executed. Anything
//! else is copied into sealed memory first; the copy is what is hashed, and the copy is what is executed.

mod beliefs;
pub(crate) mod component;
mod digest;
mod look_up;
mod mounts;
mod not_measured;
mod preflight;
mod script;
mod seal;
mod trust;
mod walk;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use elevon_policy::application::{Application, Lane, Sha256, User};
use elevon_policy::text::OsText;
use rustix::fs::FileType;

pub(crate) use not_measured::NotMeasured;

use digest::{Contents, Form, State};
use look_up::Found;
use mounts::{Mounts, Table};
use walk::Facts;

use crate::packages::Packages;

/// Who asks, as the kernel knows them: files are looked up with these rights.
pub(crate) struct Caller {
    /// The account.
    pub(crate) user: User,
    /// Its group.
    pub(crate) gid: u32,
    /// Its supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// What is known of files that nobody but root can change.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Their contents.
    contents: Contents,
    /// What they lie on.
    mounts: Arc<Table>,
    /// The packages they are from.
    pub(crate) packages: Packages,
}

impl Known {
    /// Nothing yet, and these databases to ask.
    pub(crate) fn new(packages: Packages) -> Self {
        Self { packages, ..Self::default() }
    }
}

/// What would run, in all that a decision is made from and a launch needs.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The facts.
    pub(crate) application: Application,
    /// The program's own name first, then the arguments as typed.
    pub(crate) argv: Vec<OsText>,
    /// What the launcher executes.
    pub(crate) program: Program,
}

/// What the launcher executes. All descriptors are close-on-exec and open for reading only.
#[derive(Debug)]
pub(crate) enum Program {
    /// A program that the processor runs.
    Binary {
        /// Trusted: the file itself. Untrusted: the sealed copy.
        file: OwnedFd,
    },
    /// A program that another one reads. Its vector is `interpreter_name`, `argument`, the script, then `argv` without its
    /// first.
    Script {
        /// The interpreter's own file; always trusted.
        interpreter: OwnedFd,
        /// Its `argv[0]`: as the script's first line writes it.
        interpreter_name: OsText,
        /// What the first line gives it.
        argument: Option<OsText>,
        /// What it reads.
        script: ScriptSource,
    },
    /// A component: there is nothing to execute.
    Nothing,
}

/// What the interpreter reads.
#[derive(Debug)]
pub(crate) enum ScriptSource {
    /// A trusted path, which equals `argv[0]`, so that the script's `$0` is right.
    Path(OsText),
    /// The sealed copy: the launcher keeps it open across exec, and passes `/dev/fd/N`.
    Sealed(OwnedFd),
}

/// The bytes that would run, from wherever they can no longer change unseen.
struct Bytes {
    file: OwnedFd,
    sha256: Sha256,
    /// Only where a package recorded such a digest of the file.
    md5: Option<[u8; 16]>,
    size: u64,
    /// Whether the kernel would execute this descriptor; a sealed copy may be good for reading only.
    executable: bool,
}

/// Longer command lines are not taken, in bytes: they are signed, stored, sent, and read by people.
const MAX_COMMAND_LINE: usize = 256 << 10;

/// Whether root alone decides what this absolute path leads to; otherwise which component somebody else could change, and how.
pub(crate) fn root_alone_can_change(path: &OsText) -> Result<(), (OsText, &'static str)> {
    trust::believe(path, &Mounts::default()).map(drop).map_err(|doubt| {
        let (component, because) = doubt.parts();
        (component, because.sentence())
    })
}

/// Looks the command up as the caller, opens it once, and measures it. `directory` is the caller's working directory.
///
/// May wait for a network file system; never for a FIFO, a device, a lease, or a file system that a program serves.
pub(crate) fn measure(
    caller: &Caller,
    directory: BorrowedFd<'_>,
    command: &OsText,
    arguments: &[OsText],
    known: &Known,
) -> Result<Measured, NotMeasured> {
    check_command_line(command, arguments)?;
    let mounts = Mounts::of_table(&known.mounts);
    let found = look_up::look_up(caller, directory, command, &mounts)?;
    let path = found.place.canonical()?;
    let (file, facts) = found.place.open_for_reading()?;
    let lane = trust::lane(&found.place, &path, &mounts);
    let trusted = lane == Lane::Trusted;
    let state = State::of(&facts);
    let form = match trusted.then(|| known.contents.form(&state)).flatten() {
        Some(form) => form,
        // Before a copy is made: most files that cannot be executed are found out here.
        None => Form::read(&file, &path)?,
    };
    let (package_database, owned) = known.packages.look(trusted.then_some(&path));
    let (bytes, form) = match trusted {
        true => {
            (digest::trusted((file, state), &path, Some(&form), owned.as_deref(), &known.contents)?, form)
        }
        false => {
            let copy = seal::copy(&file, &path)?;
            // What runs is the copy, and so is what counts.
            let form = Form::read(&copy.file, &path)?;
            (copy, form)
        }
    };
    let package = owned.map(|owned| bytes.package(&owned));
    let name = name(&found, &path, trusted, &mounts);
    let (program, interpreter) = match form {
        Form::Script(shebang) => {
            let (interpreter, facts) = script::reader(caller, &shebang, &path, &mounts, known)?;
            let script = match trusted {
                true => ScriptSource::Path(name.clone()),
                false => ScriptSource::Sealed(bytes.file),
            };
            let (interpreter_name, argument) = (shebang.interpreter, shebang.argument);
            (Program::Script { interpreter, interpreter_name, argument, script }, Some(facts))
        }
        Form::Program(_) if !bytes.executable => return Err(NotMeasured::CopiesOff { path }),
        Form::Program(program) => {
            preflight::check(caller, &program, &path, trusted, &mounts)?;
            (Program::Binary { file: bytes.file }, None)
        }
    };
    let Facts { owner, mode, .. } = found.place.facts;
    let application = Application {
        path,
        sha256: bytes.sha256,
        size: bytes.size,
        owner,
        mode: mode & 0o7777,
        lane,
        interpreter,
        package,
        package_database,
        component: None,
    };
    let argv = std::iter::once(name).chain(arguments.iter().cloned()).collect();
    Ok(Measured { application, argv, program })
}

/// A folder that a contained program may write to: reached without links, and such that nobody but root, and `owner`, can
/// change what lies there or where the path leads. Otherwise which component it is about, and what is wrong with it.
pub(crate) fn folder(path: &OsText, owner: u32, known: &Known) -> Result<OwnedFd, (OsText, &'static str)> {
    trust::believe_folder(path, owner, &Mounts::of_table(&known.mounts)).map(|place| place.file)
}

/// Whether this is a socket of that user, reached without links by folders that nobody but root, and the user, can change.
pub(crate) fn is_socket_of(path: &OsText, uid: u32, known: &Known) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    let found = walk::walk(None, path.as_bytes(), 0, &Mounts::of_table(&known.mounts), |place| {
        let facts = &place.facts;
        let theirs = match facts.kind() {
            FileType::Directory => (facts.owner == 0 || facts.owner == uid) && facts.mode & OTHERS_WRITE == 0,
            FileType::Socket => facts.owner == uid,
            _ => false,
        };
        if theirs { Ok(()) } else { Err(()) }
    });
    found.is_ok_and(|place| place.facts.kind() == FileType::Socket)
}

fn check_command_line(command: &OsText, arguments: &[OsText]) -> Result<(), NotMeasured> {
    let words = std::iter::once(command).chain(arguments);
    if words.map(|word| word.as_bytes().len() + 1).sum::<usize>() > MAX_COMMAND_LINE {
        return Err(NotMeasured::TooLong { limit: MAX_COMMAND_LINE });
    }
    let has_nul = |text: &OsText| text.as_bytes().contains(&0);
    if has_nul(command) || arguments.iter().any(has_nul) {
        return Err(NotMeasured::Nul { command: command.clone() });
    }
    Ok(())
}

/// The program's own name: the link that the user named, where only root could have laid it; else the file's path. Many
/// programs act by the name they are called by, so a name that a user may choose is never passed on.
fn name(found: &Found, path: &OsText, trusted: bool, mounts: &Mounts) -> OsText {
    let leads_here = |link: &OsText| {
        link == path
            || trust::leads_to(link, mounts).is_ok_and(|end| end.identity == found.place.facts.identity)
    };
    found.link().filter(|link| trusted && leads_here(link)).unwrap_or_else(|| path.clone())
}
