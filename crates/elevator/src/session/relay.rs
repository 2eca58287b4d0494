//! What goes between the client on one side, and the terminal and the program on the other.

use std::os::fd::AsFd;

use elevon_policy::event::{EndReason, Exit};
use elevon_wire::conversation::{FromClient, ToClient};
use elevon_wire::frame::{Frame, Kind};
use rustix::thread::sched_yield;

use super::Session;
use super::program::Program;
use crate::launch::child::Word;
use crate::launch::terminal;

/// No more than this is held for a side that does not read.
pub(super) const HELD: usize = 256 << 10;

/// Frames of a client that are heard in one go: whatever else there is to see to, the end above all, gets its turn.
const IN_ONE_GO: usize = 64;

/// The signals a client may pass on; those a terminal or a user would send under any shell.
const PASSED_ON: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGCONT,
];

impl Session {
    /// Takes all that the monitor has said: what came along with the message before does not wake anyone again.
    pub(super) fn hear_monitor(&mut self) {
        while let Some(monitor) = self.program.as_mut().and_then(Program::monitor) {
            match monitor.line.message_at_hand() {
                Ok(Some(word)) => self.hear(&word),
                Ok(None) => return,
                Err(_) => {
                    self.program = None;
                    return self.say_the_end();
                }
            }
        }
    }

    /// What became of the program.
    pub(super) fn hear(&mut self, word: &Word) {
        match word {
            // To a client that does not read it is not told again and again.
            Word::Stopped(_) if self.outgoing.len() >= HELD => {}
            Word::Stopped(signal) => self.say(&ToClient::Stopped { signal: *signal }),
            Word::Ended(exit) => {
                self.exit = Some(*exit);
                let program = self.program.take();
                self.relay_output();
                // Closing the terminal hangs up on whatever the program left in the foreground.
                self.master = None;
                self.say_the_end();
                self.send();
                // Somebody waits for the client, and for what is left to do here nobody does: it would be in its way on the processor
                // that they are on, whatever others idle. A monitor ends when it is let go.
                sched_yield();
                drop(program);
            }
            Word::Asks | Word::Started | Word::NotStarted(_) => {}
        }
    }

    pub(super) fn say_the_end(&mut self) {
        if !self.all_said {
            let exit = self.exit.unwrap_or(Exit::Signal(libc::SIGKILL));
            self.say(&ToClient::Finished { exit, reason: self.ending.unwrap_or(EndReason::Exited) });
            self.all_said = true;
        }
    }

    /// Takes what the terminal has, as long as there is room for it. After the program's end, all that it can have left
    /// there, which is far less than as much again; what it left running may go on writing for ever.
    pub(super) fn relay_output(&mut self) {
        let mut bytes = [0; 16 << 10];
        let room = if self.program.is_none() { 2 * HELD } else { HELD };
        while self.outgoing.len() < room {
            let Some(master) = &self.master else {
                return;
            };
            match rustix::io::read(master, &mut bytes) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return,
                Ok(read) => {
                    let frame = Frame::data(bytes.get(..read).unwrap_or_default());
                    self.outgoing.extend_from_slice(&frame.encode());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    // EIO: nobody holds the other end any more, and all was read.
                    self.master = None;
                }
            }
        }
    }

    pub(super) fn relay_input(&mut self) {
        while let Some(master) = self.master.as_ref().filter(|_| !self.typed.is_empty()) {
            match rustix::io::write(master, &self.typed) {
                Ok(written) => {
                    self.typed.drain(..written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.typed.clear(),
            }
        }
    }

    pub(super) fn hear_client(&mut self) {
        self.unheard = false;
        let mut heard = 0;
        while !self.all_said && self.typed.len() < HELD {
            if heard == IN_ONE_GO {
                self.unheard = true;
                return;
            }
            heard += 1;
            let Some(client) = self.client.as_mut() else {
                return;
            };
            match client.frame_at_hand() {
                Ok(None) => return,
                Ok(Some(frame)) if frame.kind == Kind::Data => self.typed.extend_from_slice(&frame.payload),
                Ok(Some(frame)) => match frame.parse() {
                    Ok(message) => self.obey(&message),
                    Err(_) => return self.hang_up(),
                },
                Err(_) => return self.hang_up(),
            }
        }
        if self.all_said {
            // Only whether it is still there matters now.
            let gone = self.client.as_mut().is_some_and(|client| client.frame_at_hand().is_err());
            if gone {
                self.client = None;
                self.outgoing.clear();
            }
        }
    }

    fn obey(&mut self, message: &FromClient) {
        match message {
            FromClient::Resize(window) => {
                if let Some(master) = &self.master {
                    // A terminal that is gone has no size.
                    let _ = terminal::resize(master.as_fd(), *window);
                }
            }
            FromClient::Signal { number } if PASSED_ON.contains(number) => self.pass_on(*number),
            FromClient::Continue => {
                if let Some(program) = &self.program {
                    program.go_on();
                }
            }
            _ => {}
        }
    }

    fn pass_on(&self, signal: i32) {
        if let Some(program) = &self.program {
            program.pass_on(signal);
        }
    }

    /// The user's side went away: as when a line drops, the program is told so, and may end or go on until its time.
    fn hang_up(&mut self) {
        self.client = None;
        self.outgoing.clear();
        self.hung_up = true;
        self.all_said = true;
        self.pass_on(libc::SIGHUP);
        self.pass_on(libc::SIGCONT);
        self.master = None;
    }

    pub(super) fn say(&mut self, message: &ToClient) {
        if self.client.is_some() && !self.all_said {
            self.outgoing.extend_from_slice(&Frame::message(message).encode());
        }
    }

    pub(super) fn send(&mut self) {
        while let Some(client) = self.client.as_ref().filter(|_| !self.outgoing.is_empty()) {
            match client.send_some(&self.outgoing) {
                Ok(0) => return,
                Ok(sent) => {
                    self.outgoing.drain(..sent);
                }
                Err(_) if self.all_said => {
                    self.client = None;
                    self.outgoing.clear();
                }
                Err(_) => self.hang_up(),
            }
        }
        if self.all_said && self.outgoing.is_empty() {
            self.client = None;
        }
    }
}
