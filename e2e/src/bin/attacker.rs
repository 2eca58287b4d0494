//! What a hostile user runs against the elevator's sockets: it skips the client, and says whatever it is given.
//!
//! ```text
//! attacker say [--fds KIND,…] [--piece BYTES] [--by child|orphan] [--then PROGRAM]
//!              [--more FILE] [--linger]     bytes on standard input; FILE once something starts
//! attacker repeat TIMES          bytes on standard input, each time on a connection of its own, to its end
//! attacker time ROUNDS FILE FILE  says what each file holds, by turns, each time on a connection of its own
//! attacker hold CONNECTIONS     connections with descriptors queued in each, and never a whole message
//! attacker steal PID            takes a process's sockets, and types into them
//! attacker serve DIRECTORY      mounts a file system of its own there, never answers for it, and holds its folder open
//! attacker unclosable FILE      mounts a file of its own there, and hands it over: whoever closes it waits for ever
//! attacker unreadable FILE UID  the same for a user, where this may mount: whoever reads it waits for ever
//! ```
//!
//! Prints a line for each message (`message {…}`), `data …` for a terminal's bytes, and `closed` or `silent` at the end;
//! `time` a line for each round: how many nanoseconds each answer took.
#![allow(clippy::unit_arg)]

use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use elevon_e2e::clock::Stopwatch;
use elevon_wire::frame::{Decoder, Frame, Kind, UPLINK_LIMIT};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::stdio::{stderr, stdin, stdout};

/// An answer that takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    match verb.as_str() {
        "say" => say(&Say::read(&words)?),
        "speak" => speak(&everything()?),
        "listen" => listen(stdin().try_clone_to_owned()?.into(), None, None),
        "connect" => hand_over(),
        "repeat" => repeat(words.first().context("how often")?.parse()?),
        "time" => time(&words),
        "hold" => hold(words.first().context("how many")?.parse()?),
        "steal" => steal(words.first().context("whose")?.parse()?),
        "serve" => serve(words.first().context("where")?),
        "unclosable" => unclosable(words.first().context("where")?),
        "unreadable" => match words.as_slice() {
            [file, uid] => answer_all_but(READ, &mounted(file, "100644", uid)?),
            _ => bail!("expected a file and a user"),
        },
        "open" => open(words.first().context("what")?),
        other => bail!("expected say, repeat, time, hold, steal or serve, not {other:?}"),
    }
}

struct Say {
    fds: Vec<String>,
    piece: usize,
    by: String,
    then: Option<String>,
    more: Option<PathBuf>,
    answer: Option<Answer>,
    linger: bool,
}

/// What is said to each prompt: these bytes, by this process or by another one.
#[derive(Clone)]
struct Answer {
    bytes: PathBuf,
    by_another: bool,
}

impl Say {
    fn read(words: &[String]) -> Result<Self> {
        let kinds = |list: &str| list.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
        let mut say = Self {
            fds: kinds("cwd,null,out,err"),
            piece: usize::MAX,
            by: String::new(),
            then: None,
            more: None,
            answer: None,
            linger: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().with_context(|| format!("a value behind {word}"));
            match word.as_str() {
                "--fds" => say.fds = kinds(&value()?),
                "--piece" => say.piece = value()?.parse()?,
                "--by" => say.by = value()?,
                "--then" => say.then = Some(value()?),
                "--more" => say.more = Some(value()?.into()),
                "--answer" => say.answer = Some(Answer { bytes: value()?.into(), by_another: false }),
                "--answer-by-another" => {
                    say.answer = Some(Answer { bytes: value()?.into(), by_another: true })
                }
                "--linger" => say.linger = true,
                other => bail!("{other} is no option"),
            }
        }
        Ok(say)
    }
}

fn socket() -> Result<UnixStream> {
    let path = PathBuf::from(std::env::var_os("ELEVON_SOCKET").context("ELEVON_SOCKET")?);
    UnixStream::connect(&path).with_context(|| format!("connect to {}", path.display()))
}

