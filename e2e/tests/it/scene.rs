//! Where most tests play: a site whose policy lets alice elevate what lies in a few folders, each in its own way.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use elevon_e2e::api::Seen;
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::console::Console;
use elevon_e2e::policy::{brisk_terms, folder, privileged};
use elevon_e2e::program::{Program, Ran, run};
use elevon_e2e::site::Site;
use elevon_policy::lists::{Launches, Terms, Way};
use elevon_policy::time::Span;

/// A site with a policy, and an approver who is signed in to its console.
pub(crate) struct Scene {
    /// The installation.
    pub(crate) site: Site,
    /// Who decides.
    pub(crate) approver: Console,
}

/// The name of the policy.
pub(crate) const POLICY: &str = "Tools for the tests";

impl Scene {
    /// Below the site's programs: `asked` needs someone to agree, `brief` likewise but lapses after two seconds, `noted`
    /// wants a justification, `once` is good for one launch, `free` runs at once, like everything in /usr/bin.
    pub(crate) fn set() -> Result<Self> {
        let site = Site::start()?;
        let place = |name: &str, way, terms: Option<Terms>| -> Result<_> {
            Ok(elevon_policy::rule::Rule {
                elevate: Some(way),
                terms,
                ..folder(&site.programs.join(name), false)?
            })
        };
        let brief = Terms { pending_lifetime: Span::from_secs(2), ..brisk_terms() };
        let once = Terms { launches: Launches::Once, ..brisk_terms() };
        let mut rules = vec![
            place("asked", Way::Approval, None)?,
            place("brief", Way::Approval, Some(brief))?,
            place("noted", Way::Justification, None)?,
            place("once", Way::Approval, Some(once))?,
            place("free", Way::Automatic, None)?,
        ];
        rules.push(elevon_policy::rule::Rule {
            elevate: Some(Way::Automatic),
            ..folder(Path::new("/usr/bin"), true)?
        });
        site.deploy(&privileged(POLICY, rules)?)?;
        let approver = site.signed_in("approver")?;
        Ok(Self { site, approver })
    }

    /// alice asks for this for as long, and it is pending; the waiting `elevon run` and the request's id.
    pub(crate) fn ask(&self, span: &str, command: &[&str]) -> Result<(Program, String)> {
        let asking = self.site.alice_asks(span, command)?;
        let name = Path::new(command.first().context("a command")?).file_name().unwrap_or_default();
        let request = self.site.api.pending(&name.to_string_lossy()).with_context(|| asking.log())?;
        Ok((asking, request))
    }

    /// The grant that an approval made.
    pub(crate) fn grant_of(&self, request: &str) -> Result<String> {
        let approved = self.site.api.event("request.approved", |event| event.text("/request") == request)?;
        Ok(approved.text("/grant/id"))
    }

    /// The launch under a grant, once it was recorded.
    pub(crate) fn launch_under(&self, grant: &str) -> Result<Seen> {
        self.site.api.event("launch.started", |event| event.text("/grant") == grant)
    }

    /// The stubborn program, asked for and approved for this long, its heart beating.
    pub(crate) fn stubborn(&mut self, span: &str, options: &[&str]) -> Result<Stubborn> {
        let program = self.site.install("asked", "stubborn")?;
        let heart = Heart(self.site.tree.join("heart"));
        let program = program.to_string_lossy().into_owned();
        let file = heart.0.to_string_lossy().into_owned();
        let command = [&[program.as_str()], options, &[file.as_str()]].concat();
        let (mut run, request) = self.ask(span, &command)?;
        self.approver.approve(&request, None, "go ahead")?;
        let beats =
            until_true("its heart to beat", SOON, || heart.last_beat() > 0 || run.ended().unwrap().is_some());
        beats.with_context(|| format!("{}\n{}", run.log(), self.site.log()))?;
        anyhow::ensure!(heart.last_beat() > 0, "it did not run: {}\n{}", run.log(), self.site.log());
        let grant = self.grant_of(&request)?;
        Ok(Stubborn { run, heart, request, grant })
    }

    /// `elevon run -- COMMAND…` as alice, to its end, with this to read. For what runs at once.
    pub(crate) fn elevated(&self, command: &[&str], input: &[u8]) -> Result<Ran> {
        let mut command = self.site.elevon(&self.site.alice, &[&["run", "--"], command].concat())?;
        run(&mut command, input)
    }

    /// The same for something that needs duration and justification, without waiting for anybody.
    pub(crate) fn tried(&self, command: &[&str]) -> Result<Ran> {
        let asks = ["run", "--for", "30m", "--justification", "because the test says so", "--no-wait", "--"];
        self.site.alice_runs(&[&asks, command].concat())
    }
}

/// The stubborn program, running.
pub(crate) struct Stubborn {
    /// The `elevon run` that started it.
    pub(crate) run: Program,
    /// Its heart.
    pub(crate) heart: Heart,
    /// The request it was asked for with.
    #[allow(dead_code)]
    pub(crate) request: String,
    /// The grant it runs under.
    pub(crate) grant: String,
}

/// The file that a stubborn program's last descendant writes the time into.
#[derive(Clone)]
pub(crate) struct Heart(pub(crate) PathBuf);

impl Heart {
    /// When it last beat, in milliseconds since the Unix epoch; 0 before it does.
    pub(crate) fn last_beat(&self) -> i64 {
        let beat = fs::read_to_string(&self.0).unwrap_or_default();
        beat.get(..20).and_then(|at| at.parse().ok()).unwrap_or(0)
    }

    /// Waits until the process that beats is gone; when it beat last.
    pub(crate) fn stopped(&self) -> Result<i64> {
        let pid = fs::read_to_string(&self.0)?.get(20..30).and_then(|pid| pid.parse::<u32>().ok());
        let process = PathBuf::from(format!("/proc/{}", pid.context("a heart that beats")?));
        until("the heart to stop", SOON, || Ok((!process.exists()).then(|| self.last_beat())))
    }
}

/// Prints a measured time past the test harness, which shows only what failing tests print.
pub(crate) fn measured(what: &str, millis: i64) {
    let _ = writeln!(io::stderr(), "measured: {what}: {millis} ms");
}
