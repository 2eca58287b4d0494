//! Outside, one for each launch: relays the terminal, keeps the deadline, and ends the tree, whatever becomes of the
//! elevator. It holds no state but what the plan says and what happens, and leaves one file behind: the outcome.

mod admission;
mod ending;
mod relay;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use elevon_policy::event::{EndReason, Exit};
use elevon_policy::time::Span;
use elevon_wire::conversation::{Refused, ToClient};
use elevon_wire::frame::MESSAGE_LIMIT;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait};
use rustix::time::{TimerfdClockId, TimerfdFlags, Timespec, timerfd_create};

use self::ending::{Stage, first_stage};
use self::relay::HELD;
use crate::clock::Uptime;
use crate::connection::{Connection, Lost};
use crate::files;
use crate::launch::step::NotStarted;
use crate::launch::{Descriptors, Outcome, Plan, containment, limits, terminal, view};
use crate::monitor::{FromMonitor, Monitor};
use crate::spawner;
use crate::syscall;

/// Becomes a session, in the forked child: makes ready what does not depend on the launch, and waits for it on this line.
pub(crate) fn run(line: OwnedFd, cgroup: Option<PathBuf>) -> ! {
    let status = match Prepared::new(line, cgroup).and_then(Prepared::serve) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("elevon-elevator: a session cannot go on: {error}");
            1
        }
    };
    syscall::exit_now(status)
}

/// A session before its launch.
struct Prepared {
    line: Connection,
    cgroup: Option<PathBuf>,
    monitor: Monitor,
    signals: OwnedFd,
}

impl Prepared {
    fn new(line: OwnedFd, cgroup: Option<PathBuf>) -> io::Result<Self> {
        syscall::name_process(c"elevon-session");
        rustix::process::setsid()?;
        set_child_subreaper(Some(getpid()))?;
        let signals =
            syscall::signal_descriptor(&[libc::SIGCHLD, libc::SIGUSR1, libc::SIGTERM, libc::SIGINT])?;
        // The monitor is in its cgroup from the first instruction, and so is what it forks.
        let folder = cgroup.as_ref().map(File::open).transpose()?;
        let fork = || folder.as_ref().map_or_else(syscall::fork, |folder| syscall::fork_into(folder.as_fd()));
        let monitor = Monitor::make(fork, true)?;
        Ok(Self { line: Connection::new(line, spawner::LIMIT, None), cgroup, monitor, signals })
    }

    /// Until the launch is over, or there will be none.
    fn serve(mut self) -> io::Result<()> {
        match self.line.receive::<Plan>() {
            Ok(plan) => {
                let descriptors = Descriptors::take(self.line.take_descriptors());
                let descriptors = descriptors
                    .ok_or_else(|| io::Error::other("some descriptors of the launch are missing"))?;
                let Self { monitor, signals, cgroup, .. } = self;
                let monitor = match plan.wants_own_monitor(cgroup.as_deref()) {
                    true => make_another(&plan, cgroup, monitor)?,
                    false => monitor,
                };
                Session::start(plan, descriptors, monitor, signals)?.watch()
            }
            Err(Lost::Closed) => self.dismiss(),
            Err(lost) => Err(io::Error::other(lost)),
        }
    }

    /// Nothing was launched: leaves nothing behind.
    fn dismiss(self) -> io::Result<()> {
        let Self { monitor, cgroup, .. } = self;
        drop(monitor);
        while wait(WaitOptions::empty()).is_ok() {}
        if let Some(cgroup) = &cgroup {
            containment::remove_cgroup(cgroup);
        }
        containment::forget_cgroups();
        Ok(())
    }
}

/// Another monitor takes the place of the one that was made ahead.
fn make_another(plan: &Plan, ahead: Option<PathBuf>, monitor: Monitor) -> io::Result<Monitor> {
    drop(monitor);
    let folder = plan.cgroup.as_ref().map(File::open).transpose()?;
    let fork = || match (plan.inside.is_some(), &folder) {
        (true, folder) => syscall::fork_apart(folder.as_ref().map(AsFd::as_fd)),
        (false, Some(folder)) => syscall::fork_into(folder.as_fd()),
        (false, None) => syscall::fork(),
    };
    let monitor = Monitor::make(fork, false)?;
    // It waits for the plan, and has started nothing yet.
    for cgroup in &plan.limits {
        limits::enter(cgroup, monitor.process.as_raw_nonzero().get())?;
    }
    if let Some(ahead) = ahead.filter(|ahead| plan.cgroup.as_ref() != Some(ahead)) {
        containment::wait_until_empty(&ahead, Span::from_secs(1))?;
        containment::remove_cgroup(&ahead);
    }
    Ok(monitor)
}

