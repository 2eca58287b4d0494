//! What runs elevated here: each launch on file, watched until its tree is gone, ended when it should be, and told of.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use elevon_policy::application::{Application, User};
use elevon_policy::event::{EndReason, Exit, Nested};
use elevon_policy::id::{GrantId, LaunchId};
use elevon_policy::text::OsText;
use elevon_policy::time::{Span, Timestamp};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};

use crate::clock::Uptime;
use crate::files;
use crate::launch::{Order, Outcome, containment, limits};

/// A session that has not ended its tree this long after the deadline has failed.
const PATIENCE: Span = Span::from_millis(100);

/// How long what was killed may take to be gone before others are seen to. What waits for a file system may take longer.
const EMPTIED: Span = Span::from_millis(250);

/// An alarm at this never rings.
const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What the alarm is watched as; no session has this number.
const ALARM: u64 = 0;

/// So many sessions are seen to be over at once; the rest right after.
const AT_ONCE: usize = 64;

/// A launch as it stands on file (`ID.json`), so that a restarted elevator finds it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The launch.
    pub(crate) launch: LaunchId,
    /// The grant it runs under.
    pub(crate) grant: GrantId,
    /// Who started it.
    pub(crate) user: User,
    /// What runs.
    pub(crate) application: Application,
    /// With which arguments.
    pub(crate) argv: Vec<OsText>,
    /// Since when.
    pub(crate) started: Timestamp,
    /// Until when, for people.
    pub(crate) end: Timestamp,
    /// Until when, by the clock that counts; none where it may finish.
    pub(crate) deadline: Option<Uptime>,
    /// In which run of the computer.
    pub(crate) boot: String,
    /// Its cgroup.
    pub(crate) cgroup: Option<PathBuf>,
    /// The cgroups beside it that keep it to its limits.
    #[serde(default)]
    pub(crate) limits: Vec<PathBuf>,
    /// Its session.
    pub(crate) session: Process,
    /// The launch that it was started from inside of, and ends with.
    #[serde(default)]
    pub(crate) origin: Option<Nested>,
    /// With which groups its user may ask for more from inside it; none where nothing may be asked for there.
    #[serde(default)]
    pub(crate) nests: Option<Groups>,
}

impl Launch {
    /// What is said of it where something comes from inside it.
    pub(crate) fn as_origin(&self) -> Nested {
        Nested { launch: self.launch, grant: Some(self.grant), user: self.user.clone() }
    }

    /// Whether it was started from inside another one, of which this is true.
    fn is_inside(&self, which: impl Fn(LaunchId) -> bool) -> bool {
        self.origin.as_ref().is_some_and(|origin| which(origin.launch))
    }
}

/// The groups of a user, as they were when they asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    /// The group.
    pub(crate) gid: u32,
    /// The supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// What is known of the launch that a process belongs to.
#[derive(Debug)]
pub(crate) enum Belongs {
    /// To none that is known.
    Nowhere,
    /// To one; this one where only its session or only its cgroup says so, nobody knows which where they disagree.
    Perhaps(Option<Launch>),
    /// To this one and no other: its session is the process's ancestor, and its cgroup has it.
    To(Launch),
}

/// A process, by its number and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pid: i32,
    started: u64,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: containment::started(pid)? })
    }

    /// Its number.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// A descriptor of it, if it is still the same one.
    fn open(self) -> Option<OwnedFd> {
        let process = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        (containment::started(self.pid) == Some(self.started)).then_some(process)
    }
}

#[derive(Debug)]
struct Live {
    launch: Launch,
    process: Arc<OwnedFd>,
    /// What its session is watched as.
    number: u64,
    /// What its session was ordered to do, and by when.
    ordered: Option<(EndReason, Uptime)>,
    /// Whether the elevator has already stepped in.
    overdue: bool,
}

impl Live {
    /// When its session should have done its work; nothing once the elevator has stepped in.
    fn due(&self) -> Option<Uptime> {
        let ordered = self.ordered.map(|(_, by)| by);
        let by = self.launch.deadline.into_iter().chain(ordered).min()?;
        (!self.overdue).then(|| by.after(PATIENCE))
    }
}

/// All launches.
#[derive(Debug)]
pub(crate) struct Launches {
    folder: PathBuf,
    displays: PathBuf,
    live: Mutex<HashMap<LaunchId, Live>>,
    /// The alarm, and each session's end. Whoever adds a launch adds to it: nobody has to be woken for that.
    watched: OwnedFd,
    /// The number of the last session.
    last: AtomicU64,
    /// Rings when a session should have done its work. A wait that counts its own time would begin anew where it was when the
    /// computer wakes.
    alarm: OwnedFd,
}

