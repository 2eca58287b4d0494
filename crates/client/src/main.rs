//! `elevon`: what the user types and sees.

mod arguments;
mod clock;
mod explain;
mod password;
mod prompt;
mod relay;
mod report;
mod run;
mod signals;
mod status;
mod terminal;
mod waiting;

use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use elevon::{Caller, Conversation, Received};
use elevon_policy::time::Span;
use elevon_wire::conversation::{FromClient, Status, ToClient};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use serde::Serialize;

use crate::arguments::{Act, Arguments};
use crate::report::{ELEVON_FAILED, Failure, Style, print, say};

fn main() -> ExitCode {
    // What is typed into an elevated terminal passes through here: no other process of the same user may trace this one, or
    // take its connection. Where that is not to be had, the client is of use all the same.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // A panic has already said what it had to; the terminal was restored on the way here.
    let done = catch_unwind(act).unwrap_or(Ok(ELEVON_FAILED));
    let status = done.unwrap_or_else(|failure| {
        say(&format!("elevon: {}", failure.told));
        failure.status
    });
    ExitCode::from(status)
}

fn act() -> Result<u8, Failure> {
    let socket = std::env::var_os("ELEVON_SOCKET").map_or_else(|| elevon::SOCKET.into(), PathBuf::from);
    let Arguments { socket, act } = Arguments::parse(std::env::args_os().skip(1), socket)
        .map_err(|usage| Failure::of_elevon(usage.to_string()))?;
    match act {
        Act::Run(asked) => return run::run(&socket, asked, Style::on(&io::stderr())),
        Act::Explain { command, arguments, component, json } => {
            let (command, arguments) = (run::os_text(&command), arguments.iter().map(run::os_text).collect());
            explain(&socket, &FromClient::Explain { command, arguments, component }, json)?;
        }
        Act::Status { json } => {
            let status = status(&socket)?;
            let answer =
                if json { machine(&status) } else { status::tables(&status, Style::on(&io::stdout())) };
            print(&answer)?;
        }
        Act::Cancel { request } => {
            let requests = status(&socket)?.requests;
            let request = status::find(&request, requests.iter().map(|request| request.request), "request")?;
            tell(&socket, &FromClient::Cancel { request })?;
        }
        Act::End { grant } => {
            let grants = status(&socket)?.grants;
            let grant = status::find(&grant, grants.iter().map(|grant| grant.grant), "grant")?;
            tell(&socket, &FromClient::End { grant })?;
        }
        Act::Authorize { user, component, process } => {
            return authorize(&socket, &FromClient::Authorize { user, component, process });
        }
        Act::Help(page) => print(page)?,
        Act::Version => print(concat!("elevon ", env!("CARGO_PKG_VERSION"), "\n"))?,
    }
    Ok(0)
}

fn explain(socket: &Path, question: &FromClient, json: bool) -> Result<(), Failure> {
    let caller = Caller::of_this_process()
        .map_err(|error| Failure::of_elevon(format!("cannot open the working directory: {error}")))?;
    let mut conversation = Conversation::connect(socket)?;
    conversation.send_with(question, &[caller.directory()])?;
    match answer(&mut conversation)? {
        ToClient::Explained(explained) if json => print(&machine(&*explained)),
        ToClient::Explained(explained) => {
            print(&explain::answer(&explained, Style::on(&io::stdout()), clock::now()))
        }
        other => Err(unexpected(&other)),
    }
}

fn status(socket: &Path) -> Result<Status, Failure> {
    let mut conversation = Conversation::connect(socket)?;
    conversation.send(&FromClient::Status)?;
    match answer(&mut conversation)? {
        ToClient::Status(status) => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

/// The exit status is the answer. polkit stands still meanwhile, so it is not waited for long.
fn authorize(socket: &Path, question: &FromClient) -> Result<u8, Failure> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut conversation = Conversation::connect(socket)?;
    let limited = conversation.socket().set_read_timeout(Some(PATIENCE));
    limited.map_err(|error| Failure::of_elevon(format!("cannot limit how long to wait: {error}")))?;
    conversation.send(question)?;
    let asked = clock::now();
    while clock::now().since(asked) < Span::from_secs(PATIENCE.as_secs()) {
        if let Some(received) = conversation.next_received()? {
            return match received {
                Received::Message(ToClient::Authorization { granted }) => Ok(u8::from(!granted)),
                Received::Message(ToClient::Refused(refused)) => Err(Failure::refused(&refused)),
                Received::Message(other) => Err(unexpected(&other)),
                Received::Data(_) => continue,
            };
        }
        conversation.read()?;
    }
    Err(Failure::of_elevon("the elevator does not answer"))
}

/// Asks for something to be done, and prints what was.
fn tell(socket: &Path, message: &FromClient) -> Result<(), Failure> {
    let mut conversation = Conversation::connect(socket)?;
    conversation.send(message)?;
    match answer(&mut conversation)? {
        ToClient::Done { told } => print(&format!("{told}\n")),
        other => Err(unexpected(&other)),
    }
}

fn answer(conversation: &mut Conversation) -> Result<ToClient, Failure> {
    match conversation.receive()? {
        Received::Message(ToClient::Refused(refused)) => Err(Failure::refused(&refused)),
        Received::Message(message) => Ok(message),
        Received::Data(_) => {
            Err(Failure::of_elevon("expected an answer from the elevator, got terminal data"))
        }
    }
}

fn unexpected(message: &ToClient) -> Failure {
    let word = serde_json::to_value(message).unwrap_or_default();
    let word = word.get("message").and_then(|word| word.as_str()).unwrap_or("something else");
    Failure::of_elevon(format!(
        "expected another answer than “{word}”; elevon and elevon-elevator should be of one version"
    ))
}

/// The same facts for machines.
fn machine(facts: &impl Serialize) -> String {
    // Our documents have string keys and finite numbers, so they always serialise.
    format!("{}\n", serde_json::to_string_pretty(facts).unwrap_or_default())
}
