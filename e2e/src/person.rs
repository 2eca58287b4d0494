//! Operating-system users that exist as long as a site does.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::clock::{SOON, until};
use crate::program::{must, run};

/// A user of the operating system, removed when dropped.
#[derive(Debug)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
}

impl Person {
    /// Makes the user, with an own group and a home directory of mode 0700.
    pub fn create(name: &str, home: &Path) -> Result<Self> {
        let _turn = Turn::take()?;
        // No log-in history, no mail box: userdel would leave them behind.
        let mut useradd = Command::new("useradd");
        useradd.args([
            "--user-group",
            "--no-create-home",
            "--no-log-init",
            "--shell",
            "/bin/bash",
            "--home-dir",
        ]);
        must(useradd.arg(home).arg(name), b"").context("make a user for the test; this needs root")?;
        let mut person = Self { name: name.into(), uid: 0, gid: 0, home: home.into() };
        let number = |option| -> Result<u32> {
            Ok(must(Command::new("id").args([option, name]), b"")?.trim().parse()?)
        };
        (person.uid, person.gid) = (number("-u")?, number("-g")?);
        fs::create_dir_all(home)?;
        chown(home, Some(person.uid), Some(person.gid))?;
        fs::set_permissions(home, PermissionsExt::from_mode(0o700))?;
        Ok(person)
    }

    /// Runs a command that changes the tables of users, such as `usermod`.
    pub fn administer(&self, command: &mut Command) -> Result<()> {
        let _turn = Turn::take()?;
        must(command, b"").map(drop)
    }

    /// Gives the user a password.
    pub fn set_password(&self, password: &str) -> Result<()> {
        let _turn = Turn::take()?;
        must(&mut Command::new("chpasswd"), format!("{}:{password}\n", self.name).as_bytes()).map(drop)
    }

    /// Whether nobody has this name yet.
    pub fn is_free(name: &str) -> bool {
        !exists(name) && !in_file("/etc/group", name)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes a user of a test.
pub fn remove(name: &str) {
    let _turn = Turn::take();
    // userdel refuses while a process of the user is still being reaped.
    let gone = until("the removal of a test user", SOON, || {
        let _ = run(Command::new("userdel").args(["--force", name]), b"");
        Ok((!exists(name)).then_some(()))
    });
    let _ = run(Command::new("groupdel").arg(name), b"");
    if let Err(error) = gone {
        eprintln!("the user {name} could not be removed: {error}");
    }
}

/// Names and numbers of the users whose home directories lie below this one.
pub fn at_home_in(directory: &Path) -> Vec<(String, u32)> {
    let table = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, home, ..] = fields.as_slice() else { return None };
        Path::new(home).starts_with(directory).then_some(((*name).to_owned(), uid.parse().ok()?))
    };
    table.lines().filter_map(user).collect()
}

/// Whether the operating system knows a user of this name.
pub fn exists(name: &str) -> bool {
    in_file("/etc/passwd", name)
}

fn in_file(file: &str, name: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.split(':').next() == Some(name)))
}

/// useradd and userdel give up when another one is at work, so they take turns.
struct Turn {
    _file: File,
}

impl Turn {
    fn take() -> Result<Self> {
        // The directory stays the same file, whatever is renamed into it.
        let file = File::open("/etc")?;
        until("a turn at making users", Duration::from_secs(60), || {
            Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).ok())
        })?;
        Ok(Self { _file: file })
    }
}
