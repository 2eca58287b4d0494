//! To and from the elevator. One connection, one reader; whoever needs something from it waits here.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use elevon_policy::id::ComputerId;
use elevon_wire::channel::{State, TimeQuestion};
use elevon_wire::frame::{Decoder, Frame, UPLINK_LIMIT};
use elevon_wire::signed::Signed;
use elevon_wire::uplink::{FromAgent, Holds, ToAgent};

use crate::clock::Alarm;
use crate::log::{self, Subject};
use crate::patience::Patience;

/// An elevator that takes nothing for this long is not well; the connection is begun anew.
const STUCK: Duration = Duration::from_secs(30);

/// A connection that lasts for this long is worth something.
const STEADY: Duration = Duration::from_secs(1);

/// The elevator, as the agent's threads see it.
#[derive(Debug, Default)]
pub(crate) struct Elevator {
    line: Mutex<Line>,
    changed: Condvar,
    writing: Mutex<()>,
}

/// What is known of it. All but the sums are of the present connection, and gone with it.
#[derive(Debug, Default)]
struct Line {
    socket: Option<Arc<UnixStream>>,
    holds: Option<Holds>,
    recorded: u64,
    question: Option<TimeQuestion>,
    records: Option<Vec<Signed>>,
    /// Counts answers to documents, so that whoever handed one over can wait for the next.
    answers: u64,
    /// Counts lost connections, so that whoever waits for an answer on one does not wait on for it on the next.
    losses: u64,
    refused: Option<String>,
}

/// What became of a state that was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in force.
    Yes(Holds),
    /// It was refused; what was held stays in force.
    No(String),
    /// The connection was lost meanwhile.
    Unknown,
}

impl Elevator {
    /// Keeps the connection up and reads from it, for good. `on_holds` hears whatever the elevator says it holds.
    ///
    /// Only an elevator that believes to be `computer` will do: what it records belongs to that one.
    pub(crate) fn keep(&self, path: &Path, computer: ComputerId, on_holds: impl Fn(&Holds)) -> ! {
        let subject = Subject::new("the elevator is there again");
        let mut patience = Patience::with_neighbour();
        loop {
            let lasted = Alarm::after(STEADY);
            let lost = self.converse(path, |holds| {
                match holds.computer {
                    None => return Err(Lost::NotEnrolled),
                    Some(other) if other != computer => return Err(Lost::OtherComputer(other)),
                    Some(_) => {}
                }
                subject.works();
                on_holds(holds);
                Ok(())
            });
            subject.fails(lost);
            self.forget();
            // One that hangs up as soon as it is there is no better than none.
            if lasted.rings() {
                patience.reset();
            }
            patience.wait();
        }
    }

