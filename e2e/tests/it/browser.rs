//! The console in a real browser.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use elevon_e2e::browser::Browser;
use elevon_e2e::clock::{SOON, until};
use elevon_e2e::person::Person;
use elevon_e2e::policy::{application_list, folder, hash_of, privileged, sha256};
use elevon_e2e::program::run;
use elevon_e2e::site::{Layout, PASSWORD, Site};
use serde_json::json;

use crate::scene::Scene;

fn sign_in(browser: &Browser, address: &str, name: &str) -> Result<()> {
    browser.open(&format!("{address}/sign-in"))?;
    browser.fill(&browser.find("input[name=name]")?, name)?;
    browser.fill(&browser.find("input[name=password]")?, PASSWORD)?;
    browser.click(&browser.find("form button[type=submit], form button:not([type])")?)?;
    // Going on before it is done would leave it undone.
    browser.says("Sign out")
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
    let approved = site.api.event("request.approved", |event| event.text("/request") == du)?;
    let grant = approved.text("/grant/id");
    site.api.event("sheet.delivered", |event| event.data["grants"].to_string().contains(&grant))?;
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
    // What the computer reports by itself has nothing to do with it.
    let recorded = || -> Result<usize> {
        let events = site.api.events()?.into_iter().filter(|event| event.kind != "sheet.delivered");
        Ok(events.count())
    };
    let before = recorded()?;
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
    assert_eq!(recorded()?, before, "trying is recorded nowhere");
    drop(waiting);
    Ok(())
}

/// A package of a vendor, made of programs of this computer.
fn package(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("package");
    let put = |path: &str, content: &[u8]| -> Result<()> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(&path, content)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    };
    put(
        "DEBIAN/control",
        b"Package: acme-netwatch\nSource: netwatch\nVersion: 4.2.1-1\nArchitecture: amd64\nVendor: Acme Networks\nMaintainer: Acme <it@acme.example>\nDescription: watches networks\n",
    )?;
    put("usr/bin/netwatch", &fs::read("/usr/bin/id")?)?;
    put("usr/sbin/netwatchd", &fs::read("/usr/bin/true")?)?;
    put("usr/lib/netwatch/rotate", b"#!/bin/sh\n")?;
    put("usr/share/polkit-1/actions/netwatch.policy", b"<action id=\"example.acme.netwatch.capture\"/>")?;
    let file = folder.join("acme-netwatch_4.2.1-1_amd64.deb");
    let mut build = Command::new("dpkg-deb");
    build.args(["--build", "--root-owner-group"]).args([&root, &file]);
    run(&mut build, b"")?.expect(0);
    Ok(file)
}

#[test]
fn a_rule_is_made_from_a_file_and_lets_that_program_through() -> Result<()> {
    let site = Site::start()?;
    let users = json!({ "kind": "users", "users": [{ "name": site.alice.name }] });
    site.api.post("groups", &json!({ "name": "Alice", "members": users }))?;
    let browser = Browser::start(&site.tree.join("logs"), 1280, 1000)?;
    sign_in(&browser, &site.address, "owner")?;
    browser.open(&format!("{}/privileged-application-lists/new", site.address))?;
    browser.fill(&browser.find("#name")?, "Network tools")?;
    browser.click(&browser.find("input[name=elevate][value=automatic]")?)?;
    browser.click(&browser.find("#from-file summary")?)?;
    let choose = |file: &Path| -> Result<()> {
        browser.fill(&browser.find("#file")?, file.to_str().context("a path")?)
    };
    // What is no program is refused beside the field; the draft stays.
    choose(Path::new("/etc/os-release"))?;
    browser.says("It is neither a program nor a package")?;
    // A package offers what lasts first, and can be put aside.
    choose(&package(&site.tree)?)?;
    browser.says("A Debian package")?;
    for offered in
        ["Verified executable", "netwatch", "which nothing vouches for", "example.acme.netwatch.capture"]
    {
        browser.says(offered)?;
    }
    picture(&browser, "add-from-file")?;
    browser.click(&browser.find("button[value='choose.none']")?)?;
    browser.find("#add[open]")?;
    // A program of this computer is known by its bytes.
    browser.click(&browser.find("#from-file summary")?)?;
    choose(Path::new("/usr/bin/id"))?;
    browser.says("A program of Linux")?;
    browser.click(&browser.find("button[value='choose.file_hash']")?)?;
    let chosen = browser.find("input[name='rules.0.sha256']")?;
    assert_eq!(browser.value(&chosen)?, sha256(Path::new("/usr/bin/id"))?.to_string());
    assert_eq!(browser.value(&browser.find("#name")?)?, "Network tools");
    browser.click(&browser.find("button[value=save_and_deploy]")?)?;
    browser.click(&browser.find_path("//label[contains(., 'Alice')]//input[@name='groups']")?)?;
    browser.click(&browser.find("form[action$='/deploy'] button")?)?;
    browser.says("is deployed to")?;
    let ran = until("the list to be on the computer", SOON, || {
        let ran = run(&mut site.elevon(&site.alice, &["run", "--no-wait", "--", "id"])?, b"")?;
        Ok((ran.code() == 0).then_some(ran))
    })?;
    ran.prints("uid=0(root)");
    run(&mut site.elevon(&site.alice, &["run", "--no-wait", "--", "true"])?, b"")?.expect(126);
    // The browser tells of the answer that refused a file; nothing else made it complain.
    let complaints = browser.complaints()?;
    let others: Vec<_> = complaints.iter().filter(|told| !told.contains("/new/measure")).collect();
    assert!(others.is_empty(), "the console's pages made the browser complain: {others:?}");
    Ok(())
}
