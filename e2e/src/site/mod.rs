//! One whole installation, side by side with others: server, agent, elevator, users, policies, all of it gone when dropped.

mod commands;
mod layout;
mod policies;
mod replica;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use commands::server_command;
pub use layout::{Layout, PASSWORD, free_port};
pub use replica::Replica;
use rustix::process::geteuid;

use crate::abandoned;
use crate::api::Api;
use crate::binaries::binary;
use crate::clock::{SOON, until, until_true};
use crate::console::Console;
use crate::leftovers::{self, Lingering, Marks};
use crate::person::{Person, exists};
use crate::program::{Program, must};

/// The site's PAM service, as every distribution can serve it.
pub const PAM_SERVICE: &str = "auth required pam_unix.so\naccount required pam_unix.so\n";

/// One whole installation.
#[derive(Debug)]
pub struct Site {
    /// State, sockets, homes and logs.
    pub tree: PathBuf,
    /// Programs in folders that only root can write to.
    pub programs: PathBuf,
    /// The user who asks.
    pub alice: Person,
    /// Another user.
    pub bob: Person,
    /// The agent's user.
    pub agent_user: Person,
    /// Where the console is.
    pub address: String,
    /// The API, as its owner.
    pub api: Api,
    /// The server.
    pub server: Program,
    /// The agent; none while it is stopped.
    pub agent: Option<Program>,
    /// The elevator; none while it is stopped.
    pub elevator: Option<Program>,
    layout: Layout,
    cgroup: Option<PathBuf>,
    ca: String,
    closed: bool,
    launches: Mutex<BTreeSet<String>>,
    _grounds: Grounds,
}

/// The directories, removed last.
#[derive(Debug)]
struct Grounds {
    tree: PathBuf,
    programs: PathBuf,
    held: Option<File>,
}

impl Drop for Grounds {
    fn drop(&mut self) {
        // Until here: whoever looks now may help.
        self.held = None;
        for directory in [&self.tree, &self.programs] {
            if let Err(error) = fs::remove_dir_all(directory) {
                eprintln!("{} could not be removed: {error}", directory.display());
            }
        }
    }
}

/// A server that was just started.
struct Server {
    program: Program,
    address: String,
    /// The link that makes the first owner, where there is no account yet.
    set_up: Option<String>,
}

impl Site {
    /// A site with users, two accounts (`owner`, `approver`), and an enrolled computer whose agent and elevator run.
    /// No policy is deployed yet.
    pub fn start() -> Result<Self> {
        Self::start_as(Layout::unique()?)
    }

    /// [`Site::start`] with this layout.
    pub fn start_as(layout: Layout) -> Result<Self> {
        let mut site = Self::prepared(layout)?;
        site.account("approver", "approver")?;
        site.enroll()?;
        site.start_elevator()?;
        site.start_agent()?;
        site.connected()?;
        Ok(site)
    }

    /// A site whose server runs, with its users and its first owner, and whose computer is not enrolled yet.
    pub fn prepared(layout: Layout) -> Result<Self> {
        ensure!(geteuid().is_root(), "this needs root: it makes users and elevates programs for real");
        abandoned::clear();
        let mut grounds = Grounds {
            tree: PathBuf::from("/tmp").join(&layout.directory),
            programs: PathBuf::from("/opt").join(&layout.directory),
            held: None,
        };
        let (tree, programs) = (grounds.tree.clone(), grounds.programs.clone());
        for directory in [
            &tree,
            &programs,
            &tree.join("run"),
            &tree.join("home"),
            &tree.join("logs"),
            &programs.join("bin"),
            &programs.join("pam.d"),
        ] {
            folder(directory, 0o755)?;
        }
        grounds.held = Some(abandoned::hold(&tree)?);
        let person = |name: &str| Person::create(name, &tree.join("home").join(name));
        let (alice, bob, agent_user) = (person(&layout.alice)?, person(&layout.bob)?, person(&layout.agent)?);
        folder(&tree.join("agent"), 0o700)?;
        chown(tree.join("agent"), Some(agent_user.uid), Some(agent_user.gid))?;
        for program in ["elevon", "elevon-agent"] {
            copy(&binary(program)?, &programs.join("bin").join(program))?;
        }
        fs::write(programs.join("pam.d/elevon"), PAM_SERVICE)?;
        fs::write(tree.join("settings"), layout.settings(&tree))?;
        let mut server = start_server(&tree, &mut server_command(&tree, &["serve"])?)?;
        let set_up = server.set_up.take().context("a new server prints no set-up link")?;
        let ca = fs::read_to_string(tree.join("server/keys/ca.pem"))
            .context("read the CA that the server made")?;
        Console::at(&server.address, &ca)?
            .set_up(&set_up, "owner", &layout.password)
            .context("make the first owner")?;
        let token =
            must(&mut server_command(&tree, &["api-token", "create", "e2e", "--role", "owner"])?, b"")?;
        let token = token.split_whitespace().last().context("a new API token prints its secret")?.to_owned();
        Ok(Self {
            api: Api::at(&server.address, &ca, &token)?,
            tree,
            programs,
            alice,
            bob,
            agent_user,
            address: server.address,
            server: server.program,
            agent: None,
            elevator: None,
            ca,
            cgroup: own_cgroup(&layout.directory),
            layout,
            closed: false,
            launches: Mutex::default(),
            _grounds: grounds,
        })
    }

