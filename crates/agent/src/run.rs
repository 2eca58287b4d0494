//! `elevon-agent run`: one thread reads the elevator, one asks the server for news, one carries events up, one asks for the
//! time, one for a new certificate when it is due. None of them wakes up without something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use elevon_wire::channel::{Renew, StateQuestion};
use elevon_wire::uplink::Holds;
use nix::sys::signal::{SigSet, Signal};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{DumpableBehavior, getuid, set_dumpable_behavior};

use crate::channel::{Channel, Course};
use crate::clock::Alarm;
use crate::config::Config;
use crate::credentials::{self, Credentials};
use crate::elevator::{Elevator, Taken};
use crate::log::{self, Subject};
use crate::rights::{AgentUser, become_user, check_powerless};
use crate::{spool, tls};

/// How long the server is asked to wait for news.
const WAIT: u64 = 55;

/// No server that waits for news answers sooner that there are none.
const BRIEF: Duration = Duration::from_secs(1);

/// How often the lease is lengthened, at least.
const LEASE: Duration = Duration::from_secs(3_600);

/// How often it is asked whether a new certificate is due, at least.
const RENEW_AGAIN: Duration = Duration::from_secs(24 * 3_600);

/// Threads here do little at a time.
const STACK: usize = 512 << 10;

/// Runs until a signal ends it.
pub(crate) fn run(config: &Config) -> Result<()> {
    if getuid().is_root() {
        become_user(&AgentUser::named(&config.user)?)?;
    }
    check_powerless()?;
    // Other processes of this user need not see the agent's key.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("keep the agent's memory private")?;
    credentials::settle(&config.state_dir)?;
    let Some(credentials) = Credentials::load(&config.state_dir)? else {
        bail!(
            "this computer is not enrolled (no {}); run `elevon-agent enroll TOKEN` as root",
            config.state_dir.join("agent.json").display()
        );
    };
    let ending = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Before any thread is made, so that all leave these signals to the one that waits for them.
    ending.thread_block().context("set up signals")?;
    let computer = credentials.enrollment.computer;
    let agent = Arc::new(Parts::new(config, &credentials)?);
    log::line(format_args!(
        "carries for computer {}, to {}",
        credentials.enrollment.computer, credentials.enrollment.server
    ));
    agent.spawn("elevator", move |agent| {
        agent.elevator.keep(&agent.config.elevator_socket, computer, |holds| agent.compare(holds))
    })?;
    agent.spawn("news", |agent| agent.ask_for_news())?;
    agent.spawn("events", |agent| spool::carry(&agent.elevator, &agent.channel, &agent.server))?;
    agent.spawn("time", |agent| agent.ask_for_time())?;
    agent.spawn("certificate", move |agent| agent.renew_certificate(credentials))?;
    ending.wait().context("wait for a signal")?;
    Ok(())
}

/// Without one of its threads, which never end, the agent is of no use; whoever started it starts it anew.
struct Without(String);

impl Drop for Without {
    fn drop(&mut self) {
        log::line(format_args!("the thread “{}” ended; ending, to be started anew", self.0));
        std::process::exit(1);
    }
}

/// What the threads share.
struct Parts {
    config: Config,
    elevator: Elevator,
    channel: Channel,
    server: Subject,
    /// The version of the sheet that the long-poll under way asks behind.
    asked_behind: AtomicU64,
}

