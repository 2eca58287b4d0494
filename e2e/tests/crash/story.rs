//! What happens in every case: someone asks, someone approves, it runs, it ends. A story can be stopped at a step, and goes on
//! after whatever befell it, as the people in it would: who was left without an answer asks again.

use std::fs;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail, ensure};
use elevon_e2e::api::{Api, word};
use elevon_e2e::clock::{SOON, now, until, until_true};
use elevon_e2e::journal::Journal;
use elevon_e2e::leftovers::{self, Marks};
use elevon_e2e::process::lives;
use elevon_e2e::program::Program;
use elevon_policy::time::Timestamp;
use serde_json::{Value, json};

use crate::ground::{Ground, answered, back};

/// How much later than its end anything may still be alive, on a machine that is busy, in milliseconds.
const LATE: i64 = 1_000;

/// How soon what may not run any more is gone once everyone is back, in milliseconds.
const GONE: i64 = 10_000;

/// One story.
pub(crate) struct Story {
    /// What alice runs, whole.
    command: Vec<String>,
    /// For how long.
    span: &'static str,
    /// What it writes the time into as long as it lives.
    heart: PathBuf,
    /// Since when.
    pub(crate) since: Timestamp,
    /// What the elevator has recorded since.
    pub(crate) journal: Journal,
    pub(crate) client: Option<Program>,
    /// How often it was asked for.
    pub(crate) asked: u32,
    /// What the client said before it was asked for again.
    pub(crate) told: String,
    /// What an approver or administrator has under way.
    clicked: Option<JoinHandle<Result<Value>>>,
    /// Whether someone has to agree.
    approval: bool,
}

impl Story {
    /// Something that does not end by itself.
    pub(crate) fn stubborn(ground: &mut Ground, span: &'static str) -> Self {
        Self::of(ground, "asked/stubborn", span)
    }

    /// The same where a justification is enough.
    pub(crate) fn noted(ground: &mut Ground) -> Self {
        Self { approval: false, ..Self::of(ground, "noted/stubborn", "30m") }
    }

    /// Something that ends at once.
    pub(crate) fn brief(ground: &mut Ground) -> Self {
        Self::of(ground, "asked/good", "30m")
    }

    fn of(ground: &mut Ground, program: &str, span: &'static str) -> Self {
        ground.stories += 1;
        let heart = ground.site.tree.join(format!("heart-{}", ground.stories));
        let program = ground.site.programs.join(program).to_string_lossy().into_owned();
        Self {
            command: vec![program, heart.to_string_lossy().into_owned()],
            span,
            heart,
            since: now(),
            journal: Journal::behind(&ground.state(), ground.compared),
            client: None,
            asked: 0,
            told: String::new(),
            clicked: None,
            approval: true,
        }
    }

    fn is_brief(&self) -> bool {
        self.command.first().is_some_and(|program| program.ends_with("good"))
    }

    /// The elevator's record may have become shorter: it is read anew.
    pub(crate) fn read_anew(&mut self, ground: &Ground) {
        self.journal = Journal::behind(&ground.state(), ground.compared);
    }

    // ---- people ----

    /// alice asks, and waits.
    pub(crate) fn ask(&mut self, ground: &Ground) -> Result<()> {
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        self.client = Some(ground.site.alice_asks(self.span, &command)?);
        self.asked += 1;
        Ok(())
    }

    /// Someone approves; the answer is waited for later.
    pub(crate) fn approve(&mut self, ground: &Ground) -> Result<()> {
        let (api, id) = (ground.site.api.clone(), self.request()?.context("a request on record")?);
        self.click(move || approve(&api, &id));
        Ok(())
    }

    /// Someone takes the grant away; the answer is waited for later.
    pub(crate) fn revoke(&mut self, ground: &Ground) -> Result<()> {
        let (api, id) = (ground.site.api.clone(), self.grant()?.context("a grant on record")?);
        self.click(move || revoke(&api, &id));
        Ok(())
    }

    fn click(&mut self, act: impl FnOnce() -> Result<Value> + Send + 'static) {
        self.clicked = Some(thread::spawn(act));
    }

    /// Whoever clicked has an answer, or none because the server was gone.
    pub(crate) fn clicked(&mut self) {
        if let Some(clicked) = self.clicked.take() {
            // What came of it is looked at in the server.
            let _ = clicked.join();
        }
    }

    // ---- what is on record here ----

    /// The value at this place of the first event of this kind that is about this story.
    pub(crate) fn recorded(&mut self, kind: &str, pointer: &str) -> Result<Option<String>> {
        let heart = self.heart_name();
        let about = |data: &Value| data.to_string().contains(&heart);
        let events = self.journal.events()?;
        let found = events.iter().find(|event| event.kind == kind && about(&event.data));
        Ok(found.map(|event| event.text(pointer).to_owned()))
    }

    pub(crate) fn request(&mut self) -> Result<Option<String>> {
        self.recorded("request.made", "/request/id")
    }

