//! When a signature was made, as somebody else signed it: a time stamp as in RFC 3161. Countersignatures as in PKCS #9, which
//! came before, say nothing here: nearly all of them rest on SHA-1.

use elevon_policy::time::{Span, Timestamp};

use super::chain::{Moment, Purpose, Trust, follow};
use super::cms::{Digest, SignedData, SignerInfo, oid};
use super::der::{self, Element, Malformed};
use super::signer::{certificate_of, signed_by};
use super::{Refusal, der::Reader};

/// A clock may be ahead by so much.
const SKEW: Span = Span::from_mins(5);

/// When the signature was made; none where nobody says. A time stamp that is there has to hold.
pub(super) fn of(signer: &SignerInfo<'_>, trust: &Trust<'_>) -> Result<Option<Timestamp>, Refusal> {
    let Some(token) = signer.unsigned.value(oid::TIMESTAMP) else { return Ok(None) };
    let at = token_of(signer, token, trust)?;
    if at > trust.now.after(SKEW) {
        return Err(Refusal::BadTimestamp);
    }
    Ok(Some(at))
}

/// When the signature is to have been made, whoever says so.
pub(super) fn claimed(signer: &SignerInfo<'_>) -> Result<Option<Timestamp>, Refusal> {
    let Some(token) = signer.unsigned.value(oid::TIMESTAMP) else { return Ok(None) };
    let token = SignedData::read(token)?;
    read(token.content.content).map(|(at, _)| Some(at))
}

fn token_of(signer: &SignerInfo<'_>, token: Element<'_>, trust: &Trust<'_>) -> Result<Timestamp, Refusal> {
    let token = SignedData::read(token)?;
    if token.content_type != oid::TST_INFO || token.content.tag != der::OCTETS {
        return Err(Refusal::Malformed("a time stamp"));
    }
    let info = token.content.content;
    let (at, imprint) = read(info)?;
    let (digest, stamped) = imprint;
    if stamped != digest.of(&[signer.signature]).as_ref() {
        return Err(Refusal::BadTimestamp);
    }
    let certificate = certificate_of(&token.signer, &token.certificates)?;
    signed_by(&token.signer, oid::TST_INFO, info, &certificate)?;
    let moment = Moment { at, proven: true };
    follow(&certificate, &token.certificates, Purpose::TimeStamping, moment, trust)?;
    Ok(at)
}

/// A `TSTInfo`: its time, and the digest of what was stamped.
fn read(info: &[u8]) -> Result<(Timestamp, (Digest, &[u8])), Refusal> {
    let mut outer = Reader::new(info);
    let mut info = outer.expect(der::SEQUENCE, "a time stamp")?.inside();
    outer.end("nothing after a time stamp")?;
    info.expect(der::INTEGER, "a version of a time stamp")?;
    info.expect(der::OBJECT, "a policy of a time stamp")?;
    let mut imprint = info.expect(der::SEQUENCE, "what was stamped")?.inside();
    let digest = Digest::read(imprint.expect(der::SEQUENCE, "the name of a digest")?)?;
    let stamped = imprint.expect(der::OCTETS, "a digest")?.content;
    info.expect(der::INTEGER, "a number of a time stamp")?;
    let at = time(info.expect(der::GENERALIZED_TIME, "a time")?)?;
    Ok((at, (digest, stamped)))
}

/// `YYYYMMDDhhmmss[.fraction]Z`
fn time(element: Element<'_>) -> Result<Timestamp, Malformed> {
    const EXPECTED: Malformed = Malformed("a time in UTC");
    let text = std::str::from_utf8(element.content).map_err(|_| EXPECTED)?;
    let text = text.strip_suffix('Z').ok_or(EXPECTED)?;
    let text = text.split_once('.').map_or(text, |(whole, _)| whole);
    if text.len() != 14 || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(EXPECTED);
    }
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<i64>().ok());
    let read = || {
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
        let fits =
            (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
        let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
        fits.then(|| Timestamp::from_millis(seconds * 1000))
    };
    read().ok_or(EXPECTED)
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(content: &str) -> Option<i64> {
        let element = Element { tag: der::GENERALIZED_TIME, content: content.as_bytes(), whole: &[] };
        time(element).ok().map(Timestamp::millis)
    }

    #[test]
    fn times_are_read() {
        assert_eq!(at("19700101000000Z"), Some(0));
        assert_eq!(at("20240229235959Z"), Some(1_709_251_199_000));
        assert_eq!(at("20240109091509Z"), Some(1_704_791_709_000));
        assert_eq!(at("20240109091509.25Z"), Some(1_704_791_709_000));
        for wrong in [
            "20240109091509",
            "20241309091509Z",
            "20240109251509Z",
            "Z",
            "2024-109091509Z",
            "+0240109091509Z",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
