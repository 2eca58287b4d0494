//! From the start of the application to its end: its terminal is relayed, signals are passed on, and stopping and going on
//! work as for any job of the shell.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use elevon::{Conversation, Error, Received, has_hung_up};
use elevon_policy::event::{EndReason, Exit};
use elevon_policy::time::Span;
use elevon_wire::conversation::{FromClient, Refused, ToClient};
use elevon_wire::frame::Frame;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::report::rounded;
use crate::signals::Signals;
use crate::terminal::Terminal;

/// So much may wait for the terminal or the socket before no more is taken from the other side, in bytes.
const WAITING_LIMIT: usize = 256 << 10;

/// How often a job in the background looks whether it is in front again: a shell that brings a running job to the front
/// tells nobody.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// How it ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Over {
    /// The application is over.
    Finished { exit: Exit, reason: EndReason },
    /// It could not be started after all.
    Refused(Refused),
    /// The user's terminal went away.
    HungUp,
}

/// One application, while it runs.
pub(crate) struct Relay<'a> {
    conversation: Conversation,
    signals: &'a Signals,
    /// None where the application has the descriptors themselves.
    terminal: Option<Terminal>,
    to_socket: VecDeque<u8>,
    to_terminal: VecDeque<u8>,
    /// The terminal went away while it was being set.
    hung_up: bool,
}

/// What can be done without waiting.
#[derive(Default)]
struct Ready {
    socket: bool,
    socket_takes: bool,
    signal: bool,
    typed: bool,
    terminal_takes: bool,
    hung_up: bool,
}

impl<'a> Relay<'a> {
    /// Goes along with the application until it is over. The terminal is as it was before, however this returns.
    pub(crate) fn run(
        conversation: Conversation,
        signals: &'a Signals,
        terminal: Option<Terminal>,
    ) -> Result<Over, Error> {
        let (to_socket, to_terminal) = Default::default();
        let mut relay = Self { conversation, signals, terminal, to_socket, to_terminal, hung_up: false };
        let over = relay.begin().and_then(|()| relay.go_along());
        if !matches!(over, Ok(Over::HungUp)) {
            relay.show_the_rest().map_err(Error::Lost)?;
        }
        over
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.conversation.socket().set_nonblocking(true).map_err(Error::Lost)?;
        if let Some(terminal) = &mut self.terminal {
            terminal.enter_raw().map_err(Error::Lost)?;
        }
        self.tell_size();
        Ok(())
    }

    fn go_along(&mut self) -> Result<Over, Error> {
        loop {
            while self.has_room() {
                let Some(received) = self.conversation.next_received()? else {
                    break;
                };
                if let Some(over) = self.take(received).map_err(Error::Lost)? {
                    return Ok(over);
                }
            }
            let ready = self.wait().map_err(Error::Lost)?;
            if ready.signal {
                self.take_signals().map_err(Error::Lost)?;
            }
            if self.terminal.as_ref().is_some_and(|terminal| terminal.is_behind() && terminal.is_in_front()) {
                self.take_terminal();
            }
            if ready.hung_up || self.hung_up {
                return Ok(Over::HungUp);
            }
            if ready.typed && !self.read_typed().map_err(Error::Lost)? {
                return Ok(Over::HungUp);
            }
            if ready.terminal_takes && !self.show()? {
                return Ok(Over::HungUp);
            }
            if ready.socket_takes {
                self.send()?;
            }
            if ready.socket {
                self.conversation.read()?;
            }
        }
    }

