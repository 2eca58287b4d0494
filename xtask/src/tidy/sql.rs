//! SQL stands in `sql.rs`, in `db.rs` and in migrations, so that what is asked of the database can be read in one place a
//! room.

use anyhow::Result;

use super::source::before_tests;
use super::{File, Finding};

/// How a statement begins, in a literal.
const BEGINNINGS: [&str; 10] = [
    "\"select ",
    "\"insert into ",
    "\"insert or ",
    "\"update ",
    "\"delete from ",
    "\"create table ",
    "\"create index ",
    "\"alter table ",
    "\"drop table ",
    "\"pragma ",
];

pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let programs = files.iter().filter(|file| {
        file.is_rust()
            && file.path.starts_with("crates")
            && file.path.components().any(|part| part.as_os_str() == "src")
    });
    for file in programs.filter(|file| !is_home(file)) {
        for (at, line) in before_tests(&file.text).lines().enumerate() {
            let lower = line.to_lowercase();
            let statement =
                BEGINNINGS.iter().any(|beginning| lower.contains(beginning)) && !line.contains("//");
            if statement || line.contains("sqlx::query") {
                let told =
                    "SQL stands in a room's sql.rs, in db.rs or in migrations/; move the statement there";
                findings.push(Finding::at(&file.path, at + 1, told));
            }
        }
    }
    Ok(findings)
}

fn is_home(file: &File) -> bool {
    file.path.ends_with("sql.rs")
        || file.path.ends_with("db.rs")
        || file.path.components().any(|part| part.as_os_str() == "sql" || part.as_os_str() == "db")
}
