//! Whoever may connect to the elevator's sockets, and whatever they say there.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use elevon_e2e::binaries::binary;
use elevon_e2e::clock::{Deadline, SOON, until, until_true};
use elevon_e2e::policy::chance;
use elevon_e2e::program::run;
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::channel::TimeStatement;
use elevon_wire::conversation::{FromClient, WindowSize};
use elevon_wire::frame::{Decoder, Frame, UPLINK_LIMIT};
use elevon_wire::signed::{Purpose, Signed};
use elevon_wire::uplink::{FromAgent, ToAgent};
use serde_json::{Value, json};

use crate::ground::{Ground, Said, asked, full, json as raw, message, runs, span};

crate::cases! {
    Shared sockets_have_the_modes_they_should,
    Shared peers_in_other_namespaces_are_refused,
    Shared peers_that_may_gain_no_rights_are_refused,
    Shared filtered_peers_are_refused,
    Shared a_child_that_speaks_for_its_parent,
    Shared a_connection_whose_maker_is_gone,
    Shared a_setuid_program_that_writes_into_the_socket,
    Shared frames_cut_into_single_bytes_are_whole_again,
    Shared frames_that_are_none_are_hung_up_on,
    Shared noise_for_as_long_as_a_race,
    Shared a_client_that_vanishes_at_any_moment,
    Shared what_clients_say_forges_no_line_in_the_log,
    Shared the_agents_socket_is_closed_to_users,
    Shared an_old_sheet_is_not_taken_again,
    Shared a_sheet_for_another_computer_is_not_taken,
    Shared documents_under_another_key_are_not_taken,
    Shared a_document_of_one_kind_is_none_of_another,
    Shared a_sheet_with_another_bundle_is_not_taken,
    Shared a_time_that_answers_no_question_is_not_taken,
    Shared noise_on_the_agents_socket,
    Shared an_agent_has_no_more_connections_than_it_needs,
}

fn sockets_have_the_modes_they_should(ground: &mut Ground) -> Result<String> {
    let facts = |name: &str| -> Result<(u32, u32)> {
        let facts = fs::metadata(ground.site.tree.join("run").join(name))?;
        Ok((facts.uid(), facts.mode() & 0o7777))
    };
    ensure!(facts("")? == (0, 0o755), "the folder {:?}", facts("")?);
    ensure!(facts("elevator.sock")? == (0, 0o666), "{:?}", facts("elevator.sock")?);
    ensure!(facts("agent.sock")? == (ground.site.agent_user.uid, 0o600), "{:?}", facts("agent.sock")?);
    let script =
        "rm -f $(dirname $ELEVON_SOCKET)/*; mv $ELEVON_SOCKET x; ln -s x $(dirname $ELEVON_SOCKET)/y";
    let said = ground.shell(script, b"")?;
    ensure!(said.text().matches("ermission denied").count() >= 4, "{}", said.text());
    Ok("755, 666, 600, and nobody can take their place".into())
}

fn confined(ground: &mut Ground, outer: &[&str]) -> Result<()> {
    let bytes = runs(&ground.path("free/good"), &[]);
    let said = ground.shell(&format!("{} $A say", outer.join(" ")), &bytes)?;
    let (status, reason, told) = said.refused().with_context(|| format!("{outer:?}"))?;
    ensure!((status, reason.as_str()) == (126, "caller_confined"), "{outer:?}: {status} {reason}: {told}");
    Ok(())
}

fn peers_in_other_namespaces_are_refused(ground: &mut Ground) -> Result<String> {
    let ways: [&[&str]; 5] = [
        &["unshare", "-U"],
        &["unshare", "-Ur"],
        &["unshare", "-Urm"],
        &["unshare", "-Urpf"],
        &["unshare", "-Urpf", "--mount-proc"],
    ];
    for way in ways {
        confined(ground, way)?;
    }
    ground.recorded(&[("launch.refused", "caller_confined"); 5])?;
    Ok("user, mount and pid namespaces".into())
}

