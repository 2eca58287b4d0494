//! Where the cases play: a site with a policy, a canary, an attacker's tools, and the elevator's own journal to read.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::console::Console;
use elevon_e2e::corpus;
use elevon_e2e::journal::{Event, Journal};
use elevon_e2e::person::Person;
use elevon_e2e::policy::{brisk_terms, folder, hash_of, privileged};
use elevon_e2e::program::{Program, Ran, run};
use elevon_e2e::site::Site;
use elevon_policy::bounds::{Bounds, Limits};
use elevon_policy::lists::{Confirm, Launches, Nesting, Terms, Way};
use elevon_policy::rule::Rule;
use elevon_policy::text::OsText;
use elevon_wire::conversation::{FromClient, Run, Wait};
use elevon_wire::frame::Frame;
use serde_json::Value;

/// Whether races run for thousands of rounds.
pub(crate) fn full() -> bool {
    std::env::var_os("ELEVON_ATTACK_FULL").is_some_and(|full| full == "1")
}

/// How many hours pass at once where a day does: enough for the steps, and no more than a computer goes on without a server.
pub(crate) fn hours() -> u64 {
    let asked = std::env::var("ELEVON_ATTACK_HOURS").ok().filter(|hours| !hours.is_empty());
    let hours = asked.map_or(Some(24), |hours| hours.parse().ok()).filter(|hours| (4..=160).contains(hours));
    hours.expect("ELEVON_ATTACK_HOURS is a number of hours from 4 to 160")
}

/// Whether the wall clock of this very computer may be moved.
pub(crate) fn disruptive() -> bool {
    std::env::var_os("ELEVON_ATTACK_DISRUPTIVE").is_some_and(|disruptive| disruptive == "1")
}

/// How long a race runs.
pub(crate) fn span() -> Duration {
    Duration::from_secs(if full() { 60 } else { 2 })
}

/// A site, and what the oracles look at.
pub(crate) struct Ground {
    pub(crate) site: Site,
    pub(crate) approver: Console,
    /// A program that speaks the wire protocol for a user.
    pub(crate) attacker: PathBuf,
    /// What no case may change.
    canary: PathBuf,
    /// Where evil writes its rights.
    pub(crate) mark: PathBuf,
    /// The last event before the case.
    since: u64,
}

impl corpus::Ground for Ground {
    type Kind = ();

    fn set((): ()) -> Result<Self> {
        Self::set()
    }

    fn log(&self) -> String {
        self.site.log()
    }

    fn finish(self) -> Vec<String> {
        self.site.finish()
    }
}

const CANARY: &str = "nobody changes this\n";

impl Ground {
    /// Below the site's programs: `free` and everything in `deep` and /usr/bin run at once, `asked` needs someone to agree,
    /// `once` likewise and for one launch, `noted` wants a justification, `once-noted` one for each launch,
    /// `shown` the user's password at each launch, `shown-once` once for each grant, `shown-and-asked` someone's consent, too.
    /// `nesting` runs at once, also from inside what runs elevated, and `nesting-asked` with someone's consent; `few` is full root
    /// with a limit on processes. At home, `good` and `tool.sh` run at once by their
    /// bytes. `evil` is on no list.
    fn set() -> Result<Self> {
        let site = Site::start()?;
        let good = site.install_at_home("good")?;
        let tool = site.alice.home.join("tool.sh");
        fs::write(&tool, "#!/bin/sh\nread -r line\necho \"good tool $line\"\n")?;
        fs::set_permissions(&tool, PermissionsExt::from_mode(0o755))?;
        chown(&tool, Some(site.alice.uid), Some(site.alice.gid))?;
        let place = |name: &str, way, terms: Option<Terms>| -> Result<Rule> {
            Ok(Rule { elevate: Some(way), terms, ..folder(&site.programs.join(name), false)? })
        };
        let confirmed = |confirm| Terms { confirm, ..brisk_terms() };
        let nesting = Terms { nesting: Nesting::Allowed, ..brisk_terms() };
        let limits = Limits { processes: Some(64), memory: None };
        let few = Terms { bounds: Bounds { limits, ..Bounds::default() }, ..brisk_terms() };
        let once = Terms { launches: Launches::Once, ..brisk_terms() };
        let automatic = |rule: Rule| Rule { elevate: Some(Way::Automatic), ..rule };
        let rules = vec![
            place("asked", Way::Approval, None)?,
            place("noted", Way::Justification, None)?,
            place("once", Way::Approval, Some(once.clone()))?,
            place("once-noted", Way::Justification, Some(once))?,
            place("free", Way::Automatic, None)?,
            place("shown-once", Way::Automatic, Some(confirmed(Confirm::OncePerGrant)))?,
            place("shown", Way::Automatic, Some(confirmed(Confirm::EachLaunch)))?,
            place(
                "shown-and-asked",
                Way::Approval,
                Some(Terms { launches: Launches::Once, ..confirmed(Confirm::EachLaunch) }),
            )?,
            place("nesting", Way::Automatic, Some(nesting.clone()))?,
            place("nesting-asked", Way::Approval, Some(nesting))?,
            place("few", Way::Automatic, Some(few))?,
            automatic(folder(&site.programs.join("deep"), true)?),
            automatic(folder(Path::new("/usr/bin"), true)?),
            automatic(hash_of(&good)?),
            automatic(hash_of(&tool)?),
        ];
        site.deploy(&privileged("What the attacks play with", rules)?)?;
        site.install("free", "probe")?;
        site.install("free", "good")?;
        fs::create_dir(site.programs.join("noted"))?;
        fs::copy("/usr/bin/bash", site.programs.join("noted/bash"))?;
        site.install("unlisted", "evil")?;
        let attacker = site.install("tools", "attacker")?;
        let canary = site.tree.join("canary");
        fs::write(&canary, CANARY)?;
        fs::set_permissions(&canary, PermissionsExt::from_mode(0o600))?;
        let mark = site.tree.join("mark");
        fs::write(&mark, "")?;
        fs::set_permissions(&mark, PermissionsExt::from_mode(0o666))?;
        crate::kept::set(&site)?;
        let approver = site.signed_in("approver")?;
        Ok(Self { site, approver, attacker, canary, mark, since: 0 })
    }

