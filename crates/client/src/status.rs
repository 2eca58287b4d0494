//! `elevon status`, and finding a request or grant by the beginning of its id.

use std::fmt::Display;

use elevon_policy::request::LapseReason;
use elevon_policy::sheet::AnswerOutcome;
use elevon_policy::text::OsText;
use elevon_policy::time::Timestamp;
use elevon_wire::conversation::{GrantStatus, LaunchStatus, RequestStatus, Status};

use crate::report::{Failure, Style, rounded, shell_words};

/// As many characters of an id as tell it from all others made in another millisecond.
const SHORT: usize = 13;

/// The whole answer, as aligned tables.
pub(crate) fn tables(status: &Status, style: Style) -> String {
    let mut text = String::new();
    if !status.agent_connected {
        text.push_str("The server cannot be reached from here just now: requests wait, and grants in hand stay good.\n\n");
    }
    let ids: Vec<String> = ids(status);
    let requests = status.requests.iter().map(|request| request_row(request, status.now, &ids)).collect();
    let grants = status.grants.iter().map(|grant| grant_row(grant, status.now, &ids)).collect();
    let launches = status.launches.iter().map(|launch| launch_row(launch, status.now, &ids)).collect();
    let tables = [("Requests", requests), ("Grants", grants), ("Running", launches)]
        .into_iter()
        .filter(|(_, rows): &(_, Vec<[String; 4]>)| !rows.is_empty())
        .map(|(title, rows)| table(title, &rows, style))
        .collect::<Vec<_>>();
    if tables.is_empty() {
        text.push_str("You have no requests, no grants and nothing running on this computer.\n");
    }
    text.push_str(&tables.join("\n"));
    text
}

fn ids(status: &Status) -> Vec<String> {
    let requests = status.requests.iter().map(|request| request.request.to_string());
    let grants = status.grants.iter().map(|grant| grant.grant.to_string());
    requests.chain(grants).chain(status.launches.iter().map(|launch| launch.launch.to_string())).collect()
}

/// The shortest beginning that no other id has.
fn short(id: &impl Display, ids: &[String]) -> String {
    let id = id.to_string();
    let unique = |length: &usize| {
        let start = id.get(..*length);
        ids.iter().filter(|other| **other != id).all(|other| other.get(..*length) != start)
    };
    let length = (SHORT..id.len()).find(unique).unwrap_or(id.len());
    id.get(..length).unwrap_or(&id).to_owned()
}

fn request_row(request: &RequestStatus, now: Timestamp, ids: &[String]) -> [String; 4] {
    let (state, more) = match &request.outcome {
        None => {
            let (made, lapses) = (rounded(now.since(request.made)), rounded(request.lapses.since(now)));
            ("pending", format!("asked {made} ago, lapses in {lapses}"))
        }
        Some(AnswerOutcome::Approved { by, comment, .. }) => {
            ("approved", by_whom(by.visible(), comment.visible()))
        }
        Some(AnswerOutcome::Declined { by, comment }) => {
            ("declined", by_whom(by.visible(), comment.visible()))
        }
        Some(AnswerOutcome::Cancelled) => ("cancelled", "by you".into()),
        Some(AnswerOutcome::Lapsed { reason }) => ("lapsed", lapsed(*reason).into()),
    };
    [short(&request.request, ids), state.into(), command(&request.path, Some(&request.argv)), more]
}

fn by_whom(by: impl Display, comment: impl Display) -> String {
    let comment = comment.to_string();
    if comment.is_empty() { format!("by {by}") } else { format!("by {by}: {comment}") }
}

fn lapsed(reason: LapseReason) -> &'static str {
    match reason {
        LapseReason::Unanswered => "nobody decided in time",
        LapseReason::PolicyWithdrawn => "the policy does not let anyone ask for it any more",
    }
}

fn grant_row(grant: &GrantStatus, now: Timestamp, ids: &[String]) -> [String; 4] {
    let (state, more) = match grant.end {
        Some(end) => ("active", format!("ends in {}", rounded(end.since(now)))),
        None => ("scheduled", "its clock starts with the first launch".into()),
    };
    let what = match &grant.path {
        Some(path) => command(path, grant.argv.as_deref()),
        None => "whatever its rule recognises".into(),
    };
    [short(&grant.grant, ids), state.into(), what, more]
}

fn launch_row(launch: &LaunchStatus, now: Timestamp, ids: &[String]) -> [String; 4] {
    let (since, left) = (rounded(now.since(launch.started)), rounded(launch.end.since(now)));
    let grant = short(&launch.grant, ids);
    let what = launch.path.visible().to_string();
    [
        short(&launch.launch, ids),
        "running".into(),
        what,
        format!("for {since}, ends in {left} (grant {grant})"),
    ]
}

