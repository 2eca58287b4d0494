//! What an elevated application takes over from its caller: descriptors, a few variables, the umask, the terminal's size,
//! the key to the display.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Stderr, Stdin, Stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use elevon_policy::text::OsText;
use elevon_wire::conversation::WindowSize;
use elevon_wire::display::{Cookie, LocalDisplay};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat};
use rustix::system::uname;

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

/// More keys than anybody has.
const MOST_KEYS: u64 = 1 << 20;

/// The few variables that may matter to an application: TERM, LANG, LC_*, TZ, and where the user's display is. The elevator
/// checks them once more.
pub fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, OsText)> {
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, OsText::new(value.into_vec()))))
        .filter(|(name, _)| {
            let of_the_display = matches!(name.as_str(), "DISPLAY" | "WAYLAND_DISPLAY" | "XDG_RUNTIME_DIR");
            of_the_display || matches!(name.as_str(), "TERM" | "LANG" | "TZ") || name.starts_with("LC_")
        })
        .collect()
}

/// The key to the X display that `DISPLAY` says, from the file that `XAUTHORITY` names or the one in the home folder. It is
/// read here, with the user's own rights, because whoever has more must not open what a user names.
pub fn cookie(variable: impl Fn(&str) -> Option<OsString>) -> Option<Cookie> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    let display = LocalDisplay::parse(given("DISPLAY").as_deref().map(OsStr::as_bytes)?)?;
    let named = given("XAUTHORITY").map(PathBuf::from);
    let file = named.or_else(|| given("HOME").map(|home| Path::new(&home).join(".Xauthority")))?;
    Cookie::find(&keys(&file)?, display, uname().nodename().to_bytes())
}

/// What a small regular file holds. Nothing else is waited for, or read.
fn keys(path: &Path) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let facts = fstat(&file).ok()?;
    let small = u64::try_from(facts.st_size).is_ok_and(|size| size <= MOST_KEYS);
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile || !small {
        return None;
    }
    let mut keys = Vec::new();
    File::from(file).take(MOST_KEYS).read_to_end(&mut keys).ok()?;
    Some(keys)
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
        let given = [
            "TERM",
            "LANG",
            "LC_TIME",
            "TZ",
            "DISPLAY",
            "WAYLAND_DISPLAY",
            "XDG_RUNTIME_DIR",
            "XAUTHORITY",
            "LD_PRELOAD",
            "PATH",
            "LANGUAGE",
            "XLC_A",
            "LC",
            "XDG_CONFIG_HOME",
            "WAYLAND_SOCKET",
        ];
        let kept = environment(given.into_iter().map(|name| (name.into(), "x".into())));
        let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["TERM", "LANG", "LC_TIME", "TZ", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"]);
    }

    #[test]
    fn a_key_is_read_from_a_small_regular_file_and_from_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let display = LocalDisplay::parse(b":7").expect("a display");
        let key: Cookie = serde_json::from_str("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]").expect("a key");
        let file = folder.path().join("keys");
        std::fs::write(&file, key.file(display)).expect("written");
        let given = |path: &Path, display: &str| {
            let (path, display) = (path.to_owned(), display.to_owned());
            cookie(move |name| match name {
                "XAUTHORITY" => Some(path.clone().into()),
                "DISPLAY" => Some(display.clone().into()),
                _ => None,
            })
        };
        assert_eq!(given(&file, ":7.0"), Some(key));
        assert_eq!(given(&file, ":8"), None);
        assert_eq!(given(&file, "elsewhere:7"), None);
        std::fs::copy(&file, folder.path().join(".Xauthority")).expect("copied");
        let at_home = cookie(|name| match name {
            "HOME" => Some(folder.path().into()),
            "DISPLAY" => Some(":7".into()),
            _ => None,
        });
        assert_eq!(at_home, Some(key));
        assert_eq!(cookie(|_| None), None);

        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let huge = folder.path().join("huge");
        std::fs::copy(&file, &huge).expect("copied");
        File::options().write(true).open(&huge).and_then(|file| file.set_len(1 << 30)).expect("made long");
        for path in [&pipe, &huge, folder.path(), Path::new("/dev/zero"), Path::new("/dev/null")] {
            assert_eq!(given(path, ":7"), None, "{}", path.display());
        }
    }
}
