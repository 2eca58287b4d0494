//! Everybody starts something at the same moment.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{now, until};
use elevon_e2e::person::Person;
use elevon_e2e::policy::{hash_of, privileged};
use elevon_e2e::process::{family, own_memory};
use elevon_e2e::site::Site;
use elevon_policy::lists::{Covers, Way};
use serde_json::{Value, json};

const USERS: usize = 50;
const EACH: usize = 20;

/// The same of a crowd before it, half as large.
const FIRST: usize = 10;

/// How long all of them may take, on a machine that is building and testing at the same time.
const ALL: Duration = Duration::from_secs(180);

/// What the elevator may have kept of it, in KiB: buffers that its allocator holds for the next time.
const KEPT: u64 = 4 << 10;

#[test]
fn a_thousand_launches_of_fifty_users_at_once_each_run_once() -> Result<()> {
    let site = Site::start()?;
    let people = crowd(&site)?;
    let mut list = privileged("Made by everybody", vec![hash_of(Path::new("/usr/bin/mkdir"))?])?;
    list.elevate = Way::Automatic;
    list.terms.arguments = Covers::AnyArguments;
    let users: Vec<Value> = people.iter().map(|person| json!({ "name": person.name })).collect();
    let group = json!({ "name": "The crowd", "members": { "kind": "users", "users": users } });
    let group = site.api.post("groups", &group)?;
    let group = group["id"].as_str().context("a saved group has an id")?;
    site.deploy_to("privileged-application-lists", serde_json::to_value(list)?, group)?;
    let made = site.programs.join("made");
    fs::create_dir(&made)?;

    // What a crowd leaves behind for the next one is there already when it comes.
    rush(&site, &people, &made, FIRST)?;
    all_told(&site, USERS * FIRST)?;
    let before = settled(&site)?;
    let start = now().millis();
    rush(&site, &people, &made, EACH)?;
    let took = now().millis() - start;
    all_told(&site, USERS * (FIRST + EACH))?;
    let after = settled(&site)?;
    println!(
        "{} launches of {USERS} users at once: {took} ms; the elevator's memory {before} KiB before, {after} KiB after",
        USERS * EACH
    );
    ensure!(after <= before + KEPT, "the elevator held {before} KiB before, and {after} KiB after");
    Ok(())
}

/// Waits until the server knows the ends of so many launches; each started once, and ended once.
fn all_told(site: &Site, launches: usize) -> Result<()> {
    let ids = |kind: &str| -> Result<Vec<String>> {
        let events = site.api.events()?.into_iter();
        Ok(events.filter(|event| event.kind == kind).map(|event| event.text("/launch")).collect())
    };
    until("every end to be told", ALL, || Ok((ids("launch.ended")?.len() >= launches).then_some(())))?;
    for kind in ["launch.started", "launch.ended"] {
        let ids = ids(kind)?;
        ensure!(ids.len() == launches, "{launches} launches, and {} × {kind}", ids.len());
        ensure!(ids.iter().collect::<BTreeSet<_>>().len() == launches, "{kind} is told twice of a launch");
    }
    Ok(())
}

fn crowd(site: &Site) -> Result<Vec<Person>> {
    let person = |number| {
        let name = format!("{}-{number}", site.alice.name);
        Person::create(&name, &site.alice.home.with_file_name(&name))
    };
    (0..USERS).map(person).collect()
}

/// Each of them makes so many folders, all at the same moment; a folder that is there already cannot be made again.
fn rush(site: &Site, people: &[Person], made: &Path, each: usize) -> Result<()> {
    let mut shells: Vec<Child> =
        people.iter().map(|person| shell(site, person, made, each)).collect::<Result<_>>()?;
    for shell in &mut shells {
        shell.stdin.take().context("it reads")?.write_all(b"go\n")?;
    }
    for (shell, person) in shells.into_iter().zip(people) {
        let said = shell.wait_with_output()?;
        let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        ensure!(said.is_empty(), "{}: {said}", person.name);
        for number in 1..=each {
            let folder = made.join(format!("{}-{each}-{number}", person.name));
            ensure!(folder.is_dir(), "{} was not made", folder.display());
        }
    }
    Ok(())
}

/// Waits for a word, and then starts all of its own at once.
fn shell(site: &Site, person: &Person, made: &Path, each: usize) -> Result<Child> {
    let script = r#"read go; for n in $(seq "$3"); do "$0" run -- /usr/bin/mkdir "$1/$2-$3-$n" </dev/null & all="$all $!"; done
        for one in $all; do wait "$one" || echo "one ended with $?"; done"#;
    let mut command: Command = site.as_user(person, Path::new("/bin/sh"))?;
    command.args(["-c", script]).arg(site.client()).arg(made).arg(&person.name).arg(each.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start a shell")
}

/// [`memory`] when it has been the same for a while: what a crowd leaves is given back when it is quiet.
fn settled(site: &Site) -> Result<u64> {
    let mut last = (0, now().millis());
    until("the elevator's memory to stay as it is", ALL, || {
        let (held, at) = (memory(site)?, now().millis());
        if held != last.0 {
            last = (held, at);
        }
        Ok((at - last.1 > 2_500).then_some(held))
    })
}

/// What the elevator and its helpers hold in memory that is theirs alone, in KiB.
fn memory(site: &Site) -> Result<u64> {
    let elevator = site.elevator.as_ref().context("it runs")?.pid().as_raw_nonzero().get();
    Ok(family(elevator).into_iter().map(own_memory).sum())
}
