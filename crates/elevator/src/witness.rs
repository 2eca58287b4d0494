//! This computer and the server are witnesses of each other: each sheet says how far the server has stored this computer's
//! events, and how far its own chain was at its last checkpoint. Both only grow; where they do not, events went lost.

use elevon_policy::event::{What, Witnessed};
use elevon_policy::sheet::{ChainHead, Sheet};

/// What a new sheet says otherwise than the one before it, or than this computer's journal. `recorded` gives what the
/// journal knows to be the digest at a number, if it still knows.
pub(crate) fn contradictions(
    before: Option<&Sheet>,
    now: &Sheet,
    recorded: impl Fn(u64) -> Option<ChainHead>,
) -> Vec<What> {
    let own = before.map(|before| before.stored).filter(|before| contradicts(*before, now.stored));
    let is_old = before.is_some_and(|before| before.stored == now.stored);
    let own = own.or_else(|| recorded(now.stored.number).filter(|known| !is_old && *known != now.stored));
    let servers = before.and_then(|before| before.checkpoint);
    let told = now.checkpoint.unwrap_or(ChainHead::START);
    let servers = servers.filter(|before| contradicts(*before, told));
    let of = |chain, known, told| What::ServerContradicted { chain, known, told };
    let own = own.map(|known| of(Witnessed::Computer, known, now.stored));
    own.into_iter().chain(servers.map(|known| of(Witnessed::Server, known, told))).collect()
}

fn contradicts(known: ChainHead, told: ChainHead) -> bool {
    told.number < known.number || (told.number == known.number && told.digest != known.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use elevon_policy::application::Sha256;
    use elevon_policy::id::{ComputerId, Version};
    use elevon_policy::time::Timestamp;

    fn head(number: u64, digest: u8) -> ChainHead {
        ChainHead { number, digest: Sha256([digest; 32]) }
    }

    fn sheet(stored: ChainHead, checkpoint: Option<ChainHead>) -> Sheet {
        let now = Timestamp::from_millis(1_000);
        Sheet {
            computer: ComputerId::new(now, [1; 10]),
            version: Version(1),
            issued: now,
            lease_ends: now,
            bundle: Sha256([0; 32]),
            grants: Vec::new(),
            revoking: Vec::new(),
            locks: Vec::new(),
            answers: Vec::new(),
            stored,
            checkpoint,
        }
    }

    fn found(before: Option<&Sheet>, now: &Sheet) -> Vec<What> {
        let journal = [head(3, 3), head(4, 4)];
        contradictions(before, now, |number| journal.into_iter().find(|head| head.number == number))
    }

    #[test]
    fn what_grows_is_no_contradiction() {
        let before = sheet(head(3, 3), Some(head(8, 8)));
        assert!(found(None, &before).is_empty());
        assert!(found(Some(&before), &before).is_empty());
        assert!(found(Some(&before), &sheet(head(4, 4), Some(head(9, 9)))).is_empty());
        // What the journal does not know any more, or never did, says nothing.
        assert!(found(Some(&before), &sheet(head(7, 7), Some(head(9, 9)))).is_empty());
    }

    #[test]
    fn lost_and_other_events_are_told() {
        let before = sheet(head(4, 4), Some(head(8, 8)));
        let own = |known, told| What::ServerContradicted { chain: Witnessed::Computer, known, told };
        let servers = |known, told| What::ServerContradicted { chain: Witnessed::Server, known, told };
        let same = Some(head(8, 8));
        assert_eq!(found(Some(&before), &sheet(head(3, 3), same)), [own(head(4, 4), head(3, 3))]);
        assert_eq!(found(Some(&before), &sheet(head(4, 9), same)), [own(head(4, 4), head(4, 9))]);
        assert_eq!(found(None, &sheet(head(3, 9), same)), [own(head(3, 3), head(3, 9))]);
        // Once.
        let now = sheet(head(4, 9), same);
        assert!(found(Some(&now), &now).is_empty());
        let now = sheet(head(4, 4), Some(head(7, 7)));
        assert_eq!(found(Some(&before), &now), [servers(head(8, 8), head(7, 7))]);
        let now = sheet(head(4, 4), Some(head(8, 7)));
        assert_eq!(found(Some(&before), &now), [servers(head(8, 8), head(8, 7))]);
        let now = sheet(head(4, 4), None);
        assert_eq!(found(Some(&before), &now), [servers(head(8, 8), ChainHead::START)]);
    }
}
