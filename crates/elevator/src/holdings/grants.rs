//! Grants in hand: which may be used, how far they are used, and those their users gave back.

use std::io;
use std::sync::Arc;

use elevon_policy::decide::HeldGrant;
use elevon_policy::grant::{Ends, Grant};
use elevon_policy::id::GrantId;
use elevon_policy::lists::{Confirm, Launches};
use elevon_policy::sheet::Sheet;
use elevon_policy::text::Text;
use elevon_policy::time::{Span, Timestamp};

use super::{Held, Holdings, KeptEnd, Local, NotTaken, Taken, Used};
use crate::clock::{Anchor, Uptime};

/// How long it is remembered that a grant was given back: longer than a computer goes on without a server.
pub(super) const GIVEN_BACK: Span = Span::from_days(8);

impl Holdings {
    /// Takes a grant for one launch, durably where it matters: a first launch fixes the end, which `record` puts on record
    /// before, and a grant that is good for one launch is used up.
    pub(crate) fn take(
        &self,
        id: GrantId,
        now: Timestamp,
        record: impl FnOnce(Timestamp) -> io::Result<()>,
    ) -> Result<Taken, NotTaken> {
        let mut held = self.held();
        let grant = held.grant_in_force(id).ok_or(NotTaken::Gone)?;
        let used = held.local.used.get(&id).copied().unwrap_or_default();
        if grant.launches == Launches::Once && used.launched > 0 {
            return Err(NotTaken::Gone);
        }
        let end = grant.end_when_launched(used.end, now).ok_or(NotTaken::Gone)?;
        let end = held.not_put_off(&grant, end, now);
        if end <= now {
            return Err(NotTaken::Gone);
        }
        let started = matches!(grant.ends, Ends::AfterFirstLaunch { .. }) && used.end.is_none();
        if started || grant.launches == Launches::Once {
            if started {
                record(end).map_err(NotTaken::Io)?;
            }
            let used = Used { end: Some(end), launched: used.launched + 1, ..used };
            self.change(&mut held, |local| local.used.insert(id, used)).map_err(NotTaken::Io)?;
        }
        Ok(Taken { grant, end, origin: None })
    }

    /// A grant that may still be used.
    pub(crate) fn grant(&self, id: GrantId) -> Option<Grant> {
        self.held().grant_in_force(id)
    }

    /// Whether a grant may still be used.
    pub(crate) fn in_force(&self, id: GrantId) -> bool {
        self.grant(id).is_some()
    }

    /// A user's grants in force, with the ends that are fixed.
    pub(crate) fn grants_of(&self, uid: u32, now: Timestamp) -> Vec<(Grant, Option<Timestamp>)> {
        let held = self.held();
        let Some(documents) = &held.documents else {
            return Vec::new();
        };
        let grants = held.grants_in_force(&documents.sheet, uid);
        let usable = |grant: &HeldGrant| {
            (grant.grant.launches == Launches::Any || grant.launched == 0)
                && (grant.fixed_end.is_some() || grant.grant.end_when_launched(None, now).is_some())
        };
        grants
            .into_iter()
            .filter(usable)
            .map(|HeldGrant { grant, fixed_end, .. }| {
                let end = fixed_end.or(match grant.ends {
                    Ends::At { end } => Some(end),
                    Ends::AfterFirstLaunch { .. } => None,
                });
                let end = end.map(|end| held.not_put_off(&grant, end, now));
                (grant, end)
            })
            .filter(|(_, end)| end.is_none_or(|end| end > now))
            .collect()
    }

    /// How a grant's user is to show that they are there: the stricter of what was granted and what policy says now; nobody has to
    /// who did so once, where once is enough.
    pub(crate) fn to_confirm(&self, id: GrantId, policy: Confirm) -> Confirm {
        let held = self.held();
        let granted = held.grant_in_force(id).map(|grant| grant.confirm);
        let confirmed = held.local.used.get(&id).is_some_and(|used| used.confirmed.is_some());
        match granted.unwrap_or_default().max(policy) {
            Confirm::OncePerGrant if confirmed => Confirm::None,
            confirm => confirm,
        }
    }

    /// Whether a grant's user needs to show nothing more, where they cannot be asked: once a grant is all there can be.
    pub(crate) fn has_confirmed(&self, id: GrantId, policy: Confirm) -> bool {
        self.to_confirm(id, policy.min(Confirm::OncePerGrant)).is_none()
            || self.held().local.used.get(&id).is_some_and(|used| used.confirmed.is_some())
    }

    /// A grant's user showed to be there.
    pub(crate) fn confirmed(&self, id: GrantId) -> io::Result<()> {
        let mut held = self.held();
        let Some(grant) = held.grant_in_force(id) else {
            return Ok(());
        };
        let last = last(&grant);
        self.change(&mut held, |local| local.used.entry(id).or_default().confirmed = Some(last))
    }

