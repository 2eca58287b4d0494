//! An answer that nobody may see, typed at the user's own terminal: not echoed, not kept, and the terminal is as it was again,
//! whatever ends the typing.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use elevon_wire::conversation::LONGEST_ANSWER;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::report::{Failure, write_error};
use crate::signals::Signals;
use crate::terminal::is_in_front;

/// As much as a terminal gives at once.
const LINE: usize = 4096;

/// The terminal while an answer is typed.
pub(crate) struct Typing<'a> {
    terminal: File,
    signals: &'a Signals,
    echo: bool,
    before: Option<Termios>,
}

/// What became of it.
pub(crate) enum Typed {
    /// This was typed.
    Answer(Zeroizing<Vec<u8>>),
    /// A signal ended it.
    Ended(Signal),
    /// The elevator did not wait for it any longer.
    NotWanted,
}

/// Shows what an answer will be for where that is typed, whatever standard error is.
pub(crate) fn show(text: &str) {
    let shown = File::options()
        .write(true)
        .open("/dev/tty")
        .and_then(|mut terminal| terminal.write_all(text.as_bytes()));
    if shown.is_err() {
        write_error(text);
    }
}

impl<'a> Typing<'a> {
    /// At the terminal that this process belongs to, and no other: standard input may be anything.
    pub(crate) fn at_terminal(signals: &'a Signals, echo: bool) -> Result<Self, Failure> {
        let terminal = File::options().read(true).write(true).open("/dev/tty");
        match terminal.ok().filter(|terminal| isatty(terminal)) {
            Some(terminal) => Ok(Self { terminal, signals, echo, before: None }),
            None => Err(Failure::of_elevon(
                "your password is wanted before this starts, and there is no terminal to type it at; start it from one",
            )),
        }
    }

    /// Shows the prompt and reads one line, unless something comes on the conversation with the elevator before.
    pub(crate) fn ask(mut self, prompt: &str, elevator: impl AsFd) -> Result<Typed, Failure> {
        let failed = |error: io::Error| Failure::of_elevon(format!("cannot read from /dev/tty: {error}"));
        self.begin(prompt).map_err(failed)?;
        let mut line = Zeroizing::new(vec![0; LINE]);
        loop {
            let mut fds = [
                PollFd::new(&self.terminal, PollFlags::IN),
                PollFd::new(self.signals, PollFlags::IN),
                PollFd::new(&elevator, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            let [typed, signal, heard] = fds.map(|fd| !fd.revents().is_empty());
            if signal {
                match self.signals.next().map_err(failed)? {
                    None | Some(Signal::SIGWINCH | Signal::SIGCONT) => {}
                    Some(Signal::SIGTSTP) => {
                        self.end();
                        self.signals.stop(Signal::SIGTSTP).map_err(failed)?;
                        self.begin(prompt).map_err(failed)?;
                    }
                    Some(other) => return Ok(Typed::Ended(other)),
                }
            } else if typed {
                let length = match rustix::io::read(&self.terminal, &mut line[..]) {
                    Err(Errno::INTR) => continue,
                    read => read.map_err(|errno| failed(errno.into()))?,
                };
                if length == 0 {
                    return Err(Failure::of_elevon("no password; nothing runs"));
                }
                return Ok(Typed::Answer(answer(line.get(..length).unwrap_or_default())));
            } else if heard {
                return Ok(Typed::NotWanted);
            }
        }
    }

    fn begin(&mut self, prompt: &str) -> io::Result<()> {
        self.come_to_the_front()?;
        let before = tcgetattr(&self.terminal)?;
        if !self.echo {
            let mut quiet = before.clone();
            quiet
                .local_modes
                .remove(LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ECHOK | LocalModes::ECHONL);
            // Line by line, whatever was there before: a part of a password must not be left for a shell.
            quiet.local_modes.insert(LocalModes::ICANON | LocalModes::ISIG);
            quiet.input_modes.insert(InputModes::ICRNL);
            // What was typed ahead was not meant for this, and could have been seen.
            tcsetattr(&self.terminal, OptionalActions::Flush, &quiet)?;
        }
        self.before = Some(before);
        self.terminal.write_all(prompt.as_bytes())
    }

    /// A job in the background stops, as any that reads its terminal: its modes and what is typed there are another's.
    fn come_to_the_front(&self) -> io::Result<()> {
        while !is_in_front(&self.terminal) {
            self.signals.stop(Signal::SIGTTIN)?;
            // In an orphaned group, where nobody could bring it to the front, the kernel does not stop it.
            if self.signals.next()? != Some(Signal::SIGCONT) {
                return Err(io::Error::other("this job is in the background"));
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        if let Some(before) = self.before.take() {
            // With what was begun to be typed. Fails only where the terminal is gone, and then there is nothing to restore.
            let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &before);
            if !self.echo {
                let _ = self.terminal.write_all(b"\n");
            }
        }
    }
}

impl Drop for Typing<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Without the end of the line. What is longer than PAM takes stays too long, and is told so by being sent.
fn answer(line: &[u8]) -> Zeroizing<Vec<u8>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    Zeroizing::new(line.get(..LONGEST_ANSWER + 1).unwrap_or(line).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_line_and_never_cut_to_something_that_fits() {
        assert_eq!(*answer(b"open sesame\n"), b"open sesame");
        assert_eq!(*answer(b"no end of line"), b"no end of line");
        assert_eq!(*answer(b"\n"), b"");
        assert_eq!(answer(&[b'x'; LINE]).len(), LONGEST_ANSWER + 1);
    }
}
