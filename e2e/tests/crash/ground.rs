//! Where the cases play: a site whose disks can lose their power and be filled, and whose network can be cut.

use std::cell::OnceCell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::corpus;
use elevon_e2e::disk::{Disk, own_mounts};
use elevon_e2e::leftovers;
use elevon_e2e::policy::{chance, folder, privileged};
use elevon_e2e::postgres::fresh_database;
use elevon_e2e::process::{children, name};
use elevon_e2e::program::{Program, must};
use elevon_e2e::proxy::{Proxy, Weather};
use elevon_e2e::site::{Layout, Site, free_port};
use elevon_policy::lists::{Terms, Way};
use elevon_policy::rule::Rule;
use serde_json::Value;

/// Which database the server is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The embedded one.
    Sqlite,
    /// PostgreSQL, as `cargo xtask` has started it.
    Postgres,
}

/// A site, and what can befall it.
pub(crate) struct Ground {
    pub(crate) site: Site,
    pub(crate) network: Proxy,
    /// Under the elevator's state.
    pub(crate) computer_disk: Disk,
    /// Under the server's state.
    pub(crate) server_disk: Disk,
    /// How many stories were begun on it.
    pub(crate) stories: u32,
    /// Up to this event the records were compared.
    pub(crate) compared: u64,
}

/// While one case has it stopped, nobody else may count on it.
pub(crate) fn postgres_turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

impl corpus::Ground for Ground {
    type Kind = Kind;

    fn set(kind: Kind) -> Result<Self> {
        OWN_MOUNTS
            .with(|own| own.get_or_init(|| prepare_mounts().map_err(|error| format!("{error:#}"))).clone())
            .map_err(Error::msg)?;
        let _turn = (kind == Kind::Postgres).then(postgres_turn);
        let (mut layout, through) = (Layout::unique()?, free_port()?);
        layout.agents_through = Some(through);
        let network = Proxy::between(through, layout.ports.1)?;
        if kind == Kind::Postgres {
            layout.database_url = Some(fresh_database(&layout.directory)?);
        }
        let mut site = Site::prepared(layout)?;
        let images = site.tree.join("disks");
        fs::create_dir(&images)?;
        // In memory, so that a case takes a moment: what counts is what was synced, not how long that takes.
        must(Command::new("mount").args(["-t", "tmpfs", "elevon-e2e"]).arg(&images), b"")?;
        site.server.stop()?;
        let server_disk = Disk::over(&site.tree.join("server"), &images, 96)?;
        site.restart_server()?;
        fs::create_dir(site.tree.join("elevator"))?;
        let computer_disk = Disk::over(&site.tree.join("elevator"), &images, 24)?;
        site.enroll()?;
        site.start_elevator()?;
        site.start_agent()?;
        site.connected()?;
        let place = |name: &str, way, terms: Option<Terms>| -> Result<Rule> {
            Ok(Rule { elevate: Some(way), terms, ..folder(&site.programs.join(name), false)? })
        };
        let rules = vec![place("asked", Way::Approval, None)?, place("noted", Way::Justification, None)?];
        site.deploy(&privileged("What is run when things break", rules)?)?;
        for program in ["good", "stubborn"] {
            site.install("asked", program)?;
            site.install("noted", program)?;
        }
        Ok(Self { site, network, computer_disk, server_disk, stories: 0, compared: 0 })
    }

    fn log(&self) -> String {
        self.site.log()
    }

    fn finish(mut self) -> Vec<String> {
        self.network.turn(Weather::Fair);
        let mut troubles =
            self.stop().err().map(|error| format!("{error:#}")).into_iter().collect::<Vec<_>>();
        let images = self.site.tree.join("disks");
        let unmounted = [self.computer_disk.unmount(), self.server_disk.unmount()];
        troubles.extend(unmounted.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")));
        troubles
            .extend(must(Command::new("umount").arg(images), b"").err().map(|error| format!("{error:#}")));
        troubles.extend(self.site.finish());
        troubles
    }
}

/// Where the kernel says which run of the computer this is. Another file lies over it: the cases start the computer anew.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// That file.
const OWN_BOOT_ID: &str = "/mnt/boot_id";

thread_local! {
    /// Grounds of one thread live in one mount namespace.
    static OWN_MOUNTS: OnceCell<Result<(), String>> = const { OnceCell::new() };
}

fn prepare_mounts() -> Result<()> {
    own_mounts()?;
    must(Command::new("mount").args(["-t", "tmpfs", "elevon-e2e", "/mnt"]), b"")?;
    new_boot()?;
    must(Command::new("mount").args(["--bind", OWN_BOOT_ID, BOOT_ID]), b"").map(drop)
}

fn new_boot() -> Result<()> {
    let hex: String = chance()?.iter().chain(&chance()?[..6]).map(|byte| format!("{byte:02x}")).collect();
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-");
    Ok(fs::write(OWN_BOOT_ID, format!("{id}\n"))?)
}

/// A process of the system, by the part it plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Server,
    Agent,
    Elevator,
    Spawner,
    Session,
    Program,
    Client,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
            Self::Elevator => "elevator",
            Self::Spawner => "spawner",
            Self::Session => "session",
            Self::Program => "program",
            Self::Client => "client",
        }
    }
}

