//! Small files of the elevator's own state: read whole, and replaced whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file's content; `None` where there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(about(path, error)),
    };
    Ok(Some(bytes))
}

/// The text of one of the kernel's own small files, in one read for nearly all of them.
pub(crate) fn read_kernel(path: impl AsRef<Path>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut text = vec![0; 4096];
    let mut length = 0;
    loop {
        match file.read(text.get_mut(length..).unwrap_or_default())? {
            0 => break,
            read => length += read,
        }
        if length == text.len() {
            text.resize(length * 2, 0);
        }
    }
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The document in the file; `None` where there is no file.
pub(crate) fn read_json<D: DeserializeOwned>(path: &Path) -> io::Result<Option<D>> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| about(path, error.into()))
}

/// Replaces the file, durably: after a crash it holds the old content or the new.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, true).map_err(|error| about(path, error))
}

/// Replaces the file by a document, durably.
pub(crate) fn write_json(path: &Path, document: &impl Serialize) -> io::Result<()> {
    write(path, &serde_json::to_vec(document)?)
}

/// Replaces the file by a document; after a crash of the computer it may hold either, or be empty.
pub(crate) fn write_json_fast(path: &Path, document: &impl Serialize) -> io::Result<()> {
    put(path, &serde_json::to_vec(document)?, false).map_err(|error| about(path, error))
}

/// Removes the file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(about(path, error)),
        _ => Ok(()),
    }
}

/// Removes the folder with all that is in it, if it is there; a link is removed, not followed.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(about(path, error)),
        _ => Ok(()),
    }
}

fn put(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    let placed = place(&fresh, path, bytes, durably);
    if placed.is_err() {
        // Half of it is of use to nobody; what room it takes is missed the more on a full disk.
        let _ = std::fs::remove_file(&fresh);
    }
    placed
}

fn place(fresh: &Path, path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(fresh)?;
    file.write_all(bytes)?;
    if durably {
        file.sync_all()?;
    }
    std::fs::rename(fresh, path)?;
    if durably && let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
