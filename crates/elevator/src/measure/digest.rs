//! Digests of files, and those already known.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use elevon_identify::elf;
use elevon_identify::package::{Owned, Recorded};
use elevon_identify::script::{HEAD, Shebang, shebang};
use elevon_policy::application::{Package, Sha256};
use elevon_policy::text::OsText;
use rustix::io::Errno;
use sha2::Digest;

use super::beliefs::Moment;
use super::not_measured::{NotMeasured, Unfit};
use super::walk::{Facts, Identity};
use super::{Bytes, preflight};

/// How much is read at once.
pub(super) const CHUNK: usize = 1 << 20;
/// Larger files are not hashed, not even root's: everybody would wait.
const MAX_SIZE: u64 = 4 << 30;
/// How many digests are kept.
const MAX_KNOWN: usize = 4096;

/// What is known of the contents of trusted files, by what changes whenever they do. Only root can change such a file, and
/// could change it just as well between hashing and execution.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    known: Mutex<HashMap<State, Content>>,
}

#[derive(Debug, Clone)]
struct Content {
    digests: Digests,
    /// Nothing where it was not read as a program.
    form: Option<Form>,
}

/// What kind of program a file is.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// Another program reads it.
    Script(Shebang),
    /// The processor runs it.
    Program(Arc<elf::Program>),
}

impl Form {
    /// Reads it from a file's beginning, and from what that refers to.
    pub(super) fn read(file: &OwnedFd, path: &OsText) -> Result<Self, NotMeasured> {
        let head = piece(file, 0, HEAD).map_err(|errno| NotMeasured::system("reading", path, errno))?;
        let shebang = shebang(&head).map_err(|bad| NotMeasured::unfit(path, Unfit::Shebang(bad)))?;
        Ok(match shebang {
            Some(shebang) => Self::Script(shebang),
            None => Self::Program(Arc::new(preflight::program(file, path)?)),
        })
    }
}

/// What a file's bytes come to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digests {
    pub(super) sha256: Sha256,
    /// Where it was asked for.
    pub(super) md5: Option<[u8; 16]>,
    /// How many bytes there were.
    pub(super) length: u64,
}

/// In which state a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    file: Identity,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl State {
    pub(super) fn of(facts: &Facts) -> Self {
        let Facts { identity, size, modified, changed, .. } = *facts;
        Self { file: identity, size, modified, changed }
    }
}

impl Contents {
    /// What kind of program a trusted file in this state is, where that is known.
    pub(super) fn form(&self, state: &State) -> Option<Form> {
        self.find(state)?.form
    }

    fn find(&self, state: &State) -> Option<Content> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(state).cloned()
    }

    fn keep(&self, state: State, content: Content) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(state, content);
    }
}

/// The bytes of a file with a trusted path, and all digests that are needed to compare it with what its package recorded.
/// `before` is the state that it was in when it was opened, and `form` what was read of it since, where it is to run.
pub(super) fn trusted(
    (file, before): (OwnedFd, State),
    path: &OsText,
    form: Option<&Form>,
    owned: Option<&Owned>,
    contents: &Contents,
) -> Result<Bytes, NotMeasured> {
    let with_md5 = owned.is_some_and(|owned| matches!(owned.digest, Some(Recorded::Md5(_))));
    if before.size > MAX_SIZE {
        return Err(NotMeasured::TooLarge { path: path.clone(), limit: MAX_SIZE });
    }
    let known = contents.find(&before).map(|content| content.digests);
    let digests = match known.filter(|known| !with_md5 || known.md5.is_some()) {
        Some(known) => known,
        None => {
            let begun = Moment::now();
            let found = whole(&file, MAX_SIZE, with_md5)
                .map_err(|errno| NotMeasured::system("reading", path, errno))?;
            let after = Facts::of(&file).map_err(|errno| NotMeasured::system("looking at", path, errno))?;
            if State::of(&after) != before || found.length != before.size {
                return Err(NotMeasured::Changed { path: path.clone() });
            }
            // What is changed within the same tick of the clock that changes are written down by would look the same.
            if Moment::of_change(before.changed) < begun {
                contents.keep(before, Content { digests: found, form: form.cloned() });
            }
            found
        }
    };
    let Digests { sha256, md5, .. } = digests;
    Ok(Bytes { file, sha256, md5, size: before.size, executable: true })
}

impl Bytes {
    /// The package, and whether these are the bytes that it recorded.
    pub(super) fn package(&self, owned: &Owned) -> Package {
        let unmodified = match owned.digest {
            Some(Recorded::Md5(recorded)) => self.md5 == Some(recorded),
            Some(Recorded::Sha256(recorded)) => self.sha256 == recorded,
            None => false,
        };
        Package { unmodified, ..owned.package.clone() }
    }
}

/// Digests of all that the descriptor leads to, up to `limit` bytes.
pub(super) fn whole(file: &OwnedFd, limit: u64, with_md5: bool) -> Result<Digests, Errno> {
    let mut hasher = sha2::Sha256::new();
    let mut weak = with_md5.then(md5::Md5::new);
    let mut buffer = vec![0; CHUNK];
    let mut length = 0;
    while length <= limit {
        let chunk = read_at(file, &mut buffer, length)?;
        if chunk.is_empty() {
            break;
        }
        hasher.update(chunk);
        if let Some(weak) = &mut weak {
            weak.update(chunk);
        }
        length += chunk.len() as u64;
    }
    let md5 = weak.map(|weak| weak.finalize().into());
    Ok(Digests { sha256: Sha256(hasher.finalize().into()), md5, length })
}

/// `length` bytes from `offset` on, or fewer where the file ends.
pub(super) fn piece(file: &OwnedFd, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let Some(at) = offset.checked_add(filled as u64).filter(|at| i64::try_from(*at).is_ok()) else {
            break;
        };
        match read_at(file, rest, at)?.len() {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Some bytes from `offset` on; none at the end.
pub(super) fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<&[u8], Errno> {
    loop {
        match rustix::io::pread(&file, &mut *buffer, offset) {
            Err(Errno::INTR) => {}
            Ok(length) => return Ok(buffer.get(..length).unwrap_or_default()),
            Err(errno) => return Err(errno),
        }
    }
}
