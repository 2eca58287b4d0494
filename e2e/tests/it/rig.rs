//! The rig itself: what the other tests rely on to see.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use elevon_e2e::binaries::binary;
use elevon_e2e::browser::Browser;
use elevon_e2e::clock::{SOON, now, throughout, until_true};
use elevon_e2e::leftovers::{self, Marks};
use elevon_e2e::person::{Person, exists};
use elevon_e2e::program::{must, run};
use elevon_e2e::site::Layout;
use elevon_e2e::terminal::Terminal;

/// A directory that is removed again.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = Path::new("/tmp").join(Layout::unique()?.directory);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn last_beat(heart: &Path) -> i64 {
    let beat = fs::read_to_string(heart).unwrap_or_default();
    beat.get(..20).and_then(|at| at.parse().ok()).unwrap_or(0)
}

#[test]
fn a_person_is_a_real_user_and_goes_away() -> Result<()> {
    let scratch = Scratch::new()?;
    let name = Layout::unique()?.alice;
    {
        let person = Person::create(&name, &scratch.0.join("home"))?;
        let mut command = Command::new(binary("as-user")?);
        command.args([&person.uid.to_string(), &person.gid.to_string(), "--", "/usr/bin/id"]);
        let told = must(&mut command, b"")?;
        assert!(told.contains(&format!("uid={}({name})", person.uid)), "{told}");
        assert!(!told.contains("root"), "{told}");
    }
    assert!(!exists(&name));
    Ok(())
}

#[test]
fn a_terminal_is_one() -> Result<()> {
    let mut command = Command::new(binary("as-user")?);
    command.args([
        "0",
        "0",
        "--terminal",
        "--",
        "/bin/sh",
        "-c",
        "read word; tty; echo got $word; exec sleep 100",
    ]);
    let mut terminal = Terminal::open(&mut command)?;
    assert!(terminal.modes()?.are_sane());
    terminal.resize(33, 99)?;
    terminal.send("hello\n")?;
    terminal.expect("/dev/pts/")?;
    terminal.expect("got hello")?;
    assert_eq!(terminal.size()?, (33, 99));
    terminal.send("\x03")?;
    assert_eq!(terminal.exit(SOON)?, 130);
    Ok(())
}

#[test]
fn the_stubborn_program_does_not_end_when_asked() -> Result<()> {
    let scratch = Scratch::new()?;
    let heart = scratch.0.join("heart");
    let mut first = Command::new(binary("stubborn")?).arg(&heart).spawn()?;
    until_true("its heart to beat", SOON, || last_beat(&heart) > 0)?;
    let marks = Marks { directories: vec![scratch.0.clone()], ..Marks::default() };
    let all = leftovers::processes(&marks);
    for process in &all {
        let _ = rustix::process::kill_process(process.pid, rustix::process::Signal::TERM);
        let _ = rustix::process::kill_process(process.pid, rustix::process::Signal::HUP);
    }
    let asked = now().millis();
    until_true("its heart to go on", SOON, || last_beat(&heart) > asked + 100)?;
    throughout("it lives", Duration::from_millis(200), || !leftovers::processes(&marks).is_empty())?;
    leftovers::end(&leftovers::processes(&marks));
    first.wait()?;
    until_true("its end", SOON, || leftovers::processes(&marks).is_empty())
}

#[test]
fn the_probe_tells_how_it_was_started() -> Result<()> {
    let told =
        run(Command::new(binary("probe")?).arg("a\nb").env_clear().env("X", "1").current_dir("/usr"), b"")?;
    let told: serde_json::Value = serde_json::from_slice(&told.out)?;
    assert_eq!(told["argv"][1], r"a\x0ab");
    assert_eq!(told["environment"], serde_json::json!({ "X": "1" }));
    assert_eq!(told["working_directory"], "/usr");
    assert_eq!(told["terminal"], serde_json::Value::Null);
    assert!(told["descriptors"].as_object().is_some_and(|all| all.len() >= 3), "{told}");
    Ok(())
}

#[test]
fn the_browser_shows_pages() -> Result<()> {
    let scratch = Scratch::new()?;
    let browser = Browser::start(&scratch.0, 800, 600)?;
    let page = scratch.0.join("page.html");
    fs::write(&page, "<title>A page</title><form><input name=a></form><p>It works</p>")?;
    browser.open(&format!("file://{}", page.display()))?;
    assert_eq!(browser.title()?, "A page");
    browser.says("It works")?;
    browser.fill(&browser.find("input[name=a]")?, "typed")?;
    browser.picture(&scratch.0.join("picture.png"))?;
    assert!(fs::metadata(scratch.0.join("picture.png"))?.len() > 1000);
    drop(browser);
    let marks = Marks { directories: vec![scratch.0.clone()], ..Marks::default() };
    until_true("Chromium to be gone", SOON, || leftovers::processes(&marks).is_empty())
}
