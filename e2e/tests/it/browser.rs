//! The console in a real browser.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use elevon_e2e::browser::Browser;
use elevon_e2e::clock::SOON;
use elevon_e2e::person::Person;
use elevon_e2e::policy::{application_list, folder, hash_of, privileged, sha256};
use elevon_e2e::program::run;
use elevon_e2e::site::{Layout, PASSWORD, Site};

use crate::scene::Scene;

fn sign_in(browser: &Browser, address: &str, name: &str) -> Result<()> {
    browser.open(&format!("{address}/sign-in"))?;
    browser.fill(&browser.find("input[name=name]")?, name)?;
    browser.fill(&browser.find("input[name=password]")?, PASSWORD)?;
    browser.click(&browser.find("form button[type=submit], form button:not([type])")?)
}

/// Saves pictures for the documents, when they are asked for with `ELEVON_SCREENSHOTS=1`.
fn picture(browser: &Browser, name: &str) -> Result<()> {
    if env::var_os("ELEVON_SCREENSHOTS").is_none() {
        return Ok(());
    }
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    fs::create_dir_all(&images)?;
    browser.prefer("light")?;
    browser.picture(&images.join(format!("{name}.png")))?;
    browser.prefer("dark")?;
    browser.picture(&images.join(format!("{name}-dark.png")))?;
    browser.prefer("light")
}

#[test]
fn an_approver_agrees_in_chromium_and_the_command_starts() -> Result<()> {
    let scene = Scene::set()?;
    let good = scene.site.install("asked", "good")?;
    let browser = Browser::start(&scene.site.tree.join("logs"), 1280, 800)?;
    sign_in(&browser, &scene.site.address, "approver")?;
    // She sits before the open list; the request appears by itself.
    browser.open(&format!("{}/access", scene.site.address))?;
    let (mut waiting, request) = scene.ask("30m", &[good.to_str().unwrap(), "--verbose"])?;
    let link = browser.find(&format!("a[href*='/requests/{request}']"))?;
    browser.says("because the test says so")?;
    browser.click(&link)?;
    browser.says(good.to_str().unwrap())?;
    browser.says(&scene.site.alice.name)?;
    let form = format!("form[action$='/requests/{request}/approve']");
    browser.fill(&browser.find(&format!("{form} [name=comment]"))?, "looks fine")?;
    let button = browser.find(&format!("{form} button[type=submit], {form} button:not([type])"))?;
    browser.click(&button)?;
    waiting.exit(SOON)?.expect(0).prints("good uid=0 euid=0");
    // What happened stands on the grant's page, the launch among it.
    let grant = scene.grant_of(&request)?;
    scene.site.api.event("launch.ended", |event| event.text("/grant") == grant)?;
    browser.open(&format!("{}/grants/{grant}", scene.site.address))?;
    browser.says(&scene.site.alice.name)?;
    browser.says("good")?;
    browser.open(&format!("{}/events", scene.site.address))?;
    browser.says("good")?;
    let complaints = browser.complaints().context("read the browser's log")?;
    assert!(complaints.is_empty(), "the console's pages made the browser complain: {complaints:?}");
    Ok(())
}

