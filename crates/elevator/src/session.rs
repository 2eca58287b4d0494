//! Outside, one for each launch: relays the terminal, keeps the deadline, and ends the tree, whatever becomes of the
//! elevator. It holds no state but what the plan says and what happens, and leaves one file behind: the outcome.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use elevon_policy::event::{EndReason, Exit};
use elevon_policy::lists::AtExpiry;
use elevon_policy::time::Span;
use elevon_wire::conversation::{FromClient, Refused, ToClient};
use elevon_wire::frame::{Frame, Kind, MESSAGE_LIMIT};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, getpid, set_child_subreaper};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};

use crate::clock::Uptime;
use crate::connection::{Connection, Speaker};
use crate::files;
use crate::launch::{Descriptors, Order, Outcome, Plan, containment, terminal};
use crate::monitor::{self, FromMonitor, ToMonitor};
use crate::syscall::{self, Fork};

/// No more than this is held for a side that does not read.
const HELD: usize = 256 << 10;

/// How often a tree that does not want to end is killed again.
const AGAIN: Span = Span::from_millis(10);

/// The signals a client may pass on; those a terminal or a user would send under any shell.
const PASSED_ON: [i32; 8] = [
    libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTSTP, libc::SIGCONT,
];

/// Becomes the session, in the forked child.
pub(crate) fn run(plan: Plan, descriptors: Descriptors) -> ! {
    let launch = plan.launch;
    let status = match Session::start(plan, descriptors).and_then(Session::watch) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("elevon-elevator: the session of launch {launch} cannot go on: {error}");
            1
        }
    };
    syscall::exit_now(status)
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
    signals: OwnedFd,
    timer: OwnedFd,
    stage: Stage,
    /// Why the tree is being ended; nothing while it may run.
    ending: Option<EndReason>,
    exit: Option<Exit>,
    hung_up: bool,
    /// Whether every child is gone and the cgroup does not say so yet, of which no signal tells.
    lingers: bool,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next alarm is the warning.
    Running { warning: Uptime, terminate: Uptime },
    /// The next alarm asks the tree to end.
    Warned { terminate: Uptime },
    /// The next alarm kills.
    Asked { kill: Uptime },
    /// Killed, again and again until nothing is left.
    Killing,
    /// No alarm: what runs may finish.
    Unlimited,
}

impl Session {
    /// Makes the terminal and the monitor.
    fn start(plan: Plan, descriptors: Descriptors) -> io::Result<Self> {
        syscall::name_process(c"elevon-session");
        rustix::process::setsid()?;
        set_child_subreaper(Some(getpid()))?;
        let signals = syscall::signal_descriptor(&[libc::SIGCHLD, libc::SIGUSR1, libc::SIGTERM, libc::SIGINT])?;
        let terminal = terminal::for_launch(&descriptors.standard, plan.window)?;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let slave = terminal.as_ref().map(|terminal| &terminal.slave);
        if let Fork::Child = syscall::fork()? {
            drop(ours);
            monitor::run(&plan, &descriptors, slave, theirs)
        }
        drop(theirs);
        // The user's own descriptors, the terminal among them, are let go here.
        let Descriptors { client, .. } = descriptors;
        let speaker = Speaker { pid: plan.client, uid: plan.user.uid };
        let stage = first_stage(&plan);
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let session = Self {
            client: Some(Connection::new(client, MESSAGE_LIMIT, Some(speaker))),
            outgoing: Vec::new(),
            all_said: false,
            master: terminal.map(|terminal| terminal.master),
            typed: Vec::new(),
            monitor: Some(Connection::new(ours, monitor::LIMIT, None)),
            signals,
            timer,
            stage,
            ending: None,
            exit: None,
            hung_up: false,
            lingers: false,
            plan,
        };
        session.set_alarm()?;
        Ok(session)
    }