fn everything() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn say(say: &Say) -> Result<()> {
    let bytes = everything()?;
    let stream = if say.by == "orphan" { connected_by_another()? } else { socket()? };
    let fds = say.fds.iter().map(|kind| descriptor(kind, &stream)).collect::<Result<Vec<_>>>()?;
    let own = || -> Result<Command> { Ok(Command::new(std::env::current_exe()?)) };
    if say.by == "child" {
        // The whole message from another process than the one that connected.
        let mut child =
            own()?.arg("speak").stdin(Stdio::piped()).stdout(OwnedFd::from(stream.try_clone()?)).spawn()?;
        child.stdin.take().context("its input")?.write_all(&bytes)?;
        child.wait()?;
    } else {
        // Where the elevator hangs up in the middle, what it said before counts.
        let _ = send(&stream, &bytes, &fds, say.piece);
    }
    if let Some(program) = &say.then {
        own()?.arg("listen").stdin(OwnedFd::from(stream.try_clone()?)).spawn()?;
        let mut words = program.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        return Err(command.exec().into());
    }
    if say.linger {
        return Ok(std::thread::sleep(PATIENCE));
    }
    listen(stream, say.more.clone(), say.answer.as_ref())
}

fn repeat(times: u32) -> Result<()> {
    let bytes = everything()?;
    for _ in 0..times {
        let mut stream = socket()?;
        let fds = ["cwd", "null", "out", "err"].map(|kind| descriptor(kind, &stream));
        send(&stream, &bytes, &fds.into_iter().collect::<Result<Vec<_>>>()?, usize::MAX)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        std::io::copy(&mut stream, &mut std::io::sink())?;
    }
    Ok(())
}

/// Which of the two goes first changes with every round, so that whatever else the computer does falls on both.
fn time(words: &[String]) -> Result<()> {
    let [rounds, one, other] = words else { bail!("expected how often, and two files") };
    let (one, other) = (std::fs::read(one)?, std::fs::read(other)?);
    for round in 0..rounds.parse::<u32>()? {
        let (first, second) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let (first, second) = (answered(first)?, answered(second)?);
        let (one, other) = if round % 2 == 0 { (first, second) } else { (second, first) };
        println!("{} {}", one.as_nanos(), other.as_nanos());
    }
    Ok(())
}

/// How long an answer takes, from the question to the last byte.
fn answered(bytes: &[u8]) -> Result<Duration> {
    let mut stream = socket()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let fds = ["cwd", "null", "null", "null"].map(|kind| descriptor(kind, &stream));
    let fds = fds.into_iter().collect::<Result<Vec<_>>>()?;
    let watch = Stopwatch::start();
    send(&stream, bytes, &fds, usize::MAX)?;
    std::io::copy(&mut stream, &mut std::io::sink())?;
    Ok(watch.elapsed())
}

/// Bytes from standard input to the socket that is standard output.
fn speak(bytes: &[u8]) -> Result<()> {
    let fds = [descriptor("cwd", stdin())?, descriptor("null", stdin())?];
    let fds = [&fds[0], &fds[1], &fds[1], &fds[1]].map(|fd| fd.try_clone());
    let fds = fds.into_iter().collect::<std::io::Result<Vec<_>>>()?;
    send(stdout(), bytes, &fds, usize::MAX)
}

impl Answer {
    fn send(&self, stream: &UnixStream) -> Result<()> {
        let bytes = std::fs::read(&self.bytes)?;
        if !self.by_another {
            // Where the other side has heard enough, that is its answer.
            let _ = send(stream, &bytes, &[], usize::MAX);
            return Ok(());
        }
        let own = std::env::current_exe()?;
        let mut child = Command::new(own)
            .arg("speak")
            .stdin(Stdio::piped())
            .stdout(OwnedFd::from(stream.try_clone()?))
            .spawn()?;
        child.stdin.take().context("its input")?.write_all(&bytes)?;
        child.wait()?;
        Ok(())
    }
}

