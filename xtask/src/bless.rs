//! Accepts what the tests would otherwise complain of. Look at the difference before you commit it.

use anyhow::{Context, Result};

use crate::program::{cargo, run};
use crate::tidy;

/// Rewrites golden files, snapshots and the lists of the elevator's dependencies and files.
pub(crate) fn bless() -> Result<()> {
    tidy::dependencies::write().context("write the elevator's dependency list")?;
    tidy::inventory::write().context("write the list of the elevator's files")?;
    let mut tests =
        cargo(["test", "--quiet", "--package=elevon-policy", "--package=elevon-wire", "--test=it"]);
    run(tests.env("ELEVON_BLESS", "1")).context("rewrite the golden files")?;
    let mut openapi = cargo(["test", "--quiet", "--package=elevon-server", "openapi"]);
    run(openapi.env("ELEVON_BLESS", "1").env("INSTA_UPDATE", "always"))
        .context("rewrite the server's snapshots")?;
    println!("Done; `git diff` shows what that changed.");
    Ok(())
}
