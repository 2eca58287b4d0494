//! The report as CSV, of any size: read and written a part at a time.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use elevon_policy::text::Text;
use futures_util::stream;

use super::{Filter, Row};
use crate::app::App;
use crate::auth::Reader;
use crate::error::Error;

/// How many events are read at once.
const PART: usize = 500;

const HEAD: &str = "time,kind,origin,number,computer,host_name,user,account,application,policy,request,grant,launch,details\r\n";

/// What is yet to be written.
enum Left {
    Head,
    From(Option<String>),
    Nothing,
}

/// The report, streamed. An error on the way breaks the stream off, so that nobody takes a part for the whole.
pub fn stream(app: App, _: &Reader, filter: Filter) -> Response {
    let body = stream::try_unfold(Left::Head, move |left| {
        let (app, filter) = (app.clone(), filter.clone());
        async move {
            let cursor = match left {
                Left::Head => {
                    return Ok::<_, Error>(Some((Bytes::from_static(HEAD.as_bytes()), Left::From(None))));
                }
                Left::From(cursor) => cursor,
                Left::Nothing => return Ok(None),
            };
            let part = super::part(&app, &filter, cursor.as_deref(), PART).await.inspect_err(|error| {
                tracing::error!(%error, "could not write the report to its end");
            })?;
            let text: String = part.items.iter().map(line).collect();
            let left = part.next.map_or(Left::Nothing, |next| Left::From(Some(next)));
            Ok(Some((Bytes::from(text), left)))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"jit-events.csv\""),
    ];
    (headers, Body::from_stream(body)).into_response()
}

fn line(row: &Row) -> String {
    let about = row.event.what.subjects();
    let time =
        jiff::Timestamp::from_millisecond(row.at.millis()).map(|at| at.to_string()).unwrap_or_default();
    let text = |text: Option<&Text>| text.map(|text| text.cell().to_string()).unwrap_or_default();
    let details = serde_json::to_value(&row.event.what).ok().and_then(|what| what.get("data").cloned());
    let details = Text::new(details.map(|details| details.to_string()).unwrap_or_default());
    let fields = [
        time,
        row.event.what.kind().to_owned(),
        row.origin.to_string(),
        row.number.to_string(),
        row.computer.map(|id| id.to_string()).unwrap_or_default(),
        text(row.host_name.as_ref()),
        text(about.user.as_ref()),
        text(row.account.as_ref()),
        about.application.map(|path| path.cell().to_string()).unwrap_or_default(),
        about.policy.map(|id| id.to_string()).unwrap_or_default(),
        about.request.map(|id| id.to_string()).unwrap_or_default(),
        about.grant.map(|id| id.to_string()).unwrap_or_default(),
        about.launch.map(|id| id.to_string()).unwrap_or_default(),
        details.cell().to_string(),
    ];
    let quoted: Vec<_> = fields.iter().map(|field| quote(field)).collect();
    quoted.join(",") + "\r\n"
}

fn quote(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_needed() {
        assert_eq!(quote("plain"), "plain");
        assert_eq!(quote("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
