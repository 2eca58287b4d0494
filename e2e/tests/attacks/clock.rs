//! A grant outlives its end on no clock: not where a day passes at once, as in suspend, and not where the computer is started
//! anew. The elevator's clock is moved by a time namespace.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, Stopwatch, until, until_true};
use elevon_e2e::leftovers;
use elevon_e2e::policy::{brisk_terms, folder, privileged};
use elevon_e2e::process::{gone, kill, lives};
use elevon_e2e::program::{Program, Ran};
use elevon_policy::lists::{Covers, Durations, Terms, Way};
use elevon_policy::rule::Rule;
use elevon_policy::time::Span;
use serde_json::Value;

use crate::ground::{Ground, hours};

crate::cases! {
    Alone a_day_that_passes_at_once_ends_what_is_over,
    Alone a_day_that_passes_in_steps_ends_what_is_over,
    Shared every_deadline_is_kept_by_the_clock_that_counts_on_in_suspend,
    Alone a_reboot_leaves_a_grant_what_is_left_by_the_server,
    Alone a_reboot_without_a_server_leaves_a_grant_what_is_left,
    Alone a_wall_clock_that_lags_after_a_reboot_runs_nothing,
}

/// How much later than its end anything may still be alive, on a machine that is busy.
const LATE: i64 = 1_000;

/// How much earlier than its end something may be ended.
const EARLY: i64 = 500;

const HOUR: i64 = 3_600;

/// What alice may run for days on a justification, with any arguments: shells that differ in their bytes, so that a grant for
/// one is none for another.
pub(crate) fn set(ground: &Ground, shells: &[&str]) -> Result<()> {
    let place = ground.site.programs.join("lasting");
    let maximum = Span::from_hours(hours() + 1);
    let durations = Durations { maximum, ..Durations::default() };
    let terms = Some(Terms { durations, arguments: Covers::AnyArguments, ..brisk_terms() });
    let rule = Rule { elevate: Some(Way::Justification), terms, ..folder(&place, false)? };
    ground.site.deploy(&privileged("What goes on for days", vec![rule])?)?;
    ground.install("lasting", "stubborn")?;
    for shell in shells {
        let bytes = fs::read("/usr/bin/dash")?;
        let path = place.join(shell);
        fs::copy("/usr/bin/dash", &path)?;
        fs::write(&path, [bytes.as_slice(), shell.as_bytes()].concat())?;
    }
    Ok(())
}

/// A grant, and something that does not want to end and runs under it.
pub(crate) struct Lasting {
    shell: String,
    client: Program,
    heart: PathBuf,
    /// The process that beats, which has left its control group.
    process: i32,
    /// The launch on record.
    pub(crate) started: Value,
    /// The end, in milliseconds since the Unix epoch.
    pub(crate) end: i64,
    /// Since the launch was seen on record.
    pub(crate) watch: Stopwatch,
    /// How long it was until the end then, by the elevator's own clock, in milliseconds.
    left: i64,
}

impl Lasting {
    /// A grant for this long, with something that runs under it.
    pub(crate) fn given(ground: &Ground, shell: &str, span: &str) -> Result<Self> {
        let asks = ["--for", span, "--justification", "because the test says so"];
        Self::runs(ground, shell, shell, &asks)
    }

    /// Another launch under the same grant, of which nothing is asked; its heart has this name.
    pub(crate) fn once_more(&self, ground: &Ground, heart: &str) -> Result<Self> {
        let next = Self::runs(ground, &self.shell, heart, &[])?;
        ensure!(next.started["grant"] == self.started["grant"], "it runs under another grant");
        Ok(next)
    }

