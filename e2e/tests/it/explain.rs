//! `elevon explain`: what would happen, and why.

use std::os::unix::fs::chown;

use anyhow::Result;
use elevon_e2e::policy::{application_list, folder, hash_of, privileged};
use elevon_e2e::site::Site;
use serde_json::Value;

fn explained(site: &Site, path: &std::path::Path) -> Result<(String, Value)> {
    let path = path.to_str().unwrap();
    let text = site.alice_runs(&["explain", "--", path])?.text();
    let json = site.alice_runs(&["explain", "--json", "--", path])?.expect(0);
    Ok((text, serde_json::from_slice(&json.out)?))
}

#[test]
fn four_applications_get_four_answers() -> Result<()> {
    let site = Site::start()?;
    // In no list; in a list by its hash, though it lies in her home; blocked; under a folder rule, in a folder of hers.
    let nowhere = site.install("nowhere", "good")?;
    let hashed = site.install_at_home("probe")?;
    let blocked = site.install("tools", "evil")?;
    let planted = site.install("tools/hers", "good")?;
    chown(planted.parent().unwrap(), Some(site.alice.uid), Some(site.alice.gid))?;
    site.deploy(&privileged("By folder", vec![folder(&site.programs.join("tools"), true)?])?)?;
    site.deploy(&privileged("By hash", vec![hash_of(&hashed)?])?)?;
    site.deploy_list("blocklists", &application_list("Never these", vec![hash_of(&blocked)?])?)?;

    let (text, json) = explained(&site, &nowhere)?;
    assert!(json.to_string().contains("\"type\":\"not_listed\""), "{json}");
    assert!(text.contains("no privileged application list"), "{text}");

    let (text, json) = explained(&site, &hashed)?;
    assert!(json.to_string().contains("\"verdict\":\"offered\""), "{json}");
    assert!(json.to_string().contains("\"way\":\"approval\""), "{json}");
    assert!(text.contains("By hash") && text.contains("matches") && text.contains("approv"), "{text}");

    let (text, json) = explained(&site, &blocked)?;
    assert!(json.to_string().contains("\"type\":\"blocked\""), "{json}");
    assert!(text.contains("Never these") && text.contains("block"), "{text}");

    let (text, json) = explained(&site, &planted)?;
    assert!(json.to_string().contains("\"type\":\"not_listed\""), "{json}");
    assert!(json.to_string().contains("\"missing\":\"trusted_path\""), "{json}");
    assert!(text.contains("By folder") && text.contains("nearly"), "{text}");
    assert!(
        text.contains(planted.parent().unwrap().to_str().unwrap()),
        "it names the folder that is not root's: {text}"
    );

    // What explain says is what run does.
    for (path, code) in [(&nowhere, 126), (&hashed, 124), (&blocked, 126), (&planted, 126)] {
        let asks = [
            "run",
            "--for",
            "15m",
            "--justification",
            "as explained",
            "--no-wait",
            "--",
            path.to_str().unwrap(),
        ];
        let ran = site.alice_runs(&asks)?.expect(code);
        assert!(ran.out.is_empty(), "{}", ran.text());
    }
    Ok(())
}

#[test]
fn a_blocklist_beats_a_grant_in_force() -> Result<()> {
    let mut scene = crate::scene::Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let (mut run, request) = scene.ask("30m", &[good.to_str().unwrap()])?;
    scene.approver.approve(&request, None, "")?;
    run.exit(elevon_e2e::clock::SOON)?.expect(0);
    scene.site.deploy_list("blocklists", &application_list("Not any more", vec![hash_of(&good)?])?)?;
    let ran = scene.elevated(&[good.to_str().unwrap()], b"")?.expect(126).says("Not any more");
    assert!(ran.out.is_empty(), "{}", ran.text());
    Ok(())
}
