//! The main job: ask, decide, run, end.

use std::fs;

use anyhow::Result;
use elevon_e2e::clock::{SOON, Stopwatch, now};
use elevon_e2e::policy::{hash_of, privileged};

use crate::scene::{Scene, measured};

#[test]
fn an_approved_command_that_waits_starts_with_its_arguments_and_directory() -> Result<()> {
    let mut scene = Scene::set()?;
    let probe = scene.site.install("asked", "probe")?;
    let (mut run, request) =
        scene.ask("30m", &[probe.to_str().unwrap(), "one", "two words", "--for", "-x"])?;
    assert!(run.ended()?.is_none(), "it waits: {}", run.log());
    let agreed = Stopwatch::start();
    scene.approver.approve(&request, None, "go ahead")?;
    run.line("what the program sees", |line| line.starts_with('{').then_some(()))?;
    measured("approve → the waiting command runs", i64::try_from(agreed.elapsed().as_millis())?);
    let told: serde_json::Value = serde_json::from_slice(&run.exit(SOON)?.expect(0).out)?;
    assert_eq!(told["uid"], serde_json::json!([0, 0]));
    assert_eq!(told["argv"], serde_json::json!([probe, "one", "two words", "--for", "-x"]));
    assert_eq!(told["working_directory"], scene.site.alice.home.to_str().unwrap());
    let grant = scene.grant_of(&request)?;
    let started = scene.launch_under(&grant)?;
    let ended = scene.site.api.event("launch.ended", |event| event.text("/grant") == grant)?;
    assert_eq!(ended.text("/reason"), "exited");
    assert_eq!(ended.text("/launch"), started.text("/launch"));
    assert_eq!(started.text("/user/name"), scene.site.alice.name);
    scene.site.api.grant_is(&grant, "active")?;
    Ok(())
}

#[test]
fn a_grant_covers_the_next_launch_without_asking_again() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let good = good.to_str().unwrap();
    let (mut run, request) = scene.ask("30m", &[good])?;
    scene.approver.approve(&request, Some("15m"), "shorter will do")?;
    run.exit(SOON)?.expect(0).prints("good uid=0 euid=0");
    scene.elevated(&[good], b"")?.expect(0).prints("good uid=0 euid=0");
    // Other arguments are another matter: the grant is for these.
    scene.tried(&[good, "more"])?.expect(124);
    scene.site.api.event("request.made", |event| event.data["request"]["argv"][1] == "more")?;
    let asked = scene.site.api.events()?.into_iter().filter(|event| event.kind == "request.made").count();
    assert_eq!(asked, 2);
    Ok(())
}

#[test]
fn an_approver_may_shorten_and_not_lengthen() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let (mut run, request) = scene.ask("15m", &[good.to_str().unwrap()])?;
    let form = scene.approver.open(&format!("/requests/{request}"))?.form_to("/approve")?;
    let mut longer = form.clone();
    longer.fields.retain(|(name, _)| name != "duration");
    longer.fields.push(("duration".into(), "8h".into()));
    let page = scene.approver.submit(longer)?;
    assert!(
        page.status >= 400,
        "an approval for longer than asked was answered with {}: {}",
        page.status,
        page.text()
    );
    scene.site.api.request_is(&request, "pending")?;
    scene.approver.approve(&request, Some("1m"), "one minute")?;
    run.exit(SOON)?.expect(0);
    let approved = scene.site.api.event("request.approved", |event| event.text("/request") == request)?;
    let end = approved.data.pointer("/grant/ends/end").and_then(serde_json::Value::as_i64).unwrap();
    assert!(end - approved.at <= 60_000, "{}", approved.data);
    Ok(())
}

#[test]
fn a_declined_user_sees_who_and_why() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let (mut run, request) = scene.ask("30m", &[good.to_str().unwrap()])?;
    scene.approver.decline(&request, "use the staging machine instead")?;
    let ran = run.exit(SOON)?.expect(126).says("approver").says("use the staging machine instead");
    assert!(ran.out.is_empty(), "{}", ran.text());
    scene.site.api.request_is(&request, "declined")?;
    Ok(())
}

#[test]
fn an_unanswered_request_lapses() -> Result<()> {
    let scene = Scene::set()?;
    let good = scene.site.install("brief", "good")?;
    let (mut run, request) = scene.ask("30m", &[good.to_str().unwrap()])?;
    let ran = run.exit(SOON)?.expect(124);
    assert!(ran.out.is_empty(), "{}", ran.text());
    scene.site.api.request_is(&request, "lapsed")?;
    let lapsed = scene.site.api.event("request.lapsed", |event| event.text("/request") == request)?;
    assert_eq!(lapsed.text("/reason"), "unanswered");
    Ok(())
}

#[test]
fn who_does_not_want_to_wait_longer_leaves_the_request_pending() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let good = good.to_str().unwrap();
    let began = Stopwatch::start();
    let asks = ["run", "--for", "30m", "--justification", "because of this", "--wait", "1s", "--", good];
    scene.site.alice_runs(&asks)?.expect(124).says("pending");
    assert!(began.elapsed().as_secs() < 10, "it waited {:?}", began.elapsed());
    let request = scene.site.api.pending("good")?;
    // The next run joins it instead of asking again, and is there when someone agrees.
    let mut again = scene.site.alice_asks("30m", &[good])?;
    again.error_line("telling which request it waits for", |line| line.contains(&request).then_some(()))?;
    scene.approver.approve(&request, None, "")?;
    again.exit(SOON)?.expect(0).prints("good uid=0");
    let asked = scene.site.api.events()?.into_iter().filter(|event| event.kind == "request.made").count();
    assert_eq!(asked, 1);
    Ok(())
}

