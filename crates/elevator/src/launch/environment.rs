//! The environment of an elevated program, built from nothing: constants, who asked, and a few checked variables about
//! the terminal and the language.

use std::ffi::CString;

use elevon_policy::text::OsText;

use super::Plan;

/// The longest value that is taken from outside, in bytes.
const LONGEST: usize = 64;

/// Where programs are looked for, by the elevator and by what it runs.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Of what the client sent, the variables that may matter and cannot harm; the first of each name counts.
pub(crate) fn checked(sent: &[(String, OsText)]) -> Vec<(String, OsText)> {
    let mut kept: Vec<(String, OsText)> = Vec::new();
    for (name, value) in sent.iter().take(64) {
        if is_harmless(name, value.as_bytes()) && kept.iter().all(|(known, _)| known != name) {
            kept.push((name.clone(), value.clone()));
        }
    }
    kept
}

/// The whole environment.
pub(crate) fn build(plan: &Plan) -> Vec<CString> {
    let user = plan.user.name.as_untrusted().as_bytes();
    let (name, home, shell) = match &plan.account {
        Some(account) => (user, account.home.as_bytes(), account.shell.as_bytes()),
        None => (&b"root"[..], &b"/root"[..], &b"/bin/sh"[..]),
    };
    let constants = [
        ("PATH", PATH.as_bytes()),
        ("HOME", home),
        ("SHELL", shell),
        ("USER", name),
        ("LOGNAME", name),
        ("ELEVON_USER", user),
    ];
    let numbers = [
        ("ELEVON_UID", plan.user.uid.to_string()),
        ("ELEVON_GRANT", plan.grant.to_string()),
        ("ELEVON_LAUNCH", plan.launch.to_string()),
    ];
    let constants = constants.into_iter().map(|(name, value)| variable(name, value));
    let numbers = numbers.iter().map(|(name, value)| variable(name, value.as_bytes()));
    let sent = plan.environment.iter().map(|(name, value)| variable(name, value.as_bytes()));
    constants.chain(numbers).chain(sent).flatten().collect()
}

fn variable(name: &str, value: &[u8]) -> Option<CString> {
    CString::new([name.as_bytes(), b"=", value].concat()).ok()
}

/// Names without a meaning for the loader, a shell or an interpreter, and values that are neither paths nor formats. A
/// path in TERM, TZ or LC_* would make the program read a file of the user's choice.
fn is_harmless(name: &str, value: &[u8]) -> bool {
    const LANGUAGE: [&str; 14] = [
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_ADDRESS",
        "LC_COLLATE",
        "LC_CTYPE",
        "LC_IDENTIFICATION",
        "LC_MEASUREMENT",
        "LC_MESSAGES",
        "LC_MONETARY",
        "LC_NAME",
        "LC_NUMERIC",
        "LC_PAPER",
        "LC_TIME",
    ];
    let plain = |extra: &[u8]| {
        !value.is_empty()
            && value.len() <= LONGEST
            && value.iter().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(byte))
    };
    match name {
        "TERM" => plain(b"-+._") && value != b"." && value != b"..",
        // A zone of the system's own database, such as Europe/Berlin: no leading slash, colon or dots.
        "TZ" => plain(b"_-+/") && !value.starts_with(b"/"),
        // Each part becomes a folder's name in the paths of catalogues.
        name if LANGUAGE.contains(&name) => {
            plain(b"_-.@:") && value.split(|byte| *byte == b':').all(|part| part != b"." && part != b"..")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str, value: &str) -> Vec<(String, OsText)> {
        checked(&[(name.to_owned(), OsText::from(value))])
    }

    #[test]
    fn what_may_matter_is_kept() {
        for (name, value) in
            [("TERM", "xterm-256color"), ("LANG", "de_DE.UTF-8@euro"), ("TZ", "Europe/Berlin")]
        {
            assert_eq!(sent(name, value).len(), 1, "{name}={value}");
        }
    }

    #[test]
    fn what_could_harm_is_not() {
        for (name, value) in [
            ("LD_PRELOAD", "x"),
            ("PYTHONPATH", "x"),
            ("BASH_FUNC_x%%", "x"),
            ("PATH", "x"),
            ("TERMINFO", "x"),
            ("TERM", "../../x"),
            ("TERM", "/tmp/x"),
            ("TERM", ".."),
            ("TZ", "/tmp/x"),
            ("TZ", ":x"),
            ("TZ", "../x"),
            ("LC_ALL", "../x"),
            ("LANG", ""),
            ("LANG", ".."),
            ("LANGUAGE", "de:..:en"),
            ("TERM", "x\ny"),
            ("LC_MESSAGES", "%n"),
        ] {
            assert_eq!(sent(name, value), [], "{name}={value}");
        }
        assert_eq!(sent("LANG", &"x".repeat(65)), []);
        let twice = checked(&[("TERM".into(), OsText::from("a")), ("TERM".into(), OsText::from("b"))]);
        assert_eq!(twice, [("TERM".into(), OsText::from("a"))]);
    }
}
