//! One question to PAM, in the process that was made for it.

use std::ffi::{CStr, CString};
use std::path::Path;

use elevon_policy::text::Text;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files;
use crate::syscall::pam::{Answers, Begun, Code, Style};

/// Longer than a sentence to a user is, in bytes.
const LONGEST_TOLD: usize = 300;

/// More messages than a module has to say about an account.
const MOST_MESSAGES: usize = 32;

/// Why somebody may not elevate anything now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotAdmitted {
    /// An administrator locked the account's password.
    Locked,
    /// The account's time is over.
    Expired,
    /// The password's time is over.
    PasswordExpired,
    /// A module says no, perhaps in these words.
    Refused {
        /// What it said, or what PAM calls its answer.
        told: Text,
    },
    /// PAM could not be asked, or its answer cannot be relied on.
    Failed {
        /// Why.
        cause: String,
    },
}

/// PAM's codes that mean "no" (`security/_pam_types.h`); all others mean that something is broken.
pub(super) const PERMISSION_DENIED: Code = Code(6);
pub(super) const AUTHENTICATION_FAILED: Code = Code(7);
pub(super) const USER_UNKNOWN: Code = Code(10);
pub(super) const TOO_MANY_TRIES: Code = Code(11);
const NEW_PASSWORD_REQUIRED: Code = Code(12);
const ACCOUNT_EXPIRED: Code = Code(13);
const PASSWORD_EXPIRED: Code = Code(27);

/// Whether this account may be used now.
pub(super) fn check(begun: Begun<'_>, user: &Text) -> Result<(), NotAdmitted> {
    let name = CString::new(user.as_untrusted()).map_err(|_| failed("its name has a NUL in it"))?;
    if is_locked(&name).map_err(|error| failed(&error.to_string()))? {
        return Err(NotAdmitted::Locked);
    }
    let mut told = Vec::new();
    let mut attempt = begun.about(&name, listener(&mut told)).map_err(|cause| failed(&cause))?;
    let answered = attempt.account();
    let unchanged = attempt.user().as_deref() == Some(name.to_bytes());
    let sentence = answered.err().map(|code| attempt.sentence(code));
    drop(attempt);
    if !unchanged {
        return Err(failed("a module changed whom it is about"));
    }
    answered.map_err(|code| not_admitted(code, told, sentence.unwrap_or_default()))
}

/// Nobody is there to answer: a module may only tell something.
fn listener(told: &mut Vec<String>) -> Box<Answers<'_>> {
    let mut messages = 0;
    Box::new(move |style: Style, text: &[u8]| {
        messages += 1;
        if messages > MOST_MESSAGES || matches!(style, Style::Secret | Style::Open) {
            return None;
        }
        told.push(String::from_utf8_lossy(text.get(..LONGEST_TOLD).unwrap_or(text)).into_owned());
        Some(Zeroizing::new(Vec::new()))
    })
}

fn not_admitted(code: Code, told: Vec<String>, sentence: String) -> NotAdmitted {
    match code {
        ACCOUNT_EXPIRED => NotAdmitted::Expired,
        NEW_PASSWORD_REQUIRED | PASSWORD_EXPIRED => NotAdmitted::PasswordExpired,
        PERMISSION_DENIED | AUTHENTICATION_FAILED | USER_UNKNOWN | TOO_MANY_TRIES => {
            let words = told.into_iter().find(|told| !told.trim().is_empty()).unwrap_or(sentence);
            NotAdmitted::Refused { told: Text::new(words.trim()) }
        }
        Code(_) => failed(&sentence),
    }
}

pub(super) fn failed(cause: &str) -> NotAdmitted {
    NotAdmitted::Failed { cause: cause.to_owned() }
}

/// Whether an administrator locked the account's password (`passwd -l`, `usermod -L`). PAM's modules look at that only when
/// the password is asked for. Accounts that never had one (`!`, `*`) are not locked: their users come by a key.
fn is_locked(user: &CStr) -> std::io::Result<bool> {
    let table = files::read(Path::new("/etc/shadow"))?.map(Zeroizing::new);
    Ok(table.is_some_and(|table| field(&table, user.to_bytes()).is_some_and(is_locked_hash)))
}

/// The second field of a user's line in shadow(5).
fn field<'a>(table: &'a [u8], user: &[u8]) -> Option<&'a [u8]> {
    let mut fields = table
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b':'))
        .find_map(|mut fields| (fields.next() == Some(user)).then_some(fields))?;
    fields.next()
}

fn is_locked_hash(field: &[u8]) -> bool {
    let hash = field.trim_ascii_start();
    let behind = hash.iter().position(|byte| *byte != b'!').and_then(|at| hash.get(at..));
    // The shortest hash, of crypt(5)'s oldest method, has 13 characters.
    hash.starts_with(b"!") && behind.is_some_and(|hash| hash.starts_with(b"$") || hash.len() >= 13)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_behind_a_mark_is_locked_and_no_password_is_not() {
        let table = b"root:*:19000:0:99999:7:::\nalice:!$y$j9T$abc$def:19000:0:99999:7:::\nalic:!:1::::::\n\
                      old:!!abcdefghijklm:1::::::\nbob:$y$j9T$abc$def:1::::::\nkey:!*:1::::::\n";
        let locked = |user: &str| field(table, user.as_bytes()).is_some_and(is_locked_hash);
        let expected = [("root", false), ("alice", true), ("alic", false), ("old", true), ("bob", false)];
        for (user, expected) in expected.into_iter().chain([("key", false), ("nobody", false)]) {
            assert_eq!(locked(user), expected, "{user}");
        }
    }

    #[test]
    fn codes_are_a_no_or_something_broken() {
        let told = || vec![String::new(), "come back at nine".to_owned()];
        let of = |code: i32| not_admitted(Code(code), told(), "PAM's words".into());
        assert_eq!(of(13), NotAdmitted::Expired);
        assert_eq!(of(12), NotAdmitted::PasswordExpired);
        assert_eq!(of(6), NotAdmitted::Refused { told: Text::new("come back at nine") });
        assert_eq!(of(28), failed("PAM's words"));
        assert_eq!(
            not_admitted(Code(7), Vec::new(), "PAM's words".into()),
            NotAdmitted::Refused { told: Text::new("PAM's words") }
        );
    }
}
