//! An answer that nobody may see, typed at the user's own terminal: not echoed, not kept, and the terminal is as it was again,
//! whatever ends the typing.

use std::fs::File;
use std::io;

use elevon_wire::conversation::LONGEST_ANSWER;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::report::{Failure, write_error};
use crate::signals::Signals;

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

    /// Shows the prompt and reads one line.
    pub(crate) fn ask(mut self, prompt: &str) -> Result<Typed, Failure> {
        let failed = |error: io::Error| Failure::of_elevon(format!("cannot read from /dev/tty: {error}"));
        self.begin(prompt).map_err(failed)?;
        let mut line = Zeroizing::new(vec![0; LINE]);
        loop {
            let mut fds =
                [PollFd::new(&self.terminal, PollFlags::IN), PollFd::new(self.signals, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            let [typed, signal] = fds.map(|fd| !fd.revents().is_empty());
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
            }
        }
    }

    fn begin(&mut self, prompt: &str) -> io::Result<()> {
        let before = tcgetattr(&self.terminal)?;
        if !self.echo {
            let mut quiet = before.clone();
            quiet
                .local_modes
                .remove(LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ECHOK | LocalModes::ECHONL);
            // What was typed ahead was not meant for this, and could have been seen.
            tcsetattr(&self.terminal, OptionalActions::Flush, &quiet)?;
        }
        self.before = Some(before);
        write_error(prompt);
        Ok(())
    }

    fn end(&mut self) {
        if let Some(before) = self.before.take() {
            // Fails only where the terminal is gone, and then there is nothing to restore.
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &before);
            if !self.echo {
                write_error("\n");
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
