//! One elevated program used to get at others: what its list allows from inside, for the user it belongs to, as long as the
//! launch it came from, and nothing further.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::binaries::binary;
use elevon_e2e::clock::{Deadline, SOON, now, until, until_true};
use elevon_e2e::journal::Event;
use elevon_e2e::leftovers::cgroup_root;
use elevon_e2e::process::kill;
use elevon_e2e::program::{Program, Ran, run};
use serde_json::Value;

use crate::ground::{Ground, full, runs, span};

crate::cases! {
    Shared a_list_that_allows_it_starts_it_for_the_origins_user,
    Shared what_is_asked_from_inside_is_decided_like_any_other,
    Shared a_grant_given_outside_is_no_good_inside,
    Shared nothing_nests_twice,
    Shared a_cgroup_that_is_not_its_own_makes_no_origin,
    Shared what_is_kept_nests_nothing,
    Shared a_third_user_inside_asks_for_nobody,
    Shared only_programs_are_asked_for_from_inside,
    Shared what_a_program_asks_first_is_known_to_come_from_inside,
    Shared the_account_that_counts_is_the_origins_users,
    Shared what_is_nested_ends_no_later_than_its_origin,
    Shared what_is_nested_ends_with_its_origin,
    Shared a_revoked_origin_takes_along_what_is_nested,
    Shared an_origin_whose_session_dies_takes_along_what_is_nested,
    Alone an_origin_that_ended_unseen_takes_along_what_is_nested,
}

const BASH: &str = "/usr/bin/bash";

/// How much later than its end anything may still be alive, on a machine that is busy.
const LATE: i64 = 1_000;

/// A line of shell that has this elevated from wherever it runs.
fn inside(ground: &Ground, command: &str) -> String {
    format!(
        "/usr/bin/env ELEVON_SOCKET={} {} run {command}",
        ground.site.socket().display(),
        ground.site.client().display()
    )
}

/// The rig's good program, where its list allows nesting.
fn good(ground: &Ground) -> Result<String> {
    of_its_own(ground, "nesting")
}

/// The rig's good program in a folder, with bytes of its own: no rule by hash has it, and no grant of another case covers it.
fn of_its_own(ground: &Ground, folder: &str) -> Result<String> {
    let good = ground.install(folder, "good")?;
    let own = format!("{good}-of-its-own");
    fs::write(&own, [fs::read(&good)?, folder.as_bytes().to_vec()].concat())?;
    fs::set_permissions(&own, PermissionsExt::from_mode(0o755))?;
    Ok(own)
}

/// A shell, where its list allows nesting.
fn shell(ground: &Ground) -> Result<String> {
    let shell = ground.site.programs.join("nesting/bash");
    good(ground)?;
    fs::copy(BASH, &shell)?;
    Ok(shell.to_string_lossy().into_owned())
}

/// What this script does as a launch of alice's.
fn under_bash(ground: &Ground, script: &str) -> Result<Ran> {
    ground.elevated(&[BASH, "-c", script])
}

/// The launches that were started since the case began, the first first.
fn started(ground: &Ground) -> Result<Vec<Event>> {
    Ok(ground.fresh()?.into_iter().filter(|event| event.kind == "launch.started").collect())
}

/// Those two: an origin, and what was started from inside it.
fn origin_and_nested(ground: &Ground) -> Result<(Event, Event)> {
    let mut started = started(ground)?.into_iter();
    let (Some(origin), Some(nested), None) = (started.next(), started.next(), started.next()) else {
        anyhow::bail!("expected two launches, the record has {:?}", ground.fresh()?);
    };
    ensure!(origin.data["origin"].is_null(), "the origin names one: {}", origin.data);
    Ok((origin, nested))
}

/// The origin that the last refusal names; null where it names none.
fn refused_origin(ground: &Ground) -> Result<Value> {
    let refused = ground.fresh()?.into_iter().rfind(|event| event.kind == "launch.refused");
    Ok(refused.context("a refusal")?.data["origin"]["launch"].clone())
}

