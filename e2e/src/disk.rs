//! A disk of one's own: an ext4 file system of a few megabytes in an image file, mounted over a directory. It can be filled
//! to the last byte, and it can lose its power: then what was not synced is gone, as the file system left it.
//!
//! What is mounted here is seen by this thread and its children alone, and goes with them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use crate::program::must;

/// From now on mounts of this thread are its own and its children's.
pub fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace; this needs root")?;
    must(Command::new("mount").args(["--make-rprivate", "/"]), b"").map(drop)
}

/// A disk that is mounted.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// A new one of so many MiB, with its image in `images`, mounted over a directory whose files it takes along.
    pub fn over(at: &Path, images: &Path, mebibytes: u64) -> Result<Self> {
        let name = at.file_name().context("a directory with a name")?.to_string_lossy().into_owned();
        let disk = Self { image: images.join(format!("{name}.img")), at: at.to_owned() };
        File::create(&disk.image)?.set_len(mebibytes << 20)?;
        let mut mkfs = Command::new("mkfs.ext4");
        // Nothing kept back for root: full is full.
        mkfs.args(["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&disk.image);
        must(&mut mkfs, b"")?;
        let aside = images.join(format!("{name}.aside"));
        fs::create_dir(&aside)?;
        disk.mount(&aside)?;
        must(Command::new("cp").arg("--archive").arg(at.join(".")).arg(&aside), b"")?;
        must(Command::new("umount").arg(&aside), b"")?;
        disk.mount(at)?;
        Ok(disk)
    }

    /// The worst that the file system may do: nothing is written back by itself for minutes, nor because a file is put in
    /// another's place.
    fn mount(&self, at: &Path) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop,noauto_da_alloc,commit=300"]).arg(&self.image).arg(at);
        must(&mut mount, b"").map(drop)
    }

    /// Keeps what the disk itself has at this moment: without what the kernel has not written to it yet. Whoever writes
    /// should be stopped.
    pub fn freeze(&self) -> Result<()> {
        must(Command::new("cp").arg("--sparse=always").arg(&self.image).arg(self.kept()), b"").map(drop)
    }

    /// The disk as [`Disk::freeze`] kept it, mounted again; its file system recovers as after a loss of power. Nobody may
    /// use it meanwhile.
    pub fn lose_power(&self) -> Result<()> {
        self.unmount()?;
        fs::rename(self.kept(), &self.image)?;
        self.mount(&self.at)
    }

    /// Takes all the room that is left, to the last byte.
    pub fn fill(&self) -> Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.ballast())?;
        let mut size = 1 << 20;
        while size > 0 {
            match file.write_all(&vec![1; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error).context("fill a disk"),
            }
        }
        Ok(file.sync_all()?)
    }

    /// Gives the room back.
    pub fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    /// Nobody may use it any more.
    pub fn unmount(&self) -> Result<()> {
        must(Command::new("umount").arg(&self.at), b"").map(drop)
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    fn kept(&self) -> PathBuf {
        self.image.with_extension("kept")
    }
}
