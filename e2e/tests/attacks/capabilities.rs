//! More than the capabilities that were granted, for a program of the same user; and its user's other programs against it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, until, until_true};
use elevon_e2e::process::{children, lives};
use rustix::fs::XattrFlags;
use serde_json::{Value, json};

use crate::ground::Ground;

crate::cases! {
    Shared a_user_has_the_capabilities_of_its_list_and_no_more,
    Shared a_user_gains_no_other_capability,
    Shared a_set_user_id_program_gives_no_user_more,
    Shared a_file_with_capabilities_gives_no_user_more,
    Shared a_capable_program_is_not_traced_or_read_by_its_user,
    Shared a_capable_program_that_is_stopped_ends_on_time,
    Shared an_environment_of_a_user_is_built_from_nothing,
}

/// CAP_NET_RAW
const NET_RAW: &str = "0000000000002000";

fn surroundings(ground: &Ground, program: &str, wrapped: &[&str]) -> Result<Value> {
    let command = [wrapped, &[program]].concat();
    let ran = ground.kept(&command)?.expect(0);
    Ok(serde_json::from_slice(&ran.out)?)
}

fn has_net_raw_only(seen: &Value) -> Result<()> {
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd"] {
        ensure!(seen["status"][set] == NET_RAW, "{set}: {seen}");
    }
    ensure!(seen["status"]["NoNewPrivs"] == "1", "{seen}");
    Ok(())
}

fn a_user_has_the_capabilities_of_its_list_and_no_more(ground: &mut Ground) -> Result<String> {
    let seen = surroundings(ground, &ground.path("capable/probe"), &[])?;
    has_net_raw_only(&seen)?;
    let (uid, gid) = (ground.site.alice.uid, ground.site.alice.gid);
    ensure!(seen["uid"] == json!([uid, uid]) && seen["gid"] == json!([gid, gid]), "{seen}");
    ensure!(seen["groups"] == json!([gid]), "{seen}");
    ensure!(seen["limits"]["Max core file size"] == "0 0", "{seen}");
    let started = ground.fresh()?.into_iter().find(|event| event.kind == "launch.started");
    let data = started.context("it started")?.data;
    ensure!(data["runs_as"] == "same_user" && data["layers"]["capabilities"] == json!(["net_raw"]), "{data}");
    // What it starts has them, too, as long as nothing denies it children.
    let bash = ground.path("capable/bash");
    has_net_raw_only(&surroundings(ground, &ground.path("capable/probe"), &[&bash, "-c", "\"$0\"; :"])?)?;
    ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    Ok("permitted, effective, inheritable, ambient and bounding: net_raw".into())
}

fn a_user_gains_no_other_capability(ground: &mut Ground) -> Result<String> {
    let bait = ground.bait("bait-capable")?;
    let script = format!(
        r#"my $bait = "{bait}"; my ($none, $tmpfs, $tmp) = ("none", "tmpfs", "/tmp");
        my $header = pack("L l", 0x20080522, 0); my $all = pack("L6", 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff);
        try("raw socket", sub {{ socket(my $s, AF_INET, SOCK_RAW, 1) }});
        try("capset", sub {{ ask(126, $header, $all) }});
        try("ambient", sub {{ ask(157, 47, 2, 21, 0, 0) }});
        try("setuid", sub {{ $> = 0; $> == 0 }});
        try("setresuid", sub {{ ask(117, 0, 0, 0) }});
        try("setgid", sub {{ ask(106, 0) }});
        try("setgroups", sub {{ ask(116, 0, 0) }});
        try("securebits", sub {{ ask(157, 28, 0, 0, 0, 0) }});
        try("chroot", sub {{ chroot "/tmp" }});
        try("mount", sub {{ ask(165, $none, $tmp, $tmpfs, 0, 0) }});
        try("write", sub {{ put($bait) }});
        try("chmod", sub {{ chmod 0777, $bait }});
        try("kill root's", sub {{ kill 9, {elevator} }});
        try("trace root's", sub {{ ask(101, 16, {elevator}, 0, 0) }});
        try("load a module", sub {{ ask(313, 0, $none, 0) }});
        try("low port", sub {{ socket(my $s, AF_INET, SOCK_STREAM, 0); bind($s, pack_sockaddr_in(81, INADDR_LOOPBACK)) }});
        try("set the clock", sub {{ my $t = pack("Q2", 1, 0); ask(227, 0, $t) }});"#,
        elevator = ground.elevator_pid().context("it runs")?
    );
    let tried = ground.perl("capable", &script)?;
    tried.did("raw socket")?;
    let text = tried.0.text();
    let failed: Vec<_> = text.lines().filter(|line| line.contains(": no")).collect();
    // Where low ports are everybody's, that one is no privilege.
    let free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?.trim() == "0";
    ensure!(failed.len() + usize::from(free && text.contains("low port: done")) == 16, "{text}");
    ensure!(
        fs::read_to_string(&bait)? == "bait\n" && fs::metadata(&bait)?.permissions().mode() & 0o777 == 0o644
    );
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("what net_raw is for was done, {} other things refused", failed.len()))
}

