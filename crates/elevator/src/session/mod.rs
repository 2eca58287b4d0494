//! Outside, one for each launch: relays the terminal, keeps the deadline, and ends the tree, whatever becomes of the
//! elevator. It holds no state but what the plan says and what happens, and leaves one file behind: the outcome.

mod admission;
mod ending;
mod program;
mod relay;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use elevon_policy::event::{EndReason, Exit};
use elevon_policy::time::Span;
use elevon_wire::conversation::{Refused, ToClient};
use elevon_wire::frame::MESSAGE_LIMIT;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait, waitpid};
use rustix::time::{TimerfdClockId, TimerfdFlags, Timespec, timerfd_create};

use self::ending::{Stage, first_stage};
use self::program::{Ahead, Begun, Program};
use self::relay::HELD;
use crate::clock::Uptime;
use crate::connection::{Connection, Lost};
use crate::files;
use crate::launch::child::Word;
use crate::launch::step::NotStarted;
use crate::launch::{Descriptors, Outcome, Plan, containment, limits};
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
    ahead: Ahead,
    signals: OwnedFd,
}

impl Prepared {
    fn new(line: OwnedFd, cgroup: Option<PathBuf>) -> io::Result<Self> {
        syscall::name_process(c"elevon-session");
        rustix::process::setsid()?;
        set_child_subreaper(Some(getpid()))?;
        let signals =
            syscall::signal_descriptor(&[libc::SIGCHLD, libc::SIGUSR1, libc::SIGTERM, libc::SIGINT])?;
        let ahead = Ahead::make(cgroup)?;
        Ok(Self { line: Connection::new(line, spawner::LIMIT, None), ahead, signals })
    }

    /// Until the launch is over, or there will be none.
    fn serve(mut self) -> io::Result<()> {
        match self.line.receive::<Plan>() {
            Ok(plan) => {
                let descriptors = Descriptors::take(self.line.take_descriptors(), &plan)?;
                Session::start(plan, descriptors, self.ahead, self.signals)?.watch()
            }
            Err(Lost::Closed) => {
                self.ahead.dismiss();
                Ok(())
            }
            Err(lost) => Err(io::Error::other(lost)),
        }
    }
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
    /// The program, until it has ended or is given up.
    program: Option<Program>,
    /// The monitor's process, which may outlive what there is to hear of it for a moment.
    monitor: Option<Pid>,
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
    /// Has the program's process hear of its launch.
    fn start(plan: Plan, descriptors: Descriptors, ahead: Ahead, signals: OwnedFd) -> io::Result<Self> {
        let Descriptors { client, given } = descriptors;
        // The gate is held until the launch has begun; all else that is the user's, the terminal among it, is let go here.
        let gate = given.gate.try_clone()?;
        let stage = first_stage(&plan);
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let (begun, failed) = match Begun::make(&plan, given, ahead) {
            Ok(begun) => (Some(begun), None),
            Err(error) => (None, Some(error)),
        };
        let (mut program, master) = begun.map(|begun| (begun.program, begun.master)).unzip();
        let mut session = Self {
            client: Some(Connection::new(client, MESSAGE_LIMIT, Some(plan.client))),
            outgoing: Vec::new(),
            all_said: false,
            master: master.flatten(),
            typed: Vec::new(),
            monitor: program.as_mut().and_then(|program| program.monitor().map(|monitor| monitor.process)),
            program,
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
        if let Some(error) = failed {
            session.give_up(&error.to_string());
        }
        Ok(session)
    }

    /// Until nothing runs any more and all was said.
    fn watch(mut self) -> io::Result<()> {
        self.begin();
        self.send();
        self.gate = None;
        self.hear_monitor();
        self.take_in_children();
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
            if seen.signals || self.program.is_none() {
                let alone = !self.take_in_children() && self.program.is_none();
                self.lingers = alone && self.is_populated();
                if alone && !self.lingers {
                    return self.finish();
                }
            }
        }
    }

    /// Takes in the program where it is a child that stopped or ended, and all others that ended; whether any child, and so any
    /// descendant, is left.
    fn take_in_children(&mut self) -> bool {
        if let Some(own) = self.program.as_ref().and_then(Program::own)
            && let Ok(Some((_, status))) = waitpid(Some(own), WaitOptions::NOHANG | WaitOptions::UNTRACED)
        {
            self.hear_kernel(status);
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((of, status))) => {
                    if self.program.as_ref().and_then(Program::own) == Some(of) {
                        self.hear_kernel(status);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn hear_kernel(&mut self, status: WaitStatus) {
        if let Some(word) = Word::of(status) {
            self.hear(&word);
        }
    }

    /// Waits for the first word about the program, and passes it on.
    fn begin(&mut self) {
        if self.ending.is_some() {
            return;
        }
        match self.first_word() {
            Some(Word::Started) => self.say(&ToClient::Starting {
                launch: self.plan.launch,
                grant: self.plan.grant,
                end: self.plan.end,
                terminal: self.master.is_some(),
            }),
            Some(Word::NotStarted(NotStarted::Failed(failed))) => self.give_up(&failed.to_string()),
            Some(Word::NotStarted(NotStarted::CalledOff)) => self.call_off(),
            _ => self.give_up("its process died"),
        }
    }

    /// There was no launch: the elevator says so, and nothing is left behind.
    fn call_off(&mut self) {
        self.called_off = true;
        self.program = None;
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
        self.program = None;
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
        let monitor = self.program.as_ref().and_then(Program::line).map(|line| (line, PollFlags::IN));
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
