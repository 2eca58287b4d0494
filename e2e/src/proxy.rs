//! A network between two programs that can be cut, slowed down and half closed: a TCP relay on the loopback interface.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// All passes.
    Fair,
    /// Connections break off, and new ones do too.
    Cut,
    /// Connections stay open, and nothing passes, in either direction.
    Stalled,
    /// Connections stay open, and only what goes towards the server passes.
    HalfOpen,
    /// All passes, 2 KiB at a time, each of which takes 20 ms.
    Slow,
}

/// The relay; what is under way breaks off when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

#[derive(Debug)]
struct Shared {
    to: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    /// Everything that is open, to be broken off.
    open: Vec<TcpStream>,
    over: bool,
}

impl Proxy {
    /// Listens on this port, and connects to that one.
    pub fn between(port: u16, to: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("listen for the proxy")?;
        let state = State { weather: Weather::Fair, open: Vec::new(), over: false };
        let shared = Arc::new(Shared { to, state: Mutex::new(state), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.state().over {
                    break;
                }
                own.relay(stream);
            }
        });
        Ok(Self { shared, port })
    }

    /// From now on the network is like this. Connections that hung while nothing passed break off when it gets better, as
    /// whoever forgot them answers; [`Proxy::forget`] lets them hang for good.
    pub fn turn(&self, weather: Weather) {
        let mut state = self.shared.state();
        let hung = matches!(state.weather, Weather::Stalled | Weather::HalfOpen) && weather != state.weather;
        state.weather = weather;
        if weather == Weather::Cut || hung {
            break_off(&mut state);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Whatever is open stays open and is never heard of again; new connections fare well.
    pub fn forget(&self) {
        let mut state = self.shared.state();
        state.weather = Weather::Fair;
        // Their threads go on waiting for a change that does not come.
        state.open.clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.over = true;
        break_off(&mut state);
        drop(state);
        self.shared.changed.notify_all();
        // The listener wakes up for one more.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn break_off(state: &mut State) {
    for stream in state.open.drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relay(self: &Arc<Self>, near: TcpStream) {
        if self.state().weather == Weather::Cut {
            return;
        }
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.to)) else { return };
        let copies = || -> std::io::Result<_> {
            Ok((near.try_clone()?, far.try_clone()?, near.try_clone()?, far.try_clone()?))
        };
        let Ok((near_in, far_out, near_kept, far_kept)) = copies() else { return };
        self.state().open.extend([near_kept, far_kept]);
        let (up, down) = (Arc::clone(self), Arc::clone(self));
        thread::spawn(move || up.carry(near_in, far_out, true));
        thread::spawn(move || down.carry(far, near, false));
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, towards_server: bool) {
        let mut bytes = [0; 2048];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if !self.may_pass(towards_server)
                || to.write_all(bytes.get(..length).unwrap_or_default()).is_err()
            {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }

    /// Waits until what was read may go on; false when it never may.
    fn may_pass(&self, towards_server: bool) -> bool {
        let mut state = self.state();
        loop {
            match state.weather {
                _ if state.over => return false,
                Weather::Fair => return true,
                Weather::HalfOpen if towards_server => return true,
                Weather::Cut => return false,
                Weather::Slow => {
                    drop(state);
                    // Here the waiting itself is what is tried.
                    thread::sleep(Duration::from_millis(20));
                    return true;
                }
                Weather::Stalled | Weather::HalfOpen => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    if !matches!(state.weather, Weather::Stalled | Weather::HalfOpen) {
                        return false;
                    }
                }
            }
        }
    }
}