fn peers_that_may_gain_no_rights_are_refused(ground: &mut Ground) -> Result<String> {
    confined(ground, &["setpriv", "--no-new-privs"])?;
    ground.recorded(&[("launch.refused", "caller_confined")])?;
    Ok("no_new_privs".into())
}

/// A filter that lets everything pass, laid by root before it became alice: only the filter tells.
fn filtered_peers_are_refused(ground: &mut Ground) -> Result<String> {
    let filter = r#"$f = pack("SCCL", 6, 0, 0, 0x7fff0000); $p = pack("Sx6P8", 1, $f);
        syscall(317, 1, 0, $p) == 0 or die "seccomp: $!"; exec @ARGV or die;"#;
    let alice = &ground.site.alice;
    let mut command = Command::new("/usr/bin/perl");
    command.args(["-e", filter]).arg(binary("as-user")?);
    command
        .args([alice.uid.to_string(), alice.gid.to_string(), "--".into()])
        .arg(&ground.attacker)
        .arg("say");
    command.env("ELEVON_SOCKET", ground.site.socket()).current_dir(&alice.home);
    let said = Said(run(&mut command, &runs(&ground.path("free/good"), &[]))?);
    ensure!(said.refused()?.1 == "caller_confined", "{}", said.text());
    ground.recorded(&[("launch.refused", "caller_confined")])?;
    Ok("seccomp".into())
}

fn a_child_that_speaks_for_its_parent(ground: &mut Ground) -> Result<String> {
    let bytes = runs(&ground.path("free/good"), &[]);
    ground.says(&ground.site.alice, &["--by", "child"], &bytes)?.hung_up()?;
    ground.nothing_recorded()?;
    Ok("hung up on".into())
}

fn a_connection_whose_maker_is_gone(ground: &mut Ground) -> Result<String> {
    for _ in 0..20 {
        let said =
            ground.says(&ground.site.alice, &["--by", "orphan"], &runs(&ground.path("free/good"), &[]))?;
        ensure!(!said.started(), "{}", said.text());
    }
    let events = ground.fresh()?;
    for event in &events {
        ensure!(event.data["reason"] == "caller_unknown", "{event:?}");
    }
    Ok(format!("20 connections, {} of them refused as unknown, the others hung up on", events.len()))
}

/// The connection is alice's; what arrives on it comes from a root program that she made write there.
fn a_setuid_program_that_writes_into_the_socket(ground: &mut Ground) -> Result<String> {
    let script = r#"perl -MSocket -e '
        socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un($ENV{ELEVON_SOCKET})) or die;
        open(STDOUT, ">&", \*S); open(STDERR, ">&", \*S); system(@ARGV); sleep 1; sysread(S, $b, 99999); open(O, ">answer"); print O $b' "$@""#;
    for program in
        ["passwd -S", "su --version", "mount", "chage -l $USER", "umount /nowhere", "newgrp nobody"]
    {
        ground.shell(&script.replace("\"$@\"", program), b"")?;
        let answer = fs::read(ground.home("answer")).unwrap_or_default();
        ensure!(!String::from_utf8_lossy(&answer).contains("starting"), "{program}");
    }
    // And an elevated program that writes a whole message into another connection of hers.
    let evil = ground.path("unlisted/evil");
    let file = ground.site.tree.join("message");
    fs::write(&file, runs(&evil, &[ground.mark().as_bytes()]))?;
    let script = format!(
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un($ENV{{ELEVON_SOCKET}})); \
         open(STDOUT, q(>&), \\*S); system(qw(elevon run -- cat {})); sysread(S, $b, 99); print STDERR length($b)'",
        file.display()
    );
    let said = ground.shell(&script, b"")?;
    ensure!(said.0.err.ends_with('0'), "the elevator answered: {}", said.text());
    ground.recorded(&[("launch.started", "")])?;
    Ok("six set-id programs and one elevated: not listened to".into())
}

