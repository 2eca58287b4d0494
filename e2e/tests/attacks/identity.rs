//! Making the elevator take one program for another.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use elevon_e2e::clock::{Deadline, SOON};
use elevon_e2e::program::must;
use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with, setxattr};

use crate::ground::{Ground, full, runs, span};

crate::cases! {
    Shared a_program_rewritten_in_place_while_it_is_measured,
    Shared a_program_exchanged_while_it_is_measured,
    Shared a_link_turned_while_it_is_followed,
    Shared a_folder_turned_into_another_while_it_is_walked,
    Shared a_program_that_somebody_still_writes_to,
    Shared a_script_rewritten_while_it_runs,
    Shared a_program_changed_after_it_was_approved,
    Shared a_folder_rule_means_only_what_root_alone_can_change,
    Shared a_link_or_hard_link_into_a_folder_proves_nothing,
    Shared links_of_the_kernel_lead_nowhere,
    Shared a_loader_is_no_program,
    Shared forms_of_a_first_line,
    Shared what_the_caller_may_not_execute_is_not_executed_for_them,
    Shared a_group_borrowed_after_connecting_opens_nothing,
    Shared devices_folders_and_endless_files,
    Shared mounts_whose_owners_prove_nothing,
    Shared a_file_system_that_a_program_serves,
    Shared setuid_bits_change_nobody,
    Shared names_with_escapes_are_told_harmlessly,
}

/// Runs a command of alice's again and again while `meddle` meddles; each time the good program ran, or nothing.
fn race(ground: &mut Ground, command: &str, meddle: impl Fn() + Sync) -> Result<String> {
    let (over, meddled) = (AtomicBool::new(false), AtomicU64::new(0));
    let bytes = runs(command, &[ground.mark().as_bytes()]);
    let deadline = Deadline::within(span());
    let (mut rounds, mut good, mut refused) = (0, 0, 0);
    let raced = std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                meddle();
                meddled.fetch_add(1, Ordering::Relaxed);
            }
        });
        let raced = (|| {
            while deadline.left().is_some() || (full() && rounds < 2_000) {
                let said = ground.says(&ground.site.alice, &[], &bytes)?;
                rounds += 1;
                let text = said.text();
                ensure!(!text.contains("evil uid=0"), "evil ran as root in round {rounds}: {text}");
                match said.started() {
                    true if text.contains("good") => good += 1,
                    // Executing what is being written to fails, and what was half written is no program.
                    true => ensure!(text.contains("could not execute"), "something else ran: {text}"),
                    false => refused += 1,
                }
            }
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        raced
    });
    raced?;
    let meddled = meddled.load(Ordering::Relaxed);
    let recorded = ground.fresh()?.iter().filter(|event| event.kind == "launch.started").count();
    ensure!(recorded == good, "{good} ran, {recorded} were recorded");
    Ok(format!("{rounds} rounds, {meddled} changes: good {good}, refused {refused}"))
}

fn both(ground: &Ground) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((fs::read(ground.path("free/good"))?, fs::read(ground.path("unlisted/evil"))?))
}

fn a_program_rewritten_in_place_while_it_is_measured(ground: &mut Ground) -> Result<String> {
    let (good, evil) = both(ground)?;
    let app = ground.hers("app", &good)?;
    let file = fs::File::options().write(true).open(&app)?;
    let seen = race(ground, &app, || {
        for bytes in [&evil, &good] {
            // What it is while it is written is neither; the measure must be of what runs, whatever it is.
            let _ = std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0);
            let _ = file.set_len(bytes.len() as u64);
            // Each for long enough that some measures fall into it whole, and some do not.
            let still = Deadline::within(Duration::from_millis(20));
            while still.left().is_some() {
                std::thread::yield_now();
            }
        }
    })?;
    fs::remove_file(app)?;
    Ok(seen)
}