    fn runs(ground: &Ground, shell: &str, heart: &str, asks: &[&str]) -> Result<Self> {
        let heart = ground.site.tree.join(format!("heart-{heart}"));
        let (path, file) = (ground.path(&format!("lasting/{shell}")), heart.to_string_lossy());
        let script = format!("exec {} --escape {file}", ground.path("lasting/stubborn"));
        let words = [&["run"], asks, &["--", &path, "-c", &script]].concat();
        let mut command = ground.site.elevon(&ground.site.alice, &words)?;
        let client = Program::start("elevon", &mut command, &ground.site.tree.join("logs"))?;
        let started = until("its launch", SOON, || {
            let mut events = ground.fresh()?.into_iter();
            let is_it = |data: &str| data.contains(&*file);
            Ok(events.find(|event| event.kind == "launch.started" && is_it(&event.data.to_string())))
        });
        let watch = Stopwatch::start();
        let event = started.with_context(|| client.log())?;
        let (started, at) = (event.data, event.event["at"].as_i64().context("a moment")?);
        let end = started["end"].as_i64().context("an end")?;
        let process = until("its heart to beat", SOON, || {
            let beat = fs::read_to_string(&heart).unwrap_or_default();
            Ok(beat.get(20..30).and_then(|pid| pid.trim().parse().ok()))
        });
        let process = process.with_context(|| client.log())?;
        Ok(Self { shell: shell.into(), client, heart, process, started, end, watch, left: end - at })
    }

    /// Whether its grant gives yet another launch, one that ends at once.
    pub(crate) fn is_good(&self, ground: &Ground) -> Result<Ran> {
        ground.elevated(&[&ground.path(&format!("lasting/{}", self.shell)), "-c", "echo it is good"])
    }

    /// How many milliseconds are left of it, where so many passed at once.
    fn remains(&self, moved: i64) -> Result<i64> {
        Ok(self.left - moved - i64::try_from(self.watch.elapsed().as_millis())?)
    }

    /// It beats on.
    pub(crate) fn lives(&self) -> Result<()> {
        let beat = || fs::read_to_string(&self.heart).unwrap_or_default();
        let last = beat();
        until_true("it to beat on", SOON, || beat() != last && lives(self.process))
    }

    /// It is ended at once, and its grant gives nothing any more; how many milliseconds that took.
    fn is_over(&mut self, ground: &Ground, since: Stopwatch) -> Result<i64> {
        gone(self.process, SOON)?;
        let took = i64::try_from(since.elapsed().as_millis())?;
        ensure!(took < LATE, "it went on for {took} ms");
        self.client.exit(SOON)?;
        self.gives_nothing(ground)?;
        Ok(took)
    }

    /// It ends when its grant does, and that gives nothing any more; how many milliseconds after the end that was.
    /// `moved` is how many milliseconds passed at once meanwhile.
    pub(crate) fn ends_on_time(&mut self, ground: &Ground, moved: i64) -> Result<i64> {
        let late = self.ended_on_time(moved)?;
        self.gives_nothing(ground)?;
        Ok(late)
    }

    /// The same, whatever the grant gives now.
    pub(crate) fn ended_on_time(&mut self, moved: i64) -> Result<i64> {
        gone(self.process, SOON)?;
        let late = -self.remains(moved)?;
        ensure!(late < LATE, "it lived {late} ms past its end");
        ensure!(late > -EARLY, "it was ended {} ms before its end", -late);
        self.client.exit(SOON)?;
        Ok(late)
    }

    /// It is gone, beside one that has ended on time.
    pub(crate) fn ends_too(mut self) -> Result<()> {
        gone(self.process, std::time::Duration::from_secs(1))?;
        self.client.exit(SOON).map(drop)
    }

    /// Its grant gives no launch any more: policy would want a justification for another.
    pub(crate) fn gives_nothing(&self, ground: &Ground) -> Result<()> {
        let ran = self.is_good(ground)?;
        ensure!(ran.code() == 125 && ran.err.contains("--justification"), "{} {}", ran.code(), ran.err);
        Ok(())
    }
}

/// What becomes of the elevator's clock, in seconds beside everybody else's.
#[derive(Default)]
struct Moved(i64);

impl Moved {
    /// The elevator is away while so many seconds pass; since when it runs again.
    fn on(&mut self, ground: &mut Ground, seconds: i64) -> Result<Stopwatch> {
        ground.site.elevator.take().context("it runs")?.stop()?;
        self.0 += seconds;
        // When a process was started, the kernel tells by the clock of whoever asks.
        each_launch(ground, |launch| {
            let started = launch["session"]["started"].as_i64().context("a session")?;
            launch["session"]["started"] = (started + seconds * TICKS).into();
            Ok(())
        })?;
        self.start(ground)
    }