/// The launch as the elevator has it on file.
fn on_file(ground: &Ground, launch: &Event) -> Result<Value> {
    let file = ground.site.launches().join(format!("{}.json", launch.text("/launch")));
    Ok(serde_json::from_slice(&fs::read(&file).with_context(|| file.display().to_string())?)?)
}

/// A script beside the site's programs.
fn script(ground: &Ground, name: &str, text: &str) -> Result<String> {
    let path = ground.site.tree.join(name);
    fs::write(&path, text)?;
    Ok(path.to_string_lossy().into_owned())
}

/// A nested program that does not want to end, inside a launch of alice's whose client this is.
struct Nested {
    client: Program,
    heart: PathBuf,
    origin: Event,
    nested: Event,
}

impl Nested {
    /// With these options of `elevon run` for the origin, and this script, in which `$1` is its heart.
    fn start(ground: &Ground, options: &[&str], script: &str) -> Result<Self> {
        let heart = ground.site.tree.join("nested-heart");
        let _ = fs::remove_file(&heart);
        let shown = heart.to_string_lossy().into_owned();
        let words = [&["run"], options, &["--", BASH, "-c", script, "bash", &shown]].concat();
        let mut command = ground.site.elevon(&ground.site.alice, &words)?;
        let client = Program::start("elevon", &mut command, &ground.site.tree.join("logs"))?;
        until_true("the nested program to beat", SOON, || last_beat(&heart) > 0)
            .with_context(|| client.log())?;
        let (origin, nested) = origin_and_nested(ground)?;
        Ok(Self { client, heart, origin, nested })
    }

    /// Until it has not beaten for a while; when it beat last.
    fn stopped(&self, within: Duration) -> Result<i64> {
        let mut last = (0, now().millis());
        until("the nested program to end", within, || {
            let (beat, at) = (last_beat(&self.heart), now().millis());
            if beat != last.0 {
                last = (beat, at);
            }
            Ok((at - last.1 > 700).then_some(last.0))
        })
    }
}

fn last_beat(heart: &Path) -> i64 {
    let beat = fs::read_to_string(heart).unwrap_or_default();
    beat.get(..20).and_then(|millis| millis.parse().ok()).unwrap_or(0)
}

/// A line of shell that has the stubborn program elevated, with these options.
fn stubborn(ground: &Ground, options: &str) -> Result<String> {
    let stubborn = ground.install("nesting", "stubborn")?;
    Ok(inside(ground, &format!("{options} -- {stubborn} \"$1\"")))
}

fn a_list_that_allows_it_starts_it_for_the_origins_user(ground: &mut Ground) -> Result<String> {
    let good = good(ground)?;
    let (alice, as_user) = (&ground.site.alice, binary("as-user")?);
    let (uid, name) = (alice.uid, alice.name.clone());
    let as_alice = format!("{} {uid} {} --", as_user.display(), alice.gid);
    let asks = inside(ground, &format!("-- {good}"));
    let tree = ground.site.tree.display().to_string();
    let ways = [
        format!("{asks}; :"),
        format!("{as_alice} {asks}; :"),
        // Whoever loses its parent is adopted by the session, and stays where it is.
        format!(
            "( (setsid {asks} >{tree}/out; touch {tree}/over) & ); until test -e {tree}/over; do :; done; cat {tree}/out; rm {tree}/out {tree}/over"
        ),
    ];
    for way in &ways {
        let ran = under_bash(ground, way)?.expect(0);
        ensure!(ran.text().contains("good uid=0"), "{} {}", ran.text(), ran.err);
        let (origin, nested) = origin_and_nested(ground)?;
        ensure!(nested.data["user"]["uid"] == uid, "{}", nested.data);
        ensure!(nested.text("/origin/launch") == origin.text("/launch"), "{}", nested.data);
        ensure!(nested.text("/origin/grant") == origin.text("/grant"), "{}", nested.data);
        ensure!(nested.text("/origin/user/name") == name, "{}", nested.data);
        ensure!(nested.data["end"].as_i64() <= origin.data["end"].as_i64(), "{}", nested.data);
        let grant = nested.text("/grant").to_owned();
        let made = ground.events()?.into_iter().find(|event| event.text("/grant/id") == grant);
        let made = made.context("its grant is on record")?;
        ensure!(
            made.text("/grant/user/name") == name && made.text("/grant/nesting") == "allowed",
            "{}",
            made.data
        );
        ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    }
    Ok("as root, as the user, without a parent: for the user, by the origin's end".into())
}

