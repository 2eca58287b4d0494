//! What is mounted: which kind of file system a component lies on, read from `/proc/thread-self/mountinfo` (proc(5)). Asking the
//! file system itself (`statfs`) would wait for whoever serves it, and cannot tell ext2 from ext4.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use elevon_policy::text::OsText;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::beliefs::Beliefs;
use super::walk::Place;

/// Local file systems whose owners and modes mean what they say. Overlays are judged by their layers.
const LOCAL: [&str; 8] = ["ext4", "xfs", "btrfs", "zfs", "f2fs", "erofs", "squashfs", "tmpfs"];
/// Others that programs may lie on; only their bytes count.
const ELSEWHERE: [&str; 25] = [
    "9p", "afs", "bcachefs", "ceph", "cifs", "ecryptfs", "exfat", "ext2", "ext3", "gfs2", "gpfs", "hfsplus",
    "iso9660", "jfs", "lustre", "msdos", "nfs", "nfs4", "ntfs3", "ocfs2", "ramfs", "reiserfs", "smb3", "udf",
    "vfat",
];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mount {
    /// The file system's type, as the kernel names it.
    pub(super) kind: String,
    /// Whether it is what `/` lies on.
    pub(super) root: bool,
    /// Whether its owners prove nothing: set-id bits are off, or owners are mapped.
    pub(super) unproven: bool,
    /// Whether nothing on it is executed.
    pub(super) noexec: bool,
    /// The folders that an overlay is made of.
    pub(super) layers: Vec<OsText>,
}

impl Mount {
    /// Whether a program answers for it, and may answer as it likes, or never.
    pub(super) fn served(&self) -> bool {
        self.kind.starts_with("fuse")
    }

    /// Whether it is a known local one.
    pub(super) fn local(&self) -> bool {
        LOCAL.contains(&self.kind.as_str())
    }

    /// Whether it is made of layers.
    pub(super) fn overlay(&self) -> bool {
        self.kind == "overlay"
    }

    /// Whether programs may be read from it at all.
    pub(super) fn holds_programs(&self) -> bool {
        self.local() || self.overlay() || self.kind == "virtiofs" || ELSEWHERE.contains(&self.kind.as_str())
    }

    /// Whether its links are text and nothing more; those of the kernel's own file systems may lead into other namespaces.
    pub(super) fn has_plain_links(&self) -> bool {
        self.holds_programs()
    }
}

/// The mount table as it was last read. The kernel tells of each change to whoever holds the file open (proc(5)), so that
/// nothing is read twice.
#[derive(Debug, Default)]
pub(super) struct Table {
    last: Mutex<Option<Read>>,
    /// What was believed of paths while the mounts were these.
    beliefs: Beliefs,
}

/// The mounts between two changes, by their numbers.
pub(super) type Now = BTreeMap<u64, Arc<Mount>>;

#[derive(Debug)]
struct Read {
    file: File,
    mounts: Arc<Now>,
}

impl Table {
    fn current(&self) -> Result<Arc<Now>, Errno> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = last.as_ref()
            && !has_changed(&read.file)?
        {
            return Ok(Arc::clone(&read.mounts));
        }
        let told = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let mut file = File::open("/proc/thread-self/mountinfo").map_err(told)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(told)?;
        let mounts = Arc::new(read(&text, Place::root()?.facts.mount));
        *last = Some(Read { file, mounts: Arc::clone(&mounts) });
        self.beliefs.forget();
        Ok(mounts)
    }
}

