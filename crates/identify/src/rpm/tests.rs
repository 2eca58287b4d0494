//! Against a database that rpm 4.18 made: two packages, `tool-bin` by Acme and `second` by nobody, with some sixty files each,
//! on pages of 512 bytes so that its trees are deep and its headers overflow.

use elevon_policy::text::OsText;
use proptest::prelude::*;

use super::*;

const DATABASE: &[u8] = include_bytes!("../../tests/rpmdb.sqlite");

fn ask(file: &[u8], path: &str) -> Result<Option<Owned>, Unread<()>> {
    let names = Names::new(vec![(b"/bin".to_vec(), b"/usr/bin".to_vec())], b"");
    let mut database = Database::open(|offset, length| {
        let rest = usize::try_from(offset).ok().and_then(|offset| file.get(offset..)).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest).to_vec())
    })?;
    owner(&mut database, &OsText::from(path), &names)
}

#[test]
fn a_file_belongs_to_the_package_that_recorded_it() {
    let owned = ask(DATABASE, "/usr/bin/tool").expect("it is a database").expect("it is owned");
    let package = &owned.package;
    assert_eq!((&package.name, &package.product), (&Text::new("tool-bin"), &Text::new("tool-bin")));
    assert_eq!(package.version, Text::new("1:1.2-3.fc40"));
    assert_eq!(package.vendor, Some(Vendor { name: Text::new("Acme"), verified: false }));
    assert!(matches!(owned.digest, Some(Recorded::Sha256(_))));
    let namesake = ask(DATABASE, "/usr/sbin/tool").expect("it is a database").expect("it is owned");
    assert_ne!(namesake.digest, owned.digest);
    let second = ask(DATABASE, "/usr/bin/second").expect("it is a database").expect("it is owned");
    assert_eq!((second.package.name, second.package.vendor), (Text::new("second"), None));
}

#[test]
fn every_file_of_a_package_is_found() {
    for (number, folder) in (1..=60).flat_map(|number| [(number, "tool-bin"), (number, "second")]) {
        let path = format!("/usr/share/{folder}/file{number}");
        let owned = ask(DATABASE, &path).expect("it is a database").expect("it is owned");
        assert_eq!(owned.package.name, Text::new(folder), "{path}");
    }
}

#[test]
fn other_paths_belong_to_nobody() {
    for path in [
        "/usr/bin/tools",
        "/usr/bin/too",
        "/opt/tool",
        "/usr/bin",
        "/tool",
        "tool",
        "",
        "/",
        "/usr/share/tool-bin/file61",
    ] {
        assert_eq!(ask(DATABASE, path).expect("it is a database"), None, "{path}");
    }
}

#[test]
fn what_is_no_database_is_refused() {
    for file in [&b""[..], b"SQLite format 3\0", &[0; 4096]] {
        assert!(matches!(ask(file, "/usr/bin/tool"), Err(Unread::NotSqlite(_))));
    }
    for length in (0..DATABASE.len()).step_by(311) {
        // Cut off it may still tell of what is there, but never of another package.
        if let Ok(Some(owned)) = ask(DATABASE.get(..length).unwrap_or_default(), "/usr/bin/tool") {
            assert_eq!(owned.package.name, Text::new("tool-bin"));
        }
    }
}

#[test]
fn the_source_package_is_the_product() {
    assert_eq!(source_name("bash-5.2.26-3.fc40.src.rpm"), Some("bash"));
    assert_eq!(source_name("gtk-doc-1-2.nosrc.rpm"), Some("gtk-doc"));
    for bad in ["", "bash", "bash.src.rpm", "-1-2.src.rpm", "bash-1-2.rpm"] {
        assert_eq!(source_name(bad), None, "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Damage anywhere is an error or no answer; it never hangs, and never panics.
    #[test]
    fn a_damaged_database_is_survived(changes in prop::collection::vec((0..DATABASE.len(), any::<u8>()), 1..40)) {
        let mut file = DATABASE.to_vec();
        for (at, byte) in changes {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        let _ = ask(&file, "/usr/bin/tool");
    }
}
