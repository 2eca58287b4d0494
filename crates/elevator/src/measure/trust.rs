//! Whether a path can be believed: nobody but root can change what any component of it leads to.

use elevon_policy::application::{Distrust, Lane};
use elevon_policy::text::OsText;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::beliefs::{Draft, End};
use super::mounts::{Mount, Mounts};
use super::walk::{Place, Stopped, walk};

/// Writable by the group or by others.
const OTHERS_WRITE: u32 = 0o022;
/// Everybody goes through it, or executes it.
const ALL_EXECUTE: u32 = 0o111;
/// An overlay may lie on an overlay; the kernel stacks no deeper than this (`FILESYSTEM_MAX_STACK_DEPTH`).
const MAX_STACK: u8 = 2;

/// Why a path cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Somebody could change this component.
    Distrusted { component: OsText, because: Distrust },
    /// There is no such component, and nobody but root could put one there.
    Missing { component: OsText },
    /// The one who looks may not see what is there.
    Hidden { component: OsText },
}

/// The lane of a file that was found, by its path without links.
pub(super) fn lane(found: &Place, path: &OsText, mounts: &Mounts) -> Lane {
    match leads_to(path, mounts) {
        Ok(end) if end.identity == found.facts.identity => Lane::Trusted,
        Ok(_) => Lane::Untrusted { component: path.clone(), because: Distrust::Moved },
        Err(doubt) => {
            let (component, because) = doubt.parts();
            Lane::Untrusted { component, because }
        }
    }
}

impl Doubt {
    /// For whoever has seen that something was there a moment ago.
    pub(super) fn parts(self) -> (OsText, Distrust) {
        match self {
            Self::Distrusted { component, because } => (component, because),
            Self::Missing { component } | Self::Hidden { component } => (component, Distrust::Moved),
        }
    }
}

/// Goes along an absolute path from the root and believes each component before the next is looked at: links, and where they
/// lead, too. What comes out can be changed, and its name can be led elsewhere, by nobody but root.
pub(super) fn believe(path: &OsText, mounts: &Mounts) -> Result<Place, Doubt> {
    believe_on(path, mounts, 0, &mut |_, _| {})
}

/// Like [`believe`], for whoever needs no descriptor: what was believed before is only proven anew.
pub(super) fn leads_to(path: &OsText, mounts: &Mounts) -> Result<End, Doubt> {
    if let Some(end) = mounts.beliefs().find(path, mounts) {
        return Ok(end);
    }
    let mut draft = Draft::begin();
    let place =
        believe_on(path, mounts, 0, &mut |place, judged| draft.add(place, judged.for_all, judged.lasting))?;
    Ok(draft.keep(path, &place, mounts))
}

fn believe_on(
    path: &OsText,
    mounts: &Mounts,
    stack: u8,
    note: &mut dyn FnMut(&Place, Judged),
) -> Result<Place, Doubt> {
    if !path.as_bytes().starts_with(b"/") {
        return Err(Doubt::Distrusted { component: path.clone(), because: Distrust::Moved });
    }
    let found = walk(None, path.as_bytes(), 0, mounts, |place| match judge(place, mounts, stack, 0) {
        Ok(judged) => {
            note(place, judged);
            Ok(())
        }
        Err(because) => Err(Doubt::Distrusted { component: place.path.clone(), because }),
    });
    found.map_err(|stopped| match stopped {
        Stopped::Doubted(doubt) => doubt,
        Stopped::FileSystem { at, .. } => Doubt::Distrusted { component: at, because: Distrust::FileSystem },
        Stopped::System { at, errno: Errno::NOENT | Errno::NOTDIR } => Doubt::Missing { component: at },
        Stopped::System { at, .. } => Doubt::Hidden { component: at },
    })
}

/// Goes likewise along the path of a folder, in which `owner` may be the one who can change it, too; links are none of it.
pub(super) fn believe_folder(
    path: &OsText,
    owner: u32,
    mounts: &Mounts,
) -> Result<Place, (OsText, &'static str)> {
    let found = walk(None, path.as_bytes(), 0, mounts, |place| {
        let because = match judge(place, mounts, 0, owner) {
            _ if place.facts.kind() == FileType::Symlink => Some("is a symbolic link"),
            judged => judged.err().map(Distrust::sentence),
        };
        because.map_or(Ok(()), |because| Err((place.path.clone(), because)))
    });
    let place = found.map_err(|stopped| match stopped {
        Stopped::Doubted(doubt) => doubt,
        Stopped::FileSystem { at, .. } => (at, "lies on a file system that proves nothing"),
        Stopped::System { at, .. } => (at, "is not there"),
    })?;
    match place.facts.kind() {
        FileType::Directory => Ok(place),
        _ => Err((place.path, "is no folder")),
    }
}

/// A component that is believed.
#[derive(Debug, Clone, Copy)]
struct Judged {
    /// Whether everybody may go through it, or execute it.
    for_all: bool,
    /// Whether all that it was judged by shows in its facts and in the mount table.
    lasting: bool,
}

