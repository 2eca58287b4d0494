//! Who waits for news of which computer, and how they learn of it: at once within this process, by a small question to
//! the database when another server made the change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use elevon_policy::id::ComputerId;
use elevon_policy::time::{Span, Timestamp};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

use super::sql::{self, Version};
use crate::app::App;
use crate::db::Engine;
use crate::error::Error;

/// How often the database is asked for other servers' news, while anybody waits.
const LOOK: Duration = Duration::from_millis(100);
/// How far back is looked: servers' clocks differ, and a transaction takes a moment to be seen.
const BACK: Span = Span::from_secs(10);

/// Wakes whoever waits.
#[derive(Debug)]
pub struct News {
    waiting: Mutex<HashMap<ComputerId, Place>>,
    changes: watch::Sender<u64>,
    over: AtomicBool,
}

/// Where everyone waits who waits for one computer.
#[derive(Debug)]
struct Place {
    bell: Arc<Notify>,
    seats: usize,
    known: Option<Version>,
}

/// A seat at the bell; dropped, it is given up.
#[derive(Debug)]
pub struct Waiting<'a> {
    news: &'a News,
    computer: ComputerId,
    bell: Arc<Notify>,
}

impl Default for News {
    fn default() -> Self {
        Self { waiting: Mutex::default(), changes: watch::channel(0).0, over: AtomicBool::new(false) }
    }
}

impl News {
    /// Takes a seat.
    pub fn wait_for(&self, computer: ComputerId) -> Waiting<'_> {
        let mut waiting = self.lock();
        let place = waiting.entry(computer).or_insert_with(|| Place {
            bell: Arc::new(Notify::new()),
            seats: 0,
            known: None,
        });
        place.seats += 1;
        let bell = Arc::clone(&place.bell);
        Waiting { news: self, computer, bell }
    }

    /// Something about this computer changed.
    pub fn wake(&self, computer: ComputerId) {
        if let Some(place) = self.lock().get(&computer) {
            place.bell.notify_waiters();
        }
        self.changed();
    }

    /// Something about every computer changed.
    pub fn wake_all(&self) {
        self.lock().values().for_each(|place| place.bell.notify_waiters());
        self.changed();
    }

    /// The server ends: nobody waits any longer.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Whether the server ends.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Something that a screen may show changed.
    pub fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Counts the changes, for screens that follow.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many computers are waited for.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ComputerId, Place>> {
        // Nothing in here panics halfway through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever knows an older state than the database has. Who has not looked yet will see it by looking.
    fn wake_outdated(&self, epoch: u64, counters: &HashMap<ComputerId, u64>) {
        let outdated = |computer: &ComputerId, known: Version| {
            known.epoch != epoch || counters.get(computer).is_some_and(|counter| *counter != known.counter)
        };
        for (computer, place) in self.lock().iter() {
            if place.known.is_some_and(|known| outdated(computer, known)) {
                place.bell.notify_waiters();
            }
        }
    }
}

impl Waiting<'_> {
    /// Ends when there is news.
    pub fn notified(&self) -> Notified<'_> {
        self.bell.notified()
    }

    /// Notes what is known, so that the look into the database wakes only for something newer.
    pub fn knows(&self, version: Version) {
        if let Some(place) = self.news.lock().get_mut(&self.computer) {
            place.known = Some(version);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.news.lock();
        if let Some(place) = waiting.get_mut(&self.computer) {
            place.seats = place.seats.saturating_sub(1);
            if place.seats == 0 {
                waiting.remove(&self.computer);
            }
        }
    }
}

/// Looks for other servers' changes for as long as the process lives. The embedded database has no other server.
pub async fn watch(app: App) {
    if app.db.engine() == Engine::Sqlite {
        return;
    }
    let mut stored = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        if app.news.waiting() == 0 && app.news.changes.receiver_count() == 0 {
            continue;
        }
        match look(&app, &mut stored).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "could not look for news of other servers"),
        }
    }
}

async fn look(app: &App, stored: &mut u64) -> Result<(), Error> {
    let since: Timestamp = app.now().before(BACK);
    let mut db = app.db.read().await?;
    let epoch = sql::epoch(&mut db).await?;
    let touched = sql::touched(&mut db, since).await?.into_iter().collect();
    let head = crate::audit::sql::head(&mut db, crate::audit::Origin::Server).await?.number;
    drop(db);
    app.news.wake_outdated(epoch, &touched);
    if std::mem::replace(stored, head) != head {
        app.news.changed();
    }
    Ok(())
}
