//! Under which name a package recorded a file, and where that file lies. The two differ where `/bin` is a link into `/usr`,
//! and where a package was told to lay a file elsewhere (dpkg-divert(1)).

/// What leads from recorded names to places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Folders at the root that are links: `/bin` and `/usr/bin`.
    links: Vec<(Vec<u8>, Vec<u8>)>,
    diversions: Vec<Diversion>,
}

/// No computer has more; a Debian desktop has about fifty.
const MAX_DIVERSIONS: usize = 4096;
/// dpkg-divert lets one lead to a place.
const MAX_TO_ONE_PLACE: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Diversion {
    from: Vec<u8>,
    to: Vec<u8>,
    /// The package whose own file stays; none where every package's goes.
    except: Option<Vec<u8>>,
}

impl Names {
    /// From the links at the root, absolute and without a slash at their end, and the file `diversions`.
    pub fn new(links: Vec<(Vec<u8>, Vec<u8>)>, diversions: &[u8]) -> Self {
        let links = Self { links, diversions: Vec::new() };
        let lines: Vec<&[u8]> =
            diversions.strip_suffix(b"\n").unwrap_or(diversions).split(|byte| *byte == b'\n').collect();
        let (triples, _) = lines.as_chunks::<3>();
        let read = |[from, to, package]: &[&[u8]; 3]| Diversion {
            from: links.without_links(from),
            to: links.without_links(to),
            except: (*package != b":").then(|| package.to_vec()),
        };
        Self { diversions: triples.iter().take(MAX_DIVERSIONS).map(read).collect(), ..links.clone() }
    }

    /// Where the file lies that this package recorded under this name.
    pub fn place(&self, recorded: &[u8], package: &str) -> Vec<u8> {
        let place = self.without_links(recorded);
        let diverted = self.diversions.iter().find(|diversion| {
            diversion.from == place && diversion.except.as_deref() != Some(package.as_bytes())
        });
        diverted.map_or(place, |diversion| diversion.to.clone())
    }

    /// Every name under which this package may have recorded what lies there.
    pub fn recorded(&self, place: &[u8], package: &str) -> Vec<Vec<u8>> {
        let diverted =
            self.diversions.iter().filter(|diversion| diversion.to == place).take(MAX_TO_ONE_PLACE);
        let places = std::iter::once(place).chain(diverted.map(|diversion| diversion.from.as_slice()));
        let names = places.flat_map(|place| {
            let linked = self.links.iter().filter_map(move |(link, target)| replaced(place, target, link));
            std::iter::once(place.to_vec()).chain(linked)
        });
        names.filter(|name| self.place(name, package) == place).collect()
    }

    fn without_links(&self, name: &[u8]) -> Vec<u8> {
        let found = self.links.iter().find_map(|(link, target)| replaced(name, link, target));
        found.unwrap_or_else(|| name.to_vec())
    }
}

/// The path below one folder as it is below another.
fn replaced(path: &[u8], folder: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(folder).filter(|rest| rest.starts_with(b"/"))?;
    Some([other, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let links = [("/bin", "/usr/bin"), ("/lib", "/usr/lib"), ("/lib64", "/usr/lib64")];
        let links = links.map(|(link, target)| (link.as_bytes().to_vec(), target.as_bytes().to_vec()));
        let diversions = b"/bin/sh\n/bin/sh.distrib\ndash\n/usr/bin/pg_config\n/usr/bin/pg_config.old\npostgresql-common\n\
/usr/sbin/invoke-rc.d\n/usr/sbin/invoke-rc.d.real\n:\nleft over\n";
        Names::new(links.into(), diversions)
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("it was text")
    }

    #[test]
    fn files_lie_where_links_and_diversions_lead() {
        for (recorded, package, place) in [
            ("/bin/systemctl", "systemd", "/usr/bin/systemctl"),
            ("/usr/bin/apt-get", "apt", "/usr/bin/apt-get"),
            ("/binary/x", "x", "/binary/x"),
            ("/lib64/ld.so", "libc6", "/usr/lib64/ld.so"),
            ("/bin/sh", "dash", "/usr/bin/sh"),
            ("/bin/sh", "bash", "/usr/bin/sh.distrib"),
            ("/usr/bin/sh", "bash", "/usr/bin/sh.distrib"),
            ("/usr/bin/pg_config", "libpq-dev", "/usr/bin/pg_config.old"),
            ("/usr/bin/pg_config", "postgresql-common", "/usr/bin/pg_config"),
            ("/usr/sbin/invoke-rc.d", "any", "/usr/sbin/invoke-rc.d.real"),
        ] {
            assert_eq!(text(&names().place(recorded.as_bytes(), package)), place, "{recorded} of {package}");
        }
    }

    #[test]
    fn every_name_of_a_place_is_found_and_no_other() {
        let found = |place: &str, package: &str| -> Vec<String> {
            names().recorded(place.as_bytes(), package).iter().map(|name| text(name).to_owned()).collect()
        };
        assert_eq!(found("/usr/bin/systemctl", "systemd"), ["/usr/bin/systemctl", "/bin/systemctl"]);
        assert_eq!(
            found("/usr/bin/sh.distrib", "bash"),
            ["/usr/bin/sh.distrib", "/bin/sh.distrib", "/usr/bin/sh", "/bin/sh"]
        );
        // The diverting package's own file lies where it always did; everybody else's does not.
        assert_eq!(
            found("/usr/bin/pg_config", "postgresql-common"),
            ["/usr/bin/pg_config", "/bin/pg_config"]
        );
        assert!(found("/usr/bin/pg_config", "libpq-dev").is_empty());
        assert!(found("/usr/sbin/invoke-rc.d", "any").is_empty());
    }
}
