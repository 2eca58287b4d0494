//! Two servers on one database: people at one, agents at the other, and one of them killed.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::api::Api;
use elevon_e2e::balancer::Balancer;
use elevon_e2e::clock::{SOON, now, until};
use elevon_e2e::database::Database;
use elevon_e2e::policy::{folder, privileged};
use elevon_e2e::program::{Program, must};
use elevon_e2e::site::{Layout, Site};
use elevon_policy::lists::Way;
use elevon_policy::rule::Rule;
use rustix::process::Signal;
use serde_json::{Value, json};

/// So many ask at once.
const AT_ONCE: usize = 4;
/// So many requests are measured.
const MEASURED: usize = 200;
/// So many more are made around the death of a server.
const MORE: usize = 40;

#[test]
#[ignore = "needs PostgreSQL; cargo xtask test runs it"]
fn approvals_at_one_server_start_what_waits_at_another_and_none_is_lost_when_one_dies() -> Result<()> {
    let database = Database::create("elevon_e2e_replicas")?;
    let mut layout = Layout::unique()?;
    let balancer = Balancer::start(&[layout.ports.1])?;
    layout.database_url = Some(database.url());
    layout.agents_through = Some(balancer.port());
    let mut site = Site::start_as(layout)?;
    let replica = site.replica()?;
    balancer.add(replica.agents);
    let asked = site.programs.join("asked");
    site.deploy(&privileged(
        "Tools",
        vec![Rule { elevate: Some(Way::Approval), ..folder(&asked, false)? }],
    )?)?;
    site.install("asked", "good")?;
    let date = asked.join("date");
    fs::copy("/usr/bin/date", &date).context("copy a program that tells when it runs")?;
    fs::set_permissions(&date, fs::Permissions::from_mode(0o755))?;

    let crowd = Crowd { site: &site, date: &date, approved: Mutex::default(), done: AtomicUsize::new(0) };
    let mut spans = crowd.ask_and_approve(&replica.api, MEASURED, |_| Ok(()))?;
    spans.sort_unstable();
    let at = |part: usize| spans[(spans.len() * part / 100).min(spans.len() - 1)];
    println!(
        "approve at one server → the command runs on an agent of the other, {MEASURED} requests, {AT_ONCE} at once: median {} ms, p99 {} ms, worst {} ms",
        at(50),
        at(99),
        at(100)
    );

    // The agent's own server dies halfway; nobody tells anyone.
    let halfway = MEASURED + MORE / 2;
    let killed = AtomicBool::new(false);
    crowd.ask_and_approve(&replica.api, MORE, |done| {
        if done >= halfway && !killed.swap(true, Ordering::Relaxed) {
            site.server.signal(Signal::KILL)?;
        }
        Ok(())
    })?;
    ensure!(killed.into_inner(), "no server was killed");
    let counted = |kinds: &[String], kind: &str| kinds.iter().filter(|found| *found == kind).count();
    let kinds = until("every end to be told", SOON, || {
        let kinds = replica.api.kinds()?;
        Ok((counted(&kinds, "launch.ended") >= MEASURED + MORE).then_some(kinds))
    })?;
    for kind in ["request.made", "request.approved", "launch.started", "launch.ended"] {
        assert_eq!(counted(&kinds, kind), MEASURED + MORE, "{kind}");
    }
    site.restart_server()?;
    let verified = must(&mut site.server_command(&["audit", "verify"])?, b"")?;
    assert!(verified.contains("chains hold"), "{verified}");
    Ok(())
}

/// Users who ask, and someone who agrees to all of it.
struct Crowd<'a> {
    site: &'a Site,
    date: &'a Path,
    /// When each was agreed to, in milliseconds, by its mark.
    approved: Mutex<HashMap<String, i64>>,
    done: AtomicUsize,
}

impl Crowd<'_> {
    /// Makes requests, several at once, agrees to each as soon as it is seen, and gives how long each command took from
    /// then to its start, in milliseconds. `step` is told how many are done.
    fn ask_and_approve(
        &self,
        api: &Api,
        requests: usize,
        step: impl Fn(usize) -> Result<()> + Sync,
    ) -> Result<Vec<i64>> {
        let first = self.done.load(Ordering::Relaxed);
        let (next, over) = (AtomicUsize::new(first), AtomicBool::new(false));
        let ask = || -> Result<Vec<i64>> {
            let mut spans = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= first + requests {
                    return Ok(spans);
                }
                spans.push(self.ask(number)?);
                step(self.done.fetch_add(1, Ordering::Relaxed) + 1)?;
            }
        };
        thread::scope(|scope| {
            let approver = scope.spawn(|| self.approve_all(api, &over));
            let asking: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask)).collect();
            let spans: Result<Vec<_>> =
                asking.into_iter().map(|thread| thread.join().expect("it does not panic")).collect();
            over.store(true, Ordering::Relaxed);
            approver.join().expect("it does not panic")?;
            Ok(spans?.concat())
        })
    }

    /// One request, to the end of what it starts.
    fn ask(&self, number: usize) -> Result<i64> {
        let (mark, site) = (format!("mark{number}"), self.site);
        let format = format!("+{mark} %s%3N");
        let date = self.date.to_string_lossy();
        let asks = ["run", "--for", "5m", "--justification", "to see what time it is", "--", &date, &format];
        let mut run =
            Program::start("elevon", &mut site.elevon(&site.alice, &asks)?, &site.tree.join("logs"))?;
        let ran = run.exit(Duration::from_secs(60))?;
        ensure!(ran.code() == 0, "request {number} ended with {}: {}", ran.code(), ran.err);
        let text = ran.text();
        let ran_at: i64 = text.trim().strip_prefix(&format!("{mark} ")).context("its mark")?.parse()?;
        let approved = self.approved.lock().expect("nobody panics while holding it");
        Ok(ran_at - approved.get(&mark).context("it ran without approval")?)
    }

    fn approve_all(&self, api: &Api, over: &AtomicBool) -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            let seen = until("requests, or the end", SOON * 3, || {
                let pending = api.list("requests?which=pending")?;
                let over = over.load(Ordering::Relaxed);
                Ok((over || !pending.is_empty()).then_some(pending))
            })?;
            for request in seen {
                let text = |pointer| request.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                let mark =
                    text("/asked/argv/1").trim_start_matches('+').split(' ').next().unwrap_or_default();
                let terms = json!({
                    "seen": request["version"], "duration": "10s", "covers": "exact_arguments", "comment": "",
                });
                self.approved
                    .lock()
                    .expect("nobody panics while holding it")
                    .insert(mark.into(), now().millis());
                api.post(&format!("requests/{}/approve", text("/asked/id")), &terms)?;
            }
        }
        Ok(())
    }
}
