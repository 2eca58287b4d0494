//! What an elevated application takes over from its caller: descriptors, a few variables, the umask, the terminal's size.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Stderr, Stdin, Stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use elevon_policy::text::OsText;
use elevon_wire::conversation::WindowSize;
use rustix::fs::{CWD, Mode, OFlags};

/// What a launch takes over from its caller: working directory, standard input, output and error. The standard library
/// opens the null device in place of a closed one before `main`, so all three are there.
#[derive(Debug)]
pub struct Caller {
    directory: OwnedFd,
    input: Stdin,
    output: Stdout,
    error: Stderr,
}

impl Caller {
    /// This process's own. The working directory is opened by descriptor only: it may have no name any more.
    pub fn of_this_process() -> io::Result<Self> {
        let directory =
            rustix::fs::openat(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { directory, input: io::stdin(), output: io::stdout(), error: io::stderr() })
    }

    /// In the order in which they are sent along with `Run`.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 4] {
        [self.directory.as_fd(), self.input.as_fd(), self.output.as_fd(), self.error.as_fd()]
    }

    /// The one that is sent along with `Explain`.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The few variables that may matter to an application: TERM, LANG, LC_*, TZ. The elevator checks them once more.
pub fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, OsText)> {
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, OsText::new(value.into_vec()))))
        .filter(|(name, _)| matches!(name.as_str(), "TERM" | "LANG" | "TZ") || name.starts_with("LC_"))
        .collect()
}

/// This process's umask. Reading it means setting it, so no other thread may be creating files.
pub fn umask() -> u32 {
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    mask.bits()
}

/// The size of the first terminal among standard input, output and error.
pub fn window() -> Option<WindowSize> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let terminals = [
        input.is_terminal().then(|| input.as_fd()),
        output.is_terminal().then(|| output.as_fd()),
        error.is_terminal().then(|| error.as_fd()),
    ];
    let size = rustix::termios::tcgetwinsize(terminals.into_iter().flatten().next()?).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_variables_that_may_matter_go_along() {
        let given = ["TERM", "LANG", "LC_TIME", "TZ", "LD_PRELOAD", "PATH", "LANGUAGE", "XLC_A", "LC"];
        let kept = environment(given.into_iter().map(|name| (name.into(), "x".into())));
        let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["TERM", "LANG", "LC_TIME", "TZ"]);
    }
}
