//! Reads a variant that has nothing but its tag, and refuses anything beside it. serde's own reading ignores what else
//! stands there, so that `{"type":"everyone","but":["root"]}` from a newer server would have meant everyone.

use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    Nothing::deserialize(deserializer).map(|Nothing {}| ())
}
