//! Getting something to run that nobody granted, or with more than was granted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, until};
use elevon_e2e::program::run;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;
use elevon_wire::conversation::{FromClient, Run, Wait, WindowSize};
use serde_json::{Value, json};

use crate::ground::{Ground, Said, asked, json as raw, message, runs};

crate::cases! {
    Shared nothing_runs_without_a_list_that_has_it,
    Shared a_client_that_skips_all_checks_gains_nothing,
    Shared forged_fields_are_no_message,
    Shared messages_out_of_turn_are_refused,
    Shared two_runs_on_one_connection_start_one,
    Shared another_users_grants_and_requests_stay_theirs,
    Shared spellings_of_a_path_all_lead_to_the_same_no,
    Shared a_link_gives_no_other_name_to_a_program,
    Shared arguments_arrive_as_they_are_or_not_at_all,
    Alone exact_arguments_cover_no_others,
    Shared odd_commands_are_refused,
    Shared odd_users_are_strangers,
    Shared supplementary_groups_open_nothing,
    Shared fifty_descriptors_stay_outside,
    Shared closed_standard_descriptors_are_no_confusion,
    Shared odd_descriptors_harm_nobody,
    Shared missing_and_extra_descriptors_start_nothing,
    Shared a_folder_the_caller_may_not_enter_is_no_working_directory,
    Shared a_working_directory_that_is_none_starts_nothing,
    Shared a_deleted_working_directory_is_only_that,
    Shared fifty_at_once_start_a_grant_for_once_once,
    Shared fifty_at_once_under_grants_of_their_own_all_start,
    Shared umask_limits_and_personality_stay_outside,
    Shared an_elevated_program_cannot_elevate_further,
    Shared the_log_in_goes_along,
    Shared the_same_user_cannot_touch_what_runs,
    Shared durations_that_are_none_are_refused,
}

fn nothing_runs_without_a_list_that_has_it(ground: &mut Ground) -> Result<String> {
    let evil = ground.path("unlisted/evil");
    let ran = ground.elevated(&[&evil, &ground.mark()])?.expect(126);
    ensure!(ran.out.is_empty(), "it printed {}", ran.text());
    ground.recorded(&[("launch.refused", "not_listed")])?;
    Ok("refused, not_listed".into())
}

fn a_client_that_skips_all_checks_gains_nothing(ground: &mut Ground) -> Result<String> {
    let mut run = asked(ground.path("unlisted/evil"), &[ground.mark().as_bytes()]);
    run.duration = Some(Span::from_hours(1000));
    run.justification = Some(Text::new("let me"));
    run.window = Some(WindowSize { rows: u16::MAX, columns: 0 });
    run.umask = u32::MAX;
    let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run))))?;
    ensure!(said.refused()?.1 == "not_listed", "{}", said.text());
    ground.recorded(&[("launch.refused", "not_listed")])?;
    Ok("refused, not_listed".into())
}

/// Nothing in the protocol says who asks, what the file's digest is or under which grant: whoever writes such fields is not
/// understood at all.
fn forged_fields_are_no_message(ground: &mut Ground) -> Result<String> {
    let honest = message(&FromClient::Run(Box::new(asked(ground.path("unlisted/evil"), &[]))));
    let honest: Value = serde_json::from_slice(&honest[5..])?;
    let forged = [
        ("uid", json!(0)),
        ("user", json!({"uid": 0, "name": "root"})),
        ("grant", json!("01890000-0000-7000-8000-000000000000")),
        ("sha256", json!("00".repeat(32))),
        ("runs_as", json!("everybody")),
        ("bounds", json!({})),
        ("path", json!("/usr/bin/true")),
        ("policy", json!(null)),
    ];
    for (field, value) in &forged {
        let mut lie = honest.clone();
        lie[field] = value.clone();
        ground.says(&ground.site.alice, &[], &raw(&lie.to_string()))?.hung_up().context(*field)?;
    }
    // A field twice, the second of which could be what counts.
    let twice = honest.to_string().replacen("\"command\"", "\"command\":\"/usr/bin/true\",\"command\"", 1);
    ground.says(&ground.site.alice, &[], &raw(&twice))?.hung_up()?;
    ground.nothing_recorded()?;
    Ok(format!("{} forged messages, each hung up on", forged.len() + 1))
}