    /// Plays one case, and asks the oracles after it.
    pub(crate) fn stands(&mut self, act: fn(&mut Self) -> Result<String>) -> Result<String> {
        self.since = self.settled()?;
        let seen = act(self)?;
        let canary = fs::metadata(&self.canary)?;
        ensure!(fs::read_to_string(&self.canary)? == CANARY, "the canary was changed");
        ensure!((canary.uid(), canary.mode() & 0o7777) == (0, 0o600), "the canary's rights were changed");
        let mark = fs::read_to_string(&self.mark)?;
        for line in mark.lines() {
            let powerless = line.ends_with("capabilities=0000000000000000") && !line.contains("uid=0 ");
            ensure!(powerless, "evil ran with rights: {line}");
        }
        if let Some(elevator) = self.site.elevator.as_mut() {
            ensure!(elevator.ended()?.is_none(), "the elevator ended");
        }
        Ok(seen)
    }

    pub(crate) fn elevator_pid(&self) -> Option<i32> {
        self.site.elevator.as_ref().map(|elevator| elevator.pid().as_raw_nonzero().get())
    }

    // ---- the record ----

    /// What the elevator has recorded, from its own journal.
    pub(crate) fn events(&self) -> Result<Vec<Event>> {
        Ok(Journal::behind(&self.site.tree.join("elevator"), 0).events()?.to_vec())
    }

    /// Waits until what earlier cases launched is over on record, too; the number of the last event.
    fn settled(&self) -> Result<u64> {
        until("earlier launches to be over", SOON, || {
            let events = self.events()?;
            let of = |kind: &str| -> BTreeSet<String> {
                let events = events.iter().filter(|event| event.kind == kind);
                events.map(|event| event.data["launch"].to_string()).collect()
            };
            let over = of("launch.started").is_subset(&of("launch.ended"));
            Ok(over.then(|| events.last().map_or(0, |event| event.number)))
        })
    }

    /// Those of this case, about launches and documents.
    pub(crate) fn fresh(&self) -> Result<Vec<Event>> {
        let about = |event: &Event| event.kind.starts_with("launch.") || event.kind.starts_with("document.");
        Ok(self.events()?.into_iter().filter(|event| event.number > self.since && about(event)).collect())
    }