    fn start(&self, ground: &mut Ground) -> Result<Stopwatch> {
        let seconds = self.0.to_string();
        let outer = ["unshare", "--time", "--boottime", &seconds];
        let mut command = ground.site.elevator_command_under(&outer, &["run"])?;
        ground.site.start_elevator_as(&mut command)?;
        Ok(Stopwatch::start())
    }

    fn millis(&self) -> i64 {
        self.0 * 1_000
    }

    /// The computer is started anew: nothing that ran there does, its files are those of another run, and its clock begins
    /// at nothing. The number that a session had belongs to this process now, which is as old.
    fn reboot(&mut self, ground: &mut Ground, impostor: i32) -> Result<()> {
        // It first: it is to record nothing of how the others go.
        ground.site.elevator.take().context("it runs")?.kill()?;
        let all_gone = || {
            let all = ground.site.processes_of_computer();
            leftovers::end(&all);
            all.is_empty()
        };
        until_true("all processes of the computer to be gone", SOON, all_gone)?;
        ground.site.agent.take().map_or(Ok(()), |mut agent| agent.exit(SOON).map(drop))?;
        if let Some(cgroup) = ground.site.cgroup() {
            let folder = cgroup.join("elevon");
            until_true("control groups to be empty", SOON, || {
                leftovers::remove_cgroup(&folder);
                !folder.exists()
            })?;
        }
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime.split(' ').next().context("the uptime")?.parse()?;
        #[allow(clippy::cast_possible_truncation)]
        let uptime = uptime as i64;
        self.0 = UP - uptime;
        let started = started(impostor)? + self.0 * TICKS;
        each_launch(ground, |launch| {
            launch["boot"] = OTHER_BOOT.into();
            launch["session"] = serde_json::json!({ "pid": impostor, "started": started });
            Ok(())
        })?;
        change(&ground.site.tree.join("elevator/clock.json"), |clock| {
            clock["boot"] = OTHER_BOOT.into();
            Ok(())
        })?;
        self.start(ground).map(drop)
    }
}

/// How many the kernel counts in a second where it tells when a process was started.
const TICKS: i64 = 100;

/// How long ago the computer was started when the elevator is, in seconds.
const UP: i64 = 30;

/// A run of the computer that is over.
const OTHER_BOOT: &str = "11111111-2222-4333-8444-555555555555";

fn each_launch(ground: &Ground, mut with: impl FnMut(&mut Value) -> Result<()>) -> Result<()> {
    let files = fs::read_dir(ground.site.launches())?.flatten();
    for path in files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|is| is == "json"))
    {
        change(&path, &mut with)?;
    }
    Ok(())
}

fn change(path: &std::path::Path, with: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
    let mut document = serde_json::from_slice(&fs::read(path)?)?;
    with(&mut document)?;
    Ok(fs::write(path, document.to_string())?)
}

/// When a process was started, as the kernel tells it here.
fn started(pid: i32) -> Result<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name")?;
    fields.split_whitespace().nth(19).and_then(|field| field.parse().ok()).context("a start")
}

/// A day, or however much was asked for, in seconds.
fn day() -> Result<i64> {
    Ok(i64::try_from(hours())? * HOUR)
}

/// Nobody tells the computer that no time has passed.
fn without_server(ground: &mut Ground) -> Result<()> {
    ground.site.agent.take().context("it runs")?.stop().map(drop)
}

/// The records of so many launches, of which so many were ended by the end of their grant.
fn of_launches(all: usize, expired: usize) -> Vec<(&'static str, &'static str)> {
    let started = std::iter::repeat_n(("launch.started", ""), all);
    started.chain(std::iter::repeat_n(("launch.ended", "expired"), expired)).collect()
}