struct Session {
    plan: Plan,
    /// The conversation; gone when the client is, or when all was said.
    client: Option<Connection>,
    /// What is still to be sent to the client.
    outgoing: Vec<u8>,
    /// Whether nothing more will be said to the client.
    all_said: bool,
    master: Option<OwnedFd>,
    /// What is still to be typed.
    typed: Vec<u8>,
    monitor: Option<Connection>,
    /// The monitor's process, which may outlive what there is to hear of it for a moment.
    process: Pid,
    /// Where the program asks whether it may execute, if it has to.
    asks: Option<OwnedFd>,
    signals: OwnedFd,
    timer: OwnedFd,
    stage: Stage,
    /// Why the tree is being ended; nothing while it may run.
    ending: Option<EndReason>,
    exit: Option<Exit>,
    hung_up: bool,
    /// Whether there was no launch after all.
    called_off: bool,
    /// The gate, until the launch has begun: as long as it is held, the elevator finds a session there.
    gate: Option<OwnedFd>,
    /// Whether every child is gone and the cgroup does not say so yet, of which no signal tells.
    lingers: bool,
    /// Whether the client has said more than was heard yet.
    unheard: bool,
}

impl Session {
    /// Makes the terminal, and has the program started.
    fn start(
        plan: Plan,
        mut descriptors: Descriptors,
        mut monitor: Monitor,
        signals: OwnedFd,
    ) -> io::Result<Self> {
        let terminals = plan.inside.as_ref().map(|_| view::terminals()).transpose()?;
        let terminal =
            terminal::for_launch(&descriptors.standard, plan.window, terminals.as_ref().map(AsFd::as_fd))?;
        let slave = terminal.as_ref().map(|terminal| terminal.slave.as_fd());
        let mut unfit = None;
        for fd in descriptors.standard.iter_mut().filter(|_| plan.inside.is_some()) {
            match view::handed_over(fd.as_fd()) {
                Ok(again) => *fd = again,
                Err(error) => unfit = Some(error),
            }
        }
        if unfit.is_none() {
            monitor.begin(&plan, &descriptors, terminals.as_ref().map(AsFd::as_fd), slave);
        }
        // The user's own descriptors, the terminal among them, are let go here.
        let Descriptors { client, gate, .. } = descriptors;
        let stage = first_stage(&plan);
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let mut session = Self {
            client: Some(Connection::new(client, MESSAGE_LIMIT, Some(plan.client))),
            outgoing: Vec::new(),
            all_said: false,
            master: terminal.map(|terminal| terminal.master),
            typed: Vec::new(),
            monitor: Some(monitor.line),
            process: monitor.process,
            asks: None,
            signals,
            timer,
            stage,
            ending: None,
            exit: None,
            hung_up: false,
            called_off: false,
            gate: Some(gate),
            lingers: false,
            unheard: false,
            plan,
        };
        session.set_alarm()?;
        if let Some(error) = unfit {
            session.give_up(&error.to_string());
        }
        Ok(session)
    }

    /// Until nothing runs any more and all was said.
    fn watch(mut self) -> io::Result<()> {
        self.begin();
        self.hear_monitor();
        self.send();
        self.gate = None;
        loop {
            let seen = self.wait()?;
            if seen.signals {
                self.take_signals()?;
            }
            if seen.asks {
                self.refuse();
            }
            if seen.timer {
                self.take_alarm()?;
            }
            if seen.monitor {
                self.hear_monitor();
            }
            if seen.master {
                self.relay_output();
            }
            if seen.client {
                self.hear_client();
            }
            self.relay_input();
            self.send();
            if seen.signals || self.monitor.is_none() {
                let alone = !containment::has_children();
                self.lingers = alone && self.monitor.is_none() && self.is_populated();
                if alone && self.monitor.is_none() && !self.lingers {
                    return self.finish();
                }
            }
        }
    }