fn send(socket: impl AsFd, bytes: &[u8], fds: &[OwnedFd], piece: usize) -> Result<()> {
    let mut first = true;
    for piece in bytes.chunks(piece.max(1)) {
        let borrowed: Vec<BorrowedFd<'_>> =
            if first { fds.iter().map(AsFd::as_fd).collect() } else { Vec::new() };
        first = false;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        }
        let mut rest = piece;
        while !rest.is_empty() {
            let sent = sendmsg(&socket, &[IoSlice::new(rest)], &mut ancillary, SendFlags::NOSIGNAL)?;
            ancillary.clear();
            rest = &rest[sent..];
        }
    }
    Ok(())
}

fn listen(mut stream: UnixStream, mut more: Option<PathBuf>, answer: Option<&Answer>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut decoder = Decoder::new(UPLINK_LIMIT);
    let mut buffer = [0; 16 << 10];
    loop {
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame { kind: Kind::Message, payload } => {
                    let text = String::from_utf8_lossy(&payload);
                    eprintln!("message {text}");
                    if let (true, Some(answer)) = (text.contains("\"message\":\"prompt\""), answer) {
                        answer.send(&stream)?;
                    }
                    if text.contains("\"starting\"")
                        && let Some(more) = more.take()
                    {
                        let (bytes, stream) = (std::fs::read(more)?, stream.try_clone()?);
                        // Beside the listening, or both sides could wait for each other.
                        std::thread::spawn(move || send(&stream, &bytes, &[], usize::MAX));
                    }
                }
                Frame { payload, .. } => {
                    println!("data {}", String::from_utf8_lossy(&payload).escape_debug())
                }
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(println!("closed")),
            Ok(read) => decoder.push(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(println!("silent")),
            Err(error) => return Ok(println!("closed {error}")),
        }
    }
}

/// What a word stands for: `cwd`, `null`, `out`, `err`, `self`, `pipe`, `epoll`, `path:P` (O_PATH), `file:P` (reading),
/// `unclosable:P` (a file of a file system of its own).
fn descriptor(kind: &str, connection: impl AsFd) -> Result<OwnedFd> {
    let open = |path: &str, flags: OFlags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    Ok(match kind.split_once(':').unwrap_or((kind, "")) {
        ("cwd", _) => open(".", OFlags::PATH | OFlags::DIRECTORY)?,
        ("null", _) => open("/dev/null", OFlags::RDWR)?,
        ("out", _) => stdout().try_clone_to_owned()?,
        ("err", _) => stderr().try_clone_to_owned()?,
        ("self", _) => connection.as_fd().try_clone_to_owned()?,
        ("pipe", _) => rustix::pipe::pipe()?.1,
        ("epoll", _) => rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)?,
        ("path", path) => open(path, OFlags::PATH)?,
        ("file", path) => open(path, OFlags::RDONLY)?,
        ("unclosable", path) => {
            let own = std::env::current_exe()?;
            let mut command = Command::new("unshare");
            handed_over(command.arg("-Urm").arg(own).args(["unclosable", path]))?.1
        }
        _ => bail!("no such descriptor: {kind}"),
    })
}

/// A connection whose maker is gone by the time anybody speaks.
fn connected_by_another() -> Result<UnixStream> {
    let (mut maker, connection) = handed_over(Command::new(std::env::current_exe()?).arg("connect"))?;
    maker.wait()?;
    Ok(connection.into())
}

/// The descriptor that a process hands over on its standard input.
fn handed_over(command: &mut Command) -> Result<(Child, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = command.stdin(OwnedFd::from(theirs)).spawn()?;
    // It holds the only other end.
    command.stdin(Stdio::null());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&ours, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::empty())?;
    let handed = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((child, handed.context("nothing was handed over")?))
}

fn hand_over() -> Result<()> {
    send(stdin(), b"x", &[socket()?.into()], usize::MAX)
}