    /// Reads from one connection, until it is lost.
    fn converse(&self, path: &Path, on_holds: impl FnMut(&Holds) -> Result<(), Lost>) -> Lost {
        match self.read(path, on_holds) {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    fn read(
        &self,
        path: &Path,
        mut on_holds: impl FnMut(&Holds) -> Result<(), Lost>,
    ) -> Result<std::convert::Infallible, Lost> {
        let socket = connect(path)?;
        self.line().socket = Some(Arc::clone(&socket));
        self.send(&FromAgent::Hello).map_err(Lost::Broken)?;
        let mut decoder = Decoder::new(UPLINK_LIMIT);
        let mut bytes = vec![0; 64 << 10];
        loop {
            while let Some(frame) = decoder.next_frame().map_err(|error| Lost::Odd(error.to_string()))? {
                let message = frame.parse().map_err(|error| Lost::Odd(error.to_string()))?;
                if let ToAgent::Holds(holds) = &message {
                    on_holds(holds)?;
                }
                self.take(message);
            }
            let length = match (&*socket).read(&mut bytes) {
                Ok(0) => return Err(Lost::Closed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(Lost::Broken)?,
            };
            decoder.push(bytes.get(..length).unwrap_or_default());
        }
    }

    fn take(&self, message: ToAgent) {
        let mut line = self.line();
        match message {
            ToAgent::Holds(holds) => {
                line.recorded = holds.recorded;
                line.holds = Some(holds);
                line.refused = None;
                line.answers += 1;
            }
            ToAgent::Refused { cause } => {
                if line.refused.as_ref() != Some(&cause) {
                    log::line(format_args!("the elevator does not take what the server sent: {cause}"));
                }
                line.refused = Some(cause);
                line.answers += 1;
            }
            ToAgent::Ask { question } => line.question = Some(question),
            ToAgent::Events { records } => line.records = Some(records),
            ToAgent::Recorded { number } => line.recorded = line.recorded.max(number),
        }
        drop(line);
        self.changed.notify_all();
    }

    fn forget(&self) {
        let mut line = self.line();
        *line = Line { losses: line.losses + 1, ..Line::default() };
        drop(line);
        self.changed.notify_all();
    }

    /// Asks anew what it holds, and to be asked for the time.
    pub(crate) fn greet(&self) {
        self.say(&FromAgent::Hello);
    }

    /// What the elevator holds; waits until that is known.
    pub(crate) fn holds(&self) -> Holds {
        let line = self.until(|line| line.holds.is_some());
        line.holds.expect("the condition that was waited for")
    }

    /// What the elevator holds, once it has recorded events behind `stored`.
    pub(crate) fn holds_behind(&self, stored: u64) -> Holds {
        let line =
            self.until(|line| line.holds.is_some_and(|holds| line.recorded > stored.max(holds.stored)));
        line.holds.expect("the condition that was waited for")
    }

    /// The elevator's question for the time; waits for one.
    pub(crate) fn question(&self) -> TimeQuestion {
        let mut line = self.until(|line| line.question.is_some());
        line.question.take().expect("the condition that was waited for")
    }

    /// Hands the server's answer to a question for the time over.
    pub(crate) fn tell_time(&self, statement: Signed) {
        self.say(&FromAgent::Time { statement: Box::new(statement) });
    }

    /// Hands documents over, and waits for what becomes of them.
    pub(crate) fn hand_over(&self, State { sheet, bundle }: State) -> Taken {
        let (before, losses) = {
            let line = self.line();
            (line.answers, line.losses)
        };
        self.say(&FromAgent::State { sheet: Box::new(sheet), bundle: bundle.map(Box::new) });
        let line =
            self.until(|line| line.socket.is_none() || line.losses != losses || line.answers != before);
        if line.losses != losses {
            return Taken::Unknown;
        }
        match (&line.refused, line.holds) {
            (Some(cause), _) => Taken::No(cause.clone()),
            (None, Some(holds)) => Taken::Yes(holds),
            (None, None) => Taken::Unknown,
        }
    }

    /// The events behind this number; none when the connection is lost meanwhile.
    pub(crate) fn pull(&self, after: u64) -> Option<Vec<Signed>> {
        let losses = {
            let mut line = self.line();
            line.records = None;
            line.losses
        };
        self.say(&FromAgent::Events { after });
        let mut line =
            self.until(|line| line.socket.is_none() || line.losses != losses || line.records.is_some());
        line.records.take()
    }

    /// Sends, if it is connected; the reader notices what goes wrong.
    fn say(&self, message: &FromAgent) {
        if self.send(message).is_err()
            && let Some(socket) = &self.line().socket
        {
            // Half a message may be out: nothing more can be said on this connection.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn send(&self, message: &FromAgent) -> io::Result<()> {
        let frame = Frame::message(message).encode();
        // Messages of two threads must not mix. What is known stays free meanwhile: the elevator may be waiting for us to
        // read before it reads on.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = self.line().socket.clone();
        match socket {
            Some(socket) => (&*socket).write_all(&frame),
            None => Ok(()),
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self, condition: impl Fn(&Line) -> bool) -> MutexGuard<'_, Line> {
        self.changed.wait_while(self.line(), |line| !condition(line)).unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> Result<Arc<UnixStream>, Lost> {
    let socket = UnixStream::connect(path).map_err(|error| {
        let cause = match error.kind() {
            io::ErrorKind::NotFound => "no such socket".into(),
            io::ErrorKind::ConnectionRefused => "nobody listens there".into(),
            _ => error.to_string(),
        };
        Lost::NotThere { path: path.display().to_string(), cause }
    })?;
    socket.set_write_timeout(Some(STUCK)).map_err(Lost::Broken)?;
    Ok(Arc::new(socket))
}

/// Why there is no conversation with the elevator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error(
        "cannot connect to the elevator at {path}: {cause}; is elevon-elevator running, with this user as its agent_user?"
    )]
    NotThere { path: String, cause: String },
    #[error("the elevator closed the connection")]
    Closed,
    #[error("the connection to the elevator broke off: {0}")]
    Broken(io::Error),
    #[error("cannot understand the elevator: {0}; both should be of one version")]
    Odd(String),
    #[error(
        "the elevator does not know that this computer is enrolled; restart elevon-elevator, or run `elevon-agent enroll TOKEN` as root"
    )]
    NotEnrolled,
    #[error(
        "the elevator believes to be computer {0}, this agent is another; restart both after enrolling again"
    )]
    OtherComputer(ComputerId),
}