    /// Waits for the monitor's first word, and passes it on.
    fn begin(&mut self) {
        if self.ending.is_some() {
            return;
        }
        match self.first_word() {
            Some(FromMonitor::Started) => self.say(&ToClient::Starting {
                launch: self.plan.launch,
                grant: self.plan.grant,
                end: self.plan.end,
                terminal: self.master.is_some(),
            }),
            Some(FromMonitor::NotStarted(NotStarted::Failed(failed))) => self.give_up(&failed.to_string()),
            Some(FromMonitor::NotStarted(NotStarted::CalledOff)) => self.call_off(),
            _ => self.give_up("its monitor died"),
        }
    }

    /// There was no launch: the elevator says so, and nothing is left behind.
    fn call_off(&mut self) {
        self.called_off = true;
        self.monitor = None;
        self.client = None;
        self.all_said = true;
    }

    /// The program is not there, or not as it should be, and does not come to be.
    fn give_up(&mut self, cause: &str) {
        self.stage = Stage::Killing;
        // Should the alarm fail, too, the elevator sees to the rest.
        let _ = self.take_alarm();
        let name = self.plan.argv.first().map(|name| name.visible().to_string()).unwrap_or_default();
        self.ending = Some(EndReason::Failed);
        self.monitor = None;
        self.say(&ToClient::Refused(Refused {
            status: 126,
            reason: None,
            told: format!("could not start {name}: {cause}"),
            next:
                "check the file with `file` and `ls -l`; `elevon-elevator doctor` says what is in force here"
                    .into(),
        }));
        self.all_said = true;
    }

    fn wait(&self) -> io::Result<Seen> {
        let flags = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let mut ready = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.timer.as_fd(), PollFlags::IN),
        ];
        let mut places = [None; 4];
        let monitor = self.monitor.as_ref().map(|monitor| (monitor.socket(), PollFlags::IN));
        let master = self.master.as_ref().map(|master| {
            let reads = flags(self.outgoing.len() < HELD, PollFlags::IN);
            (master.as_fd(), reads | flags(!self.typed.is_empty(), PollFlags::OUT))
        });
        let client = self.client.as_ref().map(|client| {
            let reads = flags(self.typed.len() < HELD && !self.all_said, PollFlags::IN);
            (client.socket(), reads | flags(!self.outgoing.is_empty(), PollFlags::OUT))
        });
        let asks = self.asks.as_ref().map(|asks| (asks.as_fd(), PollFlags::IN));
        for (place, fd) in places.iter_mut().zip([monitor, master, client, asks]) {
            if let Some((fd, wanted)) = fd {
                *place = Some(ready.len());
                ready.push(PollFd::from_borrowed_fd(fd, wanted));
            }
        }
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let soon = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let limit = if self.unheard { Some(&at_once) } else { self.lingers.then_some(&soon) };
        match poll(&mut ready, limit) {
            Err(rustix::io::Errno::INTR) => {}
            polled => {
                polled?;
            }
        }
        let seen = |place: usize| ready.get(place).is_some_and(|fd| !fd.revents().is_empty());
        let [monitor, master, client, asks] = places.map(|place| place.is_some_and(seen));
        Ok(Seen { signals: seen(0), timer: seen(1), asks, monitor, master, client: client || self.unheard })
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.all_said {
            self.relay_output();
            self.say_the_end();
        }
        let reason = match self.ending {
            Some(reason) => reason,
            None if self.hung_up => EndReason::HungUp,
            None => EndReason::Exited,
        };
        if !self.called_off {
            let outcome = Outcome { reason, exit: self.exit };
            let path = self.plan.folder.join(format!("{}.outcome", self.plan.launch));
            files::write_json_fast(&path, &outcome)?;
        }
        // What stays is removed when the elevator takes the end in.
        let _ = files::remove_folder(&self.plan.display);
        if let Some(cgroup) = &self.plan.cgroup {
            containment::remove_cgroup(cgroup);
        }
        limits::forget(&self.plan.limits);
        // The tree is gone and its end is on file; a client that does not read its last words may keep this process, and
        // nothing else, waiting for a while.
        let patience = Uptime::now().after(Span::from_secs(10));
        while self.client.is_some() && !self.outgoing.is_empty() && Uptime::now() < patience {
            if let Some(client) = &self.client {
                let mut ready = [PollFd::from_borrowed_fd(client.socket(), PollFlags::OUT)];
                poll(&mut ready, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }))?;
            }
            self.send();
        }
        Ok(())
    }
}

/// What there is to see to.
struct Seen {
    signals: bool,
    timer: bool,
    asks: bool,
    monitor: bool,
    master: bool,
    client: bool,
}
