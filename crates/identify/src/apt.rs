//! What apt keeps in its lists (`/var/lib/apt/lists`): which vendor's signed Release lists which package. apt itself checks the
//! signature before it stores a Release there, as root's file; here nothing is checked again but that the index is the very one
//! that the Release names. Sources that an administrator told apt to trust unsigned prove nothing; they are told apart by name.

use std::collections::BTreeMap;

use elevon_policy::application::Sha256;

use crate::dpkg::fields;
use crate::package::hex;

/// A signed Release, as far as it says who lists what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Who made it.
    pub origin: String,
    /// Digests of the package indexes, by their names in the archive.
    pub indexes: BTreeMap<String, Sha256>,
}

/// Reads an `InRelease` (a cleartext signature, RFC 9580 section 7). What stands outside the signed part counts for nothing.
pub fn signed_release(file: &[u8]) -> Option<Release> {
    let body = file.strip_prefix(b"-----BEGIN PGP SIGNED MESSAGE-----\n")?;
    let start = find(body, b"\n\n")? + 2;
    let headers = body.get(..start)?.trim_ascii_end();
    if !headers.split(|byte| *byte == b'\n').all(|line| line.starts_with(b"Hash: ")) {
        return None;
    }
    let signed = body.get(start..)?;
    let end = find(signed, b"\n-----BEGIN PGP SIGNATURE-----\n")?;
    release(signed.get(..end)?)
}

/// Reads a `Release` whose signature lies beside it.
pub fn release(text: &[u8]) -> Option<Release> {
    let fields = fields(text)?;
    let origin = fields.word("origin").filter(|origin| !origin.is_empty())?.to_owned();
    let lines = fields.text("sha256").unwrap_or_default().split(|byte| *byte == b'\n');
    let indexes = lines.filter_map(|line| {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let (digest, _size, name) = (words.next()?, words.next()?, words.next()?);
        let name =
            std::str::from_utf8(name).ok().filter(|name| name.rsplit('/').next() == Some("Packages"))?;
        Some((name.to_owned(), Sha256(hex(digest)?)))
    });
    Some(Release { origin, indexes: indexes.collect() })
}

fn find(text: &[u8], piece: &[u8]) -> Option<usize> {
    text.windows(piece.len()).position(|window| window == piece)
}

/// A package in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
}

/// Reads an index line by line: it may be larger than what should be held in memory.
#[derive(Debug, Default)]
pub struct Index {
    name: Option<String>,
    version: Option<String>,
    architecture: Option<String>,
}

impl Index {
    /// Takes the next line, without its end. The empty line behind a paragraph gives the package.
    pub fn line(&mut self, line: &[u8]) -> Option<Listed> {
        if line.is_empty() {
            return self.end();
        }
        let places = [
            (&b"Package: "[..], &mut self.name),
            (b"Version: ", &mut self.version),
            (b"Architecture: ", &mut self.architecture),
        ];
        for (field, place) in places {
            if let Some(value) = line.strip_prefix(field) {
                *place = std::str::from_utf8(value.trim_ascii()).ok().map(str::to_owned);
            }
        }
        None
    }

    /// There are no more lines.
    pub fn end(&mut self) -> Option<Listed> {
        let Self { name, version, architecture } = std::mem::take(self);
        Some(Listed { name: name?, version: version?, architecture: architecture? })
    }
}

/// Beginnings of file names in the lists whose sources apt was told to trust without a signature, from the text of
/// `sources.list` or of a file `*.list` (sources.list(5)).
pub fn trusted_blindly(sources: &str) -> Vec<String> {
    let entries = sources.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("deb")?.trim_start_matches("-src").trim_start();
        let (options, rest) = rest.strip_prefix('[')?.split_once(']')?;
        let blind = options.split_whitespace().any(|option| is_blind(option.split_once('=')));
        blind.then(|| rest.split_whitespace().next().map(list_name))?
    });
    entries.collect()
}

/// The same for a file `*.sources`.
pub fn trusted_blindly_deb822(sources: &str) -> Vec<String> {
    let without_comments: Vec<&str> = sources.lines().filter(|line| !line.starts_with('#')).collect();
    let paragraphs = without_comments.split(|line| line.trim().is_empty());
    let uris = paragraphs.flat_map(|lines| {
        let text = lines.join("\n");
        let Some(fields) = fields(text.as_bytes()) else { return Vec::new() };
        let blind = ["trusted", "allow-insecure"]
            .into_iter()
            .any(|name| is_blind(Some((name, fields.word(name).unwrap_or_default()))));
        let uris = fields.text("uris").filter(|_| blind).unwrap_or_default();
        String::from_utf8_lossy(uris).split_whitespace().map(list_name).collect()
    });
    uris.collect()
}

