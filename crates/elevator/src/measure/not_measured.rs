//! Why a program could not be measured, in words for the one who typed its name.

use std::fmt;

use elevon_identify::elf::NotElf;
use elevon_identify::script::BadShebang;
use elevon_policy::application::Distrust;
use elevon_policy::event::DenyReason;
use elevon_policy::text::{OsText, Text};
use rustix::io::Errno;

/// Why a program could not be measured. What the caller may not see looks as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotMeasured {
    /// The command, or an argument, has a NUL in it, which no program can be given.
    Nul {
        /// As typed.
        command: OsText,
    },
    /// Command and arguments are longer than what is taken.
    TooLong {
        /// In bytes.
        limit: usize,
    },
    /// There is no such file, or none that the caller may see.
    NotFound {
        /// As typed.
        command: OsText,
    },
    /// There is no such component.
    NoComponent {
        /// As typed.
        name: OsText,
    },
    /// It is not one component, but a D-Bus name that stands for these.
    Shorthand {
        /// As typed.
        name: OsText,
        /// The actions.
        actions: Vec<Text>,
    },
    /// There is a file, but it is nothing that can be executed.
    Unfit {
        /// Where.
        path: OsText,
        /// Why.
        unfit: Unfit,
    },
    /// It lies where nothing is run from.
    FileSystem {
        /// Where.
        path: OsText,
        /// The file system's type.
        kind: String,
    },
    /// Something that it needs in order to start can be changed by others than root: its interpreter, or a folder of
    /// libraries.
    UntrustedInterpreter {
        /// The program or script.
        path: OsText,
        /// What it needs, as it names it.
        needs: OsText,
        /// The component that could be changed.
        component: OsText,
        /// By what.
        because: Distrust,
    },
    /// It is larger than what is measured.
    TooLarge {
        /// Where.
        path: OsText,
        /// In bytes.
        limit: u64,
    },
    /// It changed while it was measured.
    Changed {
        /// Where.
        path: OsText,
    },
    /// Its path is not trusted, and this computer does not execute sealed copies.
    CopiesOff {
        /// Where.
        path: OsText,
    },
    /// The operating system failed.
    System {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: OsText,
        /// What it said.
        errno: Errno,
    },
}

/// Why a file cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A folder, device, FIFO or socket.
    NoRegularFile,
    /// The caller may not execute it, or its mount is `noexec`.
    Denied,
    /// It is the caller's working directory, and no folder that they may enter.
    WorkingDirectory,
    /// Somebody holds a lease on it.
    Held,
    /// Neither a program nor a script.
    NotElf(NotElf),
    /// A program for another kind of processor.
    Machine,
    /// Its first line names no interpreter.
    Shebang(BadShebang),
    /// The interpreter it names is not absolute, is not there, or may not be executed by the caller.
    Interpreter(OsText),
    /// The interpreter it names is itself a script, or no program.
    NestedInterpreter(OsText),
    /// It takes libraries from here, which is relative, or nowhere that the caller may look into.
    Libraries(OsText),
}

impl NotMeasured {
    pub(super) fn unfit(path: &OsText, unfit: Unfit) -> Self {
        Self::Unfit { path: path.clone(), unfit }
    }

    pub(super) fn system(operation: &'static str, path: &OsText, errno: Errno) -> Self {
        Self::System { operation, path: path.clone(), errno }
    }

    /// The client's exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::NotFound { .. } | Self::NoComponent { .. } | Self::Shorthand { .. } => 127,
            Self::CopiesOff { .. } | Self::System { .. } => 125,
            _ => 126,
        }
    }

    /// The audit trail's word for it, where it is a refusal.
    pub(crate) fn reason(&self) -> Option<DenyReason> {
        match self {
            Self::Nul { .. }
            | Self::TooLong { .. }
            | Self::Unfit { .. }
            | Self::FileSystem { .. }
            | Self::TooLarge { .. } => Some(DenyReason::NotExecutable),
            Self::UntrustedInterpreter { .. } => Some(DenyReason::UntrustedInterpreter),
            Self::Changed { .. } => Some(DenyReason::Changed),
            Self::NotFound { .. }
            | Self::NoComponent { .. }
            | Self::Shorthand { .. }
            | Self::CopiesOff { .. }
            | Self::System { .. } => None,
        }
    }

    /// What the user can do.
    pub(crate) fn next(&self) -> &'static str {
        match self {
            Self::Nul { .. } => "leave the NUL byte out of the command and its arguments",
            Self::TooLong { .. } => "split it into several commands, as xargs does",
            Self::NotFound { .. } => "check the spelling, or name the program by its path",
            Self::NoComponent { .. } => "`pkaction` lists the actions that there are",
            Self::Shorthand { .. } => "ask for one of them",
            Self::Unfit { unfit, .. } => unfit.next(),
            Self::FileSystem { .. } => "copy the program to a local disk and run it from there",
            Self::UntrustedInterpreter { .. } => {
                "ask an administrator to install it where only root can write, with all that it needs"
            }
            Self::TooLarge { .. } => "ask an administrator to install it where only root can write",
            Self::Changed { .. } => "run it again once nothing writes to it any more",
            Self::CopiesOff { .. } => {
                "ask an administrator to install it where only root can write, or to set vm.memfd_noexec below 2"
            }
            Self::System { .. } => "run it again; if that does not help, show this line to an administrator",
        }
    }
}

