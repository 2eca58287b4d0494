//! Sites whose test or demo was killed before it could clean up: whoever comes next does it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::Result;
use rustix::fs::{FlockOperation, flock};

use crate::clock::{SOON, until_true};
use crate::leftovers::{self, Marks};
use crate::person;

/// Removes every site whose process is gone; once a process.
pub fn clear() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in names().into_iter().filter(|name| is_abandoned(name)) {
            remove(&name);
        }
    });
}

/// The names of all sites on this computer, by their directories.
fn names() -> Vec<String> {
    let entries = ["/tmp", "/opt"].into_iter().flat_map(fs::read_dir).flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("elevon-e2e-") || name.starts_with("elevon-demo-"));
    names.sort();
    names.dedup();
    names
}

/// Holds a site's directory for as long as this is kept: nobody takes the site for abandoned meanwhile, also where this
/// process cannot be seen, as from another PID namespace.
pub fn hold(directory: &Path) -> Result<File> {
    let file = File::open(directory)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// A site's name ends with the process that made it: `elevon-e2e-4711x3`, `elevon-demo-4711`.
fn is_abandoned(name: &str) -> bool {
    let directory = Path::new("/tmp").join(name);
    if directory.exists() && hold(&directory).is_err() {
        return false;
    }
    let last = name.rsplit('-').next().unwrap_or_default();
    let pid = last.split('x').next().and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

fn remove(name: &str) {
    eprintln!("removing {name}, whose process was killed");
    let directories = vec![Path::new("/tmp").join(name), Path::new("/opt").join(name)];
    let users = person::at_home_in(&directories[0]);
    let marks = Marks {
        uids: users.iter().map(|(_, uid)| *uid).collect(),
        cgroup: leftovers::cgroup_root().map(|root: PathBuf| root.join(name)),
        directories,
        ..Marks::default()
    };
    let ended = until_true("an abandoned site's processes to end", SOON, || {
        let lingering = leftovers::processes(&marks);
        leftovers::end(&lingering);
        lingering.is_empty()
    });
    users.iter().for_each(|(user, _)| person::remove(user));
    marks.cgroup.iter().for_each(|cgroup| leftovers::remove_cgroup(cgroup));
    for directory in &marks.directories {
        let _ = fs::remove_dir_all(directory);
    }
    if let Err(error) = ended {
        eprintln!("{name} could not be removed altogether: {error}");
    }
}
