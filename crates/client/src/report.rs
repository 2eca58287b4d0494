//! What the user gets to read: one line for a failure, tables and verdicts on request. Nothing of it ever goes to standard
//! output while an application may be writing there.

use std::io::{self, IsTerminal, Write};

use elevon::Error;
use elevon_policy::text::OsText;
use elevon_policy::time::Span;
use elevon_wire::conversation::Refused;

/// Exit status: nobody decided in the time waited for.
pub(crate) const NOBODY_DECIDED: u8 = 124;

/// Exit status: Elevon itself failed.
pub(crate) const ELEVON_FAILED: u8 = 125;

/// Why the program was not run, in one line, and the exit status that says the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    pub(crate) told: String,
}

impl Failure {
    /// Elevon itself failed.
    pub(crate) fn of_elevon(told: impl Into<String>) -> Self {
        Self { status: ELEVON_FAILED, told: told.into() }
    }

    /// The elevator said no.
    pub(crate) fn refused(refused: &Refused) -> Self {
        let next = if refused.next.is_empty() { String::new() } else { format!("; {}", refused.next) };
        Self { status: refused.status, told: format!("{}{next}", refused.told) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of_elevon(error.to_string())
    }
}

/// Terminal escapes, empty where there are to be none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) bold: &'static str,
    pub(crate) faint: &'static str,
    pub(crate) plain: &'static str,
}

impl Style {
    /// No escapes at all.
    pub(crate) const NONE: Self = Self { bold: "", faint: "", plain: "" };

    /// For this stream: only on a terminal, and not where `NO_COLOR` is set or TERM is `dumb`.
    pub(crate) fn on(stream: &impl IsTerminal) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if unwanted || dumb || !stream.is_terminal() {
            return Self::NONE;
        }
        Self { bold: "\x1b[1m", faint: "\x1b[2m", plain: "\x1b[0m" }
    }
}

/// One line on standard error. A closed one is no reason to fail.
pub(crate) fn say(line: &str) {
    write_error(&format!("{line}\n"));
}

/// Text on standard error.
pub(crate) fn write_error(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Text on standard output; a reader that has seen enough is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::of_elevon(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// As exact as a person needs it: the two largest units.
pub(crate) fn rounded(span: Span) -> Span {
    const SECOND: u64 = 1_000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    let unit = match span.millis() {
        millis if millis >= 24 * HOUR => HOUR,
        millis if millis >= 10 * MINUTE => MINUTE,
        _ => SECOND,
    };
    // Half up, so that what was just granted for 30m does not read as 29m.
    Span::from_millis((span.millis() + unit / 2) / unit * unit)
}

/// Arguments as one would type them.
pub(crate) fn shell_words(words: &[OsText]) -> String {
    let word = |word: &OsText| {
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(byte);
        let visible = word.visible().to_string();
        if !word.as_bytes().is_empty() && word.as_bytes().iter().all(harmless) {
            visible
        } else {
            format!("'{}'", visible.replace('\'', r"'\''"))
        }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_as_exact_as_a_person_needs() {
        for (exact, shown) in [
            ("29m59s600ms", "30m"),
            ("1d3h29m", "1d3h"),
            ("9m12s400ms", "9m12s"),
            ("23h59m59s", "1d"),
            ("300ms", "0s"),
        ] {
            let exact: Span = exact.parse().expect("a span");
            assert_eq!(rounded(exact).to_string(), shown);
        }
    }

    #[test]
    fn arguments_read_as_typed() {
        let words: Vec<OsText> = ["install", "a b", "", "it's", "\u{1b}"].map(OsText::from).to_vec();
        assert_eq!(shell_words(&words), r"install 'a b' '' 'it'\''s' '\x1b'");
    }

    #[test]
    fn a_refusal_is_one_line() {
        let refused = Refused { status: 126, reason: None, told: "no".into(), next: "ask".into() };
        assert_eq!(Failure::refused(&refused), Failure { status: 126, told: "no; ask".into() });
    }
}
