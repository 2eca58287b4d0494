//! The demo plays its whole story, or lets a person try; either way it leaves nothing behind.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use elevon_e2e::binaries::binary;
use elevon_e2e::clock::{SOON, until};
use elevon_e2e::console::Console;
use elevon_e2e::leftovers::{self, Marks};
use elevon_e2e::person::exists;
use elevon_e2e::postgres::fresh_database;
use elevon_e2e::program::run;
use elevon_e2e::terminal::Terminal;

/// Two demos at once would want the same names and ports.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Nothing of the demo's is left: neither its directories, nor a process or mount that names them.
fn gone(tree: &str) {
    let programs = tree.replacen("/tmp/", "/opt/", 1);
    for directory in [tree, &programs] {
        assert!(!Path::new(directory).exists(), "{directory} is still there");
    }
    let marks = Marks { directories: vec![tree.into(), programs.into()], ..Marks::default() };
    let lingering = leftovers::processes(&marks);
    assert!(lingering.is_empty(), "{lingering:?}");
    assert!(leftovers::mounts(&marks).is_empty());
}

/// The first word that begins like this.
fn word(text: &str, beginning: &str) -> Result<String> {
    let found = text.split_whitespace().find(|word| word.starts_with(beginning));
    Ok(found.with_context(|| format!("no {beginning}… in\n{text}"))?.trim_end_matches(['.', ',']).to_owned())
}

fn plays_by_itself(database: &str, options: &[&str]) -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let ran = run(Command::new(binary("elevon-demo")?).arg("--auto").args(options), b"")?.expect(0);
    let told = ran.text();
    for part in [
        database,
        "uid 0",
        "approv",
        "revok",
        "launch.started",
        "grant.revocation_enforced",
        "left behind: nothing",
    ] {
        assert!(told.contains(part), "the demo does not tell of “{part}”:\n{told}");
    }
    gone(&word(&told, "/tmp/elevon-demo")?);
    Ok(())
}

#[test]
fn the_demo_plays_by_itself() -> Result<()> {
    plays_by_itself("database  SQLite", &[])
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_demo_plays_by_itself_on_postgresql() -> Result<()> {
    let url = fresh_database(&format!("elevon_demo_{}", std::process::id()))?;
    plays_by_itself("database  PostgreSQL", &["--database-url", &url])
}

/// What the demo prints is typed here as a new user would type it.
#[test]
fn the_demo_s_instructions_work() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut demo = Command::new(binary("as-user")?);
    demo.args(["0", "0", "--terminal", "--"]).arg(binary("elevon-demo")?);
    let mut demo =
        Terminal::open(demo.env("NO_COLOR", "1").env("ELEVON_BUILT", "1").env_remove("SUDO_USER"))?;
    let told = demo.expect_within("Press Ctrl-C", Duration::from_secs(60))?;
    let value = |name: &str| -> Result<String> {
        let line =
            told.lines().find(|line| line.trim_start().starts_with(name)).with_context(|| told.clone())?;
        Ok(line.split_whitespace().nth(1).context("a value")?.to_owned())
    };
    let (address, account, password) = (value("address")?, value("account")?, value("password")?);
    let become_alice =
        told.lines().map(str::trim).find(|line| line.starts_with("su - ")).context("how to become alice")?;
    let ask = told
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("elevon run --for"))
        .context("how to ask")?;
    let tree = word(&told, "/tmp/elevon-demo")?;
    let alice = become_alice.trim_start_matches("su - ").to_owned();

    let mut shell = Command::new(binary("as-user")?);
    let mut shell = Terminal::open(
        shell.args(["0", "0", "--terminal", "--", "/bin/sh", "-c", become_alice]).env("TERM", "xterm"),
    )?;
    shell.expect(&format!("{alice}$ "))?;
    shell.send("elevon run -- uptime\n")?;
    shell.expect("load average")?;
    shell.expect(&format!("{alice}$ "))?;
    shell.send(&format!("{ask}\n"))?;
    shell.expect("is pending")?;

    let ca = std::fs::read_to_string(Path::new(&tree).join("server/keys/ca.pem"))?;
    let mut approver = Console::at(&address, &ca)?.signed_in(&account, &password)?;
    let request = until("the request to be in the console's list", SOON, || {
        let page = approver.open("/access")?.html;
        let found = page.split("/requests/").nth(1).map(|rest| rest.chars().take(36).collect::<String>());
        Ok(found)
    })?;
    approver.approve(&request, None, "")?;
    shell.expect("uid=0(root)")?;
    demo.expect("request.approved")?;
    demo.expect("launch.ended")?;
    // alice's shell is still open: the demo ends it, too.
    demo.send("\x03")?;
    demo.expect("Everything the demo made is gone again.")?;
    assert_eq!(demo.exit(SOON)?, 0);
    shell.exit(SOON)?;
    gone(&tree);
    assert!(!exists(&alice), "{alice} still exists");
    Ok(())
}

/// Ctrl-C in the middle of the story cleans up, too.
#[test]
fn an_interrupted_demo_leaves_nothing_behind() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut demo = Command::new(binary("as-user")?);
    demo.args(["0", "0", "--terminal", "--"]).arg(binary("elevon-demo")?).arg("--auto");
    let mut demo = Terminal::open(demo.env("NO_COLOR", "1").env("ELEVON_BUILT", "1"))?;
    let told = demo.expect_within("The right ends by itself", Duration::from_secs(60))?;
    demo.send("\x03")?;
    demo.expect("The end: everything goes away")?;
    assert_eq!(demo.exit(SOON)?, 1);
    gone(&word(&told, "/tmp/elevon-demo")?);
    Ok(())
}