#[test]
fn a_user_can_take_a_request_back() -> Result<()> {
    let scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let (mut run, request) = scene.ask("30m", &[good.to_str().unwrap()])?;
    // Nobody else can.
    let other =
        elevon_e2e::program::run(&mut scene.site.elevon(&scene.site.bob, &["cancel", &request])?, b"")?;
    assert_ne!(other.code(), 0, "bob took alice's request back");
    scene.site.alice_runs(&["cancel", &request])?.expect(0);
    let ran = run.exit(SOON)?;
    assert!([124, 126].contains(&ran.code()), "{} {}", ran.code(), ran.err);
    assert!(ran.out.is_empty(), "{}", ran.text());
    scene.site.api.request_is(&request, "cancelled")?;
    Ok(())
}

#[test]
fn a_justification_is_enough_where_the_policy_says_so() -> Result<()> {
    let scene = Scene::set()?;
    let good = scene.site.install("noted", "good")?;
    let good = good.to_str().unwrap();
    scene.elevated(&[good], b"")?.expect(125).says("--justification").says("--for");
    let mut run = scene.site.alice_asks("15m", &[good])?;
    run.exit(SOON)?.expect(0).prints("good uid=0");
    let made = scene.site.api.event("grant.made", |_| true)?;
    assert_eq!(made.text("/justification"), "because the test says so");
    Ok(())
}

#[test]
fn a_grant_for_one_launch_is_used_up_by_it() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("once", "good")?;
    let good = good.to_str().unwrap();
    let (mut run, request) = scene.ask("30m", &[good])?;
    scene.approver.approve(&request, None, "")?;
    run.exit(SOON)?.expect(0).prints("good uid=0");
    let ran = scene.tried(&[good])?.expect(124);
    assert!(ran.out.is_empty(), "{}", ran.text());
    Ok(())
}

/// The file lies in alice's own home, so only its bytes count; she rewrites it while the request waits.
#[test]
fn a_file_rewritten_between_approval_and_launch_is_refused() -> Result<()> {
    let mut scene = Scene::set()?;
    let tool = scene.site.install_at_home("good")?;
    scene.site.deploy(&privileged("Her own tool", vec![hash_of(&tool)?])?)?;
    let (mut run, request) = scene.ask("30m", &[tool.to_str().unwrap()])?;
    // In place, as its owner would: same file, other bytes.
    fs::write(&tool, fs::read(elevon_e2e::binaries::binary("evil")?)?)?;
    scene.approver.approve(&request, None, "that very file")?;
    let ran = run.exit(SOON)?.expect(126);
    assert!(ran.out.is_empty(), "{}", ran.text());
    let refused = scene.site.api.event("launch.refused", |_| true)?;
    assert!(["changed", "not_listed"].contains(&refused.text("/reason").as_str()), "{}", refused.data);
    // With the grant in force, the other bytes still do not run; the right ones do.
    let ran = scene.tried(&[tool.to_str().unwrap()])?.expect(126);
    assert!(ran.out.is_empty(), "{}", ran.text());
    fs::write(&tool, fs::read(elevon_e2e::binaries::binary("good")?)?)?;
    scene.elevated(&[tool.to_str().unwrap()], b"")?.expect(0).prints("good uid=0");
    Ok(())
}

#[test]
fn the_trail_tells_the_whole_story_in_order() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let (mut run, request) = scene.ask("30m", &[good.to_str().unwrap()])?;
    scene.approver.approve(&request, None, "go ahead")?;
    run.exit(SOON)?.expect(0);
    let grant = scene.grant_of(&request)?;
    scene.site.api.event("launch.ended", |event| event.text("/grant") == grant)?;
    scene.approver.revoke(&grant, "done with it")?;
    scene.site.api.grant_is(&grant, "revoked")?;
    let kinds = scene.site.api.kinds()?;
    let mut rest = kinds.iter();
    for kind in [
        "account.created",
        "computer.enrolled",
        "computer.started",
        "policy.deployed",
        "request.made",
        "request.approved",
        "launch.started",
        "launch.ended",
        "grant.revoked",
        "grant.revocation_enforced",
    ] {
        assert!(rest.any(|seen| seen == kind), "{kind} is missing, or out of order, in {kinds:?}");
    }
    for kind in ["request.made", "request.approved", "launch.started", "launch.ended", "grant.revoked"] {
        assert_eq!(kinds.iter().filter(|seen| *seen == kind).count(), 1, "{kind} in {kinds:?}");
    }
    let record = scene.site.api.read(&format!("grants/{grant}"))?;
    let delivered = record.pointer("/delivered_at").or_else(|| record.pointer("/record/delivered_at"));
    assert!(delivered.and_then(serde_json::Value::as_i64).is_some_and(|at| at <= now().millis()), "{record}");
    elevon_e2e::program::must(&mut scene.site.server_command(&["audit", "verify"])?, b"")?;
    Ok(())
}