fn what_is_asked_from_inside_is_decided_like_any_other(ground: &mut Ground) -> Result<String> {
    let good = of_its_own(ground, "nesting-asked")?;
    let asks = inside(ground, &format!("--for 5m --justification 'because of the test' -- {good}"));
    let mut client = ground.left_running(&[BASH, "-c", &format!("{asks}; :")])?;
    let request = ground.site.api.pending(&good)?;
    let made = ground.site.api.event("request.made", |event| event.text("/request/id") == request)?;
    let origin = started(ground)?.pop().context("the origin")?;
    ensure!(made.text("/request/origin/launch") == origin.text("/launch"), "{}", made.data);
    ensure!(made.text("/request/user/name") == ground.site.alice.name, "{}", made.data);
    ground.approver.approve(&request, None, "")?;
    let ran = client.exit(SOON)?.expect(0);
    ensure!(ran.text().contains("good uid=0"), "{} {}", ran.text(), ran.err);
    ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    Ok("asked for with its origin, approved, started".into())
}

fn a_grant_given_outside_is_no_good_inside(ground: &mut Ground) -> Result<String> {
    let own = of_its_own(ground, "asked")?;
    let mut waits = ground.site.alice_asks("5m", &[&own])?;
    let request = ground.site.api.pending(&own)?;
    ground.approver.approve(&request, None, "")?;
    waits.exit(SOON)?.expect(0);
    ground.elevated(&[&own])?.expect(0);
    ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    let ran = under_bash(ground, &format!("{}; :", inside(ground, &format!("-- {own}"))))?;
    ensure!(
        !ran.text().contains("good uid") && ran.err.contains("elevated itself"),
        "{} {}",
        ran.text(),
        ran.err
    );
    let origin = started(ground)?.pop().context("the origin")?;
    ensure!(refused_origin(ground)? == origin.data["launch"], "the refusal does not name its origin");
    ground.recorded(&[("launch.started", ""), ("launch.refused", "nested")])?;
    Ok("started outside, refused inside".into())
}

fn nothing_nests_twice(ground: &mut Ground) -> Result<String> {
    let (shell, good) = (shell(ground)?, good(ground)?);
    let root = cgroup_root().context("no cgroup v2 is mounted")?;
    let (root, tree) = (root.display(), ground.site.tree.display().to_string());
    let asks = inside(ground, &format!("-- {good}"));
    let ways = [
        asks.clone(),
        format!("setsid -w {shell} -c '{asks}'"),
        // Where its origin lives, and with nobody above it but its session.
        format!("echo $$ >{root}$(cat {tree}/origin)/cgroup.procs && {asks}"),
        format!(
            "echo $$ >{root}$(cat {tree}/origin)/cgroup.procs; ( (setsid {asks}; touch {tree}/over) & ); until test -e {tree}/over; do :; done; rm {tree}/over"
        ),
        // Out of everybody's sight.
        format!("echo $$ >{root}/cgroup.procs && {asks}"),
    ];
    for way in &ways {
        let second = script(ground, "second", &format!("{way}\n:\n"))?;
        let first = inside(ground, &format!("-- {shell} {second}"));
        let noted = format!("grep ^0:: /proc/self/cgroup | cut -c4- >{tree}/origin");
        let ran = under_bash(ground, &format!("{noted}; {first}; :"))?.expect(0);
        ensure!(!ran.text().contains("good uid"), "{way}: {}", ran.text());
        ensure!(ran.err.contains("elevated itself"), "{way}: {}", ran.err);
        let (origin, _) = origin_and_nested(ground)?;
        ensure!(refused_origin(ground)? != origin.data["launch"], "{way}: the first is taken for its origin");
        ground
            .recorded(&[("launch.started", ""), ("launch.started", ""), ("launch.refused", "nested")])
            .with_context(|| way.clone())?;
    }
    Ok("refused, wherever it moved".into())
}