fn a_day_that_passes_at_once_ends_what_is_over(ground: &mut Ground) -> Result<String> {
    set(ground, &["short", "long"])?;
    let mut clock = Moved::default();
    let mut short = Lasting::given(ground, "short", "30m")?;
    let mut long = Lasting::given(ground, "long", &format!("{}h1m", hours()))?;
    short.is_good(ground)?.expect(0).prints("it is good");
    without_server(ground)?;
    let since = clock.on(ground, day()?)?;
    let took = short.is_over(ground, since)?;
    // One that is longer holds, for what runs and for what is started, and ends on time.
    long.lives()?;
    let left = long.remains(clock.millis())? / 1_000;
    ensure!((5..=60).contains(&left), "{left} s are left of the longer one");
    clock.on(ground, left - 4)?;
    long.lives()?;
    let mut young = long.once_more(ground, "young")?;
    ensure!(young.end == long.end, "the end was put off by {} ms", young.end - long.end);
    let late = young.ends_on_time(ground, 0)?.max(long.ends_on_time(ground, clock.millis())?);
    ground.recorded(&of_launches(4, 3))?;
    Ok(format!("{} h later ended after {took} ms; the longer one {late} ms from its end", hours()))
}

fn a_day_that_passes_in_steps_ends_what_is_over(ground: &mut Ground) -> Result<String> {
    let rest = hours() - 2;
    let spans = ["30m".into(), "90m".into(), format!("{}h", hours() - 1), format!("{}h1m", hours())];
    let names = ["first", "second", "third", "long"];
    set(ground, &names)?;
    let mut clock = Moved::default();
    let given = names.iter().zip(&spans).map(|(name, span)| Lasting::given(ground, name, span));
    let mut given = given.collect::<Result<Vec<_>>>()?;
    without_server(ground)?;
    let mut took = Vec::new();
    for hours in [1, 1, rest] {
        let since = clock.on(ground, i64::try_from(hours)? * HOUR)?;
        took.push(given.remove(0).is_over(ground, since)?);
        given.iter().try_for_each(Lasting::lives)?;
        given[0].is_good(ground)?.expect(0);
    }
    let long = given.first_mut().context("the longest")?;
    let left = long.remains(clock.millis())? / 1_000;
    clock.on(ground, left - 2)?;
    let late = long.ends_on_time(ground, clock.millis())?;
    ground.recorded(&of_launches(7, 4))?;
    Ok(format!("1 h, 1 h, {rest} h: each ended after {took:?} ms; the longest {late} ms from its end"))
}

/// The alarms that a process has set by CLOCK_BOOTTIME, in seconds from now.
fn alarms(pid: i32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let alarm = |text: String| {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let set: Vec<u64> = field("it_value:")?
            .trim_matches(['(', ')'])
            .split(',')
            .filter_map(|number| number.trim().parse().ok())
            .collect();
        let seconds = *set.first()?;
        (field("clockid:")? == "7" && set.iter().any(|number| *number > 0)).then_some(seconds)
    };
    entries.filter_map(|entry| alarm(fs::read_to_string(entry.path()).ok()?)).collect()
}

/// No computer here can be suspended, so this looks at what would count on: a wait that counts its own time is no alarm.
fn every_deadline_is_kept_by_the_clock_that_counts_on_in_suspend(ground: &mut Ground) -> Result<String> {
    let shell = ground.path("noted/bash");
    let mut client = ground.site.alice_asks("60s", &[&shell, "-c", "sleep 600"])?;
    let (started, session) = ground.running().with_context(|| client.log())?;
    let elevator = ground.elevator_pid().context("it runs")?;
    for (name, pid) in [("the session", session), ("the elevator", elevator)] {
        until_true(&format!("an alarm of {name} before the end"), SOON, || {
            alarms(pid).iter().any(|seconds| (1..=60).contains(seconds))
        })
        .with_context(|| format!("it has {:?}", alarms(pid)))?;
    }
    ground.revoke(started.data["grant"].as_str().unwrap_or_default())?;
    client.exit(SOON)?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "revoked")])?;
    Ok("session and elevator have theirs on CLOCK_BOOTTIME".into())
}