fn messages_out_of_turn_are_refused(ground: &mut Ground) -> Result<String> {
    let window = WindowSize { rows: 1, columns: 1 };
    let early = [
        FromClient::Answer { duration: Span::from_secs(1), justification: Text::new("x") },
        FromClient::Resize(window),
        FromClient::Signal { number: 9 },
        FromClient::Continue,
    ];
    for early in &early {
        let said = ground.says(&ground.site.alice, &[], &message(early))?;
        ensure!(said.refused()?.0 == 125, "{}", said.text());
    }
    ground.nothing_recorded()?;
    Ok("125 to each".into())
}

fn two_runs_on_one_connection_start_one(ground: &mut Ground) -> Result<String> {
    let good = runs(&ground.path("free/good"), &[]);
    let evil = runs(&ground.path("unlisted/evil"), &[ground.mark().as_bytes()]);
    let said = ground.says(&ground.site.alice, &[], &[good, evil].concat())?;
    ensure!(said.started() && said.text().contains("good uid=0"), "{}", said.text());
    ground.recorded(&[("launch.started", "")])?;
    Ok("the first ran, the second was not listened to".into())
}

fn another_users_grants_and_requests_stay_theirs(ground: &mut Ground) -> Result<String> {
    let probe = ground.install("asked", "probe")?;
    let mut waiting = ground.site.alice_asks("30m", &[&probe])?;
    let request = ground.site.api.pending("probe")?;
    for verb in [
        FromClient::Cancel { request: request.parse()? },
        FromClient::End { grant: request.parse()? },
        FromClient::End { grant: "01890000-0000-7000-8000-000000000000".parse()? },
    ] {
        let said = ground.says(&ground.site.bob, &[], &message(&verb))?;
        ensure!(said.refused()?.0 == 125, "{}", said.text());
    }
    ground.approver.approve(&request, None, "")?;
    waiting.exit(SOON)?.expect(0);
    let approved = ground.site.api.event("request.approved", |event| event.text("/request") == request)?;
    let grant = approved.text("/grant/id");
    let theft = message(&FromClient::End { grant: grant.parse()? });
    ensure!(ground.says(&ground.site.bob, &[], &theft)?.refused()?.0 == 125, "bob ended alice's grant");
    let status = ground.says(&ground.site.bob, &[], &message(&FromClient::Status))?;
    ensure!(!status.text().contains(&grant), "bob sees alice's grant: {}", status.text());
    // Neither does it help bob to run.
    let mut run = asked(probe, &[]);
    (run.duration, run.justification) =
        (Some(Span::from_secs(60)), Some(Text::new("because the test says so")));
    let said = ground.says(&ground.site.bob, &[], &message(&FromClient::Run(Box::new(run))))?;
    ensure!(!said.started(), "bob ran under alice's grant");
    ground.recorded(&[("launch.started", "")])?;
    Ok("125 to each verb, a request of his own for the run".into())
}

fn spellings_of_a_path_all_lead_to_the_same_no(ground: &mut Ground) -> Result<String> {
    let (free, top) = (ground.path("free"), ground.path(""));
    let link = ground.home("free");
    symlink(ground.path("unlisted"), &link)?;
    let home = ground.site.alice.home.to_string_lossy().into_owned();
    let spellings = [
        format!("{free}/../unlisted/evil"),
        format!("{free}/./../unlisted//evil"),
        format!("{free}//..//unlisted/./evil"),
        format!("{top}unlisted/../free/../unlisted/evil"),
        format!("/proc/self/root{top}unlisted/evil"),
        format!("{home}/free/evil"),
        "free/evil".into(),
        "./free/../unlisted/evil".into(),
        format!("../../../../../../../../{top}/unlisted/evil"),
    ];
    let mut expected = Vec::new();
    for spelling in &spellings {
        let said = ground.says(&ground.site.alice, &[], &runs(spelling, &[ground.mark().as_bytes()]))?;
        let (status, reason, _) = said.refused().context(spelling.clone())?;
        ensure!(status == 126, "{spelling}: {}", said.text());
        expected
            .push(("launch.refused", if reason == "not_listed" { "not_listed" } else { "not_executable" }));
    }
    ground.recorded(&expected)?;
    fs::remove_file(link)?;
    Ok(format!("{} spellings refused", spellings.len()))
}