fn a_set_user_id_program_gives_no_user_more(ground: &mut Ground) -> Result<String> {
    let (probe, bash) = (ground.site.programs.join("tools/set-id"), ground.path("capable/bash"));
    fs::copy(ground.path("capable/probe"), &probe)?;
    fs::set_permissions(&probe, PermissionsExt::from_mode(0o6755))?;
    let seen = surroundings(ground, &probe.to_string_lossy(), &[&bash, "-c", "\"$0\"; :"])?;
    fs::remove_file(&probe)?;
    let uid = ground.site.alice.uid;
    ensure!(seen["uid"] == json!([uid, uid]) && seen["gid"][1] == ground.site.alice.gid, "{seen}");
    has_net_raw_only(&seen)?;
    let su = ground.kept(&[&bash, "-c", "su -c id </dev/null; sudo -n id; :"])?;
    ensure!(!su.text().contains("uid=0"), "{}", su.text());
    ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    Ok("root's set-user-ID program ran as alice, with net_raw".into())
}

/// `cap_setuid,cap_sys_admin=eip` as setcap(8) writes it (`vfs_cap_data`, revision 2).
fn a_file_with_capabilities_gives_no_user_more(ground: &mut Ground) -> Result<String> {
    let (probe, bash) = (ground.site.programs.join("tools/with-capabilities"), ground.path("capable/bash"));
    fs::copy(ground.path("capable/probe"), &probe)?;
    let capabilities: u32 = 1 << 7 | 1 << 21;
    let words = [0x0200_0001, capabilities, capabilities, 0, 0];
    let value: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    rustix::fs::setxattr(&probe, "security.capability", &value, XattrFlags::empty())?;
    let ran = ground.kept(&[&bash, "-c", "\"$0\"; :", &probe.to_string_lossy()])?;
    fs::remove_file(&probe)?;
    // The kernel refuses to execute it, or gives it nothing: both are less than the file says.
    if let Ok(seen) = serde_json::from_slice::<Value>(&ran.out) {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            let bits = u64::from_str_radix(seen["status"][set].as_str().unwrap_or("f"), 16)?;
            ensure!(bits & !(1 << 13) == 0, "{set}: {seen}");
        }
    }
    ground.recorded(&[("launch.started", "")])?;
    Ok("nothing of what the file has".into())
}

/// A capable program of alice's, running until this file is there; its session and its process.
fn running(ground: &Ground, until_file: &Path) -> Result<(elevon_e2e::program::Program, i32, i32)> {
    let _ = fs::remove_file(until_file);
    let client =
        ground.kept_running(&[&ground.path("capable/probe"), "--hold", &until_file.to_string_lossy()])?;
    let (_, session) = ground.running().with_context(|| client.log())?;
    let program = until("its program", SOON, || Ok(children(session).first().copied()))?;
    until_true("it to run", SOON, || client.output().contains("namespaces"))?;
    Ok((client, session, program))
}

