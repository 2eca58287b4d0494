//! The control server's program: its subcommands.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use elevon_policy::text::Text;
use elevon_policy::time::Span;
use elevon_server::app::App;
use elevon_server::audit::verify::Depth;
use elevon_server::auth::{Actor, Administrator, Owner, Role};
use elevon_server::clock::Clock;
use elevon_server::config::{Config, Flags};
use elevon_server::db::Db;
use elevon_server::error::Error;
use elevon_server::keys::Keys;
use elevon_server::serve::{Lock, Ports};
use elevon_server::{accounts, audit, backup, computers, doctor, serve, uploads};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Parser)]
#[command(
    name = "elevon-server",
    version,
    about = "Elevon's control server: console, API, agents' channel",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve console, API and agents
    Serve,
    /// Accounts of the console
    Account {
        #[command(subcommand)]
        command: AccountCommand,
    },
    /// Tokens with which computers enroll
    EnrollmentToken {
        #[command(subcommand)]
        command: EnrollmentTokenCommand,
    },
    /// Tokens for programs that use the API
    ApiToken {
        #[command(subcommand)]
        command: ApiTokenCommand,
    },
    /// The audit trail
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Copy the database into a new file, while the server serves
    Backup {
        /// The file to make
        file: PathBuf,
        /// Put the keys in as well, under a passphrase that is asked for, or read from standard input
        #[arg(long)]
        with_keys: bool,
    },
    /// Put a backup into an empty state folder and database
    Restore {
        /// A file that `backup` made
        file: PathBuf,
    },
    /// Look at what the server stands on
    Doctor,
    /// Measure a file: what the server starts for itself, without rights
    #[command(hide = true)]
    Measure {
        /// The time, in milliseconds since 1970
        now: i64,
        /// Certificates in PEM of those who may name publishers
        authorities: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum AccountCommand {
    /// Make an account; the password is asked for, or read from standard input
    Create {
        /// The name to sign in with
        name: String,
        /// owner, administrator, approver or auditor
        #[arg(long)]
        role: Role,
    },
    /// Give an account another password, asked for or read from standard input; its sessions end
    Password {
        /// An account's name
        name: String,
    },
    /// Let an account sign in no more; its sessions end
    Disable {
        /// An account's name
        name: String,
    },
    /// Let an account sign in again
    Enable {
        /// An account's name
        name: String,
    },
}

#[derive(Subcommand)]
enum EnrollmentTokenCommand {
    /// Make a token and print it, once
    Create {
        /// The custom group that each computer joins
        #[arg(long)]
        group: Option<String>,
        /// How many computers it enrolls
        #[arg(long, default_value_t = 1)]
        uses: u64,
        /// For how long, such as 24h
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        expires: Span,
    },
}

#[derive(Subcommand)]
enum ApiTokenCommand {
    /// Make a token and print its secret, once
    Create {
        /// What the token is for; shown wherever it acts
        name: String,
        /// owner, administrator, approver or auditor
        #[arg(long)]
        role: Role,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check every chain of events from its beginning, against its checkpoints and what computers have witnessed
    Verify {
        /// Check the signature of every event too, and not only the last of each chain, which vouches for all before it
        #[arg(long)]
        each_signature: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Measure { now, authorities } = &arguments.command {
        // Before there is a second thread: it gives up its rights, and that is each thread's own to do.
        return uploads::measurer::main(*now, authorities.as_deref());
    }
    tracing_subscriber::fmt()
        .compact()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .init();
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("elevon-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::read(arguments.flags).map_err(anyhow::Error::msg)?;
    match arguments.command {
        Command::Serve => run_server(config).await,
        Command::Account { command } => account(config, command).await,
        Command::EnrollmentToken { command: EnrollmentTokenCommand::Create { group, uses, expires } } => {
            let app = open(config).await?;
            let group = match group {
                Some(name) => Some(computers::group_named(&app, &Text::new(name)).await?),
                None => None,
            };
            let by = Administrator::of(Actor::command_line())?;
            println!("{}", computers::create_token(&app, &by, uses, expires, group).await?.reveal());
            Ok(ExitCode::SUCCESS)
        }
        Command::ApiToken { command: ApiTokenCommand::Create { name, role } } => {
            let by = Owner::of(Actor::command_line())?;
            println!(
                "{}",
                accounts::create_api_token(&open(config).await?, &by, Text::new(name), role).await?.secret
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Audit { command: AuditCommand::Verify { each_signature } } => {
            let depth = if each_signature { Depth::EachSignature } else { Depth::Chains };
            let app = open(config).await?;
            let verified = audit::verify::verify(&app, depth).await?;
            audit::verify::note(&app, &verified).context("could not keep what was found")?;
            match verified {
                Ok(verified) => {
                    println!("{verified}");
                    Ok(ExitCode::SUCCESS)
                }
                Err(tampered) => bail!("the audit trail was changed: {tampered}"),
            }
        }
        Command::Backup { file, with_keys } => {
            let passphrase = if with_keys { Some(secret("Passphrase for the keys")?) } else { None };
            let by = Owner::of(Actor::command_line())?;
            backup::backup(&open(config).await?, &by, &file, passphrase.as_deref()).await?;
            println!("{} holds the site as it is now", file.display());
            if !with_keys {
                println!("It holds no keys: keep a copy of keys/ as well, apart from it");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Restore { file } => {
            elevon_server::keys::private_folder(&config.state_dir)?;
            let _lock = Lock::take(&config.state_dir).map_err(anyhow::Error::msg)?;
            let by = Owner::of(Actor::command_line())?;
            let passphrase =
                || secret("Passphrase of the keys").map_err(|error| Error::invalid(error.to_string()));
            let restored = backup::restore(config, Clock::System, &by, &file, passphrase).await?;
            println!("{} events are back", restored.events);
            println!(
                "What happened since the backup is gone from this server: computers enrolled since then enroll anew, grants given since then end, and whatever was revoked since then is in force again unless you revoke it again"
            );
            println!("Enrollment tokens of before do not work any more; everybody signs in again");
            Ok(ExitCode::SUCCESS)
        }
        Command::Measure { .. } => bail!("measuring begins before anything else"),
        Command::Doctor => {
            let findings = doctor::examine(config, Clock::System).await;
            for finding in &findings {
                println!("{} {}", if finding.good { "ok " } else { "BAD" }, finding.sentence);
            }
            Ok(if findings.iter().all(|finding| finding.good) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

async fn account(config: Config, command: AccountCommand) -> anyhow::Result<ExitCode> {
    let by = Owner::of(Actor::command_line())?;
    match command {
        AccountCommand::Create { name, role } => {
            let password = secret("Password")?;
            let app = open(config).await?;
            accounts::create(&app, &by, Text::new(name.clone()), role, Vec::new(), &password).await?;
            println!("{name} may sign in as {role}");
        }
        AccountCommand::Password { name } => {
            let password = secret("Password")?;
            let app = open(config).await?;
            let id = accounts::named(&app, &by, &Text::new(name.clone())).await?;
            accounts::change_password(&app, &by, id, &password).await?;
            println!("{name} has another password now; its sessions ended");
        }
        AccountCommand::Disable { name } => {
            let app = open(config).await?;
            let id = accounts::named(&app, &by, &Text::new(name.clone())).await?;
            accounts::disable(&app, &by, id).await?;
            println!("{name} may not sign in any more; its sessions ended");
        }
        AccountCommand::Enable { name } => {
            let app = open(config).await?;
            let id = accounts::named(&app, &by, &Text::new(name.clone())).await?;
            accounts::enable(&app, &by, id).await?;
            println!("{name} may sign in again");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// For a command that is run beside the server, or before there is one.
async fn open(config: Config) -> anyhow::Result<App> {
    let keys = Keys::beside(&config.state_dir, &config.host_names(), Clock::System.now())?;
    open_with(config, keys).await
}

async fn open_with(config: Config, keys: Keys) -> anyhow::Result<App> {
    let clock = Clock::System;
    let db = Db::open(&config.database_url).await?;
    let app = App::new(db, clock, keys, config);
    audit::open(&app).await?;
    Ok(app)
}

async fn run_server(config: Config) -> anyhow::Result<ExitCode> {
    elevon_server::keys::private_folder(&config.state_dir)?;
    let _lock = Lock::take(&config.state_dir).map_err(anyhow::Error::msg)?;
    let ports = Ports::listen(config.listen, config.agents_listen).await.map_err(anyhow::Error::msg)?;
    let keys = Keys::open(&config.state_dir, &config.host_names(), Clock::System.now())?;
    let app = open_with(config, keys).await?;
    say("Console", &app.config.public_url)?;
    say("Agents", &app.config.agents_address)?;
    if let Some(secret) = accounts::prepare_setup(&app).await? {
        say("Set-up", &format!("{}/setup/{secret}", app.config.public_url))?;
    }
    let (stop, end) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("could not wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not wait for signals")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    });
    serve::serve(app, ports, end).await?;
    Ok(ExitCode::SUCCESS)
}

/// One fact a line. Whoever started this may read it through a pipe, and waits for it.
fn say(name: &str, fact: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{name:<8} {fact}").and_then(|()| out.flush()).context("could not write to standard output")
}

/// Asks for a secret without showing it, or reads one line of standard input.
fn secret(what: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    let terminal = stdin.is_terminal();
    let before = if terminal { Some(rustix::termios::tcgetattr(&stdin)?) } else { None };
    if let Some(before) = &before {
        eprint!("{what} (at least {} characters): ", accounts::password::SHORTEST);
        let mut hidden = before.clone();
        hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, &hidden)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = &before {
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, before)?;
        eprintln!();
    }
    read.with_context(|| format!("could not read: {what}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