impl Ground {
    pub(crate) fn state(&self) -> PathBuf {
        self.site.tree.join("elevator")
    }

    pub(crate) fn elevator(&self) -> Result<i32> {
        let elevator = self.site.elevator.as_ref().context("the elevator runs")?;
        Ok(elevator.pid().as_raw_nonzero().get())
    }

    /// The process that makes sessions; none while it is being forked.
    pub(crate) fn spawner(&self) -> Option<i32> {
        children(self.elevator().ok()?).into_iter().find(|pid| name(*pid) == "elevon-spawner")
    }

    /// The session of the launch that is on file; there is one more, which waits for the next launch.
    pub(crate) fn session(&self) -> Option<i32> {
        let files = fs::read_dir(self.site.launches()).ok()?.flatten().map(|entry| entry.path());
        let mut launches = files.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        let launch: Value = serde_json::from_slice(&fs::read(launches.next()?).ok()?).ok()?;
        let session = i32::try_from(launch["session"]["pid"].as_i64()?).ok()?;
        (name(session) == "elevon-session").then_some(session)
    }

    /// The process of its program, which is or becomes that.
    pub(crate) fn program(&self) -> Option<i32> {
        children(self.session()?).into_iter().next()
    }

    /// What a service manager does: whatever has ended is started again.
    pub(crate) fn restart_what_ended(&mut self) -> Result<()> {
        if self.site.server.ended()?.is_some() {
            self.site.restart_server()?;
        }
        if has_ended(self.site.elevator.as_mut())? {
            self.site.start_elevator()?;
        }
        if has_ended(self.site.agent.as_mut())? {
            self.site.start_agent()?;
        }
        Ok(())
    }

    /// The computer loses its power right now, and is started again; `meanwhile` something happens to its disk.
    pub(crate) fn lose_power(&mut self, meanwhile: fn(&Self) -> Result<()>) -> Result<()> {
        let freezer = self.site.cgroup().map(|cgroup| cgroup.join("cgroup.freeze"));
        if let Some(freezer) = &freezer {
            fs::write(freezer, "1").context("freeze the computer's processes")?;
        }
        self.computer_disk.freeze()?;
        until_true("all processes of the computer to be gone", SOON, || {
            let all = self.site.processes_of_computer();
            leftovers::end(&all);
            all.is_empty()
        })?;
        if let Some(freezer) = &freezer {
            fs::write(freezer, "0")?;
        }
        for program in [self.site.agent.as_mut(), self.site.elevator.as_mut()].into_iter().flatten() {
            program.exit(SOON)?;
        }
        self.remove_cgroups()?;
        self.computer_disk.lose_power()?;
        meanwhile(self)?;
        new_boot()?;
        self.restart_what_ended()
    }

    /// The kernel's memory does not outlive a loss of power.
    fn remove_cgroups(&self) -> Result<()> {
        let Some(cgroup) = self.site.cgroup() else { return Ok(()) };
        let folder = cgroup.join("elevon");
        until_true("control groups to be empty", SOON, || {
            leftovers::remove_cgroup(&folder);
            !folder.exists()
        })
    }

    /// The server's computer loses its power right now, and is started again.
    pub(crate) fn server_loses_power(&mut self) -> Result<()> {
        self.site.server.signal(rustix::process::Signal::STOP)?;
        self.server_disk.freeze()?;
        self.site.server.kill()?;
        self.server_disk.lose_power()?;
        self.restart_what_ended()
    }

    /// Ends all programs as a service manager does.
    fn stop(&mut self) -> Result<()> {
        for program in [self.site.agent.take(), self.site.elevator.take()].into_iter().flatten() {
            ended_well(program)?;
        }
        if self.site.server.ended()?.is_none() {
            self.site.server.stop()?;
        }
        Ok(())
    }
}

fn ended_well(mut program: Program) -> Result<()> {
    let ran = program.stop()?;
    ensure!(ran.status.success(), "ended with {} after SIGTERM\n{}", ran.status, program.log());
    Ok(())
}

fn has_ended(program: Option<&mut Program>) -> Result<bool> {
    program.map_or(Ok(true), |program| Ok(program.ended()?.is_some()))
}

/// Looks until `look` gives something, in all the time that a computer may take to come back by itself.
pub(crate) fn back<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until(what, Duration::from_secs(45), look)
}

/// An answer of the server, or nothing while it gives none.
pub(crate) fn answered<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        // It is being restarted, or its connection was of before.
        Err(error) if error.downcast_ref::<ureq::Error>().is_some() => Ok(None),
        // It has not heard of it yet, or its database does not answer.
        Err(error)
            if ["answered with 404", "answered with 5"]
                .iter()
                .any(|word| format!("{error:#}").contains(word)) =>
        {
            Ok(None)
        }
        Err(error) => bail!(error),
    }
}
