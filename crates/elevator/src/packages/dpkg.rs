//! dpkg's database: asked through an index that is made anew whenever dpkg or apt changed something.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use elevon_identify::dpkg::{self, Installed, Names};
use elevon_identify::package::{Owned, Recorded};
use elevon_policy::text::OsText;
use serde::{Deserialize, Serialize};

use super::files::{FileState, linked_folders, owned_by_root};
use super::index::{Draft, Entry, Index, MAX_PACKAGES};
use super::lines::{LONGEST, each_line};
use super::vendors::{self, Vendor};

/// No sane paragraph is longer.
const MAX_PARAGRAPH: u32 = 1 << 20;
/// Nor is the file of diversions.
const MAX_DIVERSIONS: u64 = 4 << 20;
/// dpkg may change its database while the index is made.
const ATTEMPTS: usize = 3;

/// dpkg's database below one root folder.
#[derive(Debug)]
pub(super) struct Dpkg {
    root: PathBuf,
    index: PathBuf,
    opened: Mutex<Option<Opened>>,
}

/// The index that goes with one state of the database.
#[derive(Debug)]
struct Opened {
    index: Index,
    names: Names,
}

/// In which state the database is: what changes with every change that dpkg or apt makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Stamp([FileState; 4]);

impl Dpkg {
    pub(super) fn new(root: &Path, state: &Path) -> Self {
        Self { root: root.to_owned(), index: state.join("packages.index"), opened: Mutex::default() }
    }

