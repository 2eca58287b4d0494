//! What it costs to start a program elevated: ours beside what a user would take instead, same program, same user, one run.
//! The commands take turns, so that whatever else the machine does meanwhile falls on all of them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use elevon_bench::{Spread, clock};
use elevon_e2e::policy::{hash_of, privileged};
use elevon_e2e::polkit::Polkit;
use elevon_e2e::program::must;
use elevon_e2e::site::Site;
use elevon_e2e::terminal::Terminal;
use elevon_policy::bounds::Containment;
use elevon_policy::lists::Way;

/// How many runs one command has before it is another's turn.
const TURN: usize = 25;

/// Between two runs that are paced.
const PAUSE: Duration = Duration::from_millis(30);

/// From starting the command to its exit, beside sudo, doas, pkexec and sudo-rs.
#[derive(Parser)]
struct Launch {
    #[command(subcommand)]
    part: Option<Part>,
    /// How often each command is run, each way
    #[arg(long, default_value_t = 400)]
    runs: usize,
    /// A sudo of sudo-rs, which is made setuid root for this; without it sudo-rs is left out
    #[arg(long)]
    sudo_rs: Option<PathBuf>,
    /// Only the ways whose names begin with this, and sudo and doas
    #[arg(long, default_value = "")]
    only: String,
    /// The page of the documents that is written anew
    #[arg(long)]
    write: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// Runs a command again and again, and writes how many nanoseconds each run took
    Repeat {
        #[arg(long)]
        runs: usize,
        #[arg(long)]
        paced: bool,
        #[arg(long)]
        times: PathBuf,
        #[arg(last = true)]
        command: Vec<String>,
    },
}

fn main() -> Result<()> {
    let bench = Launch::parse();
    match bench.part {
        Some(Part::Repeat { runs, paced, times, command }) => repeat(runs, paced, &times, &command),
        None => {
            let tables = compare(&bench)?;
            bench.write.map_or(Ok(()), |page| write(&page, bench.runs, &tables))
        }
    }
}

fn repeat(runs: usize, paced: bool, times: &Path, command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("expected a command")?;
    let mut taken = OpenOptions::new().append(true).create(true).open(times)?;
    for _ in 0..runs {
        if paced {
            std::thread::sleep(PAUSE);
        }
        let start = clock::now();
        let status = Command::new(program).args(arguments).status()?;
        let time = start.elapsed();
        ensure!(status.success(), "{command:?} ended with {status}");
        writeln!(taken, "{}", time.as_nanos())?;
    }
    Ok(())
}

/// A way of running a program as root.
struct Contestant {
    name: &'static str,
    command: Vec<String>,
    times: Vec<Duration>,
}

impl Contestant {
    fn new(name: &'static str, command: &[&str]) -> Self {
        let command = command.iter().copied().map(str::to_owned).collect();
        Self { name, command, times: Vec::new() }
    }
}

/// How a run is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Paced,
    Loop,
    Terminal,
}

/// Measures, tells, and gives the tables.
fn compare(Launch { runs, sudo_rs, only, .. }: &Launch) -> Result<String> {
    let mut site = Site::start()?;
    let own = site.programs.join("bin/repeat");
    fs::copy(std::env::current_exe()?, &own)?;
    fs::set_permissions(&own, PermissionsExt::from_mode(0o755))?;
    let fresh = site.alice.home.join("true");
    fs::copy("/usr/bin/true", &fresh)?;
    let mut list = privileged("Measured", vec![hash_of(Path::new("/usr/bin/true"))?])?;
    list.elevate = Way::Automatic;
    site.deploy(&list)?;
    let contained = site.programs.join("bin/printf");
    fs::copy("/usr/bin/printf", &contained)?;
    fs::set_permissions(&contained, PermissionsExt::from_mode(0o755))?;
    let mut list = privileged("Contained", vec![hash_of(&contained)?])?;
    list.elevate = Way::Automatic;
    list.terms.bounds.containment = Containment::Contained { writable: Vec::new() };
    site.deploy(&list)?;
    // A server is another machine: here it would take its part of this one for every launch. What it signed stays in force.
    site.server.stop()?;
    let _rules = Rules::allow(&site)?;
    let _polkit = Polkit::of_the_system(&site, &polkit_rule(&site.alice.name))?;
    let mut measured = vec![
        Contestant::new("the program itself, not elevated", &["/usr/bin/true"]),
        Contestant::new("elevon", &[text(&site.client())?, "run", "--", "/usr/bin/true"]),
        Contestant::new(
            "elevon, file measured anew each time",
            &[text(&site.client())?, "run", "--", text(&fresh)?],
        ),
        Contestant::new(
            "elevon, contained (printf)",
            &[text(&site.client())?, "run", "--", text(&contained)?, ""],
        ),
        Contestant::new("sudo (NOPASSWD)", &["sudo", "-n", "/usr/bin/true"]),
        Contestant::new("doas (nopass)", &["doas", "-n", "/usr/bin/true"]),
        Contestant::new("pkexec (a rule says yes)", &["pkexec", "/usr/bin/true"]),
    ];
    let sudo_rs = sudo_rs.as_deref().map(|path| Installed::setuid(path, &site)).transpose()?;
    if let Some(sudo_rs) = &sudo_rs {
        measured.push(Contestant::new("sudo-rs (NOPASSWD)", &[text(&sudo_rs.0)?, "-n", "/usr/bin/true"]));
    }
    let compared = ["sudo (", "doas", only];
    measured.retain(|contestant| compared.iter().any(|name| contestant.name.starts_with(name)));
    let mut tables = String::new();
    for (manner, told) in [
        (Manner::Paced, "paced, 30 ms apart, pipes"),
        (Manner::Loop, "in a loop, pipes"),
        (Manner::Terminal, "in a loop, in a terminal (sudo: use_pty)"),
    ] {
        take_turns(&site, &own, &mut measured, manner, *runs)?;
        let table = table(told, &mut measured);
        println!("{table}");
        tables += &table;
        tables.push('\n');
    }
    Ok(tables)
}