    /// The grant that it was launched under.
    pub(crate) fn grant(&mut self) -> Result<Option<String>> {
        self.recorded("launch.started", "/grant")
    }

    /// When it may not run any more, by its last launch.
    pub(crate) fn end(&mut self) -> Result<Option<i64>> {
        let heart = self.heart_name();
        let events = self.journal.events()?;
        let mine = |data: &Value| data["argv"].to_string().contains(&heart);
        let last = events.iter().rfind(|event| event.kind == "launch.started" && mine(&event.data));
        Ok(last.and_then(|event| event.data["end"].as_i64()))
    }

    /// How many of its launches have started, and how many of those have ended.
    pub(crate) fn launches(&mut self) -> Result<(usize, usize)> {
        let heart = self.heart_name();
        let events = self.journal.events()?;
        let mine = |data: &Value| data["argv"].to_string().contains(&heart);
        let started: Vec<&str> = events
            .iter()
            .filter(|event| event.kind == "launch.started" && mine(&event.data))
            .map(|event| event.text("/launch"))
            .collect();
        let ended = |launch: &&&str| {
            events.iter().any(|event| event.kind == "launch.ended" && event.text("/launch") == **launch)
        };
        Ok((started.len(), started.iter().filter(ended).count()))
    }

    // ---- what can be seen from outside ----

    /// When its heart beat last; 0 before it does.
    pub(crate) fn last_beat(&self) -> i64 {
        let beat = fs::read_to_string(&self.heart).unwrap_or_default();
        beat.get(..20).and_then(|at| at.parse().ok()).unwrap_or(0)
    }

    /// Whether the process that beats is there.
    fn beats(&self) -> bool {
        let beat = fs::read_to_string(&self.heart).unwrap_or_default();
        beat.get(20..30).and_then(|pid| pid.parse().ok()).is_some_and(lives)
    }

    // ---- the course of it ----

    /// Until it is on the screen of whoever decides.
    pub(crate) fn is_asked(&mut self, ground: &Ground) -> Result<()> {
        self.ask(ground)?;
        let id =
            until("the request to be on record", SOON, || self.request()).with_context(|| self.said())?;
        until("the request to be pending", SOON, || {
            let (_, request) = ground.site.api.answer("GET", &format!("requests/{id}"), None)?;
            Ok((word(&request, "state") == Some("pending")).then_some(()))
        })
    }

    /// Until it runs.
    pub(crate) fn is_run(&mut self, ground: &Ground) -> Result<()> {
        self.is_asked(ground)?;
        self.approve(ground)?;
        until_true("its heart to beat", SOON, || self.last_beat() > 0).with_context(|| self.said())?;
        self.clicked();
        until("its launch to be on record", SOON, || Ok(self.grant()?.map(drop)))
    }

    /// What the client said.
    pub(crate) fn said(&self) -> String {
        self.client.as_ref().map(Program::log).unwrap_or_default()
    }

    /// Whatever befell it: it comes to run, or, where it is brief, has run, with people doing no more than asking again and
    /// approving what waits.
    pub(crate) fn comes_to_run(&mut self, ground: &mut Ground) -> Result<()> {
        self.clicked();
        let ran = back("it to run after all", || {
            // Looked at first: what it did before its end must not be missed.
            let ended = match &mut self.client {
                Some(client) => client.ended()?.is_some(),
                None => true,
            };
            if self.has_run()? {
                return Ok(Some(()));
            }
            ground.restart_what_ended()?;
            if ended {
                ensure!(self.asked < 6, "it was asked for {} times in vain: {}", self.asked, self.said());
                // What it was told before is for a failure's report.
                self.told = self.said();
                self.ask(ground)?;
            }
            if self.approval
                && let Some(id) = self.request()?
            {
                answered(approve(&ground.site.api, &id))?;
            }
            Ok(None)
        });
        ran.with_context(|| self.said())
    }

    fn has_run(&mut self) -> Result<bool> {
        if !self.is_brief() {
            return Ok(self.beats());
        }
        let done = match &mut self.client {
            Some(client) => client.ended()?.is_some() && client.output().contains("good uid=0"),
            None => false,
        };
        Ok(done)
    }

    /// It is taken away, by whoever tries until the server has it, and ends.
    pub(crate) fn is_revoked(&mut self, ground: &mut Ground) -> Result<()> {
        self.clicked();
        let id = until("a launch on record", SOON, || self.grant())?;
        let decided = back("the revocation to be taken", || {
            ground.restart_what_ended()?;
            let Some(grant) = answered(ground.site.api.read(&format!("grants/{id}")))? else {
                return Ok(None);
            };
            match word(&grant, "state") {
                Some("revoking" | "revoked") => Ok(Some(now().millis())),
                _ => answered(revoke(&ground.site.api, &id)).map(|_| None),
            }
        })?;
        until("nothing of it to be alive", SOON, || {
            ground.restart_what_ended()?;
            Ok((!self.beats()).then_some(()))
        })?;
        let late = self.last_beat() - decided;
        ensure!(late < GONE, "it was alive {late} ms after its revocation");
        back("the server to know that it is enforced", || {
            ground.restart_what_ended()?;
            let Some(grant) = answered(ground.site.api.read(&format!("grants/{id}")))? else {
                return Ok(None);
            };
            Ok((word(&grant, "state") == Some("revoked")).then_some(()))
        })
    }