/// Asks the elevator once what it holds.
pub(crate) fn ask(path: &Path) -> Result<Holds, Lost> {
    let socket = connect(path)?;
    socket.set_read_timeout(Some(STUCK)).map_err(Lost::Broken)?;
    (&*socket).write_all(&Frame::message(&FromAgent::Hello).encode()).map_err(Lost::Broken)?;
    let mut decoder = Decoder::new(UPLINK_LIMIT);
    let mut bytes = [0; 4096];
    loop {
        while let Some(frame) = decoder.next_frame().map_err(|error| Lost::Odd(error.to_string()))? {
            if let ToAgent::Holds(holds) = frame.parse().map_err(|error| Lost::Odd(error.to_string()))? {
                return Ok(holds);
            }
        }
        let length = (&*socket).read(&mut bytes).map_err(Lost::Broken)?;
        if length == 0 {
            return Err(Lost::Closed);
        }
        decoder.push(bytes.get(..length).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use ed25519_dalek::SigningKey;
    use elevon_policy::time::Timestamp;
    use elevon_wire::signed::Purpose;

    use super::*;

    fn computer(chance: u8) -> ComputerId {
        ComputerId::new(Timestamp::from_millis(0), [chance; 10])
    }

    fn holds(computer: ComputerId, sheet: u64, recorded: u64) -> ToAgent {
        ToAgent::Holds(Holds { computer: Some(computer), sheet, bundle: None, stored: 0, recorded })
    }

    fn signed(size: usize) -> Signed {
        Signed::seal_bytes(&SigningKey::from_bytes(&[1; 32]), Purpose::Event, vec![b' '; size])
    }

    /// The elevator's side, one message at a time.
    struct Peer(UnixStream, Decoder);

    impl Peer {
        fn accept(listener: &UnixListener) -> Self {
            let (socket, _) = listener.accept().expect("an agent");
            socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
            let mut peer = Self(socket, Decoder::new(UPLINK_LIMIT));
            assert!(matches!(peer.hear(), FromAgent::Hello));
            peer
        }

        fn hear(&mut self) -> FromAgent {
            loop {
                if let Some(frame) = self.1.next_frame().expect("well formed") {
                    return frame.parse().expect("a message");
                }
                let mut bytes = [0; 4096];
                let length = self.0.read(&mut bytes).expect("the agent speaks");
                assert!(length > 0, "the agent is there");
                self.1.push(&bytes[..length]);
            }
        }

        fn say(&mut self, message: &ToAgent) {
            self.0.write_all(&Frame::message(message).encode()).expect("the agent hears");
        }
    }

    struct Rig {
        elevator: Arc<Elevator>,
        listener: UnixListener,
        _folder: tempfile::TempDir,
    }

    fn rig() -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let elevator = Arc::new(Elevator::default());
        let kept = Arc::clone(&elevator);
        // Ends with the test's process.
        thread::spawn(move || kept.keep(&path, computer(1), |_| {}));
        Rig { elevator, listener, _folder: folder }
    }

    #[test]
    fn documents_are_handed_over_and_events_are_pulled() {
        let Rig { elevator, listener, _folder } = rig();
        let mut peer = Peer::accept(&listener);
        peer.say(&holds(computer(1), 3, 0));
        assert_eq!(elevator.holds().sheet, 3);

        let state = || State { sheet: signed(10), bundle: None };
        let other = Arc::clone(&elevator);
        let handing = thread::spawn(move || [other.hand_over(state()), other.hand_over(state())]);
        assert!(matches!(peer.hear(), FromAgent::State { .. }));
        peer.say(&holds(computer(1), 4, 0));
        assert!(matches!(peer.hear(), FromAgent::State { .. }));
        peer.say(&ToAgent::Refused { cause: "it is older".into() });
        let [first, second] = handing.join().expect("handed over");
        assert!(matches!(first, Taken::Yes(Holds { sheet: 4, .. })));
        assert_eq!(second, Taken::No("it is older".into()));

        let other = Arc::clone(&elevator);
        let pulling = thread::spawn(move || (other.holds_behind(0).sheet, other.pull(0)));
        peer.say(&ToAgent::Recorded { number: 2 });
        assert!(matches!(peer.hear(), FromAgent::Events { after: 0 }));
        peer.say(&ToAgent::Events { records: vec![signed(1), signed(2)] });
        let (sheet, records) = pulling.join().expect("pulled");
        assert_eq!((sheet, records.map(|records| records.len())), (4, Some(2)));
    }

    #[test]
    fn a_lost_connection_is_begun_anew_and_nobody_waits_for_it_in_vain() {
        let Rig { elevator, listener, _folder } = rig();
        let mut peer = Peer::accept(&listener);
        peer.say(&holds(computer(1), 1, 1));
        elevator.holds();
        let other = Arc::clone(&elevator);
        let waiting = thread::spawn(move || other.pull(0));
        assert!(matches!(peer.hear(), FromAgent::Events { after: 0 }));
        drop(peer);
        assert_eq!(waiting.join().expect("it returns"), None);
        let mut peer = Peer::accept(&listener);
        peer.say(&holds(computer(1), 2, 1));
        assert_eq!(elevator.holds().sheet, 2);
    }

    /// What was revoked meanwhile is waited for by nobody else.
    #[test]
    fn an_elevator_that_was_away_for_long_is_soon_seen_again() {
        let Rig { elevator, listener, _folder } = rig();
        for _ in 0..9 {
            drop(Peer::accept(&listener));
        }
        let away = Alarm::after(Duration::from_secs(2));
        let mut peer = Peer::accept(&listener);
        assert!(!away.rings(), "it is not looked for");
        peer.say(&holds(computer(1), 1, 0));
        assert_eq!(elevator.holds().sheet, 1);
    }

    #[test]
    fn an_elevator_of_another_computer_will_not_do() {
        let Rig { elevator, listener, _folder } = rig();
        Peer::accept(&listener).say(&holds(computer(2), 9, 9));
        // Kept: what an elevator holds is forgotten with its connection, which may be before it is asked for here.
        let mut ours = Peer::accept(&listener);
        ours.say(&holds(computer(1), 1, 0));
        assert_eq!(elevator.holds().sheet, 1);
    }

    #[test]
    fn both_sides_may_say_much_at_the_same_time() {
        let Rig { elevator, listener, _folder } = rig();
        let mut peer = Peer::accept(&listener);
        peer.say(&holds(computer(1), 1, 1));
        elevator.holds();
        let other = Arc::clone(&elevator);
        let large = State { sheet: signed(4 << 20), bundle: None };
        let handing = thread::spawn(move || other.hand_over(large));
        // Far more than the socket holds, before anything is read.
        peer.say(&ToAgent::Events { records: vec![signed(1 << 20); 4] });
        assert!(matches!(peer.hear(), FromAgent::State { .. }));
        peer.say(&holds(computer(1), 2, 1));
        assert!(matches!(handing.join().expect("handed over"), Taken::Yes(_)));
    }
}