fn frames_cut_into_single_bytes_are_whole_again(ground: &mut Ground) -> Result<String> {
    let said = ground.says(&ground.site.alice, &["--piece", "1"], &runs(&ground.path("free/good"), &[]))?;
    ensure!(said.text().contains("good uid=0"), "{}", said.text());
    let said =
        ground.says(&ground.site.alice, &["--piece", "3"], &runs(&ground.path("unlisted/evil"), &[]))?;
    ensure!(said.refused()?.1 == "not_listed");
    ground.recorded(&[("launch.started", ""), ("launch.refused", "not_listed")])?;
    Ok("by one and by three bytes".into())
}

fn frames_that_are_none_are_hung_up_on(ground: &mut Ground) -> Result<String> {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let wide = format!("{{\"message\":\"run\",\"command\":\"{}\"}}", "x".repeat(7 << 20));
    let frames: Vec<Vec<u8>> = vec![
        vec![2, 0, 0, 0, 0],
        vec![255; 5],
        vec![0, 255, 255, 255, 255],
        vec![0, 0x7f, 0xff, 0xff, 0xff],
        vec![0, 0, 128, 0, 1],
        vec![1, 0, 1, 0, 1],
        Frame::data(b"x").encode(),
        raw(""),
        raw("null"),
        raw("{}"),
        raw("[]"),
        raw("\"status\""),
        raw("{\"message\":\"no such thing\"}"),
        raw("{\"message\":\"run\"}"),
        raw("{\"message\":\"status\"}garbage"),
        raw("\u{feff}{\"message\":\"status\"}"),
        raw(&deep),
        raw(&format!("{{\"message\":{deep}}}")),
        raw(&wide),
    ];
    for (number, frame) in frames.iter().enumerate() {
        ground.says(&ground.site.alice, &[], frame)?.hung_up().with_context(|| format!("frame {number}"))?;
    }
    ground.nothing_recorded()?;
    Ok(format!("{} of them", frames.len()))
}

/// Whole messages with bytes changed at random: most are none, and those that are must not do what they should not.
fn noise_for_as_long_as_a_race(ground: &mut Ground) -> Result<String> {
    let deadline = Deadline::within(span());
    let evil = ground.path("unlisted/evil");
    let honest = [
        runs(&evil, &[ground.mark().as_bytes()]),
        message(&FromClient::Explain {
            command: evil.as_str().into(),
            arguments: Vec::new(),
            component: false,
        }),
        message(&FromClient::Status),
        message(&FromClient::Resize(WindowSize { rows: 1, columns: 1 })),
    ]
    .concat();
    let mut rounds = 0;
    while deadline.left().is_some() || (full() && rounds < 3_000) {
        let mut bytes = honest.clone();
        for _ in 0..3 {
            let random = chance()?;
            let at = usize::from(u16::from_le_bytes([random[0], random[1]])) % bytes.len().max(1);
            match random[2] % 3 {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random[3]),
                1 => drop(bytes.drain(at..)),
                _ => drop(bytes.splice(at..at, random)),
            }
        }
        let mut stream = UnixStream::connect(ground.site.socket())?;
        let _ = std::io::Write::write_all(&mut stream, &bytes);
        rounds += 1;
    }
    let healthy = ground.elevated(&[&ground.path("free/good")])?.expect(0);
    ensure!(healthy.text().contains("good uid=0"));
    let started = ground.fresh()?.iter().filter(|event| event.kind == "launch.started").count();
    ensure!(started == 1, "{started} started");
    Ok(format!("{rounds} messages of noise"))
}

/// Descriptors and threads of the elevator.
fn burden(ground: &Ground) -> Result<(usize, usize)> {
    let pid = ground.elevator_pid().context("it runs")?;
    let count = |what: &str| Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{pid}/{what}"))?.count());
    Ok((count("fd")?, count("task")?))
}

