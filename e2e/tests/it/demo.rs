//! The demo plays its whole story, and leaves nothing behind.

use std::process::Command;

use anyhow::Result;
use elevon_e2e::binaries::binary;
use elevon_e2e::leftovers::{self, Marks};
use elevon_e2e::program::run;

#[test]
fn the_demo_plays_by_itself() -> Result<()> {
    let ran = run(Command::new(binary("elevon-demo")?).arg("--auto"), b"")?.expect(0);
    let told = ran.text();
    for part in
        ["uid 0", "approv", "revok", "launch.started", "grant.revocation_enforced", "left behind: nothing"]
    {
        assert!(told.contains(part), "the demo does not tell of “{part}”:\n{told}");
    }
    let site = told
        .lines()
        .find_map(|line| line.split_whitespace().find(|word| word.starts_with("/tmp/elevon-demo")));
    let site = site.expect("it says where its site is").trim_end_matches(['.', ',']).to_owned();
    assert!(!std::path::Path::new(&site).exists(), "{site} is still there");
    let marks = Marks { directories: vec![site.into()], ..Marks::default() };
    assert!(leftovers::processes(&marks).is_empty());
    Ok(())
}