fn a_cgroup_that_is_not_its_own_makes_no_origin(ground: &mut Ground) -> Result<String> {
    let good = good(ground)?;
    let mut other = ground.site.elevon(&ground.site.bob, &["run", "--", "/usr/bin/sleep", "60"])?;
    let mut other = Program::start("elevon", &mut other, &ground.site.tree.join("logs"))?;
    let (bobs, _) = ground.running()?;
    let theirs = on_file(ground, &bobs)?["cgroup"].as_str().context("its cgroup")?.to_owned();
    let name = theirs.rsplit('/').next().unwrap_or_default();
    let root = cgroup_root().context("no cgroup v2 is mounted")?;
    let root = root.display();
    let own = format!("{root}$(grep ^0:: /proc/self/cgroup | cut -c4-)");
    let asks = inside(ground, &format!("-- {good}; :"));
    for (way, is_known) in [
        (format!("echo $$ >{theirs}/cgroup.procs && {asks}"), false),
        (format!("own={own}; mkdir $own/{name} && echo $$ >$own/{name}/cgroup.procs && {asks}"), false),
        (format!("echo $$ >{root}/cgroup.procs && {asks}"), true),
    ] {
        let ran = under_bash(ground, &way)?.expect(0);
        ensure!(!ran.text().contains("good uid"), "{way}: {}", ran.text());
        ensure!(ran.err.contains("elevated itself"), "{way}: {}", ran.err);
        let origin = started(ground)?.pop().context("the origin")?;
        let named = refused_origin(ground)?;
        ensure!(if is_known { named == origin.data["launch"] } else { named.is_null() }, "{way}: {named}");
    }
    other.stop()?;
    let [started, refused] = [("launch.started", ""), ("launch.refused", "nested")];
    ground.recorded(&[started, started, refused, started, refused, started, refused])?;
    Ok("in another launch's, below its own under another's name, in none: refused".into())
}

fn what_is_kept_nests_nothing(ground: &mut Ground) -> Result<String> {
    let good = good(ground)?;
    let asks = inside(ground, &format!("-- {good}; :"));
    fs::create_dir_all(ground.site.programs.join("few"))?;
    fs::copy(BASH, ground.site.programs.join("few/bash"))?;
    // A limit on root, and the same user with a capability.
    for folder in ["few", "capable"] {
        let ran = ground.elevated(&[&ground.path(&format!("{folder}/bash")), "-c", &asks])?.expect(0);
        ensure!(!ran.text().contains("good uid"), "{folder}: {}", ran.text());
        ensure!(ran.err.contains("elevated itself"), "{folder}: {}", ran.err);
        ground.recorded(&[("launch.started", ""), ("launch.refused", "nested")]).context(folder)?;
    }
    // One that starts no other program speaks for itself. Where nothing keeps it, it is listened to.
    let message = ground.hers("nested-message", &runs(&good, &[]))?;
    let speaks = r#"use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un($ARGV[0])) or die "no socket: $!"; open F, "<", $ARGV[1]; local $/; syswrite S, <F>; print while sysread S, $_, 4096;"#;
    let socket = ground.site.socket().to_string_lossy().into_owned();
    for (perl, kept) in [
        ("/usr/bin/perl".to_owned(), false),
        (ground.path("alone/perl"), true),
        (ground.path("capable-alone/perl"), true),
    ] {
        let ran = ground.elevated(&[&perl, "-e", speaks, &socket, &message])?.expect(0);
        let told = if kept { "\"nested\"" } else { "four descriptors" };
        ensure!(ran.text().contains(told), "{perl}: {}", ran.text());
        let refused: &[_] = if kept { &[("launch.refused", "nested")] } else { &[] };
        ground.recorded(&[&[("launch.started", "")], refused].concat()).context(perl)?;
    }
    // A contained one does not even see the socket.
    for folder in ["contained", "contained-user"] {
        let shell = ground.path(&format!("{folder}/bash"));
        let mut command = ground.site.elevon(&ground.site.alice, &["run", "--", &shell, "-c", &asks])?;
        let ran = run(command.current_dir("/"), b"")?.expect(0);
        ensure!(!ran.text().contains("good uid"), "{folder}: {}", ran.text());
        let refused = ground.fresh()?.into_iter().filter(|event| event.kind == "launch.refused");
        ensure!(refused.count() == 0 && !ran.err.is_empty(), "{folder}: {}", ran.err);
        ground.recorded(&[("launch.started", "")]).context(folder)?;
    }
    Ok("limited, with a capability, without children, contained: refused".into())
}

