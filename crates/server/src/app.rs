//! What every action needs: database, clock, keys, settings, and the wake-up for whoever waits.

use std::ops::Deref;
use std::sync::Arc;

use elevon_policy::time::Timestamp;
use tokio::sync::{Notify, Semaphore};

use crate::channel::bundles::Bundles;
use crate::channel::news::News;
use crate::clock::Clock;
use crate::computers::seen::Seen;
use crate::config::Config;
use crate::db::Db;
use crate::keys::Keys;
use crate::uploads::Uploads;

/// What every action needs. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inside>);

/// What is inside an [`App`].
pub struct Inside {
    /// The database.
    pub db: Db,
    /// What time it is.
    pub clock: Clock,
    /// What signs, and what certifies.
    pub keys: Keys,
    /// The settings.
    pub config: Config,
    /// Wakes whoever waits for news of a computer, and the console's streams.
    pub news: News,
    /// Rung when a deadline was added or moved: the sweeper looks again.
    pub deadlines: Notify,
    /// When each computer was heard from, until it is written down.
    pub seen: Seen,
    /// Bundles that were made from the present policies.
    pub bundles: Bundles,
    /// How many passwords may be hashed at once: each takes 19 MiB.
    pub hashing: Arc<Semaphore>,
    /// How many may wait for that.
    pub to_be_hashed: Semaphore,
    /// How many files may be measured at once.
    pub uploads: Uploads,
}

impl App {
    /// Puts it together.
    pub fn new(db: Db, clock: Clock, keys: Keys, config: Config) -> Self {
        Self(Arc::new(Inside {
            db,
            clock,
            keys,
            config,
            news: News::default(),
            deadlines: Notify::new(),
            seen: Seen::default(),
            bundles: Bundles::default(),
            hashing: Arc::new(Semaphore::new(2)),
            to_be_hashed: Semaphore::new(100),
            uploads: Uploads::default(),
        }))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Deref for App {
    type Target = Inside;

    fn deref(&self) -> &Inside {
        &self.0
    }
}

/// Random bytes from the operating system.
pub fn chance<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without the system's randomness nothing here can be done safely; it does not fail on a system that has started.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
