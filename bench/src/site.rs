//! A server without its ports, and computers that report to it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use ed25519_dalek::SigningKey;
use elevon_policy::application::{Sha256, User};
use elevon_policy::event::{DenyReason, EndReason, Event, Exit, Layers, What};
use elevon_policy::grant::PolicyReference;
use elevon_policy::id::{GrantId, LaunchId, PolicyId, Version};
use elevon_policy::lists::RunsAs;
use elevon_policy::sheet::ChainHead;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use elevon_server::app::{App, chance};
use elevon_server::auth::computer::Computer;
use elevon_server::auth::{Actor, Administrator};
use elevon_server::channel::events::store;
use elevon_server::clock::Clock;
use elevon_server::config::{AGENT_CERTIFICATE_LIFE, Config};
use elevon_server::db::Db;
use elevon_server::keys::Keys;
use elevon_server::{audit, computers};
use elevon_wire::chain::{self, Record};
use elevon_wire::channel::{EVENTS_AT_ONCE, Enroll, Events as Batch};
use elevon_wire::signed::{PublicKey, Purpose, Signed};
use rcgen::{CertificateParams, KeyPair};

/// Opens a server on this database.
pub async fn open(state_dir: &Path, database_url: String) -> Result<App> {
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        state_dir: state_dir.to_owned(),
        listen: here,
        agents_listen: here,
        public_url: "https://localhost:8443".to_owned(),
        agents_address: "localhost:8444".to_owned(),
        database_url,
        agent_certificate_life: AGENT_CERTIFICATE_LIFE,
        windows_authorities: None,
        measurer: "/proc/self/exe".into(),
    };
    let clock = Clock::System;
    let keys = Keys::open(&config.state_dir, &config.host_names(), clock.now())?;
    let app = App::new(Db::open(&config.database_url).await?, clock, keys, config);
    audit::open(&app).await?;
    Ok(app)
}

/// What some computers have to say, ready to be stored.
pub struct Reports(Vec<(Computer, Vec<Batch>)>);

impl Reports {
    /// Enrolls computers and signs what they say: so many events of each.
    pub async fn prepare(app: &App, computers: usize, each: usize) -> Result<Self> {
        let mut reports = Vec::new();
        for number in 0..computers {
            let mut sender = Sender::enroll(app, number).await?;
            let batches = sender.batches(each, app.now());
            reports.push((sender.computer, batches));
        }
        Ok(Self(reports))
    }

    /// Stores everything, all computers at once.
    pub async fn store(self, app: &App) -> Result<()> {
        let report = |(computer, batches): (Computer, Vec<Batch>)| {
            let app = app.clone();
            tokio::spawn(async move {
                for batch in batches {
                    store(&app, &computer, &batch).await?;
                }
                Ok::<_, elevon_server::error::Error>(())
            })
        };
        for task in self.0.into_iter().map(report).collect::<Vec<_>>() {
            task.await??;
        }
        Ok(())
    }
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
        let computer = Computer {
            id: enrolled.computer,
            event_key: PublicKey::of(&key),
            certificate_ends: app.now().after(AGENT_CERTIFICATE_LIFE),
        };
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
            runs_as: RunsAs::Root,
            layers: Layers { cgroup: true, subreaper: true, own_deadline: true, ..Layers::default() },
            login: None,
            origin: None,
        },
        1 => What::LaunchEnded { launch, grant, user, reason: EndReason::Exited, exit: Some(Exit::Code(0)) },
        _ => What::LaunchRefused {
            user,
            path,
            sha256: Some(Sha256([7; 32])),
            argv,
            reason: DenyReason::NotListed,
            policy: Some(policy),
            missing: None,
            origin: None,
        },
    }
}
