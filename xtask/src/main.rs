//! Developer commands, and the house rules as tests. `cargo xtask help` lists them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod attack;
mod bench;
mod bless;
mod clock;
mod crash;
mod demo;
mod deny;
mod fuzz;
mod manual;
mod packages;
mod postgres;
mod program;
mod release;
mod test;
mod tidy;
mod windows;

/// What a developer of Elevon runs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The main job on this computer: a server, an agent and an elevator in a temporary site, to try by hand. Needs root.
    Demo {
        /// Plays the whole story by itself, and exits 0 only if all of it happened.
        #[arg(long)]
        auto: bool,
        /// On PostgreSQL in place of SQLite: one of its own, gone afterwards.
        #[arg(long)]
        postgres: bool,
        /// On this empty database, postgres://…, in place of SQLite.
        #[arg(long, value_name = "URL", conflicts_with = "postgres")]
        database_url: Option<String>,
        /// Given to the demo as they are.
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// Everything CI runs, step by step; stops at the first failure.
    Test {
        /// Only these steps; all of them when none is named.
        steps: Vec<String>,
        /// Prints the steps and what each is for.
        #[arg(long)]
        list: bool,
    },
    /// The attack corpus on this computer: a row for each case with what was seen. Needs root.
    Attack(attack::Attack),
    /// The house rules: who may depend on whom, where `unsafe` and SQL may stand, names, what documents may say.
    Tidy,
    /// Accepts golden files, snapshots and the lists of the elevator's dependencies and files as they are now.
    Bless,
    /// Takes one of the measures, or lists them.
    Bench {
        /// Such as `decide`.
        name: Option<String>,
        /// Given to it as they are, such as `--events 1000000`.
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// Builds what is installed, in release: the programs, their manual pages and completions.
    Release,
    /// Writes manual pages and completions for bash, zsh and fish, made from what the programs say about themselves.
    Manual {
        /// A folder laid out as /usr/share is; the target directory's `manual` when none is named.
        #[arg(long, value_name = "FOLDER")]
        into: Option<PathBuf>,
    },
    /// Kills every process at every step, takes power, disk, database and network away, and prints what was seen; exits 0
    /// only if nothing ran past its end, no event was lost or doubled, and nothing needed a hand afterwards. Needs root.
    Crash {
        /// Only cases whose names contain one of these.
        names: Vec<String>,
        /// How often each is played.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// Fuzzes one target, or lists them. Works with the stable toolchain; needs a C++ compiler.
    Fuzz {
        /// Such as `frame`.
        target: Option<String>,
        /// For how many seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
}

fn main() -> ExitCode {
    let done = match Xtask::parse().command {
        Command::Demo { auto, postgres, database_url, more } => {
            demo::demo(auto, postgres, database_url, &more)
        }
        Command::Test { list: true, .. } => test::list(),
        Command::Test { steps, list: false } => test::test(&steps),
        Command::Attack(how) => attack::attack(&how),
        Command::Tidy => tidy::tidy(),
        Command::Bless => bless::bless(),
        Command::Bench { name, more } => bench::bench(name.as_deref(), &more),
        Command::Release => release::release(),
        Command::Manual { into } => manual::manual(into),
        Command::Crash { names, rounds } => crash::crash(rounds, &names),
        Command::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
