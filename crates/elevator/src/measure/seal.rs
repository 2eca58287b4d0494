//! Copies bytes that others could change into memory that nobody can (memfd_create(2), F_ADD_SEALS in fcntl(2)).

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use elevon_policy::text::OsText;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use super::Bytes;
use super::digest::{self, CHUNK};
use super::not_measured::NotMeasured;
use super::walk::Facts;

/// Larger files are not copied: they would take the computer's memory.
pub(super) const MAX_SIZE: u64 = 512 << 20;
/// Copies of larger files are made one after the other: a sparse file costs its owner nothing, a hundred copies of it at
/// once would cost the computer its memory.
const LARGE: u64 = 32 << 20;

static TURN: Mutex<()> = Mutex::new(());

/// A sealed copy of all that the descriptor leads to. Whoever writes to the original meanwhile gets a mixture hashed, which
/// nothing was granted for.
pub(super) fn copy(file: &OwnedFd, path: &OsText) -> Result<Bytes, NotMeasured> {
    let system = |operation| move |errno| NotMeasured::system(operation, path, errno);
    let too_large = || NotMeasured::TooLarge { path: path.clone(), limit: MAX_SIZE };
    // Before a byte is read: a sparse file of any size costs its owner nothing.
    let size = Facts::of(file).map_err(system("looking at"))?.size;
    if size > MAX_SIZE {
        return Err(too_large());
    }
    let _turn = (size > LARGE).then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
    let (memory, executable) = memory(path).map_err(system("making a sealed copy of"))?;
    if fill(&memory, file, size).map_err(system("copying"))? > size {
        // It grows while it is copied, perhaps to a size that would have waited for its turn.
        return Err(NotMeasured::Changed { path: path.clone() });
    }
    seal(&memory, executable).map_err(system("sealing the copy of"))?;
    // Without the right to write, which execution would be refused for, or the program would inherit.
    let read_only = OFlags::RDONLY | OFlags::CLOEXEC;
    let sealed = rustix::fs::open(format!("/proc/self/fd/{}", memory.as_raw_fd()), read_only, Mode::empty())
        .map_err(system("opening the copy of"))?;
    let read = digest::whole(&sealed, MAX_SIZE, false).map_err(system("reading the copy of"))?;
    Ok(Bytes { file: sealed, sha256: read.sha256, md5: None, size: read.length, executable })
}

/// Empty memory, and whether what it holds can be executed. Where the computer refuses executable memory
/// (`vm.memfd_noexec=2`), a script can still be read from it.
fn memory(path: &OsText) -> Result<(OwnedFd, bool), Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = path.file_name();
    let name = name.as_bytes().get(..200).unwrap_or(name.as_bytes());
    let make = |flags| rustix::fs::memfd_create(name, flags);
    match make(flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 all such memory was executable, and nobody could say so.
        Err(Errno::INVAL) => Ok((make(flags)?, true)),
        Err(Errno::ACCESS) => Ok((make(flags | MemfdFlags::NOEXEC_SEAL)?, false)),
        made => Ok((made?, true)),
    }
}

/// Copies until the end, or until more than the limit was there; returns how much was copied.
fn fill(memory: &OwnedFd, file: &OwnedFd, limit: u64) -> Result<u64, Errno> {
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    while copied <= limit {
        let mut chunk = digest::read_at(file, &mut buffer, copied)?;
        if chunk.is_empty() {
            break;
        }
        copied += chunk.len() as u64;
        while !chunk.is_empty() {
            let written = match rustix::io::write(memory, chunk) {
                Err(Errno::INTR) => 0,
                written => written?,
            };
            chunk = chunk.get(written..).unwrap_or_default();
        }
    }
    Ok(copied)
}

/// Nothing about it changes any more, and no seal can be taken off. Read back, because everything rests on it.
fn seal(memory: &OwnedFd, executable: bool) -> Result<(), Errno> {
    let content = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    if executable {
        match rustix::fs::fcntl_add_seals(memory, content | SealFlags::EXEC | SealFlags::SEAL) {
            // Before Linux 6.3 there is no seal on the right to execute.
            Err(Errno::INVAL) => rustix::fs::fcntl_add_seals(memory, content | SealFlags::SEAL)?,
            added => added?,
        }
    } else {
        rustix::fs::fcntl_add_seals(memory, content | SealFlags::SEAL)?;
    }
    let wanted = content | SealFlags::SEAL;
    if rustix::fs::fcntl_get_seals(memory)?.contains(wanted) { Ok(()) } else { Err(Errno::PERM) }
}
