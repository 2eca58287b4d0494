//! One whole installation, side by side with others: server, agent, elevator, users, policies, all of it gone when dropped.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use elevon_policy::lists::{ApplicationList, PrivilegedApplicationList};
use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::api::Api;
use crate::binaries::binary;
use crate::clock::{SOON, until, until_true};
use crate::console::Console;
use crate::leftovers::{self, Marks};
use crate::person::{Person, exists};
use crate::program::{Program, Ran, must, run};

/// The password of every account of a test's site.
pub const PASSWORD: &str = "correct horse battery staple";

/// What a site is made of: names that nothing else on the computer has.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Begins the names of the site's directories in /tmp and /opt.
    pub directory: String,
    /// The user who asks.
    pub alice: String,
    /// Another user.
    pub bob: String,
    /// The agent's user.
    pub agent: String,
    /// The console's port and the agents'.
    pub ports: (u16, u16),
    /// The password of the accounts.
    pub password: String,
}

impl Layout {
    /// One that no other site has.
    pub fn unique() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}x{number}", std::process::id());
        Ok(Self {
            directory: format!("elevon-e2e-{mark}"),
            alice: format!("elvt{mark}alice"),
            bob: format!("elvt{mark}bob"),
            agent: format!("elvt{mark}agent"),
            ports: (free_port()?, free_port()?),
            password: PASSWORD.into(),
        })
    }
}

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
}

impl Drop for Grounds {
    fn drop(&mut self) {
        for directory in [&self.tree, &self.programs] {
            if let Err(error) = fs::remove_dir_all(directory) {
                eprintln!("{} could not be removed: {error}", directory.display());
            }
        }
    }
}

/// Ports that a site of this process was given.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on the loopback interface that nobody listens on.
pub fn free_port() -> Result<u16> {
    loop {
        let port = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?.port();
        if GIVEN.lock().expect("nobody panics while holding it").insert(port) {
            return Ok(port);
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
        let grounds = Grounds {
            tree: PathBuf::from("/tmp").join(&layout.directory),
            programs: PathBuf::from("/opt").join(&layout.directory),
        };
        let (tree, programs) = (grounds.tree.clone(), grounds.programs.clone());
        for directory in [
            &tree,
            &programs,
            &tree.join("run"),
            &tree.join("home"),
            &tree.join("logs"),
            &programs.join("bin"),
        ] {
            folder(directory, 0o755)?;
        }
        let person = |name: &str| Person::create(name, &tree.join("home").join(name));
        let (alice, bob, agent_user) = (person(&layout.alice)?, person(&layout.bob)?, person(&layout.agent)?);
        folder(&tree.join("agent"), 0o700)?;
        chown(tree.join("agent"), Some(agent_user.uid), Some(agent_user.gid))?;
        for program in ["elevon", "elevon-agent"] {
            copy(&binary(program)?, &programs.join("bin").join(program))?;
        }
        fs::write(tree.join("ports"), format!("{} {}", layout.ports.0, layout.ports.1))?;
        let mut server = start_server(&tree)?;
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

    /// The users' socket.
    pub fn socket(&self) -> PathBuf {
        self.tree.join("run/elevator.sock")
    }

    /// An `elevon-server` command on this site's state.
    pub fn server_command(&self, arguments: &[&str]) -> Result<Command> {
        server_command(&self.tree, arguments)
    }

    /// Starts the server again, on the same ports.
    pub fn restart_server(&mut self) -> Result<()> {
        self.server.stop()?;
        let again = start_server(&self.tree)?;
        ensure!(
            again.address == self.address,
            "the server is somewhere else after its restart: {}",
            again.address
        );
        self.server = again.program;
        Ok(())
    }

    /// The control group that the elevator runs in, where this computer has cgroup v2.
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
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

    /// Deploys a privileged application list to the site's users, and waits until the computer has it.
    pub fn deploy(&self, list: &PrivilegedApplicationList) -> Result<String> {
        self.deploy_to("privileged-application-lists", serde_json::to_value(list)?, &self.users_group()?)
    }

    /// Deploys an allowlist (`allowlists`) or a blocklist (`blocklists`) likewise.
    pub fn deploy_list(&self, kind: &str, list: &ApplicationList) -> Result<String> {
        self.deploy_to(kind, serde_json::to_value(list)?, &self.users_group()?)
    }

    fn deploy_to(&self, kind: &str, document: Value, group: &str) -> Result<String> {
        let before = self.delivered()?;
        let saved = self.api.post(kind, &document)?;
        let id = saved
            .get("id")
            .and_then(Value::as_str)
            .with_context(|| format!("a saved list has an id: {saved}"))?;
        let version = saved.get("version").cloned().unwrap_or(json!(1));
        self.api.post(&format!("{kind}/{id}/deploy"), &json!({ "version": version, "groups": [group] }))?;
        if self.agent.is_some() && self.elevator.is_some() {
            let what = format!("{kind}/{id} to be on the computer");
            until(&what, SOON, || Ok((self.delivered()? > before).then_some(())))
                .with_context(|| self.log())?;
        }
        Ok(id.into())
    }

    /// How many bundles the computer has said it has.
    fn delivered(&self) -> Result<usize> {
        let events = self.api.events()?;
        let bundles =
            events.iter().filter(|event| event.kind == "sheet.delivered").map(|event| event.text("/bundle"));
        Ok(bundles.collect::<BTreeSet<_>>().len())
    }

    /// The custom group of alice and bob, made when it is first asked for.
    fn users_group(&self) -> Result<String> {
        let id = |group: &Value| group.get("id").and_then(Value::as_str).map(str::to_owned);
        let of_site = |group: &Value| group.get("name").and_then(Value::as_str) == Some("Users of the site");
        if let Some(found) = self.api.list("groups")?.iter().find(|group| of_site(group)) {
            return id(found).context("a group has an id");
        }
        let users = [&self.alice, &self.bob].map(|person| json!({ "name": person.name }));
        let group = json!({ "name": "Users of the site", "members": { "kind": "users", "users": users } });
        let saved = self.api.post("groups", &group)?;
        id(&saved).with_context(|| format!("a saved group has an id: {saved}"))
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
fn start_server(tree: &Path) -> Result<Server> {
    let mut program = Program::start("server", &mut server_command(tree, &["serve"])?, &tree.join("logs"))?;
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

fn server_command(tree: &Path, arguments: &[&str]) -> Result<Command> {
    let ports = fs::read_to_string(tree.join("ports"))?;
    let (console, agents) = ports.split_once(' ').context("two ports")?;
    let mut command = bare(&binary("elevon-server")?);
    command
        .args(arguments)
        .env("ELEVON_STATE_DIR", tree.join("server"))
        .env("ELEVON_LISTEN", format!("127.0.0.1:{console}"))
        .env("ELEVON_AGENTS_LISTEN", format!("127.0.0.1:{agents}"))
        .env("ELEVON_PUBLIC_URL", format!("https://localhost:{console}"))
        .current_dir("/");
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

fn folder(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().recursive(true).create(path).with_context(|| format!("make {}", path.display()))?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(mode))?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, PermissionsExt::from_mode(0o755))?)
}