fn a_program_exchanged_while_it_is_measured(ground: &mut Ground) -> Result<String> {
    let (good, evil) = both(ground)?;
    let (app, other) = (ground.hers("app", &good)?, ground.hers("other", &evil)?);
    let seen = race(ground, &app, || {
        let _ = renameat_with(CWD, &app, CWD, &other, RenameFlags::EXCHANGE);
    })?;
    fs::remove_file(app)?;
    fs::remove_file(other)?;
    Ok(seen)
}

/// The link leads to a program on the list and to one that is not, in turn.
fn a_link_turned_while_it_is_followed(ground: &mut Ground) -> Result<String> {
    let (link, other) = (ground.home("link"), ground.home("other"));
    symlink(ground.path("free/good"), &link)?;
    symlink(ground.path("unlisted/evil"), &other)?;
    let seen = race(ground, &link.to_string_lossy(), || {
        let _ = renameat_with(CWD, &link, CWD, &other, RenameFlags::EXCHANGE);
    })?;
    fs::remove_file(link)?;
    fs::remove_file(other)?;
    Ok(seen)
}

fn a_folder_turned_into_another_while_it_is_walked(ground: &mut Ground) -> Result<String> {
    let (_, evil) = both(ground)?;
    let own = ground.home("own");
    fs::create_dir(&own)?;
    ground.hers("own/good", &evil)?;
    let (link, folder) = (ground.home("dir"), own.clone());
    symlink(ground.path("free"), &link)?;
    let command = format!("{}/good", link.display());
    let seen = race(ground, &command, || {
        let _ = renameat_with(CWD, &link, CWD, &folder, RenameFlags::EXCHANGE);
    })?;
    let _ = fs::remove_file(&link).and_then(|()| fs::remove_dir_all(&own));
    let _ = fs::remove_file(&own).and_then(|()| fs::remove_dir_all(&link));
    Ok(seen)
}

fn a_program_that_somebody_still_writes_to(ground: &mut Ground) -> Result<String> {
    let (good, evil) = both(ground)?;
    let app = ground.hers("app", &good)?;
    let file = fs::File::options().write(true).open(&app)?;
    let ran = ground.elevated(&[&app])?.expect(0);
    ensure!(ran.text().contains("good uid=0"));
    std::os::unix::fs::FileExt::write_all_at(&file, &evil, 0)?;
    let ran = ground.elevated(&[&app, &ground.mark()])?.expect(126);
    ensure!(ran.out.is_empty(), "{}", ran.text());
    ground.recorded(&[("launch.started", ""), ("launch.refused", "not_listed")])?;
    fs::remove_file(app)?;
    Ok("a copy ran; what was written after is another program".into())
}

/// A shell reads its script as it goes: what runs must be the copy that was measured.
fn a_script_rewritten_while_it_runs(ground: &mut Ground) -> Result<String> {
    let tool = ground.home("tool.sh");
    let mut command = ground.site.elevon(&ground.site.alice, &["run", "--", &tool.to_string_lossy()])?;
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut running = command.spawn()?;
    ground.running()?;
    let evil =
        format!("#!/bin/sh\nread -r line\n/bin/echo uid=0 euid=0 capabilities=script >>{}\n", ground.mark());
    let before = fs::read(&tool)?;
    std::os::unix::fs::FileExt::write_all_at(
        &fs::File::options().write(true).open(&tool)?,
        evil.as_bytes(),
        0,
    )?;
    std::io::Write::write_all(running.stdin.as_mut().context("its input")?, b"here\n")?;
    let output = running.wait_with_output()?;
    ensure!(output.stdout == b"good tool here\n", "{}", String::from_utf8_lossy(&output.stdout));
    let again = ground.elevated(&[&tool.to_string_lossy()])?.expect(126);
    ensure!(again.out.is_empty());
    fs::write(&tool, before)?;
    ground.recorded(&[("launch.started", ""), ("launch.refused", "not_listed")])?;
    Ok("the measured lines ran".into())
}

