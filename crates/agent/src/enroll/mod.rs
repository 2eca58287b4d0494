//! `elevon-agent enroll`: root makes the folders and the elevator's event key, a child without any rights speaks with the
//! server, and root writes down for the elevator whom to believe.

pub(crate) mod network;

use std::ffi::OsString;
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

/// The elevator's own lock, which belongs to no identity.
const LOCK: &str = "lock";
/// Folders of old identities begin like this.
const ASIDE: &str = "before-";

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
    let next_key = config.elevator_state_dir.join(NEXT_EVENT_KEY);
    let enrolled_before = enrolled_before(config, &trust, &next_key, again)?;
    private_folder(&config.elevator_state_dir, 0, 0)?;
    private_folder(&config.state_dir, user.uid, user.gid)?;

    let key_file = if enrolled_before { next_key } else { config.elevator_state_dir.join(EVENT_KEY) };
    let event_key = event_key(&key_file)?;
    let task =
        Task { token: token.reveal(), event_key, state_dir: config.state_dir.clone(), user: user.name };
    let Some(enrolled) = over_network(&task)? else {
        return Ok(ExitCode::FAILURE);
    };

    let aside = enrolled_before.then(|| put_aside(&config.elevator_state_dir, &key_file)).transpose()?;
    let believed = Trust { computer: enrolled.computer, server_key: enrolled.server_key };
    write_private(&trust, &serde_json::to_vec_pretty(&believed)?)?;
    let mut told = String::new();
    if let Some(aside) = aside {
        told.push_str(&format!("What belonged to the old identity is in {}.\n", aside.display()));
    }
    told.push_str(&format!(
        "Enrolled as computer {} with the server at {}.\nStart elevon-elevator and elevon-agent, or restart them if they run.\n",
        enrolled.computer, token.address
    ));
    // It is done, whether anybody reads that or not.
    let _ = std::io::stdout().write_all(told.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// Whether this computer is enrolled, or was until an earlier try to enroll it again was interrupted; refuses unless that is to be
/// undone, and nobody goes on under the old identity.
fn enrolled_before(config: &Config, trust: &Path, next_key: &Path, again: bool) -> Result<bool> {
    let exists = |path: &Path| path.try_exists().with_context(|| format!("look for {}", path.display()));
    let enrolled = exists(trust)?;
    if !enrolled && !exists(next_key)? {
        return Ok(false);
    }
    ensure!(
        again || !enrolled,
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

/// Moves what belonged to the old identity out of the way: documents, events, local grants, records of launches (what still
/// runs keeps its own deadline). What is believed goes first: until the new one is written, the elevator counts as not
/// enrolled, and elevates nothing. Interrupted, it goes on from where it came to when the computer is enrolled after all.
fn put_aside(state: &Path, next_key: &Path) -> Result<PathBuf> {
    let aside = free_folder(state)?;
    let found = fs::read_dir(state).with_context(|| format!("look into {}", state.display()))?;
    let found = found.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()?;
    let old = |name: &OsString| {
        let stays = name == TRUST || name == NEXT_EVENT_KEY || name == LOCK;
        !stays && !name.as_encoded_bytes().starts_with(ASIDE.as_bytes())
    };
    let trust = found.iter().find(|name| *name == TRUST).cloned();
    for name in trust.into_iter().chain(found.into_iter().filter(old)) {
        let from = state.join(&name);
        fs::rename(&from, aside.join(&name)).with_context(|| format!("put {} aside", from.display()))?;
        sync_folder(&from)?;
    }
    fs::rename(next_key, state.join(EVENT_KEY)).context("put the new event key in place")?;
    sync_folder(next_key)?;
    Ok(aside)
}

fn free_folder(state: &Path) -> Result<PathBuf> {
    for number in 1.. {
        let folder = state.join(format!("{ASIDE}{number}"));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                return made.map(|()| folder).context("make a folder for what belonged to the old identity");
            }
        }
    }
    bail!("there are too many old identities in {}", state.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_an_old_identity_is_put_aside_and_nothing_else() {
        let state = tempfile::tempdir().expect("a folder");
        let state = state.path();
        fs::create_dir_all(state.join("before-1")).expect("made");
        fs::create_dir_all(state.join("journal")).expect("made");
        for name in
            [TRUST, EVENT_KEY, NEXT_EVENT_KEY, LOCK, "sheet.signed", "journal/1", "before-1/trust.json"]
        {
            fs::write(state.join(name), name).expect("written");
        }
        let aside = put_aside(state, &state.join(NEXT_EVENT_KEY)).expect("put aside");
        assert_eq!(aside, state.join("before-2"));
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).expect("read").map(|entry| entry.expect("read").file_name());
            let mut names: Vec<_> = entries.collect();
            names.sort();
            names
        };
        assert_eq!(names(state), ["before-1", "before-2", EVENT_KEY, LOCK]);
        assert_eq!(names(&aside), [EVENT_KEY, "journal", "sheet.signed", TRUST]);
        assert_eq!(fs::read_to_string(state.join(EVENT_KEY)).expect("read"), NEXT_EVENT_KEY);
        assert_eq!(fs::read_to_string(aside.join("journal/1")).expect("read"), "journal/1");
    }

    /// What is believed was put aside, and then the power went: the rest must not become the new identity's.
    #[test]
    fn what_was_interrupted_is_gone_on_with() {
        let state = tempfile::tempdir().expect("a folder");
        let (trust, next_key) = (state.path().join(TRUST), state.path().join(NEXT_EVENT_KEY));
        for name in [EVENT_KEY, NEXT_EVENT_KEY, "sheet.signed"] {
            fs::write(state.path().join(name), name).expect("written");
        }
        let config = Config { elevator_socket: state.path().join("nobody"), ..Config::default() };
        for again in [true, false] {
            assert!(enrolled_before(&config, &trust, &next_key, again).expect("nothing against it"));
        }
        let aside = put_aside(state.path(), &next_key).expect("put aside");
        assert!(aside.join("sheet.signed").exists() && aside.join(EVENT_KEY).exists());
        assert_eq!(fs::read_to_string(state.path().join(EVENT_KEY)).expect("read"), NEXT_EVENT_KEY);
        assert!(!enrolled_before(&config, &trust, &next_key, false).expect("nothing against it"));
        fs::write(&trust, "believed").expect("written");
        assert!(enrolled_before(&config, &trust, &next_key, false).is_err(), "only if it is wanted");
    }

    #[test]
    fn an_event_key_is_made_once() {
        let state = tempfile::tempdir().expect("a folder");
        let path = state.path().join(EVENT_KEY);
        let made = event_key(&path).expect("made");
        assert_eq!(event_key(&path).expect("read"), made);
        fs::write(&path, "short").expect("written");
        assert!(event_key(&path).is_err());
    }
}
