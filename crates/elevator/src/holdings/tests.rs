use ed25519_dalek::SigningKey;
use elevon_policy::application::{Sha256, User};
use elevon_policy::bounds::Bounds;
use elevon_policy::bundle::Bundle;
use elevon_policy::event::{Event, What};
use elevon_policy::grant::{Ends, Grant, GrantedApplication, GrantedArguments, Origin, PolicyReference};
use elevon_policy::id::{ComputerId, GrantId, PolicyId, RequestId, Version};
use elevon_policy::lists::{AtExpiry, Confirm, Launches, Nesting, RunsAs};
use elevon_policy::sheet::{ChainHead, Sheet};
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::{Span, Timestamp};
use elevon_wire::channel::{TimeStatement, Trust};
use elevon_wire::signed::{PublicKey, Purpose, Signed};

use super::{Holdings, NotTaken};
use crate::clock::Clock;
use crate::files;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn server() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn computer(number: u8) -> ComputerId {
    ComputerId::new(NOW, [number; 10])
}

fn enrolled(state: &std::path::Path) -> Holdings {
    let trust = Trust { computer: computer(1), server_key: PublicKey::of(&server()) };
    files::write_json(&state.join("trust.json"), &trust).expect("written");
    let (holdings, complaints) = Holdings::open(state).expect("opens");
    assert!(complaints.is_empty(), "{complaints:?}");
    holdings
}

fn bundle() -> Signed {
    Signed::seal(&server(), Purpose::Bundle, &Bundle::default())
}

fn sheet(version: u64, grants: Vec<Grant>) -> Sheet {
    Sheet {
        computer: computer(1),
        version: Version(version),
        issued: NOW,
        lease_ends: NOW.after(Span::from_days(7)),
        bundle: bundle().digest(),
        grants,
        revoking: Vec::new(),
        locks: Vec::new(),
        answers: Vec::new(),
        stored: ChainHead::START,
        checkpoint: None,
    }
}

fn sign(sheet: &Sheet) -> Signed {
    Signed::seal(&server(), Purpose::Sheet, sheet)
}

fn grant(number: u8, ends: Ends, launches: Launches) -> Grant {
    Grant {
        id: GrantId::new(NOW, [number; 10]),
        version: Version::FIRST,
        origin: Origin::Request { request: RequestId::new(NOW, [number; 10]) },
        computer: computer(1),
        user: User { uid: 1000, name: Text::new("alice") },
        application: GrantedApplication::Bytes {
            sha256: Sha256([1; 32]),
            path: "/usr/bin/id".into(),
            interpreter: None,
        },
        arguments: GrantedArguments::Any,
        runs_as: RunsAs::Root,
        bounds: Bounds::default(),
        not_before: NOW,
        ends,
        launches,
        at_expiry: AtExpiry::default(),
        confirm: Confirm::None,
        nesting: Nesting::Refused,
        policy: PolicyReference { policy: PolicyId::new(NOW, [9; 10]), version: Version::FIRST, rule: None },
    }
}

/// It is on record now.
fn noted(_: Timestamp) -> std::io::Result<()> {
    Ok(())
}

fn for_an_hour(number: u8, launches: Launches) -> Grant {
    grant(number, Ends::At { end: NOW.after(Span::from_hours(1)) }, launches)
}

#[test]
fn documents_are_taken_and_found_again() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    assert_eq!(holdings.holds(0).sheet, 0);
    let accepted = holdings.accept(&sign(&sheet(3, Vec::new())), Some(&bundle())).expect("taken");
    assert!(accepted.is_news);
    let again =
        holdings.accept(&sign(&sheet(3, Vec::new())), None).expect("the same version may be signed again");
    assert!(!again.is_news);
    drop(holdings);
    assert_eq!(enrolled(state.path()).holds(7).sheet, 3);
}

#[test]
fn what_cannot_be_stored_is_gone_and_comes_again() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let given = for_an_hour(1, Launches::Any);
    holdings.accept(&sign(&sheet(3, vec![given.clone()])), Some(&bundle())).expect("taken");
    // As a disk that is full would: the new file cannot be written.
    let in_the_way = state.path().join("sheet.signed.new");
    std::fs::create_dir(&in_the_way).expect("made");
    let accepted = holdings.accept(&sign(&sheet(4, Vec::new())), None).expect("taken");
    assert!(accepted.not_stored.is_some_and(|cause| cause.contains("could not be stored")));
    assert!(!holdings.in_force(given.id));
    assert_eq!(holdings.holds(0).sheet, 3);
    std::fs::remove_dir(&in_the_way).expect("removed");
    let again = holdings.accept(&sign(&sheet(4, Vec::new())), None).expect("taken");
    assert_eq!((again.is_news, again.not_stored), (true, None));
    assert_eq!(holdings.holds(0).sheet, 4);
}