fn a_program_changed_after_it_was_approved(ground: &mut Ground) -> Result<String> {
    let probe = ground.install("asked", "probe")?;
    let mut waiting = ground.site.alice_asks("30m", &[&probe, "changed"])?;
    let request =
        ground.site.api.event("request.made", |event| event.text("/request/argv/1") == "changed")?;
    fs::remove_file(&probe)?;
    let evil = fs::read(ground.path("unlisted/evil"))?;
    fs::write(&probe, evil)?;
    fs::set_permissions(&probe, PermissionsExt::from_mode(0o755))?;
    ground.approver.approve(&request.text("/request/id"), None, "")?;
    let ran = waiting.exit(SOON)?.expect(126);
    ensure!(ran.out.is_empty(), "{}", ran.text());
    ground.recorded(&[("launch.refused", "changed")])?;
    Ok("refused, changed".into())
}

/// Evil under a name on the list, in a folder on the list, that somebody besides root can change in one way or another.
fn a_folder_rule_means_only_what_root_alone_can_change(ground: &mut Ground) -> Result<String> {
    let (_, evil) = both(ground)?;
    let (alice, gid) = (ground.site.alice.uid, ground.site.alice.gid);
    let top = PathBuf::from(ground.path("deep"));
    // What a POSIX access list with a user's right to write looks like to the kernel.
    let list: Vec<u8> = [
        (0x01u16, 7u16, u32::MAX),
        (0x02, 7, alice),
        (0x04, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 5, u32::MAX),
    ]
    .iter()
    .flat_map(|(tag, may, id)| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat())
    .collect();
    let list = [&2u32.to_le_bytes()[..], &list].concat();
    type Spoil<'a> = (&'a str, Box<dyn Fn(&Path, &Path) -> Result<()> + 'a>);
    let mode = |mode: u32| move |path: &Path| Ok(fs::set_permissions(path, PermissionsExt::from_mode(mode))?);
    let spoils: Vec<Spoil<'_>> = vec![
        ("the file is hers", Box::new(move |_, file| Ok(chown(file, Some(alice), None)?))),
        ("anybody may write to the file", Box::new(move |_, file| mode(0o757)(file))),
        (
            "her group may write to the file",
            Box::new(move |_, file| {
                chown(file, None, Some(gid))?;
                mode(0o775)(file)
            }),
        ),
        ("an access list lets her write to the file", {
            let list = list.clone();
            Box::new(move |_, file| {
                Ok(setxattr(file, "system.posix_acl_access", &list, XattrFlags::empty())?)
            })
        }),
        ("the folder is hers", Box::new(move |folder, _| Ok(chown(folder, Some(alice), None)?))),
        ("the folder is open to all", Box::new(move |folder, _| mode(0o777)(folder))),
        ("the folder is sticky, and open to all", Box::new(move |folder, _| mode(0o1777)(folder))),
        (
            "her group may write to the folder",
            Box::new(move |folder, _| {
                chown(folder, None, Some(gid))?;
                mode(0o775)(folder)
            }),
        ),
        ("an access list lets her write to the folder", {
            let list = list.clone();
            Box::new(move |folder, _| {
                Ok(setxattr(folder, "system.posix_acl_access", &list, XattrFlags::empty())?)
            })
        }),
    ];
    let mut expected = Vec::new();
    for (what, spoil) in &spoils {
        let folder = top.join("branch");
        let below = folder.join("twig");
        fs::create_dir_all(&below)?;
        for path in [&top, &folder, &below] {
            mode(0o755)(path)?;
        }
        let file = below.join("evil");
        fs::write(&file, &evil)?;
        mode(0o755)(&file)?;
        spoil(&folder, &file)?;
        let said = ground.says(
            &ground.site.alice,
            &[],
            &runs(&file.to_string_lossy(), &[ground.mark().as_bytes()]),
        )?;
        let (_, reason, told) = said.refused().context(*what)?;
        ensure!(reason == "not_listed", "{what}: {reason}: {told}");
        expected.push(("launch.refused", "not_listed"));
        fs::remove_dir_all(&folder)?;
    }
    ground.recorded(&expected)?;
    Ok(format!("{} ways of not being root's alone, each refused", spoils.len()))
}

