//! The programs under test as commands on one site's state, and as whom they run.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Site, copy, folder};
use crate::binaries::binary;
use crate::person::Person;
use crate::program::{Program, Ran, run};

impl Site {
    /// The users' socket.
    pub fn socket(&self) -> PathBuf {
        self.tree.join("run/elevator.sock")
    }

    /// An `elevon-server` command on this site's state.
    pub fn server_command(&self, arguments: &[&str]) -> Result<Command> {
        server_command(&self.tree, arguments)
    }

    /// The folder of the site's PAM services, which only root can write to.
    pub fn pam_dir(&self) -> PathBuf {
        self.programs.join("pam.d")
    }

    /// Replaces the site's PAM service by these lines.
    pub fn pam_service(&self, lines: &str) -> Result<()> {
        Ok(fs::write(self.pam_dir().join("elevon"), lines)?)
    }

    /// The control group that the elevator runs in, where this computer has cgroup v2.
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
    }

    /// The folder of the files of launches that run.
    pub fn launches(&self) -> PathBuf {
        self.tree.join("elevator/launches")
    }

    /// An `elevon-elevator` command on this site's state, in a control group of its own, as a service has one.
    pub fn elevator_command(&self, arguments: &[&str]) -> Result<Command> {
        self.elevator_command_under(&[], arguments)
    }

    /// [`Site::elevator_command`] started by another command, such as `unshare` or `strace`.
    pub fn elevator_command_under(&self, outer: &[&str], arguments: &[&str]) -> Result<Command> {
        let mut command = bare(&binary("as-user")?);
        command.args(["0", "0"]);
        if let Some(cgroup) = &self.cgroup {
            command.arg("--cgroup").arg(cgroup);
        }
        command
            .arg("--")
            .args(outer)
            .arg(binary("elevon-elevator")?)
            .args(arguments)
            .env("ELEVON_STATE_DIR", self.tree.join("elevator"))
            .env("ELEVON_RUN_DIR", self.tree.join("run"))
            .env("ELEVON_AGENT_USER", &self.agent_user.name)
            .env("ELEVON_PAM_DIR", self.pam_dir())
            .current_dir("/");
        Ok(command)
    }

    /// An `elevon-agent` command on this site's state, as root or as the agent's user.
    pub fn agent_command(&self, arguments: &[&str], as_root: bool) -> Result<Command> {
        let program = self.programs.join("bin/elevon-agent");
        let mut command = if as_root { bare(&program) } else { as_user(&self.agent_user, &program, false)? };
        command
            .args(arguments)
            .env("ELEVON_STATE_DIR", self.tree.join("agent"))
            .env("ELEVON_ELEVATOR_SOCKET", self.tree.join("run/agent.sock"))
            .env("ELEVON_ELEVATOR_STATE_DIR", self.tree.join("elevator"))
            .env("ELEVON_USER", &self.agent_user.name)
            .current_dir("/");
        Ok(command)
    }

    /// A command as this user, in their home directory, with `elevon` on the PATH.
    pub fn as_user(&self, person: &Person, program: &Path) -> Result<Command> {
        let mut command = as_user(person, program, false)?;
        self.furnish(person, &mut command);
        Ok(command)
    }

    /// [`Site::as_user`] in the terminal that is its standard input, output or error.
    pub fn in_terminal(&self, person: &Person, program: &Path) -> Result<Command> {
        let mut command = as_user(person, program, true)?;
        self.furnish(person, &mut command);
        command.env("TERM", "xterm");
        Ok(command)
    }

    fn furnish(&self, person: &Person, command: &mut Command) {
        let bin = self.client();
        let path =
            format!("{}:/usr/local/bin:/usr/bin:/bin", bin.parent().unwrap_or(Path::new("/")).display());
        command
            .env("PATH", path)
            .env("HOME", &person.home)
            .env("USER", &person.name)
            .env("LOGNAME", &person.name)
            .env("ELEVON_SOCKET", self.socket())
            .env("LANG", "C.UTF-8")
            .current_dir(&person.home);
    }

    /// The client, where everybody can execute it.
    pub fn client(&self) -> PathBuf {
        self.programs.join("bin/elevon")
    }

    /// `elevon …` as this user, without a terminal.
    pub fn elevon(&self, person: &Person, arguments: &[&str]) -> Result<Command> {
        let mut command = self.as_user(person, &self.client())?;
        command.args(arguments);
        Ok(command)
    }

    /// `elevon …` as alice, to its end, with nothing to read.
    pub fn alice_runs(&self, arguments: &[&str]) -> Result<Ran> {
        run(&mut self.elevon(&self.alice, arguments)?, b"")
    }

    /// `elevon run --for SPAN --justification … -- COMMAND…` as alice, left running.
    pub fn alice_asks(&self, span: &str, command: &[&str]) -> Result<Program> {
        let asks = ["run", "--for", span, "--justification", "because the test says so", "--"];
        let mut command = self.elevon(&self.alice, &[&asks, command].concat())?;
        Program::start("elevon", &mut command, &self.tree.join("logs"))
    }

    /// A folder below [`Site::programs`] that only root can write to, with a copy of this program of the rig.
    pub fn install(&self, in_folder: &str, program: &str) -> Result<PathBuf> {
        let directory = self.programs.join(in_folder);
        folder(&directory, 0o755)?;
        let to = directory.join(program);
        copy(&binary(program)?, &to)?;
        Ok(to)
    }

    /// A copy of this program of the rig in alice's home directory, hers to change.
    pub fn install_at_home(&self, program: &str) -> Result<PathBuf> {
        let to = self.alice.home.join(program);
        copy(&binary(program)?, &to)?;
        chown(&to, Some(self.alice.uid), Some(self.alice.gid))?;
        Ok(to)
    }
}

pub(super) fn server_command(tree: &Path, arguments: &[&str]) -> Result<Command> {
    let settings = fs::read_to_string(tree.join("settings"))?;
    let mut command = bare(&binary("elevon-server")?);
    command.args(arguments).envs(settings.lines().filter_map(|line| line.split_once('='))).current_dir("/");
    Ok(command)
}

/// A command with nothing in its environment but a PATH.
fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn as_user(person: &Person, program: &Path, terminal: bool) -> Result<Command> {
    let mut command = bare(&binary("as-user")?);
    command.args([person.uid.to_string(), person.gid.to_string()]);
    if terminal {
        command.arg("--terminal");
    }
    command.arg("--").arg(program);
    Ok(command)
}
