//! Eight threads that want to become another program, at once and again and again: `restless COMMAND…`. Where none of them may,
//! it says so after a while.

use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let Some((command, rest)) = words.split_first() else { return };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    // It comes back only where it may not.
                    let _ = Command::new(command).args(rest).exec();
                }
            });
        }
    });
    println!("nobody became {}", command.display());
}
