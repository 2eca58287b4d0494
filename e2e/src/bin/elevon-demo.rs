//! `elevon-demo`: the main job on this computer. `cargo xtask demo [--auto]` builds and runs it.

use std::process::ExitCode;

fn main() -> ExitCode {
    elevon_e2e::demo::main()
}
