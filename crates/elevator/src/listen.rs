//! The users' socket: who is calling, what they ask, and one answer for each question of a closed list.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use elevon_policy::application::User;
use elevon_policy::decide::Attempt;
use elevon_policy::event::{DenyReason, EndReason, What};
use elevon_policy::grant::{GrantedApplication, GrantedArguments};
use elevon_policy::id::{GrantId, RequestId};
use elevon_policy::lists::AtExpiry;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;
use elevon_wire::conversation::{
    Explained, FromClient, GrantStatus, LaunchStatus, Refused, RequestStatus, Status, ToClient,
};
use elevon_wire::frame::MESSAGE_LIMIT;
use rustix::fs::OFlags;
use rustix::net::sockopt::socket_peercred;

use crate::authorize;
use crate::caller::{self, Peer, Stranger, Visitor};
use crate::clock::Uptime;
use crate::connection::{Connection, Lost};
use crate::elevate::{Attempted, Told, not_enrolled, of_elevon};
use crate::elevator::Elevator;
use crate::launch::{Order, containment};
use crate::measure::{Measured, NotMeasured, component, measure};
use crate::pam;

/// Connections of one user at once.
const MOST_OF_A_USER: usize = 128;

/// Connections at once.
const MOST: usize = 2048;

/// A client says what it wants within this time.
const PATIENCE: Span = Span::from_secs(10);

/// So long at most a launch has the machine to itself, before the next one is made ready for. Many are over by then.
const MOMENT: Span = Span::from_millis(20);

/// The stack of a thread that serves one client. Little of it is ever touched; the C library keeps 40 MiB of stacks for later
/// threads, and the larger they are, the fewer.
const STACK: usize = 1 << 20;

/// So many threads wait for clients, so that none has to wait for a thread.
const WAITING: usize = 2;

/// Serves clients, each in a thread of its own, for as long as the elevator runs.
pub(crate) fn serve(elevator: &Arc<Elevator>, listener: UnixListener) {
    let (elevator, visitors) = (Arc::clone(elevator), Arc::new(Visitors::default()));
    Arc::new(Reception { elevator, listener, visitors, waiting: AtomicUsize::new(0) }).serve();
}

/// What the threads share.
struct Reception {
    elevator: Arc<Elevator>,
    listener: UnixListener,
    visitors: Arc<Visitors>,
    /// How many threads wait for a client.
    waiting: AtomicUsize,
}

impl Reception {
    /// One client after the other, while not enough other threads wait for them. The last one that waits leaves another in
    /// its place before it serves.
    fn serve(self: &Arc<Self>) {
        let one_more = |waiting| (waiting < WAITING).then_some(waiting + 1);
        while self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            let stream = self.accept();
            let was_last = self.waiting.fetch_sub(1, Ordering::Relaxed) == 1;
            let Some(place) = self.visitors.admit(&stream) else {
                continue;
            };
            if was_last && let Err(error) = self.make_room() {
                eprintln!("elevon-elevator: could not serve a client: {error}");
                continue;
            }
            converse(&self.elevator, stream);
            drop(place);
        }
    }

    fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // No descriptors left, for one: those who are served will give some back.
                Err(error) => {
                    eprintln!("elevon-elevator: could not take a connection: {error}");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn make_room(self: &Arc<Self>) -> io::Result<()> {
        let reception = Arc::clone(self);
        let thread = std::thread::Builder::new().name("client".into()).stack_size(STACK);
        thread.spawn(move || reception.serve()).map(drop)
    }
}

/// How many connections each user has.
#[derive(Debug, Default)]
struct Visitors {
    of_user: Mutex<HashMap<u32, usize>>,
}

/// One connection's place; leaving scope gives it up.
struct Admitted {
    visitors: Arc<Visitors>,
    uid: u32,
}

