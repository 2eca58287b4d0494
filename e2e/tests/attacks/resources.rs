//! Taking so much that others get nothing.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, Stopwatch, until};
use elevon_e2e::program::{Program, run};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;
use elevon_wire::conversation::FromClient;

use crate::ground::{Ground, asked, message, runs};

crate::cases! {
    Shared connections_that_say_nothing_leave_room_for_others,
    Alone descriptors_in_unfinished_messages_leave_room_for_others,
    Shared requests_beyond_measure_are_refused,
    Shared large_copies_at_once_take_little_memory,
    Alone arguments_beyond_measure_do_not_jam_the_record,
    Shared a_justification_beyond_measure_is_refused,
    Shared a_program_that_takes_everything_is_still_ended,
    Shared a_file_that_is_never_closed_holds_up_nobody_else,
}

fn served(ground: &Ground, person_is_bob: bool) -> Result<Duration> {
    let person = if person_is_bob { &ground.site.bob } else { &ground.site.alice };
    let watch = Stopwatch::start();
    let mut command = ground.site.as_user(person, "/usr/bin/timeout".as_ref())?;
    command.arg("15").arg(ground.site.client()).args(["run", "--"]).arg(ground.path("free/good"));
    let ran = run(&mut command, b"")?;
    ensure!(ran.text().contains("good uid=0"), "not served: {} {}", ran.code(), ran.err);
    Ok(watch.elapsed())
}

fn holding(ground: &Ground, connections: u32) -> Result<Program> {
    let mut command = ground.site.as_user(&ground.site.alice, &ground.attacker)?;
    command.args(["hold", &connections.to_string()]);
    let mut holder = Program::start("attacker", &mut command, &ground.site.tree.join("logs"))?;
    holder.line("holding", |line| (line == "holding").then_some(()))?;
    Ok(holder)
}

fn connections_that_say_nothing_leave_room_for_others(ground: &mut Ground) -> Result<String> {
    let mut holder = holding(ground, 400)?;
    let others = served(ground, true)?;
    let said = ground.says(&ground.site.alice, &[], &runs(&ground.path("free/good"), &[]))?;
    ensure!(said.refused()?.1 == "too_many", "{}", said.text());
    holder.kill()?;
    // Hers are free again once hers are gone.
    until("room for alice", SOON, || Ok(served(ground, false).ok()))?;
    Ok(format!("400 of alice's; bob was served in {} ms", others.as_millis()))
}

/// With the limit on descriptors that a service is given.
fn descriptors_in_unfinished_messages_leave_room_for_others(ground: &mut Ground) -> Result<String> {
    ground.site.elevator.take().context("it runs")?.stop()?;
    let mut command = ground.site.elevator_command_under(&["prlimit", "--nofile=1024:"], &["run"])?;
    ground.site.start_elevator_as(&mut command)?;
    let mut holder = holding(ground, 128)?;
    let others = served(ground, true)?;
    holder.kill()?;
    // What the elevator takes for itself is not what it gives to programs.
    let ran = ground.elevated(&["bash", "-c", "ulimit -n"]);
    ensure!(ran.is_ok());
    Ok(format!("128 × 8 descriptors of alice's; bob was served in {} ms", others.as_millis()))
}

fn requests_beyond_measure_are_refused(ground: &mut Ground) -> Result<String> {
    let probe = ground.install("asked", "probe")?;
    let mut refused = 0;
    for number in 0..25 {
        let mut run = asked(probe.clone(), &[format!("spam {number}").as_bytes()]);
        (run.duration, run.justification) =
            (Some(Span::from_secs(60)), Some(Text::new("because the test says so")));
        let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run))))?;
        refused += usize::from(said.refused()?.1 == "too_many");
    }
    ensure!((1..=25).contains(&refused), "{refused} were refused");
    let expected = vec![("launch.refused", "too_many"); refused];
    ground.recorded(&expected)?;
    for line in ground.says(&ground.site.alice, &[], &message(&FromClient::Status))?.messages() {
        for request in line["requests"].as_array().into_iter().flatten() {
            let id = request["request"].as_str().unwrap_or_default();
            let cancel = FromClient::Cancel { request: id.parse()? };
            ground.says(&ground.site.alice, &[], &message(&cancel))?;
        }
    }
    Ok(format!("{refused} of 25 refused, too_many"))
}

