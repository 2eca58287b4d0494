//! `elevon-agent enroll`: root makes the folders and the elevator's event key, a child without any rights speaks with the
//! server, and root writes down for the elevator whom to believe.

pub(crate) mod network;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use elevon_wire::channel::{Enrolled, Trust};
use elevon_wire::signed::PublicKey;
use elevon_wire::token::EnrollmentToken;
use rustix::fs::Mode;
use rustix::process::geteuid;

use crate::chance;
use crate::config::Config;
use crate::enroll::network::Task;
use crate::files::{create_private, private_folder, sync_folder, write_private};
use crate::rights::AgentUser;

const TRUST: &str = "trust.json";
const EVENT_KEY: &str = "event.key";
/// The event key of a computer that is being enrolled again, until it is.
const NEXT_EVENT_KEY: &str = "event.key.again";

/// Longest answer of the child, in bytes.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Enrolls this computer.
pub(crate) fn enroll(config: &Config, token: &str, again: bool) -> Result<ExitCode> {
    ensure!(
        geteuid().is_root(),
        "enrolling writes what the elevator believes; run it as root, for instance with sudo"
    );
    let token: EnrollmentToken = token.parse()?;
    let user = AgentUser::named(&config.user)?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let trust = config.elevator_state_dir.join(TRUST);
    let enrolled_before = enrolled_before(config, &trust, again)?;
    private_folder(&config.elevator_state_dir, 0, 0)?;
    private_folder(&config.state_dir, user.uid, user.gid)?;

    let key_file = config.elevator_state_dir.join(if enrolled_before { NEXT_EVENT_KEY } else { EVENT_KEY });
    let event_key = event_key(&key_file)?;
    let task =
        Task { token: token.reveal(), event_key, state_dir: config.state_dir.clone(), user: user.name };
    let Some(enrolled) = over_network(&task)? else {
        return Ok(ExitCode::FAILURE);
    };

    if enrolled_before {
        put_aside(config, &key_file)?;
    }
    let believed = Trust { computer: enrolled.computer, server_key: enrolled.server_key };
    write_private(&trust, &serde_json::to_vec_pretty(&believed)?)?;
    println!("Enrolled as computer {} with the server at {}.", enrolled.computer, token.address);
    println!("Start elevon-elevator and elevon-agent, or restart them if they run.");
    Ok(ExitCode::SUCCESS)
}

/// Whether this computer is enrolled; refuses unless that is to be undone, and nobody goes on under the old identity.
fn enrolled_before(config: &Config, trust: &Path, again: bool) -> Result<bool> {
    if !trust.try_exists().with_context(|| format!("look for {}", trust.display()))? {
        return Ok(false);
    }
    ensure!(
        again,
        "this computer is enrolled already ({}); to enroll it anew, as another computer with a history of its own, stop elevon-elevator and add --again",
        trust.display()
    );
    ensure!(
        UnixStream::connect(&config.elevator_socket).is_err(),
        "elevon-elevator is running and would go on under the old identity; stop it before enrolling again"
    );
    Ok(true)
}

/// The public part of the elevator's event key, which is made if it is not there.
fn event_key(path: &Path) -> Result<PublicKey> {
    let seed: [u8; 32] = match fs::read(path) {
        Ok(seed) => seed.try_into().ok().with_context(|| {
            format!(
                "read the event key {}: expected 32 bytes; remove it if it was never in use",
                path.display()
            )
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let seed = chance::bytes::<32>()?;
            create_private(path, &seed)?;
            sync_folder(path)?;
            seed
        }
        Err(error) => return Err(error).with_context(|| format!("read the event key {}", path.display())),
    };
    Ok(PublicKey::of(&SigningKey::from_bytes(&seed)))
}

/// Lets a child without rights speak with the server; none when it has already said why it could not.
fn over_network(task: &Task) -> Result<Option<Enrolled>> {
    let this = std::env::current_exe().context("find this program")?;
    let mut child = Command::new(this)
        .arg(network::COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the part that speaks with the server")?;
    let mut input = child.stdin.take().context("the child's standard input is a pipe")?;
    // Where the child is gone already, its exit status says more.
    let _ = input.write_all(&serde_json::to_vec(task)?);
    drop(input);
    let mut answer = Vec::new();
    let output = child.stdout.take().context("the child's standard output is a pipe")?;
    output
        .take(ANSWER_LIMIT)
        .read_to_end(&mut answer)
        .context("hear from the part that speaks with the server")?;
    let status = child.wait().context("wait for the part that speaks with the server")?;
    match status.code() {
        Some(0) => {}
        Some(_) => return Ok(None),
        None => bail!("the part that speaks with the server ended with {status}"),
    }
    serde_json::from_slice(&answer)
        .map(Some)
        .context("read the answer of the part that speaks with the server")
}

/// Moves what belonged to the old identity out of the way. What is believed goes first: until the new one is written, the
/// elevator counts as not enrolled, and elevates nothing.
fn put_aside(config: &Config, next_key: &Path) -> Result<()> {
    let state = &config.elevator_state_dir;
    let aside = free_folder(state)?;
    for name in [TRUST, "sheet.signed", "bundle.signed", "journal", EVENT_KEY] {
        match fs::rename(state.join(name), aside.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("put {} aside", state.join(name).display()));
            }
            _ => {}
        }
        sync_folder(&state.join(name))?;
    }
    fs::rename(next_key, state.join(EVENT_KEY)).context("put the new event key in place")?;
    sync_folder(next_key)?;
    println!("What belonged to the old identity is in {}.", aside.display());
    Ok(())
}

fn free_folder(state: &Path) -> Result<PathBuf> {
    for number in 1.. {
        let folder = state.join(format!("before-{number}"));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                return made.map(|()| folder).context("make a folder for what belonged to the old identity");
            }
        }
    }
    bail!("there are too many old identities in {}", state.display())
}
