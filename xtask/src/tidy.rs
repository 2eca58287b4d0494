//! The house rules. Each rule looks at the repository and gives what it finds; a finding says where, what and instead what.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

pub(crate) mod arrows;
pub(crate) mod dependencies;
mod documents;
pub(crate) mod inventory;
mod names;
mod source;
mod sql;
mod unsafety;

/// Something that breaks a rule of the house.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    place: String,
    told: String,
}

impl Finding {
    fn at(file: &Path, line: usize, told: impl Into<String>) -> Self {
        Self { place: format!("{}:{line}", file.display()), told: told.into() }
    }

    fn of(place: impl Into<String>, told: impl Into<String>) -> Self {
        Self { place: place.into(), told: told.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.told)
    }
}

/// A file of the repository, by its path from the root.
#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }
}

type Rule = fn(&[File]) -> Result<Vec<Finding>>;

const RULES: [(&str, Rule); 8] = [
    ("who may depend on whom", arrows::check),
    ("the pure crates are pure", source::check_pure),
    ("unsafe code where it belongs", unsafety::check),
    ("SQL where it belongs", sql::check),
    ("names", names::check),
    ("documents", documents::check),
    ("the elevator's dependencies", dependencies::check),
    ("the elevator's files", inventory::check),
];

/// Checks every rule, and prints what breaks one.
pub(crate) fn tidy() -> Result<()> {
    let files = source::files()?;
    let mut broken = 0;
    for (name, rule) in RULES {
        let findings = rule(&files)?;
        println!("{} {name}", if findings.is_empty() { "ok    " } else { "BROKEN" });
        for finding in &findings {
            println!("       {finding}");
        }
        broken += findings.len();
    }
    if broken > 0 {
        bail!("the house is not tidy: {broken} findings");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        tidy().expect("every rule of the house is kept");
    }
}
