//! The separate process that measures, as the server sees it: started with nothing but the file, heard once, and ended in time.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use elevon_identify::upload::Upload;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::confine::{CPU_SECONDS, MEMORY};
use super::measurer::Answer;
use crate::app::App;
use crate::error::Error;

/// Whatever it does, it is ended after this.
const DEADLINE: Duration = Duration::from_secs(120);
/// The longest answer: some hundred programs with long paths.
const LONGEST_ANSWER: u64 = 2 << 20;

/// Has a file measured.
pub(super) async fn measure(app: &App, file: File) -> Result<Upload, Error> {
    let failed = |error: std::io::Error| Error::internal("starting the process that measures files", error);
    let mut command = Command::new(&app.config.measurer);
    command.arg("measure").arg(app.now().millis().to_string());
    if let Some(authorities) = &app.config.windows_authorities {
        command.arg(authorities);
    }
    command.env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::from(file)).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().map_err(failed)?;
    let heard = tokio::time::timeout(DEADLINE, hear(child)).await;
    let (answer, status) = heard.map_err(|_| too_long())?.map_err(failed)?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Measured(upload)) => Ok(*upload),
        Ok(Answer::Refused(sentence)) => Err(Error::field("file", sentence)),
        Ok(Answer::Failed(cause)) => Err(Error::internal("measuring a file", cause)),
        Err(_) => Err(without_answer(status)),
    }
}

async fn hear(mut child: Child) -> std::io::Result<(Vec<u8>, ExitStatus)> {
    let mut answer = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    }
    Ok((answer, child.wait().await?))
}

/// Why it ended without a word.
fn without_answer(status: ExitStatus) -> Error {
    let signal = |signal: rustix::process::Signal| Some(signal.as_raw());
    match status.signal() {
        killed if killed == signal(rustix::process::Signal::XCPU) => too_long(),
        // At the hard limit of its time.
        killed if killed == signal(rustix::process::Signal::KILL) => too_long(),
        // What cannot have the memory it asks for gives up so.
        aborted if aborted == signal(rustix::process::Signal::ABORT) => {
            let most = MEMORY >> 20;
            Error::field(
                "file",
                format!("measuring it takes more than {most} MB of memory; it may be made to"),
            )
        }
        _ => Error::internal("measuring a file", format!("the process that measures ended with {status}")),
    }
}

fn too_long() -> Error {
    Error::field(
        "file",
        format!(
            "measuring it takes longer than {CPU_SECONDS} seconds; it may be made to, or the server is busy"
        ),
    )
}