fn hold(connections: usize) -> Result<()> {
    let mut held = Vec::new();
    let begun = Frame::data(&[0; 64]).encode();
    for _ in 0..connections {
        let stream = socket()?;
        let fds = (0..8).map(|_| descriptor("null", &stream)).collect::<Result<Vec<_>>>()?;
        // Whether all are taken does not matter.
        let _ = send(&stream, &begun[..3], &fds, usize::MAX);
        held.push(stream);
    }
    println!("holding");
    std::thread::park();
    Ok(())
}

/// Mounts a file system of its own, whose root is of this kind. In a user and mount namespace of its own: there anybody may.
fn mounted(place: &str, kind: &str, user: &str) -> Result<OwnedFd> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/fuse")?;
    let options = format!("fd={},rootmode={kind},user_id={user},group_id={user}", device.as_raw_fd());
    let options = CString::new(options)?;
    mount("served", place, "fuse", MountFlags::empty(), options.as_c_str()).context("mount it")?;
    Ok(device)
}

fn serve(folder: &str) -> Result<()> {
    let _device = mounted(folder, "40000", "0")?;
    let held = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    println!("holding {}", held.as_raw_fd());
    std::thread::park();
    Ok(())
}

fn unclosable(file: &str) -> Result<()> {
    let device = mounted(file, "100644", "0")?;
    // By a process of its own: one that serves a file and has it open never ends, for its end closes that first.
    Command::new(std::env::current_exe()?).args(["open", file]).spawn()?;
    answer_all_but(FLUSH, &device)
}

fn open(file: &str) -> Result<()> {
    let file = rustix::fs::open(file, OFlags::RDONLY, Mode::empty()).context("open it")?;
    send(stdin(), b"x", &[file], usize::MAX)
}

// The few questions that an open file is asked (`linux/fuse.h`).
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const FLUSH: u32 = 25;
const INIT: u32 = 26;

/// Serves a file, and never answers this question.
fn answer_all_but(never: u32, device: &OwnedFd) -> Result<()> {
    const HEADER: usize = 16;
    let mut question = vec![0; 64 << 10];
    loop {
        let read = rustix::io::read(device, &mut question)?;
        let kind = question.get(4..8).filter(|_| read >= 40).context("a whole question")?;
        let kind = u32::from_ne_bytes(kind.try_into()?);
        let mut answer = vec![0; HEADER];
        let mut put = |at: usize, value: u32| {
            answer.resize(answer.len().max(HEADER + at + 4), 0);
            answer[HEADER + at..HEADER + at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        match kind {
            kind if kind == never => continue,
            // Version 7.31, and the longest write.
            INIT => [(0, 7), (4, 31), (20, 4096), (60, 0)].map(|(at, value)| put(at, value)).len(),
            // A regular file of no length.
            GETATTR => [(16, 1), (76, 0o100_644), (80, 1), (100, 0)].map(|(at, value)| put(at, value)).len(),
            // Each reading asks.
            OPEN => [(8, 1), (12, 0)].map(|(at, value)| put(at, value)).len(),
            _ => 0,
        };
        if answer.len() == HEADER {
            answer[4..8].copy_from_slice(&(-rustix::io::Errno::NOSYS.raw_os_error()).to_ne_bytes());
        }
        let length = u32::try_from(answer.len())?.to_ne_bytes();
        answer[..4].copy_from_slice(&length);
        answer[8..16].copy_from_slice(&question[8..16]);
        // Whoever asked may have given up.
        let _ = rustix::io::write(device, &answer);
    }
}

/// Types into another process's connection.
fn steal(pid: i32) -> Result<()> {
    let process = pidfd_open(Pid::from_raw(pid).context("a pid")?, PidfdFlags::empty())?;
    for number in 0..32 {
        match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(taken) if rustix::net::sockopt::socket_type(&taken).is_ok() => {
                println!("took the socket {number}");
                let _ = send(&taken, &Frame::data(b"touch evil-was-here\n").encode(), &[], usize::MAX);
            }
            Ok(_) => {}
            Err(rustix::io::Errno::BADF) => {}
            Err(errno) => return Ok(println!("kept out: {errno}")),
        }
    }
    Ok(())
}