#[test]
fn documents_that_are_not_what_they_should_be_change_nothing() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    holdings.accept(&sign(&sheet(3, Vec::new())), Some(&bundle())).expect("taken");
    let other_computer = Sheet { computer: computer(2), ..sheet(4, Vec::new()) };
    let other_bundle = Sheet { bundle: Sha256([7; 32]), ..sheet(4, Vec::new()) };
    let other_key = Signed::seal(&SigningKey::from_bytes(&[2; 32]), Purpose::Sheet, &sheet(4, Vec::new()));
    let other_purpose = Signed::seal(&server(), Purpose::Bundle, &sheet(4, Vec::new()));
    let older = Sheet { issued: NOW.before(Span::from_secs(1)), ..sheet(3, Vec::new()) };
    for (wrong, word) in [
        (sign(&sheet(2, Vec::new())), "older"),
        (sign(&older), "older"),
        (sign(&other_computer), "computer"),
        (sign(&other_bundle), "bundle"),
        (other_key, "key"),
        (other_purpose, "signature"),
    ] {
        let cause = holdings.accept(&wrong, None).expect_err("not taken");
        assert!(cause.contains(word), "{cause}");
    }
    assert!(holdings.accept(&sign(&other_bundle), Some(&bundle())).is_err(), "the wrong bundle beside it");
    assert_eq!(holdings.holds(0).sheet, 3);
}

#[test]
fn stored_documents_that_were_changed_are_not_taken_up() {
    let state = tempfile::tempdir().expect("temporary directory");
    enrolled(state.path()).accept(&sign(&sheet(3, Vec::new())), Some(&bundle())).expect("taken");
    let path = state.path().join("sheet.signed");
    let forged = Signed::seal(&SigningKey::from_bytes(&[2; 32]), Purpose::Sheet, &sheet(9, Vec::new()));
    files::write_json(&path, &forged).expect("written");
    let (holdings, complaints) = Holdings::open(state.path()).expect("opens");
    assert_eq!(complaints.len(), 1);
    assert_eq!(holdings.holds(0).sheet, 0);
}

#[test]
fn a_grant_for_one_launch_is_taken_once_by_many_at_once() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let once = for_an_hour(1, Launches::Once);
    holdings.accept(&sign(&sheet(1, vec![once.clone()])), Some(&bundle())).expect("taken");
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| usize::from(holdings.take(once.id, NOW, noted).is_ok())))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("joined")).sum()
    });
    assert_eq!(taken, 1);
    drop(holdings);
    assert!(
        matches!(enrolled(state.path()).take(once.id, NOW, noted), Err(NotTaken::Gone)),
        "also after a restart"
    );
}

#[test]
fn the_first_launch_fixes_the_end() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let ends = Ends::AfterFirstLaunch {
        duration: Span::from_mins(10),
        latest_start: NOW.after(Span::from_hours(1)),
    };
    let later = grant(1, ends, Launches::Any);
    holdings.accept(&sign(&sheet(1, vec![later.clone()])), Some(&bundle())).expect("taken");
    let mut told = Vec::new();
    let mut note = |end| {
        told.push(end);
        Ok(())
    };
    holdings.take(later.id, NOW.after(Span::from_mins(5)), &mut note).expect("taken");
    let second = holdings.take(later.id, NOW.after(Span::from_mins(9)), &mut note).expect("taken");
    assert_eq!(second.end, NOW.after(Span::from_mins(15)));
    assert!(matches!(
        holdings.take(later.id, NOW.after(Span::from_mins(15)), &mut note),
        Err(NotTaken::Gone)
    ));
    assert_eq!(told, [NOW.after(Span::from_mins(15))], "told once");
}

#[test]
fn what_is_not_on_the_sheet_or_was_given_back_is_not_in_force() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let (mine, revoked) = (for_an_hour(1, Launches::Any), for_an_hour(2, Launches::Any));
    let both = sheet(1, vec![mine.clone(), revoked.clone()]);
    holdings.accept(&sign(&both), Some(&bundle())).expect("taken");
    assert!(holdings.give_back(mine.id, 1001, NOW, || Ok(())).expect("stored").is_none(), "another user's");
    assert!(holdings.give_back(mine.id, 1000, NOW, || Ok(())).expect("stored").is_some());
    assert!(!holdings.in_force(mine.id));
    assert!(holdings.in_force(revoked.id));
    let without = Sheet { revoking: vec![revoked.id], ..sheet(2, Vec::new()) };
    holdings.accept(&sign(&without), None).expect("taken");
    assert!(!holdings.in_force(revoked.id));
    assert!(holdings.grants_of(1000, NOW).is_empty());
}