    /// The state it is in; nothing where there is none.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let state = |path: &str| FileState::of(&self.root.join(path));
        Some(Stamp([
            state("var/lib/dpkg/status")?,
            state("var/lib/dpkg/info")?,
            state("var/lib/dpkg/diversions").unwrap_or_default(),
            state("var/lib/apt/lists").unwrap_or_default(),
        ]))
    }

    /// Makes the index, where it is not there yet.
    pub(super) fn prepare(&self) {
        if let Some(stamp) = self.stamp()
            && let Err(error) = self.with(&stamp, |_| Ok(()))
        {
            eprintln!("elevon-elevator: could not make the index of packages: {error}");
        }
    }

    /// The package that owns what lies there, and what it recorded of it.
    pub(super) fn owner(&self, stamp: &Stamp, path: &OsText) -> io::Result<Option<Owned>> {
        self.with(stamp, |opened| {
            for number in opened.index.find(path.as_bytes())? {
                let entry = opened.index.entry(number)?;
                let paragraph = self.paragraph(&entry)?;
                let Some(installed) = dpkg::installed(&paragraph) else {
                    continue;
                };
                let names = opened.names.recorded(path.as_bytes(), &installed.name);
                let digest = self.recorded_digest(&installed, &paragraph, &names)?;
                if digest.is_some() || self.is_listed(&installed, &names)? {
                    let package = installed.package(opened.index.vendor(&entry));
                    return Ok(Some(Owned { package, digest }));
                }
            }
            Ok(None)
        })
    }

    /// Asks the index that goes with this state of the database.
    fn with<T>(&self, stamp: &Stamp, ask: impl FnOnce(&Opened) -> io::Result<T>) -> io::Result<T> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.as_ref().is_none_or(|opened| opened.index.stamp() != stamp) {
            *opened = None;
            let index = match Index::open(&self.index).ok().filter(|index| index.stamp() == stamp) {
                Some(index) => index,
                None => self.make_index(stamp)?,
            };
            *opened = Some(Opened { index, names: self.names()? });
        }
        match opened.as_ref() {
            Some(opened) => ask(opened),
            None => Err(io::Error::other("there is no index of packages")),
        }
    }

    // ---- what the database itself says ----

    fn paragraph(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let mut paragraph = vec![0; usize::try_from(entry.length.min(MAX_PARAGRAPH)).unwrap_or_default()];
        owned_by_root(&self.root.join("var/lib/dpkg/status"))?.read_exact_at(&mut paragraph, entry.offset)?;
        Ok(paragraph)
    }

    fn recorded_digest(
        &self,
        installed: &Installed,
        paragraph: &[u8],
        names: &[Vec<u8>],
    ) -> io::Result<Option<Recorded>> {
        let mut found = names.iter().find_map(|name| dpkg::configuration_file(paragraph, name));
        if found.is_none() {
            self.info(installed, "md5sums", |line| {
                found = dpkg::digest_line(line).and_then(|(digest, name)| {
                    let is_it = |known: &Vec<u8>| known.strip_prefix(b"/") == Some(name);
                    names.iter().any(is_it).then_some(digest)
                });
                found.is_none()
            })?;
        }
        Ok(found)
    }

    fn is_listed(&self, installed: &Installed, names: &[Vec<u8>]) -> io::Result<bool> {
        let mut found = false;
        self.info(installed, "list", |line| {
            found = names.iter().any(|name| name == line);
            !found
        })?;
        Ok(found)
    }

    /// The lines of one of the package's files in `info/`; none where it has no such file.
    fn info(&self, installed: &Installed, kind: &str, show: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let path = self.root.join(format!("var/lib/dpkg/info/{}.{kind}", installed.stem()));
        match owned_by_root(&path) {
            Ok(file) => each_line(BufReader::with_capacity(64 << 10, file), show),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn names(&self) -> io::Result<Names> {
        let mut diversions = Vec::new();
        match owned_by_root(&self.root.join("var/lib/dpkg/diversions")) {
            Ok(file) => drop(file.take(MAX_DIVERSIONS).read_to_end(&mut diversions)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Names::new(linked_folders(&self.root), &diversions))
    }

    // ---- the index ----

    fn make_index(&self, stamp: &Stamp) -> io::Result<Index> {
        let changed = || io::Error::other("dpkg is changing its database just now");
        for _ in 0..ATTEMPTS {
            let before = self.stamp().ok_or_else(changed)?;
            let draft = self.draft()?;
            if self.stamp() == Some(before) {
                draft.write(&self.index, &before)?;
                let index = Index::open(&self.index)?;
                return if before == *stamp { Ok(index) } else { Err(changed()) };
            }
        }
        Err(changed())
    }

    fn draft(&self) -> io::Result<Draft> {
        let mut draft = Draft::default();
        let names = self.names()?;
        let status = owned_by_root(&self.root.join("var/lib/dpkg/status"))?;
        let mut failed = Ok(());
        each_paragraph(BufReader::with_capacity(64 << 10, status), |offset, paragraph| {
            let Some(installed) = dpkg::installed(paragraph) else {
                return true;
            };
            let (Ok(number), Ok(length)) =
                (u16::try_from(draft.entries.len()), u32::try_from(paragraph.len()))
            else {
                return false;
            };
            let identity = vendors::identity(&installed.name, &installed.version, &installed.architecture);
            draft.entries.push(Entry { offset, length, identity, vendor: None });
            failed = self.add_files(&installed, number, &names, &mut draft);
            failed.is_ok() && draft.entries.len() < MAX_PACKAGES
        })?;
        failed?;
        self.add_vendors(&mut draft)?;
        Ok(draft)
    }

    fn add_files(
        &self,
        installed: &Installed,
        number: u16,
        names: &Names,
        draft: &mut Draft,
    ) -> io::Result<()> {
        // A folder stands before what lies in it.
        let mut last: Vec<u8> = Vec::new();
        self.info(installed, "list", |line| {
            let is_below = line.strip_prefix(last.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
            if !last.is_empty() && !is_below {
                draft.place(&names.place(&last, &installed.name), number);
            }
            last.clear();
            last.extend_from_slice(line);
            true
        })?;
        if !last.is_empty() {
            draft.place(&names.place(&last, &installed.name), number);
        }
        Ok(())
    }

    /// What a signed index once listed stays listed for as long as it stays installed: an archive lists only the latest version,
    /// and an installed package would lose its vendor the day before it is updated.
    fn add_vendors(&self, draft: &mut Draft) -> io::Result<()> {
        let installed: HashSet<u64> = draft.entries.iter().map(|entry| entry.identity).collect();
        let mut vendors = vendors::vendors(&self.root, |identity| installed.contains(&identity))?;
        if let Ok(before) = Index::open(&self.index) {
            for entry in before.entries() {
                let entry = entry?;
                if let Some(vendor) = before.vendor(&entry) {
                    vendors.entry(entry.identity).or_insert_with(|| Vendor::One(vendor.to_owned()));
                }
            }
        }
        for entry in &mut draft.entries {
            let Some(Vendor::One(vendor)) = vendors.get(&entry.identity) else {
                continue;
            };
            let known = draft.vendors.iter().position(|known| known == vendor);
            let at = known.unwrap_or_else(|| {
                draft.vendors.push(vendor.clone());
                draft.vendors.len() - 1
            });
            entry.vendor = u16::try_from(at).ok();
        }
        Ok(())
    }
}

/// Shows each paragraph, and where it begins; an overlong one is left out. `false` ends the reading.
fn each_paragraph(from: impl BufRead, mut show: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    let (mut paragraph, mut start, mut at, mut going_on) = (Vec::new(), 0, 0, true);
    let longest = usize::try_from(MAX_PARAGRAPH).unwrap_or(usize::MAX);
    let mut cut_off = false;
    each_line(from, |line| {
        if line.len() >= LONGEST {
            // From here on nobody knows where anything stands.
            cut_off = true;
            return false;
        }
        at += line.len() as u64 + 1;
        if !line.is_empty() {
            paragraph.extend_from_slice(line);
            paragraph.push(b'\n');
            return true;
        }
        if !paragraph.is_empty() && paragraph.len() <= longest {
            going_on = show(start, &paragraph);
        }
        paragraph.clear();
        start = at;
        going_on
    })?;
    if cut_off {
        return Err(io::Error::other("a line of dpkg's status is longer than any that dpkg writes"));
    }
    if going_on && !paragraph.is_empty() && paragraph.len() <= longest {
        show(start, &paragraph);
    }
    Ok(())
}