/// A program that acts by its own name (busybox, git) must not be given one by its caller.
fn a_link_gives_no_other_name_to_a_program(ground: &mut Ground) -> Result<String> {
    let probe = ground.path("free/probe");
    for name in ["rm", "-i", "sh"] {
        let link = ground.home(name);
        symlink(&probe, &link)?;
        let ran = ground.elevated(&[&format!("./{name}")])?.expect(0);
        let seen: Value = serde_json::from_slice(&ran.out)?;
        ensure!(seen["argv"] == json!([probe]), "its name was {}", seen["argv"]);
        fs::remove_file(link)?;
    }
    ground.recorded(&[("launch.started", ""); 3])?;
    Ok("argv[0] is the trusted path".into())
}

fn arguments_arrive_as_they_are_or_not_at_all(ground: &mut Ground) -> Result<String> {
    let probe = ground.path("free/probe");
    let arguments: [&[u8]; 6] = [b"", b"-", b"a\nb", b"\xff\xfe", b"$(id)`id`;id", b"--hold=\\x00"];
    let said = ground.says(&ground.site.alice, &[], &runs(&probe, &arguments))?;
    let text = said.text();
    let seen = text.lines().find(|line| line.starts_with('{')).with_context(|| text.clone())?;
    let seen: Value = serde_json::from_str(seen)?;
    let expected: Vec<String> = std::iter::once(probe.as_bytes())
        .chain(arguments)
        .map(|argument| OsText::new(argument).escaped())
        .collect();
    ensure!(seen["argv"] == json!(expected), "{}", seen["argv"]);
    ground.recorded(&[("launch.started", "")])?;
    let evil: [&[u8]; 2] = [b"harmless\0--evil", b"x"];
    for bytes in [runs(&probe, &evil), runs(&format!("{probe}\0"), &[]), runs("\0", &[])] {
        let said = ground.says(&ground.site.alice, &[], &bytes)?;
        ensure!(said.refused()?.1 == "not_executable", "{}", said.text());
    }
    ground.recorded(&[("launch.refused", "not_executable"); 3])?;
    Ok("six odd ones verbatim, NUL refused".into())
}

fn exact_arguments_cover_no_others(ground: &mut Ground) -> Result<String> {
    let probe = ground.install("asked", "probe")?;
    let mut waiting = ground.site.alice_asks("30m", &[&probe, "one", "two three"])?;
    let request = ground.site.api.event("request.made", |event| event.text("/request/argv/1") == "one")?;
    ground.approver.approve(&request.text("/request/id"), None, "")?;
    waiting.exit(SOON)?.expect(0);
    let others: [&[&[u8]]; 6] = [
        &[],
        &[b"one"],
        &[b"one", b"two", b"three"],
        &[b"one two three"],
        &[b"one", b"two three", b"--hold"],
        &[b"one", b"two three", b""],
    ];
    for other in others {
        let mut run = asked(probe.clone(), other);
        run.duration = Some(Span::from_secs(60));
        run.justification = Some(Text::new("a little more"));
        let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run))))?;
        ensure!(!said.started(), "{other:?} ran");
    }
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("{} other vectors did not start", others.len()))
}

fn odd_commands_are_refused(ground: &mut Ground) -> Result<String> {
    let fifo = ground.home("fifo");
    elevon_e2e::program::must(Command::new("mkfifo").arg(&fifo), b"")?;
    let long = format!("/{}", "x/".repeat(5_000));
    let not_found =
        ["", ".", "..", "nothing-of-this-name", "no\nname", &"x".repeat(300), &long, "..x", "-x", "~root"];
    for command in not_found {
        let said = ground.says(&ground.site.alice, &[], &runs(command, &[]))?;
        ensure!(said.refused()?.0 == 127, "{command:.40}: {}", said.text());
    }
    let unfit = ["/", "./", "..//", "/dev/null", "/etc/passwd", "./fifo", "/dev/fd/0", "/proc/version"];
    for command in unfit {
        let said = ground.says(&ground.site.alice, &[], &runs(command, &[]))?;
        ensure!(said.refused()?.1 == "not_executable", "{command}: {}", said.text());
    }
    ground.recorded(&[("launch.refused", "not_executable"); 8])?;
    fs::remove_file(fifo)?;
    Ok("10 not found, 8 not executable, nobody waits for a FIFO".into())
}

