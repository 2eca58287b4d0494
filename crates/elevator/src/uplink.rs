//! The agent's socket. The agent carries documents in and events out; it is believed in nothing: what comes in is signed by
//! the server, and what goes out is signed here.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use elevon_policy::time::Span;
use elevon_wire::channel::TimeStatement;
use elevon_wire::frame::UPLINK_LIMIT;
use elevon_wire::signed::{Purpose, Signed};
use elevon_wire::uplink::{FromAgent, ToAgent};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::time::Timespec;

use crate::chance;
use crate::clock::Uptime;
use crate::connection::{Connection, Lost};
use crate::elevator::Elevator;

/// So many connections an agent may have at once; it needs one, and its status for a moment another.
const MOST: usize = 16;

/// How often the server is asked for the time.
const HOUR: Span = Span::from_hours(1);

/// Serves the agent for as long as the elevator runs; nobody but `agent` and root may connect.
pub(crate) fn serve(elevator: &Arc<Elevator>, listener: &UnixListener, agent: u32) -> io::Result<()> {
    // One for each conversation, and this one.
    let places = Arc::new(());
    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // No descriptors left, for one: that passes, and an agent comes again.
            Err(error) => {
                eprintln!("elevon-elevator: could not take a connection of the agent: {error}");
                std::thread::sleep(std::time::Duration::from_millis(50));
                continue;
            }
        };
        let peer = socket_peercred(&stream).map(|peer| peer.uid.as_raw());
        if !matches!(peer, Ok(uid) if uid == agent || uid == 0) {
            eprintln!(
                "elevon-elevator: a process of another user than the agent's was turned away from its socket"
            );
            continue;
        }
        if Arc::strong_count(&places) > MOST {
            // One who has that many has no use for another.
            continue;
        }
        let (elevator, place) = (Arc::clone(elevator), Arc::clone(&places));
        let converse = move || {
            let _place = place;
            match converse(&elevator, stream.into()) {
                Ok(()) | Err(Lost::Closed) => {}
                Err(lost) => eprintln!("elevon-elevator: the conversation with the agent ended: {lost}"),
            }
        };
        if let Err(error) =
            std::thread::Builder::new().name("agent".into()).stack_size(1 << 20).spawn(converse)
        {
            eprintln!("elevon-elevator: could not start a conversation with the agent: {error}");
        }
    }
}

/// Counts a connected agent for as long as it is in scope.
struct Present<'a>(&'a AtomicUsize);

impl<'a> Present<'a> {
    fn count(agents: &'a AtomicUsize) -> Self {
        agents.fetch_add(1, Ordering::Relaxed);
        Self(agents)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(elevator: &Elevator, socket: OwnedFd) -> Result<(), Lost> {
    let mut line = Connection::new(socket, UPLINK_LIMIT, None);
    let news = elevator.waiting.join()?;
    let mut present = None;
    let mut told = 0;
    let mut ask_again = Uptime::now().after(HOUR);
    loop {
        while let Some(frame) = line.frame_at_hand()? {
            let message = frame.parse()?;
            if matches!(message, FromAgent::Hello) {
                present.get_or_insert_with(|| Present::count(&elevator.agents));
            }
            for answer in answers(elevator, message).map_err(|error| Lost::Io(io::Error::other(error)))? {
                line.send(&answer)?;
            }
        }
        let recorded = elevator.journal().map_or(0, |journal| journal.head().number);
        if present.is_some() && recorded > told {
            line.send(&ToAgent::Recorded { number: recorded })?;
            told = recorded;
        }
        let mut ready = [
            PollFd::from_borrowed_fd(line.socket(), PollFlags::IN),
            PollFd::from_borrowed_fd(news.descriptor(), PollFlags::IN),
        ];
        let wait = Timespec::try_from(ask_again.left().std()).map_err(io::Error::other)?;
        match poll(&mut ready, Some(&wait)) {
            Err(rustix::io::Errno::INTR) => {}
            polled => drop(polled?),
        }
        news.clear();
        if ask_again.left() == Span::ZERO {
            ask_again = Uptime::now().after(HOUR);
            if present.is_some() {
                line.send(&ToAgent::Ask { question: elevator.clock.ask(chance::number()) })?;
            }
        }
    }
}

fn answers(elevator: &Elevator, message: FromAgent) -> Result<Vec<ToAgent>> {
    let enrolled = elevator.is_enrolled()?;
    let holds = || {
        let recorded = elevator.journal().map_or(0, |journal| journal.head().number);
        ToAgent::Holds(elevator.holdings.holds(recorded))
    };
    Ok(match message {
        FromAgent::Hello if enrolled => {
            vec![holds(), ToAgent::Ask { question: elevator.clock.ask(chance::number()) }]
        }
        FromAgent::Hello => vec![holds()],
        FromAgent::State { sheet, bundle } => match elevator.accept(&sheet, bundle.as_deref()) {
            Ok(()) => vec![holds()],
            Err(cause) => vec![ToAgent::Refused { cause }],
        },
        // One who hung up would be asked for the time at once again.
        FromAgent::Time { statement } => take_time(elevator, &statement).unwrap_or_else(|error| {
            vec![ToAgent::Refused { cause: format!("the time could not be kept: {error:#}") }]
        }),
        FromAgent::Events { after } => {
            let records = elevator.journal().map(|journal| journal.behind(after)).transpose()?;
            vec![ToAgent::Events { records: records.unwrap_or_default() }]
        }
    })
}

fn take_time(elevator: &Elevator, statement: &Signed) -> Result<Vec<ToAgent>> {
    let Some(trust) = elevator.holdings.trust() else {
        return Ok(Vec::new());
    };
    let refused = |cause: &str| vec![ToAgent::Refused { cause: format!("the time is not taken: {cause}") }];
    let statement = match statement.open::<TimeStatement>(&trust.server_key, Purpose::Time) {
        Ok(statement) => statement,
        Err(cause) => return Ok(refused(&cause.to_string())),
    };
    let Some(mut answer) = elevator.clock.answer(statement) else {
        return Ok(refused("it answers no question, or came too late"));
    };
    match answer.set_back.take() {
        Some(before) => {
            elevator.holdings.keep_ends(elevator.clock.boot(), &before, || elevator.clock.take(answer))?
        }
        None => elevator.clock.take(answer)?,
    }
    Ok(Vec::new())
}