#[test]
fn what_policy_gave_and_an_administrator_took_back_stays_taken_back() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    holdings.accept(&sign(&sheet(1, Vec::new())), Some(&bundle())).expect("taken");
    let local = Grant { origin: Origin::Policy, ..for_an_hour(2, Launches::Any) };
    holdings.add_grant(local.clone(), &Text::default()).expect("stored");
    assert!(holdings.in_force(local.id));
    let told = Sheet { revoking: vec![local.id], ..sheet(2, Vec::new()) };
    holdings.accept(&sign(&told), None).expect("taken");
    assert!(!holdings.in_force(local.id));
    // The server has heard that it is out of force, and tells of it no more.
    holdings.accept(&sign(&sheet(3, Vec::new())), None).expect("taken");
    assert!(!holdings.in_force(local.id));
    let made = What::GrantMade { grant: Box::new(local.clone()), justification: Text::default() };
    drop(holdings);
    let holdings = enrolled(state.path());
    holdings.make_up_for(&[Event::new(NOW, made)], NOW).expect("stored");
    assert!(!holdings.in_force(local.id), "nor with the next start");
}

#[test]
fn what_could_not_be_written_down_is_not_held() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let once = for_an_hour(1, Launches::Once);
    holdings.accept(&sign(&sheet(1, vec![once.clone()])), Some(&bundle())).expect("taken");
    // Where the new file would be made, something else lies.
    let in_the_way = state.path().join("local.json.new");
    std::fs::create_dir(&in_the_way).expect("made");
    let local = Grant { origin: Origin::Policy, ..for_an_hour(2, Launches::Any) };
    assert!(holdings.add_grant(local.clone(), &Text::new("because")).is_err());
    assert!(!holdings.in_force(local.id));
    assert!(holdings.justifications(1000).is_empty());
    assert!(holdings.give_back(once.id, 1000, NOW, || Ok(())).is_err());
    assert!(holdings.in_force(once.id));
    assert!(matches!(holdings.take(once.id, NOW, noted), Err(NotTaken::Io(_))));
    std::fs::remove_dir(&in_the_way).expect("removed");
    assert!(holdings.take(once.id, NOW, noted).is_ok(), "what failed did not use it up");
}

#[test]
fn what_is_on_record_and_not_on_file_is_made_up_for() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let (local, given) = (for_an_hour(1, Launches::Any), for_an_hour(2, Launches::Any));
    holdings.accept(&sign(&sheet(1, vec![given.clone()])), Some(&bundle())).expect("taken");
    let local = Grant { origin: Origin::Policy, ..local };
    let user = given.user.clone();
    let events = [
        Event::new(NOW, What::GrantMade { grant: Box::new(local.clone()), justification: Text::default() }),
        Event::new(NOW, What::GrantEnded { grant: given.id, user }),
    ];
    holdings.make_up_for(&events, NOW).expect("stored");
    assert!(holdings.in_force(local.id) && !holdings.in_force(given.id));
    drop(holdings);
    let holdings = enrolled(state.path());
    assert!(holdings.in_force(local.id) && !holdings.in_force(given.id), "also after a restart");
    holdings.make_up_for(&events, NOW.after(Span::from_days(2))).expect("stored");
    assert_eq!(holdings.grants_of(1000, NOW).len(), 1, "each once");
}

#[test]
fn what_is_long_forgotten_is_not_made_up_for() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let local = Grant { origin: Origin::Policy, ..for_an_hour(1, Launches::Any) };
    holdings.accept(&sign(&sheet(1, Vec::new())), Some(&bundle())).expect("taken");
    let made = What::GrantMade { grant: Box::new(local.clone()), justification: Text::default() };
    holdings.make_up_for(&[Event::new(NOW, made)], NOW.after(Span::from_days(2))).expect("nothing to do");
    assert!(!holdings.in_force(local.id));
}

