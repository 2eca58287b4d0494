//! Who the verified vendor of each installed package is, from apt's lists. They may hold a hundred thousand packages, packed;
//! they are read once, when the index is made, piece by piece.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use elevon_identify::apt::{self, Listed, Release};
use elevon_policy::application::Sha256;
use sha2::Digest;

use super::files::owned_by_root;
use super::index::hash;
use super::lines::each_line;

/// No Release, and no list of sources, is larger.
const MAX_TEXT: u64 = 16 << 20;
/// No index is larger, unpacked.
const MAX_INDEX: u64 = 1 << 30;

/// What the signed indexes say of one installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Vendor {
    /// One vendor lists it.
    One(String),
    /// Several do, so that nobody can say whose it is.
    Several,
}

/// The identity of a package: what an index must list to mean it.
pub(super) fn identity(name: &str, version: &str, architecture: &str) -> u64 {
    hash(&[name.as_bytes(), version.as_bytes(), architecture.as_bytes()])
}

/// The vendors of those packages that `is_installed` knows by their identity.
pub(super) fn vendors(root: &Path, is_installed: impl Fn(u64) -> bool) -> io::Result<HashMap<u64, Vendor>> {
    let lists = root.join("var/lib/apt/lists");
    let mut names: Vec<String> = match fs::read_dir(&lists) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    names.sort_unstable();
    let releases = releases(&lists, &names, &blind(root)?);
    let mut found = HashMap::new();
    for name in &names {
        let Some((release, wanted)) = named_by(&releases, name) else {
            continue;
        };
        let mut here = Vec::new();
        let digest = read_index(&lists.join(name), |listed| {
            let identity = identity(&listed.name, &listed.version, &listed.architecture);
            if is_installed(identity) {
                here.push(identity);
            }
        });
        match digest {
            Ok(digest) if digest == wanted => {
                here.into_iter().for_each(|package| add(&mut found, package, &release.origin))
            }
            // Half of an update, or no list of apt's: it says nothing.
            Ok(_) | Err(_) => {
                eprintln!("elevon-elevator: apt's list {name} is not the one that its Release names")
            }
        }
    }
    Ok(found)
}

fn add(found: &mut HashMap<u64, Vendor>, package: u64, origin: &str) {
    let vendor = found.entry(package).or_insert_with(|| Vendor::One(origin.to_owned()));
    if *vendor != Vendor::One(origin.to_owned()) {
        *vendor = Vendor::Several;
    }
}

/// Each Release by the beginning that its files' names share; nothing stands for one that proves nothing.
fn releases(lists: &Path, names: &[String], blind: &[String]) -> Vec<(String, Option<Release>)> {
    let releases = names.iter().filter_map(|name| {
        let prefix = name.strip_suffix("InRelease").or_else(|| name.strip_suffix("Release"))?;
        let trusted_blindly = blind.iter().any(|source| {
            prefix.strip_prefix(source.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        });
        let text = text(&lists.join(name)).ok();
        let release = text.filter(|_| !trusted_blindly).and_then(|text| match name.ends_with("InRelease") {
            true => apt::signed_release(&text),
            false if names.contains(&format!("{name}.gpg")) => apt::release(&text),
            false => None,
        });
        Some((prefix.to_owned(), release))
    });
    releases.collect()
}

/// The Release that names this index, and the digest it gives it. The longest beginning counts: a source may lie below another.
fn named_by<'a>(releases: &'a [(String, Option<Release>)], name: &str) -> Option<(&'a Release, Sha256)> {
    let plain = name.strip_suffix(".lz4").unwrap_or(name);
    if !plain.ends_with("Packages") {
        return None;
    }
    let beginnings = releases.iter().filter(|(prefix, _)| plain.starts_with(prefix.as_str()));
    let (prefix, release) = beginnings.max_by_key(|(prefix, _)| prefix.len())?;
    let release = release.as_ref()?;
    let in_archive = plain.strip_prefix(prefix.as_str())?.replace('_', "/").replace("%5f", "_");
    Some((release, *release.indexes.get(&in_archive)?))
}

/// Shows each package, and gives the digest of all that was read.
fn read_index(path: &Path, mut show: impl FnMut(Listed)) -> io::Result<Sha256> {
    let file = owned_by_root(path)?;
    let packed = path.extension().is_some_and(|extension| extension == "lz4");
    let plain: Box<dyn Read> = match packed {
        true => Box::new(lz4_flex::frame::FrameDecoder::new(BufReader::new(file))),
        false => Box::new(file),
    };
    let mut digested = Digested { from: plain.take(MAX_INDEX), digest: sha2::Sha256::new() };
    let mut index = apt::Index::default();
    each_line(BufReader::with_capacity(64 << 10, &mut digested), |line| {
        index.line(line).into_iter().for_each(&mut show);
        true
    })?;
    index.end().into_iter().for_each(show);
    Ok(Sha256(digested.digest.finalize().into()))
}

struct Digested<R> {
    from: R,
    digest: sha2::Sha256,
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.digest.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}

/// The sources that apt trusts without a signature, by the beginnings of their lists' names.
fn blind(root: &Path) -> io::Result<Vec<String>> {
    let mut files: Vec<PathBuf> = vec![root.join("etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir(root.join("etc/apt/sources.list.d")) {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    let mut blind = Vec::new();
    for file in files {
        let text = match text(&file) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        blind.extend(match file.extension().is_some_and(|extension| extension == "sources") {
            true => apt::trusted_blindly_deb822(&text),
            false => apt::trusted_blindly(&text),
        });
    }
    Ok(blind)
}

fn text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    owned_by_root(path)?.take(MAX_TEXT).read_to_end(&mut text)?;
    Ok(text)
}
