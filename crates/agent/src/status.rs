//! `elevon-agent status`: is everything as it should be, and if not, what is not?

use anyhow::{Result, bail};
use elevon_wire::channel::Events;
use elevon_wire::uplink::Holds;
use rustix::process::getuid;

use crate::channel::Channel;
use crate::config::Config;
use crate::credentials::Credentials;
use crate::rights::{AgentUser, become_user};
use crate::{elevator, tls};

/// `println!` for readers who may have heard enough, such as `head`: they end nothing.
macro_rules! say {
    ($($told:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($told)*);
    }};
}

/// Prints one fact a line; `false` when something is not as it should be.
pub(crate) fn status(config: &Config) -> Result<bool> {
    if getuid().is_root() {
        become_user(&AgentUser::named(&config.user)?)?;
    }
    let credentials = enrollment(config);
    let holds = holds(config);
    let stored = match &credentials {
        Some(credentials) => server(credentials),
        None => None,
    };
    if let (Some(holds), Some(stored)) = (&holds, stored) {
        say!(
            "Events     {} waiting to be sent, {stored} stored by the server",
            holds.recorded.saturating_sub(stored)
        );
    }
    let same = same_computer(credentials.as_ref(), holds.as_ref());
    Ok(credentials.is_some() && holds.is_some() && stored.is_some() && same)
}

fn enrollment(config: &Config) -> Option<Credentials> {
    match Credentials::load(&config.state_dir) {
        Ok(Some(credentials)) => {
            let enrollment = &credentials.enrollment;
            say!("Enrolled   as computer {} with {}", enrollment.computer, enrollment.server);
            Some(credentials)
        }
        Ok(None) => {
            say!("Enrolled   no; run `elevon-agent enroll TOKEN` as root");
            None
        }
        Err(error) => {
            say!("Enrolled   cannot tell: {error:#}");
            None
        }
    }
}

fn holds(config: &Config) -> Option<Holds> {
    match elevator::ask(&config.elevator_socket) {
        Ok(holds) => {
            match (holds.sheet, holds.bundle) {
                (0, _) => say!("Elevator   runs; it holds no sheet yet"),
                (sheet, Some(bundle)) => {
                    say!("Elevator   runs; it holds sheet {sheet} and bundle {}", bundle.short())
                }
                (sheet, None) => say!("Elevator   runs; it holds sheet {sheet} and no bundle"),
            }
            Some(holds)
        }
        Err(error) => {
            say!("Elevator   {error}");
            None
        }
    }
}

/// How many events the server has stored, where it can be reached.
fn server(credentials: &Credentials) -> Option<u64> {
    let asked = tls::enrolled(credentials).map(|tls| Channel::to(&credentials.enrollment.server, tls));
    let asked = asked.and_then(|channel| match channel.events(&Events { records: Vec::new() }) {
        Ok(stored) => Ok(stored.head.number),
        Err(error) => bail!(error),
    });
    match asked {
        Ok(stored) => {
            say!("Server     reached at {}", credentials.enrollment.server);
            Some(stored)
        }
        Err(error) => {
            say!("Server     {error:#}");
            None
        }
    }
}

fn same_computer(credentials: Option<&Credentials>, holds: Option<&Holds>) -> bool {
    let (Some(credentials), Some(holds)) = (credentials, holds) else {
        return true;
    };
    let same = holds.computer == Some(credentials.enrollment.computer);
    if !same {
        match holds.computer {
            Some(other) => say!("Elevator   believes to be computer {other}; enroll again with --again"),
            None => {
                say!("Elevator   does not know that this computer is enrolled; restart elevon-elevator")
            }
        }
    }
    same
}