    /// Enrolls the computer with a fresh token, as its administrator would, as root.
    pub fn enroll(&self) -> Result<()> {
        let token = must(&mut self.server_command(&["enrollment-token", "create"])?, b"")?;
        let token = token.split_whitespace().find(|word| word.starts_with("elevon1."));
        let token = token.context("a new enrollment token is printed on one line")?.to_owned();
        must(&mut self.agent_command(&["enroll", &token], true)?, b"").context("enroll the computer")?;
        Ok(())
    }

    /// Starts the elevator and waits until it accepts connections.
    pub fn start_elevator(&mut self) -> Result<()> {
        let mut command = self.elevator_command(&["run"])?;
        self.start_elevator_as(&mut command)
    }

    /// [`Site::start_elevator`] with a command of one's own around it.
    pub fn start_elevator_as(&mut self, command: &mut Command) -> Result<()> {
        let mut program = Program::start("elevator", command, &self.tree.join("logs"))?;
        let socket = self.socket();
        let accepts = until("the elevator to accept connections", SOON, || {
            if let Some(status) = program.ended()? {
                bail!("the elevator ended with {status}");
            }
            Ok(UnixStream::connect(&socket).ok())
        });
        accepts.with_context(|| program.log())?;
        self.elevator = Some(program);
        Ok(())
    }

    /// Starts the agent, as its own user.
    pub fn start_agent(&mut self) -> Result<()> {
        let mut command = self.agent_command(&["run"], false)?;
        self.agent = Some(Program::start("agent", &mut command, &self.tree.join("logs"))?);
        Ok(())
    }

    /// Waits until agent and elevator are connected, and the elevator has its first sheet.
    pub fn connected(&mut self) -> Result<()> {
        let delivered = self.api.event("sheet.delivered", |_| true);
        delivered.map(drop).with_context(|| self.log())
    }

    /// Starts the server again, on the same ports.
    pub fn restart_server(&mut self) -> Result<()> {
        self.server.stop()?;
        self.start_server_as(&mut self.server_command(&["serve"])?)
    }

    /// Starts the server, which has ended, with a command of one's own around it or in its environment.
    pub fn start_server_as(&mut self, command: &mut Command) -> Result<()> {
        let again = start_server(&self.tree, command)?;
        ensure!(
            again.address == self.address,
            "the server is somewhere else after its restart: {}",
            again.address
        );
        self.server = again.program;
        Ok(())
    }

    /// Makes an account with the site's password.
    pub fn account(&self, name: &str, role: &str) -> Result<()> {
        let mut command = self.server_command(&["account", "create", name, "--role", role])?;
        must(&mut command, format!("{}\n", self.layout.password).as_bytes())
            .map(drop)
            .context("make an account")
    }

    /// The console, nobody signed in.
    pub fn console(&self) -> Result<Console> {
        Console::at(&self.address, &self.ca)
    }

    /// The console, signed in as this account.
    pub fn signed_in(&self, name: &str) -> Result<Console> {
        self.console()?.signed_in(name, &self.layout.password)
    }

    /// The password of its accounts.
    pub fn password(&self) -> &str {
        &self.layout.password
    }

    /// The API with another token.
    pub fn api_with(&self, token: &str) -> Result<Api> {
        Api::at(&self.address, &self.ca, token)
    }

    /// What all the programs said lately, for a failure's report.
    pub fn log(&self) -> String {
        let running = [Some(&self.server), self.agent.as_ref(), self.elevator.as_ref()];
        running.into_iter().flatten().map(Program::log).collect::<Vec<_>>().join("\n")
    }

    /// Notes the launches so far, so that their control groups can be looked for at the end.
    fn note_launches(&self) {
        let events = self.api.events().unwrap_or_default();
        let ids =
            events.iter().filter(|event| event.kind == "launch.started").map(|event| event.text("/launch"));
        self.launches.lock().expect("nobody panics while holding it").extend(ids);
    }

