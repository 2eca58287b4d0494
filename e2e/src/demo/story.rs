//! The story that the demo plays by itself. Everything it says it has seen; whatever does not happen ends it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::sample;
use super::told::{event, line, observed, step, typed};
use crate::clock::{SOON, Stopwatch, now, throughout, until};
use crate::console::Console;
use crate::program::{Program, Ran, must, run};
use crate::site::Site;

/// Plays it.
pub(super) fn play(database_url: Option<&str>) -> Result<()> {
    let whole = Stopwatch::start();
    step(1, "A whole installation: server, agent, elevator, two users, a policy");
    let began = Stopwatch::start();
    let site = sample::start(database_url)?;
    observed(&format!("console   {}", site.address));
    observed(&format!("database  {}", if database_url.is_some() { "PostgreSQL" } else { "SQLite" }));
    observed(&format!("files     {} and {}", site.tree.display(), site.programs.display()));
    observed(&format!(
        "users     {} asks, {} does not; the agent runs as {}",
        site.alice.name, site.bob.name, site.agent_user.name
    ));
    observed(&format!("ready in  {:.1} s", began.elapsed().as_secs_f64()));
    let played = Story::begin(&site).and_then(|mut story| story.play());
    if played.is_err() {
        eprintln!("\n{}", site.log());
    }
    step(11, "The end: everything goes away");
    let troubles = site.finish();
    played?;
    ensure!(troubles.is_empty(), "this was left behind:\n  {}", troubles.join("\n  "));
    observed("left behind: nothing (no user, process, control group, mount or file)");
    println!("\nAll of it happened, in {:.1} s.", whole.elapsed().as_secs_f64());
    Ok(())
}

struct Story<'a> {
    site: &'a Site,
    approver: Console,
    tool: PathBuf,
}

impl<'a> Story<'a> {
    fn begin(site: &'a Site) -> Result<Self> {
        let tool = site.install("tools", "stubborn")?;
        Ok(Self { site, approver: site.signed_in("approver")?, tool })
    }

    fn play(&mut self) -> Result<()> {
        self.not_listed_is_refused()?;
        self.policy_alone_suffices()?;
        let grant = self.asked_and_approved()?;
        self.grant_is_personal()?;
        self.asked_and_declined()?;
        self.revoked()?;
        self.expired()?;
        self.given_back(&grant)?;
        self.trail()
    }

    fn not_listed_is_refused(&self) -> Result<()> {
        step(2, "What no policy names is refused, and so is what a blocklist names");
        let good = self.site.install("elsewhere", "good")?;
        for program in [good.to_string_lossy().into_owned(), "su".into()] {
            let ran = self.alice(&["run", "--", &program])?;
            ensure!(
                ran.code() == 126 && ran.out.is_empty(),
                "{program} was not refused: {} {}",
                ran.code(),
                ran.err
            );
            observed(&ran.err);
        }
        Ok(())
    }

    fn policy_alone_suffices(&self) -> Result<()> {
        step(3, "What policy lets run without asking starts at once, and is recorded");
        let began = Stopwatch::start();
        let ran = self.alice(&["run", "--", "uptime"])?;
        ensure!(ran.code() == 0, "uptime did not run: {}", ran.err);
        observed(&format!("{}→ {} ms from start to end", ran.text(), began.elapsed().as_millis()));
        Ok(())
    }

    fn asked_and_approved(&mut self) -> Result<String> {
        step(
            4,
            "The main job: a user asks, an approver agrees, the application runs as root in the user's own terminal",
        );
        let mut asking = self.ask("15m", "look at who I am", &["id"])?;
        let request = self.site.api.pending("/id").with_context(|| asking.log())?;
        observed(&asking.errors());
        observed(
            "the approver signs in, reads the request, and agrees to five minutes in the console's own form",
        );
        let agreed = Stopwatch::start();
        self.approver.approve(&request, Some("5m"), "fine, but be quick")?;
        let seen = asking.line("the output of id", |line| Some(line.to_owned()))?;
        let took = agreed.elapsed().as_millis();
        let ran = asking.exit(SOON)?;
        ensure!(ran.code() == 0 && seen.starts_with("uid=0("), "id ran, but not as root: {seen}");
        observed(&seen);
        observed(&format!("→ uid 0 inside, {took} ms from the approval to the application's first output"));
        self.grant_of(&request)
    }

    fn grant_is_personal(&self) -> Result<()> {
        step(5, "The grant is this user's, for these bytes and these arguments");
        let again = self.alice(&["run", "--", "id"])?;
        ensure!(
            again.code() == 0 && again.text().starts_with("uid=0("),
            "the grant did not last: {}",
            again.err
        );
        observed(&format!("{}: id runs again, nobody is asked", self.site.alice.name));
        let asks = ["run", "--for", "5m", "--justification", "me too", "--no-wait", "--", "id"];
        typed(&self.site.bob.name, &format!("elevon {}", line(&asks)));
        let ran = run(&mut self.site.elevon(&self.site.bob, &asks)?, b"")?;
        ensure!(ran.code() == 124 && ran.out.is_empty(), "bob ran it: {} {}", ran.code(), ran.text());
        observed(&ran.err);
        Ok(())
    }

    fn asked_and_declined(&mut self) -> Result<()> {
        step(6, "A declined user sees who declined, and why");
        let mut asking = self.ask("15m", "edit the hosts file", &["tee", "-a", "/etc/hosts"])?;
        let request = self.site.api.pending("/tee").with_context(|| asking.log())?;
        self.approver.decline(&request, "open a ticket for this one, please")?;
        let ran = asking.exit(SOON)?;
        ensure!(ran.code() == 126, "expected 126, not {}: {}", ran.code(), ran.err);
        ensure!(
            ran.err.contains("approver") && ran.err.contains("open a ticket"),
            "it does not say who and why: {}",
            ran.err
        );
        observed(&ran.err);
        Ok(())
    }