    /// Until nothing runs any more and all was said.
    fn watch(mut self) -> io::Result<()> {
        self.begin();
        loop {
            let seen = self.wait()?;
            if seen.signals {
                self.take_signals()?;
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
        match self.monitor.as_mut().map(Connection::receive::<FromMonitor>) {
            Some(Ok(FromMonitor::Started)) => self.say(&ToClient::Starting {
                launch: self.plan.launch,
                grant: self.plan.grant,
                end: self.plan.end,
                terminal: self.master.is_some(),
            }),
            Some(Ok(FromMonitor::Failed(errno))) => self.give_up(&io::Error::from_raw_os_error(errno).to_string()),
            _ => self.give_up("its monitor died"),
        }
    }

    /// The program was never there.
    fn give_up(&mut self, cause: &str) {
        let name = self.plan.argv.first().map(|name| name.visible().to_string()).unwrap_or_default();
        self.ending = Some(EndReason::Failed);
        self.monitor = None;
        self.say(&ToClient::Refused(Refused {
            status: 126,
            reason: None,
            told: format!("could not execute {name}: {cause}"),
            next: "check the file with `file` and `ls -l`".into(),
        }));
        self.all_said = true;
    }

    fn wait(&self) -> io::Result<Seen> {
        let flags = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let mut ready = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.timer.as_fd(), PollFlags::IN),
        ];
        let mut places = [None; 3];
        let monitor = self.monitor.as_ref().map(|monitor| (monitor.socket(), PollFlags::IN));
        let master = self.master.as_ref().map(|master| {
            let reads = flags(self.outgoing.len() < HELD, PollFlags::IN);
            (master.as_fd(), reads | flags(!self.typed.is_empty(), PollFlags::OUT))
        });
        let client = self.client.as_ref().map(|client| {
            let reads = flags(self.typed.len() < HELD && !self.all_said, PollFlags::IN);
            (client.socket(), reads | flags(!self.outgoing.is_empty(), PollFlags::OUT))
        });
        for (place, fd) in places.iter_mut().zip([monitor, master, client]) {
            if let Some((fd, wanted)) = fd {
                *place = Some(ready.len());
                ready.push(PollFd::from_borrowed_fd(fd, wanted));
            }
        }
        let soon = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        match poll(&mut ready, self.lingers.then_some(&soon)) {
            Err(rustix::io::Errno::INTR) => {}
            polled => {
                polled?;
            }
        }
        let seen = |place: usize| ready.get(place).is_some_and(|fd| !fd.revents().is_empty());
        let [monitor, master, client] = places.map(|place| place.is_some_and(seen));
        Ok(Seen { signals: seen(0), timer: seen(1), monitor, master, client })
    }

    // ---- the end ----

    fn take_signals(&mut self) -> io::Result<()> {
        // Children are looked after in the loop; any other signal means: look for an order.
        let _ = rustix::io::read(&self.signals, &mut [0; 1024]);
        let path = self.plan.folder.join(format!("{}.order", self.plan.launch));
        let Ok(Some(order)) = files::read_json::<Order>(&path) else {
            return Ok(());
        };
        files::remove(&path)?;
        if self.ending.is_none() {
            self.ending = Some(order.reason);
            self.stage = Stage::Asked { kill: Uptime::now().after(order.grace) };
            if order.grace > Span::ZERO {
                self.say(&ToClient::Warning { left: order.grace, reason: order.reason });
                containment::signal_descendants(getpid(), Signal::TERM);
            }
        }
        self.take_alarm()
    }