    fn marks(&self) -> Marks {
        Marks {
            directories: vec![self.tree.clone(), self.programs.clone()],
            uids: vec![self.alice.uid, self.bob.uid, self.agent_user.uid],
            cgroup: self.cgroup.clone(),
            launches: self.launches.lock().expect("nobody panics while holding it").iter().cloned().collect(),
        }
    }

    /// Stops and removes everything; what went wrong, or was left behind.
    pub fn finish(mut self) -> Vec<String> {
        let mut troubles = self.close();
        let (marks, layout) = (self.marks(), self.layout.clone());
        drop(self);
        let users = [layout.alice, layout.bob, layout.agent];
        troubles.extend(users.iter().filter(|name| exists(name)).map(|name| format!("the user {name}")));
        let remaining = marks.directories.iter().filter(|directory| directory.exists());
        troubles.extend(remaining.map(|directory| format!("the directory {}", directory.display())));
        troubles
    }

    /// Processes of the computer, which are all of the site's but the server.
    pub fn processes_of_computer(&self) -> Vec<Lingering> {
        leftovers::processes(&self.marks())
    }

    /// Ends what the site's users still run by themselves: shells that someone left open.
    pub fn end_shells(&self) {
        let own = Marks { uids: vec![self.alice.uid, self.bob.uid], ..Marks::default() };
        leftovers::end(&leftovers::processes(&own));
    }

    /// Stops everything, and says what went wrong or was left behind.
    fn close(&mut self) -> Vec<String> {
        self.closed = true;
        self.note_launches();
        let mut troubles = Vec::new();
        let programs = [("agent", self.agent.take()), ("elevator", self.elevator.take())];
        for (name, program) in programs {
            troubles.extend(program.and_then(|program| stopped(name, program)));
        }
        if self.server.ended().ok().flatten().is_none() {
            troubles
                .extend(self.server.stop().err().map(|error| format!("the server did not stop: {error:#}")));
        }
        let marks = self.marks();
        // The kernel takes a moment to take a dead process out of its lists.
        let _ = until_true("no process to linger", Duration::from_secs(3), || {
            leftovers::processes(&marks).is_empty()
        });
        let lingering = leftovers::processes(&marks);
        leftovers::end(&lingering);
        troubles.extend(lingering.into_iter().map(|process| process.what));
        let _ = until_true("no control group to linger", Duration::from_secs(2), || {
            leftovers::cgroups(&marks).is_empty()
        });
        troubles.extend(leftovers::cgroups(&marks));
        if let Some(cgroup) = &self.cgroup {
            leftovers::remove_cgroup(cgroup);
            troubles.extend(cgroup.exists().then(|| format!("control group {}", cgroup.display())));
        }
        troubles.extend(leftovers::mounts(&marks));
        troubles
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let troubles = self.close();
        if !troubles.is_empty() {
            let told = format!("the site left this behind:\n  {}", troubles.join("\n  "));
            if std::thread::panicking() {
                eprintln!("{told}");
            } else {
                panic!("{told}\n{}", self.log());
            }
        }
    }
}

fn stopped(name: &str, mut program: Program) -> Option<String> {
    match program.stop() {
        Ok(ran) if ran.status.success() => None,
        Ok(ran) => Some(format!("the {name} ended with {} after SIGTERM\n{}", ran.status, program.log())),
        Err(error) => Some(format!("the {name} did not stop: {error:#}")),
    }
}

/// Starts the server on a site's state.
fn start_server(tree: &Path, command: &mut Command) -> Result<Server> {
    let mut program = Program::start("server", command, &tree.join("logs"))?;
    // The set-up link comes last, and only while there is no account; the line before it always comes.
    program.line("saying where agents connect", |line| line.strip_prefix("Agents").map(str::to_owned))?;
    let address = program.line("saying where the console is", |line| second_word(line, "Console"))?;
    let fresh = !tree.join("set-up").exists();
    let set_up =
        if fresh { Some(program.line("a set-up link", |line| second_word(line, "Set-up"))?) } else { None };
    fs::write(tree.join("set-up"), "")?;
    Ok(Server { program, address, set_up })
}

/// A control group for a site's elevator; none where there is no cgroup v2, or it cannot be written to.
fn own_cgroup(name: &str) -> Option<PathBuf> {
    let cgroup = leftovers::cgroup_root()?.join(name);
    fs::create_dir(&cgroup).ok().map(|()| cgroup)
}

fn second_word(line: &str, first: &str) -> Option<String> {
    line.strip_prefix(first)?.split_whitespace().next().map(str::to_owned)
}

fn folder(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().recursive(true).create(path).with_context(|| format!("make {}", path.display()))?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(mode))?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, PermissionsExt::from_mode(0o755))?)
}