/// A launch that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The launch.
    pub(crate) launch: Launch,
    /// What ended it.
    pub(crate) reason: EndReason,
    /// How the program itself ended.
    pub(crate) exit: Option<Exit>,
}

impl Launches {
    /// Opens the folder of the launches' files, and the one of what they need for displays: others go through that one.
    pub(crate) fn open(folder: &Path, displays: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::create_dir_all(displays)?;
        std::fs::set_permissions(displays, Permissions::from_mode(0o711))?;
        let alarm = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let watched = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&watched, &alarm, epoll::EventData::new_u64(ALARM), epoll::EventFlags::IN)?;
        let (folder, displays) = (folder.to_owned(), displays.to_owned());
        Ok(Self { folder, displays, live: Mutex::default(), watched, last: AtomicU64::new(ALARM), alarm })
    }

    /// The folder of the launches' files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder with what a launch needs for its user's display.
    pub(crate) fn display(&self, launch: LaunchId) -> PathBuf {
        self.displays.join(launch.to_string())
    }

    /// Puts a launch on file, before its program starts.
    pub(crate) fn announce(&self, launch: &Launch) -> io::Result<()> {
        files::write_json_fast(&self.path(launch.launch, "json"), launch)
    }

    /// Watches over a launch's session from now on. Before its program starts: whatever that does first, it is known whose it is.
    pub(crate) fn watch_over(&self, launch: Launch, process: OwnedFd) -> io::Result<()> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let process = Arc::new(process);
        let known = Live { launch, process: Arc::clone(&process), number, ordered: None, overdue: false };
        let mut live = self.live();
        live.insert(known.launch.launch, known);
        epoll::add(&self.watched, &*process, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        self.set_alarm(&live)
    }

    /// Gives back the session of a launch that did not come to run; nothing where its end was seen already, and is told of.
    pub(crate) fn take_back(&self, launch: LaunchId) -> Option<Arc<OwnedFd>> {
        self.remove(|live| live.launch.launch == launch).map(|live| live.process)
    }

    fn remove(&self, which: impl Fn(&Live) -> bool) -> Option<Live> {
        let mut live = self.live();
        let id = live.values().find(|live| which(live))?.launch.launch;
        let live = live.remove(&id)?;
        // Whoever is ordering its end has it open a moment longer.
        let _ = epoll::delete(&self.watched, &*live.process);
        Some(live)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.live().len()
    }

    /// Takes a launch that never came to run off file.
    pub(crate) fn forget(&self, launch: &Launch) {
        for kind in ["json", "order", "outcome"] {
            // A file that stays is looked at, and dropped, at the next start.
            let _ = files::remove(&self.path(launch.launch, kind));
        }
        // Its session removes it; one that died did not.
        let _ = files::remove_folder(&self.display(launch.launch));
        if let Some(cgroup) = &launch.cgroup {
            containment::remove_cgroup(cgroup);
        }
        limits::forget(&launch.limits);
    }

    /// Takes up what is on file: sessions that outlived the elevator are watched again; the others are over, and given
    /// back to be told of.
    pub(crate) fn take_up(&self, boot: &str) -> io::Result<Vec<Ended>> {
        let mut over = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let Ok(Some(launch)) = files::read_json::<Launch>(&path) else {
                // The power went before it was written: the journal knows of the launch, if it was started.
                files::remove(&path)?;
                continue;
            };
            // A session that has left its outcome is done, even where nobody has taken it in yet.
            let done = self.path(launch.launch, "outcome").exists();
            let process =
                Some(launch.session).filter(|_| launch.boot == boot && !done).and_then(Process::open);
            match process {
                Some(process) => self.watch_over(launch, process)?,
                None if launch.boot == boot => over.push(self.conclude(launch, None, false)),
                None => over.push(Ended { launch, reason: EndReason::Rebooted, exit: None }),
            }
        }
        self.sweep(&over)?;
        Ok(over)
    }

    /// Removes what is left of launches that nobody knows of any more: the power went, or the disk was full, in between.
    fn sweep(&self, over: &[Ended]) -> io::Result<()> {
        let known = |id: LaunchId| {
            self.live().contains_key(&id) || over.iter().any(|ended| ended.launch.launch == id)
        };
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.split('.').next()?.parse().ok());
            if !id.is_some_and(known) {
                files::remove(&path)?;
            }
        }
        for entry in std::fs::read_dir(&self.displays)? {
            let path = entry?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if !id.is_some_and(known) {
                files::remove_folder(&path)?;
            }
        }
        Ok(())
    }

    /// A user's launches.
    pub(crate) fn of_user(&self, uid: u32) -> Vec<Launch> {
        self.all().into_iter().filter(|launch| launch.user.uid == uid).collect()
    }

    /// How many there are of a user's.
    pub(crate) fn count_of(&self, uid: u32) -> usize {
        self.live().values().filter(|live| live.launch.user.uid == uid).count()
    }

    /// Every launch.
    pub(crate) fn all(&self) -> Vec<Launch> {
        self.live().values().map(|live| live.launch.clone()).collect()
    }

    /// The launch that a process belongs to, by its session among these ancestors and by its cgroup. Root moves itself to any
    /// cgroup, but is born where it is: where the two name different launches, neither is believed.
    pub(crate) fn belongs(&self, ancestors: &[i32], cgroup: &str) -> Belongs {
        let descends = |launch: &Launch| {
            ancestors.contains(&launch.session.pid) && Process::of(launch.session.pid) == Some(launch.session)
        };
        let is_in = |launch: &Launch| {
            let name = launch.cgroup.as_ref().and_then(|folder| folder.file_name()?.to_str());
            name.is_some_and(|name| cgroup.split('/').any(|part| part == name))
        };
        let live = self.live();
        let found: Vec<_> = live
            .values()
            .map(|live| (&live.launch, descends(&live.launch), is_in(&live.launch)))
            .filter(|(_, descends, is_in)| *descends || *is_in)
            .collect();
        match found.as_slice() {
            [(launch, true, true)] => Belongs::To((*launch).clone()),
            [(launch, ..)] => Belongs::Perhaps(Some((*launch).clone())),
            [] => Belongs::Nowhere,
            _ => Belongs::Perhaps(None),
        }
    }

    /// A launch that runs, and was not told to end.
    pub(crate) fn standing(&self, launch: LaunchId) -> Option<Launch> {
        let live = self.live();
        live.get(&launch)
            .filter(|live| live.ordered.is_none() && !live.overdue)
            .map(|live| live.launch.clone())
    }

    /// Ends those whose origin is over: whatever ended it, nothing that was started from inside it goes on.
    pub(crate) fn end_orphans(&self) {
        let orphans: Vec<LaunchId> = {
            let live = self.live();
            let orphan = |launch: &Launch| launch.is_inside(|origin| !live.contains_key(&origin));
            live.values()
                .filter(|live| live.ordered.is_none() && orphan(&live.launch))
                .map(|live| live.launch.launch)
                .collect()
        };
        if !orphans.is_empty() {
            let order = Order { reason: EndReason::OriginEnded, grace: Span::ZERO };
            self.end(order, |launch| orphans.contains(&launch.launch));
        }
    }

    /// Tells the sessions of a grant to end their trees.
    pub(crate) fn end_grant(&self, grant: GrantId, order: Order) {
        self.end(order, |launch| launch.grant == grant);
    }

    /// Tells the sessions of these launches to end their trees, and those of what was started from inside them.
    pub(crate) fn end(&self, order: Order, which: impl Fn(&Launch) -> bool) {
        let by = Uptime::now().after(order.grace);
        let mut chosen: Vec<_> = {
            let mut live = self.live();
            let ended: Vec<LaunchId> = live
                .values()
                .map(|live| &live.launch)
                .filter(|launch| which(launch))
                .map(|launch| launch.launch)
                .collect();
            let reason = |launch: &Launch| {
                let inside = launch.is_inside(|origin| ended.contains(&origin));
                let itself = ended.contains(&launch.launch).then_some(order.reason);
                itself.or(inside.then_some(EndReason::OriginEnded))
            };
            let chosen = live.values_mut().filter_map(|live| Some((reason(&live.launch)?, live)));
            chosen
                .map(|(reason, live)| {
                    live.ordered = live.ordered.filter(|(_, earlier)| *earlier <= by).or(Some((reason, by)));
                    (live.launch.clone(), Arc::clone(&live.process), Order { reason, ..order })
                })
                .collect()
        };
        // Nested ones first: the end of their origin takes their client away, which would be told of in place of this.
        chosen.sort_by_key(|(launch, ..)| launch.origin.is_none());
        for (launch, process, order) in chosen {
            let written = files::write_json_fast(&self.path(launch.launch, "order"), &order);
            // It may have ended meanwhile.
            let _ = pidfd_send_signal(&*process, Signal::USR1);
            if let Err(error) = written {
                eprintln!(
                    "elevon-elevator: could not order the end of launch {}, so it is killed: {error}",
                    launch.launch
                );
                kill(&launch, process.as_fd());
            }
        }
        // A session may be stopped, or kept from listening: whether it obeys is watched.
        if let Err(error) = self.set_alarm(&self.live()) {
            eprintln!("elevon-elevator: could not watch whether sessions obey: {error}");
        }
    }

    /// Waits until some launches are over, for so long at most, and gives them with what their sessions left on file. Steps
    /// in where a session died or did not do its work.
    pub(crate) fn wait(&self, patience: Option<Span>) -> io::Result<Vec<Ended>> {
        self.step_in()?;
        let limit = patience.map(|patience| Timespec::try_from(patience.std())).transpose();
        let mut seen: Vec<epoll::Event> = Vec::with_capacity(AT_ONCE);
        match epoll::wait(&self.watched, spare_capacity(&mut seen), limit.map_err(io::Error::other)?.as_ref())
        {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            waited => waited?,
        };
        let mut ended = Vec::new();
        for number in seen.iter().map(|event| event.data.u64()) {
            if number == ALARM {
                // How often it rang does not matter.
                let _ = rustix::io::read(&self.alarm, &mut [0; 8]);
                continue;
            }
            let over = self.remove(|live| live.number == number);
            ended.extend(over.map(|live| self.conclude(live.launch, live.ordered, live.overdue)));
        }
        Ok(ended)
    }

    /// Kills what has outlived its deadline, and has the alarm ring when it is time to look again.
    fn step_in(&self) -> io::Result<()> {
        let overdue: Vec<(Launch, Arc<OwnedFd>)> = {
            let mut live = self.live();
            let is_overdue = |live: &&mut Live| live.due().is_some_and(|due| due.left() == Span::ZERO);
            let overdue = live.values_mut().filter(is_overdue);
            overdue
                .map(|live| {
                    live.overdue = true;
                    (live.launch.clone(), Arc::clone(&live.process))
                })
                .collect()
        };
        for (launch, process) in overdue {
            eprintln!(
                "elevon-elevator: the session of launch {} did not end its tree in time, so it is killed",
                launch.launch
            );
            kill(&launch, process.as_fd());
        }
        self.set_alarm(&self.live())
    }

    fn set_alarm(&self, live: &HashMap<LaunchId, Live>) -> io::Result<()> {
        let next = live.values().filter_map(Live::due).min();
        let alarm = Itimerspec { it_interval: NEVER, it_value: next.map_or(NEVER, Uptime::alarm) };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::ABSTIME, &alarm)?;
        Ok(())
    }

    /// What became of a launch whose session is gone. Without an outcome the session died: whatever is left of the tree is
    /// killed (what is not in the cgroup, the spawner has adopted, and kills). A session whose tree was killed for it may have
    /// seen that as an end like any other, before it was killed itself.
    fn conclude(&self, launch: Launch, ordered: Option<(EndReason, Uptime)>, stepped_in: bool) -> Ended {
        let overdue = launch.deadline.is_some_and(|deadline| deadline.left() == Span::ZERO);
        let otherwise = if overdue { EndReason::Expired } else { EndReason::SessionDied };
        let for_it = ordered.map_or(otherwise, |(reason, _)| reason);
        let outcome = files::read_json::<Outcome>(&self.path(launch.launch, "outcome")).ok().flatten();
        let mut outcome = outcome.unwrap_or_else(|| {
            if let Some(cgroup) = &launch.cgroup {
                empty(cgroup);
            }
            limits::forget(&launch.limits);
            Outcome { reason: for_it, exit: None }
        });
        if stepped_in && matches!(outcome.reason, EndReason::Exited | EndReason::HungUp) {
            outcome.reason = for_it;
        }
        Ended { launch, reason: outcome.reason, exit: outcome.exit }
    }

    fn path(&self, launch: LaunchId, kind: &str) -> PathBuf {
        self.folder.join(format!("{launch}.{kind}"))
    }

    fn live(&self) -> MutexGuard<'_, HashMap<LaunchId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills a launch from outside: its cgroup, everything that descends from its session, and the session itself.
fn kill(launch: &Launch, session: std::os::fd::BorrowedFd<'_>) {
    if let Some(cgroup) = &launch.cgroup {
        containment::kill_cgroup(cgroup);
    }
    if let Some(pid) = Pid::from_raw(launch.session.pid) {
        containment::signal_descendants(pid, Signal::KILL);
    }
    // Last: what is left of its tree goes to the spawner, which kills it.
    let _ = pidfd_send_signal(session, Signal::KILL);
}

/// Kills a cgroup, waits until nothing is left in it, and removes it.
fn empty(cgroup: &Path) {
    if !cgroup.exists() {
        return;
    }
    containment::kill_cgroup(cgroup);
    if let Err(error) = containment::wait_until_empty(cgroup, EMPTIED) {
        eprintln!("elevon-elevator: {} does not become empty: {error}", cgroup.display());
    }
    containment::remove_cgroup(cgroup);
}