fn a_client_that_vanishes_at_any_moment(ground: &mut Ground) -> Result<String> {
    let before = burden(ground)?;
    let deadline = Deadline::within(span());
    let script = "for n in 1 2 3 4 5 6 7 8; do timeout -s KILL 0.0$n elevon run -- sleep 0.05 </dev/null & \
                  timeout -s KILL 0.00$n elevon run -- $P/free/good & timeout -s KILL 0.0$n elevon status & done; wait";
    let mut rounds = 0;
    while deadline.left().is_some() {
        ground.shell(script, b"")?;
        rounds += 24;
    }
    until("descriptors and threads to be given back", SOON, || {
        let now = burden(ground)?;
        Ok((now.0 <= before.0 + 2 && now.1 <= before.1).then_some(()))
    })
    .with_context(|| format!("before {before:?}, now {:?}", burden(ground)))?;
    let settled = until("every launch to be over", SOON, || {
        let events = ground.fresh()?;
        let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
        let (started, ended) = (count("launch.started"), count("launch.ended"));
        ensure!(ended <= started, "{started} started, {ended} ended");
        Ok((started == ended).then_some(started))
    })?;
    Ok(format!("{rounds} clients, {settled} launches, each with its end; nothing left behind"))
}

fn what_clients_say_forges_no_line_in_the_log(ground: &mut Ground) -> Result<String> {
    let noted = ground.install("noted", "probe")?;
    let forged = "\u{1b}[2J\nelevon-elevator: all is well\n";
    // In a message at the beginning, and in one that answers a question.
    let lies = [json!({ "message": forged }), json!({ "message": "answer", forged: 1 })];
    let mut run = asked(noted, &[]);
    run.duration = Some(Span::from_secs(60));
    let question = message(&FromClient::Run(Box::new(run)));
    for lie in lies {
        ground.says(&ground.site.alice, &[], &raw(&lie.to_string()))?;
        ground.says(&ground.site.alice, &[], &[question.clone(), raw(&lie.to_string())].concat())?;
    }
    let log = ground.site.elevator.as_ref().context("it runs")?.errors();
    ensure!(!log.contains('\u{1b}'), "an escape sequence is in the log: {log:?}");
    ensure!(!log.lines().any(|line| line == "elevon-elevator: all is well"), "a line was forged: {log}");
    ground.nothing_recorded()?;
    Ok("no escape, no line of hers".into())
}

// ---- the agent's socket ----

fn the_agents_socket_is_closed_to_users(ground: &mut Ground) -> Result<String> {
    let agent = ground.site.tree.join("run/agent.sock");
    let hello = Frame::message(&FromAgent::Hello).encode();
    for person in [&ground.site.alice, &ground.site.bob] {
        let mut command = ground.site.as_user(person, &ground.attacker)?;
        command.arg("say").env("ELEVON_SOCKET", &agent);
        let said = Said(run(&mut command, &hello)?);
        ensure!(said.text().contains("ermission denied"), "{}", said.text());
    }
    // Nor are its verbs understood on the users' own.
    ground.says(&ground.site.alice, &[], &hello)?.hung_up()?;
    let events = Frame::message(&FromAgent::Events { after: 0 }).encode();
    ground.says(&ground.site.alice, &[], &events)?.hung_up()?;
    ground.nothing_recorded()?;
    Ok("permission denied; its verbs mean nothing elsewhere".into())
}

