//! The display of the user who asked, for a program that policy lets get to it: their X display with their own key to it, and
//! their Wayland compositor's socket. Of what the client says only a display's number, a key's sixteen bytes and a socket's
//! name are taken; no file that a user names is opened here. The key goes into a file of its own, in a folder that goes with
//! the launch.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use elevon_policy::lists::RunsAs;
use elevon_policy::text::OsText;
use elevon_wire::conversation::Run;
use elevon_wire::display::{Cookie, LocalDisplay};

use super::credentials::Identity;
use crate::measure::{self, Known};

/// The longest name of a Wayland socket, in bytes.
const LONGEST: usize = 64;

/// What a program gets of it.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    x: Option<(LocalDisplay, Cookie)>,
    /// The compositor's socket, and the folder it lies in.
    wayland: Option<(OsText, OsText)>,
    /// What was named and is left out, and why.
    pub(crate) left_out: Vec<&'static str>,
}

impl Shown {
    /// What can be used of what the client named.
    pub(crate) fn of_the_user(run: &Run, uid: u32, known: &Known) -> Self {
        let sent = |wanted: &str| {
            let mut named = run.environment.iter().take(64);
            named.find(|(name, _)| name == wanted).map(|(_, value)| value.as_bytes())
        };
        let mut shown = Self::default();
        match sent("DISPLAY").map(|value| (LocalDisplay::parse(value), run.cookie)) {
            None => {}
            Some((Some(display), Some(cookie))) => shown.x = Some((display, cookie)),
            Some((Some(_), None)) => shown.left_out.push(
                "no X display: expected a key (MIT-MAGIC-COOKIE-1) to it in the file that XAUTHORITY names, or in ~/.Xauthority",
            ),
            Some((None, _)) => shown.left_out.push(
                "no X display: expected DISPLAY to name one of this computer, such as :0; others are not passed on",
            ),
        }
        match sent("WAYLAND_DISPLAY").map(|name| wayland(name, sent("XDG_RUNTIME_DIR"), uid, known)) {
            None => {}
            Some(Ok(found)) => shown.wayland = Some(found),
            Some(Err(because)) => shown.left_out.push(because),
        }
        shown
    }

    /// The variables, with what they name laid down in the launch's own folder. None where there is no display.
    ///
    /// Root is not sent into the user's runtime folder: what programs write there by name, its owner could lead to any file.
    pub(crate) fn provide(&self, folder: &Path, identity: &Identity) -> io::Result<Vec<(String, OsText)>> {
        let path = |path: &Path| OsText::new(path.as_os_str().as_bytes());
        let mut variables = Vec::new();
        if self.x.is_none() && self.wayland.is_none() {
            return Ok(variables);
        }
        make_folder(folder, identity)?;
        let mut set = |name: &str, value| variables.push((name.to_owned(), value));
        if let Some((display, cookie)) = &self.x {
            let file = folder.join("Xauthority");
            lay_down(&file, &cookie.file(*display), identity)?;
            set("DISPLAY", OsText::from(display.to_string().as_str()));
            set("XAUTHORITY", path(&file));
        }
        if let Some((socket, runtime)) = &self.wayland {
            set("WAYLAND_DISPLAY", socket.clone());
            if identity.runs_as == RunsAs::SameUser {
                set("XDG_RUNTIME_DIR", runtime.clone());
            }
        }
        if identity.runs_as == RunsAs::Root {
            set("XDG_RUNTIME_DIR", path(folder));
        }
        Ok(variables)
    }
}

/// The socket of the user's own compositor, and the folder it lies in; or why there is none. A program is given its whole
/// path, which libwayland takes as it is.
fn wayland(
    name: &[u8],
    runtime: Option<&[u8]>,
    uid: u32,
    known: &Known,
) -> Result<(OsText, OsText), &'static str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    if name.is_empty() || name.len() > LONGEST || name.starts_with(b".") || !name.iter().all(plain) {
        return Err(
            "no Wayland display: expected WAYLAND_DISPLAY to be a name such as wayland-0, without a path",
        );
    }
    let folder = format!("/run/user/{uid}");
    if runtime != Some(folder.as_bytes()) {
        return Err("no Wayland display: expected XDG_RUNTIME_DIR to be the user's own folder in /run/user");
    }
    let socket = OsText::new([folder.as_bytes(), b"/", name].concat());
    match measure::is_socket_of(&socket, uid, known) {
        true => Ok((socket, OsText::from(folder.as_str()))),
        false => Err("no Wayland display: expected a socket of the user's own in their folder in /run/user"),
    }
}

/// Root's; one that runs as the user goes through it, and lists or changes nothing.
fn make_folder(folder: &Path, identity: &Identity) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    if identity.runs_as == RunsAs::SameUser {
        std::fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    }
    Ok(())
}

/// A file that root alone changes, and that whoever runs the program reads. One of the user's own could be made as long as
/// they like, where everybody's room is.
fn lay_down(path: &Path, bytes: &[u8], identity: &Identity) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    if identity.runs_as == RunsAs::SameUser {
        let list = read_by(identity.uid);
        rustix::fs::fsetxattr(&file, c"system.posix_acl_access", &list, rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

/// An access list as the kernel takes it (`linux/posix_acl_xattr.h`): a version, then tag, permissions and id of each entry,
/// little-endian. The owner reads and writes, this user reads, nobody else does anything.
fn read_by(uid: u32) -> Vec<u8> {
    const VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    const ENTRIES: [(u16, u16); 5] = [(0x01, 6), (0x02, 4), (0x04, 0), (0x10, 4), (0x20, 0)];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, may) in ENTRIES {
        let id = if tag == 0x02 { uid } else { NOBODY };
        list.extend(tag.to_le_bytes());
        list.extend(may.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}