/// Two people ask for three things. The pictures in the documents come from here.
#[test]
fn the_list_shows_what_waits_and_what_equals_root() -> Result<()> {
    let free =
        |wish: &str, otherwise: String| if Person::is_free(wish) { wish.to_owned() } else { otherwise };
    let unique = Layout::unique()?;
    let layout =
        Layout { alice: free("maria", unique.alice), bob: free("tomas", unique.bob), ..Layout::unique()? };
    let site = Site::start_as(layout)?;
    site.deploy(&privileged("System tools", vec![folder(Path::new("/usr/bin"), false)?])?)?;
    let ask = |person: &Person, span: &str, why: &str, command: &[&str]| -> Result<()> {
        let asks = ["run", "--no-wait", "--for", span, "--justification", why, "--"];
        run(&mut site.elevon(person, &[&asks, command].concat())?, b"")?.expect(124);
        site.api.pending(&format!("/{}", command[0])).map(drop)
    };
    ask(
        &site.alice,
        "15m",
        "Wi-Fi drops on floor 3; watch the kernel while it does (NET-4127)",
        &["dmesg", "--follow"],
    )?;
    ask(&site.alice, "30m", "find what fills the disk before tonight's backup", &["du", "-xh", "/var"])?;
    ask(&site.bob, "1h", "point the build at the new mirror until DNS is changed", &["vim", "/etc/hosts"])?;
    let du = site.api.pending("/du")?;
    site.signed_in("owner")?.approve(&du, Some("15m"), "15 minutes should do")?;
    run(&mut site.elevon(&site.alice, &["run", "--", "du", "-xh", "/var"])?, b"")?.expect(0);
    site.api.event("launch.ended", |_| true)?;

    let browser = Browser::start(&site.tree.join("logs"), 1280, 800)?;
    sign_in(&browser, &site.address, "approver")?;
    browser.open(&format!("{}/access", site.address))?;
    browser.says("NET-4127")?;
    browser.says("new mirror")?;
    assert!(!browser.text()?.contains("backup"), "what was decided does not wait any more");
    assert!(browser.title()?.contains("(2)"), "the title counts: {}", browser.title()?);
    picture(&browser, "access")?;
    let vim = site.api.pending("/vim")?;
    browser.open(&format!("{}/requests/{vim}", site.address))?;
    browser.says("quals root")?;
    picture(&browser, "request")?;
    browser.open(&format!("{}/events", site.address))?;
    browser.says("15 minutes should do")?;
    picture(&browser, "events")?;
    let complaints = browser.complaints()?;
    assert!(complaints.is_empty(), "the console's pages made the browser complain: {complaints:?}");
    Ok(())
}

/// An administrator asks in the console what would happen, and why: of what was asked for, of what is blocked, of what nobody has
/// measured. Nothing comes of it.
#[test]
fn an_administrator_tries_what_would_happen_in_chromium() -> Result<()> {
    let scene = Scene::set()?;
    let site = &scene.site;
    let alice = site.alice.name.as_str();
    let good = site.install("asked", "good")?;
    let evil = site.install("asked", "evil")?;
    site.deploy_list("blocklists", &application_list("Never these", vec![hash_of(&evil)?])?)?;
    let (waiting, request) = scene.ask("30m", &[good.to_str().unwrap(), "--verbose"])?;
    let browser = Browser::start(&site.tree.join("logs"), 1280, 1000)?;
    sign_in(&browser, &site.address, "owner")?;
    browser.open(&format!("{}/try", site.address))?;
    let events = site.api.events()?.len();
    let tries = |application: &str| -> Result<()> {
        for (field, value) in [("user", alice), ("application", application)] {
            let field = browser.find(&format!("#{field}"))?;
            browser.clear(&field)?;
            browser.fill(&field, value)?;
        }
        browser.click(&browser.find("#computer option:nth-child(2)")?)?;
        browser.click(&browser.find("main form button.primary")?)
    };
    // What was asked for, under a rule by folder.
    tries(good.to_str().unwrap())?;
    browser.says(&format!("{alice} may run good as root on"))?;
    browser.says("once someone has approved it")?;
    browser.says("by folder")?;
    browser.says("decides")?;
    browser.says(&format!("elevon run -- {}", good.display()))?;
    // From the request the same is one click away, arguments and all.
    browser.click(&browser.find(&format!("#result a[href='/requests/{request}']"))?)?;
    browser.click(&browser.find("a[href^='/try?']")?)?;
    browser.says(&format!("elevon run -- {} --verbose", good.display()))?;
    picture(&browser, "try")?;
    // What a blocklist has: launched by nobody, so it is known by its bytes alone.
    let sha256 = sha256(&evil)?.to_string();
    tries(&sha256)?;
    browser.says("the blocklist “Never these” blocks it")?;
    browser.says("No other list can allow it")?;
    // What nobody has measured, and others could change.
    browser.open(&format!("{}/try", site.address))?;
    browser.click(&browser.find("details summary")?)?;
    browser.click(&browser.find("input[name=others]")?)?;
    let new = site.programs.join("asked/new");
    tries(new.to_str().unwrap())?;
    browser.says(&format!("{alice} may not run new as root on"))?;
    browser.says("nearly")?;
    browser.says("can be written to by others")?;
    // A question without an answer keeps what was typed.
    tries("tool")?;
    browser.says("Expected a path such as /usr/bin/tcpdump")?;
    let complaints = browser.complaints()?;
    let refused = |complaint: &String| complaint.contains("status of 422");
    assert!(complaints.iter().all(refused), "the console's pages made the browser complain: {complaints:?}");
    assert_eq!(site.api.events()?.len(), events, "trying is recorded nowhere");
    drop(waiting);
    Ok(())
}