fn a_link_or_hard_link_into_a_folder_proves_nothing(ground: &mut Ground) -> Result<String> {
    let (_, evil) = both(ground)?;
    let own = ground.hers("mine", &evil)?;
    let (hard, soft, dir) = (ground.path("free/hard"), ground.path("free/soft"), ground.path("deep/dir"));
    fs::create_dir_all(ground.path("deep"))?;
    fs::hard_link(&own, &hard)?;
    symlink(&own, &soft)?;
    symlink(&ground.site.alice.home, &dir)?;
    for path in [&hard, &soft, &format!("{dir}/mine")] {
        let said = ground.says(&ground.site.alice, &[], &runs(path, &[ground.mark().as_bytes()]))?;
        ensure!(said.refused()?.1 == "not_listed", "{path}: {}", said.text());
    }
    for path in [hard, soft, dir, own] {
        fs::remove_file(path)?;
    }
    // And a hard link of root's file at her home is no more than its bytes.
    let link = ground.home("linked");
    fs::hard_link(ground.path("free/probe"), &link)?;
    let said = ground.says(&ground.site.alice, &[], &runs(&link.to_string_lossy(), &[]))?;
    ensure!(said.refused()?.1 == "not_listed", "{}", said.text());
    fs::remove_file(link)?;
    ground.recorded(&[("launch.refused", "not_listed"); 4])?;
    Ok("four of them, refused".into())
}

fn links_of_the_kernel_lead_nowhere(ground: &mut Ground) -> Result<String> {
    let (_, evil) = both(ground)?;
    let own = ground.hers("mine", &evil)?;
    let below = own.trim_start_matches('/').to_owned();
    let paths = [
        "/proc/self/exe".to_owned(),
        "/proc/thread-self/exe".into(),
        format!("/proc/self/root/{below}"),
        "/proc/self/cwd/mine".into(),
        "/dev/fd/3".into(),
        "/proc/1/root/usr/bin/true".into(),
        format!("/proc/{}/root/{below}", std::process::id()),
        format!("/proc/{}/exe", ground.elevator_pid().context("it runs")?),
    ];
    for path in &paths {
        let said = ground.shell("exec 3<mine; $A say", &runs(path, &[ground.mark().as_bytes()]))?;
        let (status, ..) = said.refused().context(path.clone())?;
        ensure!([126, 127].contains(&status), "{path}: {}", said.text());
    }
    // In a namespace of hers, another file lies at a path on the list: the elevator must not be led there.
    let script = format!(
        "unshare -Urm sh -c 'mount --bind \"$HOME/mine\" $P/free/good; echo $$; sleep 3' >pid & \
         sleep 0.5; $A say </dev/stdin; kill %1; rm -f pid; : {below}"
    );
    let said = ground.shell(&script, &runs(&ground.path("free/good"), &[]))?;
    ensure!(!said.text().contains("evil uid=0"), "{}", said.text());
    fs::remove_file(own)?;
    Ok(format!("{} paths through /proc, none followed", paths.len()))
}

fn a_loader_is_no_program(ground: &mut Ground) -> Result<String> {
    let mut tried = 0;
    for loader in [
        "/lib64/ld-linux-x86-64.so.2",
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "/lib/ld-linux.so.2",
    ] {
        if !Path::new(loader).exists() {
            continue;
        }
        let evil = ground.path("unlisted/evil");
        let copy = ground.path("free/ld.so");
        fs::copy(loader, &copy)?;
        fs::set_permissions(&copy, PermissionsExt::from_mode(0o755))?;
        for loader in [loader, copy.as_str()] {
            let said = ground.says(
                &ground.site.alice,
                &[],
                &runs(loader, &[evil.as_bytes(), ground.mark().as_bytes()]),
            )?;
            ensure!(!said.started(), "{loader} started: {}", said.text());
            tried += 1;
        }
        fs::remove_file(copy)?;
    }
    ensure!(tried > 0, "this computer has no dynamic linker where it should");
    Ok(format!("{tried} refused, one of them in a folder on the list"))
}