fn is_blind(option: Option<(&str, &str)>) -> bool {
    option.is_some_and(|(name, value)| {
        let yes = ["yes", "true", "1", "on", "with", "enable"]
            .iter()
            .any(|yes| value.trim().eq_ignore_ascii_case(yes));
        yes && ["trusted", "allow-insecure"].iter().any(|known| name.eq_ignore_ascii_case(known))
    })
}

/// How apt calls what it got from there (`URItoFileName` in `apt-pkg/contrib/strutl.cc`), up to the suite.
fn list_name(uri: &str) -> String {
    let place = uri
        .split_once("://")
        .map_or_else(|| uri.split_once(':').map_or(uri, |(_, path)| path), |(_, rest)| rest);
    let place = place.rsplit_once('@').map_or(place, |(_, host)| host);
    let quoted = place.trim_matches('/').chars().map(|letter| match letter {
        '/' => "_".to_owned(),
        '\\' | '|' | '{' | '}' | '[' | ']' | '<' | '>' | '"' | '^' | '~' | '_' | '=' | '!' | '@' | '#'
        | '$' | '%' | '&' | '*' => {
            format!("%{:02x}", u32::from(letter))
        }
        letter => letter.to_string(),
    });
    quoted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nLabel: Debian\nMD5Sum:\n \
0ed6d4c8891eb86358b94bb35d9e4da4  1484322 main/binary-amd64/Packages\nSHA256:\n \
a05db20a2f3adc9f4175c37140e62a2aa05db20a2f3adc9f4175c37140e62a2a     12 main/binary-amd64/Packages\n \
b05db20a2f3adc9f4175c37140e62a2aa05db20a2f3adc9f4175c37140e62a2a     12 main/binary-amd64/Packages.xz\n\
-----BEGIN PGP SIGNATURE-----\n\niQ\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn a_signed_release_says_who_lists_what() {
        let release = signed_release(RELEASE.as_bytes()).expect("it is one");
        assert_eq!(release.origin, "Debian");
        assert_eq!(release.indexes.keys().collect::<Vec<_>>(), ["main/binary-amd64/Packages"]);
    }

    #[test]
    fn what_is_not_signed_says_nothing() {
        for broken in [
            RELEASE.replace("-----BEGIN PGP SIGNED MESSAGE-----\n", ""),
            format!("Origin: Acme\n{RELEASE}"),
            RELEASE.replace("-----BEGIN PGP SIGNATURE-----", "-----"),
            RELEASE.replace("Hash: SHA256\n", "Origin: Acme\n"),
            RELEASE.replace("Label: Debian", "Origin: Acme"),
            RELEASE.replace("Origin: Debian\n", ""),
            String::new(),
        ] {
            assert_eq!(signed_release(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn an_index_is_read_by_lines() {
        let mut index = Index::default();
        let text = "Package: apt\nVersion: 2.6.1\nDescription: x\n Version: 9\nArchitecture: amd64\n\nPackage: half\n\nVersion: 1";
        let found: Vec<_> = text.lines().filter_map(|line| index.line(line.as_bytes())).collect();
        assert_eq!(found.len(), 1);
        assert!(found.iter().all(|listed| listed.name == "apt" && listed.version == "2.6.1"));
        assert_eq!(index.end(), None);
    }

    #[test]
    fn sources_that_are_trusted_blindly_are_known() {
        let lines = "deb [trusted=yes] http://a.example/debian/ stable main\n# deb [trusted=yes] http://x/ y\n\
deb [arch=amd64 trusted=no] http://b.example y\ndeb http://c.example y\n  deb-src [ allow-insecure=yes ] file:/srv/my_repo ./\n";
        assert_eq!(trusted_blindly(lines), ["a.example_debian", "srv_my%5frepo"]);
        let paragraphs = "# x\nTypes: deb\nURIs: https://u@a.example/x\n https://b.example\nTrusted: yes\n\nTypes: deb\nURIs: http://c.example\n";
        assert_eq!(trusted_blindly_deb822(paragraphs), ["a.example_x", "b.example"]);
    }
}
