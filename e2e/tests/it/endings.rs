//! Every way in which a launch ends, and that nothing of it is left.

use anyhow::Result;
use elevon_e2e::clock::{SOON, now, throughout};
use std::time::Duration;

use crate::scene::{Scene, measured};

/// How late an end may be seen on a machine that is building and testing at the same time, in milliseconds. (The measures of
/// the design are taken on a quiet machine, by the benchmarks.)
const LATE: i64 = 1_000;

/// Expiry ends everything, on time, of a tree that forked twice into its own sessions and ignores every signal it can.
fn expires(options: &[&str]) -> Result<()> {
    let mut scene = Scene::set()?;
    let mut stubborn = scene.stubborn("3s", options)?;
    let started = scene.launch_under(&stubborn.grant)?;
    let end = started.data["end"].as_i64().unwrap();
    let ran = stubborn.run.exit(SOON)?;
    let last = stubborn.heart.stopped()?;
    measured("end of the grant → last beat", last - end);
    assert!(last <= end + LATE, "it beat {} ms past the end", last - end);
    assert!(last >= end - 2_000, "it was ended {} ms too early", end - last);
    assert_eq!(ran.code(), 137, "{}", ran.err);
    let ended = scene.site.api.event("launch.ended", |event| event.text("/grant") == stubborn.grant)?;
    assert_eq!(ended.text("/reason"), "expired");
    scene.site.api.grant_is(&stubborn.grant, "expired")?;
    // The next launch is not covered any more.
    let program = scene.site.programs.join("asked/stubborn");
    let heart = stubborn.heart.0.to_str().unwrap();
    let again = [&[program.to_str().unwrap()], options, &[heart]].concat();
    scene.tried(&again)?.expect(124);
    throughout("nothing beats", Duration::from_millis(200), || stubborn.heart.last_beat() == last)
}

#[test]
fn expiry_ends_a_tree_that_does_not_want_to_end() -> Result<()> {
    expires(&[])
}

#[test]
fn expiry_ends_a_tree_that_left_its_control_group() -> Result<()> {
    expires(&["--escape"])
}

fn is_revoked(options: &[&str]) -> Result<()> {
    let mut scene = Scene::set()?;
    let mut stubborn = scene.stubborn("30m", options)?;
    let revoked = now().millis();
    scene.approver.revoke(&stubborn.grant, "something is wrong")?;
    let last = stubborn.heart.stopped()?;
    measured("revoke → last beat", last - revoked);
    let ran = stubborn.run.exit(SOON)?;
    assert_eq!(ran.code(), 137, "{}", ran.err);
    assert!(ran.err.contains("revoked"), "{}", ran.err);
    scene.site.api.grant_is(&stubborn.grant, "revoked")?;
    let ended = scene.site.api.event("launch.ended", |event| event.text("/grant") == stubborn.grant)?;
    assert_eq!(ended.text("/reason"), "revoked");
    scene.site.api.event("grant.revocation_enforced", |event| event.text("/grant") == stubborn.grant)?;
    let program = scene.site.programs.join("asked/stubborn");
    let heart = stubborn.heart.0.to_str().unwrap();
    scene.tried(&[&[program.to_str().unwrap()], options, &[heart]].concat())?.expect(124);
    throughout("nothing beats", Duration::from_millis(200), || stubborn.heart.last_beat() == last)
}

#[test]
fn revoking_ends_the_tree_at_once() -> Result<()> {
    is_revoked(&[])
}

#[test]
fn revoking_ends_a_tree_that_left_its_control_group() -> Result<()> {
    is_revoked(&["--escape"])
}

#[test]
fn a_user_gives_a_grant_back() -> Result<()> {
    let mut scene = Scene::set()?;
    let mut stubborn = scene.stubborn("30m", &[])?;
    let other =
        elevon_e2e::program::run(&mut scene.site.elevon(&scene.site.bob, &["end", &stubborn.grant])?, b"")?;
    assert_ne!(other.code(), 0, "bob ended alice's grant");
    scene.site.alice_runs(&["end", &stubborn.grant])?.expect(0);
    stubborn.heart.stopped()?;
    assert_eq!(stubborn.run.exit(SOON)?.code(), 137);
    scene.site.api.grant_is(&stubborn.grant, "ended")?;
    let ended = scene.site.api.event("launch.ended", |event| event.text("/grant") == stubborn.grant)?;
    assert_eq!(ended.text("/reason"), "ended");
    Ok(())
}

#[test]
fn a_user_is_warned_before_the_end() -> Result<()> {
    let mut scene = Scene::set()?;
    let stubborn = scene.stubborn("4s", &[]);
    let mut stubborn = stubborn?;
    let end = scene.launch_under(&stubborn.grant)?.data["end"].as_i64().unwrap();
    // The warning is set to one second before the end.
    stubborn.run.error_line("warning that the end is near", |line| {
        let said = line.to_lowercase();
        (said.contains("end") && said.contains('1')).then_some(())
    })?;
    assert!(now().millis() < end, "the warning came after the end");
    stubborn.run.exit(SOON)?;
    Ok(())
}

/// What a daemon left behind by a program that ended by itself does: the launch is over when its tree is.
#[test]
fn what_a_program_leaves_behind_ends_with_the_grant() -> Result<()> {
    let mut scene = Scene::set()?;
    let stubborn = scene.site.install("asked", "stubborn")?;
    let sh = scene.site.programs.join("asked/sh");
    std::fs::copy("/usr/bin/dash", &sh)?;
    let heart = crate::scene::Heart(scene.site.tree.join("heart"));
    let script = format!("{} {} >/dev/null 2>&1 & sleep 1; exit 5", stubborn.display(), heart.0.display());
    let (mut run, request) = scene.ask("30m", &[sh.to_str().unwrap(), "-c", &script])?;
    scene.approver.approve(&request, None, "")?;
    let grant = scene.grant_of(&request)?;
    elevon_e2e::clock::until_true("its heart to beat", SOON, || heart.last_beat() > 0)?;
    let ran = run.exit(SOON)?;
    assert_eq!(ran.code(), 5, "{}", ran.err);
    scene.approver.revoke(&grant, "enough")?;
    heart.stopped()?;
    scene.site.api.grant_is(&grant, "revoked")?;
    Ok(())
}