fn a_third_user_inside_asks_for_nobody(ground: &mut Ground) -> Result<String> {
    let good = good(ground)?;
    let (bob, as_user) = (&ground.site.bob, binary("as-user")?);
    let asks = inside(ground, &format!("-- {good}; :"));
    let way = format!("cd / && {} {} {} -- {asks}", as_user.display(), bob.uid, bob.gid);
    let ran = under_bash(ground, &way)?.expect(0);
    ensure!(
        !ran.text().contains("good uid") && ran.err.contains("elevated itself"),
        "{} {}",
        ran.text(),
        ran.err
    );
    ground.recorded(&[("launch.started", ""), ("launch.refused", "nested")])?;
    Ok("what serves others, under their account, asks for nobody".into())
}

fn only_programs_are_asked_for_from_inside(ground: &mut Ground) -> Result<String> {
    let good = good(ground)?;
    let client =
        format!("ELEVON_SOCKET={} {}", ground.site.socket().display(), ground.site.client().display());
    for question in [
        format!("explain -- {good}"),
        "status".to_owned(),
        "run --component org.example.clock.set-time".to_owned(),
    ] {
        let ran = under_bash(ground, &format!("{client} {question}; :"))?.expect(0);
        ensure!(ran.err.contains("elevated itself"), "{question}: {} {}", ran.text(), ran.err);
        ground.recorded(&[("launch.started", ""), ("launch.refused", "nested")])?;
    }
    Ok("explain, status and components are refused".into())
}

/// The program is a client: it asks with the first thing it does, when its own launch has hardly begun.
fn what_a_program_asks_first_is_known_to_come_from_inside(ground: &mut Ground) -> Result<String> {
    let client = ground.site.programs.join("free/elevon");
    good(ground)?;
    fs::copy(ground.site.client(), &client)?;
    let (client, socket) = (client.to_string_lossy().into_owned(), ground.site.socket());
    let asks = [client.as_str(), "--socket", &socket.to_string_lossy(), "status"];
    let deadline = Deadline::within(span());
    let mut rounds = 0;
    while deadline.left().is_some() || (full() && rounds < 2_000) {
        let ran = ground.elevated(&asks)?;
        ensure!(ran.err.contains("elevated itself"), "{} {}", ran.text(), ran.err);
        rounds += 1;
    }
    // Each is known to come from the very launch that had just begun.
    let fresh = ground.fresh()?;
    let of = |kind: &str, at: &str| -> Vec<String> {
        fresh.iter().filter(|event| event.kind == kind).map(|event| event.text(at).to_owned()).collect()
    };
    let (started, refused) = (of("launch.started", "/launch"), of("launch.refused", "/origin/launch"));
    ensure!(started == refused && refused.len() == rounds, "{rounds} rounds: {started:?} and {refused:?}");
    Ok(format!("refused, {rounds} times"))
}

fn the_account_that_counts_is_the_origins_users(ground: &mut Ground) -> Result<String> {
    let good = good(ground)?;
    let go = ground.site.tree.join("go");
    let asks = inside(ground, &format!("-- {good}"));
    let waits = format!("until test -e {}; do :; done; {asks}; :", go.display());
    let mut client = ground.left_running(&[BASH, "-c", &waits])?;
    ground.running()?;
    let alice = &ground.site.alice;
    let expire =
        |date: &str| alice.administer(Command::new("usermod").args(["--expiredate", date]).arg(&alice.name));
    expire("2001-01-01")?;
    fs::write(&go, "")?;
    let ran = client.exit(SOON);
    expire("")?;
    fs::remove_file(&go)?;
    let ran = ran?;
    ensure!(
        !ran.text().contains("good uid") && ran.err.contains("has expired"),
        "{} {}",
        ran.text(),
        ran.err
    );
    ground.recorded(&[("launch.started", ""), ("launch.refused", "account_expired")])?;
    Ok("PAM is asked about the user, though root speaks".into())
}

