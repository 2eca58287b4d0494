//! Using what was granted without being the one who sits there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use elevon_e2e::clock::{SOON, Stopwatch, until_true};
use elevon_e2e::process::kill;
use elevon_e2e::program::run;
use elevon_e2e::terminal::Terminal;
use elevon_wire::frame::Frame;

use crate::ground::{Ground, Said, runs};
use crate::pam::with_service;

crate::cases! {
    Shared the_right_password_starts_what_was_granted,
    Shared once_a_grant_is_asked_once_a_grant,
    Shared a_wrong_password_starts_nothing,
    Shared a_wrong_password_does_not_use_a_grant_up,
    Shared without_a_terminal_nobody_is_there,
    Shared a_password_is_not_seen_and_the_terminal_is_as_before,
    Shared a_password_is_written_down_nowhere,
    Shared a_client_that_dies_at_the_prompt_starts_nothing,
    Shared odd_passwords_are_wrong_passwords,
    Shared an_answer_before_the_question_counts_for_nothing,
    Shared another_process_cannot_answer_the_prompt,
    Shared another_users_password_is_a_wrong_one,
    Shared a_service_that_asks_nothing_proves_nothing,
    Shared modules_that_misbehave_prove_nothing,
    Shared what_modules_put_into_the_environment_stays_there,
    Alone guessing_ends_soon,
}

const RIGHT: &str = "correct Horse 4711";
const WRONG: &str = "guessed Donkey 1147";

/// A client in a terminal of alice's, asked for her password.
fn asked(ground: &Ground, command: &[&str]) -> Result<Terminal> {
    ground.site.alice.set_password(RIGHT)?;
    let mut elevon = ground.site.in_terminal(&ground.site.alice, &ground.site.client())?;
    elevon.args(["run", "--"]).args(command);
    let mut terminal = Terminal::open(&mut elevon)?;
    terminal.expect("assword:")?;
    Ok(terminal)
}

fn good(ground: &Ground, folder: &str) -> Result<String> {
    ground.install(folder, "probe")
}

fn the_right_password_starts_what_was_granted(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    for _ in 0..2 {
        let mut terminal = asked(ground, &[&good])?;
        terminal.send(&format!("{RIGHT}\n"))?;
        terminal.expect("uid")?;
        ensure!(terminal.exit(SOON)? == 0, "{}", terminal.transcript());
        ground.recorded(&[("launch.started", "")])?;
    }
    let mut mistyped = asked(ground, &[&good])?;
    mistyped.send(&format!("{WRONG}\n"))?;
    mistyped.expect("assword:")?;
    mistyped.send(&format!("{RIGHT}\n"))?;
    mistyped.expect("uid")?;
    ensure!(mistyped.exit(SOON)? == 0, "{}", mistyped.transcript());
    ground.recorded(&[("launch.started", "")])?;
    Ok("asked each time, and once more after a slip".into())
}

fn once_a_grant_is_asked_once_a_grant(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown-once")?;
    let mut terminal = asked(ground, &[&good])?;
    terminal.send(&format!("{RIGHT}\n"))?;
    ensure!(terminal.exit(SOON)? == 0, "{}", terminal.transcript());
    // Also without a terminal, now; and after the elevator came back.
    ground.elevated(&[&good])?.expect(0);
    ground.forget_guesses()?;
    ground.elevated(&[&good])?.expect(0);
    ground.recorded(&[("launch.started", ""), ("launch.started", ""), ("launch.started", "")])?;
    Ok("asked at the first of three launches".into())
}

fn refused_after(ground: &mut Ground, mut terminal: Terminal, told: &str, reason: &str) -> Result<String> {
    let code = terminal.exit(Duration::from_secs(40))?;
    let transcript = terminal.transcript();
    ensure!(code == 126 && transcript.contains(told), "{code}: {transcript}");
    ground.recorded(&[("launch.refused", reason)])?;
    Ok(transcript.lines().last().unwrap_or_default().trim().to_owned())
}

fn wrong_thrice(terminal: &mut Terminal) -> Result<()> {
    for round in 0..3 {
        terminal.send(&format!("{WRONG}{round}\n"))?;
        if round < 2 {
            terminal.expect("assword:")?;
        }
    }
    Ok(())
}

fn a_wrong_password_starts_nothing(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    let mut terminal = asked(ground, &[&good])?;
    wrong_thrice(&mut terminal)?;
    refused_after(ground, terminal, "was wrong 3 times", "password_wrong")
}