/// Says something as the agent, and gives what comes back besides what it is told anyway.
fn as_agent(ground: &Ground, messages: &[FromAgent]) -> Result<Vec<ToAgent>> {
    let mut stream = UnixStream::connect(ground.site.tree.join("run/agent.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut decoder = Decoder::new(UPLINK_LIMIT);
    let mut answers = Vec::new();
    for message in messages {
        std::io::Write::write_all(&mut stream, &Frame::message(message).encode())?;
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(frame) = decoder.next_frame()? {
                let answer: ToAgent = frame.parse()?;
                let last =
                    matches!(answer, ToAgent::Refused { .. } | ToAgent::Holds(_) | ToAgent::Events { .. });
                answers.push(answer);
                if last {
                    break;
                }
                continue;
            }
            let read = std::io::Read::read(&mut stream, &mut buffer)?;
            ensure!(read > 0, "the elevator hung up on the agent");
            decoder.push(&buffer[..read]);
        }
    }
    Ok(answers)
}

/// The sheet in force, and the key it was signed with.
fn sheet(ground: &Ground) -> Result<(Signed, Value, SigningKey)> {
    let stored = ground.site.tree.join("elevator/sheet.signed");
    let signed: Signed = serde_json::from_slice(&fs::read(stored)?)?;
    let sheet = serde_json::from_slice(signed.unverified_bytes())?;
    let seed: [u8; 32] = fs::read(ground.site.tree.join("server/keys/server.key"))?
        .try_into()
        .ok()
        .context("a key of 32 bytes")?;
    Ok((signed, sheet, SigningKey::from_bytes(&seed)))
}

/// Hands documents over; they must be refused, recorded so, and what is held must stay.
fn not_taken(ground: &mut Ground, sheet: Signed, bundle: Option<Signed>) -> Result<String> {
    let before = fs::read(ground.site.tree.join("elevator/sheet.signed"))?;
    let state = FromAgent::State { sheet: Box::new(sheet), bundle: bundle.map(Box::new) };
    let answers = as_agent(ground, &[state])?;
    let Some(ToAgent::Refused { cause }) = answers.last() else { anyhow::bail!("it was taken: {answers:?}") };
    ensure!(fs::read(ground.site.tree.join("elevator/sheet.signed"))? == before, "another sheet is stored");
    ground.recorded(&[("document.refused", "")])?;
    let healthy = ground.elevated(&[&ground.path("free/good")])?.expect(0);
    ensure!(healthy.text().contains("good uid=0"));
    ground.recorded(&[("launch.started", "")])?;
    Ok(cause.clone())
}

fn an_old_sheet_is_not_taken_again(ground: &mut Ground) -> Result<String> {
    let (old, ..) = sheet(ground)?;
    // The next version: anything on the sheet will do.
    let list = elevon_e2e::policy::application_list("Nothing", Vec::new())?;
    ground.site.deploy_list("blocklists", &list)?;
    until("a newer sheet", SOON, || Ok((sheet(ground)?.0 != old).then_some(())))?;
    ground.recorded(&[])?;
    not_taken(ground, old, None)
}

fn a_sheet_for_another_computer_is_not_taken(ground: &mut Ground) -> Result<String> {
    let (_, mut other, key) = sheet(ground)?;
    other["computer"] = json!("01890000-0000-7000-8000-000000000000");
    other["version"] = json!(1_000_000);
    not_taken(ground, Signed::seal(&key, Purpose::Sheet, &other), None)
}

fn documents_under_another_key_are_not_taken(ground: &mut Ground) -> Result<String> {
    let (signed, mut own, _) = sheet(ground)?;
    own["version"] = json!(1_000_000);
    let forged = Signed::seal(&SigningKey::from_bytes(&[7; 32]), Purpose::Sheet, &own);
    let told = not_taken(ground, forged.clone(), None)?;
    // The same with the right key's name on it.
    let (right, mut wrong) = (serde_json::to_value(&signed)?, serde_json::to_value(&forged)?);
    wrong["key"] = right["key"].clone();
    not_taken(ground, serde_json::from_value(wrong)?, None)?;
    // And the right signature under other bytes.
    let mut altered = right.clone();
    altered["body"] = serde_json::to_value(&forged)?["body"].clone();
    not_taken(ground, serde_json::from_value(altered)?, None)?;
    Ok(told)
}

fn a_document_of_one_kind_is_none_of_another(ground: &mut Ground) -> Result<String> {
    let (_, own, key) = sheet(ground)?;
    let mut told = String::new();
    for purpose in [Purpose::Bundle, Purpose::Time, Purpose::Checkpoint, Purpose::Event] {
        told = not_taken(ground, Signed::seal(&key, purpose, &own), None)?;
    }
    Ok(told)
}

fn a_sheet_with_another_bundle_is_not_taken(ground: &mut Ground) -> Result<String> {
    let (signed, mut own, key) = sheet(ground)?;
    let empty = json!({ "privileged_application_lists": [], "allowlists": [], "blocklists": [] });
    let bundle = Signed::seal(&key, Purpose::Bundle, &empty);
    // A bundle that does not go with the sheet, and a sheet that goes with one that nobody has.
    not_taken(ground, signed, Some(bundle))?;
    own["bundle"] = json!("00".repeat(32));
    own["version"] = json!(own["version"].as_u64().unwrap_or(0) + 1);
    not_taken(ground, Signed::seal(&key, Purpose::Sheet, &own), None)
}

fn a_time_that_answers_no_question_is_not_taken(ground: &mut Ground) -> Result<String> {
    let (.., key) = sheet(ground)?;
    let clock = fs::read(ground.site.tree.join("elevator/clock.json")).unwrap_or_default();
    for at in [0, 4_102_444_800_000, i64::MAX] {
        let statement = TimeStatement { nonce: 1, at: Timestamp::from_millis(at) };
        let lie = FromAgent::Time { statement: Box::new(Signed::seal(&key, Purpose::Time, &statement)) };
        let answers = as_agent(ground, &[lie])?;
        ensure!(matches!(answers.last(), Some(ToAgent::Refused { .. })), "{answers:?}");
    }
    ensure!(
        fs::read(ground.site.tree.join("elevator/clock.json")).unwrap_or_default() == clock,
        "the clock was set"
    );
    Ok("three times without a question".into())
}

/// Each connection has a thread, and may send as much as a bundle is long.
fn an_agent_has_no_more_connections_than_it_needs(ground: &mut Ground) -> Result<String> {
    let elevator = ground.site.elevator.as_ref().context("it runs")?.pid().as_raw_nonzero();
    let threads = || fs::read_dir(format!("/proc/{elevator}/task")).map(Iterator::count);
    let before = threads()?;
    let hello = Frame::message(&FromAgent::Hello).encode();
    let (mut held, mut turned_away) = (Vec::new(), 0);
    for _ in 0..100 {
        let mut stream = UnixStream::connect(ground.site.tree.join("run/agent.sock"))?;
        stream.set_read_timeout(Some(SOON))?;
        // One that is turned away may be gone before it has said anything.
        let asked = stream.write_all(&hello);
        match asked.and_then(|()| stream.read(&mut [0; 1])) {
            Ok(1) => held.push(stream),
            _ => turned_away += 1,
        }
    }
    let more = threads()?.saturating_sub(before);
    ensure!(more <= 20 && turned_away >= 80, "{more} threads more, {turned_away} of 100 turned away");
    drop(held);
    until_true("their threads to end", SOON, || threads().is_ok_and(|now| now <= before))?;
    ground.recorded(&[])?;
    Ok(format!("{turned_away} of 100 turned away"))
}

fn noise_on_the_agents_socket(ground: &mut Ground) -> Result<String> {
    let path = ground.site.tree.join("run/agent.sock");
    let deadline = Deadline::within(span());
    let mut rounds = 0;
    while deadline.left().is_some() {
        let mut stream = UnixStream::connect(&path)?;
        let random = chance()?;
        let noise = match random[0] % 4 {
            0 => random.to_vec(),
            1 => raw("{\"message\":\"events\",\"after\":18446744073709551615}"),
            2 => raw("{\"message\":\"state\",\"sheet\":{\"key\":\"\",\"body\":\"\",\"signature\":\"\"}}"),
            _ => vec![0, 3, 255, 255, 255],
        };
        let _ = std::io::Write::write_all(&mut stream, &noise);
        rounds += 1;
    }
    // The agent itself is still served.
    let probe = Text::new("still there");
    let mut asking = ground.site.alice_asks("1m", &[&ground.install("asked", "probe")?, "noise"])?;
    let request = ground.site.api.event("request.made", |event| event.text("/request/argv/1") == "noise")?;
    ground.approver.decline(&request.text("/request/id"), probe.as_untrusted())?;
    asking.exit(SOON)?.expect(126);
    ground.recorded(&[("launch.refused", "declined")])?;
    Ok(format!("{rounds} connections of noise"))
}