/// Sparse files cost their owner nothing; copies of them would cost the computer its memory.
fn large_copies_at_once_take_little_memory(ground: &mut Ground) -> Result<String> {
    let file = ground.hers("large", &fs::read(ground.path("free/good"))?)?;
    fs::File::options().write(true).open(&file)?.set_len(511 << 20)?;
    let bytes = message(&FromClient::Explain {
        command: file.as_str().into(),
        arguments: Vec::new(),
        component: false,
    });
    let path = ground.site.tree.join("message");
    fs::write(&path, bytes)?;
    let shared = || -> u64 {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Shmem:")).unwrap_or_default().to_owned();
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
    };
    let before = shared();
    let mut command =
        ground.shell_command(&format!("for n in $(seq 12); do $A say <{} & done; wait", path.display()))?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let (mut largest, mut waited) = (0, Duration::ZERO);
    until("all to be answered", Duration::from_secs(120), || {
        largest = largest.max(shared().saturating_sub(before));
        if waited == Duration::ZERO && largest > 400 << 10 {
            waited = served(ground, true)?;
        }
        Ok(child.try_wait()?)
    })?;
    fs::remove_file(file)?;
    ensure!(largest < 1_200 << 10, "twelve callers took {} MiB at once", largest >> 10);
    ensure!(waited < Duration::from_secs(8), "bob waited for {waited:?}");
    Ok(format!("{} MiB at most; bob was served in {} ms meanwhile", largest >> 10, waited.as_millis()))
}

/// An offline computer keeps what was tried, and it must all fit through the channel afterwards.
fn arguments_beyond_measure_do_not_jam_the_record(ground: &mut Ground) -> Result<String> {
    ground.site.agent.take().context("it runs")?.stop()?;
    // Characters that grow when they are written down, as many as a message holds.
    let argument = OsText::new("\u{200b}".repeat(2_600_000));
    let mut run = asked(ground.path("unlisted/evil"), &[]);
    run.arguments = vec![argument];
    let mut bytes = serde_json::to_string(&FromClient::Run(Box::new(run)))?;
    // As the client may write them: raw.
    bytes = bytes.replace(r"\\xe2\\x80\\x8b", "\u{200b}");
    let bytes = crate::ground::json(&bytes);
    ensure!(bytes.len() < 8 << 20, "{} bytes are no message", bytes.len());
    for _ in 0..10 {
        let said = ground.says(&ground.site.alice, &[], &bytes)?;
        ensure!(!said.started(), "{:.200}", said.text());
    }
    let size: u64 = fs::read_dir(ground.site.tree.join("elevator/journal"))?
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|facts| facts.len())
        .sum();
    ground.site.start_agent()?;
    ground.elevated(&[&ground.path("free/good"), "after the flood"])?.expect(0);
    let up = ground.site.api.event("launch.started", |event| event.text("/argv/1") == "after the flood");
    up.with_context(|| format!("nothing goes up any more; the journal has {} MiB", size >> 20))?;
    ensure!(size < 20 << 20, "ten refusals took {} MiB of disk", size >> 20);
    Ok(format!("ten refusals took {} KiB, and all went up", size >> 10))
}

fn a_justification_beyond_measure_is_refused(ground: &mut Ground) -> Result<String> {
    // Where policy wants none, and where it wants one.
    let noted = ground.install("noted", "good")?;
    for command in [ground.path("free/probe"), noted.replace("good", "probe")] {
        ground.install("noted", "probe")?;
        let mut run = asked(command, &[b"unlike any other"]);
        run.duration = Some(Span::from_secs(60));
        run.justification = Some(Text::new("because ".repeat(500_000)));
        let said = ground.says(&ground.site.alice, &[], &message(&FromClient::Run(Box::new(run))))?;
        let kept = fs::metadata(ground.site.tree.join("elevator/local.json")).map_or(0, |facts| facts.len());
        ensure!(kept < 1 << 20, "{} KiB were kept: {:.100}", kept >> 10, said.text());
    }
    Ok("not kept".into())
}

fn a_program_that_takes_everything_is_still_ended(ground: &mut Ground) -> Result<String> {
    let shell = ground.path("noted/bash");
    let script = "trap '' TERM HUP; for n in $(seq 40); do nice -n -20 bash -c 'while :; do :; done' & done; \
                  head -c 300000000 /dev/zero | tail & wait";
    let mut client = ground.site.alice_asks("3s", &[&shell, "-c", script])?;
    let (_, session) = ground.running()?;
    let watch = Stopwatch::start();
    elevon_e2e::process::gone(session, Duration::from_secs(20))?;
    let took = watch.elapsed();
    client.exit(SOON)?;
    ensure!(took < Duration::from_secs(6), "it took {took:?}");
    ground.recorded(&[("launch.started", ""), ("launch.ended", "expired")])?;
    Ok(format!("40 of it at the highest priority, gone after {:.1} s", took.as_secs_f64()))
}

/// Alice's standard input is a file of a file system of her own, which is told of its closing, and says nothing to that.
fn a_file_that_is_never_closed_holds_up_nobody_else(ground: &mut Ground) -> Result<String> {
    let held = ground.held_up(&ground.path("free/good"))?;
    let others = [served(ground, true)?, served(ground, false)?, served(ground, true)?];
    let said = ground.let_go(held)?;
    ensure!(
        said.text().contains("good uid=0"),
        "it is closed when nobody serves it: {} {}",
        said.text(),
        said.err
    );
    Ok(format!("{} others were served meanwhile", others.len()))
}