    /// The server's clock was set back, and from now on, when `told`, time is told by it: what is in hand ends when it would
    /// have ended by what the server said before.
    pub(crate) fn keep_ends(
        &self,
        boot: &str,
        before: &Anchor,
        told: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut held = self.held();
        let sheet = held.documents.as_ref().map(|documents| Arc::clone(&documents.sheet));
        let in_hand = sheet.iter().flat_map(|sheet| &sheet.grants).chain(&held.local.grants);
        let kept = in_hand.map(|grant| {
            let fixed = held.local.used.get(&grant.id).and_then(|used| used.end);
            let end = match grant.ends {
                Ends::At { end } => end,
                Ends::AfterFirstLaunch { .. } => fixed.unwrap_or_else(|| last(grant)),
            };
            let at = before.uptime_at(end);
            // It may have been set back before.
            let at = held.kept_end(grant).map_or(at, |kept| kept.min(at));
            (grant.id, KeptEnd { boot: boot.to_owned(), at, version: grant.version })
        });
        let kept = kept.collect();
        self.change(&mut held, |local| local.kept_ends = kept)?;
        told()
    }

    /// Whether a grant's user gave it back.
    pub(crate) fn is_given_back(&self, id: GrantId) -> bool {
        self.held().local.given_back.contains_key(&id)
    }

    /// Adds a grant that policy alone gave, and remembers what its user wrote for it.
    pub(crate) fn add_grant(&self, grant: Grant, justification: &Text) -> io::Result<()> {
        self.change(&mut self.held(), |local| {
            local.remember_justification(grant.user.uid, justification);
            local.grants.push(grant);
        })
    }

    /// A user gives a grant back, which `record` puts on record before; `None` where it is not theirs.
    pub(crate) fn give_back(
        &self,
        id: GrantId,
        uid: u32,
        now: Timestamp,
        record: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<Grant>> {
        let mut held = self.held();
        let Some(grant) = held.grant_in_force(id).filter(|grant| grant.user.uid == uid) else {
            return Ok(None);
        };
        record()?;
        self.change(&mut held, |local| local.given_back.insert(id, now.after(GIVEN_BACK)))?;
        Ok(Some(grant))
    }
}

impl Held {
    pub(super) fn grants_in_force(&self, sheet: &Sheet, uid: u32) -> Vec<HeldGrant> {
        let of_user = sheet.grants.iter().chain(&self.local.grants).filter(|grant| grant.user.uid == uid);
        of_user
            .filter(|grant| self.may_be_used(sheet, grant.id))
            .filter(|grant| self.kept_end(grant).is_none_or(|end| end.left() > Span::ZERO))
            .map(|grant| {
                let used = self.local.used.get(&grant.id).copied().unwrap_or_default();
                HeldGrant { grant: grant.clone(), fixed_end: used.end, launched: used.launched }
            })
            .collect()
    }

    fn grant_in_force(&self, id: GrantId) -> Option<Grant> {
        let sheet = &self.documents.as_ref()?.sheet;
        let mut known = sheet.grants.iter().chain(&self.local.grants);
        known.find(|grant| grant.id == id && self.may_be_used(sheet, id)).cloned()
    }

    fn may_be_used(&self, sheet: &Sheet, id: GrantId) -> bool {
        let Local { given_back, taken_back, .. } = &self.local;
        !sheet.revoking.contains(&id) && !given_back.contains_key(&id) && !taken_back.contains_key(&id)
    }

    /// The end that a server's clock, set back since, must not put off.
    fn kept_end(&self, grant: &Grant) -> Option<Uptime> {
        let kept = self.local.kept_ends.get(&grant.id)?;
        (kept.version == grant.version).then_some(kept.at)
    }

    /// An end by what the server says now, or the one before it that was kept.
    fn not_put_off(&self, grant: &Grant, end: Timestamp, now: Timestamp) -> Timestamp {
        self.kept_end(grant).map_or(end, |kept| end.min(now.after(kept.left())))
    }
}

impl Local {
    /// An administrator took these back. Those that the server gave are gone from its next sheet; those that policy alone gave
    /// are kept here.
    pub(super) fn take_back(&mut self, revoking: &[GrantId], now: Timestamp) {
        for id in revoking {
            let own = self.grants.iter().find(|grant| grant.id == *id);
            let until = own.map_or_else(|| now.after(GIVEN_BACK), last);
            self.taken_back.entry(*id).or_insert(until);
        }
    }
}

/// Whatever is still done, and whenever, it is over then.
pub(super) fn last(grant: &Grant) -> Timestamp {
    match grant.ends {
        Ends::At { end } => end,
        Ends::AfterFirstLaunch { duration, latest_start } => latest_start.after(duration),
    }
}
