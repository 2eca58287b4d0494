//! The keys under a passphrase: Argon2id makes a key of it, ChaCha20-Poly1305 seals with that.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::accounts::password::SHORTEST;
use crate::app::chance;
use crate::error::Error;

/// 256 MiB and three passes: it is done once, and whoever has the file may try for years.
const MEMORY: u32 = 256 * 1024;
const PASSES: u32 = 3;
/// The most that a file may ask for, so that a forged one does not take all memory.
const MOST: u32 = 1024 * 1024;
/// Sealed along, so that nothing else that was sealed under the passphrase passes for it.
const PURPOSE: &[u8] = b"elevon keys 1";
/// What `keys/` may hold; nothing else leaves a backup.
const NAMES: [&str; 6] = ["server.key", "ca.key", "ca.pem", "tls.key", "tls.pem", "tls.json"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    /// KiB.
    memory: u32,
    passes: u32,
    salt: String,
    nonce: String,
    keys: String,
}

/// Seals what is in `keys/`.
pub fn seal(state_dir: &Path, passphrase: &str) -> Result<String, Error> {
    if passphrase.chars().count() < SHORTEST {
        return Err(Error::invalid(format!("expected a passphrase of at least {SHORTEST} characters")));
    }
    let mut keys = BTreeMap::new();
    for name in NAMES {
        let path = state_dir.join("keys").join(name);
        let bytes = fs::read(&path)
            .map_err(|error| Error::internal(&format!("reading {}", path.display()), error))?;
        keys.insert(name, STANDARD.encode(bytes));
    }
    let (salt, nonce) = (chance::<16>(), chance::<12>());
    let key = key(passphrase, &salt, MEMORY, PASSES)?;
    let mut bytes = crate::db::json(&keys)?.into_bytes();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut bytes)
        .map_err(|error| Error::internal("sealing the keys", error))?;
    crate::db::json(&Sealed {
        memory: MEMORY,
        passes: PASSES,
        salt: STANDARD.encode(salt),
        nonce: STANDARD.encode(nonce),
        keys: STANDARD.encode(bytes),
    })
}

/// Opens them into `keys/`, which is made for it.
pub fn open(state_dir: &Path, sealed: &str, passphrase: &str) -> Result<(), Error> {
    let broken = || Error::invalid("the keys in this backup cannot be read; take them from another copy");
    let sealed: Sealed = serde_json::from_str(sealed).map_err(|_| broken())?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| broken());
    let nonce: [u8; 12] = decode(&sealed.nonce)?.try_into().map_err(|_| broken())?;
    let key = key(passphrase, &decode(&sealed.salt)?, sealed.memory.min(MOST), sealed.passes.min(100))?;
    let mut bytes = decode(&sealed.keys)?;
    let opened = key
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut bytes)
        .map_err(|_| Error::invalid("the passphrase does not open the keys in this backup; try again"))?;
    let keys: BTreeMap<String, String> = serde_json::from_slice(opened).map_err(|_| broken())?;
    let folder = state_dir.join("keys");
    let making = |error| Error::internal(&format!("making {}", folder.display()), error);
    crate::keys::private_folder(&folder).map_err(|error| making(std::io::Error::other(error)))?;
    // The server's key last: it says that the others are there.
    for name in NAMES.iter().rev() {
        let bytes = decode(keys.get(*name).ok_or_else(broken)?)?;
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(folder.join(name));
        file.and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all())).map_err(making)?;
    }
    Ok(())
}

fn key(passphrase: &str, salt: &[u8], memory: u32, passes: u32) -> Result<LessSafeKey, Error> {
    let failed = |error: argon2::Error| Error::internal("making a key of the passphrase", error);
    let params = Params::new(memory, passes, 1, Some(32)).map_err(failed)?;
    let mut bytes = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut bytes)
        .map_err(failed)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
        .map_err(|error| Error::internal("making a key of the passphrase", error))?;
    Ok(LessSafeKey::new(key))
}
