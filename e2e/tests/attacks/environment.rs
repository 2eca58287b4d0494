//! What a caller sets, and a root program must not see.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use elevon_policy::text::OsText;
use elevon_wire::conversation::FromClient;
use serde_json::Value;

use crate::ground::{Ground, asked, message};

crate::cases! {
    Shared variables_that_act_on_loaders_and_interpreters_stay_outside,
    Shared a_raw_client_gets_no_variable_in_either,
    Shared two_hundred_thousand_variables_are_no_burden,
    Shared hostile_terminals_languages_and_zones_are_dropped,
    Shared names_that_are_more_than_names_are_dropped,
    Shared a_command_is_not_looked_for_where_the_caller_says,
    Shared files_in_the_callers_home_are_nobodys_settings,
}

/// What the program sees, and what it may see.
pub(crate) fn seen(text: &str) -> Result<BTreeMap<String, String>> {
    let line = text.lines().find(|line| line.starts_with('{')).with_context(|| text.to_owned())?;
    let seen: Value = serde_json::from_str(line)?;
    Ok(serde_json::from_value(seen["environment"].clone())?)
}

pub(crate) fn only_what_is_stated(seen: &BTreeMap<String, String>, besides: &[&str]) -> Result<()> {
    let stated = [
        "ELEVON_GRANT",
        "ELEVON_LAUNCH",
        "ELEVON_UID",
        "ELEVON_USER",
        "HOME",
        "LOGNAME",
        "PATH",
        "SHELL",
        "USER",
    ];
    for name in seen.keys() {
        ensure!(
            stated.contains(&name.as_str()) || besides.contains(&name.as_str()),
            "{name} got in: {seen:?}"
        );
    }
    Ok(())
}

const HOSTILE: [&str; 44] = [
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "LD_DEBUG",
    "LD_BIND_NOW",
    "LD_ORIGIN_PATH",
    "LD_PROFILE",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "HOSTALIASES",
    "RES_OPTIONS",
    "MALLOC_CHECK_",
    "TZDIR",
    "TERMINFO",
    "TERMCAP",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PERL5LIB",
    "PERL5OPT",
    "PERL5DB",
    "RUBYOPT",
    "RUBYLIB",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "BASH_ENV",
    "ENV",
    "BASH_FUNC_id%%",
    "SHELLOPTS",
    "PS4",
    "IFS",
    "CDPATH",
    "GIT_SSH",
    "GIT_EXEC_PATH",
    "PAGER",
    "LESSOPEN",
    "EDITOR",
    "SYSTEMD_PAGER",
    "XDG_RUNTIME_DIR",
    "TMPDIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "KRB5_CONFIG",
];

fn variables_that_act_on_loaders_and_interpreters_stay_outside(ground: &mut Ground) -> Result<String> {
    let probe = ground.path("free/probe");
    let mut command = ground.site.elevon(&ground.site.alice, &["run", "--", &probe])?;
    // Those that act on the client itself must not keep it from running; what they hold does not matter here.
    for name in HOSTILE.iter().filter(|name| !["LD_PRELOAD", "LD_AUDIT", "LD_DEBUG"].contains(name)) {
        command.env(name, "/tmp/x");
    }
    command.env("LD_PRELOAD", "").env("LD_AUDIT", "");
    let ran = elevon_e2e::program::run(&mut command, b"")?.expect(0);
    only_what_is_stated(&seen(&ran.text())?, &["LANG", "TERM"])?;
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("none of {} got in", HOSTILE.len()))
}

fn a_raw_client_gets_no_variable_in_either(ground: &mut Ground) -> Result<String> {
    let mut run = asked(ground.path("free/probe"), &[]);
    let constants = ["PATH", "HOME", "SHELL", "USER", "LOGNAME", "ELEVON_USER", "ELEVON_UID", "SUDO_USER"];
    run.environment =
        HOSTILE.iter().chain(&constants).map(|name| ((*name).into(), OsText::from("evil"))).collect();
    let (mut count, mut last) = (0, BTreeMap::new());
    // No more than 64 are looked at, so they come in portions.
    for portion in run.environment.clone().chunks(40) {
        run.environment = portion.to_vec();
        let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run.clone()))))?;
        last = seen(&said.text())?;
        only_what_is_stated(&last, &[])?;
        ensure!(last.values().all(|value| value != "evil"), "{last:?}");
        count += portion.len();
    }
    ensure!(last.get("HOME").is_some_and(|home| home == "/root"), "{last:?}");
    ground.recorded(&[("launch.started", ""); 2])?;
    Ok(format!("none of {count} got in"))
}