/// The path with its arguments; none are any.
fn command(path: &OsText, argv: Option<&[OsText]>) -> String {
    let Some(argv) = argv else {
        return format!("{} (any arguments)", path.visible());
    };
    let arguments = shell_words(argv.get(1..).unwrap_or_default());
    let separator = if arguments.is_empty() { "" } else { " " };
    format!("{}{separator}{arguments}", path.visible())
}

fn table(title: &str, rows: &[[String; 4]], style: Style) -> String {
    let Style { bold, plain, .. } = style;
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (ids, states, whats) = (width(0), width(1), width(2));
    let mut text = format!("{bold}{title}{plain}\n");
    for [id, state, what, more] in rows {
        text.push_str(&format!("  {id:<ids$}  {state:<states$}  {what:<whats$}  {more}\n"));
    }
    text
}

/// The id that begins like this.
pub(crate) fn find<I: Copy + Display>(
    start: &str,
    ids: impl Iterator<Item = I>,
    what: &str,
) -> Result<I, Failure> {
    let wanted = start.to_ascii_lowercase();
    let mut found = ids.filter(|id| !wanted.is_empty() && id.to_string().starts_with(&wanted));
    let shown = elevon_policy::text::Text::new(start);
    let shown = shown.visible();
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Failure::of_elevon(format!(
            "no {what} of yours on this computer has an id that begins with “{shown}”; `elevon status` shows them"
        ))),
        (Some(_), Some(_)) => Err(Failure::of_elevon(format!(
            "more than one {what} has an id that begins with “{shown}”; give more of it"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use elevon_policy::id::{GrantId, LaunchId, RequestId};
    use elevon_policy::text::Text;
    use elevon_policy::time::Span;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn argv() -> Vec<OsText> {
        vec!["apt".into(), "update".into()]
    }

    fn request(chance: u8, outcome: Option<AnswerOutcome>) -> RequestStatus {
        RequestStatus {
            request: RequestId::new(NOW, [chance; 10]),
            path: "/usr/bin/apt".into(),
            argv: argv(),
            made: NOW.before(Span::from_mins(2)),
            lapses: NOW.after(Span::from_hours(23)),
            outcome,
        }
    }

    #[test]
    fn columns_line_up_and_ids_are_as_short_as_they_can_be() {
        let declined = AnswerOutcome::Declined { by: Text::new("bob"), comment: Text::new("not\tnow") };
        let grant = GrantId::new(NOW.after(Span::from_secs(1)), [1; 10]);
        let status = Status {
            agent_connected: false,
            now: NOW,
            requests: vec![request(1, None), request(2, Some(declined))],
            grants: vec![GrantStatus {
                grant,
                path: Some("/usr/bin/vim".into()),
                argv: None,
                end: Some(NOW.after(Span::from_mins(12))),
            }],
            launches: vec![LaunchStatus {
                launch: LaunchId::new(NOW.after(Span::from_secs(2)), [1; 10]),
                grant,
                path: "/usr/bin/vim".into(),
                started: NOW.before(Span::from_secs(5)),
                end: NOW.after(Span::from_mins(12)),
            }],
        };
        assert_eq!(
            tables(&status, Style::NONE),
            r"The server cannot be reached from here just now: requests wait, and grants in hand stay good.

Requests
  018bcfe5-6800-71  pending   /usr/bin/apt update  asked 2m ago, lapses in 23h
  018bcfe5-6800-72  declined  /usr/bin/apt update  by bob: not\x09now

Grants
  018bcfe5-6be8  active  /usr/bin/vim (any arguments)  ends in 12m

Running
  018bcfe5-6fd0  running  /usr/bin/vim  for 5s, ends in 12m (grant 018bcfe5-6be8)
"
        );
    }

    #[test]
    fn nothing_is_said_in_words() {
        let (requests, grants, launches) = Default::default();
        let status = Status { agent_connected: true, now: NOW, requests, grants, launches };
        assert_eq!(
            tables(&status, Style::NONE),
            "You have no requests, no grants and nothing running on this computer.\n"
        );
    }

    #[test]
    fn an_id_is_found_by_its_beginning() {
        let ids = [RequestId::new(NOW, [1; 10]), RequestId::new(NOW, [2; 10])];
        assert_eq!(find("018BCFE5-6800-71", ids.into_iter(), "request"), Ok(ids[0]));
        assert!(
            find("018bcfe5", ids.into_iter(), "request")
                .is_err_and(|failure| failure.told.starts_with("more than one"))
        );
        for nothing in ["", "ffff"] {
            assert!(
                find(nothing, ids.into_iter(), "request")
                    .is_err_and(|failure| failure.told.starts_with("no request"))
            );
        }
    }
}
