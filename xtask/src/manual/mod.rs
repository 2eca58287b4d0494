//! Manual pages and shell completions, made from what the built programs say about themselves in `--help`. Nothing of it is
//! committed, so nothing of it can be old; `cargo xtask test manual` has each shell and two formatters read it.

mod bash;
mod check;
mod fish;
mod man;
mod page;
mod zsh;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) use self::check::check;
use self::page::Page;
use crate::program::{cargo, run, target_directory};

/// Every program that people run.
const PROGRAMS: [&str; 4] = ["elevon", "elevon-agent", "elevon-elevator", "elevon-server"];

/// Writes them below a folder that is laid out as `/usr/share` is.
pub(crate) fn manual(into: Option<PathBuf>) -> Result<()> {
    let into = match into {
        Some(folder) => std::path::absolute(folder)?,
        None => target_directory()?.join("manual"),
    };
    write(&into)?;
    println!("{} holds manual pages and completions, laid out as /usr/share is", into.display());
    Ok(())
}

fn write(into: &Path) -> Result<()> {
    let mut build = cargo(["build", "--quiet", "--locked"]);
    run(build.args(PROGRAMS.map(|name| format!("--package={name}"))))?;
    let built = target_directory()?.join("debug");
    let pages = PROGRAMS.map(|name| Page::of(&built.join(name), &[name.to_owned()]));
    let pages = pages.into_iter().collect::<Result<Vec<_>>>()?;
    for page in &pages {
        let name = page.name();
        let section = man::section(page);
        for (path, text) in [
            (format!("bash-completion/completions/{name}"), bash::file(page)),
            (format!("zsh/vendor-completions/_{name}"), zsh::file(page)),
            (format!("fish/vendor_completions.d/{name}.fish"), fish::file(page)),
            (
                format!("man/man{section}/{name}.{section}"),
                man::file(page, env!("CARGO_PKG_VERSION"), &pages),
            ),
        ] {
            let path = into.join(path);
            let folder = path.parent().context("a file lies in a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}