fn a_wrong_password_does_not_use_a_grant_up(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown-and-asked")?;
    ground.site.alice.set_password(RIGHT)?;
    let mut elevon = ground.site.in_terminal(&ground.site.alice, &ground.site.client())?;
    elevon.args(["run", "--for", "5m", "--justification", "because of the test", "--", &good]);
    let mut terminal = Terminal::open(&mut elevon)?;
    let request = ground.site.api.pending(&good)?;
    ground.approver.approve(&request, None, "")?;
    terminal.expect("assword:")?;
    terminal.send(&format!("{WRONG}\n"))?;
    terminal.expect("assword:")?;
    terminal.send("\u{3}")?;
    ensure!(terminal.exit(SOON)? == 130, "{}", terminal.transcript());
    ground.recorded(&[("launch.refused", "password_wrong")])?;
    let mut again = asked(ground, &[&good])?;
    again.send(&format!("{RIGHT}\n"))?;
    ensure!(again.exit(SOON)? == 0, "{}", again.transcript());
    ground.recorded(&[("launch.started", "")])?;
    Ok("given once, for one launch, and still there after a wrong password".into())
}

fn without_a_terminal_nobody_is_there(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    // A session without a terminal: /dev/tty leads nowhere.
    let mut command = ground.site.as_user(&ground.site.alice, Path::new("/usr/bin/setsid"))?;
    command.arg("--wait").arg(ground.site.client()).args(["run", "--", &good]);
    let ran =
        run(&mut command, format!("{RIGHT}\n").as_bytes())?.expect(125).says("no terminal to type it at");
    ensure!(ran.out.is_empty(), "{}", ran.text());
    ground.recorded(&[("launch.refused", "not_confirmed")])?;
    Ok(ran.err.lines().last().unwrap_or_default().to_owned())
}

fn a_password_is_not_seen_and_the_terminal_is_as_before(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    for ends in ["\u{3}", "\u{4}", "\u{1c}"] {
        let mut terminal = asked(ground, &[&good])?;
        until_true("the terminal not to echo", SOON, || {
            terminal.modes().is_ok_and(|modes| !modes.are_sane())
        })?;
        terminal.send(RIGHT)?;
        terminal.send(if ends == "\u{4}" { "\u{15}\u{4}" } else { ends })?;
        terminal.exit(SOON)?;
        ensure!(terminal.modes()?.are_sane(), "after {ends:?} the terminal stays as it was made");
        ensure!(!terminal.transcript().contains("Horse"), "{}", terminal.transcript());
        ground.recorded(&[("launch.refused", "not_confirmed")])?;
    }
    Ok("no echo, and ^C, ^D and ^\\ leave the terminal as it was".into())
}

fn a_password_is_written_down_nowhere(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    let mut terminal = asked(ground, &[&good])?;
    terminal.send(&format!("{WRONG}\n"))?;
    terminal.expect("assword:")?;
    terminal.send(&format!("{RIGHT}\n"))?;
    terminal.exit(SOON)?;
    ground.recorded(&[("launch.started", "")])?;
    ground.site.api.event("launch.ended", |_| true)?;
    // State, journal, logs, database.
    let mut grep = Command::new("grep");
    grep.args([
        "--recursive",
        "--binary-files=text",
        "--files-with-matches",
        "-e",
        "Horse 4711",
        "-e",
        "Donkey 1147",
    ]);
    let found = run(grep.arg(&ground.site.tree), b"")?;
    ensure!(found.code() == 1, "the passwords stand in {}", found.text());
    let events = format!("{:?}", ground.site.api.events()?);
    ensure!(!events.contains("Horse") && !events.contains("Donkey"), "the events tell of a password");
    // Memory of what is still there: the elevator and the helper never had it.
    let elevator = ground.elevator_pid().context("it runs")?;
    for pid in std::iter::once(elevator).chain(elevon_e2e::process::children(elevator)) {
        ensure!(!memory_has(pid, b"Horse 4711")?, "process {pid} still has it");
    }
    Ok("no file, no event, no memory".into())
}

