//! `elevon status`, and what the daemons say of themselves.

use anyhow::Result;
use elevon_e2e::program::{must, run};

use crate::scene::Scene;

#[test]
fn a_user_sees_requests_grants_and_launches() -> Result<()> {
    let mut scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let (mut waiting, request) = scene.ask("30m", &[good.to_str().unwrap()])?;
    scene.site.alice_runs(&["status"])?.expect(0).prints("pending").prints("good");
    scene.approver.decline(&request, "not today")?;
    waiting.exit(elevon_e2e::clock::SOON)?.expect(126);
    scene.site.alice_runs(&["status"])?.expect(0).prints("not today").prints("approver");
    let mut stubborn = scene.stubborn("30m", &[])?;
    scene.site.alice_runs(&["status"])?.expect(0).prints("stubborn");
    let json = scene.site.alice_runs(&["status", "--json"])?.expect(0);
    let json: serde_json::Value = serde_json::from_slice(&json.out)?;
    assert_eq!(json["grants"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["launches"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["agent_connected"], true);
    scene.site.alice_runs(&["end", &stubborn.grant])?.expect(0);
    stubborn.run.exit(elevon_e2e::clock::SOON)?;
    Ok(())
}

#[test]
fn the_daemons_say_how_they_are() -> Result<()> {
    let scene = Scene::set()?;
    let told = must(&mut scene.site.elevator_command(&["doctor"])?, b"")?;
    for layer in ["cgroup", "sweeps", "deadline"] {
        assert!(
            told.to_lowercase().contains(layer),
            "the elevator's doctor does not speak of {layer}: {told}"
        );
    }
    let told = must(&mut scene.site.agent_command(&["status"], false)?, b"")?;
    assert!(told.to_lowercase().contains("enrolled"), "{told}");
    let told = run(&mut scene.site.server_command(&["doctor"])?, b"")?;
    assert_eq!(told.code(), 0, "{} {}", told.text(), told.err);
    Ok(())
}