/// What is wrong with one component, if anything. `owner` counts as much as root.
fn judge(place: &Place, mounts: &Mounts, stack: u8, owner: u32) -> Result<Judged, Distrust> {
    let Ok(Some(mount)) = mounts.of(place.facts.mount) else {
        return Err(Distrust::FileSystem);
    };
    if let Some(because) = judge_mount(&mount, mounts, stack) {
        return Err(because);
    }
    if place.facts.owner != 0 && place.facts.owner != owner {
        return Err(Distrust::Owner);
    }
    // The folders that an overlay is made of are not components.
    let lasting = !mount.overlay() || mount.root;
    // A link's own mode means nothing, and it has no access list: who may replace it is the folder's affair.
    if place.facts.kind() == FileType::Symlink {
        return Ok(Judged { for_all: true, lasting });
    }
    let list = access_list(place);
    if list == AccessList::GrantsWriting {
        return Err(Distrust::AccessList);
    }
    if place.facts.mode & OTHERS_WRITE != 0 {
        return Err(Distrust::Writable);
    }
    let open = list == AccessList::None && place.facts.mode & ALL_EXECUTE == ALL_EXECUTE;
    let executed = !mount.noexec || place.facts.kind() == FileType::Directory;
    Ok(Judged { for_all: open && executed, lasting })
}

/// Whoever mounted the root decided over everything here already: its options and, where it is an overlay, its layers
/// (which in a container lie outside what can be seen) are believed. Any other overlay is only as good as the folders it is
/// made of.
fn judge_mount(mount: &Mount, mounts: &Mounts, stack: u8) -> Option<Distrust> {
    if mount.unproven && !mount.root {
        return Some(Distrust::Mount);
    }
    let believed = mount.local() || mount.overlay() && (mount.root || layers_believed(mount, mounts, stack));
    (!believed).then_some(Distrust::FileSystem)
}

fn layers_believed(mount: &Mount, mounts: &Mounts, stack: u8) -> bool {
    let believed = |layer| believe_on(layer, mounts, stack + 1, &mut |_, _| {}).is_ok();
    stack < MAX_STACK && !mount.layers.is_empty() && mount.layers.iter().all(believed)
}

/// What an access control list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccessList {
    /// There is none.
    None,
    /// It lets nobody but root write; what else it says is its own affair.
    Harmless,
    /// It lets somebody else write.
    GrantsWriting,
}

/// One that cannot be read or understood grants it.
fn access_list(place: &Place) -> AccessList {
    const MAX_LIST: usize = 4096;
    // By way of /proc, because a descriptor that is only a path has no attributes of its own.
    let mut list = [0; MAX_LIST];
    match rustix::fs::getxattr(place.handle(), c"system.posix_acl_access", &mut list) {
        Ok(length) => match list.get(..length).and_then(others_write) {
            Some(false) => AccessList::Harmless,
            Some(true) | None => AccessList::GrantsWriting,
        },
        Err(Errno::NODATA | Errno::OPNOTSUPP) => AccessList::None,
        Err(_) => AccessList::GrantsWriting,
    }
}

/// Reads a list as the kernel stores it (`linux/posix_acl_xattr.h`): a version, then tag, permissions and id of each entry,
/// little-endian. `None` where it is not of that form.
fn others_write(list: &[u8]) -> Option<bool> {
    const VERSION: u32 = 2;
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    const WRITE: u16 = 2;
    let (version, entries) = list.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    let mut entries = entries.iter().map(|[tag0, tag1, may0, may1, id @ ..]| {
        let (tag, may) = (u16::from_le_bytes([*tag0, *tag1]), u16::from_le_bytes([*may0, *may1]));
        (tag, may, u32::from_le_bytes(*id))
    });
    let mask = entries.clone().find(|(tag, ..)| *tag == MASK).map_or(WRITE, |(_, may, _)| may);
    let named = |(tag, may, id): (u16, u16, u32)| {
        let somebody = tag == GROUP || tag == USER && id != 0;
        somebody && may & mask & WRITE != 0
    };
    Some(entries.any(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entry = |(tag, may, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
        [2_u32.to_le_bytes().to_vec(), entries].concat()
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn access_lists_are_read_with_their_mask() {
        let own = [(0x01, 6, NOBODY), (0x04, 4, NOBODY), (0x20, 4, NOBODY)];
        let with = |more: &[(u16, u16, u32)]| others_write(&list(&[&own, more].concat()));
        assert_eq!(with(&[]), Some(false));
        assert_eq!(with(&[(0x02, 6, 1000), (0x10, 7, NOBODY)]), Some(true));
        assert_eq!(with(&[(0x02, 6, 1000), (0x10, 5, NOBODY)]), Some(false));
        assert_eq!(with(&[(0x02, 5, 1000), (0x10, 7, NOBODY)]), Some(false));
        assert_eq!(with(&[(0x02, 7, 0), (0x10, 7, NOBODY)]), Some(false));
        assert_eq!(with(&[(0x08, 7, 0), (0x10, 7, NOBODY)]), Some(true));
        assert_eq!(with(&[(0x02, 2, 1000)]), Some(true));
    }

    #[test]
    fn access_lists_of_another_form_are_not_understood() {
        assert_eq!(others_write(&[]), None);
        assert_eq!(others_write(&[1, 0, 0, 0]), None);
        assert_eq!(others_write(&[2, 0, 0, 0, 1]), None);
    }

    #[test]
    fn a_relative_path_is_never_believed() {
        let mounts = Mounts::default();
        for path in ["", "bin/sh", "./x", ".."] {
            assert!(believe(&OsText::from(path), &mounts).is_err(), "{path}");
        }
    }
}