    fn revoked(&mut self) -> Result<()> {
        step(7, "A revocation ends the whole process tree at once");
        observed("the program forks twice, leaves its session, and ignores every signal that can be ignored");
        let (mut running, heart, grant) = self.stubborn("15m", "revoked")?;
        let revoked = now().millis();
        self.approver.revoke(&grant, "that looks wrong")?;
        let last = stopped(&heart)?;
        observed(&running.exit(SOON)?.err);
        self.site.api.grant_is(&grant, "revoked")?;
        let record =
            self.site.api.event("grant.revocation_enforced", |event| event.text("/grant") == grant)?;
        observed(&format!(
            "→ dead {} ms after the revocation was sent; enforced and on record after {} ms",
            last - revoked,
            record.at - revoked
        ));
        let program = self.tool.to_string_lossy().into_owned();
        let file = heart.to_string_lossy().into_owned();
        let ran = self.alice(&[
            "run",
            "--for",
            "5m",
            "--justification",
            "once more",
            "--no-wait",
            "--",
            &program,
            &file,
        ])?;
        ensure!(ran.code() == 124 && ran.out.is_empty(), "it ran once more: {} {}", ran.code(), ran.text());
        observed("the next launch is not covered any more: it would have to be asked for again");
        Ok(())
    }

    fn expired(&mut self) -> Result<()> {
        step(8, "The right ends by itself, on time");
        let (mut running, heart, grant) = self.stubborn("4s", "expired")?;
        let started = self.site.api.event("launch.started", |event| event.text("/grant") == grant)?;
        let end =
            started.data.get("end").and_then(serde_json::Value::as_i64).context("a launch has an end")?;
        let last = stopped(&heart)?;
        observed(&running.exit(SOON)?.err);
        ensure!(last <= end + 1_000, "it lived {} ms too long", last - end);
        throughout("nothing beats any more", Duration::from_millis(100), || beat(&heart) == Some(last))?;
        self.site.api.grant_is(&grant, "expired")?;
        observed(&format!(
            "→ granted for 4 s; its last sign of life came {} ms {} the end",
            (last - end).abs(),
            side(last - end)
        ));
        Ok(())
    }

    fn given_back(&self, grant: &str) -> Result<()> {
        step(9, "A user gives a grant back");
        let ran = self.alice(&["end", grant])?;
        ensure!(ran.code() == 0, "it was not taken back: {}", ran.err);
        self.site.api.grant_is(grant, "ended")?;
        observed(&format!("{}{}", ran.text(), ran.err));
        Ok(())
    }

    fn trail(&self) -> Result<()> {
        step(10, "Every step stands in the audit trail, which verifies");
        for seen in &self.site.api.events()? {
            observed(&event(seen));
        }
        observed(&must(&mut self.site.server_command(&["audit", "verify"])?, b"")?);
        Ok(())
    }

    fn alice(&self, arguments: &[&str]) -> Result<Ran> {
        typed(&self.site.alice.name, &format!("elevon {}", line(arguments)));
        self.site.alice_runs(arguments)
    }

    fn ask(&self, span: &str, why: &str, command: &[&str]) -> Result<Program> {
        let asks = [&["run", "--for", span, "--justification", why, "--"], command].concat();
        typed(&self.site.alice.name, &format!("elevon {}", line(&asks)));
        let mut command = self.site.elevon(&self.site.alice, &asks)?;
        Program::start("elevon", &mut command, &self.site.tree.join("logs"))
    }

    /// The stubborn program, running and beating: it, the file it beats into, and the grant.
    fn stubborn(&mut self, span: &str, name: &str) -> Result<(Program, PathBuf, String)> {
        let heart = self.site.tree.join(name);
        let program = self.tool.to_string_lossy().into_owned();
        let mut running = self.ask(span, "see how it ends", &[&program, &heart.to_string_lossy()])?;
        let mine = |event: &crate::api::Seen| event.data.to_string().contains(&*heart.to_string_lossy());
        let made = self.site.api.event("request.made", mine).with_context(|| running.log())?;
        let request = made.text("/request/id");
        self.approver.approve(&request, None, "go ahead")?;
        until("the program to beat", SOON, || {
            if running.ended()?.is_some() {
                bail!("it ended before it did anything: {}", running.log());
            }
            Ok(beat(&heart))
        })?;
        let grant = self.grant_of(&request)?;
        Ok((running, heart, grant))
    }

    fn grant_of(&self, request: &str) -> Result<String> {
        let approved = self.site.api.event("request.approved", |event| event.text("/request") == request)?;
        Ok(approved.text("/grant/id"))
    }
}

fn side(millis: i64) -> &'static str {
    if millis > 0 { "after" } else { "before" }
}

/// When a heart beat last.
fn beat(heart: &PathBuf) -> Option<i64> {
    fs::read_to_string(heart).ok()?.get(..20)?.parse().ok()
}

/// Waits until the process that beats is gone; when it beat last.
fn stopped(heart: &PathBuf) -> Result<i64> {
    let pid: u32 = fs::read_to_string(heart)?.get(20..30).context("a heart that beats")?.parse()?;
    let process = PathBuf::from(format!("/proc/{pid}"));
    let last = until("the last process of the tree to be gone", SOON, || {
        Ok((!process.exists()).then(|| beat(heart)))
    })?;
    last.context("it never beat")
}
