//! What goes through an elevated program's standard streams, and how it says how it ended.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use elevon_e2e::clock::{SOON, Stopwatch};
use elevon_e2e::program::run;
use elevon_e2e::terminal::Terminal;

use crate::scene::{Scene, measured};

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

/// 1 GiB of binary data goes in and comes out the same, byte for byte and in order; neither side keeps it.
#[test]
fn a_gigabyte_goes_through_unchanged() -> Result<()> {
    const BLOCKS: u64 = 1 << 10;
    let scene = Scene::set()?;
    let pattern = pattern()?;
    let sent = pattern.clone();
    let mut command = scene.site.elevon(&scene.site.alice, &["run", "--", "cat"])?;
    let began = Stopwatch::start();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("a pipe")?;
    let mut output = child.stdout.take().context("a pipe")?;
    let writer = thread::spawn(move || -> Result<()> {
        (0..BLOCKS).try_for_each(|number| Ok(input.write_all(&block(&sent, number))?))
    });
    let mut came = vec![0; 1 << 20];
    for number in 0..BLOCKS {
        output.read_exact(&mut came)?;
        assert!(came == block(&pattern, number), "MiB {number} came out changed");
    }
    assert_eq!(output.read(&mut came)?, 0, "more came out than went in");
    writer.join().expect("the writer does not panic")?;
    assert_eq!(child.wait()?.code(), Some(0));
    measured("1 GiB through an elevated cat", i64::try_from(began.elapsed().as_millis())?);
    Ok(())
}

/// 1 MiB of random bytes.
fn pattern() -> Result<Vec<u8>> {
    let mut pattern = vec![0; 1 << 20];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut pattern)?;
    Ok(pattern)
}

/// One MiB of the stream: the pattern, turned by the block's number, which also stands in front: no two are alike.
fn block(pattern: &[u8], number: u64) -> Vec<u8> {
    let mut block = pattern.to_vec();
    block.rotate_left(usize::try_from(number).unwrap_or(0) * 997);
    block[..8].copy_from_slice(&number.to_le_bytes());
    block
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