fn take_turns(
    site: &Site,
    own: &Path,
    measured: &mut [Contestant],
    manner: Manner,
    runs: usize,
) -> Result<()> {
    let times = site.alice.home.join("times");
    // The first turn of each warms up, and does not count.
    for turn in 0..=runs.div_ceil(TURN) {
        for contestant in &mut *measured {
            let mut command = match manner {
                Manner::Paced | Manner::Loop => site.as_user(&site.alice, own)?,
                Manner::Terminal => site.in_terminal(&site.alice, own)?,
            };
            // A contained program has a /tmp of its own, where their homes are not.
            command.current_dir("/");
            command.args(["repeat", "--runs", &TURN.to_string(), "--times", text(&times)?]);
            if manner == Manner::Paced {
                command.arg("--paced");
            }
            command.arg("--").args(&contestant.command);
            if manner == Manner::Terminal {
                let mut terminal = Terminal::open(&mut command)?;
                let status = terminal.exit(Duration::from_secs(60))?;
                ensure!(status == 0, "{}: {}", contestant.name, terminal.transcript());
            } else {
                must(command.stdin(Stdio::null()), b"").context(contestant.name)?;
            }
            let taken = fs::read_to_string(&times)?;
            fs::remove_file(&times)?;
            if turn > 0 {
                for line in taken.lines() {
                    contestant.times.push(Duration::from_nanos(line.parse()?));
                }
            }
        }
    }
    Ok(())
}

/// A table in Markdown: each with its ratio to sudo and to doas.
fn table(told: &str, measured: &mut [Contestant]) -> String {
    let spreads: Vec<(&str, Spread)> = measured
        .iter_mut()
        .map(|contestant| (contestant.name, Spread::of(std::mem::take(&mut contestant.times))))
        .collect();
    let ratio = |spread: &Spread, name: &str| {
        let other = spreads.iter().find(|(known, _)| known.starts_with(name));
        other.map_or(f64::NAN, |(_, other)| spread.median.as_secs_f64() / other.median.as_secs_f64())
    };
    let head = format!(
        "| {told:42} |   median |      p99 | × sudo | × doas |\n| --- | ---: | ---: | ---: | ---: |\n"
    );
    spreads.iter().fold(head, |table, (name, spread)| {
        let millis = |time: Duration| format!("{:5.2} ms", time.as_secs_f64() * 1e3);
        let (median, p99) = (millis(spread.median), millis(spread.p99));
        let (sudo, doas) = (ratio(spread, "sudo"), ratio(spread, "doas"));
        table + &format!("| {name:42} | {median} | {p99} | {sudo:6.2} | {doas:6.2} |\n")
    })
}

fn write(page: &Path, runs: usize, tables: &str) -> Result<()> {
    let processors = std::thread::available_parallelism()?;
    let about = fs::read_to_string("/proc/cpuinfo")?;
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model.trim());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let system = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let page_text = format!(
        include_str!("launch.md"),
        runs = runs,
        processors = processors,
        model = model,
        system = system,
        tables = tables.trim_end(),
    );
    fs::write(page, page_text).with_context(|| format!("write {}", page.display()))
}

/// Lets her run the program by pkexec.
fn polkit_rule(name: &str) -> String {
    format!(
        r#"polkit.addRule(function(action, subject) {{
    if (action.id == "org.freedesktop.policykit.exec" && subject.user == "{name}"
            && action.lookup("program") == "/usr/bin/true") {{
        return polkit.Result.YES;
    }}
}});
"#
    )
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

/// Files that let alice run the program with the others, gone when dropped.
struct Rules(Vec<PathBuf>);

impl Rules {
    fn allow(site: &Site) -> Result<Self> {
        let alice = &site.alice.name;
        let mut rules = Self(Vec::new());
        rules.put(
            &format!("/etc/sudoers.d/{alice}"),
            &format!("Defaults:{alice} use_pty\n{alice} ALL=(root) NOPASSWD: /usr/bin/true\n"),
            0o440,
        )?;
        rules.put("/etc/doas.conf", &format!("permit nopass {alice} as root cmd /usr/bin/true\n"), 0o400)?;
        Ok(rules)
    }

    fn put(&mut self, path: &str, content: &str, mode: u32) -> Result<()> {
        let about = || format!("write {path} for the measure; it must not be there before");
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(about)?;
        self.0.push(path.into());
        file.write_all(content.as_bytes()).with_context(about)
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = fs::remove_file(path) {
                eprintln!("{} could not be removed: {error}", path.display());
            }
        }
    }
}

/// A program made setuid root for as long as the site is there.
struct Installed(PathBuf);

impl Installed {
    fn setuid(from: &Path, site: &Site) -> Result<Self> {
        let to = site.programs.join("bin/sudo-rs");
        fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
        chown(&to, Some(0), Some(0))?;
        fs::set_permissions(&to, PermissionsExt::from_mode(0o4755))?;
        ensure!(fs::metadata(&to)?.mode() & 0o4000 != 0, "{} does not become setuid", to.display());
        Ok(Self(to))
    }
}
