//! What a grant is worth, as fields of a form, and back.

use elevon_policy::lists::{
    AtExpiry, Covers, Durations, JustificationNeeded, Launches, RunsAs, Starts, Terms,
};
use elevon_policy::time::Span;

use crate::pages::form::Form;

/// Writes the fields; their names begin with `at`.
pub(super) fn write(form: &mut Form, at: &str, terms: &Terms) {
    let choices: Vec<_> = terms.durations.choices.iter().map(Span::to_string).collect();
    let mut set = |name: &str, value: &str| form.set(format!("{at}{name}"), value);
    set("choices", &choices.join(", "));
    set("default", &terms.durations.default.to_string());
    set("maximum", &terms.durations.maximum.to_string());
    match terms.starts {
        Starts::AtApproval => set("starts", "at_approval"),
        Starts::AtFirstLaunch { within } => {
            set("starts", "at_first_launch");
            set("within", &within.to_string());
        }
    }
    set("pending_lifetime", &terms.pending_lifetime.to_string());
    set(
        "arguments",
        match terms.arguments {
            Covers::ExactArguments => "exact_arguments",
            Covers::AnyArguments => "any_arguments",
        },
    );
    let (expiry, warning, grace) = match terms.at_expiry {
        AtExpiry::Terminate { warning, grace } => ("terminate", warning, grace),
        AtExpiry::Finish => ("finish", Span::from_mins(1), Span::from_secs(5)),
    };
    set("at_expiry", expiry);
    set("warning", &warning.to_string());
    set("grace", &grace.to_string());
    set(
        "launches",
        match terms.launches {
            Launches::Any => "any",
            Launches::Once => "once",
        },
    );
    set("justification_minimum", &terms.justification.minimum.to_string());
    set("justification_maximum", &terms.justification.maximum.to_string());
    if terms.self_approval {
        set("self_approval", "yes");
    }
}

/// Reads them; none where something is wrong, which then stands beside its field.
pub(super) fn read(form: &mut Form, at: &str) -> Option<Terms> {
    let durations = read_durations(form, at);
    let starts = match form.text(format!("{at}starts")) {
        "at_first_launch" => {
            span(form, &format!("{at}within")).map(|within| Starts::AtFirstLaunch { within })
        }
        _ => Some(Starts::AtApproval),
    };
    let at_expiry = match form.text(format!("{at}at_expiry")) {
        "finish" => Some(AtExpiry::Finish),
        _ => span(form, &format!("{at}warning"))
            .zip(read_span(form, &format!("{at}grace")))
            .map(|(warning, grace)| AtExpiry::Terminate { warning, grace }),
    };
    let pending_lifetime = span(form, &format!("{at}pending_lifetime"));
    let justification = read_justification(form, at);
    Some(Terms {
        durations: durations?,
        starts: starts?,
        pending_lifetime: pending_lifetime?,
        arguments: match form.text(format!("{at}arguments")) {
            "any_arguments" => Covers::AnyArguments,
            _ => Covers::ExactArguments,
        },
        at_expiry: at_expiry?,
        launches: if form.is(format!("{at}launches"), "once") { Launches::Once } else { Launches::Any },
        runs_as: RunsAs::Root,
        justification: justification?,
        self_approval: form.has(format!("{at}self_approval")),
    })
}

fn read_durations(form: &mut Form, at: &str) -> Option<Durations> {
    let name = format!("{at}choices");
    let choices: Result<Vec<Span>, _> = form
        .text(&name)
        .split(',')
        .map(str::trim)
        .filter(|choice| !choice.is_empty())
        .map(str::parse)
        .collect();
    let choices = match choices {
        Ok(choices) => Some(choices),
        Err(_) => {
            form.refuse(&name, "Expected durations with commas between them, such as 15m, 30m, 1h.");
            None
        }
    };
    let default = span(form, &format!("{at}default"));
    let maximum = span(form, &format!("{at}maximum"));
    let (choices, default, maximum) = (choices?, default?, maximum?);
    if default > maximum {
        form.refuse(format!("{at}default"), format!("Longer than the longest, {maximum}."));
        return None;
    }
    if let Some(longer) = choices.iter().find(|choice| **choice > maximum || **choice == Span::ZERO) {
        form.refuse(&name, format!("{longer} is not between nothing and the longest, {maximum}."));
        return None;
    }
    Some(Durations { choices, default, maximum })
}

fn read_justification(form: &mut Form, at: &str) -> Option<JustificationNeeded> {
    let count = |form: &mut Form, name: String| {
        let count = form.text(&name).trim().parse::<usize>();
        if count.is_err() {
            form.refuse(&name, "Expected a number of characters.");
        }
        count.ok()
    };
    let minimum = count(form, format!("{at}justification_minimum"));
    let maximum = count(form, format!("{at}justification_maximum"));
    let (minimum, maximum) = (minimum?, maximum?);
    if minimum > maximum {
        form.refuse(
            format!("{at}justification_minimum"),
            format!("More than at most {maximum}: nothing would do."),
        );
        return None;
    }
    Some(JustificationNeeded { minimum, maximum })
}

/// Some time, not none.
fn span(form: &mut Form, name: &str) -> Option<Span> {
    let span = read_span(form, name)?;
    if span == Span::ZERO {
        form.refuse(name, "Expected some time, such as 30m.");
        return None;
    }
    Some(span)
}

fn read_span(form: &mut Form, name: &str) -> Option<Span> {
    let span = form.text(name).trim().parse();
    if span.is_err() {
        form.refuse(name, "Expected a duration such as 30m, 8h or 1h30m.");
    }
    span.ok()
}
