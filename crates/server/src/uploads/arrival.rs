//! A file on its way to the disk: into a folder of the server's own, under no name, so that it is gone with whoever holds it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use elevon_policy::id::RequestId;
use elevon_policy::time::Timestamp;
use futures_util::{Stream, StreamExt};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::LARGEST;
use crate::app::chance;
use crate::error::Error;
use crate::keys::private_folder;

const FOLDER: &str = "uploads";
/// Whoever sends nothing for this long is given up.
const IDLE: Duration = Duration::from_secs(30);
/// Whoever is not done by then is given up, too: 512 MB in half an hour is 2.4 Mbit/s.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// So much room is left to the database, whatever is sent.
const RESERVE: u64 = 64 << 20;
/// After so many bytes room is looked for again.
const STEP: u64 = 16 << 20;

/// Takes away what a server that ended in the middle may have left: files lie there for the moment between being made and
/// losing their name.
pub fn clear(state_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(state_dir.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Stores what arrives. The file has no name any more when this returns.
pub(super) async fn store<E>(
    state_dir: &Path,
    announced: Option<u64>,
    content: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<fs::File, Error> {
    let folder = state_dir.join(FOLDER);
    private_folder(&folder).map_err(|error| Error::internal("making a folder for uploads", error))?;
    if announced.is_some_and(|length| length > LARGEST) {
        return Err(too_large());
    }
    room(&folder, announced.unwrap_or_default())?;
    let file = nameless(&folder).await.map_err(not_stored)?;
    let arriving = receive(file, &folder, content);
    let arrived = tokio::time::timeout(PATIENCE, arriving).await;
    let file = arrived.map_err(|_| Error::field("file", "it took more than 30 minutes to arrive"))??;
    Ok(file.into_std().await)
}

async fn receive<E>(
    mut file: File,
    folder: &Path,
    mut content: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<File, Error> {
    let (mut length, mut looked) = (0_u64, 0_u64);
    loop {
        let piece = tokio::time::timeout(IDLE, content.next()).await;
        let piece = piece.map_err(|_| Error::field("file", "nothing of it arrived for 30 seconds"))?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|_| Error::field("file", "it did not arrive as a whole; send it again"))?;
        length += piece.len() as u64;
        if length > LARGEST {
            return Err(too_large());
        }
        if length - looked > STEP {
            looked = length;
            room(folder, 0)?;
        }
        file.write_all(&piece).await.map_err(not_stored)?;
    }
    file.flush().await.map_err(not_stored)?;
    Ok(file)
}

async fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(RequestId::new(Timestamp::from_millis(0), chance()).to_string());
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).await?;
    tokio::fs::remove_file(&path).await?;
    Ok(file)
}

/// Whether the disk has room for so much more.
fn room(folder: &Path, length: u64) -> Result<(), Error> {
    let disk = rustix::fs::statvfs(folder).map_err(|error| Error::internal("looking at the disk", error))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if fits(free, length) { Ok(()) } else { Err(no_room()) }
}

fn fits(free: u64, length: u64) -> bool {
    free.checked_sub(RESERVE).is_some_and(|free| length <= free)
}

fn too_large() -> Error {
    Error::TooLarge {
        field: "file",
        sentence: format!("it has more than {} MB, the most that is measured", LARGEST >> 20).into(),
    }
}

fn no_room() -> Error {
    Error::NoRoom {
        field: "file",
        sentence:
            "the server's disk has no room for it; free some where its state folder lies, then try again"
                .into(),
    }
}

fn not_stored(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => no_room(),
        _ => Error::internal("storing an upload", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_left_to_the_database() {
        assert!(fits(RESERVE + 5, 5) && fits(RESERVE, 0));
        assert!(!fits(RESERVE + 5, 6) && !fits(RESERVE - 1, 0) && !fits(0, 0));
    }

    #[tokio::test]
    async fn a_file_on_its_way_has_no_name() {
        let state = tempfile::tempdir().expect("a folder");
        let pieces = [&b"first"[..], b"second"].map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        let file =
            store(state.path(), Some(11), futures_util::stream::iter(pieces)).await.expect("it is stored");
        assert_eq!(file.metadata().expect("it is there").len(), 11);
        let left = fs::read_dir(state.path().join(FOLDER)).expect("the folder").count();
        assert_eq!(left, 0);
        fs::write(state.path().join(FOLDER).join("left over"), b"x").expect("a file of a server that ended");
        clear(state.path()).expect("cleared");
        assert!(!state.path().join(FOLDER).exists());
        clear(state.path()).expect("nothing to clear");
    }

    #[tokio::test]
    async fn what_does_not_arrive_as_a_whole_is_refused() {
        let state = tempfile::tempdir().expect("a folder");
        let pieces = [Ok(Bytes::from_static(b"first")), Err(io::Error::other("the connection is gone"))];
        let refused =
            store(state.path(), None, futures_util::stream::iter(pieces)).await.expect_err("cut short");
        assert!(refused.to_string().contains("did not arrive as a whole"), "{refused}");
        let endless = futures_util::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![0; 8 << 20])));
        let refused = store(state.path(), None, endless).await.expect_err("endless");
        assert!(refused.to_string().contains("more than 512 MB"), "{refused}");
        let none = futures_util::stream::empty::<Result<Bytes, io::Error>>();
        let refused = store(state.path(), Some(LARGEST + 1), none).await.expect_err("too large");
        assert!(refused.to_string().contains("more than 512 MB"), "{refused}");
        assert_eq!(fs::read_dir(state.path().join(FOLDER)).expect("the folder").count(), 0);
    }
}