impl Visitors {
    /// Nothing where there are too many: the connection is closed.
    fn admit(self: &Arc<Self>, stream: &UnixStream) -> Option<Admitted> {
        let uid = socket_peercred(stream).ok()?.uid.as_raw();
        let mut of_user = self.of_user.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = of_user.values().sum();
        // A user may have tens of thousands of numbers without a name, to whom nothing is elevated.
        let is_nobody = || all >= MOST / 2 && uzers::get_user_by_uid(uid).is_none();
        let own = of_user.entry(uid).or_default();
        if *own >= MOST_OF_A_USER || all >= MOST || is_nobody() {
            let line = Connection::new(stream.try_clone().ok()?.into(), MESSAGE_LIMIT, None);
            // Whether it hears of it does not matter.
            let _ = line.send(&ToClient::Refused(Refused {
                status: 125,
                reason: Some(DenyReason::TooMany),
                told: "too many commands wait to be elevated at once".into(),
                next: "wait until some of them have ended".into(),
            }));
            return None;
        }
        *own += 1;
        Some(Admitted { visitors: Arc::clone(self), uid })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut of_user = self.visitors.of_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = of_user.get_mut(&self.uid) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                of_user.remove(&self.uid);
            }
        }
    }
}

fn converse(elevator: &Elevator, stream: UnixStream) {
    let socket: OwnedFd = stream.into();
    let peer = Peer::of(&socket);
    let Ok(spoken) = socket.try_clone() else {
        return;
    };
    let mut line = Connection::new(spoken, MESSAGE_LIMIT, peer.as_ref().ok().map(Peer::speaker));
    // A client that connects and says nothing, or says it for ever, gives its thread back.
    let question = match line.receive_by::<FromClient>(Uptime::now().after(PATIENCE)) {
        // It went without a word: nobody asked for anything.
        Err(Lost::Closed) => return,
        question => question.ok(),
    };
    let runs = matches!(question, Some(FromClient::Run(_)));
    let user = peer.as_ref().ok().and_then(Peer::user).filter(|_| runs);
    // Answered while the process is looked at, and the program is measured.
    let account = user.map(|user| elevator.pam.ask(&elevator.spawner, &user));
    let visitor = peer.and_then(|peer| {
        caller::identify(&socket, peer, &elevator.own, &elevator.launches, elevator.spawner.pid())
    });
    let visitor = match visitor {
        Ok(visitor) => visitor,
        Err(stranger) => return turn_away(elevator, &socket, &line, question, &stranger),
    };
    let Some(question) = question else {
        return;
    };
    if let Some(origin) = visitor.origin.clone().filter(|_| !is_for_nested(&question)) {
        let stranger = Stranger::Nested(Some(origin));
        return turn_away(elevator, &socket, &line, Some(question), &stranger);
    }
    // What was asked is about the user of the process that speaks, which a nested one does not act for.
    let account = account.filter(|_| visitor.origin.is_none());
    let answer = answer(elevator, &visitor, &mut line, question, account);
    match answer {
        // Whether the client still listens does not matter: what was done is recorded.
        Ok(Some(last)) => drop(line.send(&last)),
        Ok(None) | Err(Lost::Closed) => {}
        Err(lost) => {
            eprintln!("elevon-elevator: the conversation with uid {} ended: {lost}", visitor.speaker.uid)
        }
    }
}

/// Tells a process that it is not spoken with, and records what it wanted, where that can be known.
fn turn_away(
    elevator: &Elevator,
    socket: &OwnedFd,
    line: &Connection,
    question: Option<FromClient>,
    stranger: &Stranger,
) {
    let uid = socket_peercred(socket).map(|peer| peer.uid.as_raw()).unwrap_or(u32::MAX);
    let name = uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
    if let Some(FromClient::Authorize { user, component, process }) = question
        && authorize::may_ask_all_the_same(uid, stranger)
    {
        let granted = authorize::authorize(elevator, &user, &component, process);
        // Who does not hear of a yes does not use it.
        let _ = line.send(&ToClient::Authorization { granted });
        return;
    }
    let refused = What::LaunchRefused {
        user: User { uid, name: Text::new(name.unwrap_or_default()) },
        path: OsText::default(),
        sha256: None,
        argv: Vec::new(),
        reason: stranger.deny_reason(),
        policy: None,
        missing: None,
        origin: stranger.origin(),
    };
    if let Err(error) = elevator.record(refused) {
        eprintln!("elevon-elevator: a refusal could not be recorded: {error}");
    }
    // It may be gone already.
    let _ = line.send(&ToClient::Refused(Refused {
        status: 126,
        reason: Some(stranger.deny_reason()),
        told: format!("nothing is elevated: {stranger}"),
        next: stranger.next().into(),
    }));
}

