//! Asks the person at the terminal: for how long, and why.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};

use elevon_policy::application::Application;
use elevon_policy::lists::Durations;
use elevon_policy::text::{OsText, Text};
use elevon_policy::time::Span;
use elevon_wire::conversation::{Asking, Confirm};

use crate::report::{Failure, Style, shell_words, write_error};

/// A person to ask.
pub(crate) struct Prompt {
    answers: BufReader<File>,
    style: Style,
}

impl Prompt {
    /// None without a terminal to ask on.
    pub(crate) fn on_terminal(style: Style) -> Option<Self> {
        let terminal = File::open("/dev/tty").ok().filter(|_| io::stderr().is_terminal())?;
        Some(Self { answers: BufReader::new(terminal), style })
    }

    /// Shows what would run, and asks for what is missing.
    pub(crate) fn ask(
        &mut self,
        asking: &Asking,
        duration: Option<Span>,
        justification: Option<Text>,
    ) -> Result<(Span, Text), Failure> {
        write_error(&self.introduction(asking));
        let duration = match duration {
            Some(duration) => duration,
            None => self.duration(&asking.durations)?,
        };
        let justification = match justification {
            Some(justification) => justification,
            None => self.justification(asking)?,
        };
        write_error("\n");
        Ok((duration, justification))
    }

    fn introduction(&self, asking: &Asking) -> String {
        let Style { bold, plain, .. } = self.style;
        let what = if asking.approval { "needs someone's approval" } else { "needs a justification" };
        let name = asking.application.name();
        let end = match asking.application.component {
            Some(_) => "before polkit lets you".to_owned(),
            None => format!("to run as {}", asking.bounds.in_words(asking.runs_as)),
        };
        let mut text = format!("{bold}{}{plain} {what} {end}\n", name.visible());
        for (label, value) in facts(&asking.application, &asking.argv) {
            text.push_str(&format!("  {label:<12}{value}\n"));
        }
        text.push_str(&format!("  {:<12}{}\n\n", "Policy", asking.policy.visible()));
        text
    }

    fn duration(&mut self, durations: &Durations) -> Result<Span, Failure> {
        write_error(&self.duration_question(durations));
        loop {
            let answer = self.line()?;
            match chosen_duration(&answer, durations) {
                Ok(duration) => return Ok(duration),
                Err(told) => write_error(&format!("  {told}\n  > ")),
            }
        }
    }

    fn duration_question(&self, durations: &Durations) -> String {
        let Style { bold, plain, faint, .. } = self.style;
        let mut text = format!("{bold}For how long?{plain}\n");
        for (number, choice) in (1..).zip(&durations.choices) {
            let mark = if *choice == durations.default { " (Enter)" } else { "" };
            text.push_str(&format!("  {number}) {choice}{mark}\n"));
        }
        if !durations.choices.contains(&durations.default) {
            text.push_str(&format!("  Enter) {}\n", durations.default));
        }
        text.push_str(&format!("  {faint}a number, or a duration up to {}{plain}\n  > ", durations.maximum));
        text
    }

    fn justification(&mut self, asking: &Asking) -> Result<Text, Failure> {
        let Style { bold, plain, faint, .. } = self.style;
        let mut text = format!("{bold}Why?{plain}\n");
        for (number, recent) in (1..).zip(&asking.recent) {
            text.push_str(&format!("  {number}) {}\n", recent.visible()));
        }
        if !asking.recent.is_empty() {
            text.push_str(&format!("  {faint}a number, or new text{plain}\n"));
        }
        write_error(&format!("{text}  > "));
        loop {
            let answer = self.line()?;
            let text = chosen(&answer, &asking.recent).cloned().unwrap_or_else(|| Text::new(answer));
            match asking.justification.check(&text) {
                Ok(text) => return Ok(text),
                Err(told) => write_error(&format!("  {told}\n  > ")),
            }
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let read = self.answers.read_until(b'\n', &mut bytes);
        match read {
            Ok(length) if length > 0 => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Ok(_) => Err(Failure::of_elevon("no answer; nothing was asked for and nothing runs")),
            Err(error) => Err(Failure::of_elevon(format!("cannot read from /dev/tty: {error}"))),
        }
    }
}

/// What a user's password is wanted for.
pub(crate) fn confirmation(confirm: &Confirm, style: Style) -> String {
    let Style { bold, plain, .. } = style;
    let application = &confirm.application;
    let end = if application.component.is_some() { "before polkit lets you" } else { "before it starts" };
    let mut text = format!("{bold}{}{plain} wants your password {end}\n", application.name().visible());
    for (label, value) in facts(application, &confirm.argv) {
        text.push_str(&format!("  {label:<12}{value}\n"));
    }
    text.push_str(&format!("  {:<12}{}\n\n", "Policy", confirm.policy.visible()));
    text
}

/// What was typed, as one of numbered choices.
fn chosen<'a, T>(answer: &str, choices: &'a [T]) -> Option<&'a T> {
    let number: usize = answer.parse().ok()?;
    choices.get(number.checked_sub(1)?)
}

fn chosen_duration(answer: &str, durations: &Durations) -> Result<Span, String> {
    if answer.is_empty() {
        return Ok(durations.default);
    }
    if let Some(choice) = chosen(answer, &durations.choices) {
        return Ok(*choice);
    }
    let span: Span = answer.parse().map_err(|error| format!("{error}, or the number of a choice"))?;
    if span > durations.maximum {
        return Err(format!("the policy takes at most {}", durations.maximum));
    }
    if span == Span::ZERO {
        return Err("expected more than no time".into());
    }
    Ok(span)
}

/// What a person needs to see of an application before agreeing to anything, as labels and values.
pub(crate) fn facts(application: &Application, argv: &[OsText]) -> Vec<(&'static str, String)> {
    let path = application.path.visible().to_string();
    let mut facts = match &application.component {
        Some(component) => {
            vec![("Component", component.action.visible().to_string()), ("Defined by", path)]
        }
        None => vec![("Program", path)],
    };
    if let Some(package) = &application.package {
        let vendor = package.vendor.as_ref().map_or_else(String::new, |vendor| {
            let verified = if vendor.verified { "verified" } else { "not verified" };
            format!(" from {} ({verified})", vendor.name.visible())
        });
        let changed = if package.unmodified { "" } else { ", changed since it was installed" };
        let (name, version) = (package.name.visible(), package.version.visible());
        facts.push(("Package", format!("{name} {version}{vendor}{changed}")));
    }
    if let Some(interpreter) = &application.interpreter {
        facts.push(("Read by", interpreter.path.visible().to_string()));
    }
    facts.push(("SHA-256", application.sha256.short()));
    let arguments = argv.get(1..).unwrap_or_default();
    if !arguments.is_empty() {
        facts.push(("Arguments", shell_words(arguments)));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_a_span_or_the_default() {
        let durations = Durations::default();
        for (answer, chosen) in [
            ("", Ok(Span::from_mins(30))),
            ("1", Ok(Span::from_mins(15))),
            ("3", Ok(Span::from_hours(1))),
            ("20m", Ok(Span::from_mins(20))),
            ("2h", Err("the policy takes at most 1h".to_owned())),
            ("0s", Err("expected more than no time".to_owned())),
            ("4", Err("expected a duration such as 30m, 8h or 1h30m, or the number of a choice".to_owned())),
            ("0", Err("expected a duration such as 30m, 8h or 1h30m, or the number of a choice".to_owned())),
        ] {
            assert_eq!(chosen_duration(answer, &durations), chosen, "{answer}");
        }
    }
}
