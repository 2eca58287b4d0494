//! Components: the real polkit says yes while a grant lasts, to exactly one user, about exactly one action.

use std::process::Command;

use anyhow::Result;
use elevon_e2e::clock::{SOON, until_true};
use elevon_e2e::policy::{privileged, rule};
use elevon_e2e::polkit::Polkit;
use elevon_e2e::program::{Program, run};
use elevon_e2e::site::Site;
use elevon_policy::lists::Way;
use elevon_policy::rule::{Recognises, Rule};
use elevon_policy::text::Text;
use serde_json::Value;

use crate::scene::Scene;

const SET_NAME: &str = "org.freedesktop.hostname1.set-hostname";
const SET_STATIC_NAME: &str = "org.freedesktop.hostname1.set-static-hostname";
const SET_LOCALE: &str = "org.freedesktop.locale1.set-locale";
/// What systemd's package calls itself on D-Bus, among others.
const SERVICE: &str = "org.freedesktop.hostname1";

fn component(name: &str, way: Way) -> Result<Rule> {
    Ok(Rule { elevate: Some(way), ..rule(Recognises::Clsid { component: Text::new(name) })? })
}

fn deploy(site: &Site, rules: Vec<Rule>) -> Result<()> {
    site.deploy(&privileged("Components", rules)?)?;
    Ok(())
}

/// `elevon run --component …` as alice, left waiting, and the request that came of it.
fn ask(scene: &Scene, span: &str, action: &str) -> Result<(Program, String)> {
    let site = &scene.site;
    let words = ["run", "--component", action, "--for", span, "--justification", "because the test says so"];
    let run = Program::start("elevon", &mut site.elevon(&site.alice, &words)?, &site.tree.join("logs"))?;
    Ok((run, site.api.pending(action)?))
}

fn authorizations(site: &Site) -> Result<Vec<Value>> {
    let events = site.api.events()?.into_iter().filter(|event| event.kind == "component.authorized");
    Ok(events.map(|event| event.data).collect())
}

#[test]
fn polkit_lets_one_user_do_one_thing_until_the_grant_is_revoked() -> Result<()> {
    let mut scene = Scene::set()?;
    let polkit = Polkit::start(&scene.site)?;
    deploy(&scene.site, vec![component(SET_NAME, Way::Approval)?])?;
    let (alice, bob) = (&scene.site.alice, &scene.site.bob);
    assert!(!polkit.allows(&scene.site, alice, SET_NAME)?);

    let (mut waits, request) = ask(&scene, "10m", SET_NAME)?;
    let page = scene.approver.open(&format!("/requests/{request}"))?;
    assert!(
        page.text().contains(SET_NAME) && page.text().contains("ends new authorizations"),
        "{}",
        page.text()
    );
    assert!(!polkit.allows(&scene.site, alice, SET_NAME)?, "nobody has agreed yet");
    scene.approver.approve(&request, None, "go ahead")?;
    waits.exit(SOON)?.expect(0).says("polkit lets you do").says(SET_NAME);

    assert!(polkit.allows(&scene.site, alice, SET_NAME)?);
    assert!(!polkit.allows(&scene.site, bob, SET_NAME)?, "another user");
    assert!(!polkit.allows(&scene.site, alice, SET_STATIC_NAME)?, "another action");
    let grant = scene.grant_of(&request)?;
    scene.site.api.event("component.authorized", |event| event.text("/grant") == grant)?;
    let told = authorizations(&scene.site)?;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["component"], SET_NAME);
    assert_eq!(told[0]["user"]["name"], alice.name.as_str());
    assert!(told[0]["process"].as_u64().is_some_and(|process| process > 0), "{told:?}");

    let page = scene.approver.open(&format!("/grants/{grant}"))?;
    assert!(page.text().contains("It ends new authorizations"), "{}", page.text());
    scene.approver.revoke(&grant, "done")?;
    scene.site.api.grant_is(&grant, "revoked")?;
    assert!(!polkit.allows(&scene.site, alice, SET_NAME)?, "revoked");
    Ok(())
}

