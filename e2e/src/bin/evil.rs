//! Says that a program ran that nobody approved, and with which rights: no test may ever see it with uid 0 or with a
//! capability. `evil FILE` also writes that into FILE.

use std::fs::File;
use std::io::Write;

fn main() {
    let rights = elevon_e2e::probe::rights("evil");
    println!("{rights}");
    if let Some(file) = std::env::args_os().nth(1)
        && let Ok(mut file) = File::options().append(true).create(true).open(file)
    {
        // Where it may not write, it has no rights worth telling of.
        let _ = writeln!(file, "{rights}");
    }
}