fn what_is_nested_ends_no_later_than_its_origin(ground: &mut Ground) -> Result<String> {
    let asks = stubborn(ground, "--for 30m")?;
    let mut nested = Nested::start(ground, &["--for", "5s"], &format!("{asks}; :"))?;
    let end = nested.origin.data["end"].as_i64().context("an end")?;
    ensure!(nested.nested.data["end"] == end, "its own end is {}", nested.nested.data["end"]);
    let last = nested.stopped(Duration::from_secs(20))?;
    ensure!(last <= end + LATE, "it lived {} ms past the end of its origin", last - end);
    nested.client.exit(SOON)?;
    ground.recorded(&[
        ("launch.started", ""),
        ("launch.started", ""),
        ("launch.ended", "expired"),
        ("launch.ended", "expired"),
    ])?;
    Ok(format!("last sign of life {} ms from the origin's end", last - end))
}

fn what_is_nested_ends_with_its_origin(ground: &mut Ground) -> Result<String> {
    let asks = stubborn(ground, "")?;
    // Its client is killed, which it does not care about; then nothing of the origin is left.
    let script = format!("{asks} & until test -s \"$1\"; do :; done; kill -9 $!; wait");
    let mut nested = Nested::start(ground, &[], &script)?;
    nested.client.exit(SOON)?;
    nested.stopped(SOON)?;
    ground.recorded(&[("launch.started", ""), ("launch.started", ""), ("launch.ended", "origin_ended")])?;
    Ok("ended, origin_ended".into())
}

fn a_revoked_origin_takes_along_what_is_nested(ground: &mut Ground) -> Result<String> {
    let asks = stubborn(ground, "")?;
    let mut nested = Nested::start(ground, &[], &format!("{asks}; :"))?;
    let status = ground.site.alice_runs(&["status"])?.expect(0);
    ensure!(status.text().contains("nesting/stubborn"), "her status lacks it: {}", status.text());
    let grant = nested.origin.text("/grant").to_owned();
    ground.revoke(&grant)?;
    nested.client.exit(SOON)?;
    nested.stopped(SOON)?;
    ground.recorded(&[
        ("launch.started", ""),
        ("launch.started", ""),
        ("launch.ended", "revoked"),
        ("launch.ended", "origin_ended"),
    ])?;
    Ok("both ended: revoked, origin_ended".into())
}

/// The number of a launch's session.
fn session(ground: &Ground, launch: &Event) -> Result<i32> {
    Ok(i32::try_from(on_file(ground, launch)?["session"]["pid"].as_i64().context("a session")?)?)
}

fn an_origin_whose_session_dies_takes_along_what_is_nested(ground: &mut Ground) -> Result<String> {
    let asks = stubborn(ground, "")?;
    let mut nested = Nested::start(ground, &[], &format!("{asks}; :"))?;
    kill(session(ground, &nested.origin)?);
    nested.client.exit(SOON)?;
    nested.stopped(SOON)?;
    ground.recorded(&[
        ("launch.started", ""),
        ("launch.started", ""),
        ("launch.ended", "session_died"),
        ("launch.ended", "origin_ended"),
    ])?;
    Ok("both ended: session_died, origin_ended".into())
}

fn an_origin_that_ended_unseen_takes_along_what_is_nested(ground: &mut Ground) -> Result<String> {
    let asks = stubborn(ground, "")?;
    let mut nested = Nested::start(ground, &[], &format!("{asks}; :"))?;
    let origin = session(ground, &nested.origin)?;
    ground.site.elevator.take().context("it runs")?.kill()?;
    kill(origin);
    ground.site.start_elevator()?;
    nested.client.exit(SOON)?;
    nested.stopped(SOON)?;
    ground.recorded(&[
        ("launch.started", ""),
        ("launch.started", ""),
        ("launch.ended", "session_died"),
        ("launch.ended", "origin_ended"),
    ])?;
    Ok("ended by the next elevator".into())
}
