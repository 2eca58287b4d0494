//! *Add from file*: a program or package that somebody sends, measured by a process without rights, and the rules that can be
//! made of it. Nothing of it is kept: the file is gone as soon as it is measured, and what was measured goes back to whoever
//! sent it.

pub mod api;
mod arrival;
mod confine;
pub mod measurer;
pub mod offers;
mod process;

use std::sync::Arc;

use axum::body::Bytes;
use elevon_identify::upload::Upload;
use elevon_policy::text::OsText;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::auth::Administrator;
use crate::error::Error;

pub use arrival::clear;
pub use elevon_identify::upload::LARGEST;

/// So many files may arrive at once.
const ARRIVING: usize = 4;
/// The longest name that is kept, in bytes: Linux has no longer ones.
const LONGEST_NAME: usize = 255;

/// How much may go on at once.
#[derive(Debug)]
pub struct Uploads {
    arriving: Arc<Semaphore>,
    /// A file of Windows is held in memory as a whole, so one is measured after the other.
    measuring: Semaphore,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { arriving: Arc::new(Semaphore::new(ARRIVING)), measuring: Semaphore::new(1) }
    }
}

/// A file that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// What whoever sent it calls it, without folders.
    pub name: OsText,
    /// What it is.
    pub upload: Upload,
}

/// Takes a file to the disk, measures it, and forgets it. `announced` is how long it is said to be, in bytes. Only those who
/// may write lists may have the server work so hard.
pub async fn measure<E>(
    app: &App,
    _: &Administrator,
    name: &str,
    announced: Option<u64>,
    content: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Measured, Error> {
    let place = Arc::clone(&app.uploads.arriving).try_acquire_owned();
    let _place = place.map_err(|_| {
        Error::TooMany(format!("{ARRIVING} files are being measured already; try again in a moment").into())
    })?;
    let file = arrival::store(&app.config.state_dir, announced, content).await?;
    let _turn =
        app.uploads.measuring.acquire().await.map_err(|error| Error::internal("measuring a file", error))?;
    let upload = process::measure(app, file).await?;
    Ok(Measured { name: plain(name), upload })
}

/// The last part of what somebody calls a file, on whichever system.
fn plain(name: &str) -> OsText {
    let name = OsText::new(name).file_name_on_windows();
    let bytes = name.as_bytes();
    match bytes.get(..LONGEST_NAME).unwrap_or(bytes) {
        [] => OsText::from("file"),
        some => OsText::new(some),
    }
}