fn two_hundred_thousand_variables_are_no_burden(ground: &mut Ground) -> Result<String> {
    let mut run = asked(ground.path("free/probe"), &[]);
    run.environment = (0..200_000).map(|number| (format!("LC_{number}"), OsText::from("x"))).collect();
    run.environment.push(("LANG".into(), OsText::from("C.UTF-8")));
    let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run))))?;
    only_what_is_stated(&seen(&said.text())?, &[])?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("all left out, and the program ran".into())
}

fn hostile_terminals_languages_and_zones_are_dropped(ground: &mut Ground) -> Result<String> {
    let long = "x".repeat(65);
    let values: [&[u8]; 17] = [
        b"/tmp/x",
        b"../x",
        b"..",
        b"x/../../y",
        b":x",
        b":/etc/passwd",
        b"",
        b"a\nb",
        b"a\0b",
        b"\xff",
        b"%n%n",
        b"$(id)",
        b"a=b",
        b"a;b",
        b"a b",
        "é".as_bytes(),
        long.as_bytes(),
    ];
    for value in values {
        let mut run = asked(ground.path("free/probe"), &[]);
        let names = ["TERM", "LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE", "TZ"];
        run.environment = names.map(|name| (name.into(), OsText::new(value))).into();
        let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run))))?;
        let seen = seen(&said.text())?;
        // A colon is for LANGUAGE, whose parts are names.
        let besides: &[&str] =
            if value == b":x" { &["LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE"] } else { &[] };
        only_what_is_stated(&seen, besides)?;
    }
    ground.recorded(&[("launch.started", ""); 17])?;
    Ok(format!("{} values under six names", values.len()))
}

fn names_that_are_more_than_names_are_dropped(ground: &mut Ground) -> Result<String> {
    let mut run = asked(ground.path("free/probe"), &[]);
    let names = [
        "TERM=x\nLD_PRELOAD",
        "TERM=LD_PRELOAD",
        "LD_PRELOAD=/x\0TERM",
        "",
        "=",
        "TERM ",
        "term",
        "LC_ALL\0",
        "LC_",
    ];
    run.environment = names.map(|name| (name.into(), OsText::from("evil"))).into();
    run.environment.extend([("TERM".into(), OsText::from("first")), ("TERM".into(), OsText::from("second"))]);
    let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run))))?;
    let seen = seen(&said.text())?;
    only_what_is_stated(&seen, &["TERM"])?;
    ensure!(seen.get("TERM").is_some_and(|term| term == "first"), "{seen:?}");
    ground.recorded(&[("launch.started", "")])?;
    Ok("dropped; of two values the first counts".into())
}

fn a_command_is_not_looked_for_where_the_caller_says(ground: &mut Ground) -> Result<String> {
    let evil = fs::read(ground.path("unlisted/evil"))?;
    let planted = ground.hers("id", &evil)?;
    let said = ground.shell("PATH=.:$HOME:$PATH elevon run -- id -u", b"")?;
    ensure!(said.0.text() == "0\n", "{}", said.text());
    ground.recorded(&[("launch.started", "")])?;
    let started =
        ground.events()?.into_iter().rfind(|event| event.kind == "launch.started").context("a start")?;
    ensure!(started.data["path"] == "/usr/bin/id", "{}", started.data["path"]);
    fs::remove_file(planted)?;
    Ok("the system's id ran".into())
}

fn files_in_the_callers_home_are_nobodys_settings(ground: &mut Ground) -> Result<String> {
    let mark = ground.mark();
    let line = format!("echo \"uid=$(id -u) euid=0 capabilities=dotfile\" >>{mark}\n");
    let names =
        [".bashrc", ".profile", ".bash_profile", ".shrc", ".perlrc", "sitecustomize.py", "perl5db.pl"];
    for name in names {
        ground.hers(name, line.as_bytes())?;
    }
    for command in
        [&["bash", "-c", ":"][..], &["bash", "-lc", ":"], &["bash", "-ic", ":"], &["perl", "-e", "1"]]
    {
        ground.elevated(command)?;
    }
    for name in names {
        fs::remove_file(ground.home(name))?;
    }
    ground.recorded(&[("launch.started", ""); 4])?;
    Ok("shells and perl read root's, which are none of hers".into())
}
