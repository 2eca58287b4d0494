//! A PostgreSQL of our own: in a temporary folder, on a free port of the loopback, as its own user, for as long as the
//! tests run.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::clock::until;
use crate::program::{find, is_root, run};

/// A running server, stopped and removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    child: Child,
    folder: PathBuf,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    url: String,
}

/// The folder of PostgreSQL's server programs: the newest that Debian has installed, else the one on the PATH.
pub(crate) fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").is_file() && bin.join("initdb").is_file())
        .collect();
    found.sort();
    let newest = found.pop().map(|(_, bin)| bin);
    newest.or_else(|| find("initdb").and_then(|initdb| Some(initdb.parent()?.to_owned())))
}

impl Postgres {
    /// Starts one for tests, which need not survive a loss of power.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&["fsync=off"])
    }

    /// Starts one that is as durable as in earnest.
    pub(crate) fn start_durable() -> Result<Self> {
        Self::start_with(&["fsync=on", "synchronous_commit=on"])
    }

    fn start_with(settings: &[&str]) -> Result<Self> {
        let programs = programs().context("PostgreSQL is not installed: `apt-get install postgresql`")?;
        // PostgreSQL refuses to run as root.
        let user = if is_root() { Some(user("postgres")?) } else { None };
        let folder = temporary_folder(user)?;
        let started = Self::start_in(&folder, programs, user, settings);
        if started.is_err() {
            remove(&folder);
        }
        started
    }

    fn start_in(
        folder: &Path,
        programs: PathBuf,
        user: Option<(u32, u32)>,
        settings: &[&str],
    ) -> Result<Self> {
        let password = random_hex()?;
        let secret = folder.join("password");
        fs::write(&secret, &password)?;
        own(&secret, user)?;
        let data = folder.join("data");
        let mut initdb = at(&programs, "initdb", folder, user);
        initdb.args([
            "--username=elevon",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]);
        initdb.arg(format!("--pwfile={}", secret.display())).arg("--pgdata").arg(&data).stdout(Stdio::null());
        run(&mut initdb).context("make a database cluster for the tests")?;
        for _ in 0..3 {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let mut postgres = at(&programs, "postgres", folder, user);
            postgres.arg("-D").arg(&data).arg("-k").arg(folder).args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ]);
            let quiet = ["max_connections=300", "log_min_messages=error", "log_min_error_statement=panic"];
            for setting in settings.iter().chain(&quiet) {
                postgres.args(["-c", *setting]);
            }
            let log = fs::File::create(folder.join("log"))?;
            let mut child = postgres.stdout(Stdio::null()).stderr(log).spawn().context("start postgres")?;
            let mut ended = false;
            let ready = until(Duration::from_secs(30), || {
                ended = !matches!(child.try_wait(), Ok(None));
                ended || is_ready(&programs, folder, port, user)
            });
            if ready && !ended {
                let url = format!("postgres://elevon:{password}@127.0.0.1:{port}/postgres");
                return Ok(Self { child, folder: folder.into(), programs, user, url });
            }
            if !ended {
                child.kill()?;
                child.wait()?;
                break;
            }
            // Someone else took the port in between.
        }
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        bail!("PostgreSQL did not come up for the tests; it said: {}", log.trim())
    }

    /// Its address, with the password, for the database `postgres`; the user in it may make others.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = at(&self.programs, "pg_ctl", &self.folder, self.user);
        stop.args(["stop", "--mode=immediate", "--silent", "--pgdata"]).arg(self.folder.join("data"));
        if run(&mut stop).is_err() {
            self.child.kill().ok();
        }
        self.child.wait().ok();
        remove(&self.folder);
    }
}

fn at(programs: &Path, name: &str, folder: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir(folder).stdin(Stdio::null());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn is_ready(programs: &Path, folder: &Path, port: u16, user: Option<(u32, u32)>) -> bool {
    let mut asks = at(programs, "pg_isready", folder, user);
    asks.args(["--quiet", "--host=127.0.0.1", "--port", &port.to_string()]);
    asks.status().is_ok_and(|status| status.success())
}

/// The numbers of an account.
fn user(name: &str) -> Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let numbers = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (found, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (found == name).then_some(Some((uid.parse().ok()?, gid.parse().ok()?)))?
    });
    numbers.with_context(|| {
        format!("there is no user {name}, whom the package postgresql makes; install it again")
    })
}

fn temporary_folder(user: Option<(u32, u32)>) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("elevon-postgres-{}", random_hex()?));
    fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    own(&folder, user)?;
    Ok(folder)
}

fn own(path: &Path, user: Option<(u32, u32)>) -> Result<()> {
    let Some((uid, gid)) = user else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).with_context(|| format!("hand {} to PostgreSQL", path.display()))
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        eprintln!("{} is left behind: {error}", folder.display());
    }
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    ensure!(bytes != [0; 16], "/dev/urandom gives nothing but zeros");
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs PostgreSQL's programs, and root or a user of its own"]
    fn it_starts_answers_and_leaves_nothing() {
        let postgres = Postgres::start().expect("starts");
        let (folder, url) = (postgres.folder.clone(), postgres.url().to_owned());
        let mut asks = Command::new(postgres.programs.join("psql"));
        let answer =
            asks.arg(&url).args(["--no-align", "--tuples-only", "--command", "select 6 * 7"]).output();
        assert_eq!(String::from_utf8_lossy(&answer.expect("psql runs").stdout).trim(), "42");
        drop(postgres);
        assert!(!folder.exists());
    }
}