    /// Waits until something can be done; nothing is asked for that nobody would use, so it never spins: the end of a connection
    /// would be told again and again to one who cannot take yet what came before it.
    fn wait(&self) -> io::Result<Ready> {
        let room = self.has_room();
        let wanted = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(self.signals, PollFlags::IN)];
        let mut places = [None; 3];
        let on_socket = wanted(room, PollFlags::IN) | wanted(!self.to_socket.is_empty(), PollFlags::OUT);
        let socket = Some((self.conversation.as_fd(), on_socket)).filter(|(_, wanted)| !wanted.is_empty());
        let input = self.terminal.as_ref().and_then(Terminal::input);
        let input = input.map(|input| (input, wanted(self.to_socket.len() < WAITING_LIMIT, PollFlags::IN)));
        let output = self.terminal.as_ref().map(Terminal::output).filter(|_| !self.to_terminal.is_empty());
        let output = output.map(|output| (output, PollFlags::OUT));
        for (place, fd) in places.iter_mut().zip([socket, input, output]) {
            if let Some((fd, wanted)) = fd {
                *place = Some(fds.len());
                fds.push(PollFd::from_borrowed_fd(fd, wanted));
            }
        }
        let behind = self.terminal.as_ref().is_some_and(Terminal::is_behind);
        match poll(&mut fds, behind.then_some(&LOOK)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno.into()),
        }
        let came = |at: usize| fds.get(at).map_or(PollFlags::empty(), PollFd::revents);
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let [on_socket, on_input, on_output] = places.map(|place| place.map_or(PollFlags::empty(), came));
        Ok(Ready {
            socket: room && on_socket.intersects(PollFlags::IN | gone),
            socket_takes: on_socket.contains(PollFlags::OUT),
            signal: came(0).contains(PollFlags::IN),
            typed: on_input.contains(PollFlags::IN),
            terminal_takes: on_output.contains(PollFlags::OUT),
            hung_up: (on_input | on_output).intersects(gone) && !on_input.contains(PollFlags::IN),
        })
    }

    /// Whether more may be taken from the socket before the terminal has shown what waits for it.
    fn has_room(&self) -> bool {
        self.to_terminal.len() < WAITING_LIMIT
    }

    fn take(&mut self, received: Received) -> io::Result<Option<Over>> {
        match received {
            Received::Data(bytes) => self.to_terminal.extend(bytes),
            Received::Message(ToClient::Warning { left, reason }) => self.warn(left, reason),
            Received::Message(ToClient::Stopped { signal }) => self.stop(signal)?,
            Received::Message(ToClient::Finished { exit, reason }) => {
                return Ok(Some(Over::Finished { exit, reason }));
            }
            Received::Message(ToClient::Refused(refused)) => return Ok(Some(Over::Refused(refused))),
            // Answers to questions that were not asked on this connection.
            Received::Message(_) => {}
        }
        Ok(None)
    }

    fn take_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                Signal::SIGWINCH => self.tell_size(),
                Signal::SIGCONT => self.go_on(),
                other => self.tell(&FromClient::Signal { number: other as i32 }),
            }
        }
        Ok(())
    }

    /// The application was stopped; so is this job, unless it only wanted the terminal and this job has it.
    fn stop(&mut self, number: i32) -> io::Result<()> {
        let signal = Signal::try_from(number).unwrap_or(Signal::SIGSTOP);
        let wants_terminal = matches!(signal, Signal::SIGTTIN | Signal::SIGTTOU);
        if let Some(terminal) = self.terminal.as_mut().filter(|_| wants_terminal) {
            terminal.note_it_is_wanted();
        }
        if wants_terminal && self.terminal.as_ref().is_some_and(Terminal::is_in_front) {
            self.go_on();
            return Ok(());
        }
        self.show().map_err(io::Error::other)?;
        if let Some(terminal) = &mut self.terminal {
            terminal.restore();
        }
        self.signals.stop(signal)?;
        // The SIGCONT that let us go on waits in the descriptor: taken twice, it would undo a second stop.
        while let Some(signal) = self.signals.next()? {
            if !matches!(signal, Signal::SIGCONT | Signal::SIGWINCH) {
                self.tell(&FromClient::Signal { number: signal as i32 });
            }
        }
        self.go_on();
        Ok(())
    }

    fn go_on(&mut self) {
        self.take_terminal();
        self.tell(&FromClient::Continue);
    }

    fn take_terminal(&mut self) {
        // A terminal that hangs up sends SIGCONT along with SIGHUP, and cannot be set any more.
        self.hung_up |= self.terminal.as_mut().is_some_and(|terminal| terminal.enter_raw().is_err());
        self.tell_size();
    }

    fn tell_size(&mut self) {
        if let Some(size) = self.terminal.as_ref().and_then(Terminal::size) {
            self.tell(&FromClient::Resize(size));
        }
    }

    fn tell(&mut self, message: &FromClient) {
        self.to_socket.extend(Frame::message(message).encode());
    }

    /// One line of our own between the application's.
    fn warn(&mut self, left: Span, reason: EndReason) {
        let line = format!("elevon: this application ends in {}: {}", rounded(left), coming(reason));
        let raw = self.terminal.as_ref().is_some_and(Terminal::is_raw);
        if raw && io::stderr().is_terminal() {
            self.to_terminal.extend(format!("\r\n{line}\r\n").bytes());
        } else {
            crate::report::say(&line);
        }
    }

    /// Takes what the user typed; `false` when the terminal is gone.
    fn read_typed(&mut self) -> io::Result<bool> {
        let Some(input) = self.terminal.as_ref().and_then(Terminal::input) else {
            return Ok(true);
        };
        let mut piece = [0; 4096];
        match rustix::io::read(input, &mut piece) {
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(length) => {
                self.to_socket.extend(Frame::data(piece.get(..length).unwrap_or_default()).encode());
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes as much to the terminal as it takes; `false` when it is gone.
    fn show(&mut self) -> Result<bool, Error> {
        let Some(terminal) = &self.terminal else {
            self.to_terminal.clear();
            return Ok(true);
        };
        while !self.to_terminal.is_empty() {
            match rustix::io::write(terminal.output(), self.to_terminal.as_slices().0) {
                Ok(length) => drop(self.to_terminal.drain(..length)),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                Err(Errno::IO) => return Ok(false),
                Err(errno) => return Err(Error::Lost(errno.into())),
            }
        }
        Ok(true)
    }

    fn send(&mut self) -> Result<(), Error> {
        while !self.to_socket.is_empty() {
            match self.conversation.socket().write(self.to_socket.as_slices().0) {
                Ok(length) => drop(self.to_socket.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // How the application ended, above all.
                Err(error) if has_hung_up(&error) => self.to_socket.clear(),
                Err(error) => return Err(Error::Lost(error)),
            }
        }
        Ok(())
    }

    /// Waits for the terminal to take the application's last words; ^C and its like cut that short.
    fn show_the_rest(&mut self) -> io::Result<()> {
        while self.show().map_err(io::Error::other)? && !self.to_terminal.is_empty() {
            let Some(terminal) = &self.terminal else {
                return Ok(());
            };
            let output = terminal.output();
            let typed = terminal.input();
            let mut fds =
                vec![PollFd::new(&output, PollFlags::OUT), PollFd::new(self.signals, PollFlags::IN)];
            if let Some(typed) = &typed {
                fds.push(PollFd::new(typed, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let came = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            if came(2) && !came(0) {
                let mut piece = [0; 64];
                let length =
                    rustix::io::read(typed.as_ref().map_or(output, AsFd::as_fd), &mut piece).unwrap_or(0);
                if length == 0
                    || piece.get(..length).unwrap_or_default().iter().any(|byte| matches!(byte, 3 | 28))
                {
                    return Ok(());
                }
            }
            if came(1) {
                match self.signals.next()? {
                    Some(Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM) => {
                        return Ok(());
                    }
                    _ => continue,
                }
            }
        }
        Ok(())
    }
}

/// What will end it, as the end of the sentence "this application ends in 1m: …".
fn coming(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Expired => "its time runs out; save your work, and ask again if you need longer",
        other => other.sentence(),
    }
}