#[test]
fn polkit_says_no_again_when_the_time_is_over_or_the_grant_is_given_back() -> Result<()> {
    let mut scene = Scene::set()?;
    let polkit = Polkit::start(&scene.site)?;
    deploy(&scene.site, vec![component(SET_NAME, Way::Approval)?, component(SET_LOCALE, Way::Automatic)?])?;
    let (mut waits, request) = ask(&scene, "6s", SET_NAME)?;
    scene.approver.approve(&request, None, "go ahead")?;
    waits.exit(SOON)?.expect(0);
    assert!(polkit.allows(&scene.site, &scene.site.alice, SET_NAME)?);
    until_true("the time to run out", SOON, || {
        matches!(polkit.allows(&scene.site, &scene.site.alice, SET_NAME), Ok(false))
    })?;
    scene.site.api.grant_is(&scene.grant_of(&request)?, "expired")?;

    // What policy gives for the asking is asked for all the same, and can be given back.
    assert!(!polkit.allows(&scene.site, &scene.site.alice, SET_LOCALE)?);
    scene.site.alice_runs(&["run", "--component", SET_LOCALE])?.expect(0);
    assert!(polkit.allows(&scene.site, &scene.site.alice, SET_LOCALE)?);
    let made =
        scene.site.api.event("grant.made", |event| event.text("/grant/application/action") == SET_LOCALE)?;
    scene.site.alice_runs(&["status"])?.expect(0).prints(SET_LOCALE);
    scene.site.alice_runs(&["end", &made.text("/grant/id")])?.expect(0);
    assert!(!polkit.allows(&scene.site, &scene.site.alice, SET_LOCALE)?);
    Ok(())
}

#[test]
fn a_service_stands_for_its_actions_and_what_is_no_action_is_said_to_be_none() -> Result<()> {
    let scene = Scene::set()?;
    let site = &scene.site;
    deploy(site, vec![component(SERVICE, Way::Approval)?])?;
    let explained = |action: &str| site.alice_runs(&["explain", "--component", action]);
    explained(SET_STATIC_NAME)?
        .expect(0)
        .prints("It can be asked for")
        .prints("Defined by")
        .prints(&format!("elevon run --component {SET_STATIC_NAME}"));
    // polkit's own package ships another service.
    explained("org.freedesktop.policykit.exec")?
        .expect(0)
        .prints("No: org.freedesktop.policykit.exec is refused");
    explained(SERVICE)?.expect(127).says("shorthand for").says(SET_NAME);
    explained("org.example.nothing")?.expect(127).says("there is no polkit action");
    explained("../../../etc/passwd")?.expect(127).says("there is no polkit action");
    site.alice_runs(&["run", "--no-wait", "--component", "org.freedesktop.policykit.exec"])?
        .expect(126)
        .says("no privileged application list for you on this computer has it");
    site.api.event("launch.refused", |event| event.text("/path") == "org.freedesktop.policykit.exec")?;
    Ok(())
}

#[test]
fn only_polkit_and_root_ask_about_others() -> Result<()> {
    let scene = Scene::set()?;
    let site = &scene.site;
    deploy(site, vec![component(SET_NAME, Way::Automatic)?])?;
    site.alice_runs(&["run", "--component", SET_NAME])?.expect(0);
    let question = ["authorize", site.alice.name.as_str(), SET_NAME];
    for person in [&site.alice, &site.bob, &site.agent_user] {
        let refused = run(&mut site.elevon(person, &question)?, b"")?;
        refused.expect(125).says("only polkit's own user and root may ask");
    }
    let as_root = |who: &str, action: &str| {
        let mut command = Command::new(site.client());
        command.arg("--socket").arg(site.socket()).args(["authorize", who, action]);
        run(&mut command, b"")
    };
    as_root(&site.alice.name, SET_NAME)?.expect(0);
    for (who, action) in [
        (site.bob.name.as_str(), SET_NAME),
        (&site.alice.name, SET_STATIC_NAME),
        ("nobody-of-this-name", SET_NAME),
        ("", SET_NAME),
        (&site.alice.name, ""),
    ] {
        as_root(who, action)?.expect(1);
    }
    site.api.event("component.authorized", |event| event.text("/component") == SET_NAME)?;
    assert_eq!(authorizations(site)?.len(), 1);
    Ok(())
}
