//! `elevon run`, from the first word to the exit status.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use elevon::{Caller, Conversation, Error, Received};
use elevon_policy::event::{EndReason, Exit};
use elevon_policy::id::GrantId;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::conversation::{Asking, FromClient, Run, ToClient, Wait};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::arguments;
use crate::clock;
use crate::password::{self, Typed, Typing};
use crate::prompt::{self, Prompt};
use crate::relay::{Over, Relay};
use crate::report::{Failure, NOBODY_DECIDED, Style, rounded, say};
use crate::signals::Signals;
use crate::terminal::Terminal;
use crate::waiting::Waiting;

/// Something to react to before the application starts.
enum Next {
    Message(ToClient),
    Signal(Signal),
}

/// Runs a program elevated; the exit status is the program's own, or says what kept it from running.
pub(crate) fn run(socket: &Path, asked: arguments::Run, style: Style) -> Result<u8, Failure> {
    let caller = Caller::of_this_process().map_err(|error| {
        Failure::of_elevon(format!("cannot open the working directory: {error}; change to another one"))
    })?;
    let signals = Signals::take().map_err(cannot_take_signals)?;
    let asking = FromClient::Run(Box::new(message(&asked)));
    let mut conversation = Conversation::connect(socket)?;
    conversation.send_with(&asking, &caller.descriptors())?;
    let mut waiting: Option<Waiting> = None;
    loop {
        let next = next(&mut conversation, &signals, waiting.as_ref())?;
        match next {
            Next::Signal(signal) => return Ok(leave(signal, waiting.as_ref())),
            Next::Message(ToClient::Asking(asking)) => {
                let answer =
                    signals.by_default(|| answer(&asking, &asked, style)).map_err(cannot_take_signals)??;
                conversation.send(&answer)?;
            }
            Next::Message(ToClient::Confirm(confirm)) => {
                clear(waiting.as_ref());
                password::show(&prompt::confirmation(&confirm, style));
            }
            Next::Message(ToClient::Prompt { text, secret }) => {
                let typing = Typing::at_terminal(&signals, !secret)?;
                match typing.ask(&text.visible().to_string(), &conversation)? {
                    Typed::Answer(answer) => conversation.answer(&answer)?,
                    Typed::Ended(signal) => return Ok(leave(signal, None)),
                    Typed::NotWanted => {}
                }
            }
            Next::Message(ToClient::Notice { text }) => say(&format!("elevon: {}", text.visible())),
            Next::Message(ToClient::Pending { request, joined, lapses, policy, connected }) => {
                let pending = Waiting::begin(request, joined, lapses, &policy, clock::now());
                if !connected {
                    Waiting::not_connected();
                }
                if asked.wait == Wait::No {
                    say(&format!(
                        "elevon: not waiting; `elevon status` shows it, `elevon cancel {request}` takes it back"
                    ));
                    return Ok(NOBODY_DECIDED);
                }
                waiting = Some(pending);
            }
            Next::Message(ToClient::Starting { terminal, .. }) => {
                clear(waiting.as_ref());
                return go_along(conversation, &signals, terminal);
            }
            Next::Message(ToClient::Granted { grant, component, end, once }) => {
                clear(waiting.as_ref());
                say(&granted(grant, &component, end, once));
                return Ok(0);
            }
            Next::Message(ToClient::Refused(refused)) => {
                clear(waiting.as_ref());
                return Err(Failure::refused(&refused));
            }
            Next::Message(ToClient::Finished { exit, reason }) => return Ok(status(exit, reason)),
            Next::Message(_) => {}
        }
    }
}

fn message(asked: &arguments::Run) -> Run {
    Run {
        command: os_text(&asked.command),
        arguments: asked.arguments.iter().map(os_text).collect(),
        component: asked.component,
        duration: asked.duration,
        justification: asked.justification.clone(),
        runs_as: asked.runs_as,
        wait: asked.wait,
        environment: elevon::environment(std::env::vars_os()),
        cookie: elevon::cookie(|name| std::env::var_os(name)),
        window: elevon::window(),
        umask: elevon::umask(),
    }
}

pub(crate) fn os_text(text: &OsString) -> OsText {
    OsText::new(text.clone().into_vec())
}

fn granted(grant: GrantId, component: &Text, end: Timestamp, once: bool) -> String {
    let (left, times) = (rounded(end.since(clock::now())), if once { "once, " } else { "" });
    format!(
        "elevon: polkit lets you do {} {times}for {left}; `elevon end {grant}` gives it back. What you begin with it goes on after",
        component.visible()
    )
}