fn forms_of_a_first_line(ground: &mut Ground) -> Result<String> {
    let (_, evil) = both(ground)?;
    ground.hers("sh", &evil)?;
    ground.hers("interpreter.sh", b"#!/bin/sh\n:\n")?;
    let home = ground.site.alice.home.to_string_lossy().into_owned();
    let long = format!("#!/bin/{}sh\n", "./".repeat(200));
    let forms: [(&[u8], bool); 15] = [
        (b"#!sh\n", false),
        (b"#!./sh\n", false),
        (b"#!../../bin/sh\n", false),
        (b"#!bin/sh\n", false),
        (b"#!\n", false),
        (b"#!", false),
        (b"#!  \n", false),
        (b"#!/bin/sh\r\n", false),
        (b"#!/bin/s\0h\n", false),
        (b"#!/nowhere/sh\n", false),
        (b"#!/proc/self/exe\n", false),
        (b"#!/bin\n", false),
        (b"\n#!/bin/sh\n", false),
        (b"\xef\xbb\xbf#!/bin/sh\n", false),
        (b"#!\t /bin/sh \t-e\t \necho good tool $-\n", true),
    ];
    let own = [format!("#!{home}/sh\n"), format!("#!{home}/interpreter.sh\n"), long];
    let forms = forms.into_iter().chain(own.iter().map(|form| (form.as_bytes(), false)));
    let mut refused = 0;
    for (form, runs_well) in forms {
        // In a folder that counts, so that only its first line speaks against it.
        let script = ground.path("free/script");
        fs::write(&script, form)?;
        fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
        let said = ground.says(&ground.site.alice, &[], &runs(&script, &[ground.mark().as_bytes()]))?;
        let name = String::from_utf8_lossy(form).escape_debug().to_string();
        ensure!(said.started() == runs_well, "{name}: {}", said.text());
        if !runs_well {
            let (_, reason, _) = said.refused()?;
            ensure!(
                ["not_executable", "untrusted_interpreter"].contains(&reason.as_str()),
                "{name}: {reason}"
            );
            refused += 1;
        }
        fs::remove_file(script)?;
    }
    for name in ["sh", "interpreter.sh"] {
        fs::remove_file(ground.home(name))?;
    }
    let events = ground.fresh()?.into_iter().filter(|event| event.kind == "launch.refused").count();
    ensure!(events == refused, "{refused} refused, {events} recorded");
    Ok(format!("{refused} forms refused and recorded, a sound one ran"))
}

fn what_the_caller_may_not_execute_is_not_executed_for_them(ground: &mut Ground) -> Result<String> {
    let good = fs::read(ground.path("free/good"))?;
    let mut expected = Vec::new();
    for (mode, gid) in [(0o700, 0), (0o754, 0), (0o644, 0), (0o000, 0), (0o705, ground.site.alice.gid)] {
        let file = ground.path("free/closed");
        fs::write(&file, &good)?;
        chown(&file, Some(0), Some(gid))?;
        fs::set_permissions(&file, PermissionsExt::from_mode(mode))?;
        let said = ground.says(&ground.site.alice, &[], &runs(&file, &[]))?;
        ensure!(said.refused()?.1 == "not_executable", "{mode:o}: {}", said.text());
        expected.push(("launch.refused", "not_executable"));
        fs::remove_file(file)?;
    }
    ground.recorded(&expected)?;
    Ok("five modes that keep her out".into())
}

