//! The console in a real browser.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use elevon_e2e::browser::Browser;
use elevon_e2e::clock::SOON;
use elevon_e2e::site::PASSWORD;

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
    let browser = Browser::start(&scene.site.tree.join("logs"), 1280, 860)?;
    sign_in(&browser, &scene.site.address, "approver")?;
    // She sits before the open list; the request appears by itself.
    browser.open(&format!("{}/access", scene.site.address))?;
    let (mut waiting, request) = scene.ask("30m", &[good.to_str().unwrap(), "--verbose"])?;
    let link = browser.find(&format!("a[href*='/requests/{request}']"))?;
    browser.says("because the test says so")?;
    picture(&browser, "access")?;
    browser.click(&link)?;
    browser.says(good.to_str().unwrap())?;
    browser.says(&scene.site.alice.name)?;
    picture(&browser, "request")?;
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
    picture(&browser, "grant")?;
    browser.open(&format!("{}/events", scene.site.address))?;
    browser.says("good")?;
    picture(&browser, "events")?;
    let complaints = browser.complaints().context("read the browser's log")?;
    assert!(complaints.is_empty(), "the console's pages made the browser complain: {complaints:?}");
    Ok(())
}