fn odd_users_are_strangers(ground: &mut Ground) -> Result<String> {
    let uids = ["4000000000", "2147483648", "4294967294", "987654"];
    for uid in uids {
        let mut command = Command::new(elevon_e2e::binaries::binary("as-user")?);
        command.args([uid, uid, "--"]).arg(&ground.attacker).arg("say");
        command.env("ELEVON_SOCKET", ground.site.socket()).current_dir("/");
        let said = Said(run(&mut command, &runs(&ground.path("free/good"), &[]))?);
        ensure!(said.refused()?.1 == "caller_unknown", "{uid}: {}", said.text());
    }
    let expected = vec![("launch.refused", "caller_unknown"); uids.len()];
    ground.recorded(&expected)?;
    // Root is a user like any other, for whom nothing is deployed.
    let mut root = Command::new(&ground.attacker);
    root.arg("say").env("ELEVON_SOCKET", ground.site.socket()).current_dir("/");
    let said = Said(run(&mut root, &runs(&ground.path("free/good"), &[]))?);
    ensure!(said.refused()?.1 == "not_listed", "{}", said.text());
    ground.recorded(&[("launch.refused", "not_listed")])?;
    Ok(format!("{} uids without a name, and root: refused", uids.len()))
}

fn supplementary_groups_open_nothing(ground: &mut Ground) -> Result<String> {
    let alice = &ground.site.alice;
    let mut command = Command::new(elevon_e2e::binaries::binary("as-user")?);
    command.args([alice.uid.to_string(), format!("{},0,42,4", alice.gid), "--".into()]);
    command.arg(&ground.attacker).arg("say");
    command.env("ELEVON_SOCKET", ground.site.socket()).current_dir(&alice.home);
    let said = Said(run(&mut command, &runs(&ground.path("free/probe"), &[]))?);
    let text = said.text();
    let seen: Value =
        serde_json::from_str(text.lines().find(|line| line.starts_with('{')).context(text.clone())?)?;
    ensure!(seen["groups"] == json!([0]) && seen["gid"] == json!([0, 0]), "{seen}");
    ground.recorded(&[("launch.started", "")])?;
    Ok("the program has root's own group and no other".into())
}

fn fifty_descriptors_stay_outside(ground: &mut Ground) -> Result<String> {
    let script =
        "for n in $(seq 10 59); do eval \"exec $n</etc/passwd\"; done; exec elevon run -- $P/free/probe";
    let mut command = ground.site.as_user(&ground.site.alice, Path::new("/bin/bash"))?;
    command.args(["-c", script]).env("P", &ground.site.programs);
    let ran = run(&mut command, b"")?.expect(0);
    let seen: Value = serde_json::from_slice(&ran.out)?;
    let held: Vec<&String> = seen["descriptors"].as_object().context("descriptors")?.keys().collect();
    ensure!(held == ["0", "1", "2"], "{held:?}");
    ground.recorded(&[("launch.started", "")])?;
    Ok("only 0, 1 and 2 arrived".into())
}

fn closed_standard_descriptors_are_no_confusion(ground: &mut Ground) -> Result<String> {
    let out = ground.home("out");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let script = format!("elevon run -- /bin/sh -c 'ls -l /proc/self/fd' {closed}");
        let said = ground.shell(&script, b"")?;
        ensure!(!said.text().contains("socket:"), "a socket became a standard descriptor: {}", said.text());
    }
    let _ = fs::remove_file(out);
    Ok("no socket, pipe or file of the elevator's took their place".into())
}

fn odd_descriptors_harm_nobody(ground: &mut Ground) -> Result<String> {
    let secret = ground.site.tree.join("secret");
    fs::write(&secret, "a secret of root\n")?;
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600))?;
    let path = format!("cwd,path:{},out,err", secret.display());
    for fds in ["cwd,self,self,self", "cwd,epoll,epoll,epoll", "cwd,pipe,out,err", "cwd,file:/etc,out,err"] {
        let said = ground.says(&ground.site.alice, &["--fds", fds], &runs(&ground.path("free/good"), &[]))?;
        ensure!(!said.text().contains("silent"), "{fds}: {}", said.text());
    }
    // A file that alice may name and not read, as standard input of a program that reads it by its name.
    let said = ground.says(&ground.site.alice, &["--fds", &path], &runs("cat", &[b"/dev/stdin"]))?;
    ensure!(!said.text().contains("a secret of root"), "a path became a right to read: {}", said.text());
    fs::remove_file(secret)?;
    let healthy = ground.elevated(&[&ground.path("free/good")])?.expect(0);
    ensure!(healthy.text().contains("good uid=0"));
    Ok("no descriptor gave more than it was".into())
}

