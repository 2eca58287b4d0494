//! Prints all that a program can see of how it was started, as one line of JSON; `probe --hold FILE` goes on until FILE
//! exists.

use std::path::PathBuf;
use std::time::Duration;

fn main() {
    println!("{}", elevon_e2e::probe::surroundings());
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|argument| argument == "--hold") {
        let until = PathBuf::from(arguments.next().unwrap_or_default());
        while !until.exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
