//! What is yet to be sent. The elevator's journal is the spool: it keeps every event until the signed sheet says that the
//! server has it. Here is only the window in flight, so that killing the agent anywhere loses nothing.

use elevon_wire::channel::Events;
use elevon_wire::signed::Signed;

use crate::channel::{Channel, Course, Error};
use crate::elevator::Elevator;
use crate::log::Subject;

/// So much goes up at once, but always at least one event, in bytes.
const AT_ONCE: usize = 4 << 20;

/// On a line that breaks off before so much has gone up it is less, down to this: a server waits for no message for ever.
const LEAST_AT_ONCE: usize = 64 << 10;

/// Carries events up as they are recorded, for good.
pub(crate) fn carry(elevator: &Elevator, channel: &Channel, server: &Subject) -> ! {
    let mut course = Course::new(server, "the server takes events again");
    // The last one that the server has, as far as it told us itself.
    let mut stored = 0;
    let mut at_once = AT_ONCE;
    loop {
        let holds = elevator.holds_behind(stored);
        stored = stored.max(holds.stored);
        let Some(records) = elevator.pull(stored) else {
            continue;
        };
        if records.is_empty() {
            // It says that there are some; asked again at once, it would say the same.
            course.done(false);
            continue;
        }
        match channel.events(&Events { records: window(records, at_once) }) {
            Ok(answer) => {
                // The server's word is what counts, also when it went back.
                let progress = answer.head.number > stored;
                stored = answer.head.number;
                course.done(progress);
                at_once = AT_ONCE.min(at_once * 2);
            }
            Err(error) => {
                course.failed(&error);
                if matches!(error, Error::Unreachable { .. }) {
                    at_once = LEAST_AT_ONCE.max(at_once / 2);
                }
                if matches!(error, Error::Conflict { .. }) {
                    stored = where_it_is(channel).unwrap_or(stored);
                }
            }
        }
    }
}

fn where_it_is(channel: &Channel) -> Option<u64> {
    let asked = channel.events(&Events { records: Vec::new() });
    asked.ok().map(|answer| answer.head.number)
}

/// As many of the first events as are no more than so many bytes.
fn window(mut records: Vec<Signed>, at_once: usize) -> Vec<Signed> {
    let mut bytes = 0;
    let fits = records.iter().take_while(|record| {
        bytes += record.unverified_bytes().len();
        bytes <= at_once
    });
    let fitting = fits.count().max(1);
    records.truncate(fitting);
    records
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use elevon_wire::signed::Purpose;

    use super::*;

    #[test]
    fn a_window_is_small_but_never_empty() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let record = |size: usize| Signed::seal_bytes(&key, Purpose::Event, vec![b' '; size]);
        assert_eq!(window(vec![record(AT_ONCE / 2); 5], AT_ONCE).len(), 2);
        assert_eq!(window(vec![record(2 * AT_ONCE), record(1)], AT_ONCE).len(), 1);
        assert_eq!(window(vec![record(1); 5], AT_ONCE).len(), 5);
    }
}