/// By a server's clock that was set back by two hours, a grant of one hour would be good for three.
#[test]
fn a_servers_clock_set_back_puts_no_end_off() {
    let state = tempfile::tempdir().expect("temporary directory");
    let clock = Clock::open(state.path()).expect("opens");
    let says = |at| {
        let question = clock.ask(1);
        clock.answer(TimeStatement { nonce: question.nonce, at }).expect("an answer")
    };
    clock.take(says(NOW)).expect("stored");
    let holdings = enrolled(state.path());
    let back = NOW.before(Span::from_hours(2));
    let given = Grant { not_before: back, ..for_an_hour(1, Launches::Any) };
    let over = Grant { not_before: back, ..grant(2, Ends::At { end: NOW }, Launches::Any) };
    let first = sheet(1, vec![given.clone(), over.clone()]);
    holdings.accept(&sign(&first), Some(&bundle())).expect("taken");

    let mut answer = says(back);
    let before = answer.set_back.take().expect("it was set back");
    holdings.keep_ends(clock.boot(), &before, || clock.take(answer)).expect("kept");
    let of_an_hour = |holdings: &Holdings| {
        let end = holdings.take(given.id, back, noted).expect("in force").end;
        assert!(end <= back.after(Span::from_hours(1)), "it ends {} later", end.since(back));
        assert!(end > back.after(Span::from_mins(59)), "it ends {} later", end.since(back));
        let listed: Vec<_> = holdings.grants_of(1000, back).into_iter().map(|(grant, _)| grant.id).collect();
        assert_eq!(listed, [given.id], "what was over is over");
        assert!(matches!(holdings.take(over.id, back, noted), Err(NotTaken::Gone)));
    };
    of_an_hour(&holdings);
    drop(holdings);
    let again = enrolled(state.path());
    of_an_hour(&again);

    // A renewal has an end by what the server says now.
    let end = back.after(Span::from_hours(5));
    let renewed = Grant { version: Version(2), ends: Ends::At { end }, ..given.clone() };
    again.accept(&sign(&sheet(2, vec![renewed])), None).expect("taken");
    assert_eq!(again.take(given.id, back, noted).expect("in force").end, end);
}

/// Whoever makes grants without end makes nobody else's state long, and keeps what still counts.
#[test]
fn what_is_over_makes_room_for_what_a_user_asks_next() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let later = NOW.after(Span::from_hours(2));
    let mut of_bob = for_an_hour(250, Launches::Any);
    of_bob.user = User { uid: 1001, name: Text::new("bob") };
    holdings
        .change(&mut holdings.held(), |local| {
            let many = (0..999_u16).map(|number| {
                let [a, b] = number.to_be_bytes();
                let id = GrantId::new(NOW, [1, a, b, 0, 0, 0, 0, 0, 0, 0]);
                Grant { id, ..for_an_hour(1, Launches::Any) }
            });
            local.grants = many.chain([of_bob]).collect();
        })
        .expect("stored");
    let held = || holdings.held().local.grants.len();
    let room = |uid, argv: &[OsText], now| holdings.make_room(uid, argv, now).expect("stored");

    assert!(room(1000, &[], NOW), "one more");
    holdings.add_grant(for_an_hour(2, Launches::Any), &Text::new("")).expect("stored");
    assert!(!room(1000, &[], NOW), "all of them are in force");
    assert!(room(1001, &[], NOW), "of somebody else");
    assert_eq!(held(), 1001);
    assert!(room(1000, &[], later), "all of them are over");
    assert_eq!(held(), 501);
    let long = OsText::new(vec![b'x'; 5 << 20]);
    assert!(!room(1000, &[long], later), "longer than all that is kept");
}

/// A first launch that the server has not taken in yet would otherwise be one again.
#[test]
fn a_grant_that_was_started_is_not_started_again_however_long_it_is_held() {
    let state = tempfile::tempdir().expect("temporary directory");
    let holdings = enrolled(state.path());
    let ends =
        Ends::AfterFirstLaunch { duration: Span::from_mins(10), latest_start: NOW.after(Span::from_days(6)) };
    let held = grant(1, ends, Launches::Once);
    holdings.accept(&sign(&sheet(1, vec![held.clone()])), Some(&bundle())).expect("taken");
    holdings.take(held.id, NOW, noted).expect("taken");
    for day in 1..4 {
        let issued = NOW.after(Span::from_days(day));
        let next = Sheet {
            issued,
            lease_ends: issued.after(Span::from_days(7)),
            ..sheet(1 + day, vec![held.clone()])
        };
        holdings.accept(&sign(&next), None).expect("taken");
        let again = holdings.take(held.id, issued, noted);
        assert!(matches!(again, Err(NotTaken::Gone)), "day {day}: {again:?}");
    }
}