    /// It ends by itself when its time is over.
    pub(crate) fn expires(&mut self, ground: &mut Ground) -> Result<i64> {
        self.clicked();
        let id = until("a launch on record", SOON, || self.grant())?;
        let late = self.is_gone_by_its_end()?;
        ground.restart_what_ended()?;
        back("the server to know that it is over", || {
            let Some(grant) = answered(ground.site.api.read(&format!("grants/{id}")))? else {
                return Ok(None);
            };
            Ok((word(&grant, "state") == Some("expired")).then_some(()))
        })?;
        Ok(late)
    }

    /// It is gone when its end comes; how many milliseconds after.
    pub(crate) fn is_gone_by_its_end(&mut self) -> Result<i64> {
        let end = self.end()?.context("an end")?;
        until_true("nothing of it to be alive", SOON, || !self.beats())?;
        let late = self.last_beat() - end;
        ensure!(late <= LATE, "it was alive {late} ms past its end");
        Ok(late)
    }

    /// Its client is told that it cannot be; with which status.
    pub(crate) fn is_refused(&mut self) -> Result<i32> {
        let ran = self.client.as_mut().context("a client")?.exit(SOON)?;
        ensure!(
            [125, 126].contains(&ran.code()),
            "it was not refused, but ended with {}: {}",
            ran.code(),
            ran.err
        );
        Ok(ran.code())
    }

    /// Whether its client waits, and nothing runs.
    pub(crate) fn waits(&mut self) -> bool {
        let waits = self.client.as_mut().is_some_and(|client| matches!(client.ended(), Ok(None)));
        waits
            && self.last_beat() == 0
            && !self.client.as_ref().is_some_and(|client| client.output().contains("good"))
    }

    /// Its processes end, as if by themselves.
    pub(crate) fn ends_by_itself(&mut self, ground: &Ground) -> Result<()> {
        let program = ground.site.programs.join("asked/stubborn");
        until("its processes to be gone", SOON, || {
            let marks = Marks { directories: vec![program.clone()], ..Marks::default() };
            let mut own = leftovers::processes(&marks);
            own.retain(|process| !process.what.contains("/bin/elevon "));
            leftovers::end(&own);
            Ok(own.is_empty().then_some(()))
        })
    }

    /// Whether nothing of it is alive.
    pub(crate) fn is_over(&self) -> bool {
        !self.beats()
    }

    /// Whether someone has to agree.
    pub(crate) fn approval(&self) -> bool {
        self.approval
    }

    /// Its heart, as it ends where it is named.
    pub(crate) fn heart_name(&self) -> String {
        format!("{}\"", self.heart.display())
    }

    /// Until the server has everything that was recorded so far: it has nothing else to write.
    pub(crate) fn is_quiet(&mut self, ground: &Ground) -> Result<()> {
        self.journal.events()?;
        let last = self.journal.last();
        until("the server to have what was recorded", SOON, || {
            let newest = ground.site.api.read(&format!("events?since={}", self.since.millis()))?;
            let rows =
                newest["items"].as_array().or(newest["events"].as_array()).cloned().unwrap_or_default();
            Ok(rows.iter().any(|row| row["number"] == last && row["origin"] != "server").then_some(()))
        })
    }
}

/// Approves a request that is pending; one that is decided already is fine.
fn approve(api: &Api, id: &str) -> Result<Value> {
    let (status, request) = api.answer("GET", &format!("requests/{id}"), None)?;
    if status == 404 || word(&request, "state") != Some("pending") {
        return Ok(request);
    }
    let seen = request.get("version").context("a version")?.clone();
    let body =
        json!({ "seen": seen, "duration": duration(&request)?, "covers": "exact_arguments", "comment": "" });
    settled(api.answer("POST", &format!("requests/{id}/approve"), Some(&body))?)
}

fn duration(request: &Value) -> Result<Value> {
    Ok(request.pointer("/asked/duration").context("a duration that was asked for")?.clone())
}

/// Revokes a grant that is in force.
fn revoke(api: &Api, id: &str) -> Result<Value> {
    let (status, grant) = api.answer("GET", &format!("grants/{id}"), None)?;
    if status == 404 || !matches!(word(&grant, "state"), Some("active" | "scheduled")) {
        return Ok(grant);
    }
    settled(api.answer("POST", &format!("grants/{id}/revoke"), Some(&json!({ "comment": "" })))?)
}

/// Someone else was quicker, or the server is busy: looked at again.
fn settled((status, body): (u16, Value)) -> Result<Value> {
    match status {
        200..300 | 409 | 500.. => Ok(body),
        _ => bail!("answered with {status}: {body}"),
    }
}