    /// Goes as far towards the end as the time has come for.
    fn take_alarm(&mut self) -> io::Result<()> {
        // The number of alarms says nothing.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        loop {
            let due = |at: Uptime| at <= Uptime::now();
            self.stage = match self.stage {
                Stage::Running { warning, terminate } if due(warning) => {
                    let left = self.plan.deadline.left();
                    self.say(&ToClient::Warning { left, reason: EndReason::Expired });
                    Stage::Warned { terminate }
                }
                Stage::Warned { terminate } if due(terminate) => {
                    self.ending = Some(EndReason::Expired);
                    containment::signal_descendants(getpid(), Signal::TERM);
                    Stage::Asked { kill: self.plan.deadline }
                }
                Stage::Asked { kill } if due(kill) => Stage::Killing,
                Stage::Killing => {
                    self.kill();
                    break;
                }
                Stage::Running { .. } | Stage::Warned { .. } | Stage::Asked { .. } | Stage::Unlimited => break,
            };
        }
        self.set_alarm()
    }

    fn kill(&self) {
        if let Some(cgroup) = &self.plan.cgroup {
            containment::kill_cgroup(cgroup);
        }
        containment::signal_descendants(getpid(), Signal::KILL);
    }

    fn set_alarm(&self) -> io::Result<()> {
        let at = match self.stage {
            Stage::Running { warning, .. } => warning,
            Stage::Warned { terminate } => terminate,
            Stage::Asked { kill } => kill,
            Stage::Killing => Uptime::now().after(AGAIN),
            Stage::Unlimited => return Ok(()),
        };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // An alarm at zero would be none at all.
        let millis = i64::try_from(at.millis().max(1)).unwrap_or(i64::MAX);
        let it_value = Timespec { tv_sec: millis / 1_000, tv_nsec: (millis % 1_000) * 1_000_000 };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval: zero, it_value })?;
        Ok(())
    }

    fn is_populated(&self) -> bool {
        self.plan.cgroup.as_deref().is_some_and(containment::is_populated)
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
        let outcome = Outcome { reason, exit: self.exit };
        files::write_json_fast(&self.plan.folder.join(format!("{}.outcome", self.plan.launch)), &outcome)?;
        if let Some(cgroup) = &self.plan.cgroup {
            containment::remove_cgroup(cgroup);
        }
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

    // ---- the program's side ----

    fn hear_monitor(&mut self) {
        let Some(monitor) = self.monitor.as_mut() else {
            return;
        };
        match monitor.receive::<FromMonitor>() {
            Ok(FromMonitor::Stopped(signal)) => self.say(&ToClient::Stopped { signal }),
            Ok(FromMonitor::Ended(exit)) => {
                self.exit = Some(exit);
                self.monitor = None;
                self.relay_output();
                // Closing the terminal hangs up on whatever the program left in the foreground.
                self.master = None;
                self.say_the_end();
            }
            Ok(FromMonitor::Started | FromMonitor::Failed(_)) => {}
            Err(_) => {
                self.monitor = None;
                self.say_the_end();
            }
        }
    }

    fn say_the_end(&mut self) {
        if !self.all_said {
            let exit = self.exit.unwrap_or(Exit::Signal(libc::SIGKILL));
            self.say(&ToClient::Finished { exit, reason: self.ending.unwrap_or(EndReason::Exited) });
            self.all_said = true;
        }
    }

    /// Takes what the terminal has, as long as there is room for it; after the program's end, all of it.
    fn relay_output(&mut self) {
        let mut bytes = [0; 16 << 10];
        while self.outgoing.len() < HELD || self.monitor.is_none() {
            let Some(master) = &self.master else {
                return;
            };
            match rustix::io::read(master, &mut bytes) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return,
                Ok(read) => {
                    let frame = Frame::data(bytes.get(..read).unwrap_or_default());
                    self.outgoing.extend_from_slice(&frame.encode());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    // EIO: nobody holds the other end any more, and all was read.
                    self.master = None;
                }
            }
        }
    }

    fn relay_input(&mut self) {
        while let Some(master) = self.master.as_ref().filter(|_| !self.typed.is_empty()) {
            match rustix::io::write(master, &self.typed) {
                Ok(written) => {
                    self.typed.drain(..written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.typed.clear(),
            }
        }
    }

    // ---- the client's side ----

    fn hear_client(&mut self) {
        while !self.all_said && self.typed.len() < HELD {
            let Some(client) = self.client.as_mut() else {
                return;
            };
            match client.frame_at_hand() {
                Ok(None) => return,
                Ok(Some(frame)) if frame.kind == Kind::Data => self.typed.extend_from_slice(&frame.payload),
                Ok(Some(frame)) => match frame.parse() {
                    Ok(message) => self.obey(&message),
                    Err(_) => return self.hang_up(),
                },
                Err(_) => return self.hang_up(),
            }
        }
        if self.all_said {
            // Only whether it is still there matters now.
            let gone = self.client.as_mut().is_some_and(|client| client.frame_at_hand().is_err());
            if gone {
                self.client = None;
                self.outgoing.clear();
            }
        }
    }

    fn obey(&mut self, message: &FromClient) {
        match message {
            FromClient::Resize(window) => {
                if let Some(master) = &self.master {
                    // A terminal that is gone has no size.
                    let _ = terminal::resize(master.as_fd(), *window);
                }
            }
            FromClient::Signal { number } if PASSED_ON.contains(number) => self.pass_on(*number),
            FromClient::Continue => self.pass_on(libc::SIGCONT),
            _ => {}
        }
    }

    fn pass_on(&self, signal: i32) {
        if let Some(monitor) = &self.monitor {
            // A monitor that is gone is heard of in the loop.
            let _ = monitor.send(&ToMonitor::Signal(signal));
        }
    }

    /// The user's side went away: as when a line drops, the program is told so, and may end or go on until its time.
    fn hang_up(&mut self) {
        self.client = None;
        self.outgoing.clear();
        self.hung_up = true;
        self.all_said = true;
        self.pass_on(libc::SIGHUP);
        self.pass_on(libc::SIGCONT);
        self.master = None;
    }

    fn say(&mut self, message: &ToClient) {
        if self.client.is_some() && !self.all_said {
            self.outgoing.extend_from_slice(&Frame::message(message).encode());
        }
    }

    fn send(&mut self) {
        while let Some(client) = self.client.as_ref().filter(|_| !self.outgoing.is_empty()) {
            match client.send_some(&self.outgoing) {
                Ok(0) => return,
                Ok(sent) => {
                    self.outgoing.drain(..sent);
                }
                Err(_) if self.all_said => {
                    self.client = None;
                    self.outgoing.clear();
                }
                Err(_) => self.hang_up(),
            }
        }
        if self.all_said && self.outgoing.is_empty() {
            self.client = None;
        }
    }
}

/// What there is to see to.
struct Seen {
    signals: bool,
    timer: bool,
    monitor: bool,
    master: bool,
    client: bool,
}

/// The alarms before the end. Warning and grace take no more than a half and a quarter of a short grant.
fn first_stage(plan: &Plan) -> Stage {
    let AtExpiry::Terminate { warning, grace } = plan.at_expiry else {
        return Stage::Unlimited;
    };
    let left = plan.deadline.left();
    let part = |of: u64| Span::from_millis(left.millis() / of);
    let terminate = plan.deadline.before(grace.min(part(4)));
    let warning = plan.deadline.before(warning.min(part(2))).min(terminate);
    Stage::Running { warning, terminate }
}