/// Waits for a message or a signal; the waiting line counts meanwhile.
fn next(
    conversation: &mut Conversation,
    signals: &Signals,
    waiting: Option<&Waiting>,
) -> Result<Next, Failure> {
    loop {
        if let Some(received) = conversation.next_received()? {
            match received {
                Received::Message(message) => return Ok(Next::Message(message)),
                Received::Data(_) => continue,
            }
        }
        let again = waiting.and_then(|waiting| waiting.count(clock::now()));
        let mut fds = [PollFd::new(conversation, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, again.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Lost(errno.into()).into()),
        }
        let [message, signal] = fds.map(|fd| !fd.revents().is_empty());
        // A message goes first: once the application starts, a signal is for the application.
        if message {
            if let Err(error) = conversation.read() {
                clear(waiting);
                return Err(error.into());
            }
        } else if signal
            && let Some(signal) = deciding_signal(signals, waiting).map_err(cannot_take_signals)?
        {
            return Ok(Next::Signal(signal));
        }
    }
}

/// The next signal that ends the waiting. ^Z stops this job, as it would any other.
fn deciding_signal(signals: &Signals, waiting: Option<&Waiting>) -> io::Result<Option<Signal>> {
    while let Some(signal) = signals.next()? {
        match signal {
            Signal::SIGWINCH | Signal::SIGCONT => {}
            Signal::SIGTSTP => {
                clear(waiting);
                signals.stop(signal)?;
            }
            other => return Ok(Some(other)),
        }
    }
    Ok(None)
}

fn timespec(span: Span) -> Timespec {
    // At most a second: it is the time until the waiting line changes.
    Timespec { tv_sec: 0, tv_nsec: i64::try_from(span.millis().min(999)).unwrap_or(999) * 1_000_000 }
}

fn answer(asking: &Asking, asked: &arguments::Run, style: Style) -> Result<FromClient, Failure> {
    let Some(mut prompt) = Prompt::on_terminal(style) else {
        return Err(Failure::of_elevon(missing(asking, asked)));
    };
    let (duration, justification) = prompt.ask(asking, asked.duration, asked.justification.clone())?;
    Ok(FromClient::Answer { duration, justification })
}

/// Says which options must stand in for a person at a terminal.
fn missing(asking: &Asking, asked: &arguments::Run) -> String {
    let options = match (&asked.duration, &asked.justification) {
        (None, Some(_)) => "--for",
        (Some(_), None) => "--justification",
        _ => "--for and --justification",
    };
    let (name, policy) = (asking.application.name(), asking.policy.visible());
    format!(
        "“{policy}” wants to know for how long and why {} is to run, and there is no terminal to ask on; give {options}",
        name.visible()
    )
}

fn leave(signal: Signal, waiting: Option<&Waiting>) -> u8 {
    if let Some(waiting) = waiting {
        waiting.leave();
    }
    by_signal(signal as i32)
}

fn clear(waiting: Option<&Waiting>) {
    if let Some(waiting) = waiting {
        waiting.clear();
    }
}

fn go_along(conversation: Conversation, signals: &Signals, relayed: bool) -> Result<u8, Failure> {
    let terminal = relayed.then(Terminal::open).transpose().map_err(|error| {
        Failure::of_elevon(format!("cannot open the terminal: {error}; the application was not left running"))
    })?;
    match Relay::run(conversation, signals, terminal)? {
        Over::Finished { exit, reason } => Ok(status(exit, reason)),
        Over::Refused(refused) => Err(Failure::refused(&refused)),
        Over::HungUp => Ok(by_signal(Signal::SIGHUP as i32)),
    }
}

/// The exit status; says what ended the application, where it did not end by itself.
fn status(exit: Exit, reason: EndReason) -> u8 {
    if reason != EndReason::Exited {
        say(&format!("elevon: the application was ended: {}", reason.sentence()));
    }
    match exit {
        // The kernel keeps the low eight bits of an exit status, too.
        Exit::Code(code) => (code & 0xff) as u8,
        Exit::Signal(number) => by_signal(number),
    }
}

fn by_signal(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

fn cannot_take_signals(error: io::Error) -> Failure {
    Failure::of_elevon(format!("cannot set up signals: {error}"))
}