impl Parts {
    fn new(config: &Config, credentials: &Credentials) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            elevator: Elevator::default(),
            channel: Channel::to(&credentials.enrollment.server, tls::enrolled(credentials)?),
            server: Subject::new("the server is reached again"),
            asked_behind: AtomicU64::new(0),
        })
    }

    fn spawn(self: &Arc<Self>, name: &str, act: impl FnOnce(&Self) + Send + 'static) -> Result<()> {
        let agent = Arc::clone(self);
        let thread = thread::Builder::new().name(name.into()).stack_size(STACK);
        let without = Without(name.to_owned());
        let all_along = move || {
            let _without = without;
            act(&agent);
        };
        thread.spawn(all_along).with_context(|| format!("start the thread “{name}”"))?;
        Ok(())
    }

    /// A long-poll behind a version that the elevator does not hold (any more) would wait in vain.
    fn compare(&self, holds: &Holds) {
        if holds.sheet < self.asked_behind.load(Ordering::Relaxed) {
            self.channel.cut_poll();
        }
    }

    fn ask_for_news(&self) {
        let mut course = Course::new(&self.server, "the server tells news again");
        let mut lease = Alarm::every(LEASE);
        loop {
            let holds = self.elevator.holds();
            let lengthen = lease.rings();
            let (after, wait) = if lengthen { (0, 0) } else { (holds.sheet, WAIT) };
            self.asked_behind.store(after, Ordering::Relaxed);
            let waited = Alarm::after(BRIEF);
            match self.channel.state(&StateQuestion { after, bundle: holds.bundle, wait }) {
                // A server that has nothing new says so after a while, or would be asked again at once.
                Ok(None) => course.done(waited.rings()),
                Ok(Some(state)) => {
                    let taken = self.elevator.hand_over(state);
                    if lengthen && matches!(taken, Taken::Yes(_)) {
                        lease.put_off();
                    }
                    // Where nothing changed by it, the server would answer the same at once.
                    course.done(match taken {
                        Taken::Yes(now) => lengthen || (now.sheet, now.bundle) != (holds.sheet, holds.bundle),
                        Taken::No(_) => false,
                        // It may have been what the elevator hung up on: then it would be again.
                        Taken::Unknown => false,
                    });
                }
                Err(error) => course.failed(&error),
            }
        }
    }

    /// Asks for a new certificate whenever the server says that one is due, each time with a new key.
    fn renew_certificate(&self, mut credentials: Credentials) {
        let mut course = Course::new(&self.server, "the server renews certificates again");
        let subject = Subject::new("the new certificate is stored");
        loop {
            let asked = KeyPair::generate().and_then(|key| {
                let request = CertificateParams::default().serialize_request(&key)?.pem()?;
                Ok((key.serialize_pem(), request))
            });
            let (key, certificate_request) = match asked {
                Ok(asked) => asked,
                Err(error) => {
                    subject.fails(&error);
                    thread::sleep(RENEW_AGAIN);
                    continue;
                }
            };
            let renewed = match self.channel.renew(&Renew { certificate_request }) {
                Ok(renewed) => renewed,
                Err(error) => {
                    course.failed(&error);
                    continue;
                }
            };
            course.done(true);
            if let Some(certificate) = renewed.certificate {
                match self.take_certificate(&credentials, &key, &certificate) {
                    Ok(taken) => {
                        credentials = taken;
                        subject.works();
                        log::line(format_args!("has a new certificate; the old one ends soon"));
                    }
                    Err(error) => subject.fails(format_args!("cannot take the new certificate: {error:#}")),
                }
            }
            thread::sleep(Duration::from_secs(renewed.again).clamp(Duration::from_secs(1), RENEW_AGAIN));
        }
    }

    fn take_certificate(&self, old: &Credentials, key: &str, certificate: &str) -> Result<Credentials> {
        let new = old.renewed(key, certificate)?;
        let tls = tls::enrolled(&new)?;
        let stored = Credentials::load(&self.config.state_dir)?;
        ensure!(
            stored.is_some_and(|stored| stored.enrollment == old.enrollment),
            "this computer was enrolled again meanwhile; restart elevon-agent"
        );
        Credentials::store_renewed(&self.config.state_dir, key, certificate)?;
        self.channel.change(tls);
        Ok(new)
    }

    fn ask_for_time(&self) {
        let mut course = Course::new(&self.server, "the server tells the time again");
        loop {
            let question = self.elevator.question();
            match self.channel.time(&question) {
                Ok(statement) => {
                    course.done(true);
                    self.elevator.tell_time(statement);
                }
                Err(error) => {
                    course.failed(&error);
                    // A question grows stale; a new one comes with the greeting.
                    self.elevator.greet();
                }
            }
        }
    }
}