    /// The third oracle: exactly these events, in any order, since the case began (or since this was asked last). A launch
    /// that ended by itself needs no mention.
    pub(crate) fn recorded(&mut self, expected: &[(&str, &str)]) -> Result<()> {
        let wanted = |events: &[Event]| {
            let by_itself =
                |event: &&Event| !(event.kind == "launch.ended" && event.data["reason"] == "exited");
            let mut found: Vec<(String, String)> = events
                .iter()
                .filter(by_itself)
                .map(|event| (event.kind.clone(), event.data["reason"].as_str().unwrap_or_default().into()))
                .collect();
            found.sort();
            found
        };
        let mut expected: Vec<(String, String)> =
            expected.iter().map(|(kind, reason)| ((*kind).into(), (*reason).into())).collect();
        expected.sort();
        let settled = |events: &[Event]| {
            let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
            wanted(events) == expected && count("launch.started") == count("launch.ended")
        };
        let mut fresh = Vec::new();
        let matched = until("the record to be as stated", Duration::from_secs(8), || {
            fresh = self.fresh()?;
            Ok(settled(&fresh).then_some(()))
        });
        matched.with_context(|| format!("expected {expected:?}, the record has {:?}", wanted(&fresh)))?;
        self.since = fresh.last().map_or(self.since, |event| event.number);
        Ok(())
    }

    /// Nothing was recorded, because nothing came to be asked.
    pub(crate) fn nothing_recorded(&mut self) -> Result<()> {
        self.recorded(&[])
    }

    /// Has the elevator forget which passwords were wrong lately: it is started anew.
    pub(crate) fn forget_guesses(&mut self) -> Result<()> {
        let mut elevator = self.site.elevator.take().context("it runs")?;
        elevator.stop()?;
        self.site.start_elevator()
    }

    // ---- attacking ----

    /// The attacker as this user, with these bytes to send.
    pub(crate) fn says(&self, person: &Person, options: &[&str], bytes: &[u8]) -> Result<Said> {
        let mut command = self.site.as_user(person, &self.attacker)?;
        command.arg("say").args(options);
        Ok(Said(run(&mut command, bytes)?))
    }

    /// The attacker as alice, started by a shell that prepares something; `$A` is the attacker.
    pub(crate) fn shell(&self, script: &str, bytes: &[u8]) -> Result<Said> {
        Ok(Said(run(&mut self.shell_command(script)?, bytes)?))
    }

    /// The same, left running; the bytes are in the file `asks` beside it.
    pub(crate) fn left_saying(&self, script: &str, bytes: &[u8]) -> Result<Program> {
        let asks = self.home("asks");
        fs::write(&asks, bytes)?;
        chown(&asks, Some(self.site.alice.uid), Some(self.site.alice.gid))?;
        Program::start("attacker", &mut self.shell_command(script)?, &self.site.tree.join("logs"))
    }

    /// Has a program asked for whose standard input is a file of alice's own file system, over whose closing she takes as long as
    /// she likes; gives whoever asks, once the elevator waits for her.
    pub(crate) fn held_up(&self, program: &str) -> Result<Program> {
        let script =
            r#"touch never; timeout 60 $A say --fds "cwd,unclosable:never,out,err" <asks; rm never asks"#;
        let held = self.left_saying(script, &runs(program, &[]))?;
        let elevator = self.elevator_pid().context("it runs")?;
        until_true("the elevator to wait for alice", SOON, || waits_for_a_file_system(elevator))
            .with_context(|| held.log())?;
        Ok(held)
    }

    /// Nobody serves that file any more: whoever waits for it goes on. Gives what was said to that.
    pub(crate) fn let_go(&self, mut held: Program) -> Result<Ran> {
        let mut kill = self.site.as_user(&self.site.alice, "/usr/bin/pkill".as_ref())?;
        // Brackets, so that it does not find itself.
        run(kill.args(["-9", "-f", "[u]nclosable never"]), b"")?.expect(0);
        held.exit(SOON)
    }

    pub(crate) fn shell_command(&self, script: &str) -> Result<Command> {
        let mut command = self.site.as_user(&self.site.alice, Path::new("/bin/sh"))?;
        command.args(["-c", script]).env("A", &self.attacker).env("P", &self.site.programs);
        Ok(command)
    }

    /// `elevon run -- COMMAND…` as alice, through the client.
    pub(crate) fn elevated(&self, command: &[&str]) -> Result<Ran> {
        self.site.alice_runs(&[&["run", "--"], command].concat())
    }

    /// The same, left running.
    pub(crate) fn left_running(&self, command: &[&str]) -> Result<Program> {
        let mut command = self.site.elevon(&self.site.alice, &[&["run", "--"], command].concat())?;
        Program::start("elevon", &mut command, &self.site.tree.join("logs"))
    }