/// Between connecting and being looked at, the caller becomes a set-group-id program: its group is not alice's to use.
fn a_group_borrowed_after_connecting_opens_nothing(ground: &mut Ground) -> Result<String> {
    let borrowed = 54_321;
    let closed = ground.path("free/for-the-group");
    fs::copy(ground.path("free/good"), &closed)?;
    chown(&closed, Some(0), Some(borrowed))?;
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o750))?;
    // Something that anybody may run, and that keeps its group while it waits.
    let lender = ground.path("tools/lender");
    fs::copy("/usr/bin/sleep", &lender)?;
    chown(&lender, Some(0), Some(borrowed))?;
    fs::set_permissions(&lender, PermissionsExt::from_mode(0o2755))?;
    let deadline = Deadline::within(span());
    let mut rounds = 0;
    let bytes = runs(&closed, &[]);
    while deadline.left().is_some() {
        rounds += 1;
        let then = format!("{lender} 0.2");
        let said = ground.says(&ground.site.alice, &["--then", &then], &bytes)?;
        ensure!(!said.text().contains("good uid=0"), "round {rounds}: {}", said.text());
        ensure!(!said.started(), "round {rounds}: {}", said.text());
    }
    for path in [closed, lender] {
        fs::remove_file(path)?;
    }
    let started = ground.fresh()?.iter().filter(|event| event.kind == "launch.started").count();
    ensure!(started == 0, "{started} started");
    Ok(format!("{rounds} rounds"))
}

fn devices_folders_and_endless_files(ground: &mut Ground) -> Result<String> {
    let sparse = ground.hers("sparse", &fs::read(ground.path("free/good"))?)?;
    fs::File::options().write(true).open(&sparse)?.set_len(1 << 40)?;
    let node = ground.home("device");
    must(Command::new("mknod").arg(&node).args(["c", "1", "5"]), b"")?;
    fs::set_permissions(&node, PermissionsExt::from_mode(0o777))?;
    let socket = ground.home("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket)?;
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o777))?;
    let empty = ground.hers("empty", b"")?;
    let paths =
        [&sparse, &empty, &node.to_string_lossy().into_owned(), &socket.to_string_lossy().into_owned()];
    for path in paths {
        let said = ground.says(&ground.site.alice, &[], &runs(path, &[]))?;
        ensure!(said.refused()?.1 == "not_executable", "{path}: {}", said.text());
    }
    ground.recorded(&[("launch.refused", "not_executable"); 4])?;
    for path in [Path::new(&sparse), Path::new(&empty), &node, &socket] {
        fs::remove_file(path)?;
    }
    Ok("1 TiB sparse, a device, a socket and an empty file".into())
}

fn mounts_whose_owners_prove_nothing(ground: &mut Ground) -> Result<String> {
    let place = PathBuf::from(ground.path("deep/mounted"));
    fs::create_dir_all(&place)?;
    let mut seen = Vec::new();
    for (options, reason) in [("nosuid", "not_listed"), ("noexec", "not_executable")] {
        must(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&place), b"")?;
        let mounted = (|| {
            let file = place.join("evil");
            fs::copy(ground.path("unlisted/evil"), &file)?;
            fs::set_permissions(&place, PermissionsExt::from_mode(0o755))?;
            ground.says(&ground.site.alice, &[], &runs(&file.to_string_lossy(), &[ground.mark().as_bytes()]))
        })();
        must(Command::new("umount").arg(&place), b"")?;
        let (_, found, told) = mounted?.refused()?;
        ensure!(found == reason, "{options}: {found}: {told}");
        seen.push(("launch.refused", reason));
    }
    fs::remove_dir(place)?;
    ground.recorded(&seen)?;
    Ok("nosuid: only its bytes count; noexec: not at all".into())
}

