//! What goes through an elevated program's standard streams, and how it says how it ended.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use elevon_e2e::clock::{SOON, Stopwatch};
use elevon_e2e::program::run;
use elevon_e2e::terminal::Terminal;
use sha2::{Digest, Sha256};

use crate::scene::Scene;

#[test]
fn a_program_s_own_status_comes_back() -> Result<()> {
    let scene = Scene::set()?;
    scene.elevated(&["sh", "-c", "exit 7"], b"")?.expect(7);
    scene.elevated(&["sh", "-c", "kill -9 $$"], b"")?.expect(137);
    scene.elevated(&["sh", "-c", "kill -TERM $$"], b"")?.expect(143);
    scene.elevated(&["true"], b"")?.expect(0);
    scene.elevated(&["no-such-command-here"], b"")?.expect(127).says("no-such-command-here");
    scene.elevated(&["/no/such/file"], b"")?.expect(127).says("/no/such/file");
    scene.elevated(&["/usr"], b"")?.expect(126).says("/usr");
    let text = scene.site.programs.join("free/text");
    scene.site.install("free", "good")?;
    std::fs::write(&text, "no program\n")?;
    scene.elevated(&[text.to_str().unwrap()], b"")?.expect(126);
    std::fs::set_permissions(&text, PermissionsExt::from_mode(0o755))?;
    scene.elevated(&[text.to_str().unwrap()], b"")?.expect(126);
    run(&mut scene.site.elevon(&scene.site.alice, &["run"])?, b"")?.expect(125);
    run(&mut scene.site.elevon(&scene.site.alice, &["run", "--nonsense", "true"])?, b"")?.expect(125);
    Ok(())
}

#[test]
fn output_and_errors_stay_apart() -> Result<()> {
    let scene = Scene::set()?;
    let ran = scene.elevated(&["sh", "-c", "cat; echo oops >&2"], b"what came in")?.expect(0);
    assert_eq!(ran.out, b"what came in");
    assert_eq!(ran.err, "oops\n");
    Ok(())
}

/// 1 GiB of bytes that do not repeat goes in and comes out the same; neither side keeps it.
#[test]
fn a_gigabyte_goes_through_unchanged() -> Result<()> {
    const LENGTH: u64 = 1 << 30;
    let scene = Scene::set()?;
    let mut command = scene.site.elevon(&scene.site.alice, &["run", "--", "cat"])?;
    let began = Stopwatch::start();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("a pipe")?;
    let mut output = child.stdout.take().context("a pipe")?;
    let writer = thread::spawn(move || -> Result<[u8; 32]> {
        let mut digest = Sha256::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = vec![0; 1 << 20];
        for _ in 0..LENGTH / (1 << 20) {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_ne_bytes());
            }
            digest.update(&block);
            input.write_all(&block)?;
        }
        Ok(digest.finalize().into())
    });
    let mut digest = Sha256::new();
    let mut length = 0;
    let mut block = vec![0; 1 << 20];
    loop {
        let read = output.read(&mut block)?;
        if read == 0 {
            break;
        }
        length += u64::try_from(read)?;
        digest.update(&block[..read]);
    }
    let sent = writer.join().expect("the writer does not panic")?;
    let came: [u8; 32] = digest.finalize().into();
    assert_eq!(child.wait()?.code(), Some(0));
    assert_eq!(length, LENGTH);
    assert_eq!(sent, came);
    eprintln!("measured: 1 GiB through an elevated cat: {:?}", began.elapsed());
    Ok(())
}

#[test]
fn a_pipe_can_go_in_where_a_terminal_shows_what_comes_out() -> Result<()> {
    let scene = Scene::set()?;
    let mut command = scene.site.in_terminal(&scene.site.alice, &scene.site.client())?;
    command.args([
        "run",
        "--",
        "sh",
        "-c",
        "cat; test -t 0 || echo in-is-a-pipe; test -t 1 && echo out-is-a-terminal",
    ]);
    let mut terminal = Terminal::open_with(&mut command, Some(Stdio::piped()), None)?;
    let mut input = terminal.input().context("a pipe")?;
    input.write_all(b"through the pipe\n")?;
    drop(input);
    terminal.expect("through the pipe")?;
    terminal.expect("in-is-a-pipe")?;
    terminal.expect("out-is-a-terminal")?;
    assert_eq!(terminal.exit(SOON)?, 0);
    assert!(terminal.modes()?.are_sane());
    Ok(())
}

#[test]
fn a_pipe_can_take_what_comes_out_where_a_person_types() -> Result<()> {
    let scene = Scene::set()?;
    let mut command = scene.site.in_terminal(&scene.site.alice, &scene.site.client())?;
    command.args(["run", "--", "sh", "-c", "read word; echo got $word; test -t 1 || echo out-is-a-pipe"]);
    let mut terminal = Terminal::open_with(&mut command, None, Some(Stdio::piped()))?;
    let mut output = terminal.output().context("a pipe")?;
    terminal.send("hello\n")?;
    let mut all = String::new();
    output.read_to_string(&mut all)?;
    assert_eq!(all, "got hello\nout-is-a-pipe\n");
    assert_eq!(terminal.exit(SOON)?, 0);
    Ok(())
}

#[test]
fn no_terminal_at_all_will_do() -> Result<()> {
    let scene = Scene::set()?;
    let mut command = Command::new("setsid");
    let inner =
        scene.site.elevon(&scene.site.alice, &["run", "--", "sh", "-c", "tty; test -t 1 || echo none"])?;
    command.arg("--wait").arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    run(command.current_dir(&scene.site.alice.home), b"")?.expect(0).prints("not a tty").prints("none");
    Ok(())
}

#[test]
fn closed_streams_stay_harmless() -> Result<()> {
    let scene = Scene::set()?;
    let probe = scene.site.install("free", "probe")?;
    let note = scene.site.tree.join("note");
    // The elevated program must never find something of Elevon's where its own streams should be.
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
        let script =
            format!("exec elevon run -- sh -c 'ls -l /proc/self/fd > {}; exit 3' {closed}", note.display());
        let mut command = scene.site.as_user(&scene.site.alice, std::path::Path::new("/bin/sh"))?;
        run(command.args(["-c", &script]), b"")?.expect(3);
        let seen = std::fs::read_to_string(&note)?;
        assert!(!seen.contains("socket:"), "with {closed}: {seen}");
        for descriptor in [" 0 ->", " 2 ->"] {
            assert!(
                seen.contains(descriptor),
                "with {closed} descriptor{descriptor} is closed inside: {seen}"
            );
        }
    }
    scene.elevated(&[probe.to_str().unwrap()], b"")?.expect(0);
    Ok(())
}
