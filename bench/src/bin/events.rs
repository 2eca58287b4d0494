//! How many events a server stores durably each second, and how fast it checks them. It starts behind HTTP and TLS: from
//! the parsed body of an agent's request to the commit, signatures, chains and what follows from each event included.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use ed25519_dalek::SigningKey;
use elevon_bench::clock;
use elevon_policy::application::{Sha256, User};
use elevon_policy::event::{DenyReason, EndReason, Event, Exit, Layers, What};
use elevon_policy::grant::PolicyReference;
use elevon_policy::id::{GrantId, LaunchId, PolicyId, Version};
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use elevon_server::app::{App, chance};
use elevon_server::audit::verify::{Depth, verify};
use elevon_server::auth::computer::Computer;
use elevon_server::auth::{Actor, Administrator};
use elevon_server::channel::events::store;
use elevon_server::clock::Clock;
use elevon_server::config::Config;
use elevon_server::db::Db;
use elevon_server::keys::Keys;
use elevon_server::{audit, computers};
use elevon_wire::chain::{self, Record};
use elevon_wire::channel::{EVENTS_AT_ONCE, Enroll, Events as Batch};
use elevon_wire::signed::{PublicKey, Purpose, Signed};
use rcgen::{CertificateParams, KeyPair};

/// Events stored durably each second, in batches as agents send them; then `audit verify` over them.
#[derive(Parser)]
struct Events {
    /// How many events each engine stores
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// How many computers send them, at once
    #[arg(long, default_value_t = 16)]
    computers: usize,
    /// An empty PostgreSQL database to measure as well; ELEVON_BENCH_POSTGRES_URL names it too
    #[arg(long)]
    postgres: Option<String>,
    /// How often the check is measured
    #[arg(long, default_value_t = 3)]
    checks: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let bench = Events::parse();
    println!(
        "{} events of {} computers, {EVENTS_AT_ONCE} at once; signatures, chains and effects included, without HTTP and TLS",
        bench.events, bench.computers
    );
    let folder = tempfile::tempdir()?;
    measure("SQLite", &bench, Db::sqlite_url(folder.path())).await?;
    let postgres = bench.postgres.clone().or_else(|| std::env::var("ELEVON_BENCH_POSTGRES_URL").ok());
    if let Some(url) = postgres {
        measure("PostgreSQL", &bench, url).await?;
    }
    Ok(())
}

async fn measure(engine: &str, bench: &Events, url: String) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        state_dir: folder.path().to_owned(),
        listen: here,
        agents_listen: here,
        public_url: "https://localhost:8443".to_owned(),
        agents_address: "localhost:8444".to_owned(),
        database_url: url,
    };
    let clock = Clock::System;
    let keys = Keys::open(&config.state_dir, &config.host_names(), clock.now())?;
    let app = App::new(Db::open(&config.database_url).await?, clock, keys, config);
    audit::open(&app).await?;
    let mut senders = Vec::new();
    for number in 0..bench.computers {
        senders.push(Sender::enroll(&app, number).await?);
    }
    let each = bench.events / bench.computers;
    let batches: Vec<_> = senders
        .into_iter()
        .map(|mut sender| {
            let batches = sender.batches(each, app.now());
            (sender.computer, batches)
        })
        .collect();
    let watch = clock::now();
    let tasks: Vec<_> = batches
        .into_iter()
        .map(|(computer, batches)| {
            let app = app.clone();
            tokio::spawn(async move {
                for batch in batches {
                    store(&app, &computer, &batch).await?;
                }
                Ok::<_, elevon_server::error::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let stored = each * bench.computers;
    println!("{engine:10}  stored durably  {:>9.0} events/s", stored as f64 / watch.elapsed().as_secs_f64());
    audit::checkpoints::now(&app).await?;
    for _ in 0..bench.checks {
        let watch = clock::now();
        let verified = verify(&app, Depth::Chains).await?.map_err(|found| anyhow::anyhow!("{found}"))?;
        println!(
            "{engine:10}  audit verify    {:>9.0} events/s",
            verified.events as f64 / watch.elapsed().as_secs_f64()
        );
    }
    app.db.close().await;
    Ok(())
}

/// A computer that reports.
struct Sender {
    computer: Computer,
    key: SigningKey,
    head: ChainHead,
}

impl Sender {
    async fn enroll(app: &App, number: usize) -> Result<Self> {
        let by = Administrator::of(Actor::command_line())?;
        let token = computers::create_token(app, &by, 1, Span::from_hours(1), None).await?;
        let key = SigningKey::from_bytes(&chance());
        let request = CertificateParams::default().serialize_request(&KeyPair::generate()?)?.pem()?;
        let enrolled = computers::enroll(
            app,
            Enroll {
                secret: token.secret,
                certificate_request: request,
                event_key: PublicKey::of(&key),
                host_name: Text::new(format!("ws-{number}")),
                operating_system: Text::new("Debian GNU/Linux 13 (trixie)"),
            },
        );
        let enrolled = enrolled.await.context("enroll a computer")?;
        let computer = Computer { id: enrolled.computer, event_key: PublicKey::of(&key) };
        Ok(Self { computer, key, head: ChainHead::START })
    }

    fn batches(&mut self, events: usize, now: Timestamp) -> Vec<Batch> {
        let mut launch = LaunchId::new(now, chance());
        let records: Vec<_> = (0..events)
            .map(|number| {
                if number % 9 == 0 {
                    launch = LaunchId::new(now, chance());
                }
                self.record(what(number, launch, now), now)
            })
            .collect();
        records.chunks(EVENTS_AT_ONCE).map(|records| Batch { records: records.to_vec() }).collect()
    }

    fn record(&mut self, what: What, now: Timestamp) -> Signed {
        let record = Record::encode(self.head, &Event::new(now, what));
        self.head = chain::head(self.head, &record);
        Signed::seal_bytes(&self.key, Purpose::Event, record)
    }
}

/// What a busy computer reports: seven launches that are refused for each that starts and ends.
fn what(number: usize, launch: LaunchId, now: Timestamp) -> What {
    let grant = GrantId::new(now, [1; 10]);
    let user = User { uid: 1003, name: Text::new("bob") };
    let policy = PolicyReference { policy: PolicyId::new(now, [2; 10]), version: Version::FIRST, rule: None };
    let path = OsText::from("/usr/bin/apt-get");
    let argv = vec![OsText::from("apt-get"), OsText::from("install"), OsText::from("nginx")];
    match number % 9 {
        0 => What::LaunchStarted {
            launch,
            grant,
            user,
            path,
            sha256: Sha256([7; 32]),
            argv,
            policy,
            end: now.after(Span::from_mins(15)),
            layers: Layers { cgroup: true, subreaper: true, own_deadline: true, pid_namespace: false },
        },
        1 => What::LaunchEnded { launch, grant, user, reason: EndReason::Exited, exit: Some(Exit::Code(0)) },
        _ => What::LaunchRefused {
            user,
            path,
            sha256: Some(Sha256([7; 32])),
            argv,
            reason: DenyReason::NotListed,
            policy: Some(policy),
        },
    }
}