fn missing_and_extra_descriptors_start_nothing(ground: &mut Ground) -> Result<String> {
    let nine = ["null"; 9].join(",");
    for fds in ["", "cwd", "cwd,null,out", "cwd,null,out,err,null", &nine] {
        let said = ground.says(&ground.site.alice, &["--fds", fds], &runs(&ground.path("free/good"), &[]))?;
        ensure!(said.refused()?.0 == 125, "{fds}: {}", said.text());
    }
    let ten = ["null"; 10].join(",");
    ground.says(&ground.site.alice, &["--fds", &ten], &runs(&ground.path("free/good"), &[]))?.hung_up()?;
    let sixty = ["null"; 60].join(",");
    ground.says(&ground.site.alice, &["--fds", &sixty], &runs(&ground.path("free/good"), &[]))?.hung_up()?;
    ground.nothing_recorded()?;
    Ok("0, 1, 3, 5 and 9 refused, 10 and 60 hung up on".into())
}

/// A path descriptor of a folder can be had without the right to enter it.
fn a_folder_the_caller_may_not_enter_is_no_working_directory(ground: &mut Ground) -> Result<String> {
    let closed = ground.site.tree.join("closed");
    fs::create_dir_all(&closed)?;
    fs::write(closed.join("secret"), "a secret of root\n")?;
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700))?;
    let fds = format!("path:{},null,out,err", closed.display());
    for (command, argument) in [("cat", "secret"), ("./secret", ""), ("ls", ".")] {
        let said =
            ground.says(&ground.site.alice, &["--fds", &fds], &runs(command, &[argument.as_bytes()]))?;
        ensure!(!said.text().contains("secret of root"), "{command} read it: {}", said.text());
        ensure!(!said.started(), "{command} started in a folder of root's: {}", said.text());
    }
    ground.recorded(&[("launch.refused", "not_executable"); 3])?;
    Ok("refused".into())
}

fn a_working_directory_that_is_none_starts_nothing(ground: &mut Ground) -> Result<String> {
    for kind in ["null", "pipe", "self", "epoll", "file:/etc/passwd"] {
        let fds = format!("{kind},null,out,err");
        for command in [ground.path("free/good"), "good".into(), "./good".into()] {
            let said = ground.says(&ground.site.alice, &["--fds", &fds], &runs(&command, &[]))?;
            ensure!(!said.text().contains("good uid"), "{kind}: {}", said.text());
            ensure!(!said.text().contains("silent"), "{kind}: {}", said.text());
        }
    }
    Ok("a device, a pipe, a socket, an epoll and a file: nothing started".into())
}

fn a_deleted_working_directory_is_only_that(ground: &mut Ground) -> Result<String> {
    let said = ground.shell("mkdir gone && cd gone && rmdir ../gone && $A say", &runs("good", &[]))?;
    ensure!(!said.started(), "{}", said.text());
    let script = "mkdir gone && cd gone && rmdir ../gone && $A say";
    let said = ground.shell(script, &runs(&ground.path("free/good"), &[]))?;
    ensure!(!said.text().contains("silent"), "{}", said.text());
    Ok("relative commands are not found".into())
}

/// The same message from fifty processes at once; how many launches were started, and how many of the grants are distinct.
fn fifty_at_once(
    ground: &Ground,
    run: Run,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<(usize, usize)> {
    let file = ground.site.tree.join("message");
    fs::write(&file, message(&FromClient::Run(Box::new(run))))?;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644))?;
    let script = format!("for n in $(seq 50); do $A say <{} >/dev/null & done; wait", file.display());
    let mut all = ground.shell_command(&script)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let done = meanwhile();
    all.wait()?;
    done?;
    let started = ground.fresh()?.into_iter().filter(|event| event.kind == "launch.started");
    let grants: Vec<String> = started.map(|event| event.data["grant"].to_string()).collect();
    Ok((grants.len(), grants.iter().collect::<BTreeSet<_>>().len()))
}