impl Unfit {
    fn next(&self) -> &'static str {
        match self {
            Self::NoRegularFile | Self::NotElf(_) => "name a program, or a script that begins with #!",
            Self::Denied => "run it from where you may execute it: elevation does not widen that",
            Self::WorkingDirectory => "run it from a folder of your own: cd",
            Self::Held => "end the program that holds a lease on it, or run it again later",
            Self::Machine => "get it for this computer's processor",
            Self::Libraries(_) => {
                "ask an administrator for a build that takes its libraries from the system's folders"
            }
            Self::Shebang(_) | Self::Interpreter(_) | Self::NestedInterpreter(_) => {
                "let its first line be #! and the full path of an installed program, such as #!/bin/sh"
            }
        }
    }
}

impl fmt::Display for NotMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nul { command } => {
                write!(f, "cannot run {}: the command or an argument holds a NUL byte", command.visible())
            }
            Self::TooLong { limit } => {
                write!(f, "cannot run it: command and arguments are longer than {} KiB", limit >> 10)
            }
            Self::NotFound { command } => {
                write!(f, "cannot run {}: no such program was found", command.visible())
            }
            Self::NoComponent { name } => {
                write!(f, "there is no polkit action {} on this computer", name.visible())
            }
            Self::Shorthand { name, actions } => {
                let actions: Vec<_> = actions.iter().map(|action| action.visible().to_string()).collect();
                write!(f, "{} is a D-Bus name, shorthand for {}", name.visible(), actions.join(", "))
            }
            Self::Unfit { path, unfit } => write!(f, "cannot run {}: {unfit}", path.visible()),
            Self::FileSystem { path, kind } => {
                let kind = OsText::from(kind.as_str());
                write!(
                    f,
                    "cannot run {}: programs are not run from its file system ({})",
                    path.visible(),
                    kind.visible()
                )
            }
            Self::UntrustedInterpreter { path, needs, component, because } => {
                write!(
                    f,
                    "cannot run {}: it needs {}, but {} {}",
                    path.visible(),
                    needs.visible(),
                    component.visible(),
                    because.sentence()
                )
            }
            Self::TooLarge { path, limit } => {
                write!(f, "cannot run {}: it is larger than {} MiB", path.visible(), limit >> 20)
            }
            Self::Changed { path } => {
                write!(f, "cannot run {}: it changed while it was measured", path.visible())
            }
            Self::CopiesOff { path } => write!(
                f,
                "cannot run {}: others than root can change its path, and this computer executes no sealed copies",
                path.visible()
            ),
            Self::System { operation, path, errno } => {
                write!(f, "{operation} {} failed: {errno}", path.visible())
            }
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRegularFile => f.write_str("it is not a regular file"),
            Self::Denied => f.write_str("you do not have the right to execute it"),
            Self::WorkingDirectory => f.write_str("it is no working directory that you may enter"),
            Self::Held => f.write_str("another program holds a lease on it"),
            Self::NotElf(not) => not.fmt(f),
            Self::Machine => f.write_str("it is a program for another kind of processor"),
            Self::Shebang(bad) => bad.fmt(f),
            Self::Interpreter(name) => {
                write!(
                    f,
                    "its interpreter {} is no absolute path of a program that you may run",
                    name.visible()
                )
            }
            Self::Libraries(place) => {
                let place = place.visible();
                write!(
                    f,
                    "it takes libraries from \"{place}\", which is no absolute path that you may look into"
                )
            }
            Self::NestedInterpreter(name) => {
                write!(f, "its interpreter {} is not itself a program", name.visible())
            }
        }
    }
}

impl std::error::Error for NotMeasured {}
