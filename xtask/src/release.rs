//! The programs as they are installed, in `target/release`.

use anyhow::Result;

use crate::manual;
use crate::program::{cargo, run};

/// Builds them, and their manual pages.
pub(crate) fn release() -> Result<()> {
    programs()?;
    manual::manual(None)
}

/// Builds them. The client is started for each launch, and its own start is a good part of what a user waits for: it is linked
/// statically, so that nothing has to be found and bound then. The elevator cannot be: PAM is loaded as it runs.
pub(crate) fn programs() -> Result<()> {
    run(&mut cargo(["build", "--release", "--locked", "--workspace"]))?;
    let client = ["rustc", "--release", "--locked", "--package=elevon", "--bin=elevon", "--"];
    run(cargo(client).arg("-Ctarget-feature=+crt-static"))
}