fn fifty_at_once_start_a_grant_for_once_once(ground: &mut Ground) -> Result<String> {
    let mut run = asked(ground.install("once", "probe")?, &[b"fifty"]);
    run.duration = Some(Span::from_secs(600));
    run.justification = Some(Text::new("because the test says so"));
    run.wait = Wait::UntilDecided;
    let (approver, api) = (&mut ground.approver.clone(), ground.site.api.clone());
    let (started, _) = fifty_at_once(ground, run, || {
        let request = api.event("request.made", |event| event.text("/request/argv/1") == "fifty")?;
        approver.approve(&request.text("/request/id"), None, "once").map(drop)
    })?;
    ensure!(started == 1, "{started} started");
    Ok("one of fifty started".into())
}

/// Where policy gives each of them a grant of its own, none is lost to another.
fn fifty_at_once_under_grants_of_their_own_all_start(ground: &mut Ground) -> Result<String> {
    let mut run = asked(ground.install("once-noted", "probe")?, &[]);
    run.duration = Some(Span::from_secs(600));
    run.justification = Some(Text::new("because the test says so"));
    let (started, distinct) = fifty_at_once(ground, run, || Ok(()))?;
    ensure!(started == 50, "{started} started");
    ensure!(distinct == 50, "fifty launches under {distinct} grants");
    ground.recorded(&[("launch.started", ""); 50])?;
    Ok("fifty launches under fifty grants".into())
}

fn umask_limits_and_personality_stay_outside(ground: &mut Ground) -> Result<String> {
    let script = "umask 000; ulimit -n 20; ulimit -t 77; ulimit -v 4000000; ulimit -s 512; trap '' INT TERM; \
                  exec nice -n 5 setarch -R elevon run -- $P/free/probe";
    let mut command = ground.site.as_user(&ground.site.alice, Path::new("/bin/bash"))?;
    command.args(["-c", script]).env("P", &ground.site.programs);
    let seen: Value = serde_json::from_slice(&run(&mut command, b"")?.expect(0).out)?;
    ensure!(seen["status"]["Umask"] == "0022", "umask {}", seen["status"]["Umask"]);
    ensure!(seen["personality"] == "00000000", "personality {}", seen["personality"]);
    ensure!(seen["status"]["SigBlk"] == "0000000000000000", "{}", seen["status"]);
    for (limit, own) in [("Max open files", "20 "), ("Max cpu time", "77 "), ("Max stack size", "524288 ")] {
        let found = seen["limits"][limit].as_str().unwrap_or_default();
        ensure!(!found.starts_with(own), "{limit} is the caller's: {found}");
    }
    ground.recorded(&[("launch.started", "")])?;
    Ok("umask 022 at least, limits and personality the elevator's".into())
}

fn an_elevated_program_cannot_elevate_further(ground: &mut Ground) -> Result<String> {
    let (alice, socket) = (&ground.site.alice, ground.site.socket());
    let ids = format!("{} {}", alice.uid, alice.gid);
    let as_user = elevon_e2e::binaries::binary("as-user")?;
    let inner = format!("{} run -- {}", ground.site.client().display(), ground.path("free/good"));
    // A name that reads like the rest of a line of /proc: whoever takes it for that finds another parent.
    let name = ground.path("tools/a) S 1 1 (b");
    fs::copy(ground.site.client(), &name)?;
    let free = ground.path("free/good");
    let ways = [
        format!("ELEVON_SOCKET={} setsid -w '{name}' run -- {free}; :", socket.display()),
        format!("ELEVON_SOCKET={0} {1} {ids} -- {inner}; :", socket.display(), as_user.display()),
        format!("ELEVON_SOCKET={0} setsid -w {1} {ids} -- {inner}; :", socket.display(), as_user.display()),
        format!("ELEVON_SOCKET={} {inner}; :", socket.display()),
    ];
    let mut expected = Vec::new();
    for way in &ways {
        let ran = ground.elevated(&["/usr/bin/bash", "-c", way])?;
        ensure!(!ran.text().contains("good uid"), "{}", ran.text());
        ensure!(ran.err.contains("elevated itself"), "{}", ran.err);
        expected.extend([("launch.started", ""), ("launch.refused", "nested")]);
    }
    fs::remove_file(name)?;
    // Each is on record with the launch that it came from.
    let fresh = ground.fresh()?;
    let refused = fresh.iter().filter(|event| event.kind == "launch.refused");
    let started: BTreeSet<String> = fresh
        .iter()
        .filter(|event| event.kind == "launch.started")
        .map(|event| event.data["launch"].to_string())
        .collect();
    let origins: BTreeSet<String> = refused
        .inspect(|event| assert_eq!(event.data["origin"]["user"]["name"], ground.site.alice.name.as_str()))
        .map(|event| event.data["origin"]["launch"].to_string())
        .collect();
    ensure!(origins == started, "the refusals name {origins:?}, the launches are {started:?}");
    ground.recorded(&expected)?;
    Ok("nested, as alice and as root, whatever its name".into())
}