fn a_capable_program_is_not_traced_or_read_by_its_user(ground: &mut Ground) -> Result<String> {
    let until_file = ground.home("go-on");
    let (mut client, session, program) = running(ground, &until_file)?;
    let script = format!(
        r#"my $b = "x" x 8; my ($l, $r) = (pack("P Q", $b, 8), pack("Q Q", 0x400000, 8));
        try("attach", sub {{ ask(101, 16, {program}, 0, 0) }});
        try("seize", sub {{ ask(101, 0x4206, {program}, 0, 0) }});
        try("memory", sub {{ open(my $m, "+<", "/proc/{program}/mem") }});
        try("read memory", sub {{ ask(310, {program}, $l, 1, $r, 1, 0) }});
        try("write memory", sub {{ ask(311, {program}, $l, 1, $r, 1, 0) }});
        try("environment", sub {{ open(my $e, "<", "/proc/{program}/environ") or return 0; defined <$e> }});
        try("descriptors", sub {{ readlink("/proc/{program}/fd/0") }});
        try("maps", sub {{ open(my $e, "<", "/proc/{program}/maps") or return 0; defined <$e> }});
        try("attributes", sub {{ open(my $e, ">", "/proc/{program}/attr/current") or return 0; syswrite $e, "x" }});
        my $process = syscall(434, {program}, 0);
        try("take a descriptor", sub {{ ask(438, $process, 0, 0) }});
        try("stop the session", sub {{ kill 19, {session} }});
        try("kill the session", sub {{ kill 9, {session} }});"#
    );
    let mut command = ground.site.as_user(&ground.site.alice, Path::new("/usr/bin/perl"))?;
    command.args(["-e", &Ground::script(&script)]);
    let ran = elevon_e2e::program::run(&mut command, b"")?;
    let text = ran.text();
    let failed = text.lines().filter(|line| line.contains(": no")).count();
    ensure!(failed == 12 && !text.contains(": done"), "{text}{}", ran.err);
    ensure!(lives(session) && lives(program));
    fs::write(&until_file, "")?;
    client.exit(SOON)?.expect(0);
    fs::remove_file(until_file)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("neither traced nor read, its session neither stopped nor killed".into())
}

/// That her own program can be stopped by her is nothing the kernel lets us prevent: its end comes all the same.
fn a_capable_program_that_is_stopped_ends_on_time(ground: &mut Ground) -> Result<String> {
    let until_file = ground.home("never");
    let (mut client, session, program) = running(ground, &until_file)?;
    let said = ground.shell(&format!("kill -STOP {program}; kill -STOP {session}"), b"")?;
    ensure!(said.text().to_lowercase().contains("not permitted"), "{}", said.text());
    let started = ground.fresh()?.into_iter().find(|event| event.kind == "launch.started");
    let grant = started.context("it started")?.data["grant"].as_str().unwrap_or_default().to_owned();
    ground.revoke(&grant)?;
    until_true("it to be gone", SOON, || !lives(program))?;
    // The client was stopped with its program, as under any shell.
    client.kill()?;
    ground.recorded(&[("launch.started", ""), ("launch.ended", "revoked")])?;
    Ok("stopped by her, ended by its session".into())
}

fn an_environment_of_a_user_is_built_from_nothing(ground: &mut Ground) -> Result<String> {
    let mut command = ground.kept_command(&[&ground.path("capable/probe")])?;
    command
        .env("LD_PRELOAD", "/tmp/evil.so")
        .env("GLIBC_TUNABLES", "x")
        .env("PERL5OPT", "-Mevil")
        .env("HOME", "/tmp");
    let ran = elevon_e2e::program::run(&mut command, b"")?.expect(0);
    let seen: Value = serde_json::from_slice(&ran.out)?;
    let environment = seen["environment"].as_object().context("an environment")?;
    let home = ground.site.alice.home.to_string_lossy().into_owned();
    ensure!(environment["HOME"] == home.as_str() && environment["USER"] == ground.site.alice.name.as_str());
    for name in ["LD_PRELOAD", "GLIBC_TUNABLES", "PERL5OPT", "ELEVON_SOCKET"] {
        ensure!(!environment.contains_key(name), "{name}: {seen}");
    }
    ground.recorded(&[("launch.started", "")])?;
    Ok("her home from the account database, nothing of what she set".into())
}