/// A file system of alice's own, in namespaces of her own, whose folder is handed over: it must not be asked anything.
fn a_file_system_that_a_program_serves(ground: &mut Ground) -> Result<String> {
    if !Path::new("/dev/fuse").exists() {
        bail!("this computer has no /dev/fuse, which this case is about");
    }
    let mount = ground.home("served");
    fs::create_dir(&mount)?;
    chown(&mount, Some(ground.site.alice.uid), Some(ground.site.alice.gid))?;
    // Nobody answers: whoever asks it anything waits for ever.
    let script = r#"unshare -Urm $A serve served >served.out 2>&1 & server=$!
        for n in $(seq 100); do grep -q holding served.out && break; sleep 0.05; done
        held=$(sed -n 's/holding //p' served.out); cat served.out; cat >message
        timeout 8 $A say --fds "path:/proc/$server/fd/$held,null,out,err" <message
        timeout 8 $A say --fds "cwd,path:/proc/$server/fd/$held,out,err" <message
        kill -9 $server; rm message served.out"#;
    let watch = elevon_e2e::clock::Stopwatch::start();
    let said = ground.shell(script, &runs("./good", &[]))?;
    ensure!(!said.text().contains("silent"), "the elevator waited for alice's file system: {}", said.text());
    ensure!(watch.elapsed().as_secs() < 15, "it took {:?}", watch.elapsed());
    let healthy = ground.elevated(&[&ground.path("free/good")])?.expect(0);
    ensure!(healthy.text().contains("good uid=0"));
    fs::remove_dir(mount)?;
    ensure!(said.text().contains("holding"), "it was not served: {}", said.text());
    Ok("not asked anything".into())
}

fn setuid_bits_change_nobody(ground: &mut Ground) -> Result<String> {
    let probe = ground.path("free/own-probe");
    fs::copy(ground.path("free/probe"), &probe)?;
    chown(&probe, Some(0), Some(ground.site.alice.gid))?;
    fs::set_permissions(&probe, PermissionsExt::from_mode(0o6755))?;
    let ran = ground.elevated(&[&probe])?.expect(0);
    let seen: serde_json::Value = serde_json::from_slice(&ran.out)?;
    ensure!(seen["uid"] == serde_json::json!([0, 0]), "{}", seen["uid"]);
    fs::remove_file(probe)?;
    // Hers with the bit set is still only its bytes.
    let mine = ground.hers("mine", &fs::read(ground.path("unlisted/evil"))?)?;
    fs::set_permissions(&mine, PermissionsExt::from_mode(0o6755))?;
    let said = ground.says(&ground.site.alice, &[], &runs(&mine, &[ground.mark().as_bytes()]))?;
    ensure!(said.refused()?.1 == "not_listed", "{}", said.text());
    fs::remove_file(mine)?;
    ground.recorded(&[("launch.started", ""), ("launch.refused", "not_listed")])?;
    Ok("root's ran as root, hers was refused".into())
}

fn names_with_escapes_are_told_harmlessly(ground: &mut Ground) -> Result<String> {
    let evil = fs::read(ground.path("unlisted/evil"))?;
    let mut names: Vec<Vec<u8>> = vec![
        b"a\x1b[2J\x1b]0;root\x07".to_vec(),
        b"a\nelevon: granted".to_vec(),
        b"\xff\xfe".to_vec(),
        "a\u{202e}gnp.live".as_bytes().to_vec(),
        b"a\r\x08\x08ok".to_vec(),
    ];
    let count = names.len();
    for name in names.drain(..) {
        let path = ground.home("x").with_file_name(OsStr::from_bytes(&name));
        fs::write(&path, &evil)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        chown(&path, Some(ground.site.alice.uid), None)?;
        let mut command = ground.site.elevon(&ground.site.alice, &["run", "--"])?;
        let ran = elevon_e2e::program::run(command.arg(&path), b"")?.expect(126);
        let control =
            |character: char| character.is_control() && character != '\n' || character == '\u{202e}';
        ensure!(!ran.err.contains(control), "{:?}", ran.err);
        ensure!(!ran.err.lines().any(|line| line.starts_with("elevon: granted")), "{:?}", ran.err);
        fs::remove_file(path)?;
    }
    let expected = vec![("launch.refused", "not_listed"); count];
    ground.recorded(&expected)?;
    Ok(format!("{count} names, no control character on the terminal"))
}