/// Whether anything was mounted or unmounted since the file was opened or last asked.
fn has_changed(file: &File) -> Result<bool, Errno> {
    let mut asked = [PollFd::new(file, PollFlags::PRI)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut asked, Some(&now)) {
        Ok(changed) => Ok(changed > 0),
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// The mounts, as one measurement sees them: looked at when they are first needed, and again when one is not among them yet.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    table: Arc<Table>,
    seen: RefCell<Arc<Now>>,
}

impl Mounts {
    pub(super) fn of_table(table: &Arc<Table>) -> Self {
        Self { table: Arc::clone(table), seen: RefCell::default() }
    }

    /// All of them.
    pub(super) fn now(&self) -> Result<Arc<Now>, Errno> {
        if self.seen.borrow().is_empty() {
            *self.seen.borrow_mut() = self.table.current()?;
        }
        Ok(Arc::clone(&self.seen.borrow()))
    }

    /// What was believed of paths while they were these.
    pub(super) fn beliefs(&self) -> &Beliefs {
        &self.table.beliefs
    }

    /// What the root folder lies on.
    pub(super) fn root(&self) -> Option<Arc<Mount>> {
        self.now().ok()?.values().find(|mount| mount.root).map(Arc::clone)
    }

    /// The mount of this number; `None` where this process has none such.
    pub(super) fn of(&self, id: u64) -> Result<Option<Arc<Mount>>, Errno> {
        if let Some(mount) = self.seen.borrow().get(&id) {
            return Ok(Some(Arc::clone(mount)));
        }
        *self.seen.borrow_mut() = self.table.current()?;
        Ok(self.seen.borrow().get(&id).map(Arc::clone))
    }
}

/// Reads the table; lines that are not as proc(5) has them are left out, so that what lies there is on no known mount.
fn read(table: &[u8], root: u64) -> BTreeMap<u64, Arc<Mount>> {
    table.split(|byte| *byte == b'\n').filter_map(|line| mount(line, root)).collect()
}

fn mount(line: &[u8], root: u64) -> Option<(u64, Arc<Mount>)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let options = fields.nth(4)?;
    let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8(behind.next()?.to_vec()).ok()?;
    let details = behind.nth(1).unwrap_or_default();
    let has = |wanted: &[u8]| options.split(|byte| *byte == b',').any(|option| option == wanted);
    let (unproven, noexec) = (has(b"nosuid") || has(b"idmapped"), has(b"noexec"));
    let layers = if kind == "overlay" { layers(details) } else { Vec::new() };
    Some((id, Arc::new(Mount { kind, root: id == root, unproven, noexec, layers })))
}

/// The folders in an overlay's options. Commas and blanks in them are escaped as `\054` and so on, colons as `\:`.
fn layers(options: &[u8]) -> Vec<OsText> {
    const KEYS: [&[u8]; 5] = [b"lowerdir", b"lowerdir+", b"datadir+", b"upperdir", b"workdir"];
    let mut layers = Vec::new();
    for option in options.split(|byte| *byte == b',') {
        let Some(equals) = option.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (key, value) = option.split_at(equals);
        if KEYS.contains(&key) {
            layers.extend(folders(&unescaped(value.get(1..).unwrap_or_default())));
        }
    }
    layers
}

fn folders(list: &[u8]) -> Vec<OsText> {
    let mut folders = vec![Vec::new()];
    let mut bytes = list.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, folders.last_mut()) {
            (b':', _) => folders.push(Vec::new()),
            (b'\\', Some(folder)) => folder.extend(bytes.next()),
            (byte, Some(folder)) => folder.push(byte),
            (_, None) => {}
        }
    }
    folders.into_iter().filter(|folder| !folder.is_empty()).map(OsText::new).collect()
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..] if *first == b'\\' => {
                plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = behind;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] =
        b"36 35 98:0 /mnt1 / rw,noatime master:1 shared:2 - ext4 /dev/root rw,errors=continue\n\
        40 36 0:5 / /media/stick rw,nosuid,nodev - ext4 /dev/sdb1 rw\n\
        41 36 0:6 / /home/a\\040b rw - fuse.sshfs a@b:/ rw,user_id=1000\n\
        42 36 0:7 / /merged rw - overlay overlay \
rw,lowerdir=/lower\\0541:/a\\134:b,upperdir=/up,workdir=/work,xino=off\n\
        43 36 0:8 / /new rw,idmapped - overlay none ro,lowerdir+=/x,datadir+=/y\n\
        nonsense\n44 36\n45 36 0:9 / /short rw\n";

    fn found(id: u64) -> Mount {
        read(TABLE, 36).get(&id).map(|mount| Mount::clone(mount)).expect("it is in the table")
    }

    #[test]
    fn the_table_is_read() {
        assert_eq!(read(TABLE, 36).len(), 5);
        assert!(found(36).local() && found(36).root && !found(36).unproven);
        assert!(found(40).unproven && found(43).unproven && !found(40).root);
        assert!(found(41).served() && !found(41).holds_programs());
    }

    #[test]
    fn an_overlays_layers_are_found() {
        let layers: Vec<OsText> = ["/lower,1", "/a:b", "/up", "/work"].map(OsText::from).into();
        assert_eq!(found(42).layers, layers);
        assert_eq!(found(43).layers, ["/x", "/y"].map(OsText::from));
    }

    #[test]
    fn the_root_of_this_process_is_known() {
        let mounts = Mounts::default();
        let root = Place::root().expect("there is a root");
        let mount = mounts.of(root.facts.mount).expect("the table can be read").expect("the root is mounted");
        assert!(mount.root);
        assert_eq!(mounts.of(u64::MAX).expect("the table can be read"), None);
    }
}
