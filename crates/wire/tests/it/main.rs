//! The shape of what crosses process boundaries. `tests/golden/` holds it; a change there is a change of what programs of
//! different versions say to each other. `cargo xtask bless` accepts one.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod chain;
mod messages;
mod signed;

use serde::Serialize;
use serde_json::Value;

/// Compares with the file, or rewrites it where that was asked for.
#[track_caller]
fn golden(name: &str, document: &impl Serialize) {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    // By way of a value, so that the file has one order of keys whatever the types' order is.
    let written = serde_json::to_string_pretty(&serde_json::to_value(document).unwrap()).unwrap() + "\n";
    if std::env::var_os("ELEVON_BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, expected, "{} differs; if that is meant: cargo xtask bless", path.display());
}

/// What the golden file holds.
fn held(name: &str) -> Value {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
