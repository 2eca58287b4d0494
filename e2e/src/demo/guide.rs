//! The demo for a person: says what to try, shows what happens as it happens, and cleans up at Ctrl-C.

use std::env;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::sample;
use super::told::{event, faint, observed, strong};
use crate::clock::interrupted;
use crate::site::Site;

/// Starts everything, and stays until someone presses Ctrl-C.
pub(super) fn show(database_url: Option<&str>) -> Result<()> {
    println!("Starting a server, an agent and an elevator on this computer …");
    let site = sample::start(database_url)?;
    println!("{}", instructions(&site));
    follow(&site);
    println!("\nEnding the demo …");
    site.end_shells();
    let troubles = site.finish();
    if troubles.is_empty() {
        println!("Everything the demo made is gone again.");
    } else {
        println!("This was left behind:\n  {}", troubles.join("\n  "));
    }
    Ok(())
}

fn instructions(site: &Site) -> String {
    let alice = &site.alice.name;
    // Whoever came by sudo has a user's shell in the other terminal.
    let become_alice = if env::var_os("SUDO_USER").is_some() {
        format!("sudo su - {alice}")
    } else {
        format!("su - {alice}")
    };
    let list = sample::LIST;
    let blocklist = sample::BLOCKLIST;
    let port = site.address.rsplit(':').next().unwrap_or_default();
    let command = |text: &str, note: &str| {
        let padded = if note.is_empty() { text.to_owned() } else { format!("{text:<26}") };
        format!("       {}{}", strong(&padded), faint(note))
    };
    let lines = [
        String::new(),
        strong("Elevon runs on this computer now. You are two people:"),
        String::new(),
        format!("  {}  the approver, in a browser", strong("1")),
        format!("       address    {}", strong(&site.address)),
        format!("       account    {}", strong("approver")),
        format!("       password   {}", strong(site.password())),
        faint(
            "       The certificate is the demo's own: the browser asks whether you trust it. From another",
        ),
        faint(&format!(
            "       machine: ssh -L {port}:localhost:{port} … . The account `owner`, same password, may change policies."
        )),
        String::new(),
        format!("  {}  {alice}, who has no root, in another terminal", strong("2")),
        command(&become_alice, ""),
        command("elevon run --for 5m --justification \"trying Elevon\" -- id", ""),
        faint(
            "       It waits. In the browser, open the request under Just-In-Time Access and approve it: `id` starts by itself.",
        ),
        String::new(),
        format!("  {}  {alice} again, curious", strong("3")),
        command("elevon run -- top", "asks what it needs to know; then revoke the grant while it runs"),
        command("elevon run -- uptime", "runs at once: the policy says so"),
        command("elevon run -- df -h", "runs with a justification alone"),
        command("elevon run -- su", &format!("refused: the blocklist “{blocklist}” has it")),
        command("elevon explain -- vim", &format!("what would happen, and why: the policy “{list}”")),
        command("elevon status", "requests, grants, what runs"),
        String::new(),
        faint(&format!(
            "Files and logs are in {}. What happens appears below as it is recorded.",
            site.tree.display()
        )),
        strong("Press Ctrl-C to end the demo; everything it made goes away with it."),
        String::new(),
    ];
    lines.join("\n")
}

/// Shows new events until someone presses Ctrl-C.
fn follow(site: &Site) {
    let mut shown = site.api.events().map_or(0, |events| events.len());
    while !interrupted() {
        let events = site.api.events().unwrap_or_default();
        for seen in events.iter().skip(shown) {
            observed(&event(seen));
        }
        shown = shown.max(events.len());
        thread::sleep(Duration::from_millis(300));
    }
}