    /// The one launch that runs since the case began: its start on record, and the number of its session.
    pub(crate) fn running(&self) -> Result<(Event, i32)> {
        let started = until("a launch", SOON, || {
            Ok(self.fresh()?.into_iter().rfind(|event| event.kind == "launch.started"))
        })?;
        let id = started.data["launch"].as_str().unwrap_or_default().to_owned();
        let file = self.site.launches().join(format!("{id}.json"));
        let session = until("its session to be on file", SOON, || {
            let launch: Value =
                serde_json::from_slice(&fs::read(&file).unwrap_or_default()).unwrap_or_default();
            Ok(launch["session"]["pid"].as_i64())
        })?;
        Ok((started, i32::try_from(session)?))
    }

    /// Takes a grant away, as its approver would.
    pub(crate) fn revoke(&mut self, grant: &str) -> Result<()> {
        // What policy gave on the computer is known to the server once it has heard of it.
        self.site.api.event("launch.started", |event| event.text("/grant") == grant)?;
        self.approver.revoke(grant, "because of the attack").map(drop)
    }

    /// A copy of a program of the rig in a folder of the site's programs.
    pub(crate) fn install(&self, folder: &str, program: &str) -> Result<String> {
        Ok(self.site.install(folder, program)?.to_string_lossy().into_owned())
    }

    /// A program of the site by its folder and name.
    pub(crate) fn path(&self, below: &str) -> String {
        self.site.programs.join(below).to_string_lossy().into_owned()
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.site.alice.home.join(name)
    }

    /// A file of alice's that may be executed.
    pub(crate) fn hers(&self, name: &str, bytes: &[u8]) -> Result<String> {
        let path = self.home(name);
        let mut file = fs::File::create(&path)?;
        file.write_all(bytes)?;
        drop(file);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        chown(&path, Some(self.site.alice.uid), Some(self.site.alice.gid))?;
        Ok(path.to_string_lossy().into_owned())
    }

    pub(crate) fn mark(&self) -> String {
        self.mark.to_string_lossy().into_owned()
    }
}

/// What came of an attack.
#[derive(Debug)]
pub(crate) struct Said(pub(crate) Ran);

impl Said {
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.0.text(), self.0.err)
    }

    /// The messages that came back.
    pub(crate) fn messages(&self) -> Vec<Value> {
        let lines = self.0.err.lines().filter_map(|line| line.strip_prefix("message "));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Its refusal: the reason and what was told.
    pub(crate) fn refused(&self) -> Result<(u64, String, String)> {
        let messages = self.messages();
        let Some(refused) = messages.iter().find(|message| message["message"] == "refused") else {
            bail!("expected a refusal, got {}", self.text());
        };
        let text = |field: &str| refused[field].as_str().unwrap_or_default().to_owned();
        Ok((refused["status"].as_u64().unwrap_or(0), text("reason"), text("told")))
    }

    /// The elevator hung up without a word.
    pub(crate) fn hung_up(&self) -> Result<()> {
        let quiet = self.messages().is_empty() && self.0.text().contains("closed");
        ensure!(quiet, "expected the elevator to hang up, got {}", self.text());
        Ok(())
    }

    pub(crate) fn started(&self) -> bool {
        self.messages().iter().any(|message| message["message"] == "starting")
    }
}

/// A message as a client sends it.
pub(crate) fn message(message: &FromClient) -> Vec<u8> {
    Frame::message(message).encode()
}

/// A frame around any JSON.
pub(crate) fn json(json: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(json.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

/// What a client asks to run.
pub(crate) fn asked(command: impl Into<Vec<u8>>, arguments: &[&[u8]]) -> Run {
    Run {
        command: OsText::new(command),
        arguments: arguments.iter().map(|argument| OsText::new(*argument)).collect(),
        component: false,
        duration: None,
        justification: None,
        runs_as: None,
        wait: Wait::No,
        environment: Vec::new(),
        cookie: None,
        window: None,
        umask: 0o022,
    }
}

/// Whether one of its threads waits for an answer of a file system that a program serves.
pub(crate) fn waits_for_a_file_system(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let waits = |place: PathBuf| fs::read_to_string(place.join("wchan")).unwrap_or_default();
    threads.map(|thread| waits(thread.path())).any(|place| place.contains("request_wait_answer"))
}

/// The message that asks to run this.
pub(crate) fn runs(command: &str, arguments: &[&[u8]]) -> Vec<u8> {
    message(&FromClient::Run(Box::new(asked(command, arguments))))
}
