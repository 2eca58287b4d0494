//! Points and spans of time as people read them: relative on the page, exact on hover.

use std::borrow::Borrow;
use std::fmt;

use askama::filters::HtmlSafe;
use elevon_policy::time::{Span, Timestamp};

/// `2026-11-25 15:24:47 UTC`; a dash where no calendar reaches.
pub fn exact(at: Timestamp) -> String {
    calendar(at, "%Y-%m-%d %H:%M:%S UTC")
}

fn calendar(at: Timestamp, format: &str) -> String {
    jiff::Timestamp::from_millisecond(at.millis())
        .map_or_else(|_| "–".to_owned(), |at| at.strftime(format).to_string())
}

/// `12 s`, `2 min`, `1 h 30 min`, `3 days`: at most two units, the second only where it tells something.
pub fn brief(span: impl Borrow<Span>) -> String {
    let span = *span.borrow();
    let seconds = span.millis() / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (1, ..) => "1 day".to_owned(),
        (2.., ..) => format!("{days} days"),
        (_, 1..=9, _) if minutes % 60 > 0 => format!("{hours} h {} min", minutes % 60),
        (_, 1.., _) => format!("{hours} h"),
        (_, _, 1..) => format!("{minutes} min"),
        _ => format!("{seconds} s"),
    }
}

/// How long it was from one moment to a later one, as [`brief`] says it.
pub fn between(from: impl Borrow<Timestamp>, to: impl Borrow<Timestamp>) -> String {
    brief(to.borrow().since(*from.borrow()))
}

/// `15 minutes`, `1 hour`, `1 hour 30 minutes`: exact, every unit written out.
pub fn words(span: impl Borrow<Span>) -> String {
    let span = *span.borrow();
    let seconds = span.millis() / 1_000;
    let units = [
        (seconds / 86_400, "day"),
        (seconds / 3_600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let words: Vec<_> = units
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| if *count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") })
        .collect();
    if words.is_empty() { format!("{} milliseconds", span.millis()) } else { words.join(" ") }
}

/// Whole hours where it is hours: nobody counts the minutes of what is long over.
fn whole(span: Span) -> Span {
    if span < Span::from_hours(1) { span } else { Span::from_hours(span.millis() / 3_600_000) }
}

/// `16:11 UTC`, with the day where it is another day than the one spoken of.
pub fn clock(at: Timestamp, spoken_of: Timestamp) -> String {
    let same_day = calendar(at, "%Y-%m-%d") == calendar(spoken_of, "%Y-%m-%d");
    calendar(at, if same_day { "%H:%M UTC" } else { "%-d %b %Y %H:%M UTC" })
}

/// A point in time seen from now, as a `time` element: relative words, the machine's form, the exact time on hover.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    at: Timestamp,
    now: Timestamp,
    says: Says,
}

/// What a [`Moment`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// `2 min ago`; from a week on the date.
    Ago,
    /// `2 min`, of the time since.
    For,
    /// `2 min`, of the time that is left.
    Left,
}

impl Moment {
    /// `2 min ago`, or the date.
    pub fn ago(at: Timestamp, now: Timestamp) -> Self {
        Self { at, now, says: Says::Ago }
    }

    /// `2 min`, since then.
    pub fn lasting(at: Timestamp, now: Timestamp) -> Self {
        Self { at, now, says: Says::For }
    }

    /// `2 min`, until then.
    pub fn left(at: Timestamp, now: Timestamp) -> Self {
        Self { at, now, says: Says::Left }
    }

    fn text(&self) -> String {
        let since = self.now.since(self.at);
        match self.says {
            Says::Ago if since < Span::from_secs(5) => "just now".to_owned(),
            Says::Ago if since < Span::from_days(7) => format!("{} ago", brief(whole(since))),
            Says::Ago if calendar(self.at, "%Y") == calendar(self.now, "%Y") => calendar(self.at, "%-d %b"),
            Says::Ago => calendar(self.at, "%-d %b %Y"),
            Says::For => brief(since),
            Says::Left if self.at <= self.now => "no time".to_owned(),
            Says::Left => brief(self.at.since(self.now)),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = match self.says {
            Says::Ago => "ago",
            Says::For => "for",
            Says::Left => "left",
        };
        let machine = calendar(self.at, "%Y-%m-%dT%H:%M:%S%.3fZ");
        write!(
            f,
            r#"<time datetime="{machine}" title="{}" data-says="{says}">{}</time>"#,
            exact(self.at),
            self.text()
        )
    }
}

/// Digits, letters and its own marks only.
impl HtmlSafe for Moment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        for (span, short, long) in [
            (Span::from_secs(12), "12 s", "12 seconds"),
            (Span::from_mins(1), "1 min", "1 minute"),
            (Span::from_mins(90), "1 h 30 min", "1 hour 30 minutes"),
            (Span::from_hours(1), "1 h", "1 hour"),
            (Span::from_hours(23), "23 h", "23 hours"),
            (Span::from_hours(25), "1 day", "1 day 1 hour"),
            (Span::from_days(9), "9 days", "9 days"),
            (Span::from_millis(5), "0 s", "5 milliseconds"),
        ] {
            assert_eq!((brief(span).as_str(), words(span).as_str()), (short, long));
        }
    }

    #[test]
    fn a_moment_is_relative_with_the_exact_time_on_hover() {
        let now = Timestamp::from_millis(1_795_620_287_000);
        assert_eq!(
            Moment::ago(now.before(Span::from_mins(2)), now).to_string(),
            r#"<time datetime="2026-11-25T15:22:47.000Z" title="2026-11-25 15:22:47 UTC" data-says="ago">2 min ago</time>"#
        );
        assert!(Moment::ago(now.before(Span::from_days(13)), now).to_string().ends_with(">12 Nov</time>"));
        assert!(
            Moment::ago(now.before(Span::from_days(400)), now).to_string().ends_with(">21 Oct 2025</time>")
        );
        assert!(Moment::left(now.after(Span::from_hours(2)), now).to_string().ends_with(">2 h</time>"));
        assert!(Moment::left(now, now).to_string().ends_with(">no time</time>"));
        assert!(Moment::ago(Timestamp::from_millis(i64::MAX), now).to_string().contains("–"));
    }
}