/// What the kernel's own audit says of a process names who logged in, also where that runs as root.
fn the_log_in_goes_along(ground: &mut Ground) -> Result<String> {
    let alice = ground.site.alice.uid;
    let show = ["run", "--", "/usr/bin/cat", "/proc/self/loginuid"];
    let logged_in = |login: &str| -> Result<String> {
        let client = ground.site.elevon(&ground.site.alice, &show)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $0 >/proc/self/loginuid && exec \"$@\"", login]);
        command.arg(client.get_program()).args(client.get_args()).env_clear().current_dir("/");
        command.envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ok(run(&mut command, b"")?.expect(0).text())
    };
    let seen = logged_in(&alice.to_string())?;
    ensure!(seen == alice.to_string(), "the program's log-in is {seen}");
    let without = ground.elevated(&show[2..])?.expect(0).text();
    let own = fs::read_to_string("/proc/self/loginuid")?;
    ensure!(without == own, "without a log-in it is {without}");
    let fresh = ground.fresh()?;
    let recorded: Vec<_> = fresh
        .iter()
        .filter(|event| event.kind == "launch.started")
        .map(|event| &event.data["login"])
        .collect();
    ensure!(recorded.first().is_some_and(|login| **login == alice), "recorded: {recorded:?}");
    ground.recorded(&[("launch.started", ""), ("launch.started", "")])?;
    Ok(format!("loginuid {seen}, and on record"))
}

fn the_same_user_cannot_touch_what_runs(ground: &mut Ground) -> Result<String> {
    let until_file = ground.home("go-on");
    let mut running =
        ground.left_running(&[&ground.path("free/probe"), "--hold", &until_file.to_string_lossy()])?;
    let (_, session) = ground.running()?;
    let program = until("its program", SOON, || Ok(elevon_e2e::process::children(session).first().copied()))?;
    for pid in [session, program] {
        let script = format!(
            "kill -STOP {pid}; kill -9 {pid}; cat /proc/{pid}/environ; ls /proc/{pid}/fd; cat /proc/{pid}/mem; \
             echo x >/proc/{pid}/mem; strace -p {pid} -o /dev/null & sleep 0.1; kill $!; $A steal {pid}"
        );
        let said = ground.shell(&script, b"")?;
        ensure!(elevon_e2e::process::lives(pid), "alice ended {pid}");
        ensure!(
            !said.text().contains("ELEVON_GRANT"),
            "alice read the environment of {pid}: {}",
            said.text()
        );
        ensure!(said.text().contains("kept out"), "alice took descriptors of {pid}: {}", said.text());
    }
    fs::write(&until_file, "")?;
    running.exit(SOON)?.expect(0);
    fs::remove_file(until_file)?;
    ground.recorded(&[("launch.started", "")])?;
    Ok("no signal, trace, memory or descriptor of session and program".into())
}

fn durations_that_are_none_are_refused(ground: &mut Ground) -> Result<String> {
    let noted = ground.install("noted", "probe")?;
    let mut run = asked(noted, &[]);
    run.justification = Some(Text::new("because the test says so"));
    for millis in [0, 1, 999, 1 << 53, u64::MAX] {
        run.duration = Some(Span::from_millis(millis));
        let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run.clone()))))?;
        ensure!(!said.started(), "{millis} ms started something: {}", said.text());
    }
    run.duration = Some(Span::from_secs(60));
    let honest: Value = serde_json::from_slice(&message(&FromClient::Run(Box::new(run)))[5..])?;
    for lie in [json!(-1), json!(1e300), json!("9223372036854775808"), json!(18446744073709551616.0)] {
        let mut lying = honest.clone();
        lying["duration"] = lie;
        ground.says(&ground.site.alice, &[], &raw(&lying.to_string()))?.hung_up()?;
    }
    ground.nothing_recorded()?;
    Ok("five out of bounds refused, four no numbers hung up on".into())
}