/// A process that has nothing to do with any of it.
struct Bystander(std::process::Child);

impl Bystander {
    fn start() -> Result<Self> {
        Ok(Self(Command::new("sleep").arg("600").spawn()?))
    }

    fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.0.id())?)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            kill(pid);
        }
        let _ = self.0.wait();
    }
}

/// What ran is told as ended by the reboot, and nobody else is taken for it; what is left of the grant is, and no more.
fn is_rebooted(ground: &mut Ground, served: bool) -> Result<String> {
    set(ground, &["kept"])?;
    let mut bystander = Bystander::start()?;
    let given = Lasting::given(ground, "kept", "7s")?;
    Moved::default().reboot(ground, bystander.pid()?)?;
    ensure!(!lives(given.process), "it outlived the computer");
    if served {
        ground.site.start_agent()?;
        until_true("the server's time", SOON, || told_by_server(ground))?;
    }
    let mut again = given.once_more(ground, "again")?;
    ensure!(again.end == given.end, "the end was put off by {} ms", again.end - given.end);
    let late = again.ends_on_time(ground, 0)?;
    ground.recorded(&[
        ("launch.started", ""),
        ("launch.ended", "rebooted"),
        ("launch.started", ""),
        ("launch.ended", "expired"),
    ])?;
    ensure!(bystander.0.try_wait()?.is_none(), "a process was ended that had the number of a session");
    ensure!(told_by_server(ground) == served);
    Ok(format!("what is left of it ended {late} ms from its end"))
}

/// Whether the server has said, in this run of the computer, what time it is.
pub(crate) fn told_by_server(ground: &Ground) -> bool {
    let clock = fs::read_to_string(ground.site.tree.join("elevator/clock.json"));
    clock.is_ok_and(|clock| !clock.contains(OTHER_BOOT))
}

fn a_reboot_leaves_a_grant_what_is_left_by_the_server(ground: &mut Ground) -> Result<String> {
    is_rebooted(ground, true)
}

fn a_reboot_without_a_server_leaves_a_grant_what_is_left(ground: &mut Ground) -> Result<String> {
    is_rebooted(ground, false)
}

fn a_wall_clock_that_lags_after_a_reboot_runs_nothing(ground: &mut Ground) -> Result<String> {
    set(ground, &["kept"])?;
    let bystander = Bystander::start()?;
    let mut clock = Moved::default();
    let given = Lasting::given(ground, "kept", "30m")?;
    // By the server's time, carried on, ten minutes pass; by the wall clock, none do.
    without_server(ground)?;
    clock.on(ground, 600)?;
    given.is_good(ground)?.expect(0);
    let ended = || Ok(ground.fresh()?.into_iter().find(|event| event.kind == "launch.ended"));
    until("its end on record", SOON, ended)?;
    clock.reboot(ground, bystander.pid()?)?;
    for ran in [given.is_good(ground)?, ground.elevated(&["true"])?] {
        ensure!(ran.code() == 126 && ran.err.contains("set back"), "{} {}", ran.code(), ran.err);
    }
    ground.recorded(&[
        ("launch.started", ""),
        ("launch.started", ""),
        ("launch.ended", "rebooted"),
        ("launch.refused", "time_unknown"),
        ("launch.refused", "time_unknown"),
    ])?;
    let events = ground.events()?;
    let moments: Vec<_> = events.iter().map(|event| event.event["at"].as_i64()).collect();
    ensure!(moments.is_sorted(), "the record goes back in time: {moments:?}");
    // The server's word counts, and puts no end off.
    ground.site.start_agent()?;
    until_true("the server's time", SOON, || told_by_server(ground))?;
    given.is_good(ground)?.expect(0).prints("it is good");
    let again = ground.fresh()?.into_iter().find(|event| event.kind == "launch.started");
    let again = again.context("the launch on record")?;
    ensure!(again.data["end"].as_i64() == Some(given.end), "the end is another one: {}", again.data);
    ground.recorded(&[("launch.started", "")])?;
    Ok("nothing ran until the server said what time it is".into())
}