/// What a program that runs elevated itself may ask: to have another one started, which its user's policy decides.
fn is_for_nested(question: &FromClient) -> bool {
    matches!(question, FromClient::Run(run) if !run.component)
}

/// What there is to say to a question; nothing where a session says it.
fn answer(
    elevator: &Elevator,
    visitor: &Visitor,
    line: &mut Connection,
    question: FromClient,
    account: Option<pam::Asked>,
) -> Result<Option<ToClient>, Lost> {
    match elevator.is_enrolled() {
        Ok(true) => {}
        Ok(false) => return Ok(Some(ToClient::Refused(not_enrolled()))),
        Err(error) => {
            eprintln!("elevon-elevator: {error:#}");
            return Ok(Some(ToClient::Refused(of_elevon(&error.to_string()))));
        }
    }
    let uid = visitor.speaker.uid;
    Ok(Some(match question {
        FromClient::Run(run) => {
            let Ok([directory, input, output, error]) = <[OwnedFd; 4]>::try_from(line.take_descriptors())
            else {
                return Ok(Some(ToClient::Refused(of_elevon(
                    "the client did not send its four descriptors",
                ))));
            };
            let standard = [input, output, error];
            if standard.iter().any(is_only_a_path) {
                return Ok(Some(ToClient::Refused(of_elevon(
                    "a standard descriptor names a file, and is not open",
                ))));
            }
            let attempted = Attempted { elevator, visitor, run: *run, directory, standard, account };
            let told = attempted.see_through(line).map(|told| match told {
                Told::HandedOn(asked) => {
                    // A wait that ends early does no harm.
                    let _ = containment::ends_within(visitor.process.as_fd(), MOMENT);
                    drop(asked);
                    None
                }
                Told::Granted(granted) => Some(granted),
                Told::Last(refused) => Some(ToClient::Refused(refused)),
            });
            elevator.make_ready();
            return told;
        }
        FromClient::Explain { command, arguments: _, component: true } => {
            explained(elevator, visitor, component::component(&command, &elevator.known))
        }
        FromClient::Explain { command, arguments, component: false } => {
            explain(elevator, visitor, line, &command, &arguments)
        }
        FromClient::Authorize { user, component, process } if authorize::may_ask(uid) => {
            ToClient::Authorization { granted: authorize::authorize(elevator, &user, &component, process) }
        }
        FromClient::Authorize { .. } => ToClient::Refused(Refused {
            status: 125,
            reason: None,
            told: "only polkit's own user and root may ask what another user may do".into(),
            next: "`elevon explain --component ACTION` says what you may do yourself".into(),
        }),
        FromClient::Status => ToClient::Status(Box::new(status(elevator, uid))),
        FromClient::Cancel { request } => cancel(elevator, visitor, request),
        FromClient::End { grant } => end(elevator, visitor, grant),
        _ => ToClient::Refused(of_elevon("the client asked something that makes no sense at this point")),
    }))
}

/// Such a descriptor can be had without the right to read the file, and root could open it by its number.
fn is_only_a_path(fd: &OwnedFd) -> bool {
    rustix::fs::fcntl_getfl(fd).map_or(true, |flags| flags.contains(OFlags::PATH))
}

fn explain(
    elevator: &Elevator,
    visitor: &Visitor,
    line: &mut Connection,
    command: &OsText,
    arguments: &[OsText],
) -> ToClient {
    let descriptors = line.take_descriptors();
    let Some(directory) = descriptors.first() else {
        return ToClient::Refused(of_elevon("the client did not send its working directory"));
    };
    let directory = std::os::fd::AsFd::as_fd(directory);
    let measured = measure(&visitor.caller, directory, command, arguments, &elevator.known);
    explained(elevator, visitor, measured)
}

