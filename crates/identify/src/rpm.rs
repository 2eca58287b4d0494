//! What rpm's database says: a SQLite file whose table `Packages` holds one header for each package, and whose table
//! `Basenames` says which headers name a file (`lib/backend/sqlite.cc` of rpm).

pub(crate) mod header;
mod sqlite;

use elevon_policy::application::{Package, PackageSystem, Sha256, Vendor};
use elevon_policy::text::{OsText, Text};

use crate::dpkg::Names;
use crate::package::{Owned, Recorded, hex};
use header::Header;
use sqlite::Value;
pub use sqlite::{Database, NotSqlite, Unread};

/// Larger headers are not looked at; a kernel's has about 2 MiB.
pub(crate) const MAX_HEADER: usize = 32 << 20;
/// No base name is looked up in more packages.
const MAX_NAMESAKES: usize = 4096;

/// The package that owns what lies there. `names` leads from places to recorded names.
pub fn owner<E, F>(
    database: &mut Database<F>,
    path: &OsText,
    names: &Names,
) -> Result<Option<Owned>, Unread<E>>
where
    F: FnMut(u64, usize) -> Result<Vec<u8>, E>,
{
    let names = names.recorded(path.as_bytes(), "");
    let (packages, basenames, by_name) =
        (database.root("Packages")?, database.root("Basenames")?, database.root("Basenames_key_idx")?);
    let rows = database.rows_with_key(by_name, path.file_name().as_bytes(), MAX_NAMESAKES)?;
    for row in rows {
        let Some(Value::Integer(package)) = database.row(basenames, row, MAX_HEADER)?.into_iter().nth(1)
        else {
            continue;
        };
        let columns = database.row(packages, package, MAX_HEADER)?;
        let Some(Value::Bytes(blob)) = columns.into_iter().nth(1) else { continue };
        if let Some(owned) = Header::read(&blob).and_then(|header| of_header(&header, &names)) {
            return Ok(Some(owned));
        }
    }
    Ok(None)
}

/// Tags of a header (`include/rpm/rpmtag.h`).
pub(crate) mod tag {
    pub(crate) const NAME: u32 = 1000;
    pub(crate) const VERSION: u32 = 1001;
    pub(crate) const RELEASE: u32 = 1002;
    pub(crate) const EPOCH: u32 = 1003;
    pub(crate) const VENDOR: u32 = 1011;
    pub(crate) const FILE_STATES: u32 = 1029;
    pub(crate) const FILE_DIGESTS: u32 = 1035;
    pub(crate) const SOURCE_RPM: u32 = 1044;
    #[cfg(feature = "upload")]
    pub(crate) const PAYLOAD_FORMAT: u32 = 1124;
    #[cfg(feature = "upload")]
    pub(crate) const PAYLOAD_COMPRESSOR: u32 = 1125;
    pub(crate) const DIR_INDEXES: u32 = 1116;
    pub(crate) const BASE_NAMES: u32 = 1117;
    pub(crate) const DIR_NAMES: u32 = 1118;
    pub(crate) const FILE_DIGEST_ALGORITHM: u32 = 5011;
}

/// What the header says of a file that it records under one of these names.
fn of_header(header: &Header<'_>, names: &[Vec<u8>]) -> Option<Owned> {
    let folders = header.strings(tag::DIR_NAMES)?;
    let base_names = header.strings(tag::BASE_NAMES)?;
    let in_folder = header.numbers(tag::DIR_INDEXES)?;
    let is_it = |(base, folder): (&&[u8], &u32)| {
        let folder =
            usize::try_from(*folder).ok().and_then(|at| folders.get(at)).copied().unwrap_or_default();
        names.iter().any(|name| name.strip_prefix(folder) == Some(base) && !folder.is_empty())
    };
    let at = base_names.iter().zip(&in_folder).position(is_it)?;
    // Replaced by another package, left out, or on a network's file system: not this package's file.
    if header.bytes(tag::FILE_STATES).and_then(|states| states.get(at).copied()) != Some(0) {
        return None;
    }
    let digests = header.strings(tag::FILE_DIGESTS).unwrap_or_default();
    let digest = digests.get(at).copied().unwrap_or_default();
    let digest = match header.numbers(tag::FILE_DIGEST_ALGORITHM).and_then(|numbers| numbers.first().copied())
    {
        // As OpenPGP numbers them.
        None | Some(1) => hex(digest).map(Recorded::Md5),
        Some(8) => hex(digest).map(|digest| Recorded::Sha256(Sha256(digest))),
        Some(_) => None,
    };
    Some(Owned { package: package(header)?, digest })
}

/// No signature stands behind the vendor's name: rpm's database says nothing about who checked one, and when.
pub(crate) fn package(header: &Header<'_>) -> Option<Package> {
    let text = |tag| header.string(tag).filter(|text| !text.is_empty());
    let name = text(tag::NAME)?;
    let epoch = header.numbers(tag::EPOCH).and_then(|numbers| numbers.first().copied());
    let epoch = epoch.map_or_else(String::new, |epoch| format!("{epoch}:"));
    Some(Package {
        system: PackageSystem::Rpm,
        name: Text::new(name),
        product: Text::new(text(tag::SOURCE_RPM).and_then(source_name).unwrap_or(name)),
        version: Text::new(format!("{epoch}{}-{}", text(tag::VERSION)?, text(tag::RELEASE)?)),
        vendor: text(tag::VENDOR).map(|name| Vendor { name: Text::new(name), verified: false }),
        unmodified: false,
    })
}

/// `bash-5.2.26-3.fc40.src.rpm` → `bash`.
fn source_name(file: &str) -> Option<&str> {
    let stem = file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"))?;
    let mut parts = stem.rsplitn(3, '-');
    let (_release, _version) = (parts.next()?, parts.next()?);
    parts.next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