fn memory_has(pid: i32, words: &[u8]) -> Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut piece = vec![0; usize::try_from(to - from)?];
        if memory.seek(SeekFrom::Start(from)).is_ok() && memory.read_exact(&mut piece).is_ok() {
            // Only what is kept on purpose; freed pages of pipes and stacks come and go.
            if piece.windows(words.len()).any(|window| window == words) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn a_client_that_dies_at_the_prompt_starts_nothing(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    let mut terminal = asked(ground, &[&good])?;
    kill(terminal.pid().as_raw_nonzero().get());
    terminal.exit(SOON)?;
    ground.recorded(&[("launch.refused", "not_confirmed")])?;
    Ok("refused, not_confirmed".into())
}

/// The attacker asks to run this, and answers each prompt with these bytes.
fn answers(ground: &mut Ground, option: &str, command: &str, bytes: &[u8]) -> Result<Said> {
    ground.site.alice.set_password(RIGHT)?;
    let file = ground.hers("answer", bytes)?;
    ground.says(&ground.site.alice, &[option, &file], &runs(command, &[]))
}

fn odd_passwords_are_wrong_passwords(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    let cut = format!("{RIGHT}\0and more");
    let line = format!("{RIGHT}\n");
    let long = vec![b'x'; 64 << 10];
    let padded = [RIGHT.as_bytes(), &[b' '; 600]].concat();
    for odd in [cut.as_bytes(), line.as_bytes(), &long, &padded] {
        let said = answers(ground, "--answer", &good, &Frame::data(odd).encode())?;
        ensure!(!said.started() && said.refused()?.1 == "password_wrong", "{}", said.text());
        ground.recorded(&[("launch.refused", "password_wrong")])?;
        ground.forget_guesses()?;
    }
    // What is no answer at all: an endless frame, another kind, half of one.
    let endless = [1, 0x7f, 0xff, 0xff, 0xff];
    for bytes in [&endless[..], &[7, 0, 0, 0, 1, 1], &[1, 0, 0, 0, 9, b'x']] {
        let said = answers(ground, "--answer", &good, bytes)?;
        ensure!(!said.started(), "{}", said.text());
        ground.recorded(&[("launch.refused", "not_confirmed")])?;
    }
    Ok("NUL, newline, 64 KiB, too long: wrong; frames that are none: nobody there".into())
}

fn an_answer_before_the_question_counts_for_nothing(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    ground.site.alice.set_password(RIGHT)?;
    let early = [runs(&good, &[]), Frame::data(RIGHT.as_bytes()).encode()].concat();
    let said = ground.says(&ground.site.alice, &["--linger"], &early);
    // It never answers when it is asked; its patience ends before ours.
    said?;
    ground.recorded(&[("launch.refused", "not_confirmed")])?;
    Ok("only what is said after the question is an answer".into())
}

fn another_process_cannot_answer_the_prompt(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    let said = answers(ground, "--answer-by-another", &good, &Frame::data(RIGHT.as_bytes()).encode())?;
    ensure!(!said.started(), "{}", said.text());
    ground.recorded(&[("launch.refused", "not_confirmed")])?;
    let said = answers(ground, "--answer", &good, &Frame::data(RIGHT.as_bytes()).encode())?;
    ensure!(said.started(), "{}", said.text());
    ground.recorded(&[("launch.started", "")])?;
    Ok("the right password, from another process: nobody there".into())
}

fn another_users_password_is_a_wrong_one(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    ground.site.bob.set_password("it is bob Himself 99")?;
    let mut terminal = asked(ground, &[&good])?;
    terminal.send("it is bob Himself 99\n")?;
    terminal.expect("assword:")?;
    terminal.send("\u{3}")?;
    terminal.exit(SOON)?;
    ground.recorded(&[("launch.refused", "password_wrong")])?;
    Ok("refused, password_wrong".into())
}

/// What a service with this auth stage makes of the right password.
fn proves_nothing(ground: &mut Ground, stage: &str, told: &str, reason: &str) -> Result<String> {
    let good = good(ground, "shown")?;
    with_service(ground, &format!("{stage}account required pam_unix.so\n"), |ground| {
        let said = answers(ground, "--answer", &good, &Frame::data(RIGHT.as_bytes()).encode())?;
        let refused = said.refused()?;
        ensure!(!said.started() && refused.1 == reason && refused.2.contains(told), "{}", said.text());
        ground.recorded(&[("launch.refused", reason)])?;
        Ok(refused.2)
    })
    .with_context(|| stage.to_owned())
}

fn a_service_that_asks_nothing_proves_nothing(ground: &mut Ground) -> Result<String> {
    proves_nothing(ground, "auth required pam_deny.so\n", "does not admit", "account_refused")?;
    proves_nothing(ground, "", "does not admit", "account_refused")?;
    proves_nothing(ground, "auth required pam_permit.so\n", "without an answer", "pam_failed")
}

fn modules_that_misbehave_prove_nothing(ground: &mut Ground) -> Result<String> {
    let module = crate::pam::hostile(ground)?;
    let module = module.display();
    let then = "auth required pam_unix.so\n";
    for (way, told, reason) in [
        ("user=root", "changed whom it is about", "pam_failed"),
        ("crash", "ended without an answer", "pam_failed"),
        ("exit", "ended without an answer", "pam_failed"),
    ] {
        proves_nothing(ground, &format!("auth required {module} {way}\n{then}"), told, reason)?;
    }
    // Asked without end, the user's answers come to nothing.
    let good = good(ground, "shown")?;
    for way in ["ask-for-ever", "flood", "many"] {
        let service = format!("auth required {module} {way}\n{then}account required pam_unix.so\n");
        with_service(ground, &service, |ground| {
            let said = answers(ground, "--answer", &good, &Frame::data(RIGHT.as_bytes()).encode())?;
            ensure!(!said.started() && said.messages().len() < 50, "{}", said.text());
            let reason = said.refused()?.1;
            ensure!(["password_wrong", "not_confirmed", "pam_failed"].contains(&reason.as_str()), "{reason}");
            ground.recorded(&[("launch.refused", &reason)])
        })
        .context(way)?;
    }
    ground.forget_guesses()?;
    Ok("changed users, crashes, ends, endless questions".into())
}

fn what_modules_put_into_the_environment_stays_there(ground: &mut Ground) -> Result<String> {
    let probe = good(ground, "shown")?;
    let variables = ground.site.programs.join("pam_env.conf");
    fs::write(&variables, "LD_PRELOAD DEFAULT=/tmp/evil.so\nPATH OVERRIDE=/tmp\n")?;
    let service = format!(
        "auth required pam_env.so readenv=0 conffile={}\nauth required pam_unix.so\naccount required pam_unix.so\n",
        variables.display()
    );
    with_service(ground, &service, |ground| {
        let said = answers(ground, "--answer", &probe, &Frame::data(RIGHT.as_bytes()).encode())?;
        ensure!(said.started(), "{}", said.text());
        ensure!(!said.text().contains("LD_PRELOAD") && !said.text().contains("PATH=/tmp"), "{}", said.text());
        ground.recorded(&[("launch.started", "")])
    })?;
    Ok("pam_env's variables reach nothing".into())
}

fn guessing_ends_soon(ground: &mut Ground) -> Result<String> {
    let good = good(ground, "shown")?;
    let wrong = Frame::data(WRONG.as_bytes()).encode();
    let watch = Stopwatch::start();
    for _ in 0..2 {
        let said = answers(ground, "--answer", &good, &wrong)?;
        ensure!(said.refused()?.1 == "password_wrong", "{}", said.text());
        ground.recorded(&[("launch.refused", "password_wrong")])?;
    }
    // Who gives up before the third has guessed all the same.
    for _ in 0..2 {
        let mut terminal = asked(ground, &[&good])?;
        for guess in 0..2 {
            terminal.send(&format!("{WRONG}{guess}\n"))?;
            terminal.expect("assword:")?;
        }
        kill(terminal.pid().as_raw_nonzero().get());
        terminal.exit(SOON)?;
        ground.recorded(&[("launch.refused", "password_wrong")])?;
    }
    let slow = watch.elapsed();
    ensure!(slow > Duration::from_secs(9), "ten guesses took {slow:?} only");
    let said = answers(ground, "--answer", &good, &Frame::data(RIGHT.as_bytes()).encode())?;
    ensure!(said.refused()?.1 == "too_many" && !said.text().contains("\"prompt\""), "{}", said.text());
    ground.recorded(&[("launch.refused", "too_many")])?;
    // Whoever is not asked for a password is not concerned.
    ground.elevated(&[&ground.path("free/good")])?.expect(0);
    ground.recorded(&[("launch.started", "")])?;
    Ok(format!("ten guesses in {:.0} s, four of them given up, then none", slow.as_secs_f64()))
}