fn explained(elevator: &Elevator, visitor: &Visitor, measured: Result<Measured, NotMeasured>) -> ToClient {
    let measured = match measured {
        Ok(measured) => measured,
        Err(error) => {
            let (reason, told, next) = (error.reason(), error.to_string(), error.next().into());
            return ToClient::Refused(Refused { status: error.status(), reason, told, next });
        }
    };
    let Some(computer) = elevator.holdings.computer() else {
        return ToClient::Refused(not_enrolled());
    };
    let attempt = Attempt {
        user: &visitor.caller.user,
        computer,
        application: &measured.application,
        argv: &measured.argv,
        nested: visitor.origin.is_some(),
    };
    match elevator.holdings.decide(&attempt, elevator.clock.for_the_record()) {
        Ok(decision) => ToClient::Explained(Box::new(Explained {
            application: measured.application,
            argv: measured.argv,
            decision,
        })),
        Err(_) => ToClient::Refused(Refused {
            status: 125,
            reason: Some(DenyReason::LeaseEnded),
            told: "this computer has no policy that can be relied on".into(),
            next: "check that elevon-agent runs and reaches the server: `elevon-agent status`".into(),
        }),
    }
}

fn status(elevator: &Elevator, uid: u32) -> Status {
    let now = elevator.clock.for_the_record();
    let requests = elevator.holdings.requests_of(uid).into_iter().map(|(request, outcome)| RequestStatus {
        request: request.id,
        path: request.application.place(),
        argv: request.argv,
        made: request.made,
        lapses: request.lapses,
        outcome,
    });
    let grants = elevator.holdings.grants_of(uid, now).into_iter().map(|(grant, end)| GrantStatus {
        grant: grant.id,
        path: match grant.application {
            GrantedApplication::Bytes { path, .. } => Some(path),
            GrantedApplication::Component { action } => Some(OsText::from(action.as_untrusted())),
            GrantedApplication::Rule { .. } => None,
        },
        argv: match grant.arguments {
            GrantedArguments::Exact { argv } => Some(argv),
            GrantedArguments::Any => None,
        },
        end,
    });
    let launches = elevator.launches.of_user(uid).into_iter().map(|launch| LaunchStatus {
        launch: launch.launch,
        grant: launch.grant,
        path: launch.application.path,
        started: launch.started,
        end: launch.end,
    });
    Status {
        agent_connected: elevator.agents.load(Ordering::Relaxed) > 0,
        now,
        requests: requests.collect(),
        grants: grants.collect(),
        launches: launches.collect(),
    }
}

fn cancel(elevator: &Elevator, visitor: &Visitor, request: RequestId) -> ToClient {
    let user = &visitor.caller.user;
    let now = elevator.clock.for_the_record();
    let record = || elevator.record_first(What::RequestCancelled { request, user: user.clone() });
    match elevator.holdings.cancel(request, user.uid, now, record) {
        Ok(Some(cancelled)) => ToClient::Done {
            told: format!("request {request} for {} is cancelled", cancelled.application.place().visible()),
        },
        Ok(None) => ToClient::Refused(not_yours(&format!("no pending request of yours is {request}"))),
        Err(error) => ToClient::Refused(of_elevon(&error.to_string())),
    }
}

fn end(elevator: &Elevator, visitor: &Visitor, grant: GrantId) -> ToClient {
    let user = &visitor.caller.user;
    let now = elevator.clock.for_the_record();
    let record = || elevator.record_first(What::GrantEnded { grant, user: user.clone() });
    match elevator.holdings.give_back(grant, user.uid, now, record) {
        Ok(Some(ended)) => {
            let grace = match ended.at_expiry {
                AtExpiry::Terminate { grace, .. } => grace,
                AtExpiry::Finish => Span::from_secs(5),
            };
            elevator.launches.end_grant(grant, Order { reason: EndReason::Ended, grace });
            ToClient::Done { told: format!("grant {grant} is given back; what runs under it ends now") }
        }
        Ok(None) => ToClient::Refused(not_yours(&format!("no grant of yours is {grant}"))),
        Err(error) => ToClient::Refused(of_elevon(&error.to_string())),
    }
}

fn not_yours(told: &str) -> Refused {
    Refused {
        status: 125,
        reason: None,
        told: told.into(),
        next: "`elevon status` lists what there is".into(),
    }
}
